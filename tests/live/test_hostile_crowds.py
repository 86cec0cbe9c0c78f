"""Two hundred clients of each slow kind are held at once, and everybody else is answered as if they were not there.

"At once" is an order here: whoever behaves is answered while all of the crowd still waits.  How long that takes is
measured by `make crowds`.
"""

from __future__ import annotations

import contextlib
import os
import signal

import pytest

from live.client import Client, request
from live.conftest import Connect
from live.crowds import KINDS, LARGE, STEPS, Crowd, Kind
from live.daemon import Daemon, Place, eventually
from live.footprint import leaves_nothing

_EACH = 200
_READERS = 50  # of each kind that is slow to read, 200 in all: for each the kernel's buffers hold megabytes
_PIPELINE = 120
_NONSENSE = (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\0" * 100, b"GET / HTTP/1.1\n\n", b"A" * 20_000, b"\r\n" * 200)
_CONFIG = """
[[vhost]]
root = "www"
listing = true
[timeouts]
head = "600s"
body = "600s"
write = "600s"
keepalive = "600s"
"""


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    shared_place.write("www/a", b"the a")
    with shared_place.write("www/large").open("r+b") as file:
        file.truncate(LARGE)
    for number in range(200):
        shared_place.write(f"www/folder/{number}")
    shared_daemon.configure(_CONFIG, server="workers = 1")
    return shared_daemon.start()


@pytest.mark.usefixtures("many_descriptors")
def test_two_hundred_of_each_are_held_while_others_are_answered(server: Daemon) -> None:
    address = ("127.0.0.1", server.port)

    def abuse() -> None:
        crowds: list[Crowd] = []
        try:
            for kind in KINDS:
                crowds.append(Crowd(address, kind, _count(kind)))  # noqa: PERF401 - those that are open have to be closed
            with Client(address) as kept:
                for _ in range(STEPS):
                    for crowd in crowds:
                        crowd.step()
                    assert kept.get("/a").body == b"the a"
                    with Client(address) as fresh:
                        assert fresh.get("/a").body == b"the a"
                assert not [crowd.kind.name for crowd in crowds if not crowd.held()]
                open_now = sum(map(_count, KINDS)) + 2  # with `kept` and the one that `leaves_nothing` knows
                eventually(lambda: _open(server) == open_now, "all of the crowd is still connected")
            for crowd in crowds:
                assert set(crowd.finish()) <= {crowd.kind.status}, crowd.kind.name
        finally:
            for crowd in crowds:
                crowd.reset()

    leaves_nothing(server, abuse)


def test_a_pipeline_does_not_hold_up_the_others(server: Daemon, connect: Connect) -> None:
    """Many costly requests in one packet, and one request of another client, are there in the same moment.

    HEAD of a listing: all the work, and answers so short that no full buffer makes the worker turn to others.
    """
    greedy, modest = connect(), connect()
    assert greedy.get("/a").status == modest.get("/a").status == 200
    worker = server.workers()[0]
    os.kill(worker, signal.SIGSTOP)
    try:
        greedy.send(request("/folder/", method="HEAD") * _PIPELINE)
        modest.send(request("/a?modest"))
    finally:
        os.kill(worker, signal.SIGCONT)
    assert modest.read().body == b"the a"
    assert {greedy.read("HEAD").status for _ in range(_PIPELINE)} == {200}

    def targets() -> list[str]:
        lines = [line.split('"')[1].split(" ")[1] for line in server.access_lines(0) if line.count('"') > 1]
        return [target for target in lines if target in ("/folder/", "/a?modest")]

    found = eventually(lambda: targets() if len(targets()) > _PIPELINE else [], "all are logged")
    assert "/folder/" in found[found.index("/a?modest") :], "the other client had to wait for the whole pipeline"


def test_a_crowd_that_sends_nonsense_is_answered_and_gone(server: Daemon) -> None:
    address = ("127.0.0.1", server.port)

    def abuse() -> None:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Client(address)) for _ in range(_EACH)]
            for number, client in enumerate(clients):
                client.send(_NONSENSE[number % len(_NONSENSE)])
                client.shut()
            assert {client.read().status for client in clients} <= {400, 414}
            assert all(client.closed() for client in clients)

    leaves_nothing(server, abuse)


def _count(kind: Kind) -> int:
    return _EACH if kind.status else _READERS


def _open(server: Daemon) -> int:
    number: int = server.status()["workers"][0]["connections"]
    return number
