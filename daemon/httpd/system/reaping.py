"""Whose children orphans become: a process that is a subreaper gets those of all its descendants (prctl(2), Linux).

Elsewhere they go to init, and there is nobody to ask for them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Collection
from pathlib import Path

from httpd.system.privileges import prctl

_PR_SET_CHILD_SUBREAPER = 36
_ROUND = 0.002  # seconds


def become_subreaper() -> None:
    """Have orphans below this process become its children."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # a kernel without it
            prctl(_PR_SET_CHILD_SUBREAPER, 1)


def child_pids() -> list[int]:
    """All children of this process, whoever started them; nothing where the system can't tell."""
    pid = os.getpid()
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def end_children(but: Collection[int] = (), seconds: float = 2.0) -> None:
    """Kill and collect all children but those, and all that become children by that, round after round.

    Gives up behind `seconds`: the kernel may hold one up.
    """
    until = time.monotonic() + seconds
    while (pids := set(child_pids()) - set(but)) and time.monotonic() < until:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, os.WNOHANG)
        time.sleep(_ROUND)
