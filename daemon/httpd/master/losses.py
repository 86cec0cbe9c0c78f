"""Which workers were lost or replaced, and why: for `status` and for the log.

Rules: bounded; a reason is what the kernel, the worker itself or the master's watch tells, in this order of trust.
"""

from __future__ import annotations

import signal
import time
from collections import deque
from dataclasses import dataclass

from httpd.master.children import IN_OFFICE, WATCHED, Child, State
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


@dataclass(slots=True, frozen=True)
class End:
    """How a worker's process came to its end."""

    reason: str
    unexpected: bool  # nobody had told it to go
    crashed: bool = False  # by a fault of its own; SIGKILL comes from outside: an operator, or the kernel for memory
    by_hand: bool = False  # somebody killed a worker that was well


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

    def judge(self, child: Child, was: State, status: ExitStatus) -> End:
        """How a process that was in state `was` came to its end."""
        unexpected = bool(child.failure) or was in IN_OFFICE
        if child.failure:
            return End(child.failure, unexpected, crashed=True)
        if status.signal != signal.SIGKILL or was is State.KILLED:
            return End(status.text, unexpected, crashed=unexpected)
        before, self._memory_kills = self._memory_kills, out_of_memory_kills()
        killed = self._memory_kills - before
        if killed > 0:
            return End(f"{status.text} (oom_kill +{killed}: the kernel is out of memory)", unexpected)
        return End(status.text, unexpected, by_hand=was in WATCHED)
