"""Clients that say nothing, send too slowly or read too slowly cost the others nothing and are let go."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from live.client import Client, connections, request
from live.conftest import Connect
from live.daemon import Daemon, Place, eventually

_LARGE = 30_000_000
_CONFIG = """
[[vhost]]
root = "www"
[timeouts]
head = "400ms"
body = "400ms"
write = "400ms"
keepalive = "400ms"
min_rate = "20kB/s"
"""


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    shared_place.write("www/a", b"the a")
    with shared_place.write("www/large").open("r+b") as file:
        file.truncate(_LARGE)
    shared_daemon.configure(_CONFIG)
    return shared_daemon.start()


def _cut_off(server: Daemon, count: int) -> bool:
    """Wait until the log shows `count` more downloads than before that ended; whether all of them ended early.

    The clients can't tell in good time: what the kernel had taken is still sent to them, in tiny windows.
    """

    def sent() -> list[int]:
        lines = [line for line in server.access_lines(0) if "GET /large HTTP" in line and '" 200 ' in line]
        return [int(line.split('" 200 ')[1].split(" ")[0].replace("-", "0")) for line in lines]

    found: list[int] = eventually(lambda: sent() if len(sent()) >= count else [], f"{count} downloads over")
    return all(size < _LARGE for size in found)


def test_a_head_that_does_not_come(server: Daemon, connect: Connect) -> None:
    client = connect().send(b"GET /a HTTP/1.1\r\nHo")
    answer = client.read()
    assert (answer.status, answer.closes) == (408, True)
    assert client.closed()


def test_a_head_that_comes_in_drops(server: Daemon, connect: Connect) -> None:
    client = connect()
    _drip(client, b"GET /a HTTP/1.1\r\n" + b"A: b\r\n" * 100)
    assert client.read().status == 408
    assert client.closed()


def test_nothing_at_all_is_closed_without_a_word(server: Daemon, connect: Connect) -> None:
    assert connect().closed()


def test_an_idle_connection_is_closed_without_a_word(server: Daemon, connect: Connect) -> None:
    client = connect()
    assert client.get("/a").status == 200
    assert client.closed()


def test_a_body_that_does_not_come(server: Daemon, connect: Connect) -> None:
    client = connect().send(request("/a", "Content-Length: 1000", method="POST") + b"some")
    assert client.read().status == 408
    assert client.closed()


def test_a_body_that_comes_in_drops(server: Daemon, connect: Connect) -> None:
    client = connect().send(request("/a", "Content-Length: 50000", method="POST"))
    _drip(client, b"x" * 2000)
    assert client.read().status == 408
    assert client.closed()


def test_a_reader_that_stops_is_cut_off(server: Daemon) -> None:
    with Client(("127.0.0.1", server.port), receive_buffer=4096) as client:
        client.send(request("/large"))
        assert _cut_off(server, 1)


def test_a_reader_below_the_least_rate_is_cut_off(place: Place, daemon: Daemon) -> None:
    with place.write("www/large").open("r+b") as file:
        file.truncate(_LARGE)
    daemon.configure('[[vhost]]\nroot = "www"\n[timeouts]\nwrite = "500ms"\nmin_rate = "100MB/s"\n')
    daemon.start()
    with Client(("127.0.0.1", daemon.port), receive_buffer=65536) as client:
        client.send(request("/large"))
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while data := client.sock.recv(16384):  # some 3 MB/s: always on the move, never fast enough
                received += len(data)
                time.sleep(0.005)
        assert 0 < received < _LARGE


def test_a_slow_reader_above_the_least_rate_gets_everything(server: Daemon) -> None:
    with Client(("127.0.0.1", server.port), receive_buffer=65536) as client:
        client.send(request("/large", "Range: bytes=0-4999999"))
        received = 0
        while received < 5_000_000:
            data = client.sock.recv(131072)
            assert data
            received += len(data)
            time.sleep(0.005)


def test_fifty_of_each_at_once_while_others_are_answered(server: Daemon) -> None:
    address = ("127.0.0.1", server.port)
    with contextlib.ExitStack() as stack:
        silent, heads, bodies, stopped, drips = (stack.enter_context(connections(address, 50)) for _ in range(5))
        for client in heads:
            client.send(b"GET /a HT")
        for client in bodies:
            client.send(request("/a", "Content-Length: 1000", method="POST") + b"some")
        for client in stopped:
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.send(request("/large"))
        with _answered_meanwhile(address):
            _drip_all(drips, b"GET /a HTTP/1.1\r\n" + b"A: b\r\n" * 5)
            assert [client.read().status for client in heads] == [408] * 50
            assert [client.read().status for client in bodies] == [408] * 50
            assert [client.read().status for client in drips] == [408] * 50
            assert all(client.closed() for client in (*silent, *heads, *bodies, *drips))
            assert _cut_off(server, 51)
    with Client(address) as client:
        assert client.get("/a").body == b"the a"


def _drip(client: Client, data: bytes) -> None:
    _drip_all([client], data)


def _drip_all(clients: list[Client], data: bytes) -> None:
    """Send byte by byte, ten or so a second and more, until the server has had enough."""
    for place in range(len(data)):
        for client in clients:
            try:
                client.send(data[place : place + 1])
            except (BrokenPipeError, ConnectionResetError):
                return
            if place > 2 and _readable(client):
                return
        time.sleep(0.02)


def _readable(client: Client) -> bool:
    client.sock.setblocking(False)
    try:
        return client.sock.recv(1, socket.MSG_PEEK) != b"?"
    except BlockingIOError:
        return False
    finally:
        client.sock.settimeout(20)


@contextlib.contextmanager
def _answered_meanwhile(address: tuple[str, int]) -> Iterator[None]:
    """Well-behaved requests, one after the other, all through the block; each has to be answered."""
    over = threading.Event()
    problems: list[str] = []
    served = 0

    def ask() -> None:
        nonlocal served
        while not over.is_set():
            try:
                with Client(address) as client:
                    for _ in range(3):
                        answer = client.get("/a")
                        if answer.body != b"the a":
                            problems.append(str(answer))
                        served += 1
            except Exception as error:
                problems.append(repr(error))

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert not problems
    assert served > 10


def test_a_reader_that_is_slow_but_steady_is_served_to_the_end(place: Place, daemon: Daemon) -> None:
    """The kernel takes megabytes at once, so for seconds nothing can be sent: what counts is what the client takes."""
    size, rate = 6_000_000, 2_000_000
    with place.write("www/six").open("r+b") as file:
        file.truncate(size)
    daemon.configure('[[vhost]]\nroot = "www"\n[timeouts]\nwrite = "500ms"\nmin_rate = "20kB/s"\n')
    daemon.start()
    with Client(("127.0.0.1", daemon.port), receive_buffer=4096) as client:
        client.send(request("/six", "Connection: close"))
        got, began = 0, time.monotonic()
        while data := client.sock.recv(20_000):
            got += len(data)
            time.sleep(max(0.0, began + got / rate - time.monotonic()))  # the slowness is what is tested
        assert got > size
