"""The hot path gives what the general way gives: the same bytes on the wire and in the log, for whatever is asked."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from httpd.config import schema
from httpd.config.schema import Directory, Settings
from httpd.content.cache import Entry
from httpd.content.sites import Site, SiteTable
from httpd.content.static import DirectoryMount
from httpd.logs.access import compile_format
from httpd.logs.access_log import AccessLog
from httpd.logs.errors import ErrorLog
from httpd.system.poller import make_poller
from httpd.worker.context import Context
from httpd.worker.plain import PlainConnection

OLD = 1_600_000_000
LAST_MODIFIED = b"Sun, 13 Sep 2020 12:26:40 GMT"
SMALL, LARGE = bytes(range(256)) * 16, os.urandom(300_000)
GENERAL = (b"keep-alive", b"keep-alive, x-general")  # the second is not plain, and means the same
FIELDS = (
    b"", b"Range: bytes=0-0", b"Range: bytes=5-", b"Range: bytes=4000-9999999", b"Range: bytes=9-3",
    b"Range: bytes=0-99999",
       b"Range: bytes=999999999-", b"Range: bytes=000-0007", b"If-None-Match: TAG", b"If-None-Match: \"x\", TAG",
    b"If-None-Match: W/TAG", b"If-None-Match: \"x\"", b"If-None-Match: *", b"If-None-Match:", b"If-Modified-Since:",
    b"If-Modified-Since: DATE", b"If-Modified-Since: " + LAST_MODIFIED.replace(b"2020", b"2019"),
    b"If-Modified-Since: yesterday", b"If-None-Match: TAG\r\nIf-Modified-Since: yesterday",
    b"If-None-Match: \"x\"\r\nIf-Modified-Since: DATE", b"If-None-Match: TAG\r\nRange: bytes=0-9",
    b"If-Modified-Since: DATE\r\nRange: bytes=0-9", b'User-Agent: a"b\\c\x80', b"User-Agent:\r\nReferer: http://x/",
)  # fmt: skip


class Worker:
    """One site of files, and a connection that the test drives."""

    def __init__(self, root: Path, make_site: Callable[..., Site[Any]], form: str, settings: Settings) -> None:
        config = schema.Config(
            path="", server=schema.Server(), timeouts=schema.Timeouts(), limits=schema.Limits(), log=schema.Log(),
            vhosts=(),
        )  # fmt: skip
        errors = ErrorLog(lambda line: None, "info", "test")
        self.context = context = Context(config, make_poller(), errors, lambda: None)
        context.wall, context.now = time.time(), time.monotonic()
        context.preambles.at(int(context.wall))
        self.log = bytearray()
        self.site = make_site(
            DirectoryMount(
                Directory("/", "vhost[0]", settings, str(root)),
                AccessLog(compile_format(form), self.log.extend, context.dirty),
            )
        )
        near, self.far = socket.socketpair()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 20_000)
        near.setblocking(False)
        self.connection = PlainConnection(context, near.detach(), b"127.0.0.1", 80, SiteTable([self.site]))

    def ask(self, request: bytes) -> bytes:
        """All that comes back for one request."""
        self.far.sendall(request)
        self.far.setblocking(False)
        self.connection.on_input(1)
        self.answer()
        got = b""
        while True:
            try:
                data = self.far.recv(1 << 20)
            except BlockingIOError:
                events = [event for event in self.context.poller.poll(0) if event[1] != 1]
                if not events:
                    break
                self.context.handlers[events[0][0]](events[0][1])
                continue
            if not data:
                break
            got += data
        return got

    def answer(self) -> None:
        """The second half of a round."""
        for connection, plain in self.context.asked:
            connection.answer(plain)
        self.context.asked.clear()
        self.context.round += 1

    def logged(self) -> bytes:
        for log in self.context.dirty:
            log.hand_on()
        self.context.dirty.clear()
        lines = bytes(self.log)
        self.log.clear()
        return lines

    def close(self) -> None:
        self.connection.close()
        self.far.close()
        self.context.poller.close()


MakeWorker = Callable[..., Worker]


@pytest.fixture
def make_worker(tmp_path: Path, make_site: Callable[..., Site[Any]]) -> Iterator[MakeWorker]:
    for name, content in (("small", SMALL), ("large", LARGE), ("empty", b"")):
        (tmp_path / name).write_bytes(content)
        os.utime(tmp_path / name, (OLD, OLD))
    made: list[Worker] = []

    def make(form: str = "combined", **settings: Any) -> Worker:
        made.append(Worker(tmp_path, make_site, form, Settings(**settings)))
        made[-1].context.wall += 60  # the files changed long ago
        made[-1].context.preambles.at(int(made[-1].context.wall))
        return made[-1]

    yield make
    for worker in made:
        worker.close()


def request(path: bytes, connection: bytes, *lines: bytes) -> bytes:
    first = (b"GET %b HTTP/1.1" % path, b"Host: a", b"Connection: " + connection)
    return b"\r\n".join((*first, *filter(None, lines), b"", b""))


@pytest.fixture
def noticing(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether each request since was answered by the hot path."""
    found: list[bool] = []
    for name in ("_serve_plain",):
        original = getattr(PlainConnection, name)

        def notice(self: PlainConnection, *given: Any, original: Any = original) -> bool:
            found.append(original(self, *given))
            return found[-1]

        monkeypatch.setattr(PlainConnection, name, notice)
    return found


@pytest.mark.parametrize("form", ["combined", "common"])
@pytest.mark.parametrize("path", [b"/small", b"/large", b"/empty", b"/small?q=%22"])
@pytest.mark.parametrize("field", FIELDS)
def test_both_ways_are_the_same(make_worker: MakeWorker, path: bytes, field: bytes, form: str) -> None:
    worker = make_worker(form, headers={"X-Percent": "100 %d"})
    worker.ask(request(path, GENERAL[1]))  # into the cache
    entry = worker.site.files[path.partition(b"?")[0]]
    field = field.replace(b"TAG", entry.validators.etag).replace(b"DATE", LAST_MODIFIED)
    worker.logged()
    general, plain = (worker.ask(request(path, connection, field)) for connection in reversed(GENERAL))
    assert plain == general
    first, second = worker.logged().splitlines()
    assert first == second
    assert worker.context.requests == 3


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (b"", b" 200 "), (b"Range: bytes=1-2", b" 206 "), (b"If-Modified-Since: DATE", b" 304 "),
        (b"If-None-Match: TAG", b" 304 "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", [b"/small", b"/large"])
def test_what_the_hot_path_answers(
    make_worker: MakeWorker, noticing: list[bool], path: bytes, field: bytes, expected: bytes
) -> None:
    worker = make_worker()
    for _ in range(2):
        worker.ask(request(path, b"keep-alive"))
    assert noticing == [False, True], "from the second on"
    field = field.replace(b"TAG", worker.site.files[path].validators.etag).replace(b"DATE", LAST_MODIFIED)
    assert expected in worker.ask(request(path, b"keep-alive", field))
    assert noticing[-1]


@pytest.mark.parametrize(
    ("form", "settings"), [("json", {}), ("%h %r", {}), ("combined", {"methods": ("HEAD",)})]
)
def test_what_it_does_not(make_worker: MakeWorker, noticing: list[bool], form: str, settings: dict[str, Any]) -> None:
    worker = make_worker(form, **settings)
    for _ in range(3):
        worker.ask(request(b"/small", b"keep-alive"))
    assert noticing == [False] * 3
    assert len(worker.logged().splitlines()) == 3


def test_a_draining_worker_says_so(make_worker: MakeWorker, noticing: list[bool]) -> None:
    worker = make_worker()
    worker.ask(request(b"/small", b"keep-alive"))
    worker.context.draining = True
    assert b"\r\nConnection: close\r\n" in worker.ask(request(b"/small", b"keep-alive"))
    assert noticing == [False]


@pytest.mark.parametrize("path", [b"/small", b"/large"])
@pytest.mark.parametrize("field", [b"", b"Range: bytes=0-9"])
def test_close(make_worker: MakeWorker, noticing: list[bool], path: bytes, field: bytes) -> None:
    worker = make_worker()
    worker.ask(request(path, b"keep-alive"))
    answer = worker.ask(request(path, b"close", field))
    assert b"\r\nConnection: close\r\n" in answer
    assert noticing == [False, True]
    assert not worker.context.connections
    assert worker.far.recv(1) == b""


@pytest.mark.parametrize("path", [b"/small", b"/large"])
def test_a_file_that_changed(make_worker: MakeWorker, noticing: list[bool], tmp_path: Path, path: bytes) -> None:
    worker = make_worker()
    worker.ask(request(path, b"keep-alive"))
    file = tmp_path / path[1:].decode()
    file.write_bytes(b"new" + file.read_bytes()[3:])
    worker.context.round += 1
    assert b"\r\n\r\nnew" in worker.ask(request(path, b"keep-alive"))
    assert noticing == [False, True]


def test_a_large_file_that_goes_between_the_look_and_the_opening(
    make_worker: MakeWorker, noticing: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = make_worker()
    worker.ask(request(b"/large", b"keep-alive"))
    monkeypatch.setattr(Entry, "open", lambda self: -1)
    assert worker.ask(request(b"/large", b"keep-alive")).endswith(LARGE)
    assert noticing == [False, False]


def test_a_client_that_is_gone(make_worker: MakeWorker) -> None:
    worker = make_worker()
    worker.ask(request(b"/small", b"keep-alive"))
    worker.logged()
    worker.far.send(request(b"/small", b"keep-alive"))
    worker.far.close()
    worker.connection.on_input(1)
    worker.answer()
    assert not worker.context.connections
    assert worker.logged().count(b"\n") == 1


def test_a_write_that_ends_behind_the_head(make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest goes out at once; the connection must still be heard, though it was only just accepted."""
    worker = make_worker()
    worker.ask(request(b"/small", b"keep-alive"))
    near, far = socket.socketpair()
    near.setblocking(False)
    tables = worker.connection._tables
    with far:
        far.sendall(request(b"/small", b"keep-alive"))
        connection = PlainConnection(worker.context, near.detach(), b"127.0.0.1", 80, tables)
        write, calls = os.write, []

        def short(fd: int, data: bytes) -> int:
            calls.append(fd)
            return write(fd, data[: data.index(b"\r\n\r\n") // 2] if len(calls) == 1 else data)

        monkeypatch.setattr("httpd.worker.plain._write", short)
        connection.on_input()
        worker.answer()
        for _ in range(3):
            for fd, mask in worker.context.poller.poll(0):
                worker.context.handlers[fd](mask)
        assert far.recv(100_000).endswith(SMALL)
        far.sendall(request(b"/small", b"keep-alive"))
        for fd, mask in worker.context.poller.poll(0):
            worker.context.handlers[fd](mask)
        worker.answer()
        assert far.recv(100_000).endswith(SMALL)
        connection.close()


def test_a_look_is_later_than_the_end_of_the_request(make_worker: MakeWorker, tmp_path: Path) -> None:
    """Half of a head may be there when the poller reports, and the other half come behind a change of the file."""
    worker = make_worker()
    worker.ask(request(b"/small", b"keep-alive"))
    near, far = socket.socketpair()
    near.setblocking(False)
    with far:
        other = PlainConnection(worker.context, near.detach(), b"127.0.0.1", 80, worker.connection._tables)
        head = request(b"/small", b"keep-alive")
        far.sendall(head[:-2])
        worker.far.sendall(head)
        worker.connection.on_input(1)
        # In the order of the poller's report the first would be answered here.  Then the file changes, and only then:
        (tmp_path / "new").write_bytes(b"new" + SMALL[3:])
        (tmp_path / "new").rename(tmp_path / "small")
        far.sendall(head[-2:])
        other.on_input(1)
        worker.answer()
        for sock in (worker.far, far):
            assert b"\r\n\r\nnew" in sock.recv(100_000)
        other.close()


def test_one_look_serves_all_requests_of_a_round(make_worker: MakeWorker, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = make_worker()
    worker.ask(request(b"/small", b"keep-alive"))
    near, far = socket.socketpair()
    near.setblocking(False)
    looks: list[bytes] = []
    real = os.stat
    monkeypatch.setattr(
        "httpd.content.cache.os.stat", lambda path, **more: looks.append(path) or real(path, **more)
    )
    with far:
        other = PlainConnection(worker.context, near.detach(), b"127.0.0.1", 80, worker.connection._tables)
        for sock, connection in ((worker.far, worker.connection), (far, other)):
            sock.sendall(request(b"/small", b"keep-alive"))
            connection.on_input(1)
        assert not looks, "all are read before the first is answered"
        worker.answer()
        assert worker.far.recv(100_000) == far.recv(100_000)
        assert len(looks) == 1
        worker.ask(request(b"/small", b"keep-alive"))
        assert len(looks) == 2
        other.close()
