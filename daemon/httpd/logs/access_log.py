"""One access log as a worker sees it: lines are made at once and handed on in one piece per round of the loop.

Rule: `add` is on the hot path; it formats and appends, nothing else.  A connection does the same itself for files from
the cache, to save the call.
"""

from __future__ import annotations

from collections.abc import Callable

from httpd.logs.access import AccessFormat, Entry


class AccessLog:
    """Collects lines for one target.  `dirty` is the loop's list of logs that have lines to hand on."""

    __slots__ = ("_dirty", "_write", "format", "lines", "needs_clock")

    def __init__(self, form: AccessFormat, write: Callable[[bytes], None], dirty: list[AccessLog]) -> None:
        self.format = form.format
        self._write = write
        self.lines: list[bytes] = []
        self._dirty = dirty
        self.needs_clock = form.needs_clock

    def add(self, entry: Entry, wall: float) -> None:
        """Note one finished exchange.  `wall` is seconds since the epoch."""
        if not self.lines:
            self._dirty.append(self)
        self.lines.append(self.format(entry, wall))

    def hand_on(self) -> None:
        """Give the lines of this round to the sink."""
        self._write(b"".join(self.lines))
        self.lines.clear()
