"""The ways to end: after the requests or at once, always with exit code 0 and nothing left behind."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from live.client import Client, request
from live.conftest import Connect
from live.daemon import Daemon, Place, eventually

_SIZE = 20_000_000


@pytest.fixture
def served(place: Place, daemon: Daemon) -> Daemon:
    place.write("www/a", b"the a")
    with place.write("www/large").open("r+b") as file:
        file.truncate(_SIZE)
    daemon.configure('[[vhost]]\nroot = "www"\n')
    return daemon.start()


def _downloading(daemon: Daemon) -> Client:
    """A client in the middle of a download that it does not read on."""
    client = Client(("127.0.0.1", daemon.port), receive_buffer=65536).send(request("/large"))
    eventually(lambda: any(worker["requests"] for worker in daemon.status()["workers"]), "the request is in work")
    return client


def _left(daemon: Daemon) -> list[str]:
    return sorted(entry.name for entry in daemon.run_dir.iterdir() if entry.name not in ("httpd.lock", "empty"))


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_a_graceful_stop_lets_a_download_finish(served: Daemon, name: str) -> None:
    with _downloading(served) as client:
        served.signal(name)
        eventually(lambda: _refused(served.port), "no new connections")
        assert served.process is not None
        assert served.process.poll() is None
        assert len(client.read().body) == _SIZE
        assert client.closed()
    assert served.wait() == 0
    assert _left(served) == []


def test_what_is_queued_is_answered(served: Daemon) -> None:
    clients = [Client(("127.0.0.1", served.port)).send(request("/a")) for _ in range(100)]
    served.signal("TERM")
    for client in clients:
        assert client.read().body == b"the a"
        client.close()
    assert served.wait() == 0


def test_a_second_int_stops_now(served: Daemon) -> None:
    assert served.stderr is not None
    with _downloading(served):
        served.signal("INT")
        served.stderr.wait("stopping")
        served.signal("INT")
        assert served.wait() == 0
    assert _left(served) == []


def test_a_second_term_changes_nothing(served: Daemon) -> None:
    assert served.stderr is not None
    with _downloading(served) as client:
        served.signal("TERM")
        served.stderr.wait("stopping")
        served.signal("TERM")
        served.stderr.wait("signal name=TERM", 2)
        assert len(client.read().body) == _SIZE
    assert served.wait() == 0


def test_quit_stops_now(served: Daemon) -> None:
    with _downloading(served):
        served.signal("QUIT")
        assert served.wait() == 0
    assert _left(served) == []


def test_stop_now_by_command(served: Daemon) -> None:
    with _downloading(served):
        done = served.ctl("stop", "--now")
        assert (done.returncode, done.stdout) == (0, "stopped\n")
        assert served.wait() == 0


def test_the_command_waits_for_the_end(served: Daemon) -> None:
    with _downloading(served) as client:
        waiting = served.ctl("--timeout", "0.3", "stop")
        assert waiting.returncode == 5
        assert "still in progress" in waiting.stderr
        assert len(client.read().body) == _SIZE
    assert served.wait() == 0
    after = served.ctl("stop")
    assert after.returncode == 3


def test_behind_the_command_a_new_start_works_at_once(served: Daemon, connect: Connect) -> None:
    assert served.ctl("stop").returncode == 0
    second = Daemon(served.place)
    second._notify, served._notify = served._notify, None
    second.file = served.file
    try:
        second.start()
        with Client(("127.0.0.1", second.port)) as client:
            assert client.get("/a").body == b"the a"
    finally:
        second.close()
    assert served.wait() == 0


def test_the_drain_time_is_kept(place: Place, daemon: Daemon) -> None:
    with place.write("www/large").open("r+b") as file:
        file.truncate(_SIZE)
    daemon.configure('[[vhost]]\nroot = "www"\n[timeouts]\ndrain = "300ms"\n')
    daemon.start()
    with _downloading(daemon):
        daemon.signal("TERM")
        assert daemon.wait() == 0


def test_stop_delay_goes_on_accepting(place: Place, daemon: Daemon, connect: Connect) -> None:
    place.write("www/a", b"the a")
    daemon.configure('[[vhost]]\nroot = "www"\n[timeouts]\nstop_delay = "60s"\n')
    daemon.start()
    assert daemon.stderr is not None
    daemon.signal("TERM")
    daemon.stderr.wait("stopping")
    assert connect().get("/a").body == b"the a"
    daemon.signal("QUIT")
    assert daemon.wait() == 0


def _children(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []


_MOMENTS: dict[str, Callable[[Daemon], object]] = {
    "the check runs": lambda daemon: _children(daemon.pid),
    "the run folder is there": lambda daemon: daemon.run_dir.exists(),
    "the lock is there": lambda daemon: (daemon.run_dir / "httpd.lock").exists(),
    "the pid file is there": lambda daemon: (daemon.run_dir / "httpd.pid").exists(),
    "the control socket is there": lambda daemon: (daemon.run_dir / "control.sock").exists(),
    "the logs are open": lambda daemon: (daemon.place.path / "access.log").exists(),
    "a worker is there": lambda daemon: (daemon.run_dir / "control.sock").exists() and _children(daemon.pid),
    "two workers are there": lambda daemon: len(_children(daemon.pid)) > 1,
}


@pytest.mark.parametrize(
    ("name", "moment"),
    [*(("TERM", moment) for moment in _MOMENTS), ("INT", "the check runs"), ("QUIT", "a worker is there")],
)
def test_a_signal_during_the_start_ends_it(place: Place, daemon: Daemon, name: str, moment: str) -> None:
    daemon.configure('[[vhost]]\nroot = "www"\n')
    process = daemon.spawn()
    until = time.monotonic() + 20
    while not _MOMENTS[moment](daemon):
        assert process.poll() is None
        assert time.monotonic() < until, moment
        os.sched_yield()
    daemon.signal(name)
    assert daemon.wait() == 0
    assert not daemon.run_dir.exists() or _left(daemon) == []


def _refused(port: int) -> bool:
    try:
        Client(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return True
    return False
