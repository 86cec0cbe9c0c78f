"""Seeded mutation of requests: the same generator and the same seeds give the same bytes, under every Python.

Rules:

- Pure: a random.Random and bytes in, bytes out.  Only `random()` is asked of the generator, whose sequence the
  standard library promises to keep.
- An operator changes one thing that a parser could read in two ways; an input has one to six such changes, so that most
  of it stays good and the parser gets far.
- What is put in is what other parsers have stumbled on (RFC 9112 11.2): signs, underscores and other digits in numbers,
  line ends and white space of other kinds, framing said twice.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

LONGEST = 6000  # bytes of an input
_MOST = 6  # changes to one input

# Delimiters, white space of all kinds, ends of the ranges that grammars use.
_BYTES = [
    bytes((code,)) for code in b'\r\n\0 \t:;,"\\/?#@%*=+-_.0159afAFxX\x01\x0b\x0c\x1b\x1f!~\x7f\x80\x85\xa0\xad\xff'
]

_LINE_ENDS = [
    b"\n", b"\r", b"\r\r\n", b"\n\r", b"\r\n\r\n", b"\r \n", b" \r\n", b"\t\r\n", b"\r\n ", b"\r\n\t",
    b"\0\r\n", b"\x0b\r\n", b"\x85", b"\xe2\x80\xa8", b"", b"\r\n\r", b"\n\n",
]  # fmt: skip

_COLONS = [
    b" :", b"\t:", b": ", b":", b":\t", b"::", b" : ", b":\x0b", b"\x0c:", b":\r\n ", b"\0:", b"\xa0:", b"=",
    b"",
]  # fmt: skip

_NUMBERS = [
    b"0", b"00", b"1", b"5", b"05", b"+5", b"-5", b"-0", b"0x5", b"5_0", b"1_0", b"5.0", b"5e0", b"5,5",
    b"5, 5", b"5 5", b"5,", b",5", b" 5", b"5 ", b"\t5", b"5\t", b"5\0", b"\x0b5", b"5\x0c", b"\xd9\xa5",
    b"\xef\xbc\x95", b"\xb2", b"a", b"A", b"F", b"1f", b"0X1f", b"7f", b"80", b"ff", b"100", b"1000",
    b"ffffffff", b"100000000", b"7fffffffffffffff", b"8000000000000000", b"ffffffffffffffff",
    b"10000000000000000", b"10000000000000005", b"2147483647", b"2147483648", b"4294967296", b"4294967301",
    b"9223372036854775807", b"9223372036854775808", b"18446744073709551615", b"18446744073709551616",
    b"18446744073709551621", b"99999999999999999999", b"000000000000000000005",
    b"0000000000000000000000000000005", b"5;", b"5;a", b"5;a=b", b'5;a="b"', b"5 ;a", b"5; a", b"5;\t", b"5;=b",
    b"5;a=", b'5;a="', b'5;a="\\"', b"5;\xff", b"5;\n", b"", b"infinity",
]  # fmt: skip

_CODINGS = [
    b"chunked", b"Chunked", b"CHUNKED", b"xchunked", b"chunkedx", b"chunked, chunked", b"chunked,", b",chunked",
    b", chunked", b"identity", b"identity, chunked", b"chunked, identity", b"gzip, chunked", b"gzip",
    b"chunked;q=1", b"chunked; a=b", b'"chunked"', b"chunk", b"chunked\0", b"\x0bchunked", b"chunked\x0c",
    b" chunked", b"chunked ", b"\tchunked\t", b"", b"chunked chunked", b"chu nked", b"\r\n chunked",
    b"chunked\r\n ", b"\xe2\x84\xaahunked", b"trailers", b"deflate,chunked", b"chunked,gzip,chunked",
]  # fmt: skip

_FIELDS = [
    b"Host: a", b"Host: b", b"Host:", b"host: a:80", b"Host : a", b"Host: a b", b"Host: a,b", b"Host: u@a",
    b"Host: [::1]", b"Host: a/b", b"Connection: close", b"Connection: keep-alive", b"Connection: Keep-Alive, x",
    b"Connection: close, keep-alive", b"Connection: x\t,close", b"Connection: upgrade",
    b"Connection: content-length", b"Connection: ,", b"Upgrade: websocket", b"Upgrade: h2c", b"Keep-Alive: 5",
    b"Proxy-Connection: keep-alive", b"Expect: 100-continue", b"Expect: x", b"TE: trailers", b"Trailer: x",
    b"Cookie: a=b", b"Cookie:", b"Accept: */*", b"X: \xff\x80", b"X:", b"X: \x01", b"X", b":", b": x", b" X: y",
    b"\tX: y", b"X-\xc3\xa9: y", b"X Y: z", b"(X): y", b"Content_Length: 5", b"Content-Length : 5",
    b"Transfer_Encoding: chunked", b"Transfer-Encoding : chunked", b"Content-Length\0: 5",
    b"Content-Encoding: chunked", b"X: y\rContent-Length: 5", b"X: y\nTransfer-Encoding: chunked",
    b"GET / HTTP/1.1", b"A: b\0c",
]  # fmt: skip

_REQUEST_LINES = [
    b"GET / HTTP/1.1", b"GET / HTTP/1.0", b"POST / HTTP/1.1", b"HEAD / HTTP/1.1", b"OPTIONS * HTTP/1.1",
    b"CONNECT a:443 HTTP/1.1", b"GET http://b/c?d HTTP/1.1", b"GET https://b/ HTTP/1.1",
    b"GET HTTP://B:80 HTTP/1.1", b"GET / HTTP/1.2", b"GET / HTTP/2.0", b"GET / HTTP/0.9", b"GET / HTTP/11.1",
    b"GET / HTTP/1.10", b"GET / http/1.1", b"GET / HTTP/1,1", b"GET /", b"GET", b"GET  / HTTP/1.1",
    b"GET\t/ HTTP/1.1", b"GET / HTTP/1.1 ", b" GET / HTTP/1.1", b"get / HTTP/1.1", b"BREW /pot HTTP/1.1",
    b"G\0T / HTTP/1.1", b"GET /\xff HTTP/1.1", b"GET /a b HTTP/1.1", b"GET /#a HTTP/1.1", b"GET /?a?b HTTP/1.1",
    b"GET //b/ HTTP/1.1", b"GET /%zz HTTP/1.1", b"GET /a\\b HTTP/1.1", b"GET a HTTP/1.1", b"PRI * HTTP/2.0",
    b"M-SEARCH * HTTP/1.1", b"QUERY / HTTP/1.1", b"DELETE /[x]{y}|z HTTP/1.1",
]  # fmt: skip

_BODIES = [
    b"5\r\nhello\r\n", b"0\r\n\r\n", b"1\r\nx\r\n", b"0\r\nA: b\r\n\r\n", b"5\r\nhello\r\n0\r\n\r\n",
    b"5;a=b\r\nhello\r\n", b"5\nhello\n", b"5\r\nhelloX\r\n", b"5\r\nhello\n", b"5\r\nhello\r\r\n",
    b"5\r\nhell\r\n", b"0\r\nContent-Length: x\r\n\r\n", b"0\r\n folded\r\n\r\n", b"0\n\n", b"0\r\n\r",
    b"hello", b"0\r\nTransfer-Encoding: chunked\r\n\r\n", b"0\r\nX:\xff\r\n\r\n", b"\r\n",
    b"a\r\n0123456789\r\n",
]  # fmt: skip

_DIGITS = re.compile(rb"[0-9A-Fa-f]+(?=\r\n|;)|[0-9]+")
_LENGTH = re.compile(rb"(?i)(content-length:[ \t]*)([^\r]*)")
_CODING = re.compile(rb"(?i)(transfer-encoding:[ \t]*)([^\r]*)")

_Any = TypeVar("_Any")
_Operator = Callable[[Random, bytes, Sequence[bytes]], bytes]


def mutate(rng: Random, seeds: Sequence[bytes]) -> bytes:
    """One input made of one or two of `seeds`, with one to six changes; now and then with none."""
    wire = _pick(rng, seeds)
    if rng.random() < 0.15:
        wire += _pick(rng, seeds)
    if rng.random() < 0.01:
        return wire[:LONGEST]
    for _ in range(_MOST):
        wire = _pick(rng, _OPERATORS)(rng, wire, seeds)
        if rng.random() < 0.6:
            break
    return wire[:LONGEST]


def _below(rng: Random, bound: int) -> int:
    return int(rng.random() * bound)


def _pick(rng: Random, among: Sequence[_Any]) -> _Any:
    return among[int(rng.random() * len(among))]


def _put(wire: bytes, start: int, end: int, piece: bytes) -> bytes:
    return wire[:start] + piece + wire[end:]


# Operators on bytes


def _flip(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _below(rng, len(wire))
    return _put(wire, at, at + 1, bytes((wire[at] ^ 1 << _below(rng, 8),))) if wire else wire


def _insert(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _below(rng, len(wire) + 1)
    return _put(wire, at, at, _pick(rng, _BYTES))


def _replace(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _below(rng, len(wire))
    return _put(wire, at, at + 1, _pick(rng, _BYTES))


def _any_byte(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _below(rng, len(wire))
    return _put(wire, at, at + _below(rng, 2), bytes((_below(rng, 256),)))


def _delete(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _below(rng, len(wire))
    return _put(wire, at, at + 1 + (_below(rng, 8) if rng.random() < 0.3 else 0), b"")


def _repeat(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _below(rng, len(wire))
    piece = wire[at : at + 1 + _below(rng, 12)]
    return _put(wire, at, at, piece * (1 + _below(rng, 3 if rng.random() < 0.9 else 40)))


def _truncate(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    return wire[: 1 + _below(rng, len(wire))]


def _flip_case(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _below(rng, len(wire))
    end = at + 1 + _below(rng, 12)
    return _put(wire, at, end, wire[at:end].swapcase())


# Operators on lines


def _line(rng: Random, wire: bytes) -> tuple[int, int]:
    """Start and end, its CRLF included, of some line."""
    at = _below(rng, len(wire))
    end = wire.find(b"\r\n", at)
    return wire.rfind(b"\n", 0, at) + 1, len(wire) if end < 0 else end + 2


def _twice(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _line(rng, wire)
    at, _ = _line(rng, wire)
    return _put(wire, at, at, wire[start:end])


def _without_line(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = _line(rng, wire)
    return _put(wire, start, end, b"")


def _swap_lines(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    (start, end), (other, other_end) = sorted((_line(rng, wire), _line(rng, wire)))
    if end > other:
        return wire
    return wire[:start] + wire[other:other_end] + wire[end:other] + wire[start:end] + wire[other_end:]


def _field(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    _, at = _line(rng, wire)
    return _put(wire, at, at, _pick(rng, _FIELDS) + b"\r\n")


def _framing(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    _, at = _line(rng, wire)
    if rng.random() < 0.5:
        return _put(wire, at, at, b"Content-Length: " + _pick(rng, _NUMBERS) + b"\r\n")
    return _put(wire, at, at, b"Transfer-Encoding: " + _pick(rng, _CODINGS) + b"\r\n")


def _request_line(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    start, end = (0, max(wire.find(b"\r\n"), 0)) if rng.random() < 0.8 else _line(rng, wire)
    return _put(wire, start, end, _pick(rng, _REQUEST_LINES) + (b"" if wire.startswith(b"\r\n", end) else b"\r\n"))


def _line_end(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    _, end = _line(rng, wire)
    return _put(wire, max(end - 2, 0), end, _pick(rng, _LINE_ENDS))


def _fold(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    at = _below(rng, len(wire) + 1)
    return _put(wire, at, at, _pick(rng, (b"\r\n ", b"\r\n\t", b"\n ", b"\r ", b"\r\n \r\n", b" \r\n  ")))


def _colon(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    at = wire.find(b":", _below(rng, len(wire)))
    return wire if at < 0 else _put(wire, at, at + 1, _pick(rng, _COLONS))


# Operators on what frames a body


def _number(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    found = _DIGITS.search(wire, _below(rng, len(wire)))
    return wire if found is None else _put(wire, found.start(), found.end(), _pick(rng, _NUMBERS))


def _length(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    found = _LENGTH.search(wire)
    if found is None:
        return _framing(rng, wire, seeds)
    return _put(wire, found.start(2), found.end(2), _pick(rng, _NUMBERS))


def _coding(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    found = _CODING.search(wire)
    if found is None:
        return _framing(rng, wire, seeds)
    return _put(wire, found.start(2), found.end(2), _pick(rng, _CODINGS))


def _body(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    behind = wire.find(b"\r\n\r\n") + 4
    at = behind if behind >= 4 and rng.random() < 0.7 else len(wire)
    return _put(wire, at, at, _pick(rng, _BODIES))


def _announced(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    """A good body with its framing, so that what follows is reached."""
    at = wire.find(b"\r\n\r\n") + 2
    if at < 2:
        return wire
    if rng.random() < 0.5:
        return _put(wire, at, at + 2, b"Content-Length: 5\r\n\r\nhello")
    return _put(wire, at, at + 2, b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")


# Operators on two inputs


def _splice(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    other = _pick(rng, seeds)
    return wire[: _below(rng, len(wire) + 1)] + other[_below(rng, len(other)) :]


def _splice_lines(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    other = _pick(rng, seeds)
    return wire[: _line(rng, wire)[1]] + other[_line(rng, other)[0] :]


def _append(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    return wire + _pick(rng, seeds)


def _graft(rng: Random, wire: bytes, seeds: Sequence[bytes]) -> bytes:
    other = _pick(rng, seeds)
    start, at = _below(rng, len(other)), _below(rng, len(wire) + 1)
    return _put(wire, at, at, other[start : start + 1 + _below(rng, 30)])


# Each as often as it stands here.
_OPERATORS: tuple[_Operator, ...] = (
    _flip, _insert, _insert, _insert, _replace, _replace, _any_byte, _delete, _repeat, _truncate, _flip_case,
    _twice, _without_line, _swap_lines, _field, _field, _framing, _request_line, _line_end, _line_end, _fold, _colon,
    _number, _number, _length, _coding, _body, _announced, _announced,
    _splice, _splice_lines, _append, _append, _graft,
)  # fmt: skip
