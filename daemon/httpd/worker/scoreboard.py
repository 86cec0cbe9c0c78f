"""Figures of the workers of one generation, in memory that they share with the master.

Rules:

- One slot per worker, one writer per slot, no locks: the master may read a slot half written and takes it as it is.
- The master trusts nothing in here: which process a slot belongs to stands in its own table, and a number that makes no
  sense is shown as 0 (a worker that was taken over must not be able to steer a process that is root).
"""

from __future__ import annotations

import mmap
import struct
from typing import NamedTuple

_SLOT = struct.Struct("<QQQQQ")
_SIZE = 64  # bytes: one cache line each
_SANE = 1 << 53


class Figures(NamedTuple):
    """What a worker tells of itself.  `beat` is monotonic nanoseconds of its last round."""

    requests: int
    connections: int
    accepted: int
    dropped_lines: int
    beat: int


class Scoreboard:
    """`slots` slots, made before the fork."""

    def __init__(self, slots: int) -> None:
        self._memory = mmap.mmap(-1, max(1, slots) * _SIZE)
        self._slots = slots

    def write(self, slot: int, figures: tuple[int, int, int, int, int]) -> None:
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
