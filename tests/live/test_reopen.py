"""Log rotation: after `reopen` every process writes to the new files, and no line is lost."""

from __future__ import annotations

import threading

import pytest

from live.client import Client, request
from live.conftest import Connect
from live.daemon import Daemon, Place, eventually

_SITE = '[[vhost]]\nroot = "www"\n'


@pytest.fixture
def served(place: Place, daemon: Daemon) -> Daemon:
    place.write("www/a", b"the a")
    (place.path / "logs").mkdir()
    daemon.configure(_SITE, log='access = "logs/access.log"\nerror = "logs/error.log"\nlevel = "debug"')
    return daemon.start()


def _move(place: Place) -> None:
    for name in ("access", "error"):
        (place.path / f"logs/{name}.log").rename(place.path / f"logs/{name}.1")


def test_behind_the_command_only_the_new_files_are_written(served: Daemon, connect: Connect, place: Place) -> None:
    clients = [connect() for _ in range(8)]
    for client in clients:
        client.get("/a?before")
    served.access_lines(8, "logs/access.log")
    _move(place)
    for client in clients:
        client.get("/a?between")
    done = served.ctl("reopen")
    assert (done.returncode, done.stderr) == (0, "")
    old = (place.path / "logs/access.1").read_bytes()
    assert old.count(b"\n") == 16
    for client in clients:
        client.get("/a?after")
    lines = served.access_lines(8, "logs/access.log")
    assert all("?after" in line for line in lines)
    assert (place.path / "logs/access.1").read_bytes() == old
    connect().send(b"nonsense\r\n\r\n").read()
    eventually(lambda: "refused" in (place.path / "logs/error.log").read_text(), "a worker's line in the new error log")
    served.reload()
    assert "reloaded" in (place.path / "logs/error.log").read_text()
    assert "reloaded" not in (place.path / "logs/error.1").read_text()


def test_usr1_is_reopen(served: Daemon, connect: Connect, place: Place) -> None:
    _move(place)
    served.signal("USR1")
    eventually((place.path / "logs/access.log").exists, "a new file")
    client = connect()
    seen = 0

    def lines_arrive() -> bool:
        nonlocal seen
        client.get("/a")
        seen += 1
        return bool(served.access_lines(0, "logs/access.log"))

    eventually(lines_arrive, "lines in the new file")
    eventually(lambda: sum((place.path / f"logs/access.{end}").read_bytes().count(b"\n") for end in ("1", "log"))
               == seen, "no line is lost")  # fmt: skip


def test_no_line_is_lost_under_load(served: Daemon, place: Place) -> None:
    asked = [0] * 4

    def ask(number: int) -> None:
        with Client(("127.0.0.1", served.port)) as client:
            for _ in range(300):
                client.send(request("/a"))
                client.read()
                asked[number] += 1

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    turns = 0
    while any(thread.is_alive() for thread in threads) and turns < 30:
        (place.path / "logs/access.log").rename(place.path / f"logs/access.{turns}")
        assert served.call("reopen")["code"] == 0
        turns += 1
    for thread in threads:
        thread.join()
    assert sum(asked) == 1200
    files = list((place.path / "logs").glob("access.*"))
    eventually(lambda: sum(file.read_bytes().count(b"\n") for file in files) == 1200, "1200 lines in all files")
    assert turns > 1


def test_refused_when_the_folder_is_gone_and_the_old_files_stay(
    served: Daemon, connect: Connect, place: Place
) -> None:
    client = connect()
    client.get("/a?1")
    served.access_lines(1, "logs/access.log")
    served.expect("logs not reopened")
    (place.path / "logs").rename(place.path / "moved")
    done = served.ctl("reopen")
    assert (done.returncode, done.stdout) == (1, "")
    assert "logs/access.log" in done.stderr
    client.get("/a?2")
    assert "?2" in served.access_lines(2, "moved/access.log")[1]
    (place.path / "logs").mkdir()
    assert served.call("reopen")["code"] == 0
    client.get("/a?3")
    assert "?3" in served.access_lines(1, "logs/access.log")[0]
    served.error_log = place.path / "moved/error.log"


def test_draining_workers_follow_too(served: Daemon, place: Place) -> None:
    with place.write("www/large").open("r+b") as file:
        file.truncate(20_000_000)
    with Client(("127.0.0.1", served.port), receive_buffer=65536) as client:
        client.send(request("/large"))
        eventually(lambda: any(worker["requests"] for worker in served.status()["workers"]), "the request is in work")
        served.reload()
        _move(place)
        assert served.call("reopen")["code"] == 0
        assert client.read().status == 200
    assert "/large" in served.access_lines(1, "logs/access.log")[0]
