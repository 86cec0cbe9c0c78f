"""What a script writes: the head of a CGI response (RFC 3875 6), taken apart and judged.  Pure.

    fields, blank line, body        document; Location with a URI: client redirect; with a path alone: local redirect

Rules:

- A line ends with LF or CR LF.  Whatever else is not a field line by HTTP's grammar (no colon, a name that is none, CR
  or NUL in a value, a folded line) makes the whole answer one that is not passed on: some client would read it
  differently.
- Framing and the connection are the server's: fields that speak of them are dropped, but for Content-Length, which is
  a promise that is held against what the script then writes.
- One of Content-Type, Location and Status must be there, and none of them, nor Content-Length, twice.
- A body that the script has cut into chunks is put together again; another transfer coding is none that can be undone.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from httpd.cgi.meta import HOP_BY_HOP
from httpd.protocol.body import ChunkedReader
from httpd.protocol.messages import REASONS, ProtocolError

_BLANK = re.compile(rb"(?:\A|\n)\r?\n")
_BEGINNING = re.compile(rb"(?:(?:\A|\n)\r|\n)\Z")
_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([\t -~\x80-\xff]*?)[ \t]*")
_STATUS = re.compile(rb"([2-5][0-9]{2})(?: +([\t -~\x80-\xff]*))?")
_LENGTH = re.compile(rb"[0-9]{1,18}")
_LOCAL = re.compile(rb"/(?!/)")
# Date and Server are ours; the rest would contradict how the answer leaves here.
_DROPPED = HOP_BY_HOP | {b"date", b"server"}
_ONCE = frozenset((b"status", b"content-type", b"location", b"content-length", b"transfer-encoding"))
_HEADS, _SHORT = 256, 1024  # heads that are remembered, and bytes that one may have for it
_ENDLESS = 1 << 62  # bytes of a body: who passes it on counts what it is
_SHOWN = 200  # bytes of a bad answer that are shown


class BadOutput(ValueError):
    """A script wrote what is no CGI response.  `reason` is for the log."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(slots=True)
class Head:
    """The head of a script's answer.  `local` is the path and query of a local redirect (RFC 3875 6.2.2)."""

    status: int
    reason: bytes
    fields: list[tuple[bytes, bytes]] = field(default_factory=list)
    length: int | None = None
    local: bytes = b""
    chunked: bool = False  # the body comes in chunks (RFC 9112 7.1)

    def lines(self) -> bytes:
        """The field lines, as they leave."""
        return b"".join([b"%b: %b\r\n" % pair for pair in self.fields])


_heads: dict[bytes, Head] = {}  # nobody changes one


class HeadReader:
    """Takes in a script's output until its head is there.  `rest` is then what came behind it.

    `limit` is how many bytes a head may have.
    """

    __slots__ = ("_data", "_limit", "_seen", "head", "rest")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._data = b""
        self._seen = 0
        self.head: Head | None = None
        self.rest = b""

    def feed(self, data: bytes) -> bool:
        """Take more; True when the head is complete.  Raises BadOutput."""
        self._data = data = self._data + data if self._data else data
        found = _BLANK.search(data, max(0, self._seen - 3))
        if found is None:
            self._seen = len(data)
            pending = _BEGINNING.search(data, max(0, len(data) - 2))  # of a blank line, which may still be in time
            if (len(data) if pending is None else pending.start()) > self._limit:
                raise BadOutput(f"its head has more than {self._limit} bytes; it begins with {self.first_line}")
            return False
        if found.start() > self._limit:
            raise BadOutput(f"its head has more than {self._limit} bytes; it begins with {self.first_line}")
        self.rest = data[found.end() :]
        try:
            self.head = _parsed(data[: found.start()])
        except BadOutput as error:
            begins = "" if self.first_line in (ascii(""), *error.reason.split(": ", 1)) else self.first_line
            raise BadOutput(f"{error.reason}; it begins with {begins}" if begins else error.reason) from None
        return True

    @property
    def begun(self) -> bool:
        """Whether there was any output."""
        return bool(self._data)

    @property
    def first_line(self) -> str:
        """What the output begins with, to be shown."""
        return ascii(self._data.split(b"\n", 1)[0].removesuffix(b"\r")[:_SHOWN].decode("latin-1"))


class Chunks:
    """Puts a body together that a script has cut into chunks."""

    __slots__ = ("_reader",)

    def __init__(self) -> None:
        self._reader = ChunkedReader(_ENDLESS)

    @property
    def done(self) -> bool:
        """Whether the last one has come; what comes behind it is dropped."""
        return self._reader.done

    def feed(self, data: bytes) -> bytes:
        """The content in `data`.  Raises BadOutput."""
        try:
            pieces = self._reader.feed(data)
        except ProtocolError as error:
            raise BadOutput(f"its body is not in chunks, as its Transfer-Encoding says: {error.reason}") from None
        self._reader.rest = b""
        return b"".join(pieces)


def _parsed(block: bytes) -> Head:
    """`parse`, remembered: a script writes the same head again and again."""
    head = _heads.get(block)
    if head is None:
        head = parse(block)
        if len(_heads) >= _HEADS:
            _heads.clear()
        if len(block) <= _SHORT:
            _heads[block] = head
    return head


def parse(block: bytes) -> Head:
    """The head of the field lines in `block`, whose last line has no end.  Raises BadOutput."""
    found: dict[bytes, bytes] = {}
    fields: list[tuple[bytes, bytes]] = []
    for raw in block.split(b"\n") if block else []:
        line = raw[:-1] if raw.endswith(b"\r") else raw
        match = _LINE.fullmatch(line)
        if match is None:
            raise BadOutput(f"not a header line: {line[:_SHOWN].decode('latin-1')!a}")
        name, value = match.groups()
        key = name.lower()
        if key in _ONCE:
            if key in found:
                raise BadOutput(f"{name.decode()} stands there twice")
            found[key] = value
        if key not in _DROPPED and key not in (b"status", b"content-length") and (value or key != b"content-type"):
            fields.append((name, value))
    if not (found.keys() & {b"content-type", b"location", b"status"}):
        raise BadOutput("none of Content-Type, Location and Status is there" if block else "it has no header lines")
    return _judge(found, fields)


def _judge(found: dict[bytes, bytes], fields: list[tuple[bytes, bytes]]) -> Head:
    location = found.get(b"location")
    status, reason = _status(found.get(b"status"), redirect=location is not None)
    if location == b"":
        raise BadOutput("Location is empty")
    length = found.get(b"content-length")
    if length is not None and not _LENGTH.fullmatch(length):
        raise BadOutput(f"Content-Length is no number: {length[:_SHOWN].decode('latin-1')!a}")
    coding = found.get(b"transfer-encoding", b"identity").lower()
    if coding not in (b"identity", b"chunked"):
        raise BadOutput(f"Transfer-Encoding is {coding[:_SHOWN].decode('latin-1')!a}, and only chunked can be undone")
    chunked = coding == b"chunked"
    known = None if length is None or chunked else int(length)
    head = Head(status, reason, fields, known, chunked=chunked)
    only = all(name.lower() in (b"location", b"content-type") for name, _ in fields)
    if location is not None and b"status" not in found and only and _LOCAL.match(location):
        head.local = location.partition(b"#")[0]
    return head


def _status(text: bytes | None, *, redirect: bool) -> tuple[int, bytes]:
    if text is None:
        status = 302 if redirect else 200
        return status, REASONS[status]
    match = _STATUS.fullmatch(text)
    if match is None:
        raise BadOutput(f"not a status: {text[:_SHOWN].decode('latin-1')!a}")
    status = int(match[1])
    return status, match[2] or REASONS.get(status, b"")


def is_nph(name: bytes) -> bool:
    """Whether a script writes the whole answer by itself (RFC 3875 5): its file's name says so."""
    return name.startswith(b"nph-")
