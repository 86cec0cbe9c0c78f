"""What an access log can show of one finished request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol


class Entry(Protocol):
    """Read only.  Bytes are as the client sent them: the formats escape them."""

    @property
    def client(self) -> bytes:
        """Address of the client as text; b"" for one without (a unix socket)."""

    @property
    def request_line(self) -> bytes:
        """Without CRLF; b"" when none was read."""

    @property
    def method(self) -> bytes: ...

    @property
    def target(self) -> bytes: ...

    @property
    def version(self) -> bytes:
        """b"HTTP/1.1"."""

    @property
    def fields(self) -> Mapping[bytes, bytes]:
        """The request's fields; names in lower case."""

    @property
    def host(self) -> bytes:
        """The Host field as sent, or b""."""

    @property
    def vhost(self) -> bytes:
        """Name of the vhost that answered, or b"-"."""

    @property
    def port(self) -> int: ...

    @property
    def user(self) -> bytes:
        """The authenticated user, or b"-"."""

    @property
    def status(self) -> int: ...

    @property
    def sent(self) -> int:
        """Bytes of the body."""

    @property
    def wire(self) -> int:
        """Bytes of the whole response."""

    @property
    def duration(self) -> float:
        """Seconds; only read by formats with `needs_clock`."""

    @property
    def keepalive(self) -> bool:
        """The connection stays open after this response."""

    @property
    def response_fields(self) -> Sequence[tuple[bytes, bytes]]: ...
