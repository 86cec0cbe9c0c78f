"""A connection over a socket pair, its loop turned by hand and its clock set by the test."""

from __future__ import annotations

import io
import os
import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from httpd.config import schema
from httpd.config.schema import Directory, Limits, Settings, Timeouts
from httpd.content.sites import Site, SiteTable
from httpd.content.static import DirectoryMount
from httpd.logs.access import compile_format
from httpd.logs.access_log import AccessLog
from httpd.logs.errors import ErrorLog
from httpd.protocol.messages import FileBody, Response
from httpd.system.poller import make_poller
from httpd.worker.context import Context
from httpd.worker.peer import LINGER
from httpd.worker.plain import PlainConnection
from machine import descriptors
from unit.worker.lines import logged

MakeSite = Callable[..., Site[Any]]
TIMEOUTS = Timeouts(head=10.0, body=20.0, write=30.0, keepalive=15.0, min_rate=500)
LIMITS = Limits(request_line=200, head=1000, fields=10, body=100_000, body_memory=1000)
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"
BIG = b"x" * 3_000_000
FORMAT = "%h %r %>s %B %X %v"


class World:
    """A worker of one listener: context, site, clock and log."""

    def __init__(self, mount: Any, make_site: MakeSite, form: str = FORMAT) -> None:
        self.errors: list[bytes] = []
        config = schema.Config(
            path="", server=schema.Server(), timeouts=TIMEOUTS, limits=LIMITS, log=schema.Log(), vhosts=()
        )
        self.context = Context(config, make_poller(), ErrorLog(self.errors.append, "info", "test"), lambda: None)
        self.context.wall = time.time() + 60  # files are old enough for the cache
        self.context.now = 1000.0
        self.context.preambles.at(int(self.context.wall))
        self.written = bytearray()
        self.log = AccessLog(compile_format(form), self.written.extend, self.context.dirty)
        self.context.log = mount.log = self.log
        self.mount = mount
        self.table: SiteTable[Any] = SiteTable([make_site(mount, log=self.log)])
        self.clients: list[Client] = []

    def client(self) -> Client:
        self.clients.append(Client(self))
        return self.clients[-1]

    def turn(self) -> None:
        """Handle events until there are none."""
        for _ in range(100_000):
            events = self.context.poller.poll(0)
            if not events:
                break
            self.context.round += 1
            for fd, mask in events:
                handler = self.context.handlers.get(fd)
                if handler is not None:
                    handler(mask)
            self.answer()
        else:
            pytest.fail("the loop spins")

    def answer(self) -> None:
        """The second half of a round."""
        for connection, plain in self.context.asked:
            connection.answer(plain)
        self.context.asked.clear()

    def after(self, seconds: float) -> None:
        """Let time pass, and sweep."""
        self.context.now += seconds
        for connection in list(self.context.connections.values()):
            connection.sweep(self.context.now)
        self.turn()

    @property
    def logged(self) -> list[str]:
        return logged(self.context, self.written)

    def close(self) -> None:
        for connection in list(self.context.connections.values()):
            connection.close()
        assert self.context.handlers == {}
        for client in self.clients:
            client.sock.close()
        self.context.poller.close()


class Client:
    """The far end.  `got` is all that was received, `ended` whether the server has shut its side."""

    def __init__(self, world: World) -> None:
        near, self.sock = socket.socketpair()
        near.setblocking(False)
        self.sock.setblocking(False)
        self.world = world
        self.got = b""
        self.ended = self.reset = False
        self.connection = PlainConnection(world.context, near.detach(), b"client", 80, world.table)
        self.connection.on_input()

    def send(self, data: bytes) -> bytes:
        """Send, let the server work, and return what came back."""
        self.sock.sendall(data)
        self.world.turn()
        return self.receive()

    def receive(self) -> bytes:
        """All that comes, however large: the server works while we read."""
        new = b""
        while not self.ended:
            try:
                data = self.sock.recv(1 << 20)
            except BlockingIOError:
                break
            except ConnectionResetError:
                self.ended = self.reset = True
                break
            self.ended = not data
            new += data
            self.world.turn()
        self.got += new
        return new

    @property
    def open(self) -> bool:
        """Whether the server still holds the connection."""
        return self.connection in self.world.context.connections.values()


class _Wire:
    def __init__(self, file: Any) -> None:
        self.file = file

    def makefile(self, mode: str) -> Any:
        return self.file


def responses(wire: bytes, *methods: str) -> list[tuple[int, HTTPResponse, bytes]]:
    """Cut what was received into responses, as the standard library's client sees them; nothing may be left."""
    file = io.BytesIO(wire)
    file.close = lambda: None  # type: ignore[method-assign]  # HTTPResponse closes what it has read
    found = []
    for method in methods:
        response = HTTPResponse(_Wire(file), method=method)  # type: ignore[arg-type]
        response.begin()
        body = response.read()
        found.append((response.status, response, body))
    assert file.read() == b"", "more than was asked for"
    return found


@pytest.fixture
def world(mount: Any, make_site: MakeSite) -> Iterator[World]:
    before = descriptors()
    world = World(mount, make_site)
    yield world
    world.close()
    assert descriptors() == before, "descriptors left open"


@pytest.fixture
def folder(tmp_path: Path, make_site: MakeSite) -> Iterator[World]:
    """A world with a real folder: a (5 bytes), empty, big."""
    (tmp_path / "a").write_bytes(b"hello")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "big").write_bytes(BIG)
    world = World(DirectoryMount(Directory("/", "k", Settings(), root=str(tmp_path)), None), make_site)
    yield world
    world.close()
    world.mount._root().close()


# Framing


def test_one_request(world: World) -> None:
    client = world.client()
    ((status, response, body),) = responses(client.send(GET), "GET")
    assert (status, body) == (200, b"/a")
    assert [name for name, _ in response.getheaders()] == ["Server", "Date", "Content-Length"]
    assert client.open
    assert world.logged == ["client GET /a HTTP/1.1 200 2 + -"]


@pytest.mark.parametrize("step", [1, 3, 20])
def test_byte_by_byte(world: World, step: int) -> None:
    client = world.client()
    wire = GET * 3
    for at in range(0, len(wire), step):
        client.send(wire[at : at + step])
    assert [body for _, _, body in responses(client.got, *["GET"] * 3)] == [b"/a"] * 3


def test_pipelined_requests_are_answered_in_order(world: World) -> None:
    client = world.client()
    wire = b"".join(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number for number in range(300))
    found = responses(client.send(wire), *["GET"] * 300)
    assert [body for _, _, body in found] == [b"/%d" % number for number in range(300)]
    assert client.open
    assert len(world.logged) == 300


def test_pipelined_with_bodies(world: World) -> None:
    """Whatever a body looks like, it is never the next request."""
    client = world.client()
    post = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(GET), GET)
    chunked = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(GET), GET)
    found = responses(client.send(post + GET + chunked + GET + post), *["POST", "GET", "POST", "GET", "POST"])
    assert [body for _, _, body in found] == [b"/p", b"/a", b"/c", b"/a", b"/p"]
    assert world.context.requests == 5


@pytest.mark.parametrize("size", [0, 1, 100_000, 3_000_000])
def test_large_responses_between_small_ones(world: World, size: int) -> None:
    world.mount.answers[b"/big"] = lambda: Response(200, body=b"x" * size)
    big = GET.replace(b"/a", b"/big")
    client = world.client()
    found = responses(client.send(GET + big + GET + big + GET), *["GET"] * 5)
    assert [len(body) for _, _, body in found] == [2, size, 2, size, 2]
    assert client.open


def test_head(world: World) -> None:
    world.mount.answers[b"/missing"] = lambda: Response(404)
    client = world.client()
    head = GET.replace(b"GET", b"HEAD")
    missing = head.replace(b"/a", b"/missing")
    found = responses(client.send(head + missing + GET), "HEAD", "HEAD", "GET")
    assert [(status, body) for status, _, body in found] == [(200, b""), (404, b""), (200, b"/a")]
    assert found[0][1].getheader("Content-Length") == "2"
    assert int(found[1][1].getheader("Content-Length") or 0) > 100


@pytest.mark.parametrize("status", [204, 304])
def test_no_content(world: World, status: int) -> None:
    world.mount.answers[b"/n"] = lambda: Response(status)
    client = world.client()
    found = responses(client.send(GET.replace(b"/a", b"/n") + GET), "GET", "GET")
    assert [found[0][0], found[1][2]] == [status, b"/a"]
    assert found[0][1].getheader("Content-Length") is None


# Keep-alive (RFC 9112 9.3)


@pytest.mark.parametrize(
    ("version", "connection", "stays", "told"),
    [
        ("1.1", None, True, None),
        ("1.1", "keep-alive", True, None),
        ("1.1", "close", False, "close"),
        ("1.1", "Foo, CLOSE", False, "close"),
        ("1.0", None, False, "close"),
        ("1.0", "keep-alive", True, "keep-alive"),
        ("1.0", "close, keep-alive", False, "close"),
        ("1.2", None, True, None),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("cached", [False, True])
def test_persistence(folder: World, version: str, connection: str | None, stays: bool, told: str | None, method: str,
                     cached: bool) -> None:  # fmt: skip
    if cached:
        folder.client().send(GET)
    client = folder.client()
    field = f"Connection: {connection}\r\n" if connection else ""
    ((status, response, _),) = responses(
        client.send(f"{method} /a HTTP/{version}\r\nHost: a\r\n{field}\r\n".encode()), method
    )
    assert status == 200
    assert response.getheader("Connection") == told
    assert (client.open, client.ended) == (stays, not stays)
    assert folder.logged[-1].split()[-2] == ("+" if stays else "-")
    if stays:
        assert client.send(GET)


def test_the_general_way_looks_at_a_file_for_each_request(folder: World, monkeypatch: pytest.MonkeyPatch) -> None:
    old = folder.context.wall - 3600
    path = os.path.join(folder.mount.mount.root, "a")
    os.utime(path, (old, old))
    monkeypatch.setattr("httpd.content.static.cache.settled", lambda stat, wall: True)
    first, second = folder.client(), folder.client()
    first.send(GET)  # fills the cache
    looks = []
    real = os.stat
    monkeypatch.setattr(
        "httpd.content.cache.os.stat", lambda path, **more: looks.append(path) or real(path, **more)
    )
    first.sock.sendall(GET)
    second.sock.sendall(GET)
    folder.turn()
    assert first.receive().endswith(b"hello")
    assert second.receive().endswith(b"hello")
    assert len(looks) == 2
    first.send(GET + GET)
    assert len(looks) == 4
    first.send(GET.replace(b"\r\n\r\n", b"\r\nRange: bytes=0-0,2-2\r\n\r\n"))
    assert len(looks) == 5, "and no more often when it has to be thought about"


def test_nothing_behind_a_close_is_answered(world: World) -> None:
    """RFC 9112 9.6: no request behind "close" is processed; what comes is read and dropped, not reset."""
    client = world.client()
    close = GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert len(responses(client.send(close + GET * 3), "GET")) == 1
    assert (client.ended, client.reset) == (True, False)
    assert world.context.requests == 1
    assert client.open  # it lingers
    client.sock.sendall(GET)
    world.turn()
    client.sock.close()
    world.turn()
    assert not client.open


def test_lingering_ends(world: World) -> None:
    client = world.client()
    client.send(GET.replace(b"1.1", b"1.0") + b"more")
    world.after(LINGER - 0.001)
    assert client.open
    client.send(b"and more")
    world.after(0.001)
    assert client.open, "who is still sending has not read its answer yet"
    world.after(LINGER)
    assert not client.open


def test_lingering_ends_for_one_that_sends_on_and_on(world: World) -> None:
    client = world.client()
    client.send(GET.replace(b"1.1", b"1.0") + b"more")
    rounds = 0
    while client.open and rounds < 100:
        client.sock.sendall(b"more")
        world.turn()
        world.after(LINGER / 2)
        rounds += 1
    assert rounds * LINGER / 2 == TIMEOUTS.body + LINGER / 2


def test_pipelined_requests_are_no_reason_to_hold_up_others(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A round that has lasted a while begins no further one of them; the next round does."""
    served: list[int] = []
    answer = world.mount.answer

    def slow(*given: Any) -> Any:
        served.append(world.context.round)
        world.context.now -= 1  # as if a second had passed since the round began
        return answer(*given)

    monkeypatch.setattr(world.mount, "answer", slow)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    assert len(responses(world.client().send(GET * 4), *["GET"] * 4)) == 4
    assert len(set(served)) == 4


def test_a_response_that_closes(world: World) -> None:
    world.mount.answers[b"/a"] = lambda: Response(200, body=b"last", close=True)
    client = world.client()
    ((_, response, body),) = responses(client.send(GET + GET), "GET")
    assert (body, response.getheader("Connection"), client.ended) == (b"last", "close", True)


# The end of input


def test_the_client_leaves(world: World) -> None:
    client = world.client()
    client.send(GET)
    client.sock.shutdown(socket.SHUT_WR)
    world.turn()
    assert not client.open
    assert client.receive() == b""
    assert len(world.logged) == 1


def test_a_client_that_half_closes_gets_its_answers(world: World) -> None:
    world.mount.answers[b"/big"] = lambda: Response(200, body=BIG)
    client = world.client()
    client.sock.sendall(GET + GET.replace(b"/a", b"/big") + GET)
    client.sock.shutdown(socket.SHUT_WR)
    world.turn()
    client.receive()
    assert [len(body) for _, _, body in responses(client.got, *["GET"] * 3)] == [2, len(BIG), 2]
    assert not client.open


@pytest.mark.parametrize("beginning", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_half_a_head(world: World, beginning: bytes) -> None:
    client = world.client()
    client.sock.sendall(beginning)
    client.sock.shutdown(socket.SHUT_WR)
    world.turn()
    client.receive()
    ((status, response, _),) = responses(client.got, "GET")
    assert (status, response.getheader("Connection")) == (400, "close")
    assert not client.open


def test_half_a_body(world: World) -> None:
    client = world.client()
    client.sock.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhel")
    client.sock.shutdown(socket.SHUT_WR)
    world.turn()
    client.receive()
    assert responses(client.got, "POST")[0][0] == 400
    assert world.logged[0].startswith("client POST / HTTP/1.1 400 ")
    assert world.context.requests == 0


@pytest.mark.parametrize("lines", [b"\r\n", b"\r\n\r\n", b"\r"])
def test_an_empty_line_behind_a_request_is_nothing(world: World, lines: bytes) -> None:
    """RFC 9112 2.2: neither its client's end nor time makes it a bad request."""
    ending, idle, further = (world.client() for _ in range(3))
    for client in (ending, idle, further):
        client.send(GET + lines)
        client.got = b""
    ending.sock.shutdown(socket.SHUT_WR)
    world.turn()
    assert (ending.receive(), ending.open) == (b"", False)
    assert len(responses(further.send(GET if lines.endswith(b"\n") else b"\n" + GET), "GET")) == 1
    world.after(TIMEOUTS.keepalive)
    assert (idle.receive(), idle.ended) == (b"", True)
    assert all(" 200 " in line for line in world.logged)


def test_a_reset_is_no_defect(world: World) -> None:
    world.mount.answers[b"/a"] = lambda: Response(200, body=BIG)
    client = world.client()
    client.sock.sendall(GET)
    world.turn()
    client.sock.close()
    world.turn()
    assert not client.open
    (line,) = world.logged
    sent = int(line.split()[-3])
    assert 0 < sent < len(BIG)
    assert world.errors == []


# Refusals


@pytest.mark.parametrize(
    ("wire", "status", "line"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "GET / HTTP/1.1"),
        (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", 400, "GET / HTTP/1.1"),
        (b"\r\n\r\nFOO\r\n", 400, "FOO"),
        (b"\x16\x03\x01\x02", 400, "\\x16\\x03\\x01\\x02"),
        (b"GET /" + b"a" * 300, 414, "GET /" + "a" * 195),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * 2000, 431, "GET / HTTP/1.1"),
        (b"GET / HTTP/2.0\r\n", 505, "GET / HTTP/2.0"),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 100001\r\n\r\n", 413, "PUT / HTTP/1.1"),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501, "PUT / HTTP/1.1"),
        (b"PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400, "PUT / HTTP/1.1"),
        (b"GET https://a/ HTTP/1.1\r\nHost: a\r\n\r\n", 421, "GET https://a/ HTTP/1.1"),
    ],
)
def test_refused(world: World, wire: bytes, status: int, line: str) -> None:
    client = world.client()
    client.send(GET)
    client.got = b""
    ((got, response, body),) = responses(client.send(wire + b"\r\n" + GET), "GET")
    assert (got, response.getheader("Connection")) == (status, "close")
    assert b"<h1>%d " % status in body
    assert (client.ended, client.reset) == (True, False)
    assert world.context.requests == 1
    assert world.logged[1:] == [f"client {line} {status} {len(body)} - -"]
    assert world.errors == []


@pytest.mark.parametrize(
    "wire",
    [
        b"HEAD / HTTP/1.1\r\n\r\n",
        b"\r\nHEAD / HTTP/1.1\r\nHost : a\r\n\r\n",
        b"HEAD / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    ],
)
def test_a_refused_head_has_no_body(world: World, wire: bytes) -> None:
    """RFC 9110 9.3.2, wherever it broke."""
    ((status, response, _),) = responses(world.client().send(wire), "HEAD")
    assert status == 400
    assert int(response.getheader("Content-Length") or 0) > 0


# Bodies


def test_expect_gets_the_final_answer(world: World) -> None:
    """RFC 9110 10.1.1: without 100 (Continue); whether the body still comes nobody knows, so the connection ends."""
    client = world.client()
    wire = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    ((status, response, _),) = responses(client.send(wire), "POST")
    assert (status, response.getheader("Connection"), client.ended) == (200, "close", True)
    assert client.send(b"hello" + GET) == b""


def test_a_body_larger_than_memory_is_not_awaited(world: World) -> None:
    client = world.client()
    wire = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n"
    ((status, response, _),) = responses(client.send(wire), "POST")
    assert (status, response.getheader("Connection")) == (200, "close")
    assert client.send(b"x" * 1001 + GET) == b""
    assert client.open
    client.sock.close()
    world.turn()
    assert not client.open


def test_a_body_that_fits(world: World) -> None:
    client = world.client()
    wire = b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"
    assert client.send(wire) == b""
    assert client.send(b"x" * 999) == b""
    ((_, response, _),) = responses(client.send(b"x"), "POST")
    assert response.getheader("Connection") is None
    assert client.open


def test_chunks_without_end(world: World) -> None:
    client = world.client()
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for _ in range(2000):
        if client.send(b"1\r\nx\r\n"):
            break
    ((status, response, _),) = responses(client.got, "POST")
    assert (status, response.getheader("Connection"), client.ended) == (200, "close", True)


# Time


def test_a_silent_client(world: World) -> None:
    client = world.client()
    world.after(TIMEOUTS.head - 0.001)
    assert not client.ended
    world.after(0.001)
    assert (client.receive(), client.ended) == (b"", True)
    world.after(LINGER)
    assert not client.open
    assert world.logged == []


def test_an_idle_client(world: World) -> None:
    client = world.client()
    client.send(GET)
    client.got = b""
    world.after(TIMEOUTS.keepalive - 0.001)
    client.receive()
    assert not client.ended
    world.after(0.001)
    assert (client.receive(), client.ended) == (b"", True)
    assert len(world.logged) == 1


def test_a_slow_head(world: World) -> None:
    """The time is for the whole head: a byte now and then buys nothing."""
    client = world.client()
    world.after(TIMEOUTS.head - 1)  # the first byte comes late
    for byte in GET[:10]:
        assert client.send(bytes((byte,))) == b""
        world.after((TIMEOUTS.head - 0.001) / 10)
    assert client.receive() == b""
    world.after(0.002)
    client.receive()
    ((status, response, _),) = responses(client.got, "GET")
    assert (status, response.getheader("Connection"), client.ended) == (408, "close", True)
    assert world.logged[0].startswith("client GET /a HTT 408 ")


def test_a_head_behind_another_has_its_own_time(world: World) -> None:
    client = world.client()
    client.send(GET)
    world.after(TIMEOUTS.keepalive - 1)
    client.send(GET + b"GET")
    client.got = b""
    world.after(TIMEOUTS.head - 0.001)
    assert client.receive() == b""
    world.after(0.001)
    client.receive()
    assert responses(client.got, "GET")[0][0] == 408


def test_a_slow_body(world: World) -> None:
    client = world.client()
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    world.after(TIMEOUTS.body - 0.001)
    assert client.receive() == b""
    client.send(b"x")
    world.after(0.001)
    assert client.receive() == b""
    world.after(TIMEOUTS.body)
    client.receive()
    assert responses(client.got, "POST")[0][0] == 408


def test_a_body_below_the_rate(world: World) -> None:
    client = world.client()
    client.send(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(int(TIMEOUTS.body) + 1):
        assert client.send(b"x") == b""
        world.after(1)
    client.receive()
    assert responses(client.got, "POST")[0][0] == 408


def test_a_client_that_does_not_read(world: World) -> None:
    world.mount.answers[b"/a"] = lambda: Response(200, body=BIG)
    client = world.client()
    client.sock.sendall(GET)
    world.turn()
    world.after(TIMEOUTS.write - 0.001)
    assert client.open
    world.after(0.001)
    assert not client.open
    (line,) = world.logged
    assert 0 < int(line.split()[-3]) < len(BIG)


def sip(world: World, client: Client, seconds: int) -> int:
    """Read a little every second; returns after how many the connection was cut."""
    for second in range(seconds):
        world.after(1)
        if not client.open:
            return second
        try:
            client.sock.recv(100)
        except BlockingIOError:
            pytest.fail("nothing to read")
        world.turn()
    return seconds


def test_a_client_that_reads_below_the_rate(world: World) -> None:
    """It keeps every deadline between two writes, and is cut all the same."""
    world.mount.answers[b"/a"] = lambda: Response(200, body=BIG)
    client = world.client()
    client.sock.sendall(GET)
    world.turn()
    client.connection._moved = 0  # what the kernel took at once does not help it
    client.connection.deadline = float("inf")
    assert sip(world, client, 100) == TIMEOUTS.write


def test_the_rate_counts_anew_for_each_pipelined_response(world: World) -> None:
    """The second response is held to it too, and is not punished for the first."""
    world.mount.answers[b"/a"] = lambda: Response(200, body=BIG)
    client = world.client()
    client.sock.sendall(GET + GET)
    world.turn()
    world.after(TIMEOUTS.write - 1)
    while len(world.logged) < 1:
        client.sock.recv(1 << 16)
        world.turn()
    assert client.connection._since == world.context.now
    client.connection._moved = 0
    client.connection.deadline = float("inf")
    assert sip(world, client, 100) == TIMEOUTS.write


def test_the_rate_of_a_body_is_not_that_of_its_answer(world: World) -> None:
    world.mount.answers[b"/a"] = lambda: Response(200, body=BIG)
    client = world.client()
    client.sock.sendall(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nx")
    world.turn()
    world.after(TIMEOUTS.body - 1)
    client.sock.sendall(b"x")
    world.turn()
    assert client.connection._since == world.context.now


# Draining


def test_who_never_had_an_answer_keeps_its_time_unless_it_is_the_end(world: World) -> None:
    used, fresh = world.client(), world.client()
    used.send(GET)
    used.got = b""
    world.context.draining = True
    world.context.idle_seconds = 1.0
    for client in (used, fresh):
        client.connection.drain(fresh=False)
    world.after(1.0)
    assert (used.receive(), used.ended) == (b"", True)
    assert (fresh.receive(), fresh.ended) == (b"", False)
    fresh.connection.drain(fresh=True)
    world.after(1.0)
    assert (fresh.receive(), fresh.ended) == (b"", True)


def test_drain(world: World) -> None:
    world.mount.answers[b"/big"] = lambda: Response(200, body=BIG)
    idle, asking, sending = (world.client() for _ in range(3))
    for client in (idle, asking):
        client.send(GET)
        client.got = b""
    sending.sock.sendall(GET.replace(b"/a", b"/big") + GET)
    world.turn()
    world.context.draining = True
    world.context.idle_seconds = 1.0
    for client in (idle, asking, sending):
        client.connection.drain(fresh=True)
    ((status, response, _),) = responses(asking.send(GET), "GET")  # one that was on its way is answered
    assert (status, response.getheader("Connection"), asking.ended) == (200, "close", True)
    sending.receive()
    found = responses(sending.got, "GET", "GET")
    assert [len(body) for _, _, body in found] == [len(BIG), 2]
    assert found[1][1].getheader("Connection") == "close"
    world.after(1.0)
    assert (idle.receive(), idle.ended) == (b"", True)


# Files


def test_a_cached_file_equals_a_fresh_one(folder: World) -> None:
    client = folder.client()
    for path in (b"/a", b"/empty", b"/big"):
        for method in (b"GET", b"HEAD"):
            wire = GET.replace(b"/a", path).replace(b"GET", method)
            cold = client.send(wire)
            assert client.send(wire) == cold
            folder.table.find(b"a").files.clear()
    assert len(folder.logged) == 12
    assert {line.split()[-3] for line in folder.logged} == {"0", "5", str(len(BIG))}


@pytest.mark.parametrize(
    ("field", "status"),
    [("If-None-Match: *", 304), ('If-None-Match: "x"', 200), ('If-Match: "x"', 412), ("Range: bytes=0-1", 206),
     ("If-Modified-Since: Thu, 01 Jan 2099 00:00:00 GMT", 304), ("If-Unmodified-Since: bad", 200)],
)  # fmt: skip
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
def test_conditional_requests_for_a_cached_file(folder: World, field: str, status: int, version: bytes) -> None:
    client = folder.client()
    wire = GET.replace(b"\r\n\r\n", b"\r\n%b\r\nConnection: keep-alive\r\n\r\n" % field.encode())
    wire = wire.replace(b"HTTP/1.1", b"HTTP/" + version)
    cold = client.send(wire)
    assert client.send(wire) == cold
    assert client.send(wire + GET).startswith(cold)
    assert responses(cold, "GET")[0][0] == status


def test_a_log_with_a_clock(mount: Any, make_site: MakeSite, tmp_path: Path) -> None:
    """It measures, also on the short way."""
    (tmp_path / "a").write_bytes(b"hello")
    world = World(DirectoryMount(Directory("/", "k", Settings(), root=str(tmp_path)), None), make_site, "%D")
    world.context.now = time.monotonic() - 5
    client = world.client()
    client.send(GET)
    client.send(GET)
    assert len(world.logged) == 2
    assert all(int(line) >= 5_000_000 for line in world.logged)
    world.close()
    world.mount._root().close()


def test_a_file_that_shrinks_ends_the_connection(world: World, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(BIG)

    def answer() -> Response:
        return Response(200, body=FileBody(os.open(tmp_path / "file", os.O_RDONLY), 0, len(BIG)))

    world.mount.answers[b"/a"] = answer
    client = world.client()
    client.sock.sendall(GET + GET)
    world.turn()
    os.truncate(tmp_path / "file", 1_000_000)
    client.receive()
    assert client.ended
    assert not client.open
    assert len(world.logged) == 1
    assert int(world.logged[0].split()[-3]) < len(BIG)


def test_hosts_reach_their_sites(world: World) -> None:
    client = world.client()
    assert responses(client.send(GET.replace(b"Host: a", b"Host: UNKNOWN.example.:80")), "GET")[0][0] == 200
    assert b"unknown.example" in world.table.known


def test_closing_twice(world: World) -> None:
    client = world.client()
    client.connection.close()
    client.connection.close()
    assert client.receive() == b""
    assert client.ended


@pytest.mark.parametrize("end", ["read", "gone", "late"])
def test_answers_on_their_way_are_counted(world: World, end: str) -> None:
    world.mount.answers[b"/a"] = lambda: Response(200, body=BIG)
    client = world.client()
    client.sock.sendall(GET)
    world.turn()
    assert world.context.sending == 1
    if end == "read":
        client.receive()
    elif end == "gone":
        client.sock.close()
        world.turn()
    else:
        world.after(TIMEOUTS.write + 1)
    assert world.context.sending == 0


def test_an_answer_that_is_cut_is_logged(world: World) -> None:
    world.mount.answers[b"/a"] = lambda: Response(200, body=BIG)
    client = world.client()
    client.sock.sendall(GET)
    world.turn()
    client.connection.cut()
    assert not client.open
    (line,) = world.logged
    assert 0 < int(line.split()[5]) < len(BIG)
