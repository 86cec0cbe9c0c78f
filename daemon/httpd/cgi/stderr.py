"""What scripts write to stderr, as lines for the error log: cut into lines, shortened, and not too many of them.

Rules:

- A script may write as much as it likes: it is all read, so that nobody waits, and most of a flood is only counted.
- The end of what was written is kept, for the log entry of an answer that went wrong.
- The clock is passed in.
"""

from __future__ import annotations

LINE = 1000  # characters of one line that are logged
_TAIL = 2000  # bytes that are kept for an entry about a failure
_BURST = 200  # lines at once, and ...
_TELL = 5.0  # seconds
_RATE = 20.0  # ... lines a second behind that, for one mount


class Allowance:
    """How many lines one mount may have logged."""

    __slots__ = ("_left", "_since", "_told", "dropped")

    def __init__(self) -> None:
        self._left = float(_BURST)
        self._since = 0.0
        self._told = -_TELL
        self.dropped = 0

    def take(self, now: float) -> bool:
        """Whether one more line may be logged at `now` (monotonic seconds); those that may not are counted."""
        self._left = min(_BURST, self._left + (now - self._since) * _RATE)
        self._since = now
        if self._left < 1:
            self.dropped += 1
            return False
        self._left -= 1
        return True

    def settle(self, now: float) -> int:
        """How many lines were not logged since this was last told; it is told every `_TELL` seconds at most."""
        if not self.dropped or now - self._told < _TELL:
            return 0
        self._told = now
        found, self.dropped = self.dropped, 0
        return found


class Stderr:
    """The lines of one run."""

    __slots__ = ("_rest", "tail")

    def __init__(self) -> None:
        self._rest = b""
        self.tail = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        self.tail = (self.tail + data)[-_TAIL:]
        *lines, rest = (self._rest + data).split(b"\n")
        if len(rest) > 4 * LINE:  # a line without an end
            lines.append(rest)
            rest = b""
        self._rest = rest
        return [_shown(line) for line in lines if line.strip()]

    def end(self) -> list[str]:
        """The last line, if it has no end."""
        rest, self._rest = self._rest, b""
        return [_shown(rest)] if rest.strip() else []

    @property
    def last_words(self) -> str:
        """The end of all that was written."""
        return self.tail.decode("utf-8", "backslashreplace").strip()


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "backslashreplace").rstrip()
    return text if len(text) <= LINE else text[:LINE] + "..."
