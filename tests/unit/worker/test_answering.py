"""From a handler back to its client: what is sent, when, and what becomes of the connection."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from httpd.server.exchange import Exchange
from unit.worker.test_dispatch import GET, OK, Handler, Make, World

CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[World] = []

    def start(call: Any = Handler, **options: Any) -> World:
        made.append(World(call, **options))
        return made[-1]

    yield start
    for world in made:
        world.close()


def writes(data: bytes, **attributes: Any) -> Any:
    def call(exchange: Exchange, *arguments: Any) -> None:
        exchange.wfile.write(data)
        exchange.close_connection = False
        for name, value in attributes.items():
            setattr(exchange, name, value)

    return call


def _rest(world: World, client: socket.socket) -> bytes:
    """All that comes until the server closes."""
    found = b""
    client.setblocking(False)
    while True:
        world.turn()
        try:
            data = client.recv(1 << 20)
        except BlockingIOError:
            if not world.context.connections:
                return found
            continue
        if not data:
            return found
        found += data


def test_one_after_the_other_on_a_connection(make: Make) -> None:
    world = make()
    client = world.client(GET * 3)
    for _ in range(3):
        assert len(world.queued) == 1
        world.run()
    assert client.recv(1000) == OK * 3
    assert len(world.logged) == 3


@pytest.mark.parametrize("request_line", [b"GET /x HTTP/1.1\r\nConnection: close", b"GET /x HTTP/1.0"])
def test_the_client_may_want_it_closed(make: Make, request_line: bytes) -> None:
    world = make(writes(OK))
    client = world.client(request_line + b"\r\nHost: a\r\n\r\n")
    world.run()
    assert _rest(world, client).endswith(b"ok")
    assert not world.context.connections


def test_the_handler_may_want_it_closed(make: Make) -> None:
    world = make(writes(OK, close_connection=True))
    client = world.client(GET)
    world.run()
    assert _rest(world, client) == OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def test_a_handler_that_would_have_gone_on_does_not_close(make: Make) -> None:
    world = make(writes(OK, close_connection=True, asked_again=True))
    world.client(GET)
    world.run()
    assert world.context.connections


def test_an_answer_that_does_not_fit_goes_out_bit_by_bit(make: Make) -> None:
    body = os.urandom(600_000)
    world = make(writes(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 600000\r\n\r\n" + body))
    client = world.client(GET, buffer=4096)
    world.run()
    assert world.dispatch.active == 0  # no thread is held
    assert world.context.connections
    assert _rest(world, client).endswith(body)
    assert world.logged == ["GET /x HTTP/1.1 200 600000"]


def test_a_client_that_stops_reading_is_cut_off(make: Make) -> None:
    world = make(writes(b"HTTP/1.1 200 OK\r\nContent-Length: 600000\r\n\r\n" + b"x" * 600_000))
    world.client(GET, buffer=4096)
    world.run()
    world.context.now += 1000
    for connection in list(world.context.connections.values()):
        connection.sweep(world.context.now)
    assert not world.context.connections
    (line,) = world.logged
    assert line.startswith("GET /x HTTP/1.1 200 ")
    assert int(line.rpartition(" ")[2]) < 600_000


def test_a_file_is_sent_and_closed(make: Make, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (tmp_path / "file").write_bytes(data)
    numbers: list[int] = []

    def call(exchange: Exchange, *arguments: Any) -> None:
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        numbers.append(fd)
        exchange.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 300000\r\n\r\n")
        assert exchange.wfile.send_file(fd, 0, 300_000)

    world = make(call)
    client = world.client(GET)
    world.run()
    assert _rest(world, client).endswith(data)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(numbers[0])


def test_a_file_for_a_client_that_left_is_closed(make: Make, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    numbers: list[int] = []

    def call(exchange: Exchange, *arguments: Any) -> None:
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        numbers.append(fd)
        exchange.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n")
        if not exchange.wfile.send_file(fd, 0, 300_000):
            os.close(fd)

    world = make(call)
    client = world.client(GET, buffer=4096)
    exchange = world.dispatch.pool.queue.popleft()
    exchange.run()
    client.close()
    world.turn()
    world.dispatch.pool.finished.append(exchange)
    world.turn()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(numbers[0])


@pytest.mark.parametrize("data", [CUT, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"])
def test_less_than_was_said_is_cut_off(make: Make, data: bytes) -> None:
    world = make(writes(data))
    client = world.client(GET)
    world.run()
    client.setblocking(True)
    found = b""
    try:
        while piece := client.recv(1000):
            found += piece
    except ConnectionResetError:
        pass
    assert found == data  # a socket pair knows no RST
    assert not world.context.connections
    assert sum("wrote less than its Content-Length" in line for line in world.errors) == 1


FLUSHED = b"HTTP/1.1 200 OK\r\n\r\n"


def raises(*pieces: bytes, flush: bool) -> Any:
    """Writes `pieces`, has them sent (`flush`) or not, and fails before the loop has looked at them."""

    def call(exchange: Exchange, *arguments: Any) -> None:
        for piece in pieces:
            exchange.wfile.write(piece)
        if flush:
            exchange.wfile.flush()
        raise RuntimeError("behind a part")

    return call


@pytest.mark.parametrize(
    ("pieces", "sent"),
    [
        ((FLUSHED, b"part"), b"\r\n\r\n4\r\npart\r\n"), ((CUT,), b"\r\n\r\n12345"), ((FLUSHED,), b"\r\n\r\n"),
        ((OK,), b"\r\n\r\nok"),
    ],
)  # fmt: skip
def test_what_was_flushed_is_sent_whatever_comes_behind_it(make: Make, pieces: tuple[bytes, ...], sent: bytes) -> None:
    world = make(raises(*pieces, flush=True))
    client = world.client(GET)
    world.run()
    found = client.recv(10_000)
    assert found.startswith(b"HTTP/1.1 200 ")
    assert found.endswith(sent)  # no last chunk
    assert not world.context.connections
    assert sum("a handler raised" in line for line in world.errors) == 1
    assert world.logged[0].startswith("GET /x HTTP/1.1 200 ")


def fill(fd: int) -> int:
    """Write until there is no more room; how much that was."""
    written = 0
    for size in (1000, 1):
        with contextlib.suppress(BlockingIOError):
            while True:
                written += os.write(fd, b"-" * size)
    return written


@pytest.mark.parametrize(
    ("pieces", "ends"),
    [
        ((OK,), b"\r\n\r\nok"), ((FLUSHED, b"part"), b"\r\n\r\n4\r\npart\r\n0\r\n\r\n"),
        ((b"HTTP/1.1 204 None\r\n\r\n",), b" 204 None\r\n\r\n"),
    ],
    ids=["length", "chunks", "no content"],
)  # fmt: skip
def test_an_answer_that_waits_as_a_whole_is_not_lost_when_its_handler_returns(
    make: Make, pieces: tuple[bytes, ...], ends: bytes
) -> None:
    """Not a byte of it went out, as the socket was full of answers before: the next one is not to take its place."""
    junk: list[int] = []

    def call(exchange: Exchange, *arguments: Any) -> None:
        if not junk:
            connection: Any = exchange.owner
            junk.append(fill(connection._fd))
            for piece in pieces:
                exchange.wfile.write(piece)
            connection.forward(exchange)  # as the loop does when it is told of a flush
        else:
            exchange.wfile.write(OK)
        exchange.close_connection = False

    world = make(call)
    client = world.client(GET)
    world.run()
    client.send(GET)
    assert len(client.recv(junk[0], socket.MSG_WAITALL)) == junk[0]
    world.turn()
    world.run()
    found = client.recv(10_000)
    first, _, second = found.partition(ends)
    assert found.startswith(b"HTTP/1.1 20") and b"\r\n\r\n" not in first
    assert second.startswith(b"HTTP/1.1 200 ") and second.endswith(b"\r\n\r\nok")


@pytest.mark.parametrize("flush", [False, True])
def test_one_that_fails_while_all_of_it_waits_is_cut_off(make: Make, flush: bool) -> None:
    junk: list[int] = []

    def call(exchange: Exchange, *arguments: Any) -> None:
        connection: Any = exchange.owner
        junk.append(fill(connection._fd))
        exchange.wfile.write(CUT)
        if flush:
            exchange.wfile.flush()
        connection.forward(exchange)
        raise RuntimeError("behind a part")

    world = make(call)
    client = world.client(GET)
    world.run()
    assert len(client.recv(junk[0], socket.MSG_WAITALL)) == junk[0]
    assert _rest(world, client).endswith(b"\r\n\r\n12345")
    assert not [line for line in world.errors if "defect" in line]


@pytest.mark.parametrize(("data", "flush"), [(OK, False), (CUT, False), (b"", True), (b"HTTP/1.1 200 OK\r\n", True)])
def test_before_anything_of_an_answer_had_to_leave_it_is_500(make: Make, data: bytes, flush: bool) -> None:
    world = make(raises(data, flush=flush))
    client = world.client(GET)
    world.run()
    assert b"HTTP/1.1 500 " in client.recv(10_000)
    assert world.context.connections


def test_more_than_was_said_is_said(make: Make) -> None:
    world = make(writes(OK + b"more"))
    client = world.client(GET * 2)
    world.run()
    world.run()
    assert client.recv(1000) == OK * 2
    (line,) = [line for line in world.errors if "wrote more than its Content-Length" in line]
    assert "bytes=4" in line


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_no_answer_at_all(make: Make, data: bytes) -> None:
    world = make(writes(data))
    client = world.client(GET)
    world.run()
    assert b"HTTP/1.1 500 " in client.recv(10_000)
    assert sum("sent no answer" in line for line in world.errors) == 1
    assert world.context.connections


def test_who_is_denied_gets_no_word(make: Make) -> None:
    world = make(writes(b"", hooked=True))
    client = world.client(GET)
    world.run()
    assert client.recv(100) == b""
    assert world.errors == []


@pytest.mark.parametrize("begun", [False, True])
def test_while_it_drains_the_answer_is_the_last(make: Make, begun: bool) -> None:
    world = make(writes(OK))
    client = world.client(GET)
    (exchange,) = world.queued
    if begun:
        exchange.wfile.write(OK)
        world.mount._call = lambda *arguments: None
    world.context.draining = True
    for connection in world.context.connections.values():
        connection.drain(fresh=True)
    world.run()
    assert _rest(world, client) == OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")


def test_a_client_that_leaves_is_told_to_the_handler(make: Make) -> None:
    world = make()
    client = world.client(GET)
    (exchange,) = world.queued
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    world.turn()
    assert exchange.broken
    with pytest.raises(BrokenPipeError):
        exchange.wfile.write(b"x")
    assert world.logged == ["GET /x HTTP/1.1 499 -"]
    world.run()
    assert world.dispatch.active == 0


def test_the_end_of_the_worker_cuts_what_runs(make: Make) -> None:
    world = make()
    client = world.client(GET)
    (connection,) = world.context.connections.values()
    assert connection.busy
    connection.cut()
    assert client.recv(10) == b""
    assert world.logged == ["GET /x HTTP/1.1 499 -"]
