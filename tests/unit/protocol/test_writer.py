"""Response heads."""

from __future__ import annotations

import pytest

from httpd.protocol.writer import CLOSE, KEEP_ALIVE, OPEN, Preambles, field_lines, rest_of_head

SECOND = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, RFC 9110 5.6.7


@pytest.fixture
def preambles() -> Preambles:
    made = Preambles()
    made.at(SECOND)
    return made


@pytest.mark.parametrize(
    ("persistence", "line"),
    [(OPEN, b""), (KEEP_ALIVE, b"Connection: keep-alive\r\n"), (CLOSE, b"Connection: close\r\n")],
)
def test_preamble(preambles: Preambles, persistence: int, line: bytes) -> None:
    start = b"HTTP/1.1 404 Not Found\r\nServer: httpd\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n"
    assert preambles.get(404, persistence) == preambles.get(404, persistence) == start + line


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (200, b"HTTP/1.1 200 OK"), (206, b"HTTP/1.1 206 Partial Content"), (304, b"HTTP/1.1 304 Not Modified"),
        (408, b"HTTP/1.1 408 Request Timeout"), (413, b"HTTP/1.1 413 Content Too Large"),
        (414, b"HTTP/1.1 414 URI Too Long"), (416, b"HTTP/1.1 416 Range Not Satisfiable"),
        (421, b"HTTP/1.1 421 Misdirected Request"), (422, b"HTTP/1.1 422 Unprocessable Content"),
        (431, b"HTTP/1.1 431 Request Header Fields Too Large"), (505, b"HTTP/1.1 505 HTTP Version Not Supported"),
        (299, b"HTTP/1.1 299 "),  # RFC 9112 4: the space stays without a reason
    ],
)  # fmt: skip
def test_status_lines(preambles: Preambles, status: int, line: bytes) -> None:
    assert preambles.get(status, OPEN).startswith(line + b"\r\n")


def test_every_status_and_persistence_is_kept_apart(preambles: Preambles) -> None:
    pairs = [(status, persistence) for status in range(100, 600) for persistence in (OPEN, KEEP_ALIVE, CLOSE)]
    first = [preambles.get(*pair) for pair in pairs]
    assert [preambles.get(*pair) for pair in pairs] == first
    assert all(made.startswith(b"HTTP/1.1 %d " % status) for made, (status, _) in zip(first, pairs, strict=True))
    assert all(made.endswith(b"close\r\n") is (way == CLOSE) for made, (_, way) in zip(first, pairs, strict=True))


def test_the_date_moves(preambles: Preambles) -> None:
    before = preambles.get(200, OPEN)
    preambles.at(SECOND)
    assert preambles.get(200, OPEN) is before
    preambles.at(SECOND + 1)
    assert preambles.second == SECOND + 1
    assert preambles.get(200, OPEN) == before.replace(b":37", b":38")
    preambles.at(SECOND)  # a clock may be set back
    assert preambles.get(200, OPEN) == before


def test_field_lines() -> None:
    assert field_lines([]) == b""
    assert field_lines([(b"A", b"b"), (b"A", b""), (b"C", b"\xff")]) == b"A: b\r\nA: \r\nC: \xff\r\n"


@pytest.mark.parametrize("status", [200, 206, 301, 404, 416, 500])
def test_content_length(status: int) -> None:
    assert rest_of_head(status, [(b"A", b"b")], 0) == b"A: b\r\nContent-Length: 0\r\n\r\n"
    assert rest_of_head(status, [], 2**40) == b"Content-Length: 1099511627776\r\n\r\n"


@pytest.mark.parametrize("status", [100, 101, 204, 304])
def test_no_content_length(status: int) -> None:
    """RFC 9110 8.6, 15.3.5, 15.4.5."""
    assert rest_of_head(status, [(b"A", b"b")], 5) == b"A: b\r\n\r\n"
