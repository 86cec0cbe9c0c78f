"""httpd.logs.errors: the form of an entry, what clients cannot do to it, levels, and the rate limit."""

import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.logs.errors import LEVELS, ErrorLog

NOW = 1795326289.1239
HEAD = b"2026-11-22T05:44:49.123+00:00 [warning] worker 2 gen 3 pid 1234: "
ENTRY = re.compile(
    rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d \[[a-z]+\] [\x20-\x7e]*(?:\n\t[\x20-\x7e]*)*\n"
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Written:
    """An error log and what it wrote."""

    def __init__(self, level: str = "debug") -> None:
        self.entries: list[bytes] = []
        self.clock = Clock()
        tag = "worker 2 gen 3 pid 1234"
        self.log = ErrorLog(self.entries.append, level, tag, wall=lambda: NOW, clock=self.clock)

    def text(self) -> bytes:
        """The only entry, without its head."""
        [entry] = self.entries
        assert ENTRY.fullmatch(entry)
        return entry.partition(b"1234: ")[2]


VALUES = [
    ("word", b"word"),
    ("two words", b'"two words"'),
    ("", b'""'),
    ("a=b", b'"a=b"'),
    ('a"b', b'"a\\x22b"'),
    ("a\\b", b'"a\\x5cb"'),
    ("a\nb\r\tc", b'"a\\x0ab\\x0d\\x09c"'),
    ("gr\u00fcn", b'"gr\\xc3\\xbcn"'),
    ("\udcff", b'"\\xff"'),
    (b"raw\x1b[2J", b'"raw\\x1b[2J"'),
    (b"/path", b"/path"),
    (5, b"5"),
    (1.5, b"1.5"),
    (True, b"True"),
    (None, b"-"),
    (OSError(2, "No such file", "/x"), b"\"[Errno 2] No such file: '/x'\""),
]


@pytest.mark.parametrize(("value", "text"), VALUES)
def test_values(value: object, text: bytes) -> None:
    written = Written()
    written.log.info("something happened", key=value)
    assert written.text() == b"something happened key=" + text + b"\n"


def test_an_entry(zone: Callable[[str], None]) -> None:
    zone("UTC0")
    written = Written()
    written.log.warning("worker died", signal="SEGV", uptime=3, reason="core dumped")
    assert written.entries == [HEAD + b'worker died signal=SEGV uptime=3 reason="core dumped"\n']


def test_an_event_of_several_lines_is_one_entry() -> None:
    written = Written()
    written.log.error("script said:\nline 1\n\n\x1b[31mline 2\n", path="/x")
    assert written.text() == b"script said: path=/x\n\tline 1\n\t\n\t\\x1b[31mline 2\n"


def test_an_exception_is_one_entry() -> None:
    written = Written()
    forged = "x\n2026-11-22T05:44:49.123+00:00 [error] worker 9: forged \u00fc"
    try:
        raise ValueError(forged)
    except ValueError as error:
        written.log.error("handler failed", exception=error, path="/x")
    first, *rest = written.text().splitlines()
    assert first == b"handler failed path=/x"
    assert rest[0] == b"\tTraceback (most recent call last):"
    assert rest[-2:] == [b"\tValueError: x", b"\t2026-11-22T05:44:49.123+00:00 [error] worker 9: forged \\xc3\\xbc"]


@given(st.text(), st.text(), st.binary())
def test_nothing_can_break_an_entry(event: str, text: str, data: bytes) -> None:
    written = Written()
    written.log.notice(event, text=text, data=data, exception=ValueError(text))
    assert ENTRY.fullmatch(written.entries[0])
    first = written.entries[0].splitlines()[0]
    assert re.search(rb' text=(?:[^\s="]+|"[^"]*") data=(?:[^\s="]+|"[^"]*")$', first)


@pytest.mark.parametrize("limit", LEVELS)
def test_levels(limit: str) -> None:
    written = Written(limit)
    expected = []
    for level in LEVELS:
        getattr(written.log, level)("text")
        getattr(written.log.limited(level, 5), level)("limited")
        if LEVELS.index(level) >= LEVELS.index(limit):
            expected += [b" [%b] " % level.encode()] * 2
        assert written.log.enabled(level) == (LEVELS.index(level) >= LEVELS.index(limit))
    assert len(written.entries) == len(expected)
    assert all(part in entry for part, entry in zip(expected, written.entries, strict=True))


def test_unknown_level() -> None:
    with pytest.raises(ValueError, match="unknown level 'warn'; levels are debug, info, notice, warning"):
        Written("warn")


def test_limited() -> None:
    written = Written()

    def happen(key: str) -> None:
        written.log.limited(key, 5).warning("cannot accept", errno=24)

    for _ in range(4):
        happen("accept")
    happen("other")
    written.clock.now += 4.9
    happen("accept")
    written.clock.now += 0.1
    happen("accept")
    written.clock.now += 5
    happen("accept")
    assert [entry.partition(b"1234: ")[2] for entry in written.entries] == [
        b"cannot accept errno=24\n",
        b"cannot accept errno=24\n",
        b"cannot accept errno=24 suppressed=4\n",
        b"cannot accept errno=24\n",
    ]


def test_limited_lines_below_the_level_count_for_nothing() -> None:
    written = Written("error")
    written.log.limited("key", 5).debug("detail")
    written.log.limited("key", 5).error("text")
    assert written.text() == b"text\n"


def test_limited_keeps_a_key_that_was_used_again() -> None:
    written = Written()
    written.log.limited("used", 5).info("first")
    for key in range(1000):
        written.log.limited(key, 5).info("other")
    written.clock.now += 5
    written.log.limited("used", 5).info("second")
    for key in range(1000, 2000):
        written.log.limited(key, 5).info("other")
    written.log.limited("used", 5).info("third")
    assert [entry for entry in written.entries if b"third" in entry] == []


def test_limited_forgets_the_oldest_key() -> None:
    written = Written()
    for key in range(2000):
        written.log.limited(key, 5).info("first")
    for key in (0, 1999):
        written.log.limited(key, 5).info("again")
    assert len([entry for entry in written.entries if entry.endswith(b"again\n")]) == 1
    assert len(written.entries) == 2001
