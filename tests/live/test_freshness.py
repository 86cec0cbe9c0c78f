"""What is cached is never stale: the answer behind a change shows the change."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from live.conftest import Connect
from live.daemon import Daemon, Place, eventually

_FILES = 200
_LARGE = 200_000  # bytes: not kept in memory, but its head is


def _in_place(path: Path) -> tuple[int, bytes]:
    status = path.stat()
    with path.open("r+b") as file:
        file.write(b"NEW")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # same size, same mtime: only ctime tells
    return 200, b"NEW" + path.read_bytes()[3:]


def _longer(path: Path) -> tuple[int, bytes]:
    with path.open("ab") as file:
        file.write(b" and more")
    return 200, path.read_bytes()


def _replaced(path: Path) -> tuple[int, bytes]:
    status = path.stat()
    other = path.with_name(path.name + ".new")
    other.write_bytes(b"x" * status.st_size)
    other.chmod(0o644)
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.replace(path)
    return 200, b"x" * status.st_size


def _truncated(path: Path) -> tuple[int, bytes]:
    os.truncate(path, 2)
    return 200, path.read_bytes()


def _removed(path: Path) -> tuple[int, bytes]:
    path.unlink()
    return 404, b""


def _closed(path: Path) -> tuple[int, bytes]:
    path.chmod(0)
    return 403, b""


def _folder_instead(path: Path) -> tuple[int, bytes]:
    path.unlink()
    path.mkdir(mode=0o755)
    return 301, b""


def _outside(path: Path) -> tuple[int, bytes]:
    path.unlink()
    path.symlink_to("/etc/passwd")
    return 403, b""


def _fifo_instead(path: Path) -> tuple[int, bytes]:
    path.unlink()
    os.mkfifo(path)
    return 404, b""


_CHANGES: list[Callable[[Path], tuple[int, bytes]]] = [
    _in_place, _longer, _replaced, _truncated, _removed, _closed, _folder_instead, _outside, _fifo_instead,
]  # fmt: skip


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    place = shared_place
    for number in range(_FILES):
        size = _LARGE if number % 4 == 3 else 100 + number
        place.write(f"www/{number}", b"old" + b"." * size)
    place.write("www/folder/index.html", b"the index")
    place.write("www/moved/file", b"here")
    for release in ("1", "2"):
        place.write(f"releases/{release}/page", b"release " + release.encode())
    (place.path / "current").symlink_to("releases/1")
    shared_daemon.configure(
        '[[vhost]]\nroot = "www"\n[[vhost.directory]]\npath = "/release/"\nroot = "current"\n', server="workers = 1"
    )
    server = shared_daemon.start()
    # Files are kept only when they have been left alone for two seconds.
    last = max(path.stat().st_ctime for path in place.path.rglob("*"))
    eventually(lambda: time.time() - last > 2.1, "the files are two seconds old")
    return server


def test_the_answer_behind_a_change_shows_it(server: Daemon, connect: Connect, shared_place: Place) -> None:
    client = connect()
    for number in range(_FILES):
        path = shared_place.www / str(number)
        for _ in range(2):
            before = client.get(f"/{number}")
            assert (before.status, before.body) == (200, path.read_bytes())
        change = _CHANGES[number % len(_CHANGES)]
        status, body = change(path)
        after = client.get(f"/{number}")
        assert after.status == status or (status == 403 and after.status == 404), change.__name__
        if status == 200:
            assert after.body == body, change.__name__
            assert after["ETag"] != before["ETag"] or change in (_in_place, _replaced), change.__name__


def test_an_index_that_goes_or_comes(server: Daemon, connect: Connect, shared_place: Place) -> None:
    client = connect()
    folder = shared_place.www / "folder"
    assert [client.get("/folder/").body for _ in range(2)] == [b"the index"] * 2
    (folder / "index.html").rename(folder / "index.htm")
    assert client.get("/folder/").body == b"the index"
    (folder / "index.html").write_bytes(b"again")
    assert client.get("/folder/").body == b"again"


def test_a_folder_that_is_moved_away(server: Daemon, connect: Connect, shared_place: Place) -> None:
    client = connect()
    assert [client.get("/moved/file").status for _ in range(2)] == [200, 200]
    (shared_place.www / "moved").rename(shared_place.www / "elsewhere")
    assert client.get("/moved/file").status == 404
    assert client.get("/elsewhere/file").body == b"here"


def test_the_root_is_a_link_that_is_swapped(server: Daemon, connect: Connect, shared_place: Place) -> None:
    client = connect()
    new = shared_place.path / "next"
    for turn in range(20):
        release = "21"[turn % 2]
        new.symlink_to(f"releases/{release}")
        new.replace(shared_place.path / "current")
        for _ in range(2):
            assert client.get("/release/page").body == b"release " + release.encode()


def test_a_root_that_is_removed_and_made_again(server: Daemon, connect: Connect, shared_place: Place) -> None:
    client = connect()
    new = shared_place.path / "next"
    new.symlink_to("releases/3")
    new.replace(shared_place.path / "current")
    server.expect("cannot answer.*/release/")
    assert client.get("/release/page").status in (404, 500)
    shared_place.write("releases/3/page", b"release 3")
    assert client.get("/release/page").body == b"release 3"
    shutil.rmtree(shared_place.path / "releases/3")
    assert client.get("/release/page").status in (404, 500)
