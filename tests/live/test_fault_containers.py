"""Faults J of the table in README.md: PID 1, read-only file systems, quotas, a frozen container."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from live import scenarios
from live.client import Client, request
from live.conftest import needs_root
from live.daemon import Daemon, Place, eventually
from live.isolation import NEW_MOUNTS, Contained, apart, command, control_group, join, needs
from live.scenarios import SITE, SIZE, ask, downloading


@pytest.fixture
def files(place: Place) -> Place:
    scenarios.furnish(place)
    return place


@pytest.fixture
def contained(files: Place) -> Iterator[Contained]:
    """A daemon that will be PID 1, not started yet."""
    made = Contained(files)
    try:
        yield made
    finally:
        made.close()


def _inside(outer: int) -> list[str]:
    """The states of all processes in the PID namespace whose first process is `outer`, without it."""
    own = Path(f"/proc/{outer}/ns/pid").readlink()
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != outer:
            with contextlib.suppress(OSError):
                if (entry / "ns/pid").readlink() == own:
                    found.append(scenarios.state(int(entry.name)))
    return found


@needs_root
@needs("nsenter")
def test_pid_1_reaps_strangers_and_ends_by_term(contained: Contained) -> None:
    """J1, J2: orphans of others end with codes that mean something here; they are nobody's workers."""
    contained.configure(SITE)
    contained.start()
    assert contained.status()["pid"] == 1
    assert contained.stderr is not None
    workers = contained.workers()
    for code in (0, 3, 4, 70, 77, 255):
        orphan = f"(sleep 0.01; exit {code}) & exit 0"
        command("nsenter", "--target", str(contained.pid), "--pid", "sh", "-c", orphan)
    eventually(lambda: len(_inside(contained.pid)) == len(workers), "no orphan is left, not even as a zombie")
    assert contained.workers() == workers
    assert contained.status()["state"] == "running"
    with downloading(contained) as client:
        contained.signal("TERM")
        contained.stderr.wait("stopping")
        assert len(client.read().body) == SIZE
    assert contained.wait() == 0


@needs_root
def test_what_an_earlier_container_left_is_no_obstacle(contained: Contained) -> None:
    """J3: pid 1 in the files is this process' own pid, and the socket is nobody's."""
    contained.configure(SITE)
    contained.run_dir.mkdir(mode=0o755)
    for name in ("httpd.pid", "httpd.lock"):
        (contained.run_dir / name).write_text("1\n")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(contained.run_dir / "control.sock"))
    contained.start()
    assert contained.status()["state"] == "running"
    assert contained.ctl("stop").returncode == 0
    assert contained.wait() == 0
    assert scenarios.left(contained) == []


@needs_root
def test_a_file_system_that_is_read_only(files: Place, daemon: Daemon) -> None:
    """J4: all of it but the folder of run_dir and logs; /dev/shm and /tmp are there for nobody."""

    def body() -> None:
        command("mount", "--bind", files.path, files.path)
        command("mount", "-t", "tmpfs", "-o", "ro", "none", "/dev/shm")
        command("mount", "-o", "remount,ro,bind", "/")
        for path in ("/tmp/x", "/dev/shm/x", "/x", "/var/tmp/x"):
            with pytest.raises(OSError):
                Path(path).write_text("")
        daemon.configure(SITE)
        daemon.start()
        with Client(("127.0.0.1", daemon.port)) as client:
            ask(client)
            daemon.reload()
            assert client.send(request("/a", method="POST", body=b"x" * 200_000)).read().status == 405
        assert daemon.call("reopen")["code"] == 0

    apart(NEW_MOUNTS, body)


@pytest.fixture
def half_a_cpu() -> Iterator[Path]:
    with control_group("cpu", "cpu") as group:
        if (group / "cpu.max").exists():
            (group / "cpu.max").write_text("50000 100000")
        else:
            (group / "cpu.cfs_period_us").write_text("100000")
            (group / "cpu.cfs_quota_us").write_text("50000")
        yield group


@pytest.fixture
def few_pids() -> Iterator[Path]:
    with control_group("pids", "pids") as group:
        yield group


def test_half_a_cpu_is_one_worker(half_a_cpu: Path, files: Place, daemon: Daemon) -> None:
    """J5: "auto" goes by the quota, not by the number of processors of the machine."""
    daemon.configure(SITE, server='workers = "auto"')
    daemon.start(before=lambda: join(half_a_cpu))
    assert len(daemon.workers()) == 1
    with Client(("127.0.0.1", daemon.port)) as client:
        ask(client)


def test_no_room_for_more_processes_is_told_and_survived(few_pids: Path, files: Place, daemon: Daemon) -> None:
    """J6: no further worker can start, a reload is refused, and who is there serves on; with room it all works."""
    daemon.configure(SITE, server="workers = 2\nmax_workers = 8")
    daemon.start(before=lambda: join(few_pids))
    daemon.expect("cannot start a worker", "reload", "can't|cannot")
    assert daemon.stderr is not None
    with Client(("127.0.0.1", daemon.port)) as client:
        ask(client)
        (few_pids / "pids.max").write_text((few_pids / "pids.current").read_text())
        assert daemon.call("reload")["code"] in (1, 6)
        daemon.signal("TTIN")
        daemon.stderr.wait("cannot start a worker.*Resource temporarily unavailable")
        ask(client)
        with Client(("127.0.0.1", daemon.port)) as fresh:
            ask(fresh)
        assert daemon.status()["state"] == "degraded"
        (few_pids / "pids.max").write_text("max")
        eventually(lambda: len(daemon.workers()) == 3, "the third worker starts when there is room")
        ask(client)
    daemon.reload()
    assert daemon.status()["state"] == "running"


def test_the_last_lines_reach_a_reader_that_is_slow(files: Place, daemon: Daemon) -> None:
    """J7: stdout is the log, its pipe is full, and who reads it takes its time, also behind TERM."""
    reader, writer = os.pipe()
    count = 600
    daemon.configure(SITE, server="workers = 1", log='access = "-"')
    try:
        daemon.start(before=lambda: _stdout(writer))
    finally:
        os.close(writer)
    with Client(("127.0.0.1", daemon.port)) as client:
        for _ in range(count):
            assert client.get("/a", f"User-Agent: {'u' * 500}").status == 200
    daemon.signal("TERM")
    lines = 0
    with open(reader, "rb", buffering=0) as pipe:
        while data := pipe.read(4096):
            lines += data.count(b"\n")
    assert daemon.wait() == 0
    assert lines == count


def _stdout(fd: int) -> None:
    os.dup2(fd, 1)


@pytest.mark.parametrize("first", ["anybody", "anybody again", "the workers"])
def test_term_for_all_at_once_is_still_graceful(files: Place, daemon: Daemon, first: str) -> None:
    """J9: `kill -TERM -1`, `tini -g`, KillMode=control-group.  What is in the queue is answered, whoever is first."""
    daemon.configure(SITE)
    daemon.start()
    daemon.expect("TERM from outside|told to end from outside")
    assert daemon.stderr is not None
    address = ("127.0.0.1", daemon.port)
    with contextlib.ExitStack() as stack:
        download = stack.enter_context(downloading(daemon))
        workers = daemon.workers()
        for pid in (*workers, daemon.pid) if first == "the workers" else workers:
            os.kill(pid, signal.SIGSTOP)
        queued = [stack.enter_context(Client(address)).send(request("/a")) for _ in range(20)]
        os.killpg(daemon.pid, signal.SIGTERM)
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        if first == "the workers":
            daemon.stderr.wait("TERM from outside", len(workers))
            queued += [stack.enter_context(Client(address)).send(request("/a")) for _ in range(20)]
            daemon.signal("CONT")
        for client in queued:
            assert client.read().body == b"the a"
            client.close()
        assert len(download.read().body) == SIZE
    assert daemon.wait() == 0
    assert scenarios.left(daemon) == []
