"""The receiving half of a connection: bytes in, requests and pieces of bodies out (RFC 9112 2.2, 6.3, 9.3.2).

Rules:

- One message after the other: while a body is being read, no next head is looked at, so that an unread body can never
  become a request.
- What arrives early (pipelining) waits in `pending`; it is bounded by the size of one read, because the caller stops
  reading while it answers.
- Which reader a body gets is a table, keyed by the sign of the length that the head settled on.
"""

from __future__ import annotations

import enum

from httpd.protocol.body import ChunkedReader, LengthReader
from httpd.protocol.head import HeadScanner, parse, parse_loose
from httpd.protocol.messages import HeadLimits, Request


class Phase(enum.Enum):
    """What a connection is waiting for.  The tables below say what a time-out or the end of input then means."""

    IDLE = "idle"  # nothing of a next head has come
    HEAD = "head"
    BODY = "body"
    HANDLER = "handler"  # the request is being answered elsewhere, nothing is on its way
    ANSWER = "answer"  # the response is on its way
    LINGER = "linger"  # our side is shut, the client's rest is read and dropped


# What to answer when time runs out; None: close without a word.
ON_TIMEOUT: dict[Phase, int | None] = {
    Phase.IDLE: None,
    Phase.HEAD: 408,
    Phase.BODY: 408,
    Phase.HANDLER: None,
    Phase.ANSWER: None,
    Phase.LINGER: None,
}

# What to answer when the client has shut its sending side (RFC 9112 8: an incomplete request MAY be answered).
ON_END_OF_INPUT: dict[Phase, int | None] = {
    Phase.IDLE: None,
    Phase.HEAD: 400,
    Phase.BODY: 400,
    Phase.HANDLER: None,
    Phase.ANSWER: None,
    Phase.LINGER: None,
}


class Receiver:
    """Feeds on what one connection receives.  Never blocks, never looks at a clock."""

    __slots__ = ("_limits", "_scanner", "body", "pending")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._scanner: HeadScanner | None = None
        self.body: LengthReader | ChunkedReader | None = None
        self.pending = b""

    @property
    def phase(self) -> Phase:
        """IDLE, HEAD or BODY."""
        if self.body is not None:
            return Phase.BODY
        # Empty lines in front of a head are not yet a part of it (RFC 9112 2.2): some clients send one behind a body.
        return Phase.HEAD if self.pending.strip(b"\r\n") else Phase.IDLE

    def next_request(self, data: bytes) -> Request | None:
        """Take `data` and return the next request, or None when its head is not complete.

        When the request announces a body, `body` is set and the caller must feed it by `next_body` before the next
        call.  Raises ProtocolError.
        """
        if self.pending:
            data = self.pending + data
        self.pending = data  # stays there when this raises, for the log
        request = parse(data, self._limits) if self._scanner is None else None
        if request is None and (not data or (request := self._careful(data)) is None):
            return None
        self.pending = data[request.end :]
        if request.length:
            self.body = LengthReader(request.length) if request.length > 0 else self._chunked()
        return request

    def _careful(self, data: bytes) -> Request | None:
        if self._scanner is None:
            self._scanner = HeadScanner(self._limits)
        if not self._scanner.scan(data):
            return None
        self._scanner = None
        return parse(data, self._limits) or parse_loose(data, self._limits)

    def _chunked(self) -> ChunkedReader:
        return ChunkedReader(
            self._limits.body, limit_trailer=self._limits.head, limit_fields=self._limits.fields
        )

    def next_body(self, data: bytes) -> list[bytes]:
        """Take `data` and return what it holds of the current body; `body` is None again once that is complete."""
        reader = self.body
        assert reader is not None
        if self.pending:
            data = self.pending + data
            self.pending = b""
        pieces = reader.feed(data)
        if reader.done:
            self.body = None
            self.pending = reader.rest
        return pieces
