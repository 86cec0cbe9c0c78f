"""Dates as handlers write them, made once for each second: in fields, and in the lines of the log."""

from __future__ import annotations

import email.utils
import functools
import time
from collections.abc import Sequence
from typing import Any

from httpd.protocol.dates import LATEST, format_date


def http_date(timestamp: float) -> str:
    """Seconds since the epoch as a field has them (RFC 9110 5.6.7)."""
    second = int(timestamp)
    if timestamp < 0 or timestamp > LATEST or timestamp - second > 0.999999:  # rounds as `email.utils` does
        return email.utils.formatdate(timestamp, usegmt=True)
    return _text(second)


@functools.lru_cache(maxsize=1024)
def _text(second: int) -> str:
    return format_date(second).decode()


_last: tuple[int, Any, str] = (-1, None, "")


def log_date(months: Sequence[str | None]) -> str:
    """Now, in local time: 22/Nov/2026 05:44:49."""
    global _last  # noqa: PLW0603 - a cache; two threads at once would make the same
    second = int(time.time())
    known, names, text = _last
    if known != second or names is not months:
        now = time.localtime(second)
        text = (
            f"{now.tm_mday:02d}/{months[now.tm_mon]}/{now.tm_year:04d} "
            f"{now.tm_hour:02d}:{now.tm_min:02d}:{now.tm_sec:02d}"
        )
        _last = (second, months, text)
    return text
