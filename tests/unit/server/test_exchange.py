"""The seam between a handler and the loop: one request, and something that looks like the client's socket."""

from __future__ import annotations

import io
import socket
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from httpd.server.exchange import Exchange, TakenSocket

PATIENCE = 20.0
LINE = b"POST /path?q HTTP/1.1"
HEAD = LINE + b"\r\nHost: a\r\nX-One: 1\r\n\r\n"
BODY = b"the body"


class Driver:
    """The loop: notes what it is told, and gives one end of a pair as the client's socket."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.client, self.served = socket.socketpair()
        self.early = b""
        self.refuse = False
        self.errors: list[BaseException] = []

    def push(self, exchange: Exchange) -> None:
        self.told.append("push")

    def take_over(self, exchange: Exchange) -> tuple[socket.socket, bytes]:
        self.told.append("take over")
        if self.refuse:
            raise OSError(105, "too many")
        return self.served, self.early

    def ask_socket(self, exchange: Exchange, name: str, arguments: tuple[Any, ...]) -> Any:
        self.told.append(name)
        return getattr(self.served, name)(*arguments)

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        self.errors.append(error)

    def close(self) -> None:
        self.client.close()
        self.served.close()


@pytest.fixture
def driver() -> Iterator[Driver]:
    made = Driver()
    yield made
    made.close()


@pytest.fixture
def exchange(driver: Driver) -> Iterator[Exchange]:
    made = Exchange(driver, Mount(), HEAD + BODY, len(HEAD), LINE, "/path?q")
    made.client_address = ("192.0.2.1", 4711)
    yield made
    made.end()


class Mount:
    extra_fields: tuple[Any, ...] = ()


# Head and body


def test_its_parts(exchange: Exchange) -> None:
    assert exchange.fields == b"\nHost: a\r\nX-One: 1\r\n"
    assert exchange.rfile.read() == HEAD + BODY


def test_another_line_in_the_place_of_the_first(exchange: Exchange) -> None:
    assert not exchange.takes_other(LINE + b"\r\n")
    exchange.raw_line = LINE + b"\r\n"
    assert exchange.takes_other(b"GET / HTTP/1.1\r\n")
    assert exchange.rfile.readline() == b"Host: a\r\n"
    assert exchange.takes_other(LINE + b"\r\n")  # it is not looked at again
    assert exchange.rfile.readline() == b"X-One: 1\r\n"


def test_the_body_comes_behind_the_head(exchange: Exchange) -> None:
    exchange.begin_body()
    assert exchange.parsed
    assert exchange.rfile.read() == BODY
    assert exchange.rfile.read() == b""


def test_a_head_without_fields(driver: Driver) -> None:
    data = b"GET / HTTP/1.0\r\n\r\n"
    made = Exchange(driver, Mount(), data, len(data), b"GET / HTTP/1.0", "/")
    assert made.fields == b"\n"


def test_a_body_in_a_file(driver: Driver) -> None:
    with tempfile.TemporaryFile() as file:
        file.write(b"room" + HEAD + BODY)
        file.seek(4)
        made = Exchange(driver, Mount(), HEAD, len(HEAD), LINE, "/path")
        made.read_file(file, 4 + len(HEAD))  # type: ignore[arg-type]
        assert made.rfile.readline() == LINE + b"\r\n"
        made.begin_body()
        assert made.rfile.read() == BODY
        made.end()
        assert file.closed


def test_a_stream(driver: Driver) -> None:
    made = Exchange(driver, Mount(), HEAD, len(HEAD), LINE, "/path")
    raw = io.BytesIO(HEAD + BODY)
    made.read_by(raw)  # type: ignore[arg-type]
    made.begin_body()
    assert made.rfile.read() == BODY
    made.end()
    assert raw.closed


# The face of a socket, which takes nothing over


def test_what_a_handler_asks_without_taking_it(exchange: Exchange, driver: Driver) -> None:
    assert exchange.getpeername() == ("192.0.2.1", 4711)
    assert exchange.getsockname() == driver.served.getsockname()
    exchange.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert exchange.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert (exchange.family, exchange.type) == (socket.AF_INET, socket.SOCK_STREAM)
    assert driver.told == ["getsockname", "setsockopt", "getsockopt"]
    assert not exchange.taken_over


def test_timeouts_are_kept(exchange: Exchange, driver: Driver) -> None:
    assert exchange.gettimeout() is None
    exchange.settimeout(2.5)
    assert (exchange.gettimeout(), exchange.getblocking()) == (2.5, True)
    exchange.setblocking(False)
    assert (exchange.gettimeout(), exchange.getblocking()) == (0.0, False)
    exchange.setblocking(True)
    assert exchange.gettimeout() is None
    exchange.settimeout(1.5)
    assert exchange.taken().gettimeout() == 1.5
    exchange.settimeout(3.5)
    assert exchange.taken().gettimeout() == 3.5
    assert driver.told == ["take over"]


def test_shutdown_before_the_answer_closes_behind_it(exchange: Exchange) -> None:
    exchange.close_connection = False
    exchange.shutdown(socket.SHUT_WR)
    assert exchange.close_connection


def test_shutdown_behind_the_answer_is_the_server_s_and_changes_nothing(exchange: Exchange) -> None:
    exchange.close_connection, exchange.settled = False, True
    exchange.shutdown(socket.SHUT_WR)
    assert not exchange.close_connection


def test_close_ends_it_once(exchange: Exchange, driver: Driver) -> None:
    with exchange as same:
        assert same is exchange
    assert exchange.over
    exchange.close()
    assert driver.told == ["push"]
    with pytest.raises(OSError, match="closed"):
        exchange.recv(1)


def test_protocols_are_not_looked_for_in_the_socket(exchange: Exchange, driver: Driver) -> None:
    for name in ("__fspath__", "__array__", "__len__"):
        assert not hasattr(exchange, name)
    assert driver.told == []


# Taken over


def test_the_socket_itself(exchange: Exchange, driver: Driver) -> None:
    exchange.begin_body()
    driver.early = b"early "
    driver.client.send(b"late")
    assert exchange.recv(3) == b"ear"
    assert exchange.recv(100) == b"ly "
    assert exchange.recv(100) == b"late"
    exchange.sendall(b"back")
    assert driver.client.recv(100) == b"back"
    assert exchange.fileno() == exchange.taken().fileno()
    assert exchange.taken_over
    assert driver.told == ["take over"]


def test_who_has_not_read_the_head_gets_it_first(exchange: Exchange, driver: Driver) -> None:
    driver.early = b"early"
    assert exchange.recv(10_000) == HEAD + BODY + b"early"


def test_peeking_takes_nothing_out(exchange: Exchange, driver: Driver) -> None:
    exchange.begin_body()
    driver.early = b"early"
    assert exchange.recv(2, socket.MSG_PEEK) == b"ea"
    assert exchange.recv(100) == b"early"


@pytest.mark.parametrize(("size", "first"), [(0, b"early"), (3, b"ear"), (100, b"early")])
def test_into_a_buffer(exchange: Exchange, driver: Driver, size: int, first: bytes) -> None:
    exchange.begin_body()
    driver.early = b"early"
    buffer = bytearray(10)
    assert exchange.recv_into(buffer, size) == len(first)
    assert bytes(buffer[: len(first)]) == first
    driver.client.send(b"late")
    exchange.recv(5 - len(first) or 1)
    assert exchange.recv_into(memoryview(buffer)) in (3, 4)


def test_as_a_file(exchange: Exchange, driver: Driver) -> None:
    exchange.begin_body()
    driver.early = b"one\ntw"
    driver.client.send(b"o\n")
    with exchange.makefile("rb") as file:
        assert [file.readline(), file.readline()] == [b"one\n", b"two\n"]


def test_it_can_be_detached_and_lives_on(exchange: Exchange, driver: Driver) -> None:
    exchange.begin_body()
    number = exchange.detach()
    exchange.end()
    with socket.socket(fileno=number) as sock:
        sock.send(b"alive")
        assert driver.client.recv(10) == b"alive"


def test_its_end_is_the_socket_s(exchange: Exchange, driver: Driver) -> None:
    exchange.begin_body()
    with exchange.makefile("rb"):  # an open file keeps the descriptor, but not the connection
        exchange.taken()
        exchange.end()
        driver.client.settimeout(PATIENCE)
        assert driver.client.recv(10) == b""


def test_who_may_not_take_it_is_told(exchange: Exchange, driver: Driver) -> None:
    driver.refuse = True
    with pytest.raises(OSError, match="too many"):
        exchange.send(b"x")
    assert not exchange.taken_over


def test_wfile_s_number_is_the_socket_s(exchange: Exchange) -> None:
    exchange.begin_body()
    assert exchange.wfile.fileno() == exchange.fileno()


def test_questions_go_to_the_socket_that_was_taken(exchange: Exchange, driver: Driver) -> None:
    exchange.taken()
    assert exchange.getsockname() == exchange.taken().getsockname()
    assert driver.told == ["take over"]


def test_a_taken_socket_is_a_socket() -> None:
    one, two = socket.socketpair()
    with one, TakenSocket(two, b"x") as taken:
        assert isinstance(taken, socket.socket)
        assert two.fileno() == -1
        assert taken.recv(10) == b"x"


# Room


def test_a_thread_waits_for_room_and_goes_on(exchange: Exchange, driver: Driver) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n" + b"x" * 100)
    done = threading.Event()
    pushed = threading.Event()
    driver.push = lambda exchange: pushed.set()  # type: ignore[method-assign]

    def wait() -> None:
        exchange.wait_for_room(50)
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    assert pushed.wait(PATIENCE)
    assert not done.is_set()
    exchange.wfile.taken = exchange.wfile.put - 50
    assert exchange.room is not None
    exchange.room.set()
    assert done.wait(PATIENCE)
    thread.join()


def test_a_client_that_is_gone_ends_the_waiting(exchange: Exchange, driver: Driver) -> None:
    exchange.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
    pushed = threading.Event()
    driver.push = lambda exchange: pushed.set()  # type: ignore[method-assign]
    thread = threading.Thread(target=exchange.wait_for_room, args=(0,))
    thread.start()
    assert pushed.wait(PATIENCE)
    exchange.lose()
    thread.join(PATIENCE)
    assert not thread.is_alive()
    with pytest.raises(BrokenPipeError):
        exchange.wfile.write(b"more")


def test_only_the_first_failure_is_told(exchange: Exchange, driver: Driver) -> None:
    first, second = ValueError(), KeyError()
    exchange.failed(first)
    exchange.failed(second)
    assert driver.errors == [first]
    assert exchange.failure is first


@pytest.mark.parametrize(
    ("hooked", "settled", "failed", "denied"),
    [
        (False, False, False, False), (True, False, False, True), (True, True, False, False),
        (True, False, True, False),
    ],
)  # fmt: skip
def test_what_was_not_verified(exchange: Exchange, hooked: bool, settled: bool, failed: bool, denied: bool) -> None:
    exchange.hooked, exchange.settled = hooked, settled
    if failed:
        exchange.failed(ValueError())
    assert exchange.denied == denied


def test_early_bytes_are_not_copied_for_every_piece() -> None:
    ours, theirs = socket.socketpair()
    with ours, TakenSocket(theirs, b"x" * 50_000_000) as taken:
        assert sum(len(taken.recv(65536)) for _ in range(763)) == 50_000_000  # at once, or in half an hour
        ours.send(b"y")
        assert taken.recv(10) == b"y"
        with taken.dup() as again:
            ours.send(b"z")
            assert again.recv(10) == b"z"
