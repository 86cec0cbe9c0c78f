"""Request heads: bytes -> `Request` (RFC 9112 2 to 6, RFC 9110 7.2, 8.6, 10.1.1).

Rules:

- The fast way (`parse`) and the careful way (`HeadScanner`) accept exactly the same heads.  The scanner exists to say
  "not yet" or what is wrong, at the first line that is wrong, and gives the same answer whether a head comes whole or
  byte by byte.
- Limits come before syntax, line by line: a request line that is too long is 414 even if it is also malformed.
- Every doubt about framing is 400 and the end of the connection (RFC 9112 6.3, 11.2): Content-Length together with
  Transfer-Encoding, either of them twice, a length that is not plain digits, codings in an order nobody can decode.
"""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Mapping

from httpd.protocol import grammar
from httpd.protocol.messages import Fields, HeadLimits, ProtocolError, Request

EMPTY_LINES = 8  # ignored before a request line, RFC 9112 2.2
_LONGEST_HOST = 255  # bytes, RFC 3986 3.2.2 and RFC 1035 2.3.4; it also bounds what the caches of hosts can hold

# Fields that a request may hold only once because routing or framing hangs on them.
_SINGLE = {
    b"host": "more than one Host field",
    b"content-length": "more than one Content-Length field",
    b"transfer-encoding": "more than one Transfer-Encoding field",
}


# With one of these, or with anything else that is not the rule, a head takes the long way through `_settle`.
_SPECIAL = frozenset((b"content-length", b"transfer-encoding", b"expect"))
_match, _cut = grammar.TIGHT_HEAD.match, grammar.FIELD.findall


def parse(data: bytes, limits: HeadLimits) -> Request | None:
    """Parse the request head at the start of `data`.

    None means that `data` does not begin with a complete head of the usual form: ask a `HeadScanner` what it is.
    Raises ProtocolError for a head whose lines are good but whose meaning is not.
    """
    match = _match(data)
    if match is None:
        return None
    request = Request()
    request.line, method, request.target, request.path, request.query, minor, block = match.groups()
    request.method = method
    request.lines = lines = _cut(block)
    request.end = end = match.end()
    fields: Fields = {}
    for name, value in lines:  # faster than a comprehension, which is a call before Python 3.12
        fields[name.lower()] = value
    host = fields.get(b"host")
    if (
        end <= limits.quick and len(lines) <= limits.fields and len(fields) == len(lines) and minor != b"0"
        and host is not None and method != b"CONNECT" and _SPECIAL.isdisjoint(fields)
    ):  # fmt: skip
        request.fields, request.minor, request.host = fields, 1, parse_host(host)
        options = fields.get(b"connection")
        request.keep_alive = options is None or _persistent(options, 1)
        request.length, request.expect = 0, False
        return request
    _settle(request, match, minor, limits)
    if method == b"CONNECT":
        raise ProtocolError(400, "CONNECT needs host:port")
    return request


def parse_loose(data: bytes, limits: HeadLimits) -> Request:
    """The same for a head that a scanner has seen whole: any form of target, white space at the end of values."""
    match = grammar.HEAD.match(data)
    if match is None:
        raise ProtocolError(400, "malformed request head")
    request = Request()
    request.line, request.method, request.target, minor, block = match.groups()
    request.lines = [(name, value.rstrip(b" \t")) for name, value in _cut(block)]
    request.end = match.end()
    request.path, request.query = b"", None
    _settle(request, match, minor, limits)
    _target(request)
    return request


def _settle(request: Request, match: re.Match[bytes], minor: bytes, limits: HeadLimits) -> None:
    """Limits, and what the fields mean for routing and framing."""
    lines = request.lines
    if request.end > limits.quick or len(lines) > limits.fields:
        _check_limits(request, match, limits)
    fields = {name.lower(): value for name, value in lines}
    if len(fields) != len(lines):
        fields = _merge(lines)
    request.fields = fields
    request.minor = 0 if minor == b"0" else 1
    host = fields.get(b"host")
    if host is not None:
        request.host = parse_host(host)
    elif request.minor:
        raise ProtocolError(400, "no Host field")
    else:
        request.host = b""
    options = fields.get(b"connection")
    request.keep_alive = request.minor == 1 if options is None else _persistent(options, request.minor)
    request.expect = False
    request.length = 0
    if b"content-length" in fields or b"transfer-encoding" in fields:
        request.length = _body_length(fields, request.minor, limits.body)
    if b"expect" in fields:
        _expectation(request)


def _check_limits(request: Request, match: re.Match[bytes], limits: HeadLimits) -> None:
    if len(request.line) > limits.request_line:
        raise ProtocolError(414, "request line too long")
    if match.end() - match.start(1) > limits.head or len(request.lines) > limits.fields:
        raise ProtocolError(431, "request head too large")


def _merge(lines: list[tuple[bytes, bytes]]) -> Fields:
    """Join fields of one name by commas (RFC 9110 5.3), Cookie by semicolons (RFC 6265 5.4)."""
    fields: Fields = {}
    for name, value in lines:
        key = name.lower()
        if key not in fields:
            fields[key] = value
        elif key in _SINGLE:
            raise ProtocolError(400, _SINGLE[key])
        else:
            fields[key] += (b"; " if key == b"cookie" else b", ") + value
    return fields


@functools.lru_cache(maxsize=1024)
def parse_host(value: bytes) -> bytes:
    """Return the host of a Host field or authority, lower-case, without port and without a dot at its end.

    Raises ProtocolError(400) when it is not `uri-host [ ":" port ]` (RFC 9110 7.2).
    """
    match = grammar.HOST.fullmatch(value) if len(value) <= _LONGEST_HOST + len(":65535") else None
    if match is None or int(match[2] or 0) > 65535 or len(match[1]) > _LONGEST_HOST:
        raise ProtocolError(400, "malformed Host")
    host = match[1].lower()
    if host.startswith(b"[") and host[1] != 0x76:  # "v": IPvFuture, whose grammar is all there is to know
        try:
            ipaddress.IPv6Address(host[1:-1].decode("ascii"))
        except ValueError:
            raise ProtocolError(400, "malformed IPv6 address in Host") from None
    return host.removesuffix(b".")


@functools.lru_cache(maxsize=32)  # few: a key can be as large as a head
def _persistent(options: bytes, minor: int) -> bool:
    """Whether the connection may stay open behind this message (RFC 9112 9.3)."""
    named = {option.strip(b" \t").lower() for option in options.split(b",")}
    if b"close" in named:
        return False
    return minor > 0 or b"keep-alive" in named


def _target(request: Request) -> None:
    """The four forms of a request target (RFC 9112 3.2)."""
    target = request.target
    if request.method == b"CONNECT":
        match = grammar.HOST.fullmatch(target)
        if match is None or not (match[1] and match[2]):
            raise ProtocolError(400, "CONNECT needs host:port")
        request.host = parse_host(target)
    elif target == b"*":
        if request.method != b"OPTIONS":
            raise ProtocolError(400, "only OPTIONS may ask for *")
        request.path = b"*"
    elif match := grammar.ORIGIN_FORM.fullmatch(target):
        request.path, request.query = match.groups()
    elif match := grammar.ABSOLUTE_FORM.fullmatch(target):
        _absolute_form(request, *match.groups())
    else:
        raise ProtocolError(400, "malformed request target")


def _absolute_form(request: Request, scheme: bytes, authority: bytes, path: bytes | None, query: bytes | None) -> None:
    """RFC 9112 3.2.2: the host of the target counts, whatever Host says; so it is the field's value from here on."""
    if scheme.lower() == b"https":  # RFC 9110 7.4: not over a connection that is not secured
        raise ProtocolError(421, "https was asked for over a plain connection")
    if scheme.lower() != b"http":
        raise ProtocolError(400, "unknown scheme in the request target")
    request.host = parse_host(authority)
    if not request.host:
        raise ProtocolError(400, "empty host in the request target")
    request.fields[b"host"] = authority
    request.query = query
    # RFC 9112 3.2.4: OPTIONS for an absolute-form without a path is for the server as a whole.
    request.path = path or (b"*" if request.method == b"OPTIONS" and query is None else b"/")


def _body_length(fields: Mapping[bytes, bytes], minor: int, limit: int) -> int:
    """Size of the body in bytes, -1 for chunked (RFC 9112 6.3, steps 3 to 6)."""
    length = fields.get(b"content-length")
    coding = fields.get(b"transfer-encoding")
    if coding is None:
        assert length is not None
        if grammar.CONTENT_LENGTH.fullmatch(length) is None:
            raise ProtocolError(400, "Content-Length is not a number")
        digits = length.lstrip(b"0")
        if len(digits) > 19 or int(digits or b"0") > limit:
            raise ProtocolError(413, "request body too large")
        return int(digits or b"0")
    if length is not None:
        raise ProtocolError(400, "both Content-Length and Transfer-Encoding")
    if minor == 0:
        raise ProtocolError(400, "Transfer-Encoding in an HTTP/1.0 request")
    codings = [name.strip(b" \t").lower() for name in coding.split(b",")]
    if codings[-1] != b"chunked" or codings.count(b"chunked") != 1 or b"" in codings:
        raise ProtocolError(400, "Transfer-Encoding does not end in one chunked")
    if len(codings) > 1:
        raise ProtocolError(501, "unknown transfer coding")
    return -1


def _expectation(request: Request) -> None:
    """RFC 9110 10.1.1: 100-continue is the only expectation there is; in HTTP/1.0 it is ignored."""
    if not request.minor:
        return
    members = {member.strip(b" \t").lower() for member in request.fields[b"expect"].split(b",")} - {b""}
    if members - {b"100-continue"}:
        raise ProtocolError(417, "unknown expectation")
    request.expect = bool(members) and request.length != 0


class HeadScanner:
    """Looks at a head that is not complete, or not right, line by line.

    Call `scan` with everything received since the end of the last message, growing.  Work is linear however the bytes
    are cut.
    """

    __slots__ = ("_empty", "_limits", "_line", "_lines", "_seen", "_start")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._start = 0  # of the request line
        self._line = 0  # start of the first line not yet checked
        self._seen = 0  # bytes searched for LF
        self._lines = 0  # complete lines, the request line included
        self._empty = 0

    def scan(self, data: bytes) -> bool:
        """True when the head is complete and all its lines are good; raises ProtocolError at the first bad one."""
        while (end := data.find(b"\n", self._seen)) >= 0:
            line = data[self._line : end + 1]
            self._seen = end + 1
            if line == b"\r\n" and self._lines:
                self._check_size(end + 1)
                return True
            if line == b"\r\n" and self._empty < EMPTY_LINES:
                self._empty += 1
                self._start = end + 1
            elif self._lines == 0:
                self._request_line(line)
            else:
                self._field_line(line, end + 1)
            self._line = end + 1
        self._seen = len(data)
        self._partial(data)
        return False

    def _partial(self, data: bytes) -> None:
        rest = len(data) - self._line
        if self._lines:
            self._check_size(len(data))
        elif rest:
            self._first_byte(data[self._line : self._line + 1])
            if rest - (data[-1] == 0x0D) > self._limits.request_line:
                raise ProtocolError(414, "request line too long")

    def _first_byte(self, byte: bytes) -> None:
        # Answers at once whoever speaks TLS or something else entirely.
        if byte != b"\r" and grammar.TCHAR.match(byte) is None:
            raise ProtocolError(400, "malformed request line")

    def _check_size(self, end: int) -> None:
        if end - self._start > self._limits.head:
            raise ProtocolError(431, "request head too large")

    def _request_line(self, line: bytes) -> None:
        self._first_byte(line[:1])
        if len(line.removesuffix(b"\n").removesuffix(b"\r")) > self._limits.request_line:
            raise ProtocolError(414, "request line too long")
        match = grammar.REQUEST_LINE.fullmatch(line[:-2])
        if match is None or line[-2:] != b"\r\n":
            raise ProtocolError(400, "malformed request line")
        if match[3] != b"1":
            raise ProtocolError(505, "HTTP version not supported")
        self._lines = 1

    def _field_line(self, line: bytes, end: int) -> None:
        self._check_size(end)
        self._lines += 1
        if self._lines - 1 > self._limits.fields:
            raise ProtocolError(431, "too many fields")
        if line[-2:] != b"\r\n" or grammar.FIELD_LINE.fullmatch(line[:-2]) is None:
            raise ProtocolError(400, "malformed field line")
