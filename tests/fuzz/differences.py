"""Where h11 or httptools may refuse what we accept, or read it otherwise: each entry with the section that allows it.

Rules:

- A disagreement that no entry covers is a failure.  An entry covers as little as can be said: one peer, one kind, and
  a predicate over the message about which there is disagreement.
- docs/reliability.md shows this table; `test_mutator.py` holds the page to it, and every entry has an example there
  that needs it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from httpd.protocol.messages import Request


@dataclass(frozen=True, slots=True)
class Difference:
    """`kind` is that of `compare`; `covers` takes our request and the bytes of the message."""

    name: str
    peers: tuple[str, ...]
    kind: str
    section: str
    reason: str
    covers: Callable[[Request, bytes], bool]


# What llhttp takes for a method.
_METHODS = frozenset(
    b"ACL BIND CHECKOUT CONNECT COPY DELETE GET HEAD LINK LOCK M-SEARCH MERGE MKACTIVITY MKCALENDAR MKCOL MOVE"
    b" NOTIFY OPTIONS PATCH POST PROPFIND PROPPATCH PURGE PUT QUERY REBIND REPORT SEARCH SUBSCRIBE TRACE UNBIND"
    b" UNLINK UNLOCK UNSUBSCRIBE".split()
)


def _options(request: Request, name: bytes = b"connection") -> set[bytes]:
    return {option.strip(b" \t").lower() for option in request.fields.get(name, b"").split(b",")}


def _has_trailer(trailers: bytes) -> bool:
    return b"\ncontent-length:" in trailers or b"\ntransfer-encoding:" in trailers


_CHUNK = re.compile(rb"([0-9A-Fa-f]+)([^\r]*)\r\n")


def _extensions(request: Request, raw: bytes) -> list[bytes]:
    """What stands behind the sizes of the chunks, of those that are there."""
    found = []
    position = request.end
    while request.length < 0 and (match := _CHUNK.match(raw, position)) is not None:
        found.append(match[2])
        size = int(match[1], 16)
        position = match.end() + size + 2 if size else len(raw)
    return found


def _trailers(request: Request, raw: bytes) -> bytes:
    """The trailer section, from the CRLF of the last chunk on."""
    position = request.end
    while request.length < 0 and (match := _CHUNK.match(raw, position)) is not None:
        if not int(match[1], 16):
            return raw[match.end() - 2 :].lower()
        position = match.end() + int(match[1], 16) + 2
    return b""


DIFFERENCES: tuple[Difference, ...] = (
    Difference(
        "unknown method", ("httptools",), "refuses the head", "9110 9.1",
        "a method is any token; what is not implemented gets 501 from the layer above, with the framing intact",
        lambda request, raw: request.method not in _METHODS,
    ),
    Difference(
        "minor version above 1", ("httptools",), "refuses the head", "9110 2.5",
        "a higher minor version is treated as the highest that is known",
        lambda request, raw: request.line[-3:] not in (b"1.0", b"1.1"),
    ),
    Difference(
        "zeros in front of Content-Length", ("h11",), "refuses the head", "9110 8.6",
        "the number may have any number of digits; h11 takes twenty, zeros included",
        lambda request, raw: len(request.fields.get(b"content-length", b"")) > 20,
    ),
    Difference(
        "keep-alive in HTTP/1.0", ("h11",), "persistence", "9112 9.3",
        "a 1.0 connection stays open if the client asks for it; h11 always closes",
        lambda request, raw: request.minor == 0 and request.keep_alive,
    ),
    Difference(
        "keep-alive beside close", ("httptools",), "persistence", "9112 9.3",
        "close counts before anything else",
        lambda request, raw: {b"close", b"keep-alive"} <= _options(request) and not request.keep_alive,
    ),
    Difference(
        "Proxy-Connection", ("httptools",), "persistence", "9112 C.2.2",
        "it is not Connection; llhttp reads it as if it were",
        lambda request, raw: not {b"close", b"keep-alive"}.isdisjoint(_options(request, b"proxy-connection")),
    ),
    Difference(
        "Connection as a trailer", ("httptools",), "persistence", "9110 6.5.1",
        "trailers are not processed as if they were in the head; llhttp does",
        lambda request, raw: re.search(rb"\r\n(proxy-)?connection:", _trailers(request, raw)) is not None,
    ),
    Difference(
        "tab beside the transfer coding", ("httptools",), "refuses the body", "9110 5.6.3",
        "white space around a value may be a tab as well as a space",
        lambda request, raw: re.search(rb"(?i)\ntransfer-encoding:[^\r]*\t", raw[: request.end]) is not None,
    ),
    Difference(
        "white space before a chunk extension", ("h11",), "refuses the body", "9112 7.1.1",
        "the grammar has bad white space (BWS) there, which a recipient must parse and remove",
        lambda request, raw: any(re.match(rb"[ \t]+;", extension) for extension in _extensions(request, raw)),
    ),
    Difference(
        "white space in a chunk extension", ("httptools",), "refuses the body", "9112 7.1.1",
        "the same, around each ; and =",
        lambda request, raw: any(re.search(rb"[ \t][;=]|[;=][ \t]", found) for found in _extensions(request, raw)),
    ),
    Difference(
        "framing fields as trailers", ("h11", "httptools"), "refuses the body", "9110 6.5.1",
        "trailers that may not be there are discarded unread, so what they say is neither good nor bad",
        lambda request, raw: _has_trailer(_trailers(request, raw)),
    ),
)  # fmt: skip
