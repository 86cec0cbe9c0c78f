"""Faults E of the table in README.md that no other file has: connections that end at once, or with their worker."""

from __future__ import annotations

import contextlib
import os
import signal
from pathlib import Path

import pytest

from live import scenarios
from live.client import Client, request
from live.daemon import Daemon, Place, eventually, open_files
from live.footprint import leaves_nothing
from live.scenarios import SITE, ask


@pytest.fixture
def files(place: Place) -> Place:
    scenarios.furnish(place)
    return place


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_a_client_that_expects_to_continue_and_goes(files: Place, daemon: Daemon, method: str) -> None:
    """E6: before the answer, and behind it with a part of the body."""
    daemon.configure(SITE, server="workers = 1")
    daemon.start()
    head = request("/a", "Expect: 100-continue", "Content-Length: 1000", method=method)

    def abuse() -> None:
        for number in range(60):
            client = Client(("127.0.0.1", daemon.port)).send(head)
            if number % 3:
                client.read_interim()
                client.send(b"x" * (number % 3))
            if number % 2:
                client.reset()
            else:
                client.close()

    leaves_nothing(daemon, abuse)


def test_connections_that_end_at_once_leave_nothing(files: Place, daemon: Daemon) -> None:
    """E8; for half a minute: tests/faults/test_clients.py."""
    daemon.configure(SITE, server="workers = 1")
    daemon.start()
    address = ("127.0.0.1", daemon.port)
    leaves_nothing(daemon, lambda: scenarios.come_and_go(address, 250))


def test_a_worker_that_dies_behind_accept_takes_only_its_own_with_it(files: Place, daemon: Daemon) -> None:
    """E9: its client sees an end and no answer, the other worker's is served, and status tells of the loss."""
    daemon.configure(SITE)
    daemon.start()
    daemon.expect("worker ended")
    address = ("127.0.0.1", daemon.port)
    silent: dict[int, Client] = {}
    clients: list[Client] = []
    try:
        while len(silent) < 2:
            client = Client(address)
            clients.append(client)
            holder = eventually(lambda: _holder(daemon, client), "it is accepted")  # noqa: B023
            silent.setdefault(holder, client)
        lost, kept = silent
        os.kill(lost, signal.SIGKILL)
        with contextlib.suppress(ConnectionResetError):
            assert silent[lost].sock.recv(1) == b""
        ask(silent[kept])
        eventually(lambda: daemon.status()["restarts"] == 1 and len(daemon.workers()) == 2, "it is replaced")
        assert kept in daemon.workers()
        assert [loss["reason"] for loss in daemon.status()["last_exits"]] == ["killed by SIGKILL"]
    finally:
        for client in clients:
            client.close()


def _holder(daemon: Daemon, client: Client) -> int:
    """The worker that has accepted a connection; 0 while none has."""
    port = client.sock.getsockname()[1]
    for pid in daemon.workers():
        rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
        inodes = {f"socket:[{row[9]}]" for row in rows if row[2].endswith(f":{port:04X}")}
        if inodes & set(open_files(pid)):
            return pid
    return 0
