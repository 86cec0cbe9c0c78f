"""HTTP-date: seconds since the epoch <-> the three forms of RFC 9110 5.6.7.

Rules:

- Names of days and months come from the tables below, never from the locale.
- Parsing is strict: letter case, spaces, "GMT" and the number of digits are as in the grammar, digits are
  ASCII, the day exists and falls on the day of the week that is named (RFC 5322 3.3).  Whatever else comes is
  no date, and the field that holds it is ignored (RFC 9110 13.1.3, 13.1.4).
- A leap second (":60") counts as the first second of the next minute.
"""

from __future__ import annotations

import functools
import re
import time

_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_LONG_DAYS = (b"Monday", b"Tuesday", b"Wednesday", b"Thursday", b"Friday", b"Saturday", b"Sunday")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_MONTH_NUMBER = {name: number for number, name in enumerate(_MONTHS, 1)}
_DAY_NUMBER = {name: number for names in (_DAYS, _LONG_DAYS) for number, name in enumerate(names)}
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)

# What four digits of a year can say: 0000-01-01T00:00:00Z to 9999-12-31T23:59:59Z.
EARLIEST = -62167219200
LATEST = 253402300799

_MONTH = rb"(?P<month>" + b"|".join(_MONTHS) + rb")"
_TIME = rb"(?P<hour>[01][0-9]|2[0-3]):(?P<minute>[0-5][0-9]):(?P<second>[0-5][0-9]|60)"

# IMF-fixdate  = day-name "," SP 2DIGIT SP month SP 4DIGIT SP time-of-day SP GMT
# asctime-date = day-name SP month SP ( 2DIGIT / SP 1DIGIT ) SP time-of-day SP 4DIGIT
_SHORT_DAY = rb"(?P<name>" + b"|".join(_DAYS) + rb")"
_FIXDATE = re.compile(
    _SHORT_DAY + rb", (?P<day>[0-9]{2}) " + _MONTH + rb" (?P<year>[0-9]{4}) " + _TIME + rb" GMT"
)  # fmt: skip
_ASCTIME = re.compile(
    _SHORT_DAY + rb" " + _MONTH + rb" (?P<day>[0-9]{2}| [0-9]) " + _TIME + rb" (?P<year>[0-9]{4})"
)  # fmt: skip

# rfc850-date  = day-name-l "," SP 2DIGIT "-" month "-" 2DIGIT SP time-of-day SP GMT
_LONG_DAY = rb"(?P<name>" + b"|".join(_LONG_DAYS) + rb")"
_RFC850 = re.compile(
    _LONG_DAY + rb", (?P<day>[0-9]{2})-" + _MONTH + rb"-(?P<year>[0-9]{2}) " + _TIME + rb" GMT"
)  # fmt: skip

# No form is longer; what is must not fill the cache below with values of a client's choice.
_LONGEST = len(b"Wednesday, 09-Nov-94 08:49:37 GMT")


@functools.lru_cache(maxsize=1024)
def format_date(seconds: int) -> bytes:
    """IMF-fixdate for `seconds` since the epoch.  ValueError outside of EARLIEST to LATEST."""
    if not EARLIEST <= seconds <= LATEST:
        raise ValueError(f"{seconds} s since the epoch has no year of four digits")
    year, month, day, hour, minute, second, weekday, _, _ = time.gmtime(seconds)
    return b"%b, %02d %b %04d %02d:%02d:%02d GMT" % (
        _DAYS[weekday], day, _MONTHS[month - 1], year, hour, minute, second,
    )  # fmt: skip


def parse_date(value: bytes, now: int) -> int | None:
    """Seconds since the epoch, or None when `value` is not one valid HTTP-date.

    `now`, in seconds since the epoch, decides the century of an rfc850-date.
    """
    if len(value) > _LONGEST:
        return None
    seconds = _parse_full(value)
    return seconds if seconds is not None else _parse_rfc850(value, now)


@functools.lru_cache(maxsize=1024)
def _parse_full(value: bytes) -> int | None:
    """The two forms with a whole year.  Clients send the same few dates over and over, hence the cache."""
    match = _FIXDATE.fullmatch(value) or _ASCTIME.fullmatch(value)
    return _seconds(match, int(match["year"])) if match is not None else None


def _parse_rfc850(value: bytes, now: int) -> int | None:
    """RFC 9110 5.6.7: of the years with these two digits, the last at most 50 years ahead of `now`."""
    match = _RFC850.fullmatch(value)
    if match is None:
        return None
    today = time.gmtime(now)
    farthest = today.tm_year + 50
    year = farthest - (farthest - int(match["year"])) % 100
    rest = [int(match[part]) for part in ("day", "hour", "minute", "second")]
    if (year, _MONTH_NUMBER[match["month"]], *rest) > (farthest, *today[1:6]):
        year -= 100
    return _seconds(match, year)


def _seconds(match: re.Match[bytes], year: int) -> int | None:
    """The time that the groups of `match` name in `year`; None when there is no such day."""
    month, day = _MONTH_NUMBER[match["month"]], int(match["day"])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    if not 1 <= day <= _LENGTHS[month - 1] + (leap and month == 2):
        return None
    days = _days(year, month, day)
    if (days + 3) % 7 != _DAY_NUMBER[match["name"]]:  # 1970-01-01 was a Thursday
        return None
    return days * 86400 + int(match["hour"]) * 3600 + int(match["minute"]) * 60 + int(match["second"])


def _days(year: int, month: int, day: int) -> int:
    """Days from 1970-01-01 to a date of the proleptic Gregorian calendar.  The year is counted from March."""
    if month < 3:
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 719469
