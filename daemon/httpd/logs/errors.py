r"""The error log: one line per event, for people and for `grep`.

    2026-11-22T05:44:49.123+00:00 [warning] worker 2 gen 3 pid 1234: text key=value key="value with space"

Rules:
- `event` is this program's own text; what came from outside goes into the values, which are escaped as in the
  access log.
- An entry starts at the beginning of a line.  What belongs to it and needs more lines (a traceback, an event
  of several lines) follows in lines that start with a TAB, so nobody can forge an entry with a newline.
- No I/O here: lines go to `write`, which must not block and must be safe in the threads that log.
"""

from __future__ import annotations

import abc
import re
import threading
import time
import traceback
from collections.abc import Callable, Hashable

from httpd.logs.escape import escape, escape_text
from httpd.logs.stamp import Stamp

LEVELS = ("debug", "info", "notice", "warning", "error")

_Exception = BaseException | None

_RANKS = {name: rank for rank, name in enumerate(LEVELS)}
_BARE = re.compile(rb"[^\s=]+")
_KEYS_LIMIT = 1024  # keys that `limited` remembers; the oldest is forgotten first


def _value(value: object) -> bytes:
    if isinstance(value, bytes):
        data = value
    elif value is None:
        data = b"-"
    else:
        data = str(value).encode("utf-8", "surrogateescape")
    text = escape(data)
    return text if _BARE.fullmatch(text) and text == data else b'"%b"' % text


def _lines(text: str) -> list[bytes]:
    return [escape_text(line.encode("utf-8", "surrogateescape")) for line in text.rstrip("\n").split("\n")]


class Levels(abc.ABC):
    """The five methods, for whatever knows what to do with an entry.

    Each takes the event and any number of values by name.  `exception` adds the traceback of an exception.
    """

    __slots__ = ()

    @abc.abstractmethod
    def _log(self, level: str, event: str, exception: _Exception, values: dict[str, object]) -> None:
        """Write one entry, or not."""

    def debug(self, event: str, *, exception: _Exception = None, **values: object) -> None:
        self._log("debug", event, exception, values)

    def info(self, event: str, *, exception: _Exception = None, **values: object) -> None:
        self._log("info", event, exception, values)

    def notice(self, event: str, *, exception: _Exception = None, **values: object) -> None:
        self._log("notice", event, exception, values)

    def warning(self, event: str, *, exception: _Exception = None, **values: object) -> None:
        self._log("warning", event, exception, values)

    def error(self, event: str, *, exception: _Exception = None, **values: object) -> None:
        self._log("error", event, exception, values)


class ErrorLog(Levels):
    """Writes entries of at least `level`.  `tag` says who writes: "worker 2 gen 3 pid 1234".

    `wall` and `clock` are the wall clock and the monotonic clock, in seconds.  Raises ValueError for an
    unknown level.
    """

    __slots__ = ("_clock", "_last", "_lock", "_rank", "_stamp", "_tag", "_wall", "_write")

    def __init__(
        self,
        write: Callable[[bytes], None],
        level: str,
        tag: str,
        *,
        wall: Callable[[], float] = time.time,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self.set_level(level)
        self._tag = escape_text(tag.encode("utf-8", "surrogateescape"))
        self._wall = wall
        self._clock = clock
        self._stamp = Stamp()
        self._last: dict[Hashable, tuple[float, int]] = {}  # key -> last line's time, lines suppressed since
        self._lock = threading.Lock()

    def set_level(self, level: str) -> None:
        """Write entries of at least `level` from now on.  Raises ValueError for an unknown one."""
        if level not in _RANKS:
            raise ValueError(f"unknown level {level!r}; levels are {', '.join(LEVELS)}")
        self._rank = _RANKS[level]

    def enabled(self, level: str) -> bool:
        """Whether entries of this level are written: ask before building costly values."""
        return _RANKS[level] >= self._rank

    def limited(self, key: Hashable, seconds: float) -> Levels:
        """The same log with at most one line per `key` every `seconds`.

        A line tells how many before it were suppressed.  A key must not be made of what clients send.
        """
        return _Limited(self, key, seconds)

    def _log(self, level: str, event: str, exception: _Exception, values: dict[str, object]) -> None:
        if _RANKS[level] < self._rank:
            return
        first, *rest = _lines(event)
        parts = [first, *(b"%b=%b" % (key.encode(), _value(value)) for key, value in values.items())]
        if exception is not None:
            rest += _lines("".join(traceback.format_exception(exception)))
        stamp = self._stamp.iso(self._wall())
        head = b"%b [%b] %b: %b" % (stamp, level.encode(), self._tag, b" ".join(parts))
        self._write(b"\n\t".join([head, *rest]) + b"\n")

    def admit(self, key: Hashable, seconds: float) -> int | None:
        """None when a limited line must not be written now; else how many were suppressed since the last."""
        now = self._clock()
        with self._lock:
            when, suppressed = self._last.get(key, (None, 0))
            if when is not None and now - when < seconds:
                self._last[key] = (when, suppressed + 1)
                return None
            self._last.pop(key, None)
            self._last[key] = (now, 0)
            if len(self._last) > _KEYS_LIMIT:
                del self._last[next(iter(self._last))]
            return suppressed


class _Limited(Levels):
    __slots__ = ("_key", "_log_to", "_seconds")

    def __init__(self, log: ErrorLog, key: Hashable, seconds: float) -> None:
        self._log_to = log
        self._key = key
        self._seconds = seconds

    def _log(self, level: str, event: str, exception: _Exception, values: dict[str, object]) -> None:
        if not self._log_to.enabled(level):
            return
        suppressed = self._log_to.admit(self._key, self._seconds)
        if suppressed is None:
            return
        if suppressed:
            values = {**values, "suppressed": suppressed}
        self._log_to._log(level, event, exception, values)
