"""Request bodies: bytes in, pieces of content out, by Content-Length or by chunks (RFC 9112 6, 7.1).

Rules:

- Chunked framing has one spelling.  Bare LF, bare CR, a sign, white space or "0x" before a size, a missing
  CRLF behind the data: two servers in a row have read each of them differently, which smuggles a request (RFC
  9112 11.2).  Each is 400.
- What is wrong is found at the same byte, with the same status, whether the bytes come at once or one by one.
  A wrong line end is found at once: nobody waits for an LF that is not going to come.
- Kept in memory: one unfinished line at most, and the trailers.  Sizes, lines, extensions and trailers are
  bounded.
- Work is linear in what arrives, however it is cut.  An attacker sends chunks of one byte: `_many` is for
  them.
- After a ProtocolError a reader is not fed again: where the body ends is no longer known.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable

from httpd.protocol import grammar
from httpd.protocol.messages import ProtocolError

LAST_CHUNK = b"0\r\n\r\n"  # with an empty trailer section

# Trailer fields that are dropped (RFC 9110 6.5.1): framing, routing, authentication, request modifiers,
# content format.  Processed late, each could change what was decided when the head was read.
FORBIDDEN_TRAILERS = frozenset((
    b"authorization", b"cache-control", b"connection", b"content-encoding", b"content-language",
    b"content-length", b"content-location", b"content-range", b"content-type", b"cookie", b"expect",
    b"forwarded", b"host", b"if-match", b"if-modified-since", b"if-none-match", b"if-range",
    b"if-unmodified-since", b"keep-alive", b"max-forwards", b"origin", b"pragma", b"proxy",
    b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"range", b"set-cookie", b"te",
    b"trailer", b"transfer-encoding", b"upgrade", b"via", b"www-authenticate", b"x-forwarded-for",
    b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip",
))  # fmt: skip

_LINE_END = re.compile(rb"[\r\n]")
_DIGITS = 16  # of a size
_PLAIN_SIZE = re.compile(rb"([0-9A-Fa-f]{1,%d})\r\n" % _DIGITS)


def chunk(data: bytes) -> bytes:
    """`data` as one chunk; nothing for no data, because an empty chunk would end the body (RFC 9112 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


class LengthReader:
    """A body of `length` bytes (RFC 9112 6.2)."""

    __slots__ = ("_left", "rest", "trailers")

    def __init__(self, length: int) -> None:
        self._left = length
        self.rest = b""
        self.trailers: list[tuple[bytes, bytes]] = []

    @property
    def done(self) -> bool:
        """Whether the body is complete; what was fed behind it is in `rest`."""
        return not self._left

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was received and return the content in it."""
        piece = data[: self._left]
        self._left -= len(piece)
        if not self._left:
            self.rest += data[len(piece) :]
        return [piece] if piece else []


class _State(enum.Enum):
    """What the next byte belongs to."""

    SIZE = "chunk-size and extensions"
    SIZE_LF = "LF behind them"
    DATA = "chunk-data"
    DATA_CR = "CR behind it"
    DATA_LF = "LF behind that"
    TRAILER = "trailer field"
    TRAILER_LF = "LF behind it"
    DONE = "behind the body"


class ChunkedReader:
    """A body in chunks (RFC 9112 7.1).

    Limits, in bytes but for `limit_fields`: `limit_body` for the content (past it 413), `limit_line` for one
    line of size and extensions without CRLF, `limit_extensions` for all extensions together (past them 400),
    `limit_trailer` for the trailer section, its CRLFs included, `limit_fields` for the number of its fields
    (past them 431).
    """

    __slots__ = (
        "_extensions", "_fields", "_held", "_left", "_limit_body", "_limit_extensions", "_limit_fields",
        "_limit_line", "_limit_trailer", "_pieces", "_size", "_state", "_trailer", "rest", "trailers",
    )  # fmt: skip

    def __init__(self, limit_body: int, limit_line: int = 1024, limit_extensions: int = 16 * 1024,
                 limit_trailer: int = 32 * 1024, limit_fields: int = 100) -> None:  # fmt: skip
        self._limit_body = limit_body
        self._limit_line = limit_line
        self._limit_extensions = limit_extensions
        self._limit_trailer = limit_trailer
        self._limit_fields = limit_fields
        self._state = _State.SIZE
        self._held = bytearray()  # the line that is not complete yet
        self._left = 0  # of the current chunk
        self._size = 0  # of all chunks so far
        self._extensions = 0
        self._trailer = 0
        self._fields = 0
        self._pieces: list[bytes] = []
        self.rest = b""
        self.trailers: list[tuple[bytes, bytes]] = []

    @property
    def done(self) -> bool:
        """Whether the body is complete; `rest` is what was fed behind it, `trailers` its trailer fields."""
        return self._state is _State.DONE

    def feed(self, data: bytes) -> list[bytes]:
        """Take what was received and return the content in it.  Raises ProtocolError: 400, 413 or 431."""
        position, end = 0, len(data)
        self._pieces = []
        while position < end:
            position = _STEPS[self._state](self, data, position)
        pieces, self._pieces = self._pieces, []
        return pieces

    # Steps: each takes at least one byte of `data` from `position` on, and returns the position behind it.

    def _size_line(self, data: bytes, position: int) -> int:
        if not self._held and self._limit_line >= _DIGITS and (behind := self._many(data, position)) > position:
            return behind
        return self._line(data, position, self._limit_line, 400, "chunk line too long")

    def _many(self, data: bytes, position: int) -> int:
        """Whole chunks without extensions, as nearly all are: `_size_line` and what follows it, in one go."""
        while (match := _PLAIN_SIZE.match(data, position)) is not None:
            size, start = int(match[1], 16), match.end()
            if not size or not data.startswith(b"\r\n", start + size):
                break
            self._grow(size)
            self._pieces.append(data[start : start + size])
            position = start + size + 2
        return position

    def _size_end(self, data: bytes, position: int) -> int:
        position, line = self._end_of_line(data, position)
        match = grammar.CHUNK_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError(400, f"malformed chunk line {line[:40]!r}")
        self._extensions += len(match[2])
        if self._extensions > self._limit_extensions:
            raise ProtocolError(400, "chunk extensions too large")
        self._left = int(match[1], 16)
        self._grow(self._left)
        self._state = _State.DATA if self._left else _State.TRAILER
        return position

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > self._limit_body:
            raise ProtocolError(413, f"body larger than {self._limit_body} bytes")

    def _data(self, data: bytes, position: int) -> int:
        piece = data[position : position + self._left]
        self._pieces.append(piece)
        self._left -= len(piece)
        if not self._left:
            self._state = _State.DATA_CR
        return position + len(piece)

    def _data_cr(self, data: bytes, position: int) -> int:
        if data[position] != 0x0D:
            raise ProtocolError(400, "chunk data is longer than its size")
        self._state = _State.DATA_LF
        return position + 1

    def _data_lf(self, data: bytes, position: int) -> int:
        if data[position] != 0x0A:
            raise ProtocolError(400, "bare CR behind chunk data")
        self._state = _State.SIZE
        return position + 1

    def _trailer_line(self, data: bytes, position: int) -> int:
        left = self._limit_trailer - self._trailer
        return self._line(data, position, left, 431, "trailer section too large")

    def _trailer_end(self, data: bytes, position: int) -> int:
        position, line = self._end_of_line(data, position)
        if not line:
            self._state = _State.DONE
            return position
        self._state = _State.TRAILER
        self._trailer += len(line) + 2
        self._fields += 1
        if self._fields > self._limit_fields:
            raise ProtocolError(431, "too many trailer fields")
        match = grammar.FIELD_LINE.fullmatch(line)
        if match is None:
            raise ProtocolError(400, f"malformed trailer field {line[:40]!r}")
        name = match[1].lower()
        if name not in FORBIDDEN_TRAILERS:
            self.trailers.append((name, match[2].rstrip(b" \t")))
        return position

    def _behind(self, data: bytes, position: int) -> int:
        self.rest += data[position:]
        return len(data)

    # Lines

    def _line(self, data: bytes, position: int, limit: int, status: int, reason: str) -> int:
        """Hold what there is of a line of at most `limit` bytes, and take its CR."""
        found = _LINE_END.search(data, position)
        end = found.start() if found is not None else len(data)
        if len(self._held) + end - position > limit:
            raise ProtocolError(status, reason)
        self._held += data[position:end]
        if found is None:
            return end
        if data[end] == 0x0A:
            raise ProtocolError(400, "bare LF in chunked body")
        self._state = _AFTER_CR[self._state]
        return end + 1

    def _end_of_line(self, data: bytes, position: int) -> tuple[int, bytes]:
        """Take the LF behind a CR; return the position behind it and the line."""
        if data[position] != 0x0A:
            raise ProtocolError(400, "bare CR in chunked body")
        line = bytes(self._held)
        self._held.clear()
        return position + 1, line


_AFTER_CR = {_State.SIZE: _State.SIZE_LF, _State.TRAILER: _State.TRAILER_LF}

_STEPS: dict[_State, Callable[[ChunkedReader, bytes, int], int]] = {
    _State.SIZE: ChunkedReader._size_line,
    _State.SIZE_LF: ChunkedReader._size_end,
    _State.DATA: ChunkedReader._data,
    _State.DATA_CR: ChunkedReader._data_cr,
    _State.DATA_LF: ChunkedReader._data_lf,
    _State.TRAILER: ChunkedReader._trailer_line,
    _State.TRAILER_LF: ChunkedReader._trailer_end,
    _State.DONE: ChunkedReader._behind,
}
