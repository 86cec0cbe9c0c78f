"""What the service manager is told (sd_notify(3)): ready, reloading with its time, ready again, stopping."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from live.daemon import Daemon, Place

_SITE = '[[vhost]]\nroot = "www"\n'


@pytest.fixture
def served(place: Place, daemon: Daemon) -> Daemon:
    daemon.configure(_SITE)
    return daemon.start()


def _monotonic(text: str) -> int:
    return next(int(line.partition("=")[2]) for line in text.split("\n") if line.startswith("MONOTONIC_USEC="))


def test_ready_comes_when_workers_serve(served: Daemon) -> None:
    first = served.notified[0]
    assert first.startswith("READY=1\n")
    assert f"STATUS=generation 1, 2 workers on 127.0.0.1:{served.port}" in first
    assert len(served.notified) == 1


def test_a_reload_is_told_with_its_time_and_its_end(served: Daemon) -> None:
    before = time.monotonic_ns() // 1000
    served.reload()
    text = served.wait_notified("RELOADING=1")
    assert before <= _monotonic(text) <= time.monotonic_ns() // 1000
    assert "generation 2" in served.wait_notified("READY=1", 2)
    assert served.notified.index(text) == 1


def test_a_refused_reload_ends_too(served: Daemon) -> None:
    served.expect("reload refused")
    served.configure("broken")
    served.signal("HUP")
    assert _monotonic(served.wait_notified("RELOADING=1")) > 0
    ready = served.wait_notified("READY=1", 2)
    assert "generation 1" in ready
    assert "last reload refused" in ready


def test_every_reload_of_a_storm_ends(served: Daemon) -> None:
    for number in range(10):
        served.call("reload")
        served.wait_notified("READY=1", number + 2)  # read as they come: the kernel may keep no more than ten
    kinds = [text.split("=")[0] for text in served.notified]
    assert kinds == ["READY", *["RELOADING", "READY"] * 10]


def test_stopping(served: Daemon) -> None:
    served.signal("TERM")
    served.wait_notified("STOPPING=1")
    assert served.wait() == 0
    assert "READY=1" not in served.notified[-1]


def test_workers_can_not_speak_for_the_service(served: Daemon) -> None:
    for pid in served.workers():
        targets = [str(entry.readlink()) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        rows = Path("/proc/net/unix").read_text().splitlines()
        ours = [row.split()[6] for row in rows if row.endswith(str(served.place.path / "notify"))]
        assert not any(f"socket:[{inode}]" in targets for inode in ours)


def test_a_restart_is_a_reload_for_the_manager(served: Daemon) -> None:
    assert served.ctl("restart").returncode == 0
    assert _monotonic(served.wait_notified("RELOADING=1")) > 0
    served.wait_notified("READY=1", 2)
    assert not [text for text in served.notified if "STOPPING=1" in text]


def test_a_manager_that_is_gone_changes_nothing(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE)
    daemon.spawn(notify=False, environ={"HTTPD_TEST": "1"})
    assert daemon.stderr is not None
    daemon.stderr.wait(r"\[notice\] .*: serving")
    daemon.reload()
