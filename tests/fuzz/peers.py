"""h11 and httptools (llhttp) reading the same bytes: their messages in one form.  Each may be missing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field

from httpd.protocol.body import FORBIDDEN_TRAILERS

Fields = list[tuple[bytes, bytes]]

_UNBOUNDED = 1 << 30


@dataclass(slots=True)
class Heard:
    """A request as a peer has understood it.

    Names are lower-case, values without white space around them, forbidden trailers dropped, as here.  `keep` is
    whether the connection may stay open, None where the peer does not say.  `end` is the offset behind the message,
    None where the peer does not say.
    """

    method: bytes
    target: bytes
    version: bytes
    fields: Fields
    content: bytes = b""
    trailers: Fields = field(default_factory=list)
    complete: bool = False
    keep: bool | None = None
    end: int | None = None


@dataclass(slots=True)
class Hearing:
    """All that a peer has understood.

    `refused` is its reason.  `left`: behind the last message it leaves HTTP, and does not read a body of it.
    """

    messages: list[Heard]
    refused: str = ""
    left: bool = False


def ask_h11(wire: bytes) -> Hearing:
    """One connection of h11 for each message: so nothing has to be answered in between."""
    import h11

    hearing = Hearing([])
    rest = wire
    while rest:
        while rest.startswith(b"\r\n"):  # RFC 9112 2.2: h11 leaves skipping to its caller
            rest = rest[2:]
        if not rest:
            break
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_UNBOUNDED)
        connection.receive_data(rest)
        try:
            if not _h11_message(connection, hearing.messages):
                break
        except h11.RemoteProtocolError as error:
            hearing.refused = str(error) or "refused"
            break
        rest = connection.trailing_data[0]
        message = hearing.messages[-1]
        message.end = len(wire) - len(rest)
        if connection.their_state is h11.MUST_CLOSE:
            message.keep = False
            break
        if connection.their_state is h11.DONE:
            message.keep = True
    return hearing


def _h11_message(connection: object, messages: list[Heard]) -> bool:
    """Read one message; False when it is not complete."""
    import h11

    assert isinstance(connection, h11.Connection)
    while True:
        event = connection.next_event()
        if isinstance(event, h11.Request):
            messages.append(Heard(event.method, event.target, event.http_version, list(event.headers)))
        elif isinstance(event, h11.Data):
            messages[-1].content += event.data
        elif isinstance(event, h11.EndOfMessage):
            messages[-1].trailers = [pair for pair in event.headers if pair[0] not in FORBIDDEN_TRAILERS]
            messages[-1].complete = True
            return True
        else:
            return False


class _Listener:
    """The callbacks of httptools."""

    __slots__ = ("_head", "_target", "messages", "parser")

    def __init__(self) -> None:
        import httptools

        self.messages: list[Heard] = []
        self.parser = httptools.HttpRequestParser(self)
        self._target = b""
        self._head: Fields = []

    def on_message_begin(self) -> None:
        self._target = b""
        self._head = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        version = self.parser.get_http_version().encode("ascii")
        self.messages.append(Heard(self.parser.get_method(), self._target, version, self._head))
        self._head = []

    def on_body(self, body: bytes) -> None:
        self.messages[-1].content += body

    def on_message_complete(self) -> None:
        message = self.messages[-1]
        message.trailers = [pair for pair in self._head if pair[0] not in FORBIDDEN_TRAILERS]
        message.complete = True
        message.keep = self.parser.should_keep_alive()


def ask_httptools(wire: bytes) -> Hearing:
    """One parser for all messages."""
    import httptools

    listener = _Listener()
    hearing = Hearing(listener.messages)
    try:
        listener.parser.feed_data(wire)
    except httptools.HttpParserUpgrade:
        hearing.left = True
    except httptools.HttpParserError as error:
        hearing.refused = str(error) or "refused"
    return hearing


_ALL: dict[str, Callable[[bytes], Hearing]] = {"h11": ask_h11, "httptools": ask_httptools}

# Those that are installed.
PEERS = {name: ask for name, ask in _ALL.items() if importlib.util.find_spec(name) is not None}
