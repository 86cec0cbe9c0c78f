"""The requests of one spawner that wait for a slot, in the order in which they came.

    taken --> place in the queue --> slot
      +--> none: refused in a moment, unless there is a place or a slot by then

Rules:

- Places are counted by all spawners of a mount together.  One that gets free is the oldest's who has none.
- A client has its answer before the slot of its script is free: the output is over a moment before the process is, and
  its end is news a moment later.  Who asks at once again, on the same connection too, is one that waits, and not one
  too many: so nobody is refused before `_MOMENT` is over.  Each spawner keeps no more for it than there are slots, as
  each slot may be about to be free once.
"""

from __future__ import annotations

from collections import deque

from httpd.cgi.jobs import Job
from httpd.system.slots import Slots

_MOMENT = 0.5  # seconds; on a busy machine the news of an end takes its time
_NEVER = float("inf")


class Waiting:
    """See the head of this file."""

    def __init__(self, places: Slots, slots: int) -> None:
        self._places = places
        self._slots = slots
        self._jobs: deque[Job] = deque()
        self._without = 0  # place

    def __len__(self) -> int:
        return len(self._jobs)

    def __contains__(self, job: object) -> bool:
        return job in self._jobs

    def add(self, job: Job, now: float) -> bool:
        """Have it wait; False: there are too many.  `now` is in monotonic seconds."""
        if not self._places.take():
            if self._without >= self._slots:
                return False
            self._without += 1
            job.refuse_at = now + _MOMENT
        self._jobs.append(job)
        return True

    def next(self) -> Job:
        """Who has waited for the longest.  Raises IndexError."""
        job = self._jobs.popleft()
        self._left(job)
        return job

    def remove(self, job: Job) -> None:
        """It does not wait any more.  Raises ValueError."""
        self._jobs.remove(job)
        self._left(job)

    def _left(self, job: Job) -> None:
        if job.refuse_at == _NEVER and self._without:
            job = next(one for one in self._jobs if one.refuse_at < _NEVER)  # who gets its place
        if job.refuse_at < _NEVER:
            self._without -= 1
            job.refuse_at = _NEVER
        else:
            self._places.give()

    @property
    def due(self) -> float:
        """When to look for who is late, monotonic seconds."""
        return min((job.refuse_at for job in self._jobs), default=_NEVER) if self._without else _NEVER

    def late(self, now: float) -> list[Job]:
        """Those that are to be refused, which have left by that."""
        refused = []
        for job in [job for job in self._jobs if now >= job.refuse_at] if self._without else ():
            if self._places.take():
                self._without -= 1
                job.refuse_at = _NEVER
            else:
                self.remove(job)
                refused.append(job)
        return refused
