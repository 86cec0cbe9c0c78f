"""What scripts write to stderr, as lines for the error log: cut into lines, shortened, and not too many of them.

Rules:

- A script may write as much as it likes: it is all read, so that nobody waits.  How many lines are wanted is said
  before they are cut, and what is behind those is only counted: a flood is to cost next to nothing.
- Lines that are not logged are told of as a number, never left out in silence.  Blank ones are no lines.
- The end of what was written is kept, for the log entry of an answer that went wrong.
- The clock is passed in.
"""

from __future__ import annotations

import re
import sys

LINE = 1000  # bytes of one line that are logged
_LONGEST = 4 * LINE  # bytes that are kept of a line whose end is not there yet
_TAIL = 2000  # bytes that are kept for an entry about a failure
_BURST = 200  # lines at once, and ...
_RATE = 20.0  # ... lines a second behind that, for one mount
_GATHER = 1.0  # seconds between the first line that is not logged and the entry about it, and ...
_TELL = 5.0  # ... seconds between two such entries, at least
_NEVER = float("-inf")

_INK = re.compile(rb"\S")


class Allowance:
    """How many lines one mount may have logged.  `dropped`: how many were not, since that was last told."""

    __slots__ = ("_left", "_since", "_told", "dropped")

    def __init__(self) -> None:
        self._left = float(_BURST)
        self._since = 0.0
        self._told = _NEVER
        self.dropped = 0

    def left(self, now: float) -> int:
        """How many lines may be logged at `now` (monotonic seconds)."""
        self._left = min(_BURST, self._left + (now - self._since) * _RATE)
        self._since = now
        return int(self._left)

    def spend(self, logged: int, dropped: int) -> None:
        """So many lines are logged, of those that were left, and so many are not."""
        self._left -= logged
        self.dropped += dropped

    def due(self, now: float) -> bool:
        """Whether lines that were not logged may be told of: else the entries about them were a flood of their own."""
        return self.dropped > 0 and now >= self._told + _TELL

    def due_at(self, now: float) -> float:
        """When to tell of those that begin to be dropped now, if nobody does so before."""
        return max(now + _GATHER, self._told + _TELL)

    def settle(self, now: float) -> int:
        """How many lines were not logged since this was last told.  Now it is."""
        found, self.dropped = self.dropped, 0
        if found:
            self._told = now
        return found


class Stderr:
    """The lines of one run.  `has_more`: more was written than `last_words` has."""

    __slots__ = ("_rest", "has_more", "tail")

    def __init__(self) -> None:
        self._rest = b""
        self.tail = b""
        self.has_more = False

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        lines, _ = self.cut(data, sys.maxsize)
        return [line.decode("utf-8", "backslashreplace") for line in lines]

    def end(self) -> list[str]:
        """The last line, if it has no end."""
        return self.feed(b"\n")

    def cut(self, data: bytes, most: int) -> tuple[list[bytes], int]:
        """The first `most` of the lines that `data` completes, and how many there are behind them."""
        self.has_more = self.has_more or len(self.tail) + len(data) > _TAIL
        self.tail = (self.tail + data)[-_TAIL:]
        data = self._rest + data
        end = data.rfind(b"\n") + 1
        if len(data) - end > _LONGEST:  # a line without an end
            data += b"\n"
            end = len(data)
        self._rest = data[end:]
        return _cut(data[:end], most)

    @property
    def within_line(self) -> bool:
        """Whether the last line has no end yet."""
        return bool(self._rest)

    @property
    def last_words(self) -> str:
        """The end of all that was written."""
        return self.tail.decode("utf-8", "backslashreplace").strip()


def _cut(data: bytes, most: int) -> tuple[list[bytes], int]:
    """See `Stderr.cut`; every line has its end."""
    lines: list[bytes] = []
    if data.isspace():  # a flood of nothing uses up no allowance: it is not to be searched again and again
        return lines, 0
    at = 0
    while len(lines) < most:
        ink = _INK.search(data, at)
        if ink is None:
            return lines, 0
        begin = max(at, data.rfind(b"\n", at, ink.start()) + 1)
        at = data.index(b"\n", ink.start()) + 1
        lines.append(_shown(data[begin:at]))
    behind = data[at:]
    return lines, 0 if behind.isspace() else behind.count(b"\n")


def _shown(line: bytes) -> bytes:
    line = line.rstrip()
    if len(line) <= LINE:
        return line
    end = LINE
    while end > LINE - 4 and line[end] & 0xC0 == 0x80:  # not within a character
        end -= 1
    return line[:end] + b"..."
