"""Faults whose length or number is a parameter: small in tests/live, as in real life in tests/faults.

Each gets a daemon that serves `SITE` with the files of `furnish`, and judges it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from live.client import Client, request
from live.crowds import ask_each, gather, leave
from live.daemon import Daemon, Place, eventually

SITE = '[[vhost]]\nroot = "www"\n'
SIZE = 20_000_000  # bytes of /large


def furnish(place: Place) -> None:
    """The files that are asked for."""
    place.write("www/a", b"the a")
    with place.write("www/large").open("r+b") as file:
        file.truncate(SIZE)


def state(pid: int) -> str:
    """The letter of a process' state in /proc; "gone" for one that is reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "gone"


def over(pid: int) -> bool:
    """Whether a process has ended, reaped or not."""
    return state(pid) in ("gone", "Z")


def children(pid: int) -> list[int]:
    """Its child processes."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def left(daemon: Daemon) -> list[str]:
    """What a daemon that has ended has left in its run folder, beside what is meant to stay."""
    if not daemon.run_dir.exists():
        return []
    return sorted(entry.name for entry in daemon.run_dir.iterdir() if entry.name not in ("httpd.lock", "empty"))


@contextlib.contextmanager
def downloading(daemon: Daemon) -> Iterator[Client]:
    """A client in the middle of a download that it does not read on."""
    with Client(("127.0.0.1", daemon.port), receive_buffer=65536) as client:
        client.send(request("/large"))
        assert client.sock.recv(1, socket.MSG_PEEK)
        yield client


def ask(client: Client) -> None:
    """A request whose answer has to be right."""
    assert client.get("/a").body == b"the a"


def for_a_while(seconds: float, do: Callable[[], object]) -> None:
    """Do it again and again for so long: where time itself is what is tested."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        do()
        time.sleep(0.01)


def term_during_start(daemon: Daemon, seed: int, longest: float) -> None:
    """TERM at a random moment.  Before Python has a handler it ends the process; then nothing has been made yet."""
    daemon.configure(SITE)
    before = daemon.run_dir.exists()
    daemon.spawn()
    time.sleep(random.Random(seed).uniform(0.0, longest))  # the fault itself: nothing waits for it
    daemon.signal("TERM")
    code = daemon.wait()
    assert code == 0 or (code == -signal.SIGTERM and daemon.run_dir.exists() == before), code
    assert left(daemon) == []


def master_stopped(daemon: Daemon, seconds: float) -> None:
    """SIGSTOP for the master: service goes on, who died is reaped and replaced later, nobody is killed."""
    daemon.expect("worker ended")
    assert daemon.stderr is not None
    address = ("127.0.0.1", daemon.port)
    lost, kept = daemon.workers()
    daemon.signal("STOP")
    try:
        os.kill(lost, signal.SIGKILL)
        eventually(lambda: state(lost) == "Z", "it is dead and nobody reaps it")
        with Client(address) as client:
            for_a_while(seconds, lambda: ask(client))
        with Client(address) as client:
            ask(client)
    finally:
        daemon.signal("CONT")
    daemon.stderr.wait(f"worker ended.*worker={lost} ")
    eventually(lambda: len(daemon.workers()) == 2, "it is replaced")
    assert kept in daemon.workers()
    assert state(lost) == "gone"
    assert len(daemon.stderr.find("worker ended")) == 1


def everybody_stopped(daemon: Daemon, seconds: float, stop: Callable[[], object], go_on: Callable[[], object]) -> None:
    """Master and workers stand still, and nobody is killed for it; who asked meanwhile is answered behind it."""
    workers = daemon.workers()
    address = ("127.0.0.1", daemon.port)
    with Client(address) as idle, Client(address) as late:
        ask(idle)
        stop()
        try:
            late.send(request("/a"))
            time.sleep(seconds)  # the fault itself
        finally:
            go_on()
        assert late.read().body == b"the a"
        ask(late)
        with Client(address) as fresh:
            for_a_while(min(seconds, 5.0) / 2, lambda: ask(fresh))  # nothing comes after, either
    assert daemon.workers() == workers
    assert daemon.status()["restarts"] == 0


def caught_starting(daemon: Daemon) -> int:
    """The pid of a worker of a new generation, stopped before it was ready; 0 when it was too late for that."""
    generation = daemon.status()["generation"]
    daemon.signal("HUP")
    title = f"gen {generation + 1}".encode()

    def stopped() -> int:
        for pid in children(daemon.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").endswith(title):
                    os.kill(pid, signal.SIGSTOP)
                    return pid
        os.sched_yield()
        return 0

    until = time.monotonic() + 20
    while not (found := stopped()):
        assert time.monotonic() < until
    states = {worker["pid"]: worker["state"] for worker in daemon.status()["workers"]}
    if states.get(found) == "starting":
        return found
    os.kill(found, signal.SIGCONT)
    return 0


def stop_among_idle(daemon: Daemon, count: int) -> None:
    """A stop with so many idle connections: each ends in order, and a download gets its last byte."""
    crowd = gather(("127.0.0.1", daemon.port), count)
    try:
        ask_each(crowd)
        with downloading(daemon) as client:
            daemon.signal("TERM")
            while crowd:
                with crowd.pop() as member:
                    assert member.closed()  # a reset would raise
            assert len(client.read().body) == SIZE
        assert daemon.wait() == 0
    finally:
        leave(crowd)


def come_and_go(address: tuple[str, int], count: int) -> None:
    """So many connections that say nothing: every second one ends by RST, the others by FIN."""
    for number in range(count):
        client = Client(address)
        if number % 2:
            client.reset()
        else:
            client.close()
