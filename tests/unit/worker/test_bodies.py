"""Bodies for handlers: in memory, in a file with its head in front, or as they come in."""

from __future__ import annotations

import io
import os
import socket
import struct
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from httpd.protocol.head import parse, parse_loose
from httpd.protocol.messages import HeadLimits, Request
from httpd.protocol.receiver import Receiver
from httpd.server.exchange import Exchange
from httpd.worker.bodies import BodyStore, StreamBody, head_of

LIMITS = HeadLimits()


def request(*lines: bytes) -> Request:
    wire = b"POST /x HTTP/1.1\r\nHost: a\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n"
    return parse(wire, LIMITS) or parse_loose(wire, LIMITS)


def stored(made: Request, limit: int, *pieces: bytes) -> tuple[bytes, bytes, bool]:
    """What a handler reads: head and body, and whether they are in a file."""
    store = BodyStore(limit, made)
    for piece in pieces:
        store.add(piece)
    head, body, file, start = store.finish()
    if file is None:
        assert start == len(head)
        return head, body, False
    assert body == b""
    whole = file.read()
    file.seek(start)
    behind = file.read()
    store.close()
    assert whole == head + behind
    return head, behind, True


# Heads


def test_a_head_is_the_client_s() -> None:
    made = request(b"X-A: 1", b"Content-Length: 3", b"x-a:  2 ")
    assert head_of(made, 3) == b"POST /x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nContent-Length: 3\r\nx-a: 2\r\n\r\n"


def test_a_chunked_one_gets_a_length_instead() -> None:
    made = request(b"X-A: 1", b"Transfer-Encoding: chunked", b"X-B: 2")
    assert head_of(made, 12) == b"POST /x HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nX-B: 2\r\nContent-Length: 12\r\n\r\n"


def test_one_without_a_body_stays_so() -> None:
    assert head_of(request(b"X: 1"), 0) == b"POST /x HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n"


# Memory and file


@pytest.mark.parametrize(
    ("sizes", "spooled"),
    [
        ((), False), ((0,), False), ((10,), False), ((4, 6), False), ((1,) * 10, False), ((11,), True),
        ((10, 1), True), ((1,) * 11, True), ((4, 6, 5, 0, 3), True), ((100_000,), True),
    ],
)  # fmt: skip
@pytest.mark.parametrize("chunked", [False, True])
def test_up_to_the_limit_in_memory_and_beyond_in_a_file(sizes: tuple[int, ...], spooled: bool, chunked: bool) -> None:
    pieces = [os.urandom(size) for size in sizes]
    total = sum(sizes)
    made = request(b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % total, b"X: y")
    head, body, in_file = stored(made, 10, *pieces)
    assert (body, in_file) == (b"".join(pieces), spooled)
    assert head == head_of(made, total)


def test_no_memory_at_all() -> None:
    assert stored(request(b"Content-Length: 1"), 0, b"x")[1:] == (b"x", True)


def test_a_body_that_nobody_wants_is_closed() -> None:
    store = BodyStore(1, request(b"Content-Length: 5"))
    store.add(b"12345")
    assert store.file is not None
    store.close()
    assert store.file.closed
    BodyStore(1, request()).close()


# Streams


class Driver:
    def push(self, exchange: Exchange) -> None: ...
    def take_over(self, exchange: Exchange) -> Any: ...
    def ask_socket(self, exchange: Exchange, name: str, arguments: Any) -> Any: ...
    def failed(self, exchange: Exchange, error: BaseException) -> None: ...


class Ends:
    """A client's end, and a stream over the other."""

    def __init__(self, *lines: bytes, behind: bytes = b"", gap: float = 20.0, rate: int = 0) -> None:
        self.client, self.served = socket.socketpair()
        self.served.setblocking(False)
        self.receiver = Receiver(LIMITS)
        wire = b"POST /x HTTP/1.1\r\nHost: a\r\n" + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + behind
        found = self.receiver.next_request(wire)
        assert found is not None
        head = head_of(found, 0)
        self.exchange = Exchange(Driver(), None, head, len(head), found.line, "/x")
        body = StreamBody(self.exchange, self.served.fileno(), self.receiver, gap, rate)
        self.exchange.read_by(body)
        self.exchange.begin_body()
        self.rfile = self.exchange.rfile

    def close(self) -> None:
        for end in (self.rfile, self.client, self.served):
            end.close()


@pytest.fixture
def made() -> Iterator[list[Ends]]:
    opened: list[Ends] = []
    yield opened
    for ends in opened:
        ends.close()


def test_a_stream_comes_piece_by_piece(made: list[Ends]) -> None:
    ends = Ends(b"Content-Length: 10", behind=b"123")
    made.append(ends)
    assert isinstance(ends.rfile, io.BufferedReader)
    assert ends.rfile.read1(100) == b"123"
    ends.client.send(b"45")
    assert ends.rfile.read1(100) == b"45"
    ends.client.send(b"67890GET / HTTP/1.1\r\n")
    assert ends.rfile.read() == b"67890"
    assert ends.rfile.read() == b""
    assert ends.receiver.pending == b"GET / HTTP/1.1\r\n"
    assert ends.receiver.body is None


def test_a_chunked_stream_is_decoded(made: list[Ends]) -> None:
    ends = Ends(b"Transfer-Encoding: chunked", behind=b"3\r\nabc\r\n")
    made.append(ends)
    assert ends.rfile.read(3) == b"abc"
    ends.client.send(b"2\r\nde\r\n0\r\nX: trailer\r\n\r\n")
    assert ends.rfile.read() == b"de"


def test_lines_over_pieces(made: list[Ends]) -> None:
    ends = Ends(b"Content-Length: 12", behind=b"one\ntw")
    made.append(ends)
    assert ends.rfile.readline() == b"one\n"
    ends.client.send(b"o\nlast")
    assert [ends.rfile.readline() for _ in range(3)] == [b"two\n", b"last", b""]


def test_the_head_is_in_front(made: list[Ends]) -> None:
    ends = Ends(b"Content-Length: 1", behind=b"x")
    made.append(ends)
    body = StreamBody(ends.exchange, ends.served.fileno(), ends.receiver, 1.0, 0)
    with io.BufferedReader(body) as reader:
        assert reader.readline() == b"POST /x HTTP/1.1\r\n"


def test_a_client_that_is_silent(made: list[Ends]) -> None:
    ends = Ends(b"Content-Length: 1", gap=0.001)
    made.append(ends)
    with pytest.raises(TimeoutError):
        ends.rfile.read()
    assert ends.exchange.fault == 408


def test_the_handler_s_own_timeout_counts_if_it_is_shorter(made: list[Ends]) -> None:
    ends = Ends(b"Content-Length: 1", gap=3600.0)
    made.append(ends)
    ends.exchange.settimeout(0.001)
    with pytest.raises(TimeoutError):
        ends.rfile.read()


def test_a_client_that_leaves(made: list[Ends]) -> None:
    ends = Ends(b"Content-Length: 5", behind=b"12")
    made.append(ends)
    assert ends.rfile.read1(9) == b"12"
    ends.client.close()
    with pytest.raises(ConnectionResetError):
        ends.rfile.read()
    assert ends.exchange.fault == 400


def test_a_client_that_is_torn_away(made: list[Ends]) -> None:
    ends = Ends(b"Content-Length: 5", behind=b"12")
    made.append(ends)
    ends.client.close()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
        with served:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
            body = StreamBody(ends.exchange, served.fileno(), ends.receiver, 20.0, 0)
            with io.BufferedReader(body) as reader, pytest.raises(ConnectionResetError):
                reader.read()
    assert ends.exchange.fault == 400


def test_a_client_that_breaks_the_framing(made: list[Ends]) -> None:
    ends = Ends(b"Transfer-Encoding: chunked", behind=b"3\r\nabc\r\n")
    made.append(ends)
    assert ends.rfile.read(3) == b"abc"
    ends.client.send(b"nonsense\r\n")
    with pytest.raises(ConnectionAbortedError, match="malformed"):
        ends.rfile.read()
    assert ends.exchange.fault == 400


def test_its_descriptor_is_its_own(made: list[Ends]) -> None:
    ends = Ends(b"Content-Length: 2")
    made.append(ends)
    ends.served.close()  # the loop has closed the connection, and its number may be another's now
    with socket.socket() as other:
        ends.client.send(b"ok")
        assert ends.rfile.read() == b"ok"
        assert other.fileno() >= 0


def test_another_thread_may_wait_for_it(made: list[Ends]) -> None:
    ends = Ends(b"Content-Length: 3")
    made.append(ends)
    found: list[bytes] = []
    thread = threading.Thread(target=lambda: found.append(ends.rfile.read()))
    thread.start()
    for byte in (b"a", b"b", b"c"):
        ends.client.send(byte)
    thread.join(20)
    assert found == [b"abc"]
