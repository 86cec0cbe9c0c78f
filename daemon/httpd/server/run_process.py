"""The processes of `run_cgi`: their start and their end, from threads.

    start -> held (the answer is passed on) -> end, if it still runs

Rules:

- A script starts with all signals at their defaults and none blocked.  What this process ignores can only be undone
  between fork and exec, by code that runs in a copy of a process with threads; that is done only where there is
  something to undo, it takes no lock, and a program that is a server and nothing else sees to it beforehand (`owned`).
- A script is told to stop by TERM, and killed `GRACE` seconds later, with its group.  Until it has ended its number is
  not given back, so a signal can't meet a stranger.
- Scripts end with the server only where this process is the server's alone (`owned`, and the daemon's workers, which
  call `end_all`).  As a library this is a guest: signals and the process' end are its host's.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import IO, Any

from httpd.system import signals

GRACE = 2.0  # seconds between TERM and KILL
_TICK, _LOOK = 0.005, 0.1  # seconds between two looks at whether something is left, at first and at most
_PYTHONS = {signal.SIGPIPE, signal.SIGXFSZ}  # ignored by Python, and undone by subprocess
_DEADLY = (signal.SIGTERM, signal.SIGHUP)

Process = subprocess.Popen[bytes]


class Ending(Exception):
    """The server ends: nothing is started any more."""


_running: set[Process] = set()
_lock = threading.RLock()  # of these two; held by the start, so that none is missed at the end
_over = False


def start(
    command: list[bytes], environment: dict[bytes, bytes], folder: str, body: IO[bytes], who: dict[str, Any]
) -> Process:
    """Start a script; `who` are the options of Popen for its user.  Raises OSError and Ending."""
    with _lock:
        if _over:
            raise Ending("the server ends")
        process = subprocess.Popen(
            command, stdin=body, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, cwd=folder,
            start_new_session=True,
            preexec_fn=_reset_signals if _signals_differ() else None,  # noqa: PLW1509 - see above
            **who,
        )  # fmt: skip
        _running.add(process)
    return process


def _signals_differ() -> bool:
    """Whether a new program would have signals ignored or blocked."""
    ignored = any(signal.getsignal(number) is signal.SIG_IGN for number in signals.CHANGEABLE if number not in _PYTHONS)
    return ignored or bool(signal.pthread_sigmask(signal.SIG_BLOCK, ()))


def _reset_signals() -> None:
    for number in signals.CHANGEABLE:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


@contextlib.contextmanager
def held(process: Process) -> Iterator[None]:
    """A process that is let go at the end; it is ended if it still runs then, or if something went wrong."""
    try:
        yield
        if not has_ended(process):
            end(process)
    except BaseException:
        end(process)
        raise
    finally:
        for pipe in (process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()
        with _lock:
            process.poll()
            _running.discard(process)


def has_ended(process: Process) -> bool:
    """Whether it has; its number is not given back by this."""
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # somebody else has collected it
        return True


def end(process: Process) -> None:
    """End a process and its group: TERM, and KILL for what is left `GRACE` seconds later.  Once."""
    if process.returncode is None:
        _end([process])


def _end(processes: list[Process], grace: float = GRACE) -> None:
    for process in processes:
        _tell(process, signal.SIGTERM)
    until = time.monotonic() + grace
    pause = _TICK
    while (left := [process for process in processes if _is_there(process)]) and time.monotonic() < until:
        time.sleep(pause)
        pause = min(2 * pause, _LOOK)
    for process in left:
        _tell(process, signal.SIGKILL)
    for process in left:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace)


def _is_there(process: Process) -> bool:
    """Whether anything of its group is."""
    if process.poll() is None:
        return True
    return _tell(process, 0) and _lives(process.pid)


def _lives(group: int) -> bool:
    """Whether a group has more than zombies, which are there until an init collects them that may be slow."""
    try:
        numbers = [name for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return True
    for number in numbers:
        with contextlib.suppress(OSError), open(f"/proc/{number}/stat", "rb") as stat:
            state, _, found = stat.read().rpartition(b")")[2].split(maxsplit=3)[:3]
            if int(found) == group and state not in (b"Z", b"X"):
                return True
    return False


def _tell(process: Process, number: int) -> bool:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:  # another user's by now
        return True
    return True


@contextlib.contextmanager
def owned() -> Iterator[None]:
    """Of a program that is a server and nothing else: the scripts end with it, by ^C, TERM or HUP as well.

    Main thread only.
    """
    global _over  # noqa: PLW0603 - there is one such program in a process
    before = {number: signal.getsignal(number) for number in signals.CHANGEABLE}
    signals.keep_to_ourselves()
    for number in _DEADLY:
        if before[number] is signal.SIG_DFL:
            signal.signal(number, _die)
    try:
        yield
    finally:
        end_all()
        _over = False
        for number, handler in before.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def _die(number: int, frame: FrameType | None) -> None:
    """End the scripts, and then this process as it would have ended without."""
    for each in _DEADLY:  # who says it twice means at once
        signal.signal(each, signal.SIG_DFL)
    end_all()
    signals.end_by(signal.Signals(number).name.removeprefix("SIG"))


def end_all(grace: float = GRACE) -> None:
    """End all that run, with `grace` seconds between TERM and KILL; no more are started."""
    global _over  # noqa: PLW0603
    with _lock:
        _over = True
        running = [process for process in _running if process.returncode is None]
    _end(running, grace)
