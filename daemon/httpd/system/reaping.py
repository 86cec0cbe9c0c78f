"""Whose children orphans become: a process that is a subreaper gets those of all its descendants (prctl(2), Linux).

Elsewhere they go to init, and there is nobody to ask for them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

from httpd.system.privileges import prctl

_PR_SET_CHILD_SUBREAPER = 36


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


def end_children() -> None:
    """Kill and collect all children, and all that become children by that, round after round."""
    known: set[int] = set()
    while pids := set(child_pids()) - known:
        for pid in pids:
            known.add(pid)
            with contextlib.suppress(ProcessLookupError, PermissionError, ChildProcessError):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
