"""The loop of a worker with real sockets, a poller that follows a script, and a clock that the test sets."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.config.schema import Address, Config, Limits, Log, Server, Timeouts
from httpd.content.sites import Site, SiteTable
from httpd.logs.errors import ErrorLog
from httpd.protocol.messages import Response
from httpd.system.poller import HUP
from httpd.worker import connection as connection_module
from httpd.worker import loop as module
from httpd.worker.acceptor import PAUSE, Acceptor
from httpd.worker.context import Context
from httpd.worker.loop import Loop
from httpd.worker.scoreboard import Scoreboard
from httpd.worker.shares import Share, Shares
from unit.master.fakes import Clock, Script, nothing_left_open

KEEPALIVE, HEAD, LIMIT = 15.0, 10.0, 4
GET = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"


class Worker:
    """A worker that accepts on two listeners, "one" and "two".  `lines` is its error log."""

    def __init__(self, mount: Any, make_site: Callable[..., Site[Any]]) -> None:
        self.clock = Clock()
        self.script = Script(self.clock)
        self.lines: list[bytes] = []
        config = Config(
            path="", server=Server(), timeouts=Timeouts(keepalive=KEEPALIVE, head=HEAD),
            limits=Limits(connections=LIMIT), log=Log(), vhosts=(),
        )  # fmt: skip
        errors = ErrorLog(self.lines.append, "info", "test", clock=self.clock.monotonic)
        self.context = Context(config, self.script, errors, lambda: None)
        self.shares = Shares(1)
        self.masters = []  # the master's copies: what waits in a queue is not lost when the worker lets go
        acceptors = []
        for name in ("one", "two"):
            sock = socket.socket()
            sock.bind(("127.0.0.1", 0))
            sock.listen()
            sock.setblocking(False)
            self.masters.append(sock.dup())
            table: SiteTable[Any] = SiteTable([make_site(mount)])
            acceptors.append(Acceptor(self.context, sock, Address(name), table, Share(self.shares, 0)))
        self.acceptors = list(acceptors)
        self.scoreboard = Scoreboard(1)
        self.reports: list[float] = []
        self.roused: list[float] = []
        self.loop = Loop(
            self.context, acceptors, lambda: self.reports.append(self.clock.now), self.scoreboard.presence(0),
            lambda: self.roused.append(self.clock.now),
        )  # fmt: skip
        self.clients: list[socket.socket] = []

    def run(self, *steps: Callable[[], object]) -> None:
        """Accept, take the steps, each when the one before has had its effect, and return when the loop has ended."""
        for acceptor in self.acceptors:
            acceptor.start()
        self.script.steps.extend(steps)
        self.loop.run()

    def connect(self, which: int = 0) -> socket.socket:
        client = socket.create_connection(self.masters[which].getsockname(), timeout=20)
        self.clients.append(client)
        return client

    def after(self, seconds: float, step: Callable[[], object]) -> Callable[[], None]:
        """A step that is taken so much later, with the loop awake whenever it wants to be."""
        due: list[float] = []

        def wait() -> None:
            due[:] = due or [self.clock.now + seconds]
            if self.clock.now >= due[0]:
                step()
            else:
                slept = self.script.timeout if self.script.timeout >= 0 else seconds
                self.clock.now = min(due[0], self.clock.now + slept)
                self.script.steps.appendleft(wait)

        return wait

    @property
    def open(self) -> int:
        return len(self.context.connections)

    def close(self) -> None:
        self.loop.close_all()
        for acceptor in self.acceptors:
            if acceptor.sock.fileno() >= 0:
                acceptor.close(empty_queue=False)
        for sock in (*self.clients, *self.masters):
            sock.close()
        self.shares.close()
        assert self.context.handlers == {}
        self.script.close()


@pytest.fixture
def worker(mount: Any, make_site: Callable[..., Site[Any]], monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    with nothing_left_open():
        worker = Worker(mount, make_site)
        monkeypatch.setattr(module, "time", worker.clock)
        monkeypatch.setattr(connection_module, "time", worker.clock)
        yield worker
        worker.close()


def ended(client: socket.socket) -> bool:
    """Whether the server has closed: nothing more comes."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False


def answer(client: socket.socket) -> bytes:
    """What has come for a request; the loop has had its turn already."""
    client.setblocking(False)
    return client.recv(100_000)


def waiting(listener: socket.socket) -> int:
    """How many connections wait in the queue of a listener: taken and closed."""
    count = 0
    listener.setblocking(False)
    while True:
        try:
            listener.accept()[0].close()
        except BlockingIOError:
            return count
        count += 1


def test_it_serves_until_it_is_stopped(worker: Worker) -> None:
    client = worker.connect()
    worker.run(lambda: client.sendall(GET), worker.loop.stop)
    assert answer(client).startswith(b"HTTP/1.1 200 ")
    assert worker.open == 1
    assert worker.loop.close_all() == 0  # it was idle


# Standing by


def test_on_standby_it_answers_for_the_last_time_and_stays(worker: Worker) -> None:
    """Who has nothing to say any more waits all the same: it may be called back."""
    idle, asks = worker.connect(), worker.connect(1)
    seen: list[bytes] = []
    worker.run(
        lambda: worker.loop.stand_by([]),
        lambda: asks.sendall(GET),
        lambda: seen.append(answer(asks)),
        worker.after(60, lambda: seen.append(b"%d" % worker.open)),
        worker.loop.stop,
    )
    assert b"\r\nConnection: close\r\n" in seen[0]
    assert seen[1] == b"0"
    assert ended(idle)
    assert ended(asks)


def test_on_standby_it_accepts_only_what_is_kept(worker: Worker) -> None:
    counts: list[int] = []
    worker.run(
        lambda: worker.loop.stand_by(["two"]),
        lambda: worker.connect(0),
        lambda: counts.append(worker.open),
        lambda: worker.connect(1),
        lambda: counts.append(worker.open),
        worker.loop.stop,
    )
    assert counts == [0, 1]
    assert [waiting(sock) for sock in worker.masters] == [1, 0]


def test_called_back_it_is_as_before(worker: Worker) -> None:
    """What waited in the queue meanwhile is served, and connections live on."""
    seen: list[bytes] = []
    client = worker.connect

    def ask() -> None:
        for sock in worker.clients:
            sock.sendall(GET)

    def resume() -> None:
        worker.loop.resume()
        for acceptor in worker.acceptors:
            acceptor.start()

    worker.run(
        lambda: worker.loop.stand_by(["two"]),
        lambda: [client(0), client(1)],
        resume,
        ask,
        lambda: seen.extend(answer(sock) for sock in worker.clients),
        worker.after(KEEPALIVE - 1, lambda: seen.append(b"%d" % worker.open)),
        worker.loop.stop,
    )
    assert [b"close" in found for found in seen[:2]] == [False, False]
    assert seen[2] == b"2"


def test_a_pause_of_an_acceptor_does_not_outlive_the_order_to_stand_by(worker: Worker) -> None:
    """Else it would begin to accept again by itself, or keep the loop awake."""
    counts: list[int] = []
    worker.run(
        lambda: worker.acceptors[0].rest_for("a test"),
        lambda: worker.loop.stand_by([]),
        lambda: worker.connect(0),
        worker.after(4 * PAUSE, lambda: counts.extend([worker.open, worker.context.paused])),
        worker.loop.stop,
    )
    assert counts == [0, 0]
    assert waiting(worker.masters[0]) == 1


# Draining


def test_a_drain_ends_with_the_last_connection(worker: Worker) -> None:
    client = worker.connect()
    counts: list[int] = []
    worker.run(
        lambda: client.sendall(GET[:10]),
        lambda: worker.loop.drain(30.0, lambda acceptor: False),
        worker.after(5, lambda: counts.append(worker.open)),
        lambda: client.sendall(GET[10:]),
    )
    assert counts == [1]
    assert b"Connection: close" in answer(client)
    assert worker.clock.now < 1000 + 30


def test_a_drain_has_an_end(worker: Worker) -> None:
    """A client in the middle of its request holds it up until the time is over, no longer."""
    client = worker.connect()
    worker.run(lambda: client.sendall(GET[:10]), lambda: worker.loop.drain(3.0, lambda acceptor: False))
    assert 1003 <= worker.clock.now <= 1005
    assert worker.loop.close_all() == 1


@pytest.mark.parametrize(("first", "second"), [(30.0, 2.0), (2.0, 3600.0)])
def test_a_second_drain_can_only_be_shorter(worker: Worker, first: float, second: float) -> None:
    client = worker.connect()
    worker.run(
        lambda: client.sendall(GET[:10]),
        lambda: worker.loop.drain(first, lambda acceptor: False),
        lambda: worker.loop.drain(second, lambda acceptor: False),
    )
    assert 1002 <= worker.clock.now <= 1004


def test_a_queue_is_emptied_where_nobody_else_will(worker: Worker) -> None:
    """What came while the worker did something else: its own are taken, the others are for others."""

    def order() -> None:
        for which in (0, 0, 1):
            worker.connect(which).sendall(GET)
        worker.loop.drain(30.0, lambda acceptor: acceptor.address.text == "one")

    worker.run(lambda: worker.loop.stand_by([]), order)
    assert [waiting(sock) for sock in worker.masters] == [0, 1]
    first, second, _ = worker.clients
    assert b"Connection: close" in answer(first)
    assert b"Connection: close" in answer(second)


def test_drained_from_standby(worker: Worker) -> None:
    """The usual end of an old generation: the listener that was given up is emptied by it."""
    worker.run(
        lambda: worker.loop.stand_by(["two"]),
        lambda: worker.connect(1),
        lambda: worker.loop.drain(30.0, lambda acceptor: acceptor.address.text == "two"),
    )
    assert ended(worker.clients[0])
    assert [acceptor.sock.fileno() for acceptor in worker.acceptors] == [-1, -1]


# Time


@pytest.mark.parametrize("seconds", [3.0, 3600.0])
def test_time_in_which_it_did_not_run_counts_for_no_client(worker: Worker, seconds: float) -> None:
    """A process that was stopped, a machine that was frozen: who was about to ask may still do so."""
    client = worker.connect()
    counts: list[int] = []

    def stop_the_world() -> None:
        worker.clock.now += seconds

    worker.run(
        worker.after(HEAD - 2, stop_the_world),
        lambda: counts.append(worker.open),
        lambda: client.sendall(GET),
        worker.after(KEEPALIVE - 1, lambda: counts.append(worker.open)),
        worker.after(2, lambda: counts.append(worker.open)),
        worker.loop.stop,
    )
    assert counts[:2] == [1, 1]
    assert answer(client).startswith(b"HTTP/1.1 200 ")
    assert b"stalled seconds=" in b"".join(worker.lines)


def test_a_drain_is_longer_by_a_stall(worker: Worker) -> None:
    client = worker.connect()

    def stop_the_world() -> None:
        worker.clock.now += 100.0

    worker.run(
        lambda: client.sendall(GET[:10]),
        lambda: worker.loop.drain(5.0, lambda acceptor: False),
        stop_the_world,
        worker.after(3, lambda: client.sendall(GET[10:])),
    )
    assert answer(client).startswith(b"HTTP/1.1 200 ")


def test_a_long_sleep_of_an_idle_worker_is_no_stall(worker: Worker) -> None:
    def sleep() -> None:
        worker.clock.now += 36_000.0

    worker.run(sleep, worker.loop.stop)
    assert worker.lines == []


# What it tells


def test_what_happened_is_told_a_moment_later(worker: Worker) -> None:
    client = worker.connect()
    worker.run(worker.after(1, lambda: client.sendall(GET)), worker.after(5, worker.loop.stop))
    assert worker.context.requests == 1
    assert [round(at - 1000, 2) for at in worker.reports] == [0.01, 1.01]


def test_it_is_awake_in_a_round_and_asleep_between(worker: Worker, mount: Any) -> None:
    awake: list[tuple[str, bool]] = []
    client = worker.connect()

    def at_work() -> Response:
        awake.append(("working", worker.scoreboard.awake(0)))
        return Response(200)

    mount.answers[b"/a"] = at_work
    worker.run(
        lambda: awake.append(("waiting", worker.scoreboard.awake(0))), lambda: client.sendall(GET), worker.loop.stop
    )
    assert awake == [("waiting", False), ("working", True)]


def test_who_wakes_up_unattended_says_so(worker: Worker) -> None:
    """First of all, and not with every round."""
    client = worker.connect()
    counts: list[int] = []

    def unattended() -> None:
        worker.scoreboard.leave_unattended(unattended=True)
        counts.append(len(worker.roused))

    def ask() -> None:
        client.sendall(GET)

    def attended() -> None:
        worker.scoreboard.leave_unattended(unattended=False)
        counts.append(len(worker.roused))

    steps = (unattended, ask, ask, ask, attended, worker.after(1, ask), ask)
    worker.run(*steps, lambda: counts.append(len(worker.roused)), worker.loop.stop)
    assert counts == [0, 1, 1]


def test_what_was_told_of_a_descriptor_is_not_for_who_gets_its_number(worker: Worker) -> None:
    """Two pipes have lost their writers in one round; the news of the one closes both, and others get the numbers."""
    context = worker.context
    told: list[str] = []
    ended = [os.pipe() for _ in range(2)]
    fresh: list[tuple[int, int]] = []

    def hear(mask: int) -> None:
        told.append("ended")
        for reader, _ in ended:
            context.forget(reader)
            os.close(reader)
        fresh.extend(os.pipe() for _ in ended)
        for reader, _ in fresh:
            context.watch(reader, HUP, 0, lambda mask: told.append("a stranger's end"))

    for reader, writer in ended:
        context.watch(reader, HUP, 0, hear)
        os.close(writer)
    worker.run(worker.after(1.0, lambda: None), worker.loop.stop)
    assert told == ["ended"]
    assert {reader for reader, _ in ended} <= {fd for pair in fresh for fd in pair}, "no number was used again"
    for reader, writer in fresh:
        context.forget(reader)
        os.close(reader)
        os.close(writer)


def test_a_defect_costs_one_connection(worker: Worker, mount: Any) -> None:
    def broken() -> Any:
        raise LookupError("a defect of the test")

    mount.answers[b"/a"] = broken
    unlucky, other = worker.connect(), worker.connect()
    counts: list[int] = []
    worker.run(
        lambda: unlucky.sendall(GET),
        lambda: counts.append(worker.open),
        lambda: other.sendall(GET.replace(b"/a", b"/b")),
        worker.loop.stop,
    )
    assert counts == [1]
    assert ended(unlucky)
    assert answer(other).startswith(b"HTTP/1.1 200 ")
    assert b"LookupError: a defect of the test" in b"".join(worker.lines)
