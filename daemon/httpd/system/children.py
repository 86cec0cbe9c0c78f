"""Child processes by pidfd, so that a pid given to a stranger meanwhile is never signalled or waited for.

Where there is no pidfd (macOS, old kernels) everything works by pid, and SIGCHLD is the only news of an end.
Pids are safe too as long as only `reap` collects: a child that is not collected keeps its pid.  Never
waitpid(-1): it takes the status of children that somebody else waits for.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a child ended: by `code`, or by `signal`; neither is known if somebody else has collected it."""

    code: int | None = None
    signal: int | None = None
    core: bool = False

    @property
    def text(self) -> str:
        if self.code is not None:
            return f"exit status {self.code}"
        if self.signal is None:
            return "ended, exit status unknown"
        try:
            name = signal.Signals(self.signal).name
        except ValueError:  # a real-time signal
            name = f"signal {self.signal}"
        return f"killed by {name}{' (core dumped)' if self.core else ''}"


def watch(pid: int) -> int | None:
    """A descriptor that becomes readable when the child `pid` ends.  Call it before anyone can reap `pid`.

    It is closed on exec.  None if there is none to have (no pidfd here, or no descriptor left): the caller
    then goes by SIGCHLD.
    """
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def reap(pid: int, pidfd: int | None) -> ExitStatus | None:
    """Collect the child if it has ended; None while it runs.  Never waits.  The caller closes `pidfd`."""
    try:
        if pidfd is not None and hasattr(os, "P_PIDFD"):
            return _reap_pidfd(pidfd)
        done, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return ExitStatus()
    if not done:
        return None
    if os.WIFSIGNALED(status):
        return ExitStatus(signal=os.WTERMSIG(status), core=os.WCOREDUMP(status))
    return ExitStatus(code=os.WEXITSTATUS(status))


def kill(pid: int, pidfd: int | None, number: int) -> bool:
    """Send a signal to the child; False if it has ended already.  Raises PermissionError."""
    with contextlib.suppress(ProcessLookupError):
        if pidfd is not None and hasattr(signal, "pidfd_send_signal"):
            signal.pidfd_send_signal(pidfd, number)
        else:
            os.kill(pid, number)
        return True
    return False


def reap_strangers(known: Collection[int]) -> list[int]:
    """As PID 1 or subreaper: collect ended children that are not in `known`, and return their pids.

    The kernel always offers the same ended child first, so one in `known` hides those behind it: reap the
    known ones before, and call again after.  Where waitid is missing (macOS before Python 3.13) nobody
    becomes a subreaper either.
    """
    reaped: list[int] = []
    if not hasattr(os, "waitid"):
        return reaped
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if ended.si_pid in known:
                break
            os.waitid(os.P_PID, ended.si_pid, os.WEXITED | os.WNOHANG)
            reaped.append(ended.si_pid)
    return reaped


def _reap_pidfd(pidfd: int) -> ExitStatus | None:
    ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | os.WNOHANG)
    if ended is None:
        return None
    if ended.si_code == os.CLD_EXITED:
        return ExitStatus(code=ended.si_status)
    return ExitStatus(signal=ended.si_status, core=ended.si_code == os.CLD_DUMPED)
