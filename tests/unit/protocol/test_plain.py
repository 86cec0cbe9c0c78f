"""Plain heads: the short way means what the general way means, and only for heads that are plain."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.protocol.head import parse, parse_host, parse_loose
from httpd.protocol.messages import HeadLimits, ProtocolError
from httpd.protocol.plain import plain_head

LIMITS = HeadLimits()
plain = plain_head(LIMITS)
BROWSER = (
    b"Host: a.example:8000", b"User-Agent: Mozilla/5.0 (X11; Linux x86_64)", b"Accept: text/html;q=0.9,*/*;q=0.8",
    b"Accept-Language: en-GB,en;q=0.5", b"Accept-Encoding: gzip, deflate, br", b"Connection: keep-alive",
    b"Referer: http://a.example/page", b"Cookie: a=b; c=d", b"Upgrade-Insecure-Requests: 1", b"TE: trailers",
    b"Cache-Control: max-age=0", b"Sec-Fetch-Mode: navigate", b"Content-Type: text/plain",
)  # fmt: skip


def head(*lines: bytes, target: bytes = b"/") -> bytes:
    return b"\r\n".join((b"GET " + target + b" HTTP/1.1", *lines, b"", b""))


def agrees(data: bytes) -> bool:
    """Whether `data` is plain; if so the general way must say the same of it."""
    match = plain(data)
    if match is None:
        return False
    request = parse(data, LIMITS) or parse_loose(data, LIMITS)
    line, path, agent, referer, host, close, tag, since, span = match.groups()
    assert (request.line, request.path, request.method, request.minor) == (line, path, b"GET", 1)
    assert (request.length, request.expect, request.end) == (0, False, len(data))
    assert request.keep_alive is (close is None)
    assert request.fields.get(b"user-agent") == agent
    assert request.fields.get(b"referer") == referer
    assert request.fields.get(b"host") == host
    assert parse_host(host) == request.host
    assert request.fields.get(b"if-none-match") == tag
    assert request.fields.get(b"if-modified-since") == since
    assert request.fields.get(b"range") == (None if span is None else b"bytes=" + span)
    assert not {b"if-match", b"if-range", b"if-unmodified-since"} & set(request.fields)
    return True


@pytest.mark.parametrize("order", [1, -1])
def test_what_browsers_send_is_plain(order: int) -> None:
    assert agrees(head(*BROWSER[::order], target=b"/a/b.html?x=1&y=%20"))


@pytest.mark.parametrize(
    "line",
    [
        b"Connection: close", b"connection:CLOSE", b"Connection:\tKeep-Alive", b"Referer:", b"Hosts: b",
        b"Range: bytes=0-", b"range:bytes=7-8", b"if-none-match: *", b'If-None-Match: "a", W/"b"',
        b"If-Modified-Since: x", b"X: ", b"X:\t \xff\x80", b"!#$%&'*+-.^_`|~: t", b"Content-Lengt: 3", b"user-agent: b",
    ],
)  # fmt: skip
def test_also_plain(line: bytes) -> None:
    assert agrees(head(b"hOST: a", line).replace(b"hOST", b"host"))


@pytest.mark.parametrize(
    "line",
    [
        b"Content-Length: 0", b"content-length: 3", b"Transfer-Encoding: chunked", b"EXPECT: 100-continue",
        b"Range: bytes=-1", b"Range: bytes=0-1,3-4", b"Range: Bytes=0-1", b"Range: bytes=+1-2", b"Range: bytes=1",
        b"Range: bytes=" + b"1" * 19 + b"-", b"range: bytes=0-\r\nRange: bytes=0-",
        b"If-None-Match: a\r\nIf-None-Match: a",
        b"If-Match: *", b"If-Unmodified-Since: x", b"If-Range: x", b"Connection: close, x", b"Connection: upgrade",
        b"Connection: keep-alive, close", b"Host: a", b"Host : b", b"User-Agent: a\r\nUser-Agent: b",
        b"Referer: a\r\nreferer: b", b"X : y", b"X: a\x00", b"X: \r", b"X: a\nY: b", b" folded", b"X\xff: y", b": y",
        b"User-Agent: x ", b"Connection: close\r\nConnection: close", b"X", b"X: a\x7f",
    ],
)  # fmt: skip
def test_not_plain(line: bytes) -> None:
    assert plain(head(b"Host: a", line)) is None


@pytest.mark.parametrize(
    "data",
    [
        b"", b"GET / HTTP/1.1\r\n", head(b"Host: a")[:-1], head(b"Host: a") + b"G", b"\r\n" + head(b"Host: a"),
        head(b"Host: a").replace(b"GET", b"HEAD"), head(b"Host: a").replace(b"1.1", b"1.0"),
        head(b"Host: a").replace(b"1.1", b"1.2"), head(b"Host: a", target=b"http://a/"), head(b"Host: a", target=b"*"),
        head(b"Host: a", target=b"/\\x"), head(b"Host: a", target=b"/#x"), head(b"Host: a", target=b"/<"),
        head(b"Host: a").replace(b"\r\n", b"\n"), head(b"Host: a", target=b"/ "), head(b"Host: a b"), head(b"Host: "),
        head(b"Host: a\x7f"), head(b"Host: \x01"), head(b"Host: a\nb"),
    ],
)  # fmt: skip
def test_not_plain_as_a_whole(data: bytes) -> None:
    assert plain(data) is None


def test_without_host_there_is_nothing_to_look_up() -> None:
    match = plain(head(b"X: y"))
    assert match is not None
    assert match[5] is None


def test_limits() -> None:
    few = plain_head(HeadLimits(request_line=200, head=300, fields=3))
    assert few(head(b"Host: a", b"X: y", b"Y: y"))
    assert few(head(b"Host: a", b"X: y", b"Y: y", b"Z: y")) is None


_NAMES = [line.split(b":")[0] for line in BROWSER] + [
    b"Content-Length", b"Transfer-Encoding", b"Expect", b"Range", b"If-Match", b"If-None-Match", b"If-Modified-Since",
    b"X", b"If-Range", b"Te", b"uR",
]  # fmt: skip
_VALUES = st.sampled_from(
    [b"a", b"close", b"keep-alive", b"", b" ", b"a ", b"\xff", b"a, b", b"0", b"\x01", b"a:80", b"bytes=1-"]
)
_LINES = st.lists(
    st.tuples(st.sampled_from(_NAMES), st.sampled_from([b": ", b":", b" :", b":\t", b":  "]), _VALUES).map(b"".join)
)


@given(_LINES, st.sampled_from([b"/", b"/a?b", b"/%41", b"/a b", b"*", b"//a", b"/?", b"/\\"]), st.data())
def test_the_general_way_says_the_same(lines: list[bytes], target: bytes, data: st.DataObject) -> None:
    text = head(b"Host: a", *lines, target=target)
    agrees(text)
    place = data.draw(st.integers(0, len(text)))
    try:
        agrees(text[:place] + bytes([data.draw(st.integers(0, 255))]) + text[place + 1 :])
    except ProtocolError as error:
        assert error.reason in ("malformed Host", "no Host field"), "asked of the table of hosts, not of the head"
