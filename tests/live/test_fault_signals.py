"""Faults A of the table in README.md: signals at every moment, a strange start, a master that is killed or stopped."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from live import scenarios
from live.client import Client, request
from live.conftest import Connect
from live.daemon import Daemon, Place, StartFailed, eventually
from live.isolation import preload
from live.load import Load
from live.scenarios import SITE, SIZE, ask, children, downloading, left, over, state

_HEARTBEAT = '[timeouts]\nheartbeat = "1s"\n'
_REDIRECT = '[[vhost.redirect]]\nfrom = "/x"\nto = "/a"\n'
_HELD = 1.5  # seconds that processes are stopped for: more than a heartbeat

# Ignored, or what docs/control.md says; those that mean a defect (SEGV, ABRT ...) or the end are not among them.
_HARMLESS = sorted(
    signal.valid_signals()
    - {signal.SIGKILL, signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT}
    - {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP, signal.SIGSYS}
)


@pytest.fixture
def files(place: Place) -> Place:
    scenarios.furnish(place)
    return place


@contextlib.contextmanager
def _a_reload_under_way(daemon: Daemon, then: str) -> Iterator[None]:
    """A reload whose check gets `then` to read, and not before the end; for the next one the file is `then` as well.

    The file is a FIFO meanwhile, so the check waits for as long as it takes.
    """
    daemon.configure(then)
    text = daemon.file.read_bytes()
    later = daemon.file.with_suffix(".later")
    daemon.file.rename(later)
    os.mkfifo(daemon.file)
    daemon.signal("HUP")
    writer = eventually(lambda: _writer(daemon.file), "the check reads the file")
    try:
        yield
        later.rename(daemon.file)
        os.set_blocking(writer, True)
        with contextlib.suppress(BrokenPipeError):  # a stop has put an end to the check
            os.write(writer, text)
    finally:
        os.close(writer)


def _writer(fifo: Path) -> int:
    with contextlib.suppress(OSError):  # ENXIO: nobody reads yet
        return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
    return 0


def test_a_thousand_hups_are_two_reloads(files: Place, daemon: Daemon) -> None:
    """A1: all come while the check of the first is held up, so that it can't be over before the last is sent."""
    daemon.configure(SITE)
    daemon.start()
    assert daemon.stderr is not None
    with Load(daemon.port, {"/a": b"the a"}) as load:
        with _a_reload_under_way(daemon, SITE + _REDIRECT):
            for _ in range(1000):
                daemon.signal("HUP")
            daemon.stderr.wait("signal name=HUP", 2)
        daemon.stderr.wait(": reloaded generation=3")
        load.more(100)
    assert not load.report.lost, load.report
    with Client(("127.0.0.1", daemon.port)) as client:
        assert client.get("/x").status == 308
    status = daemon.status()
    assert status["generation"] == 3
    eventually(lambda: len(daemon.status()["workers"]) == 2, "as many workers as before")
    assert len(daemon.stderr.find(": reloaded generation=")) == 2


@pytest.mark.parametrize("seed", range(8))
def test_term_at_a_random_moment_of_the_start(daemon: Daemon, seed: int) -> None:
    """A2; at chosen moments: test_stop.py::test_a_signal_during_the_start_ends_it."""
    scenarios.term_during_start(daemon, seed, 0.3)


def test_a_stop_goes_before_a_reload_whose_check_runs(files: Place, daemon: Daemon) -> None:
    """A3, first half."""
    daemon.configure(SITE)
    daemon.start()
    assert daemon.stderr is not None
    with downloading(daemon) as client:
        with _a_reload_under_way(daemon, SITE):
            daemon.signal("TERM")
            daemon.stderr.wait("stopping")
        assert len(client.read().body) == SIZE
    assert daemon.wait() == 0
    assert not daemon.stderr.find("reloaded")
    assert left(daemon) == []


def test_a_stop_goes_before_a_reload_whose_workers_start(files: Place, daemon: Daemon) -> None:
    """A3, second half: the new worker is caught between its fork and its first word."""
    daemon.configure(SITE)
    daemon.start()
    daemon.expect("reload ")  # those before the one that is caught may be anything
    assert daemon.stderr is not None
    with downloading(daemon) as client:
        caught = eventually(lambda: scenarios.caught_starting(daemon), "a new worker is stopped while it starts", 60)
        daemon.signal("TERM")
        daemon.stderr.wait("stopping")
        os.kill(caught, signal.SIGCONT)
        assert len(client.read().body) == SIZE
    assert daemon.wait() == 0
    lines = daemon.stderr.all()
    stopping = next(number for number, line in enumerate(lines) if "stopping" in line)
    assert not [line for line in lines[stopping:] if "reloaded" in line or "worker ended" in line]
    assert left(daemon) == []


def test_a_reload_during_a_stop_is_refused_and_delays_nothing(files: Place, daemon: Daemon) -> None:
    """A4."""
    daemon.configure(SITE)
    daemon.start()
    assert daemon.stderr is not None
    with downloading(daemon) as client:
        daemon.signal("TERM")
        daemon.stderr.wait("stopping")
        before = children(daemon.pid)
        daemon.signal("HUP")
        daemon.stderr.wait("signal name=HUP")
        assert len(client.read().body) == SIZE
        assert set(children(daemon.pid)) <= set(before)
    assert daemon.wait() == 0
    assert not daemon.stderr.find("reloaded")


@pytest.mark.parametrize("name", ["TERM", "QUIT"])
def test_signals_up_to_the_last_moment(place: Place, daemon: Daemon, name: str) -> None:
    """A5: whoever repeats himself, down to the end of the interpreter, does not change the exit code."""
    daemon.configure(SITE, server="workers = 1")
    process = daemon.start().process
    assert process is not None
    daemon.expect("refused")
    daemon.signal("TERM")
    while process.poll() is None:
        daemon.signal(name)
    assert daemon.wait() == 0
    assert left(daemon) == []


def test_no_harmless_signal_ends_the_master(files: Place, daemon: Daemon, connect: Connect) -> None:
    """A7.  Whatever a timer, a terminal or a stranger's typing error may send."""
    daemon.configure(SITE)
    daemon.expect("upgrade is not available", "worker count not changed", "can't|refused")
    daemon.start()
    for number in _HARMLESS:
        os.kill(daemon.pid, number)
        os.kill(daemon.pid, signal.SIGCONT)
        assert daemon.status()["state"] in ("running", "degraded"), number
        assert connect().get("/a").body == b"the a"


def test_inherited_dispositions_do_not_matter(files: Place, daemon: Daemon) -> None:
    """A8."""

    def strange() -> None:
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP))

    daemon.configure(SITE, log='access = "log"')
    daemon.start(before=strange)
    daemon.expect("worker ended")
    assert daemon.stderr is not None
    lost = daemon.workers()[0]
    os.kill(lost, signal.SIGKILL)
    daemon.stderr.wait(f"worker ended.*worker={lost} .*SIGKILL")
    eventually(lambda: state(lost) == "gone", "it is reaped")
    eventually(lambda: len(daemon.workers()) == 2, "it is replaced")
    daemon.signal("HUP")
    daemon.stderr.wait("reloaded")
    with Client(("127.0.0.1", daemon.port)) as client:
        ask(client)
    (files.path / "log").rename(files.path / "log.1")
    daemon.signal("USR1")
    eventually((files.path / "log").exists, "the log is opened again")
    daemon.signal("TERM")
    assert daemon.wait() == 0


def test_closed_standard_descriptors_are_never_a_clients(files: Place, daemon: Daemon) -> None:
    """A9."""
    daemon.configure(SITE, log='error = "error.log"\nlevel = "debug"')
    daemon.start(before=lambda: os.closerange(0, 3))
    address = ("127.0.0.1", daemon.port)
    with contextlib.ExitStack() as stack:
        for _ in range(20):
            assert stack.enter_context(Client(address)).get("/a").body == b"the a"
        for pid in (daemon.pid, *daemon.workers()):
            assert [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in range(3)] == ["/dev/null"] * 3
        with Client(address) as client:
            assert client.send(b"nonsense\r\n\r\n").read().status == 400
    eventually(lambda: "refused" in (files.path / "error.log").read_text(), "a line in the error log")


def test_a_killed_master_under_load(files: Place, daemon: Daemon) -> None:
    """A10: who was connected gets his answers, also who only waits in the queue; then the port is free.

    A new start: test_orphans.py.
    """
    daemon.configure(SITE)
    daemon.start()
    daemon.expect("the master is gone")
    workers = daemon.workers()
    address = ("127.0.0.1", daemon.port)
    with contextlib.ExitStack() as stack:
        load = stack.enter_context(Load(address, {"/a": b"the a"}, kinds=("keep-alive", "one-shot", "slow")))
        load.more(100)
        for pid in workers:
            os.kill(pid, signal.SIGSTOP)
        queued = [stack.enter_context(Client(address)).send(request("/a")) for _ in range(20)]
        killed = time.monotonic()
        daemon.signal("KILL")
        daemon.wait()
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        for client in queued:
            assert client.read().body == b"the a"
            client.close()
        eventually(lambda: all(over(pid) for pid in workers), "the orphans are gone")
        with socket.socket() as other:
            other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            other.bind(address)
    assert not [loss for loss in load.report.lost if loss.opened < killed], load.report


def test_an_orphan_with_a_request_ends_at_the_drain_limit(files: Place, daemon: Daemon) -> None:
    """A11: nobody is left who would kill it."""
    daemon.configure(SITE + '[timeouts]\nbody = "400ms"\ndrain = "300ms"\n')
    daemon.start()
    daemon.expect("the master is gone")
    workers = daemon.workers()
    with downloading(daemon):
        daemon.signal("KILL")
        daemon.wait()
        eventually(lambda: all(over(pid) for pid in workers), "the orphans are gone")


def test_a_stopped_master_is_not_missed_and_kills_nobody_when_it_wakes(files: Place, daemon: Daemon) -> None:
    """A12."""
    daemon.configure(SITE + _HEARTBEAT)
    scenarios.master_stopped(daemon.start(), _HELD)


def test_everybody_is_stopped_and_nobody_is_killed_for_it(files: Place, daemon: Daemon) -> None:
    """A13: the lid of a laptop, a machine that is moved."""
    daemon.configure(SITE + _HEARTBEAT)
    group = daemon.start().pid
    scenarios.everybody_stopped(
        daemon, _HELD, lambda: os.killpg(group, signal.SIGSTOP), lambda: os.killpg(group, signal.SIGCONT)
    )


_CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *shift;  /* seconds; a file that the test writes */

__attribute__((constructor)) static void begin(void) {
    int fd = open(getenv("SHIM_SHIFT"), O_RDONLY);
    shift = mmap(0, 8, PROT_READ, MAP_SHARED, fd, 0);
    close(fd);
}

int clock_gettime(clockid_t clock, struct timespec *ts) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, ts);
    if (!result && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) ts->tv_sec += *shift;
    return result;
}

time_t time(time_t *where) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    if (where) *where = ts.tv_sec;
    return ts.tv_sec;
}

int gettimeofday(struct timeval *tv, void *zone) {
    struct timespec ts;
    clock_gettime(CLOCK_REALTIME, &ts);
    tv->tv_sec = ts.tv_sec;
    tv->tv_usec = ts.tv_nsec / 1000;
    return 0;
}
"""


def test_a_jump_of_the_clock_ends_nothing(files: Place, daemon: Daemon) -> None:
    """A14: a day forward, then back behind the start.  Time-outs go by the other clock; stamps follow."""
    shim = preload(files.path, _CLOCK)
    shift = files.write("shift", bytes(8))
    files.write("www/dated", b"x")
    daemon.configure(SITE + '[timeouts]\nheartbeat = "1s"\nkeepalive = "600s"\nhead = "600s"\n')
    daemon.start(environ={"LD_PRELOAD": shim, "SHIM_SHIFT": str(shift)})
    workers = daemon.workers()
    address = ("127.0.0.1", daemon.port)
    with shift.open("r+b") as file, mmap.mmap(file.fileno(), 8) as now, Client(address) as idle, \
            Client(address) as half:  # fmt: skip
        ask(idle)
        half.send(request("/a")[:20])
        for days in (1, -1, 0):
            now[:] = struct.pack("q", days * 86400)
            date = eventually(lambda: _dated(address, days), "the Date field follows")  # noqa: B023
            assert abs(_epoch(date) - time.time() - days * 86400) < 600
            ask(idle)
            status = daemon.status()
            assert 0 <= status["uptime"] < 600, (days, status["uptime"])
        assert half.send(request("/a")[20:]).read().body == b"the a"
        assert not (set(workers) ^ set(daemon.workers()))
    eventually(lambda: len(daemon.access_lines(7)) >= 7, "all is logged")
    stamps = {re.findall(r"\[(\d\d)/", line)[0] for line in daemon.access_lines(4)}
    assert len(stamps) >= 3, stamps
    daemon.signal("TERM")
    assert daemon.wait() == 0


def _epoch(date: str) -> float:
    return parsedate_to_datetime(date).timestamp()


def _dated(address: tuple[str, int], days: int) -> str:
    with Client(address) as client:
        date = client.get("/a")["Date"]
    return date if round((_epoch(date) - time.time()) / 86400) == days else ""


@pytest.mark.parametrize("found", ["own", "stranger", "folder"])
def test_what_the_pid_file_says_does_not_matter(place: Place, daemon: Daemon, found: str) -> None:
    """A17: the lock decides.  Only what can't be a file is refused, by name.  More: tests/unit/system."""
    daemon.configure(SITE, server="workers = 1")
    daemon.run_dir.mkdir(mode=0o755)
    names = [daemon.run_dir / "httpd.pid", daemon.run_dir / "httpd.lock"]
    if found == "folder":
        names[0].mkdir()
        daemon.expect("httpd.pid: Is a directory")
        with pytest.raises(StartFailed, match=r"httpd\.pid") as failed:
            daemon.start()
        assert failed.value.code in (77, 78)
        return
    text = {"stranger": str(os.getpid())}.get(found, found)
    for name in names:
        name.write_text(text)

    def own() -> None:
        for name in names:
            name.write_text(f"{os.getpid()}\n")

    daemon.start(before=own if found == "own" else None)
    assert [name.read_text().splitlines()[0] for name in names] == [str(daemon.pid)] * 2
    daemon.signal("TERM")
    assert daemon.wait() == 0
    assert not names[0].exists()


def test_a_pid_that_was_given_to_somebody_else_is_left_alone(place: Place, daemon: Daemon) -> None:
    """A18: after SIGKILL the files still name a pid, and by now it is a stranger's."""
    daemon.configure(SITE, server="workers = 1")
    daemon.start()
    daemon.expect("the master is gone")
    workers = daemon.workers()
    daemon.signal("KILL")
    daemon.wait()
    eventually(lambda: all(over(pid) for pid in workers), "the orphan is gone")
    stranger = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
    try:
        for name in ("httpd.pid", "httpd.lock"):
            (daemon.run_dir / name).write_text(f"{stranger.pid}\n")
        for words in (["stop"], ["stop", "--now"], ["reload"], ["status"]):
            done = daemon.ctl(*words)
            assert (done.returncode, done.stdout) == (3, ""), words
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_terminal_that_goes_is_a_reload(files: Place, daemon: Daemon) -> None:
    """A19, in the foreground with a file: HUP means reload, and what goes to the terminal is lost.

    Without a file: test_startup.py::test_a_folder_ends_with_its_terminal.
    """
    terminal, line = pty.openpty()

    def take() -> None:
        fcntl.ioctl(line, termios.TIOCSCTTY, 0)
        for fd in range(3):
            os.dup2(line, fd)

    daemon.configure(SITE)
    daemon.start(before=take)
    os.close(line)
    assert daemon.status()["generation"] == 1
    os.close(terminal)
    eventually(lambda: daemon.status()["generation"] == 2, "it has reloaded")
    with Client(("127.0.0.1", daemon.port)) as client:
        ask(client)
        assert client.send(b"nonsense\r\n\r\n").read().status == 400
    daemon.signal("TERM")
    assert daemon.wait() == 0


def test_a_stop_among_idle_connections(files: Place, daemon: Daemon) -> None:
    """A20, with 200; with ten thousand: tests/faults/test_signals.py."""
    daemon.configure(SITE + '[timeouts]\nbody = "1s"\nkeepalive = "600s"\n')
    daemon.start()
    scenarios.stop_among_idle(daemon, 200)
