"""Response heads (RFC 9112 4, 9.3; RFC 9110 6.6.1, 8.6).

Rules:

- The connection owns Date, Server, Connection, Content-Length: nobody above writes them.
- The part of a head that depends on status, second and persistence alone is made once per second and kept
  (`Preambles`); a response is that, its own fields, and its body, joined once.
- A field value never holds CR, LF or NUL here: what is not ours was checked when the configuration was read.
"""

from __future__ import annotations

from httpd.protocol.dates import format_date
from httpd.protocol.messages import REASONS, FieldList

SERVER = b"httpd"

# Persistence as the head has to spell it (RFC 9112 9.3): 1.1 stays open without a word, 1.0 wants to be told.
OPEN, KEEP_ALIVE, CLOSE = 0, 1, 2
_CONNECTION = {OPEN: b"", KEEP_ALIVE: b"Connection: keep-alive\r\n", CLOSE: b"Connection: close\r\n"}

# RFC 9110 8.6: never a Content-Length with these; 304 may have one, which then has to be that of the 200.
NO_LENGTH = frozenset((100, 101, 204, 304))


class Preambles:
    """Status line, Server, Date and Connection for the current second."""

    __slots__ = ("_date", "made", "second")

    def __init__(self) -> None:
        self.second = -1
        self._date = b""
        self.made: dict[int, bytes] = {}  # by status * 4 + persistence

    def at(self, second: int) -> None:
        """Move to a wall-clock second (seconds since the epoch)."""
        if second != self.second:
            self.second = second
            self._date = format_date(second)
            self.made.clear()

    def get(self, status: int, persistence: int) -> bytes:
        """The first lines of a response head, without its empty line."""
        made = self.made.get(status * 4 + persistence)
        if made is None:
            made = b"HTTP/1.1 %d %b\r\nServer: %b\r\nDate: %b\r\n%b" % (
                status, REASONS.get(status, b""), SERVER, self._date, _CONNECTION[persistence],
            )  # fmt: skip
            self.made[status * 4 + persistence] = made
        return made


def field_lines(fields: FieldList) -> bytes:
    """Field lines as they go on the wire, each with its CRLF."""
    return b"".join([b"%b: %b\r\n" % pair for pair in fields])


def rest_of_head(status: int, fields: FieldList, length: int) -> bytes:
    """What follows a preamble: the fields, Content-Length where the status may have one, the empty line."""
    if status in NO_LENGTH:
        return field_lines(fields) + b"\r\n"
    return b"%bContent-Length: %d\r\n\r\n" % (field_lines(fields), length)
