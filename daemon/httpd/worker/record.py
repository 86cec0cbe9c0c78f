"""What the access log is told about one exchange.  One object per connection, filled anew for every request."""

from __future__ import annotations

from typing import Protocol

from httpd.protocol import grammar
from httpd.protocol.messages import FieldList, Fields, Request

_NOTHING: Fields = {}


class Named(Protocol):
    """The site, as far as it is logged."""

    name: bytes


class Record:
    """The `logs.entry.Entry` of a connection.

    Without a parsed head `request` is None and `request_line` what came instead."""

    __slots__ = (
        "client", "duration", "fields", "keepalive", "original", "port", "request", "request_line", "response",
        "sent", "site", "started", "status", "user", "wire",
    )  # fmt: skip

    def __init__(self, client: bytes, port: int) -> None:
        self.client = client
        self.port = port
        self.user = b"-"
        self.request: Request | None = None
        self.request_line = b""
        self.original = b""  # the request line of which a script has made another
        self.fields = _NOTHING
        self.site: Named | None = None  # None: no site was chosen
        self.status = 0
        self.sent = 0  # bytes of the body
        self.wire = 0  # bytes of head and body
        self.started = 0.0  # monotonic seconds
        self.duration = 0.0
        self.keepalive = False
        self.response: FieldList | bytes = ()  # the fields of the answer, or its head that nobody has taken apart

    def begin(self, request: Request | None, line: bytes, now: float) -> None:
        """A new exchange; `line` is the request line, or what came instead."""
        self.request = request
        self.request_line = self.original or line
        self.fields = _NOTHING if request is None else request.fields
        self.started = now

    def end(self) -> None:
        """Let go of the exchange: an idle connection keeps nothing of its last request."""
        self.request, self.request_line, self.fields, self.response = None, b"", _NOTHING, ()
        self.original = b""

    @property
    def response_fields(self) -> FieldList:
        return fields_of(self.response) if isinstance(self.response, bytes) else self.response

    @property
    def vhost(self) -> bytes:
        return b"-" if self.site is None else self.site.name

    @property
    def method(self) -> bytes:
        return b"" if self.request is None else self.request.method

    @property
    def target(self) -> bytes:
        return b"" if self.request is None else self.request.target

    @property
    def version(self) -> bytes:
        return b"" if self.request is None else self.request.line[-8:]

    @property
    def host(self) -> bytes:
        return self.fields.get(b"host", b"")


def fields_of(head: bytes) -> FieldList:
    """The fields of a response head."""
    return grammar.FIELD.findall(head, head.find(b"\r\n") + 2)
