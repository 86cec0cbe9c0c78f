"""What scripts write to stderr: lines, long ones, floods, last words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.cgi.stderr import LINE, Allowance, Stderr


def lines_of(*pieces: bytes) -> list[str]:
    stderr = Stderr()
    return [line for piece in pieces for line in stderr.feed(piece)] + stderr.end()


def test_lines_come_when_they_are_complete() -> None:
    stderr = Stderr()
    assert stderr.feed(b"one\ntw") == ["one"]
    assert stderr.feed(b"") == []
    assert stderr.feed(b"o\n") == ["two"]
    assert stderr.end() == []


def test_the_last_line_needs_no_end() -> None:
    stderr = Stderr()
    assert stderr.feed(b"one") == []
    assert stderr.end() == ["one"]
    assert stderr.end() == []


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []), (b"\n\n \r\n\t\n", []), (b"a\r\nb\r\n", ["a", "b"]), (b"  indented \n", ["  indented"]),
        (b"\xc3\xa9\n", ["é"]), (b"\xff\xfea\n", ["\\xff\\xfea"]), (b"a\0b\x1b[1m\n", ["a\0b\x1b[1m"]),
    ],
)  # fmt: skip
def test_lines(data: bytes, lines: list[str]) -> None:
    """Blank ones are none.  What would repaint a terminal the log itself escapes."""
    assert lines_of(data) == lines


@given(st.lists(st.sampled_from([b"a", b"\n", b"\r\n", b" ", b"\xc3", b"\xa9", b"long " * 50]), max_size=20))
def test_how_it_is_cut_changes_nothing(pieces: list[bytes]) -> None:
    assert lines_of(*pieces) == lines_of(b"".join(pieces))


def test_a_long_line_is_shortened() -> None:
    assert lines_of(b"x" * LINE + b"\n") == ["x" * LINE]
    assert lines_of(b"x" * (LINE + 1) + b"\n") == ["x" * LINE + "..."]


def test_a_line_without_an_end_is_not_kept_for_ever() -> None:
    stderr = Stderr()
    assert [line for _ in range(100) for line in stderr.feed(b"x" * LINE)] == ["x" * LINE + "..."] * 20
    assert stderr.end() == []


def test_last_words() -> None:
    stderr = Stderr()
    assert stderr.last_words == ""
    stderr.feed(b"first\n" + b"x" * 3000)
    stderr.feed(b"\nlast\n\n")
    assert stderr.last_words.endswith("x\nlast")
    assert "first" not in stderr.last_words
    assert len(stderr.last_words) <= 2000
    stderr.feed(b"\xff")
    assert stderr.last_words.endswith("last\n\n\\xff")


def taken(allowance: Allowance, count: int, now: float) -> int:
    return sum(allowance.take(now) for _ in range(count))


def test_a_flood_is_counted() -> None:
    allowance = Allowance()
    assert taken(allowance, 1000, 100.0) == 200
    assert allowance.dropped == 800
    assert allowance.settle(100.0) == 800
    assert allowance.dropped == 0


def test_twenty_lines_a_second_behind_the_first() -> None:
    allowance = Allowance()
    taken(allowance, 200, 100.0)
    assert taken(allowance, 100, 101.0) == 20
    assert taken(allowance, 100, 101.5) == 10
    assert taken(allowance, 1000, 10_000.0) == 200


def test_that_lines_are_missing_is_not_told_all_the_time() -> None:
    """Else the entries about them were a flood of their own."""
    allowance = Allowance()
    taken(allowance, 201, 100.0)
    assert allowance.settle(100.0) == 1
    taken(allowance, 1, 100.0)
    assert [allowance.settle(now) for now in (100.0, 104.9, 105.0, 105.0)] == [0, 0, 1, 0]


def test_nothing_to_tell() -> None:
    allowance = Allowance()
    assert allowance.settle(0.0) == 0
    taken(allowance, 201, 3.0)
    assert allowance.settle(3.0) == 1  # to have told nothing does not count as having told
