"""HTTP-date (RFC 9110 5.6.7)."""

import calendar
import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpd.protocol.dates import EARLIEST, LATEST, _parse_full, format_date, parse_date

NOW = 1767225600  # 2026-01-01T00:00:00Z
EXAMPLE = 784111777  # the example of RFC 9110 5.6.7

VALID = [
    (b"Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE),
    (b"Sunday, 06-Nov-94 08:49:37 GMT", EXAMPLE),
    (b"Sun Nov  6 08:49:37 1994", EXAMPLE),
    (b"Sun Nov 06 08:49:37 1994", EXAMPLE),
    (b"Wed Nov 16 08:49:37 1994", EXAMPLE + 10 * 86400),
    (b"Thu, 01 Jan 1970 00:00:00 GMT", 0),
    (b"Wed, 31 Dec 1969 23:59:59 GMT", -1),
    (b"Tue, 29 Feb 2000 00:00:00 GMT", 951782400),
    (b"Thu, 29 Feb 2024 12:00:00 GMT", 1709208000),
    (b"Sat, 31 Dec 2016 23:59:60 GMT", 1483228800),
    (b"Saturday, 31-Dec-16 23:59:60 GMT", 1483228800),
    (b"Sat, 01 Jan 0000 00:00:00 GMT", EARLIEST),
    (b"Fri, 31 Dec 9999 23:59:59 GMT", LATEST),
]

INVALID = [
    b"",
    b"yesterday",
    b"0",
    b"784111777",
    b"Sun, 06 Nov 1994 08:49:37",
    b"Sun, 06 Nov 1994 08:49:37 UTC",
    b"Sun, 06 Nov 1994 08:49:37 gmt",
    b"Sun, 06 Nov 1994 08:49:37 +0000",
    b"Sun, 06 Nov 1994 08:49:37 GMT ",
    b" Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sun, 06 Nov 1994 08:49:37 GMT\n",
    b"Sun,  06 Nov 1994 08:49:37 GMT",
    b"Sun,06 Nov 1994 08:49:37 GMT",
    b"Sun 06 Nov 1994 08:49:37 GMT",
    b"Sun, 06-Nov-1994 08:49:37 GMT",
    b"Sun, 6 Nov 1994 08:49:37 GMT",
    b"Sun,  6 Nov 1994 08:49:37 GMT",
    b"sun, 06 nov 1994 08:49:37 GMT",
    b"SUN, 06 NOV 1994 08:49:37 GMT",
    b"Sunday, 06 Nov 1994 08:49:37 GMT",
    b"Sun, 06 November 1994 08:49:37 GMT",
    b"Son, 06 Nov 1994 08:49:37 GMT",
    b"06 Nov 1994 08:49:37 GMT",
    b"Sun, 06 Nov 94 08:49:37 GMT",
    b"Sun, 06 Nov 11994 08:49:37 GMT",
    b"Sun, 06 Nov 1994 8:49:37 GMT",
    b"Sun, 06 Nov 1994 08:49 GMT",
    b"Sun, 06 Nov 1994 24:00:00 GMT",
    b"Sun, 06 Nov 1994 08:60:00 GMT",
    b"Sun, 06 Nov 1994 08:49:61 GMT",
    b"Sun, 06 Nov 1994 08:49:37.5 GMT",
    b"Sun, \xb2\xb2 Nov 1994 08:49:37 GMT",
    b"Sun, +6 Nov 1994 08:49:37 GMT",
    b"Mon, 06 Nov 1994 08:49:37 GMT",  # it was a Sunday
    b"Sun, 00 Nov 1994 08:49:37 GMT",
    b"Thu, 31 Nov 1994 08:49:37 GMT",
    b"Thu, 32 Dec 1994 08:49:37 GMT",
    b"Thu, 29 Feb 1900 08:49:37 GMT",
    b"Thu, 29 Feb 2100 08:49:37 GMT",
    b"Wed, 29 Feb 2023 08:49:37 GMT",
    b"Sun Nov 6 08:49:37 1994",
    b"Sun Nov   6 08:49:37 1994",
    b"Sun Nov  6 08:49:37 1994 GMT",
    b"Sun Nov  6 08:49:37 94",
    b"Sun, 06-Nov-94 08:49:37 GMT",
    b"Sunday, 06-Nov-1994 08:49:37 GMT",
    b"Sunday, 06 Nov 94 08:49:37 GMT",
    b"Sunday, 06-Nov-94 08:49:37",
    b"Monday, 06-Nov-94 08:49:37 GMT",
    b"Sun, 06 Nov 1994 08:49:37 GMT, Sun, 06 Nov 1994 08:49:37 GMT",
    b"Sun, 06 Nov 1994 08:49:37 GMT; length=17",
]


@pytest.mark.parametrize(("value", "seconds"), VALID)
def test_valid(value: bytes, seconds: int) -> None:
    assert parse_date(value, NOW) == seconds


@pytest.mark.parametrize("value", INVALID)
def test_invalid(value: bytes) -> None:
    assert parse_date(value, NOW) is None


def seconds(*date: int) -> int:
    return calendar.timegm((*date, 0, 0, 0)[:6])


def rfc850(year: int, month: int, day: int, time: str = "00:00:00") -> bytes:
    return datetime.date(year, month, day).strftime(f"%A, %d-%b-%y {time} GMT").encode()


@pytest.mark.parametrize(
    ("now", "value", "expected"),
    [
        # Exactly 50 years ahead is not more than 50 years ahead.
        (seconds(2026, 1, 1), rfc850(2076, 1, 1), seconds(2076, 1, 1)),
        (seconds(2026, 1, 1), rfc850(1976, 1, 2), seconds(1976, 1, 2)),
        (seconds(2026, 6, 15), rfc850(2076, 6, 14, "23:59:59"), seconds(2076, 6, 15) - 1),
        (seconds(2026, 6, 15), rfc850(1976, 6, 15, "00:00:01"), seconds(1976, 6, 15) + 1),
        (seconds(2026, 6, 15), rfc850(1977, 1, 1), seconds(1977, 1, 1)),
        (seconds(2026, 6, 15), rfc850(1999, 12, 31), seconds(1999, 12, 31)),
        (seconds(2026, 6, 15), rfc850(2000, 2, 29), seconds(2000, 2, 29)),
        (seconds(2026, 6, 15), rfc850(2026, 6, 16), seconds(2026, 6, 16)),
        # The window moves with the clock, over the turn of a century too.
        (seconds(1995, 1, 1), rfc850(2030, 1, 1), seconds(2030, 1, 1)),
        (seconds(1995, 1, 1), rfc850(1946, 1, 1), seconds(1946, 1, 1)),
        (seconds(2080, 1, 1), rfc850(2105, 1, 1), seconds(2105, 1, 1)),
        (seconds(2080, 1, 1), rfc850(2031, 1, 1), seconds(2031, 1, 1)),
        # The day of the week belongs to the year that was chosen.
        (seconds(2026, 6, 15), b"Monday, 06-Nov-94 08:49:37 GMT", None),
    ],
)
def test_two_digit_year(now: int, value: bytes, expected: int | None) -> None:
    assert parse_date(value, now) == expected


def test_same_text_other_clock() -> None:
    """What was parsed under one clock is not remembered for another."""
    value = b"Friday, 01-Jan-60 00:00:00 GMT"
    assert parse_date(value, seconds(1990, 1, 1)) == seconds(1960, 1, 1)
    assert parse_date(value, seconds(2026, 1, 1)) is None  # 2060 begins with a Thursday


def test_long_values_are_not_remembered() -> None:
    """A client can't fill memory with dates of 30 KiB each."""
    before = _parse_full.cache_info()
    assert parse_date(b"Sun, 06 Nov 1994 08:49:37 GMT" * 1000, NOW) is None
    assert _parse_full.cache_info() == before
    assert before.maxsize is not None


@pytest.mark.parametrize("outside", [EARLIEST - 1, LATEST + 1])
def test_year_of_five_digits(outside: int) -> None:
    with pytest.raises(ValueError, match="four digits"):
        format_date(outside)


def test_format() -> None:
    assert format_date(EXAMPLE) == b"Sun, 06 Nov 1994 08:49:37 GMT"


@settings(deadline=None)
@given(st.integers(EARLIEST, LATEST))
def test_round_trip(value: int) -> None:
    text = format_date(value)
    assert len(text) == 29
    assert parse_date(text, NOW) == value


@settings(deadline=None)
@given(st.datetimes(datetime.datetime(1, 1, 1), datetime.datetime(9999, 12, 31)))
def test_agrees_with_datetime(moment: datetime.datetime) -> None:
    moment = moment.replace(microsecond=0)
    expected = (moment - datetime.datetime(1970, 1, 1)) // datetime.timedelta(seconds=1)
    assert parse_date(format_date(expected), NOW) == expected
    assert format_date(expected)[5:7] == b"%02d" % moment.day
    asctime = moment.ctime().encode()
    assert parse_date(asctime[:-4] + b"%04d" % moment.year, NOW) == expected


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text("SunMod,0123456789 -:GMTNov", max_size=40).map(str.encode))
def test_anything(value: bytes) -> None:
    assert parse_date(value, NOW) is None or EARLIEST - 86400 <= parse_date(value, NOW) <= LATEST + 86400  # type: ignore[operator]
