"""Files that shrink, grow, vanish or become something else while they are sent.

What was promised is kept or the connection ends: no byte of another file, no next answer behind too few bytes, no wait.
Files that change between two requests are in test_freshness.py.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from live.client import Client, request
from live.conftest import Connect
from live.daemon import Daemon, Place, eventually
from live.footprint import descriptors, leaves_nothing

# More than the kernel's buffers take: when the client has the first bytes, the last have not been read from the file.
_SIZE = 32_000_000
_CONTENT = b"".join(b"%07d\n" % number for number in range(_SIZE // 8))
_SECRET = b"not below the root"


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to the file, whether the answer on its way is still whole, and the status of the next one."""

    make: Callable[[Path], object]
    whole: bool
    then: int


def _rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate()
        file.write(b"short")


def _grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"replaced")
    other.chmod(0o644)
    other.replace(path)


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir(mode=0o755)


def _outside(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent.parent / "secret")


_CHANGES = {
    "shrinks": Change(lambda path: os.truncate(path, _SIZE // 2), False, 200),
    "is emptied": Change(lambda path: os.truncate(path, 0), False, 200),
    "is rewritten, shorter": Change(_rewrite, False, 200),
    "grows": Change(_grow, True, 200),
    "vanishes": Change(Path.unlink, True, 404),
    "is replaced": Change(_replace, True, 200),
    "is closed to us": Change(lambda path: path.chmod(0), True, 403),
    "becomes a FIFO": Change(_fifo, True, 404),
    "becomes a folder": Change(_folder, True, 301),
    "becomes a link to outside": Change(_outside, True, 403),
}


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    shared_place.write("www/a", b"the a")
    shared_place.write("secret", _SECRET)
    shared_daemon.configure('[[vhost]]\nroot = "www"\n[timeouts]\nkeepalive = "600s"\n', server="workers = 1")
    return shared_daemon.start()


@pytest.fixture(autouse=True)
def nothing_stays(server: Daemon) -> Iterator[None]:
    """Behind each test the same worker has the same descriptors.  (`connect` closes its connections before.)"""
    with Client(("127.0.0.1", server.port)) as known:
        assert known.get("/a").status == 200
        before = descriptors(server)
        yield
        eventually(lambda: descriptors(server) == before, "the same worker has as many descriptors as before")


@pytest.fixture
def large(shared_place: Place) -> Path:
    """The file, as it was before the first change."""
    path = shared_place.www / "large"
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    else:
        path.unlink(missing_ok=True)
    return shared_place.write("www/large", _CONTENT)


def _begin(client: Client, *fields: str) -> bytes:
    """Ask for the file, with another request behind; return the first bytes, sent when the last are still unread."""
    client.send(request("/large", *fields) + request("/a"))
    start = client.sock.recv(1000)
    while _CONTENT[:8] not in start:  # the head may come alone, before anything was read from the file
        more = client.sock.recv(1000)
        assert more
        start += more
    assert start.startswith(b"HTTP/1.1 20")
    return start


def _then(connect: Connect, change: Change, large: Path) -> None:
    """The next answer tells what the file is now."""
    after = connect().get("/large")
    assert after.status in ((403, 404) if change.then == 403 else (change.then,))
    if after.status == 200:
        assert after.body == large.read_bytes()


@pytest.mark.parametrize("name", _CHANGES)
def test_a_file_that_changes_while_it_is_sent(server: Daemon, connect: Connect, large: Path, name: str) -> None:
    change = _CHANGES[name]
    client = connect()
    start = _begin(client)
    change.make(large)
    head, _, body = (start + _rest(client)).partition(b"\r\n\r\n")
    assert b"\r\nContent-Length: %d\r\n" % _SIZE in head + b"\r\n"
    if change.whole:
        assert body[:_SIZE] == _CONTENT
        assert body[_SIZE:].startswith(b"HTTP/1.1 200 ") and body.endswith(b"the a")
    else:
        assert len(body) < _SIZE
        assert _CONTENT.startswith(body)
    _then(connect, change, large)


@pytest.mark.parametrize("name", ["shrinks", "grows", "vanishes"])
def test_a_file_that_changes_between_the_parts_of_a_range(
    server: Daemon, connect: Connect, large: Path, name: str
) -> None:
    change = _CHANGES[name]
    client = connect()
    start = _begin(client, f"Range: bytes=0-{_SIZE // 2 - 1},{_SIZE // 2 + 1000}-")
    change.make(large)
    body = (start + _rest(client)).partition(b"\r\n\r\n")[2]
    first, mark, second = body.partition(_CONTENT[_SIZE // 2 + 1000 :])
    assert _CONTENT[: _SIZE // 2] in first
    assert bool(mark) == change.whole
    assert second.endswith(b"the a") == change.whole
    _then(connect, change, large)


def _rest(client: Client) -> bytes:
    """All that still comes, up to the server's close; that of a kept connection is brought about."""
    return client.shut().rest()


def test_a_path_that_never_holds_still(server: Daemon, connect: Connect, shared_place: Place) -> None:
    """Two files, a FIFO, a folder and a link to outside take turns under one name, as fast as they can."""
    folder = shared_place.www / "storm"
    folder.mkdir(mode=0o755)
    path, spare = folder / "x", folder / "spare"
    contents = (b"1" * 1000, b"2" * 200_000)
    over = threading.Event()

    def storm() -> None:
        turn = 0
        while not over.is_set():
            turn += 1
            if turn % 5 < 2:
                spare.write_bytes(contents[turn % 5])
                spare.chmod(0o644)
            elif turn % 5 == 2:
                os.mkfifo(spare, 0o644)
            elif turn % 5 == 3:
                spare.symlink_to(shared_place.path / "secret")
            else:
                path.unlink()
                path.mkdir(mode=0o755)
                path.rmdir()
                continue
            spare.replace(path)

    thread = threading.Thread(target=storm)
    thread.start()
    seen: set[int] = set()

    def abuse() -> None:
        client = Client(("127.0.0.1", server.port))
        for _ in range(300):
            try:
                answer = client.get("/storm/x")
            except AssertionError:  # cut short: it shrank on the way, and so the connection is closed
                client.close()
                client = Client(("127.0.0.1", server.port))
                continue
            seen.add(answer.status)
            assert answer.status in (200, 301, 403, 404)
            assert _SECRET not in answer.body
            if answer.status == 200:
                assert answer.body in contents or not answer.body  # written in place: as much as there was
        client.close()

    try:
        leaves_nothing(server, abuse)
    finally:
        over.set()
        thread.join()
    assert {200, 404} <= seen
