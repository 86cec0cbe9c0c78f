"""What travels between the layers: a `Request` goes down, a `Response` comes up, and `ProtocolError` is the third way.

Rules:

- Field names are lower-case bytes, values are bytes without white space around them.  Nothing is decoded until somebody
  asks for text.
- A `ProtocolError` carries the status to answer with.  Whoever raises it has decided that the framing of the
  connection can no longer be trusted, so the connection is closed behind the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

Fields = dict[bytes, bytes]
FieldList = Sequence[tuple[bytes, bytes]]

REASONS: dict[int, bytes] = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
# RFC 9110 names, where an older Python still has those of RFC 7231.
REASONS |= {413: b"Content Too Large", 414: b"URI Too Long", 416: b"Range Not Satisfiable"}
REASONS |= {422: b"Unprocessable Content"}


class ProtocolError(Exception):
    """The peer broke HTTP, or a limit.  `status` is what to answer (RFC 9110 15.5, 15.6), `reason` why, for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason


@dataclass(slots=True)
class HeadLimits:
    """Sizes in bytes; the defaults are those of the configuration's [limits]."""

    request_line: int = 8 * 1024  # past it 414
    head: int = 32 * 1024  # past it 431
    fields: int = 100  # past it 431
    body: int = 1024**3  # past it 413

    quick: int = field(init=False)  # a head of no more bytes than this is within both limits on sizes

    def __post_init__(self) -> None:
        self.quick = min(self.request_line, self.head)


class Request:
    """One parsed request head (RFC 9112 3 to 6).

    `target` is as sent; `path` and `query` are cut from it, still percent-encoded (`query` is None without "?").
    `path` is b"*" for the asterisk-form and b"" for the authority-form.  `host` is the authority without its port:
    from the target in absolute-form, else from Host.  `length` is the body's size in bytes, -1 when it is chunked.
    `end` is where the head ends in the bytes it was parsed from.
    `keep_alive` is what the client allows, `expect` whether it waits for 100 (Continue).
    """

    __slots__ = (
        "end", "expect", "fields", "host", "keep_alive", "length", "line", "lines", "method", "minor", "path", "query",
        "target",
    )  # fmt: skip

    end: int
    line: bytes
    method: bytes
    target: bytes
    minor: int
    lines: list[tuple[bytes, bytes]]
    fields: Fields
    path: bytes
    query: bytes | None
    host: bytes
    length: int
    keep_alive: bool
    expect: bool


@dataclass(slots=True)
class FileBody:
    """Bytes of an open file.  Whoever sends the response, or drops it, closes `fd`."""

    fd: int
    offset: int
    length: int


@dataclass(slots=True)
class Validators:
    """What a representation can be compared by (RFC 9110 8.8).  `modified` is in whole seconds since the epoch."""

    etag: bytes = b""
    modified: int | None = None


@dataclass(slots=True)
class MultiBody:
    """The parts of a multipart/byteranges body in the order they are sent.

    All `FileBody` parts share one `fd`; whoever sends the response, or drops it, closes it once.
    """

    parts: list[bytes | FileBody]

    @property
    def length(self) -> int:
        """The size of the body in bytes."""
        return sum(len(part) if isinstance(part, bytes) else part.length for part in self.parts)


Body = bytes | FileBody | MultiBody


@dataclass(slots=True)
class Response:
    """One response, not yet narrowed by preconditions and Range, and without the fields that the connection owns.

    `body` is the whole representation; `validators` says that preconditions and (for `ranges`) Range apply to it.
    `close` asks for the connection to end behind this response.
    """

    status: int
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: Body = b""
    validators: Validators | None = None
    ranges: bool = False
    close: bool = False

    @property
    def length(self) -> int:
        """The size of the body in bytes."""
        return len(self.body) if isinstance(self.body, bytes) else self.body.length
