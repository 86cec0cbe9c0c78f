"""Faults D of the table in README.md: what happens to listening sockets, and to accepting from them."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
from pathlib import Path
from typing import Any

import pytest

from live import scenarios
from live.client import Client, request
from live.conftest import needs_root
from live.daemon import PATIENCE, Daemon, Place, StartFailed, eventually, open_files
from live.isolation import NEW_NETWORK, apart, command, descriptor_of, injected, needs
from live.scenarios import SITE, ask, over


@pytest.fixture
def files(place: Place) -> Place:
    scenarios.furnish(place)
    return place


def _listening_sockets(pid: int, port: int) -> list[int]:
    """Descriptors of a process that are a socket listening on a TCP port."""
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    inodes = {f"socket:[{row[9]}]" for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}
    folder = Path(f"/proc/{pid}/fd")
    return [int(entry.name) for entry in folder.iterdir() if os.readlink(entry) in inodes]


@needs("strace")
def test_no_room_for_another_connection_is_a_pause(files: Place, daemon: Daemon) -> None:
    """D2: said once, not tried again at once, and over when there is room."""
    daemon.configure(SITE, server="workers = 1")
    daemon.start()
    daemon.expect("not accepting for a moment")
    assert daemon.stderr is not None
    worker = daemon.workers()[0]
    for error, said in (("ENFILE", "open files in system"), ("ENOBUFS", "buffer space"), ("ENOMEM", "allocate memory")):
        with injected(worker, *_failing_accept(error, 1)):
            _served(("127.0.0.1", daemon.port))
        daemon.stderr.wait(f"not accepting for a moment.*{said}")
    assert len(daemon.stderr.find("not accepting for a moment")) == 3
    assert daemon.workers() == [worker]


@needs("strace")
def test_an_error_of_one_connection_is_passed_over(files: Place, daemon: Daemon) -> None:
    """D3: fifty times in a row, and nothing to say about it."""
    daemon.configure(SITE, server="workers = 1")
    daemon.start()
    worker = daemon.workers()[0]
    for error in ("ECONNABORTED", "EPROTO", "EINTR", "EAGAIN", "ENETDOWN", "EPERM"):
        with injected(worker, *_failing_accept(error, 50)):
            _served(("127.0.0.1", daemon.port))
    assert daemon.workers() == [worker]


def _failing_accept(error: str, times: int) -> list[str]:
    return ["-e", "trace=accept4,accept", "-e", f"inject=accept4,accept:error={error}:when=1..{times}"]


def test_a_unix_socket_whose_path_is_removed_comes_back(files: Place, daemon: Daemon) -> None:
    """D4: by itself; until then whoever is connected is served."""
    path = files.path / "x.sock"
    daemon.configure(SITE, listen=f'["unix:{path}"]')
    daemon.start()
    daemon.expect(re.escape(str(path)))
    with Client(str(path)) as client:
        ask(client)
        path.unlink()
        ask(client)
        eventually(lambda: _serves(str(path)), "it is there again")
        assert daemon.stderr is not None
        daemon.stderr.wait(rf"\[(warning|error)\] .*{re.escape(str(path))}")
    daemon.signal("TERM")
    assert daemon.wait() == 0
    assert not path.exists()


def test_a_unix_socket_that_a_killed_server_left_is_taken_over(files: Place, daemon: Daemon) -> None:
    """D5, first half."""
    path = files.path / "x.sock"
    daemon.configure(SITE, listen=f'["unix:{path}"]')
    daemon.start()
    daemon.expect("the master is gone")
    workers = daemon.workers()
    daemon.signal("KILL")
    daemon.wait()
    eventually(lambda: all(over(pid) for pid in workers), "the orphans are gone")
    assert path.exists()
    daemon.notified.clear()
    daemon.start()
    with Client(str(path)) as client:
        ask(client)


def test_a_unix_socket_that_somebody_serves_is_refused(files: Place, daemon: Daemon) -> None:
    """D5, second half: also with a queue that is full, or a server that stands still."""
    path = files.path / "x.sock"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen(1)
        daemon.configure(SITE, listen=f'["unix:{path}"]')
        daemon.expect("cannot start")
        with pytest.raises(StartFailed, match=f"cannot listen on unix:{path}: Address already in use") as failed:
            daemon.start()
        assert failed.value.code == 69
        assert path.exists()


@needs_root
@needs("ip")
def test_an_address_that_is_taken_from_the_machine(files: Place, daemon: Daemon) -> None:
    """D6: the kernel keeps the socket and tells nobody.  The others serve, reloads work, it serves once it is back."""

    def body() -> None:
        command("ip", "link", "set", "lo", "up")
        command("ip", "address", "add", "10.77.0.1/32", "dev", "lo")
        daemon.configure(SITE, listen='["127.0.0.1:0", "10.77.0.1:0"]')
        daemon.start()
        here, there = (("127.0.0.1", daemon.port), ("10.77.0.1", int(daemon.listeners()[1].rpartition(":")[2])))
        _served(there)
        command("ip", "address", "del", "10.77.0.1/32", "dev", "lo")
        _served(here)
        daemon.reload()
        _served(here)
        command("ip", "address", "add", "10.77.0.1/32", "dev", "lo")
        _served(there)
        _served(here)

    apart(NEW_NETWORK, body)


def _served(address: tuple[str, int] | str) -> None:
    with Client(address) as client:
        ask(client)


def _serves(address: tuple[str, int] | str) -> bool:
    try:
        _served(address)
    except OSError:
        return False
    return True


@needs_root
@needs("ip")
def test_a_full_queue_is_told_and_emptied(files: Place, daemon: Daemon) -> None:
    """D7: who finds no place in the queue is told by the kernel to try again; the status says so."""

    def body() -> None:
        command("ip", "link", "set", "lo", "up")
        Path("/proc/sys/net/core/somaxconn").write_text("16")  # of this network namespace
        daemon.configure(SITE)
        daemon.start()
        address = ("127.0.0.1", daemon.port)
        _served(address)
        assert daemon.status()["listen_overflows"] == 0
        for pid in daemon.workers():
            os.kill(pid, signal.SIGSTOP)
        with contextlib.ExitStack() as stack:
            clients = []
            for _ in range(22):
                sock = stack.enter_context(socket.socket())
                sock.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    sock.connect(address)
                clients.append(sock)
            status = eventually(lambda: _overflowing(daemon), "some found the queue full")
            assert [(queue["listener"], queue["limit"]) for queue in status["queues"]] == [(daemon.listeners()[0], 16)]
            assert status["queues"][0]["waiting"] >= 16
            for pid in daemon.workers():
                os.kill(pid, signal.SIGCONT)
            for sock in clients:
                assert select.select([], [sock], [], PATIENCE)[1], "it is not connected in the end"
                sock.settimeout(PATIENCE)
                sock.sendall(request("/a"))
                assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
        _served(address)

    apart(NEW_NETWORK, body)


def _overflowing(daemon: Daemon) -> dict[str, Any]:
    status = daemon.status()
    return status if status["listen_overflows"] > 0 else {}


def test_a_listener_that_somebody_shut_down_is_revived(files: Place, daemon: Daemon) -> None:
    """D8: shutdown(2) of one process stops a shared listener for all of them."""
    # By number, on an address of this test's own: a port that the kernel has chosen is given back by shutdown.
    own = os.getpid()
    address = (f"127.{own >> 16 & 127 | 1}.{own >> 8 & 255}.{own & 255 or 1}", 20_080)
    name = f"{address[0]}:{address[1]}"
    daemon.configure(SITE, listen=f'["{name}"]')
    daemon.start()
    daemon.expect("not accepting for a moment.*shut", f"listen.*{name}")
    assert daemon.stderr is not None
    worker = daemon.workers()[0]
    try:
        copy = descriptor_of(worker, _listening_sockets(worker, address[1])[0])
    except OSError as error:
        pytest.skip(f"a worker's listener is out of reach: {error}")
    with socket.socket(fileno=copy) as listener:
        for turn in (1, 2):
            _served(address)
            listener.shutdown(socket.SHUT_RDWR)
            daemon.stderr.wait(rf"\[(warning|error)\] master.*listen.*{name}", turn)
            eventually(lambda: _serves(address), "the address is served again")
    assert daemon.listeners() == [name]
    for _ in range(8):
        _served(address)
    assert daemon.status()["state"] == "running"
    daemon.signal("TERM")
    assert daemon.wait() == 0


def test_nobody_keeps_what_it_does_not_use(files: Place, daemon: Daemon) -> None:
    """D9: thirty listeners and eight workers; when all listeners but one go, every copy of them is closed."""
    many = ", ".join(['"127.0.0.1:0"', *(f'"127.0.0.{number}:0"' for number in range(2, 31))])
    daemon.configure(SITE, server="workers = 8", listen=f"[{many}]")
    daemon.start()
    names = daemon.listeners()
    assert len(names) == 30
    for name in names:
        host, _, port = name.rpartition(":")
        _served((host, int(port)))
    for pid in daemon.workers():
        eventually(lambda: _sockets(pid) == 30 + 1, "the listeners and the channel to the master")  # noqa: B023
    daemon.configure(SITE, server="workers = 8")
    daemon.reload()
    eventually(lambda: len(daemon.status()["workers"]) == 8, "the old generation is gone")
    for pid in daemon.workers():
        eventually(lambda: _sockets(pid) == 1 + 1, "one listener and the channel")  # noqa: B023
    for name in names[1:]:
        host, _, port = name.rpartition(":")
        with pytest.raises(ConnectionRefusedError):
            Client((host, int(port)))
    _served(("127.0.0.1", daemon.port))


def _sockets(pid: int) -> int:
    return sum(name.startswith("socket:") for name in open_files(pid))
