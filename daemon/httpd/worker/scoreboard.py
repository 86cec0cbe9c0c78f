"""Figures of the workers of one generation, in memory that they share with the master.

Rules:

- One slot per worker, one writer per slot, no locks: the master may read a slot half written and takes it as it is.
- Beside its figures a worker says whether it is awake, before and after everything that it does.  When all are asleep
  the master stops looking, and says so; whoever wakes up then tells it first.
- The master trusts nothing in here: which process a slot belongs to stands in its own table, and a number that makes no
  sense is shown as 0 (a worker that was taken over must not be able to steer a process that is root).
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

_SLOT = struct.Struct("<QQQQQQ")
_SIZE = 64  # bytes: one cache line each
_SANE = 1 << 53


class Figures(NamedTuple):
    """What a worker tells of itself.  `beat` is monotonic nanoseconds of its last round; `scripts` are runs that
    have not ended, with those that wait."""

    requests: int
    connections: int
    accepted: int
    dropped_lines: int
    beat: int
    scripts: int = 0


_CELLS = _SIZE // 8  # of 8 bytes in a slot
_AWAKE = 6  # the cell behind the figures


class Scoreboard:
    """`slots` slots, made before the fork."""

    def __init__(self, slots: int) -> None:
        self._memory = mmap.mmap(-1, (max(1, slots) + 1) * _SIZE)
        self._cells = memoryview(self._memory).cast("Q")
        self._slots = slots
        self._unattended = max(1, slots) * _CELLS  # the cell in which the master says that it does not look

    def presence(self, slot: int) -> Presence:
        """For the worker that owns the slot."""
        return Presence(self._cells, slot * _CELLS + _AWAKE, self._unattended)

    def awake(self, slot: int) -> bool:
        """Whether the worker is at work, or was when it was last heard of."""
        return bool(self._cells[slot * _CELLS + _AWAKE])

    def leave_unattended(self, *, unattended: bool) -> None:
        """Called by the master: it does not look any more until a worker tells that it is awake, or it does again."""
        self._cells[self._unattended] = unattended

    def write(self, slot: int, figures: tuple[int, int, int, int, int, int]) -> None:
        """Called by the worker that owns the slot, with `Figures`.  One for whom no slot was left writes nowhere."""
        if 0 <= slot < self._slots:
            _SLOT.pack_into(self._memory, slot * _SIZE, *figures)

    def read(self, slot: int) -> Figures:
        """Called by the master."""
        if not 0 <= slot < self._slots:
            return Figures(0, 0, 0, 0, 0)
        values = _SLOT.unpack_from(self._memory, slot * _SIZE)
        return Figures(*(value if value < _SANE or position == 4 else 0 for position, value in enumerate(values)))

    def clear(self, slot: int) -> None:
        """Called by the master before a slot is given to a new process."""
        self.write(slot, Figures(0, 0, 0, 0, 0))
        if 0 <= slot < self._slots:
            self._cells[slot * _CELLS + _AWAKE] = 0

    def close(self) -> None:
        """Give the memory back: the last worker is gone."""
        self._cells.release()
        self._memory.close()


class Presence:
    """Whether a worker is awake.  Two assignments for every round of its loop."""

    __slots__ = ("_cells", "_mine", "_unattended")

    def __init__(self, cells: memoryview[int], mine: int, unattended: int) -> None:
        self._cells = cells
        self._mine = mine
        self._unattended = unattended

    def awake(self) -> bool:
        """Said first of all; True if the master wants to be told."""
        self._cells[self._mine] = 1
        return bool(self._cells[self._unattended])

    def asleep(self) -> None:
        """Said before waiting."""
        self._cells[self._mine] = 0
