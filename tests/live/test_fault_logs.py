"""Faults G of the table in README.md: full disks, readers that stand still, rotations by others."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import threading
from pathlib import Path

import pytest

from live import scenarios
from live.client import Client, request
from live.conftest import needs_root
from live.daemon import Daemon, Place, eventually
from live.isolation import NEW_MOUNTS, apart, command, injected, needs
from live.scenarios import SITE, ask

_LONG = 20_000  # bytes of a URL


@pytest.fixture
def files(place: Place) -> Place:
    scenarios.furnish(place)
    (place.path / "logs").mkdir()
    return place


def _ask(daemon: Daemon, count: int, text: str = "") -> None:
    """Requests on one connection, each answered; `text` stands in the log."""
    with Client(("127.0.0.1", daemon.port)) as client:
        for _ in range(count):
            assert client.get("/a", f"User-Agent: {text}").body == b"the a"


def _dropped(daemon: Daemon) -> int:
    return sum(worker["dropped_log_lines"] for worker in daemon.status()["workers"])


def _lines(path: Path) -> list[str]:
    return path.read_text("latin-1").splitlines()


@needs_root
def test_a_full_disk_loses_lines_and_no_request(files: Place, daemon: Daemon) -> None:
    """G1: a file system of 64 KiB for the log."""
    log = files.path / "logs/access.log"

    def body() -> None:
        command("mount", "-t", "tmpfs", "-o", "size=64k,mode=755", "none", files.path / "logs")
        daemon.configure(SITE, server="workers = 1", log='access = "logs/access.log"')
        daemon.start()
        daemon.expect("log lines were lost")
        assert daemon.stderr is not None
        asked = 0
        while not _dropped(daemon):
            _ask(daemon, 20, "u" * 1000)
            asked += 20
        os.truncate(log, 0)
        # What is still on its way fits now; the next line that is written tells that the outage is over.
        _ask(daemon, 1, "afterwards")
        line = daemon.stderr.wait("log lines were lost")
        lost = int(re.findall(r"lines=(\d+)", line)[0])
        assert 0 < lost <= asked
        eventually(lambda: "afterwards" in log.read_text(), "lines are written again")
        _ask(daemon, 10, "later")
        eventually(lambda: _dropped(daemon) == lost, "the status says how many")
        eventually(lambda: log.read_text().count("later") == 10, "all lines are written again")
        assert len(daemon.stderr.find("log lines were lost")) == 1

    apart(NEW_MOUNTS, body)


def test_a_file_that_may_not_grow_is_a_full_disk(files: Place, daemon: Daemon) -> None:
    """G1 for everybody: RLIMIT_FSIZE; the signal that comes with it is ignored."""
    log = files.path / "logs/access.log"
    daemon.configure(SITE, server="workers = 1", log='access = "logs/access.log"')
    daemon.start(before=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.RLIM_INFINITY)))
    daemon.expect("log lines were lost")
    assert daemon.stderr is not None
    while not _dropped(daemon):
        _ask(daemon, 50, "u" * 1000)
    assert log.stat().st_size == 65536
    log.rename(log.with_suffix(".1"))
    assert daemon.call("reopen")["code"] == 0
    _ask(daemon, 1, "afterwards")
    daemon.stderr.wait("log lines were lost")
    eventually(lambda: "afterwards" in log.read_text(), "lines are written again")


@needs("strace")
def test_a_disk_with_errors_is_a_full_disk(files: Place, daemon: Daemon) -> None:
    """G9: EIO for ten writes to the log."""
    log = files.path / "logs/access.log"
    daemon.configure(SITE, server="workers = 1", log='access = "logs/access.log"')
    daemon.start()
    daemon.expect("log lines were lost")
    worker = daemon.workers()[0]
    with injected(worker, "-P", str(log), "-e", "trace=write", "-e", "inject=write:error=EIO:when=1..10"):

        def said() -> list[str]:
            _ask(daemon, 5)
            assert daemon.stderr is not None
            return daemon.stderr.find("log lines were lost")

        line = eventually(said, "the outage is over")[0]
    assert int(re.findall(r"lines=(\d+)", line)[0]) > 0
    assert daemon.workers() == [worker]


def _stderr(fd: int) -> None:
    os.dup2(fd, 2)


def test_an_error_log_that_nobody_reads_holds_nobody_up(files: Place, daemon: Daemon) -> None:
    """G2: stderr is a pipe that is full, for the master and for the workers."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while os.write(writer, b"-" * 4096):
            pass
    os.set_blocking(writer, True)
    try:
        daemon.configure(SITE, log='level = "debug"', server="workers = 1")
        daemon.start(before=lambda: _stderr(writer))
        for _ in range(2):
            with Client(("127.0.0.1", daemon.port)) as client:
                assert client.send(b"nonsense\r\n\r\n").read().status == 400
            daemon.reload()
        with Client(("127.0.0.1", daemon.port)) as client:
            ask(client)
        assert daemon.status()["state"] == "running"
    finally:
        os.close(writer)
        os.close(reader)  # or the end would be held up for the time that last lines are given


def test_a_copy_and_truncate_leaves_no_hole(files: Place, daemon: Daemon) -> None:
    """G6: what logrotate's copytruncate does."""
    log = files.path / "logs/access.log"
    daemon.configure(SITE, log='access = "logs/access.log"')
    daemon.start()
    for turn in range(3):
        _ask(daemon, 20, f"turn{turn}")
        eventually(lambda: len(_lines(log)) == 20, "all lines are there")
        shutil.copyfile(log, log.with_suffix(f".{turn}"))
        os.truncate(log, 0)
    _ask(daemon, 5, "last")
    eventually(lambda: len(_lines(log)) == 5, "the last lines are there")
    assert b"\0" not in log.read_bytes()


def test_long_lines_of_many_workers_stay_whole(files: Place, daemon: Daemon) -> None:
    """G7: URLs of 20 kB, longer than what a pipe keeps in one piece."""
    log = files.path / "logs/access.log"
    daemon.configure(
        SITE + '[limits]\nrequest_line = "32KiB"\nhead = "64KiB"\n', server="workers = 8",
        log='access = "logs/access.log"\nformat = "%U %q %s"',
    )  # fmt: skip
    daemon.start()

    def asking(name: str) -> None:
        for _ in range(10):
            with Client(("127.0.0.1", daemon.port)) as client:
                client.send(request(f"/a?{name * _LONG}")).read()

    threads = [threading.Thread(target=asking, args=(name,)) for name in "abcdefghijkl"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    eventually(lambda: len(_lines(log)) == 120, "all lines are there")
    shapes = {re.sub(r"(.)\1{19999}", r"\1", line) for line in _lines(log)}
    assert shapes == {f"/a ?{name} 200" for name in "abcdefghijkl"}
