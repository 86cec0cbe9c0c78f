"""What the head of a handler's answer says of the connection and of the body (RFC 9112 6.3, 9.3).

Rules:

- A head is looked at as a whole and once: within a second many are the same, so the last ones are kept.
- A line that is folded, has no colon, or has CR or NUL in it is two lines in the eyes of some: no answer (RFC 9112 5).
"""

from __future__ import annotations

import re
from typing import NamedTuple

UNKNOWN = -1
CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING = (
    re.compile(rb"\r\n(?i:%b)[ \t]*:[^\r\n]*\r\n" % name)
    for name in (b"connection", b"content-length", b"transfer-encoding")
)

_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: |\r?\n)")
_LINES = re.compile(rb"[^\r\n\0]*\r\n(?:[^\r\n\0: \t][^\r\n\0:]*:[^\r\n\0]*\r\n)*\r\n")
_LENGTH = re.compile(rb"[ \t]*([0-9]{1,18})[ \t]*\r?\n")
_OPTIONS = re.compile(rb"\r\nconnection:([^\r\n]*)")
_LINE_END = re.compile(rb"\r?\n")


class BadAnswer(ValueError):
    """A handler wrote what is no HTTP answer."""


class Head(NamedTuple):
    """What the head of an answer says of the connection and the body."""

    status: int
    minor: int
    length: int  # UNKNOWN without Content-Length
    coded: bool  # it has Transfer-Encoding
    closes: bool
    keeps: bool


said: dict[bytes, Head] = {}  # by the head itself: within a second many are the same
_SAID = 512


def read(head: bytes) -> Head:
    """Look at a whole head, as it was written.  Raises BadAnswer."""
    match = _STATUS_LINE.match(head)
    if match is None:
        raise BadAnswer(f"not a status line: {head[:40]!r}")
    if _LINES.fullmatch(head) is None:
        raise BadAnswer(f"a malformed line in the head of an answer: {head[:200]!r}")
    folded = head.lower()
    length = UNKNOWN
    at = folded.find(b"\r\ncontent-length:")
    if at >= 0:
        digits = _LENGTH.match(folded, at + 17)
        if digits is None or folded.find(b"\r\ncontent-length:", at + 1) >= 0:
            raise BadAnswer("Content-Length is not one number")
        length = int(digits[1])
    options = b",".join(_OPTIONS.findall(folded))
    made = Head(
        int(match[2]), int(match[1]), length, b"\r\ntransfer-encoding:" in folded, b"close" in options,
        b"keep-alive" in options,
    )  # fmt: skip
    if len(said) >= _SAID:
        said.clear()
    said[head] = made
    return made


def with_crlf(head: bytes) -> bytes:
    """A head whose lines end with LF alone, as HTTP wants it."""
    return _LINE_END.sub(b"\r\n", head)


def without(head: bytes, field: re.Pattern[bytes]) -> bytes:
    """A head without a field, one of `CONNECTION`, `CONTENT_LENGTH` and `TRANSFER_ENCODING`."""
    while (found := field.search(head)) is not None:
        head = head[: found.start()] + head[found.end() - 2 :]
    return head
