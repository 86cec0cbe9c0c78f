"""Faults C of tests/live/README.md with their real durations and numbers: workers."""

from __future__ import annotations

import contextlib
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.client import Client, request
from live.daemon import Daemon, Place, eventually
from live.faults import DUMP, Faults
from live.load import Load, client_ports_of

_SITE = '[[vhost]]\nroot = "www"\n'
_FILES = {"/a": b"the a", "/b": b"b" * 3000, "/c": bytes(range(256)) * 200, "/large": bytes(range(256)) * 8000}
_MINUTE = 60.0  # seconds


@pytest.fixture
def site(place: Place) -> Place:
    for path, body in _FILES.items():
        place.write(f"www{path}", body)
    return place


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def test_a_kill_every_tenth_of_a_second_for_a_minute(site: Place, daemon: Daemon) -> None:
    """C1: the service stays up, only what the killed ones had in hand fails, and nothing is left of them."""
    daemon.configure(_SITE, server="workers = 4")
    daemon.start()
    daemon.expect("worker ended .*SIGKILL")
    chance = random.Random(1)
    kills = 0
    with Load(daemon.port, _FILES, patience=_MINUTE) as load:
        until = time.monotonic() + _MINUTE
        while time.monotonic() < until:
            serving = daemon.workers()
            if serving:
                load.kill(chance.choice(serving))
                kills += 1
            time.sleep(0.1)
        load.more(100, _MINUTE)
        eventually(
            lambda: len(daemon.workers()) == 4 and _children(daemon.pid) == set(daemon.workers()),
            "four workers, and no other child", _MINUTE,
        )  # fmt: skip
    assert not load.report.lost, load.report
    assert kills >= 20
    assert daemon.status()["state"] == "running"


def test_a_worker_that_computes_for_ever_ends_at_the_documented_time(site: Place, daemon: Daemon) -> None:
    """C9: with the default heartbeat of 30 s."""
    faults = Faults(site)
    daemon.expect("aborting worker", "worker ended", *DUMP)
    daemon.configure(_SITE)
    daemon.start(environ=faults.environ)
    assert daemon.stderr is not None
    load = Load(daemon.port, {"/a": b"the a"}, clients=10, rate=50, patience=2 * _MINUTE)
    with load, faults.on("spin"), Client(("127.0.0.1", daemon.port)) as client:
        client.send(request("/large"))
        eventually(faults.begun, "a worker spins")
        began = time.monotonic()
        (spinning,) = (pid for pid in daemon.workers() if _has(pid, client))
        # What it had taken before it began to spin gets no answer from it.
        load.forgive(client_ports_of(spinning))
        daemon.stderr.wait(f"aborting worker worker={spinning}", seconds=2 * _MINUTE)
        seconds = time.monotonic() - began
        daemon.stderr.wait("^\t.*sender.py")  # it is killed by then: when the fault is over it would go on
    assert 30 <= seconds <= 50, seconds
    assert not load.report.lost, load.report


def _has(pid: int, client: Client) -> bool:
    return client.sock.getsockname()[1] in client_ports_of(pid)


def test_idle_workers_hardly_wake_up(site: Place, daemon: Daemon) -> None:
    """C14: less than two wake-ups a second, and no processor time to speak of."""
    daemon.configure(_SITE)
    daemon.start()
    with Client(("127.0.0.1", daemon.port)) as client:
        assert client.get("/a").body == b"the a"
    pids = [daemon.pid, *daemon.workers()]
    time.sleep(5)
    before = {pid: _switches(pid) for pid in pids}
    time.sleep(_MINUTE)
    for pid in pids:
        switches, ticks = (now - then for now, then in zip(_switches(pid), before[pid], strict=True))
        assert switches / _MINUTE < 2, (pid, switches)
        assert ticks / os.sysconf("SC_CLK_TCK") / _MINUTE < 0.01, (pid, ticks)


def _switches(pid: int) -> tuple[int, int]:
    """How often all threads of a process went to sleep, and their processor time in ticks."""
    switches = ticks = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        text = (task / "status").read_text()
        switches += int(re.findall(r"^voluntary_ctxt_switches:\t(\d+)", text, re.MULTILINE)[0])
        ticks += sum(int(field) for field in (task / "stat").read_text().rpartition(")")[2].split()[11:13])
    return switches, ticks


def test_the_number_of_workers_changes_a_hundred_times(site: Place, daemon: Daemon) -> None:
    """C17."""
    daemon.configure(_SITE, server="workers = 2\nmax_workers = 8")
    daemon.start()
    chance = random.Random(17)
    with Load(daemon.port, _FILES) as load:
        for _ in range(100):
            count = chance.randint(1, 8)
            assert daemon.call("workers", count=count)["code"] == 0
            assert len(daemon.status()["workers"]) == count
    assert not load.report.lost, load.report
    eventually(lambda: _children(daemon.pid) == set(daemon.workers()), "no other child")


def test_starving_workers_are_not_taken_for_hanging_ones(site: Place, daemon: Daemon) -> None:
    """C18: all processors are taken for a minute, by others who go first where root says so."""
    daemon.configure('[timeouts]\nheartbeat = "2s"\n' + _SITE)
    daemon.start()
    daemon.expect("worker waits for a processor")
    before = daemon.workers()
    with _hogs(), Load(daemon.port, {"/a": b"the a"}, clients=10, rate=100, patience=2 * _MINUTE):
        time.sleep(_MINUTE)
    assert daemon.workers() == before
    assert daemon.status()["restarts"] == 0


@contextlib.contextmanager
def _hogs() -> Iterator[None]:
    """Twice as many processes as processors that do nothing else than computing."""
    def first() -> None:
        if os.geteuid() == 0:
            os.nice(-20)

    hogs = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"], preexec_fn=first)  # noqa: PLW1509 - one system call
        for _ in range(2 * (os.cpu_count() or 1))
    ]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
            hog.wait()
