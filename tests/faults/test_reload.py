"""Faults B of tests/live/README.md with their real durations and numbers: reloads."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from httpd.system.limits import private_memory
from live.client import CleanClose, Client, connections, request
from live.daemon import Daemon, Place, eventually, open_files
from live.load import Load, halt

_SITE = '[[vhost]]\nroot = "www"\n'
_FILES = {"/a": b"the a", "/b": b"b" * 3000, "/c": bytes(range(256)) * 200, "/large": bytes(range(256)) * 8000}
_GROWTH = 1 << 20  # bytes that the master may have more behind 100 reloads than behind 10
_SLOW = 40_000_000  # bytes of a download that takes half a minute


@pytest.fixture
def served(place: Place, daemon: Daemon) -> Daemon:
    for path, body in _FILES.items():
        place.write(f"www{path}", body)
    daemon.configure(_SITE)
    return daemon.start()


def _alone(served: Daemon) -> None:
    eventually(lambda: len(served.status()["workers"]) == 2, "only the last generation is left")


def test_a_hundred_reloads_lose_nothing_and_leave_nothing(served: Daemon) -> None:
    """B1."""

    def held() -> tuple[int, int]:
        _alone(served)
        return len(open_files(served.pid)), len(os.listdir(f"/proc/{served.pid}/task"))

    with Load(served.port, _FILES) as load:
        for _ in range(10):
            served.reload()
        before, memory = held(), private_memory(served.pid)
        for _ in range(90):
            served.reload()
            load.more(10)
        eventually(lambda: all(now <= then for now, then in zip(held(), before, strict=True)), "as many as before")
        assert private_memory(served.pid) <= memory + _GROWTH
    assert not load.report.lost, load.report


def test_a_slow_download_survives_five_reloads(served: Daemon, place: Place) -> None:
    """B11: 40 MB at less than 2 MB/s."""
    body = random.Random(11).randbytes(_SLOW)
    place.write("www/slow", body)
    digest, got = hashlib.sha256(), 0
    with Client(("127.0.0.1", served.port), receive_buffer=65536) as client:
        client.send(request("/slow"))
        reloads = iter((5, 10, 15, 20, 25))
        due, began = next(reloads), time.monotonic()
        head = b""
        while b"\r\n\r\n" not in head:
            head += client.sock.recv(1)
        while got < _SLOW:
            data = client.sock.recv(1 << 16)
            assert data, f"closed behind {got} bytes"
            got += len(data)
            digest.update(data)
            time.sleep(max(0.0, began + got / 1.5e6 - time.monotonic()))
            if due and time.monotonic() > began + due:
                served.reload()
                due = next(reloads, 0)
    assert digest.digest() == hashlib.sha256(body).digest()
    assert served.status()["generation"] == 6
    _alone(served)


def test_too_many_generations_are_cut_from_the_oldest(served: Daemon, place: Place) -> None:
    """B11: the limit, which is logged."""
    place.write("www/slow", bytes(_SLOW))
    served.configure(_SITE + "[limits]\ngenerations = 2\n")
    served.reload()
    assert served.stderr is not None
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(4):  # one in each generation
            client = stack.enter_context(Client(("127.0.0.1", served.port), receive_buffer=65536))
            clients.append(client.send(request("/slow")))
            assert client.sock.recv(1, 2)  # MSG_PEEK
            served.reload()
        served.stderr.wait("too many old generations: the oldest has to end generation=2")
        eventually(lambda: min(worker["generation"] for worker in served.status()["workers"]) >= 4, "two are gone")
        for client in clients[2:]:
            assert len(client.read().body) == _SLOW
        for client in clients[:2]:
            with pytest.raises((AssertionError, ConnectionResetError)):
                client.read()


def test_a_thousand_requests_at_the_moment_of_a_drain(served: Daemon) -> None:
    """B16: on idle connections, at random offsets: an answer, or an orderly close without a byte."""
    chance = random.Random(16)
    seconds = 0.2
    for _ in range(20):
        with connections(("127.0.0.1", served.port), 50) as clients:
            for client in clients:
                assert client.get("/a").body == b"the a"
            reloading = threading.Thread(target=served.reload)
            began = time.monotonic()
            reloading.start()
            for client in clients:
                time.sleep(chance.uniform(0, 2 * seconds / len(clients)))
                try:
                    client.send(request("/a"))
                except BrokenPipeError:
                    assert client.closed()
                    continue
                with contextlib.suppress(CleanClose):
                    assert client.read().body == b"the a"
            reloading.join()
            seconds = min(1.0, time.monotonic() - began)


def test_an_old_worker_that_ignores_the_drain_is_killed(served: Daemon) -> None:
    """B22: each step is logged once."""
    served.configure('[timeouts]\ndrain = "1s"\n' + _SITE)
    served.reload()
    _alone(served)
    served.expect("worker did not finish in time", "killing worker", "worker died before")
    stuck = served.workers()[0]
    halt(stuck)
    try:
        served.reload()
        eventually(lambda: not Path(f"/proc/{stuck}").exists(), "it is killed")
    finally:
        if Path(f"/proc/{stuck}").exists():
            os.kill(stuck, signal.SIGCONT)
    assert served.stderr is not None
    for what in ("worker did not finish in time", "killing worker"):
        assert len(served.stderr.find(f"{what} worker={stuck}")) == 1, what
    _alone(served)
