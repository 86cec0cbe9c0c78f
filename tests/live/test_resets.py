"""A client that goes by RST, or stops sending by FIN, at every byte of a request and of a response.

Nothing of it stays behind, nothing is logged as trouble, and the others don't notice.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest

from live.client import CleanClose, Client, request
from live.daemon import Daemon, Place, eventually
from live.footprint import leaves_nothing

_SIZE = 3_000_000  # bytes of a file that is sent by sendfile
_LISTED = 50
_BATCH = 150  # connections at once
_BODY = b"x" * 20
_CHUNKS = b"14;a=b\r\n" + _BODY + b"\r\n0\r\nA: b\r\n\r\n"

# What is sent, cut at every byte: whole requests, each with the status of its answer.
_REQUESTS: dict[str, list[tuple[bytes, int]]] = {
    "head": [(request("/a", "Accept: text/html"), 200)],
    "pipeline": [(request("/a"), 200), (request("/middle"), 200), (request("/nope"), 404)],
    "length": [(request("/a", method="POST", body=_BODY), 405)],
    "chunked": [(request("/a", "Transfer-Encoding: chunked", method="PUT") + _CHUNKS, 405)],
    "refused": [(b"GET /a HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400)],
}

# What is asked for, and where its answer is cut: every byte of the small ones.
_AROUND_LARGE = (*range(0, 400, 7), 4096, 65_536, 70_000, 500_000, 1_000_000, 2_000_000, _SIZE, _SIZE + 100)
_ANSWERS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "small": (request("/a"), tuple(range(260))),
    "error": (request("/nope"), tuple(range(0, 400, 3))),
    "listing": (request("/folder/"), (*range(0, 400, 7), *range(400, 4000, 97))),
    "large": (request("/large"), _AROUND_LARGE),
    "parts": (request("/large", f"Range: bytes=0-99,500000-{_SIZE - 1}"), _AROUND_LARGE[:-2]),
    "pipeline": (request("/large") + request("/a") * 50, _AROUND_LARGE),
    "lingering": (request("/a", "Content-Length: 1000000", method="POST") + b"x" * 50_000, tuple(range(0, 300, 3))),
}


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    shared_place.write("www/a", b"the a")
    with shared_place.write("www/large").open("r+b") as file:
        file.truncate(_SIZE)
    shared_place.write("www/middle", b"m" * 200_000)
    for number in range(_LISTED):
        shared_place.write(f"www/folder/{number}")
    shared_daemon.configure(
        '[[vhost]]\nroot = "www"\nlisting = true\n[timeouts]\nhead = "600s"\nbody = "600s"\nkeepalive = "600s"\n',
        server="workers = 1",
    )
    return shared_daemon.start()


def _cuts(name: str) -> list[tuple[bytes, int]]:
    """What is sent, cut at every byte, and the number of its bytes."""
    whole = b"".join(message for message, _ in _REQUESTS[name])
    return [(whole[:size], size) for size in range(len(whole) + 1)]


def _in_batches(server: Daemon, data: list[tuple[bytes, int]], then: Callable[[Client, int], None]) -> None:
    """Open a batch of connections, send each its bytes, and only then do `then` with each and its number."""
    for start in range(0, len(data), _BATCH):
        clients: list[Client] = []
        try:
            batch = data[start : start + _BATCH]
            for _ in batch:
                clients.append(Client(("127.0.0.1", server.port)))  # noqa: PERF401 - to be closed when one fails
            for client, (sent, _) in zip(clients, batch, strict=True):
                client.send(sent)
            for client, (_, number) in zip(clients, batch, strict=True):
                then(client, number)
        finally:
            for client in clients:
                client.close()


@pytest.mark.parametrize("name", _REQUESTS)
def test_a_reset_at_every_byte_of_a_request(server: Daemon, name: str) -> None:
    leaves_nothing(server, lambda: _in_batches(server, _cuts(name), lambda client, _: client.reset()))


def _take_and_reset(client: Client, size: int) -> None:
    while size > 0:
        data = client.sock.recv(min(size, 1 << 18))
        if not data:
            break  # it is shorter than that
        size -= len(data)
    client.reset()


@pytest.mark.parametrize("name", _ANSWERS)
def test_a_reset_at_every_byte_of_an_answer(server: Daemon, name: str) -> None:
    asked, places = _ANSWERS[name]
    length = len(_answer(server, asked)) if name in ("small", "error", "listing") else _SIZE
    cuts = [(asked, place) for place in places if place <= length]
    assert len(cuts) > 50
    leaves_nothing(server, lambda: _in_batches(server, cuts, _take_and_reset))


def _answer(server: Daemon, asked: bytes) -> bytes:
    with Client(("127.0.0.1", server.port)) as client:
        return client.send(asked).shut().rest()


def _statuses(client: Client) -> Iterator[int]:
    """Of all responses up to the close, which has to be in order."""
    with contextlib.suppress(CleanClose):
        while True:
            yield client.read().status


@pytest.mark.parametrize("name", _REQUESTS)
def test_the_end_of_input_at_every_byte_of_a_request(server: Daemon, name: str) -> None:
    """Half closed: what was complete is answered, what was not is 400, and then the server closes too."""

    def judge(client: Client, size: int) -> None:
        expected = []
        for message, status in _REQUESTS[name]:
            if size > 0:
                expected.append(status if size >= len(message) else 400)
            size -= len(message)
        assert list(_statuses(client.shut())) == expected

    leaves_nothing(server, lambda: _in_batches(server, _cuts(name), judge))


def test_a_request_and_its_close_in_one_moment_both_count(server: Daemon) -> None:
    """One figure goes up as another goes down: the status must not take that for nothing."""
    eventually(lambda: _figures(server)[0] == 0, "nobody is connected")
    with Client(("127.0.0.1", server.port)) as client:
        eventually(lambda: _figures(server)[0] == 1, "the connection is known")
        requests = _figures(server)[1]
        client.send(request("/a")).shut()
        assert client.read().status == 200
        assert client.closed()
    eventually(lambda: _figures(server) == (0, requests + 1), "the request and the close are known")


def _figures(server: Daemon) -> tuple[int, int]:
    """Connections and requests of the one worker."""
    (worker,) = server.status()["workers"]
    return worker["connections"], worker["requests"]
