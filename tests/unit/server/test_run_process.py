"""How the processes of scripts begin and end, with real ones; what comes of their answers is in test_run_cgi."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from httpd.server import run_process
from unit.server.test_run_cgi import FINE, ON, root, write
from unit.server.wire import LIMIT

__all__ = ["root"]  # the fixture

ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "PYTHONUNBUFFERED": "1"}
_PR_SET_CHILD_SUBREAPER = 36

SERVER = [sys.executable, "-m", "httpd.server", "--cgi", "-b", "127.0.0.1", "0"]


def until(true: Callable[[], bool]) -> None:
    """Wait until it is."""
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def start(script: str) -> run_process.Process:
    with open(os.devnull, "rb") as body:
        return run_process.start([b"/bin/sh", b"-c", script.encode()], {b"PATH": b"/usr/bin:/bin"}, "/", body, {})


def first_line(process: run_process.Process) -> str:
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def lives(pid: str) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


# In this process


def test_it_leads_a_group_and_is_let_go() -> None:
    process = start("echo $(ps -o pgid= $$)")
    with run_process.held(process):
        assert first_line(process) == str(process.pid)
        until(lambda: run_process.has_ended(process))
        os.kill(process.pid, 0)  # its number is still its own
    assert process.returncode == 0
    assert process not in run_process._running


def test_what_still_runs_is_ended_with_its_group() -> None:
    process = start(f"({ON}) & echo $!; {ON}")
    with run_process.held(process):
        other = first_line(process)
        assert lives(other)
    assert process.returncode == -signal.SIGTERM
    assert not lives(other)


def test_what_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_process, "GRACE", 0.3)
    process = start(f"(trap '' TERM; echo $(exec sh -c 'echo $PPID'); {ON}) & {ON}")
    with run_process.held(process):
        other = first_line(process)
    assert process.returncode == -signal.SIGTERM
    until(lambda: not lives(other))


def test_an_error_ends_it() -> None:
    process = start(ON)
    with pytest.raises(KeyboardInterrupt), run_process.held(process):
        raise KeyboardInterrupt
    assert process.returncode == -signal.SIGTERM


@pytest.fixture
def orphans_are_ours() -> Iterator[None]:
    """As under an init that never collects any: they become children of this process."""
    libc = ctypes.CDLL(None)
    assert libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    yield
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@pytest.mark.usefixtures("orphans_are_ours")
def test_a_zombie_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_process, "GRACE", LIMIT)
    process = start(f"({ON}) & echo $!; exec sleep {LIMIT}")  # which collects nobody
    with run_process.held(process):
        other = first_line(process)
        began = time.monotonic()
    assert time.monotonic() - began < LIMIT / 2
    os.waitpid(int(other), 0)


# What they inherit


def masks(process: run_process.Process) -> dict[str, int]:
    assert process.stdout is not None
    return masks_in(process.stdout.read().decode())


def masks_in(status: str) -> dict[str, int]:
    """Of what /proc tells of a process.  Two signals are glibc's own, and ignored by what its posix_spawn starts."""
    own = 1 << 31 | 1 << 32
    return {name: int(mask, 16) & ~own for name, mask in re.findall(r"(Sig\w+):\t(\w+)", status)}


DEFAULT = {"SigBlk": 0, "SigIgn": 0}


def test_their_signals_are_at_their_defaults() -> None:
    with run_process.held(process := start("exec grep ^Sig /proc/self/status")):
        assert masks(process).items() >= DEFAULT.items()


@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
@pytest.mark.parametrize("what", ["ignored", "blocked"])
def test_what_is_ignored_or_blocked_here_is_not_there(what: str) -> None:
    seen = []

    def run() -> None:
        if what == "blocked":
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])  # in this thread
        with run_process.held(process := start("exec grep ^Sig /proc/self/status")):
            seen.append(masks(process))

    before = signal.getsignal(signal.SIGQUIT)
    if what == "ignored":
        signal.signal(signal.SIGQUIT, signal.SIG_IGN)
    try:
        thread = threading.Thread(target=run)
        thread.start()
        thread.join(LIMIT)
    finally:
        signal.signal(signal.SIGQUIT, before)
    assert seen[0].items() >= DEFAULT.items()


# With the server


def test_they_end_with_their_owner_and_no_more_begin() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)}
    with run_process.owned():
        process = start(ON)
        assert signal.getsignal(signal.SIGTERM) is run_process._die
    assert process.returncode == -signal.SIGTERM
    assert {number: signal.getsignal(number) for number in before} == before
    with run_process.owned():
        run_process.end_all()
        with pytest.raises(run_process.Ending):
            start(ON)
    with run_process.held(process), run_process.held(start(":")):
        pass


@pytest.fixture
def answered(root: Path) -> Iterator[Path]:
    """A folder with a script that tells its number and that of another, and goes on."""
    write(root, "x", f"trap '' HUP; ({ON}) & {FINE}echo $$ $!; {ON}")
    write(root, "signals", f"{FINE}exec grep ^Sig /proc/self/status")
    yield root


@contextlib.contextmanager
def serving(folder: Path, *ignored: signal.Signals) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`python -m httpd.server --cgi`, and its URL."""
    setting = "".join(f"signal.signal({number:d}, signal.SIG_IGN);" for number in ignored)
    if signal.SIGINT not in ignored:
        setting += f"signal.signal({signal.SIGINT:d}, signal.SIG_DFL);"
    program = [sys.executable, "-c", f"import os, signal; {setting} os.execv({SERVER[0]!r}, {SERVER!r})"]
    pipe = subprocess.PIPE
    with subprocess.Popen(program, cwd=folder, stdout=pipe, stderr=pipe, text=True, env=ENVIRONMENT) as process:
        try:
            assert process.stdout is not None
            found = re.search(r"http://[^)]*", process.stdout.readline())
            assert found is not None
            yield process, found[0]
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [("TERM", -signal.SIGTERM), ("HUP", -signal.SIGHUP), ("INT", 0)])
def test_they_end_with_the_server(answered: Path, number: str, code: int) -> None:
    with serving(answered) as (process, url), urllib.request.urlopen(url + "cgi-bin/x", timeout=LIMIT) as answer:
        pids = answer.readline().decode().split()
        assert [lives(pid) for pid in pids] == [True, True]
        process.send_signal(signal.Signals[f"SIG{number}"])
        assert process.wait(LIMIT) == code
        assert [lives(pid) for pid in pids] == [False, False]


def test_a_server_in_the_background_of_a_shell(answered: Path) -> None:
    """SIGINT and SIGQUIT are ignored there.  Its scripts heed them, it still does not."""
    with serving(answered, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP) as (process, url):
        for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
            process.send_signal(number)
        with urllib.request.urlopen(url + "cgi-bin/signals", timeout=LIMIT) as answer:
            told = answer.read().decode()
        assert masks_in(told).items() >= DEFAULT.items()
        assert process.poll() is None
