"""Which workers were lost or replaced, and why: for `status` and for the log.

Rules: bounded; a reason is what the kernel, the worker itself or the master's watch tells, in this order of trust.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from dataclasses import dataclass

from httpd.master.children import IN_OFFICE, Child, State
from httpd.system.children import ExitStatus
from httpd.system.usage import out_of_memory_kills

_REMEMBERED = 20


@dataclass(slots=True, frozen=True)
class Loss:
    """One worker that made room for another.  `at` is in seconds since the epoch."""

    at: float
    generation: int
    slot: int
    pid: int
    reason: str


class Losses:
    """All of them are counted, the last ones remembered."""

    def __init__(self) -> None:
        self.count = 0
        self.last: deque[Loss] = deque(maxlen=_REMEMBERED)
        self._memory_kills = out_of_memory_kills()

    def note(self, child: Child, reason: str) -> None:
        """A worker was lost, or is being replaced."""
        self.count += 1
        self.last.append(Loss(time.time(), child.generation, child.slot, child.pid, reason))

    def reason(self, child: Child, was: State, status: ExitStatus) -> str:
        """Why a process that was in state `was` ended."""
        if child.failure:
            return child.failure
        if status.signal != signal.SIGKILL or was is State.KILLED:
            return status.text
        before, self._memory_kills = self._memory_kills, out_of_memory_kills()
        killed = self._memory_kills - before
        return f"{status.text} (oom_kill +{killed}: the kernel is out of memory)" if killed > 0 else status.text


def unexpected(child: Child, was: State) -> bool:
    """Whether nobody had told the worker to go."""
    return bool(child.failure) or was in IN_OFFICE


def crash(child: Child, was: State, status: ExitStatus) -> bool:
    """Whether it ended by a fault of its own.  SIGKILL comes from outside: an operator, or the kernel for memory."""
    return bool(child.failure) or (was in IN_OFFICE and status.signal != signal.SIGKILL)
