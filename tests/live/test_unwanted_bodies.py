"""200 MB for a resource that does not want them: the answer arrives, the memory stays, and nobody is read for ever."""

from __future__ import annotations

import select
from collections.abc import Callable
from pathlib import Path

import pytest

from live.client import Client, request
from live.conftest import Connect
from live.daemon import Daemon, Place
from live.footprint import leaves_nothing

_UPLOAD = 200_000_000
_BLOCK = b"u" * 1_000_000
_CHUNK = b"%x\r\n%b\r\n" % (len(_BLOCK), _BLOCK)
_PEAK = 4_000_000  # bytes of memory that the worker's highest mark may grow by: it holds one read of 16 KiB at a time

# Head, block of the body, end of the body, status.
_UPLOADS = {
    "length": (request("/a", f"Content-Length: {_UPLOAD}", method="POST"), _BLOCK, b"", 405),
    "chunked": (request("/a", "Transfer-Encoding: chunked", method="PUT"), _CHUNK, b"0\r\n\r\n", 405),
    "of a GET": (request("/a", f"Content-Length: {_UPLOAD}"), _BLOCK, b"", 200),
    "to a redirect": (request("/old", f"Content-Length: {_UPLOAD}", method="POST"), _BLOCK, b"", 308),
    "to nothing": (request("/nope/a", f"Content-Length: {_UPLOAD}", method="POST"), _BLOCK, b"", 405),
    "over the limit": (request("/a", f"Content-Length: {_UPLOAD * 9}", method="POST"), _BLOCK, b"", 413),
}

Manner = Callable[[Client, bytes, bytes], None]


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    shared_place.write("www/a", b"the a")
    shared_daemon.configure(
        '[[vhost]]\nroot = "www"\n[[vhost.redirect]]\nfrom = "/old"\nto = "/a"\n'
        '[timeouts]\nkeepalive = "600s"\nbody = "600s"\n[limits]\nbody = "1GB"\n',
        server="workers = 1",
    )
    return shared_daemon.start()


def _sends_it_all(client: Client, block: bytes, end: bytes) -> None:
    for _ in range(_UPLOAD // len(_BLOCK)):
        client.send(block)
    client.send(end)


def _stops_when_answered(client: Client, block: bytes, end: bytes) -> None:
    for _ in range(_UPLOAD // len(_BLOCK)):
        if select.select([client.sock], [], [], 0)[0]:
            return
        client.send(block)


@pytest.mark.parametrize("manner", [_sends_it_all, _stops_when_answered])
def test_the_answer_arrives_and_the_memory_stays(server: Daemon, manner: Manner) -> None:
    kinds = list(_UPLOADS) if manner is _stops_when_answered else ["length", "chunked"]
    before = _highest(server)

    def abuse() -> None:
        for kind in kinds:
            head, block, end, status = _UPLOADS[kind]
            with Client(("127.0.0.1", server.port)) as client:
                client.send(head)
                manner(client, block, end)
                answer = client.shut().read()
                assert (answer.status, answer.closes) == (status, True), kind
                assert client.closed(), kind

    leaves_nothing(server, abuse)
    assert _highest(server) - before < _PEAK


def test_a_body_without_an_end_is_not_read_for_ever(place: Place, daemon: Daemon, connect: Connect) -> None:
    place.write("www/a", b"the a")
    daemon.configure('[[vhost]]\nroot = "www"\n[timeouts]\nbody = "1s"\n')
    daemon.start()
    client = connect().send(request("/a", "Transfer-Encoding: chunked", method="POST"))
    waiting = select.poll()
    waiting.register(client.sock, 0)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        while True:
            client.send(b"10000\r\n" + b"e" * 0x10000 + b"\r\n")
            waiting.poll(20)  # until it is reset; else some more, slowly: that it is always on the move is the point


def _highest(server: Daemon) -> int:
    """The most memory in bytes that the worker ever had resident."""
    (worker,) = server.workers()
    lines = Path(f"/proc/{worker}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))
