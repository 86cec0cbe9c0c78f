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
    assert lines_of(b"x" * LINE + b" " * 100 + b"\n") == ["x" * LINE]
    assert lines_of(b"x" * (LINE + 1) + b"\n") == ["x" * LINE + "..."]


@pytest.mark.parametrize("character", ["\u00e9", "\u20ac", "\U0001f40d"])
@pytest.mark.parametrize("before", range(4))
def test_it_is_not_cut_within_a_character(character: str, before: int) -> None:
    (line,) = lines_of(b"x" * before + character.encode() * LINE + b"\n")
    assert set(line.removesuffix("...")) <= {"x", character}
    assert LINE - 4 < len(line.removesuffix("...").encode()) <= LINE


def test_what_is_no_text_is_cut_somewhere() -> None:
    assert Stderr().cut(b"\x80" * 2 * LINE + b"\n", 1) == ([b"\x80" * (LINE - 4) + b"..."], 0)


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


# More than is wanted


@pytest.mark.parametrize(
    ("data", "most", "lines", "behind"),
    [
        (b"a\nb\nc\n", 4, [b"a", b"b", b"c"], 0), (b"a\nb\nc\n", 3, [b"a", b"b", b"c"], 0),
        (b"a\nb\nc\n", 2, [b"a", b"b"], 1), (b"a\nb\nc\n", 0, [], 3), (b"a\nb\nc", 0, [], 2),
        (b"\n\n a\n\n\n  b\n", 1, [b" a"], 3), (b"\n\n\n", 0, [], 0), (b"a\n \n\n", 1, [b"a"], 0), (b"a", 0, [], 0),
        (b"x" * 5000, 1, [b"x" * LINE + b"..."], 0), (b"x" * 5000, 0, [], 1),
    ],
)  # fmt: skip
def test_the_first_lines_and_how_many_there_are_behind_them(
    data: bytes, most: int, lines: list[bytes], behind: int
) -> None:
    assert Stderr().cut(data, most) == (lines, behind)


def test_what_is_only_counted_is_not_kept() -> None:
    stderr = Stderr()
    assert sum(stderr.cut(b"x" * 100_000, 0)[1] for _ in range(10)) == 10
    assert stderr.cut(b"a\n" * 30_000 + b"rest", 0) == ([], 30_000)
    assert stderr.cut(b" of a line\n", 1) == ([b"rest of a line"], 0)
    assert len(stderr.tail) <= 2000


def test_of_a_flood_only_what_is_wanted_is_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else one script that floods is a burden for all that its worker serves."""
    looked_at: list[bytes] = []

    def shown(line: bytes) -> bytes:
        looked_at.append(line)
        return line

    monkeypatch.setattr("httpd.cgi.stderr._shown", shown)
    piece = b"a\n" * 8192
    for most in (3, 0, 2):
        lines, behind = Stderr().cut(piece, most)
        assert (len(lines), behind) == (most, 8192 - most)
    assert looked_at == [b"a\n"] * 5


@given(st.lists(st.sampled_from([b"a\n", b"b\n", b"\n", b" \n"]), max_size=30), st.integers(0, 20))
def test_every_line_is_there_or_counted(pieces: list[bytes], most: int) -> None:
    """Blank lines behind the last one that is wanted may be counted, where there are others."""
    inked = [piece.strip() for piece in pieces if piece.strip()]
    lines, behind = Stderr().cut(b"".join(pieces), most)
    assert lines == inked[:most]
    assert len(inked[most:]) <= behind <= (len(pieces) - len(lines) if inked[most:] else 0)


# How many are


def taken(allowance: Allowance, count: int, now: float) -> int:
    """How many of so many lines are logged."""
    logged = min(count, allowance.left(now))
    allowance.spend(logged, count - logged)
    return logged


def test_a_flood_is_counted() -> None:
    allowance = Allowance()
    assert taken(allowance, 1000, 100.0) == 200
    assert taken(allowance, 1000, 100.0) == 0
    assert allowance.dropped == 1800
    assert allowance.settle(100.0) == 1800
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
    assert allowance.due(100.0)
    assert allowance.due_at(100.0) == 101.0
    assert allowance.settle(101.0) == 1
    taken(allowance, 100, 101.0)
    assert [allowance.due(now) for now in (101.0, 105.9, 106.0)] == [False, False, True]
    assert [allowance.due_at(now) for now in (101.0, 104.0, 105.5)] == [106.0, 106.0, 106.5]


def test_nothing_to_tell() -> None:
    allowance = Allowance()
    assert not allowance.due(100.0)
    assert allowance.settle(100.0) == 0
    taken(allowance, 201, 100.0)
    assert allowance.due(100.0)  # to have told nothing does not count as having told
