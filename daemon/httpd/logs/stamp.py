"""Times as the logs write them: local time with its offset from UTC.

Rules: the caller passes the wall-clock time; the text of a second is built once.  Names of months are English
whatever the locale is, because the readers of access logs (awstats, goaccess, fail2ban) parse them.
"""

from __future__ import annotations

import time

_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")


def _offset(local: time.struct_time) -> tuple[int, int, int]:
    """The zone's offset as (sign character, hours, minutes)."""
    minutes = abs(local.tm_gmtoff) // 60
    return (ord("-") if local.tm_gmtoff < 0 else ord("+"), *divmod(minutes, 60))


class Stamp:
    """Formats wall-clock times (seconds since the epoch).  Thread-safe: a cache is replaced as a whole."""

    __slots__ = ("_clf", "_iso")

    def __init__(self) -> None:
        # From, to, and the text of that second.  Comparing floats is cheaper than int(now).
        self._clf = (0.0, 0.0, b"")
        self._iso = (0.0, 0.0, b"")

    def clf(self, now: float) -> bytes:
        """`[22/Nov/2026:05:44:49 +0000]`, the time of the Common Log Format."""
        start, end, text = self._clf
        if not start <= now < end:
            second = int(now)
            local = time.localtime(second)
            text = b"[%02d/%b/%04d:%02d:%02d:%02d %c%02d%02d]" % (
                local.tm_mday,
                _MONTHS[local.tm_mon - 1],
                local.tm_year,
                *local[3:6],
                *_offset(local),
            )
            self._clf = (second, second + 1, text)
        return text

    def iso(self, now: float) -> bytes:
        """`2026-11-22T05:44:49.123+00:00` (ISO 8601, RFC 3339); milliseconds are cut off, not rounded."""
        start, end, text = self._iso
        if not start <= now < end:
            start = second = int(now)
            local = time.localtime(second)
            text = b"%04d-%02d-%02dT%02d:%02d:%02d.%%03d%c%02d:%02d" % (*local[:6], *_offset(local))
            self._iso = (second, second + 1, text)
        return text % int((now - start) * 1000)
