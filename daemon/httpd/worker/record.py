"""What the access log is told about one exchange.  One object per connection, filled anew for every request."""

from __future__ import annotations

from httpd.protocol.messages import FieldList, Fields, Request

_NOTHING: Fields = {}


class Record:
    """The `logs.entry.Entry` of a connection.  Without a parsed head `request` is None and `raw` what came instead."""

    __slots__ = (
        "client", "duration", "keepalive", "port", "raw", "request", "response_fields", "sent", "started", "status",
        "user", "vhost", "wire",
    )  # fmt: skip

    def __init__(self, client: bytes, port: int) -> None:
        self.client = client
        self.port = port
        self.user = b"-"
        self.request: Request | None = None
        self.raw = b""
        self.vhost = b"-"
        self.status = 0
        self.sent = 0  # bytes of the body
        self.wire = 0  # bytes of head and body
        self.started = 0.0  # monotonic seconds
        self.duration = 0.0
        self.keepalive = False
        self.response_fields: FieldList = ()

    @property
    def request_line(self) -> bytes:
        return self.raw if self.request is None else self.request.line

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
    def fields(self) -> Fields:
        return _NOTHING if self.request is None else self.request.fields

    @property
    def host(self) -> bytes:
        return self.fields.get(b"host", b"")
