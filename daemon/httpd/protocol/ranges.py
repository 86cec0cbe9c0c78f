"""Range: the field value and a size in, (offset, length) pairs out (RFC 9110 14.1, 14.2).

Rules:

- Digits are ASCII digits, and however many there are, only a bounded number of them becomes an integer
  (RFC 9110 14.1.2).
- One invalid range makes the whole field invalid, and an invalid field is ignored, not refused: the client
  gets the whole representation, which is always right.
- Many ranges, or many that overlap, are a way to have the same bytes sent over and over (RFC 9110 17.15).
  Such a field is ignored too.
"""

from __future__ import annotations

import enum
import re
from typing import Final, Literal

MAX_RANGES = 16
MAX_OVERLAPPING = 2  # RFC 9110 14.2 calls more of them broken or hostile


class Unsatisfiable(enum.Enum):
    """The type of UNSATISFIABLE."""

    UNSATISFIABLE = "unsatisfiable"


UNSATISFIABLE: Final = Unsatisfiable.UNSATISFIABLE  # valid, but no range lies within the representation

Ranges = list[tuple[int, int]]

# ranges-specifier = "bytes" "=" 1#( first-pos "-" [ last-pos ] / "-" suffix-length )         RFC 9110 14.1.1
# Empty elements are allowed for (5.6.1.2), and white space behind "=", because an example of 14.1.2 has it.
# Groups are not repeated possessively, which Python before 3.11.5 gets wrong (gh-106052).  There is nothing
# to backtrack into all the same: no element matches in two ways.
_SPEC = rb"(?:[0-9]++-[0-9]*+|-[0-9]++)"
_SPECIFIER = re.compile(
    rb"[Bb][Yy][Tt][Ee][Ss]=[ \t]*+(" + _SPEC + rb"?(?:[ \t]*+,[ \t]*+" + _SPEC + rb"?)*)"
)  # fmt: skip
_RANGE = re.compile(rb"([0-9]*+)-([0-9]*+)")

# Eighteen digits pass any file; a longer number is beyond every size, whatever it is.
_DIGITS = 18
_BEYOND = 10**_DIGITS


def parse_range(value: bytes, size: int) -> Ranges | Literal[Unsatisfiable.UNSATISFIABLE] | None:
    """The ranges that a Range field asks of a representation of `size` bytes: (offset, length) in the order
    asked.

    None: the field is to be ignored (another unit, invalid, abusive, or the suffix of an empty
    representation).  UNSATISFIABLE: the answer is 416.  Otherwise there is at least one range, each at least
    one byte long.
    """
    match = _SPECIFIER.fullmatch(value)
    if match is None:
        return None
    specs = _RANGE.findall(match[1])
    if not specs or len(specs) > MAX_RANGES:
        return None
    ranges: Ranges = []
    for first, last in specs:
        if first and last and _later(first, last):
            return None
        found = _within(first, last, size)
        if found is not None:
            ranges.append(found)
    if not ranges:
        return UNSATISFIABLE
    # An empty representation has no first byte to name in a Content-Range: sent whole, as 14.2 allows.
    return ranges if size and _overlapping(ranges) <= MAX_OVERLAPPING else None


def _within(first: bytes, last: bytes, size: int) -> tuple[int, int] | None:
    """What one range-spec means for `size` bytes; None when it is unsatisfiable."""
    if not first:
        suffix = _number(last)
        return (max(size - suffix, 0), min(suffix, size)) if suffix else None
    offset = _number(first)
    if offset >= size:
        return None
    end = min(_number(last) + 1, size) if last else size
    return offset, end - offset


def _number(digits: bytes) -> int:
    digits = digits.lstrip(b"0")
    return int(digits or b"0") if len(digits) <= _DIGITS else _BEYOND


def _later(first: bytes, last: bytes) -> bool:
    """Whether `first` is the larger number, also where both have too many digits for `_number`."""
    first, last = first.lstrip(b"0"), last.lstrip(b"0")
    return (len(first), first) > (len(last), last)


def _overlapping(ranges: Ranges) -> int:
    """How many of the ranges share a byte with another one.  With at most MAX_RANGES, squares are cheap."""
    return sum(
        any(
            offset < other + other_length and other < offset + length
            for at, (other, other_length) in enumerate(ranges)
            if at != position
        )
        for position, (offset, length) in enumerate(ranges)
    )
