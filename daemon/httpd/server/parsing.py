"""`BaseHTTPRequestHandler.parse_request` for a request that comes from a socket, or from any file.

Rules:

- Request lines are read as http.server reads them, with the same answers: HTTP/0.9, several spaces, odd versions.
- Framing is strict (RFC 9112 2.2, 5, 6.3): what http.server passes over in silence, or loses half of the fields to, is
  400 and the end of the connection.  Every such leniency has been used to smuggle a request.
- LF alone ends a line too, and Host may be missing: people type requests, and tests are full of them.
- Nearly all heads are there as a whole when the request line is read.  One expression checks them, and nothing is cut
  before somebody asks for a field.
"""

from __future__ import annotations

import http.client
import re
from http import HTTPStatus
from typing import Any

from httpd.protocol import grammar
from httpd.protocol.head import EMPTY_LINES
from httpd.protocol.messages import ProtocolError
from httpd.server.headers import message_of
from httpd.server.reader import CHUNKED, REQUEST_LINE, TUNNEL, RequestReader
from httpd.server.streams import SocketWriter

_EMPTY = (b"\r\n", b"\n")
_FIELD_LINE = grammar.TOKEN + rb":" + grammar.FIELD_BYTES + rb"\r?\n"
_whole_fields = re.compile(rb"((?:" + _FIELD_LINE + rb")*)\r?\n").match
_field_line = re.compile(_FIELD_LINE).fullmatch
_usual_line = re.compile(r"(([!-~]+) ([!-~]+) (HTTP/1\.[01]))\r?\n").fullmatch

# The fields that say how a request goes on, in lower case; a line feed stands before the first line too.
_decisive = re.compile(
    rb"\n(connection|content-length|expect|transfer-encoding|upgrade):[ \t]*([^\r\n]*)"
).findall


def parse_request(handler: Any) -> bool:
    """Set command, path, request_version, headers and close_connection from `raw_requestline` and rfile.

    False when that can't be done; an error has been sent then, unless there was nothing to answer.
    """
    rfile: Any = handler.rfile
    reader = rfile if type(rfile) is RequestReader else None
    handler.command = None
    handler.request_version = handler.default_request_version
    handler.close_connection = True
    if reader is not None:
        if reader.in_body:  # a loop of somebody else's has left a body unread: this is no request line
            handler.requestline = ""
            return False
        if handler.raw_requestline in _EMPTY:
            _skip_empty_lines(handler, reader)
    if not _read_request_line(handler):
        return False
    try:
        block = _read_fields(handler, reader)
        return block is not None and _take_fields(handler, reader, block)
    except ProtocolError as error:
        handler.close_connection = True
        handler.send_error(error.status, error.reason)
        return False


def _skip_empty_lines(handler: Any, reader: RequestReader) -> None:
    """RFC 9112 2.2: some clients end a body with a line end that belongs to nothing."""
    for _ in range(EMPTY_LINES):
        handler.raw_requestline = reader.readline(REQUEST_LINE)
        if handler.raw_requestline not in _EMPTY:
            return


# The request line


def _read_request_line(handler: Any) -> bool:
    raw = str(handler.raw_requestline, "latin-1")
    usual = _usual_line(raw)
    if usual is None:
        return _read_odd_line(handler, raw.rstrip("\r\n"))
    handler.requestline, handler.command, path, version = usual.groups()
    handler.request_version = version
    handler.path = "/" + path.lstrip("/") if path[:2] == "//" else path
    if version == "HTTP/1.1" and handler.protocol_version >= "HTTP/1.1":
        handler.close_connection = False
    return True


def _read_odd_line(handler: Any, line: str) -> bool:
    """All that http.server takes for a request line, and its words for what it does not."""
    handler.requestline = line
    words = line.split()
    if not words:
        return False
    if len(words) >= 3 and not _read_version(handler, words[-1]):
        return False
    if not 2 <= len(words) <= 3:
        handler.send_error(HTTPStatus.BAD_REQUEST, f"Bad request syntax ({line!r})")
        return False
    command, path = words[:2]
    if len(words) == 2:
        handler.close_connection = True
        if command != "GET":
            handler.send_error(HTTPStatus.BAD_REQUEST, f"Bad HTTP/0.9 request type ({command!r})")
            return False
    handler.command = command
    # gh-87389: a Location made of "//host" would name another host.
    handler.path = "/" + path.lstrip("/") if path.startswith("//") else path
    return True


def _read_version(handler: Any, version: str) -> bool:
    """RFC 9112 2.3, with what http.server allows beyond it: several digits."""
    name, _, number = version.partition("/")
    parts = number.split(".")
    if name != "HTTP" or len(parts) != 2 or not all(part.isdigit() and len(part) <= 10 for part in parts):
        handler.send_error(HTTPStatus.BAD_REQUEST, f"Bad request version ({version!r})")
        return False
    try:
        major, minor = map(int, parts)
    except ValueError:  # digits to `isdigit`, but not to `int`: superscripts
        handler.send_error(HTTPStatus.BAD_REQUEST, f"Bad request version ({version!r})")
        return False
    if (major, minor) >= (1, 1) and handler.protocol_version >= "HTTP/1.1":
        handler.close_connection = False
    if major >= 2:
        handler.send_error(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"Invalid HTTP version ({number})")
        return False
    handler.request_version = version
    return True


# The fields


def _read_fields(handler: Any, reader: RequestReader | None) -> bytes | None:
    """The checked field lines; None when an error was sent.  Raises ProtocolError for a malformed line."""
    if handler.request_version == "HTTP/0.9":  # has none, and its client waits
        return b""
    longest: int = http.client._MAXLINE  # type: ignore[attr-defined]
    most: int = http.client._MAXHEADERS  # type: ignore[attr-defined]
    block = reader.take_fields(_whole_fields, longest, most) if reader is not None else None
    return _read_lines(handler, longest, most) if block is None else block


def _read_lines(handler: Any, longest: int, most: int) -> bytes | None:
    lines: list[bytes] = []
    while True:
        line = handler.rfile.readline(longest + 1)
        if len(line) > longest:
            explain = f"got more than {longest} bytes when reading header line"
            handler.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Line too long", explain)
            return None
        if line in _EMPTY or not line:
            return b"".join(lines)
        if len(lines) == most:
            explain = f"got more than {most} headers"
            handler.send_error(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "Too many headers", explain)
            return None
        if _field_line(line) is None:
            raise ProtocolError(400, f"Bad header line ({line[:40].decode('latin-1')!r})")
        lines.append(line)


def _take_fields(handler: Any, reader: RequestReader | None, block: bytes) -> bool:
    """The fields, and what they mean for the connection."""
    block = b"\n" + block
    handler.headers = message_of(block, handler.MessageClass)
    found = _decisive(block.lower())
    if not found:
        _begin_body(handler, reader, TUNNEL if handler.command == "CONNECT" else 0)
        return True
    fields: dict[bytes, bytes] = {}
    for name, given in found:
        value = given.rstrip(b" \t")
        fields[name] = fields[name] + b"," + value if name in fields else value  # two lengths are no length then
    length = _body_length(fields, handler.request_version)
    if not length and (handler.command == "CONNECT" or b"upgrade" in fields):
        length = TUNNEL
    modern = handler.protocol_version >= "HTTP/1.1"
    if b"connection" in fields:
        options = [option.strip(b" \t") for option in fields[b"connection"].split(b",")]
        if b"close" in options:
            handler.close_connection = True
        elif b"keep-alive" in options and modern:
            handler.close_connection = False
    _begin_body(handler, reader, length)
    if fields.get(b"expect") == b"100-continue" and modern and handler.request_version >= "HTTP/1.1":
        return bool(handler.handle_expect_100())
    return True


def _begin_body(handler: Any, reader: RequestReader | None, length: int) -> None:
    if reader is not None:
        wfile: Any = handler.wfile
        reader.begin_body(length, wfile if type(wfile) is SocketWriter else None)


def _body_length(fields: dict[bytes, bytes], version: str) -> int:
    """RFC 9112 6.3: the size of the body in bytes, or CHUNKED."""
    length, coding = fields.get(b"content-length"), fields.get(b"transfer-encoding")
    if coding is None:
        if length is None:
            return 0
        if grammar.CONTENT_LENGTH.fullmatch(length) is None or len(length) > 18:
            raise ProtocolError(400, "Bad Content-Length")
        return int(length)
    if length is not None:
        raise ProtocolError(400, "Both Content-Length and Transfer-Encoding")
    if version < "HTTP/1.1":
        raise ProtocolError(400, "Transfer-Encoding in an HTTP/1.0 request")
    if coding != b"chunked":
        raise ProtocolError(400, "Bad Transfer-Encoding")
    return CHUNKED
