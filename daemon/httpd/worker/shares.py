"""How the workers of one generation share out connections: how many each has, and one bell that all can hear.

The kernel gives a new connection to whoever asks first.  A worker that is running asks before one that has to be woken,
so bursts would end up with one of them, and connections that stay stay there.  Therefore a worker that has clearly more
than the one with the fewest leaves the next one in the queue for a moment, and rings.

Rules:

- Hints, not promises: a number may be old, and a worker that was taken over may write what it likes.  Whoever waits for
  others waits for milliseconds, and then takes the connection itself.
- Made before the fork.  Only on Linux: elsewhere nobody is waited for.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import sys

YIELD = 0.001  # seconds that a worker leaves a connection to another
_PATIENCE = 5  # times in a row
_ALONE = 0.5  # seconds
_SLACK = 2  # connections that one may have more than another


class Shares:
    """`places` counters of connections, and the bell, an event counter that is never read: hear it by its edge."""

    __slots__ = ("_counts", "_memory", "bell")

    def __init__(self, places: int) -> None:
        self._memory = mmap.mmap(-1, max(1, places) * 4)
        self._counts = memoryview(self._memory).cast("I")
        self.bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) if sys.platform == "linux" else -1

    def note(self, place: int, connections: int) -> None:
        """The worker at `place` serves, and has so many."""
        if place < len(self._counts):
            self._counts[place] = connections + 1

    def leave(self, place: int) -> None:
        """Nobody at `place` takes connections any more."""
        if place < len(self._counts):
            self._counts[place] = 0

    def serving(self) -> int:
        """How many workers take connections."""
        return len(list(filter(None, self._counts)))

    def ahead(self, connections: int) -> bool:
        """Whether one with so many has clearly more than the one with the fewest."""
        fewest = min(filter(None, self._counts), default=connections + 1) - 1
        return connections > fewest + _SLACK + fewest // 16

    def ring(self) -> None:
        """Have every worker look whether there is a connection for it."""
        with contextlib.suppress(OSError):
            os.eventfd_write(self.bell, 1)

    def close(self) -> None:
        """Let go of the memory and the bell."""
        self._counts.release()
        self._memory.close()
        if self.bell >= 0:
            os.close(self.bell)
            self.bell = -1


class Share:
    """One worker's view: is it somebody else's turn to take a connection?"""

    __slots__ = ("_alone_until", "_patience", "_place", "_shares")

    def __init__(self, shares: Shares, place: int) -> None:
        self._shares = shares
        self._place = place
        self._patience = _PATIENCE
        self._alone_until = 0.0

    def alone(self, connections: int) -> bool:
        """Whether nobody else takes connections; also notes that we do, and how many we have."""
        self._shares.note(self._place, connections)
        return self._shares.serving() <= 1

    def others_turn(self, connections: int, now: float) -> bool:
        """True when one who has fewer was called just now; `now` is in monotonic seconds.

        Others who were called `_PATIENCE` times in vain hang, or have no CPU; for a while they are not waited for.
        """
        shares = self._shares
        if shares.bell < 0 or now < self._alone_until or not shares.ahead(connections):
            self._patience = _PATIENCE
            return False
        if not self._patience:
            self._patience = _PATIENCE
            self._alone_until = now + _ALONE
            return False
        self._patience -= 1
        shares.ring()
        return True
