"""How a spawner notices that what it has started is over.

Rules:

- Most scripts are short, and nobody waits for the news of their end: the answer is over with their output.  So in its
  first moment a run is not watched; all such are looked at together, `_LOOK` seconds apart, and when slots run out.
- Where so few may run at once that a slot held for as long would count, and of what is told to stop, the end is news at
  once: by a pidfd, as for all that are older.
- A run's number is free for others only when its end was collected here, and what was told to stop has left nothing.
"""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from httpd.cgi.jobs import Job, signal_group
from httpd.system import children

_LOOK = 0.01  # seconds
_YOUNG = 0.02  # seconds behind which a worker is told that a script runs
_FEW = 16  # slots
_NEVER = float("inf")


class Host(Protocol):
    """The spawner."""

    def watch(self, fd: int, handler: Callable[[], None]) -> None: ...

    def forget(self, fd: int) -> None: ...

    def announce(self, job: Job) -> None: ...

    def ended(self, job: Job, how: str) -> None: ...


class Ends:
    """All that run; `slots` is how many may, at once."""

    def __init__(self, host: Host, slots: int) -> None:
        self._host = host
        self._prompt = slots < _FEW
        self._young: deque[Job] = deque()
        self._unwatched: set[Job] = set()
        self._look_at = _NEVER

    def add(self, job: Job) -> None:
        """It runs, since now; one that a warm interpreter has started will be reported by that."""
        job.started = time.monotonic()
        self._young.append(job)
        if job.warm is None:
            self._unwatched.add(job)
            self._look_at = min(self._look_at, job.started + _LOOK)
            if self._prompt:
                self.watch(job)

    def watch(self, job: Job) -> None:
        """Be told of its end at once, where that can be done."""
        if job not in self._unwatched:
            return
        job.pidfd = children.watch(job.pid)
        if job.pidfd is not None:
            self._unwatched.discard(job)
            self._host.watch(job.pidfd, lambda: self._collect(job))

    @property
    def due(self) -> float:
        """When to look, monotonic seconds."""
        young = self._young[0].started + _YOUNG if self._young else _NEVER
        return min(self._look_at, young)

    def look(self, now: float) -> None:
        """Do what is due."""
        if now >= self._look_at:
            self.collect()
        while self._young and (self._young[0].over or now >= self._young[0].started + _YOUNG):
            job = self._young.popleft()
            if not job.over:
                self._host.announce(job)
                self.watch(job)

    def collect(self) -> None:
        """Look at all that are not watched."""
        for job in list(self._unwatched):
            self._collect(job)
        self._look_at = time.monotonic() + _LOOK if self._unwatched else _NEVER

    def _collect(self, job: Job) -> None:
        if job.stopping and job.pidfd is not None:
            signal_group(job.pid, signal.SIGKILL)  # what is left of it; its number is not free yet
        status = children.reap(job.pid, job.pidfd)
        if status is None:
            return
        self._unwatched.discard(job)
        if job.pidfd is not None:
            self._host.forget(job.pidfd)
            os.close(job.pidfd)
            job.pidfd = None
        self._host.ended(job, status.text)
