"""Runs that are to end: TERM to the whole process group, and `GRACE` seconds later KILL to what is left of it."""

from __future__ import annotations

import signal

from httpd.cgi.jobs import Job, signal_group

GRACE = 2.0  # seconds between TERM and KILL
_NEVER = float("inf")


class Dying:
    """Those of one spawner; times are in monotonic seconds."""

    def __init__(self) -> None:
        self._jobs: set[Job] = set()

    def add(self, job: Job, now: float) -> None:
        """Have it end."""
        job.stopping = True
        job.kill_at = now + GRACE
        self._jobs.add(job)
        _signal(job, signal.SIGTERM)

    def discard(self, job: Job) -> None:
        """It has ended, or was none of these."""
        self._jobs.discard(job)

    @property
    def due(self) -> float:
        """When to look."""
        return min([job.kill_at for job in self._jobs]) if self._jobs else _NEVER

    def look(self, now: float) -> None:
        """Kill those that have not obeyed, again and again: what holds one up may be over by then."""
        for job in [job for job in self._jobs if now >= job.kill_at]:
            job.kill_at = now + GRACE
            _signal(job, signal.SIGKILL)


def _signal(job: Job, number: int) -> None:
    if job.warm is not None:
        job.warm.signal(job, number)
    elif job.pid:
        signal_group(job.pid, number)
