"""Faults G of tests/live/README.md with their real durations and numbers."""

from __future__ import annotations

import os
import time

from live.daemon import Daemon, Place, eventually
from live.load import Load
from live.scenarios import SITE


def test_rotations_under_load_lose_no_line(files: Place, daemon: Daemon) -> None:
    """G4: a minute of `mv` and `reopen`; behind each the old file does not grow any more."""
    folder = files.path / "logs"
    folder.mkdir()
    daemon.configure(SITE, log='access = "logs/access.log"')
    daemon.start()
    closed: dict[str, int] = {}
    with Load(daemon.port, {"/a": b"the a"}) as load:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            old = folder / f"access.{len(closed)}"
            (folder / "access.log").rename(old)
            assert daemon.call("reopen")["code"] == 0
            closed[old.name] = old.stat().st_size
            load.more(50)
    assert not load.report.lost, load.report
    assert {name: (folder / name).stat().st_size for name in closed} == closed

    def lines() -> int:
        return sum(file.read_bytes().count(b"\n") for file in folder.iterdir())

    eventually(lambda: lines() >= load.report.answers, "a line for every answer")
    # The load begins with one connection that only looks whether anybody answers; a request of a client that had to ask
    # again is not answered and not logged.
    assert lines() - load.report.answers <= 1


def test_a_stop_with_an_error_log_that_nobody_reads(files: Place, daemon: Daemon) -> None:
    """G2, J7: what can't be written holds the end up for its limit, and no longer."""
    reader, writer = os.pipe()
    try:
        daemon.configure(SITE, log='level = "debug"')
        daemon.start(before=lambda: _stderr(writer))
        with Load(daemon.port, {"/a": b"the a"}) as load:
            for _ in range(200):
                daemon.reload()
            load.more(50)
        assert not load.report.lost, load.report
        daemon.signal("TERM")
        assert daemon.wait() == 0
    finally:
        os.close(reader)
        os.close(writer)


def _stderr(fd: int) -> None:
    os.dup2(fd, 2)
