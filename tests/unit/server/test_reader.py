"""rfile: what belongs to a request, and nothing else."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator

import pytest

from httpd.server.reader import CHUNKED, REQUEST_LINE, TUNNEL, BadBody, RequestReader
from unit.server.wire import LIMIT, tcp_pair

NEXT = b"GET /next HTTP/1.1\r\n"


class Source:
    """A socket that gives `pieces` one after the other, and then the end."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            return b""
        piece = self.pieces.pop(0)
        if len(piece) > size:
            self.pieces.insert(0, piece[size:])
        return piece[:size]

    def fileno(self) -> int:
        return 77


def reader(*pieces: bytes) -> RequestReader:
    return RequestReader(Source(*pieces))


def split(data: bytes) -> list[tuple[bytes, ...]]:
    return [(data,), tuple(data[at : at + 1] for at in range(len(data))), (data[:7], data[7:])]


def in_body(length: int, *pieces: bytes) -> RequestReader:
    made = reader(*pieces)
    made.begin_body(length)
    return made


@pytest.mark.parametrize("pieces", split(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"))
def test_lines_of_a_head(pieces: tuple[bytes, ...]) -> None:
    made = reader(*pieces)
    assert [made.readline(REQUEST_LINE) for _ in range(4)] == [b"GET / HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n", b""]


@pytest.mark.parametrize("pieces", split(b"x" * 30))
def test_a_line_is_as_long_as_was_allowed(pieces: tuple[bytes, ...]) -> None:
    made = reader(*pieces)
    assert made.readline(10) == b"x" * 10
    assert made.readline() == b"x" * 20


@pytest.mark.parametrize("pieces", split(b"0123456789" + NEXT))
def test_a_body_ends_where_its_length_ends(pieces: tuple[bytes, ...]) -> None:
    made = in_body(10, *pieces)
    assert made.read() == b"0123456789"
    assert (made.read(), made.read(5), made.read1(5), made.readline(), made.peek()) == (b"",) * 5
    assert made.discard(0)
    assert made.readline(REQUEST_LINE) == NEXT


@pytest.mark.parametrize("pieces", split(b"ab\ncd\nef" + NEXT))
def test_lines_of_a_body(pieces: tuple[bytes, ...]) -> None:
    made = in_body(8, *pieces)
    assert made.readline(2) == b"ab"
    assert made.readlines() == [b"\n", b"cd\n", b"ef"]


def test_a_hint_ends_readlines() -> None:
    made = in_body(6, b"a\nb\nc\n")
    assert made.readlines(3) == [b"a\n", b"b\n"]
    assert list(made) == [b"c\n"]


def test_reading_into_buffers() -> None:
    made = in_body(10, b"01234", b"56789" + NEXT)
    buffer = bytearray(8)
    assert (made.readinto1(buffer), buffer) == (5, b"01234\0\0\0")
    assert (made.readinto(buffer), buffer[:5]) == (5, b"56789")


def test_peek_takes_nothing_and_sees_no_further_than_the_body() -> None:
    made = in_body(3, b"abc" + NEXT)
    assert made.peek() == b"abc"
    assert made.read(1) == b"a"
    assert made.peek(100) == b"bc"


def test_read1_gives_what_is_there() -> None:
    made = in_body(10, b"012", b"3456789")
    assert made.read1() == b"012"
    assert made.read1(2) == b"34"
    assert made.read1(50) == b"56789"


def test_a_body_larger_than_any_piece() -> None:
    body = bytes(range(256)) * 4096
    made = in_body(len(body), body[:100], body[100:], NEXT)
    assert made.read(50) == body[:50]
    assert made.read(len(body)) == body[50:]
    assert made.discard(0)
    assert made.readline() == NEXT


def test_no_body_is_no_reason_to_wait() -> None:
    made = reader()
    made.begin_body(0)
    made._request.recv = None  # it would raise
    assert made.read() == made.readline() == made.read1() == made.peek() == b""


def test_a_client_that_leaves_in_its_body() -> None:
    made = in_body(10, b"012")
    assert made.read() == b"012"
    assert not made.discard(100)


# The end of a request


def test_the_rest_of_a_body_is_passed_over() -> None:
    made = in_body(10, b"0123", b"456789" + NEXT)
    assert made.read(2) == b"01"
    assert made.discard(8)
    assert not made.in_body
    assert made.readline() == NEXT


def test_not_if_it_is_long() -> None:
    made = in_body(1000, b"x" * 1000 + NEXT)
    assert not made.discard(999)


def test_a_request_line_is_not_looked_for_in_a_body() -> None:
    made = in_body(40, b"GET /smuggled HTTP/1.1\r\nwhatever", b"it is....")
    assert made.readline(REQUEST_LINE) == b"GET /smuggled HTTP/1.1\r\n"
    assert made.in_body  # which parse_request looks at


@pytest.mark.parametrize("length", [0, 3])
def test_asking_for_a_request_line_begins_the_next_request(length: int) -> None:
    """Loops of subclasses, Django's for one, know of no `discard`."""
    made = in_body(length, b"abc"[:length] + NEXT)
    assert len(made.read()) == length
    assert made.readline(REQUEST_LINE) == NEXT
    assert not made.in_body


# Chunks

CHUNKS = b"4;note=x\r\nwiki\r\n5\r\npedia\r\n0\r\nTrailer: t\r\n\r\n"


@pytest.mark.parametrize("pieces", split(CHUNKS + NEXT))
def test_who_reads_a_chunked_body_gets_the_content(pieces: tuple[bytes, ...]) -> None:
    made = in_body(CHUNKED, *pieces)
    assert made.read(3) == b"wik"
    assert made.readline() == b"ipedia"
    assert made.read() == b""
    assert made.discard(0)
    assert made.readline() == NEXT


@pytest.mark.parametrize("pieces", split(CHUNKS + NEXT))
def test_who_asks_for_a_line_first_decodes_by_hand(pieces: tuple[bytes, ...]) -> None:
    made = in_body(CHUNKED, *pieces)
    assert made.readline() == b"4;note=x\r\n"
    assert made.read(6) == b"wiki\r\n"
    assert list(made) == [b"5\r\n", b"pedia\r\n", b"0\r\n", b"Trailer: t\r\n", b"\r\n"]
    assert made.readline(REQUEST_LINE) == NEXT


@pytest.mark.parametrize("pieces", split(CHUNKS + NEXT))
def test_the_rest_of_a_chunked_body_is_passed_over(pieces: tuple[bytes, ...]) -> None:
    made = in_body(CHUNKED, *pieces)
    assert made.read(4) == b"wiki"
    assert made.discard(100)
    assert made.readline() == NEXT


@pytest.mark.parametrize("data", [b"x\r\n", b"4\r\nwikiX", b"4\nwiki", b"0x4\r\nwiki\r\n"])
def test_malformed_chunks(data: bytes) -> None:
    made = in_body(CHUNKED, data + NEXT)
    with pytest.raises(BadBody, match="malformed"):
        made.read()
    with pytest.raises(BadBody):
        made.read()
    assert not made.discard(1000)


def test_chunks_that_end_early() -> None:
    made = in_body(CHUNKED, b"4\r\nwi")
    with pytest.raises(BadBody, match="broke off"):
        made.read()


# What leaves HTTP


def test_a_tunnel_has_no_end() -> None:
    made = in_body(TUNNEL, b"\x81\x05", b"hello", b"more")
    assert made.read(2) == b"\x81\x05"
    assert made.read(5) == b"hello"
    assert made.read() == b"more"


# The other direction


class Flushed:
    def __init__(self) -> None:
        self.times = 0

    def flush(self) -> None:
        self.times += 1


def test_what_was_written_is_sent_before_the_client_is_waited_for() -> None:
    made = reader(b"abc", b"def")
    writer = Flushed()
    made.peek()
    made.begin_body(6, writer)
    assert (made.read(3), writer.times) == (b"abc", 0)  # it was there already
    assert (made.read(3), writer.times) == (b"def", 1)


# Files, and what else is no socket


def test_a_file_in_place_of_a_socket() -> None:
    file = io.BytesIO(b"abc\ndef")
    made = RequestReader(object(), file)
    assert (made.readline(), made.read()) == (b"abc\n", b"def")
    made.close()
    assert file.closed


def test_the_face_of_a_file() -> None:
    made = reader()
    assert isinstance(made, io.BufferedIOBase)
    assert (made.readable(), made.writable(), made.seekable(), made.isatty()) == (True, False, False, False)
    assert made.fileno() == 77
    made.begin_body(0)
    with made:
        made.flush()
    assert made.closed


def test_text_and_json_can_be_read_from_it() -> None:
    made = in_body(8, "é\nzwei\n".encode() + NEXT)
    assert io.TextIOWrapper(made, encoding="utf-8").read() == "é\nzwei\n"  # type: ignore[type-var]


# Closing


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with tcp_pair() as both:
        yield both


def test_a_client_that_still_sends_is_not_reset(pair: tuple[socket.socket, socket.socket]) -> None:
    client, served = pair
    client.sendall(b"POST\r\n" + b"x" * 100)
    made = RequestReader(served)
    made.readline()
    made.begin_body(1000)

    def end() -> None:
        served.sendall(b"an answer")
        made.close()
        served.close()

    thread = threading.Thread(target=end, daemon=True)
    thread.start()
    assert b"".join(iter(lambda: client.recv(65536), b"")) == b"an answer"
    for _ in range(3):  # a reset would be noticed by the second
        client.sendall(b"x" * 100)
    client.close()
    thread.join(LIMIT)
    assert not thread.is_alive()


def test_a_close_behind_a_whole_request_waits_for_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    client, served = pair
    client.sendall(b"line\r\nabc")
    made = RequestReader(served)
    made.readline()
    made.begin_body(3)
    made.close()  # the body is there, although nobody has read it
    assert served.gettimeout() == 0.0  # it was looked for
    served.setblocking(True)
    served.sendall(b"still open for writing")
    assert client.recv(100) == b"still open for writing"


def test_a_close_on_a_socket_that_is_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    client, served = pair
    client.sendall(b"half a head\r\n")
    made = RequestReader(served)
    made.readline()
    served.close()
    made.close()
    assert made.closed
