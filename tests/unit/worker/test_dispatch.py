"""The loop's side of handlers.  The loop is turned and handlers are run by hand: nothing here depends on time."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.config import schema
from httpd.content.sites import Site, SiteTable
from httpd.logs.access import compile_format
from httpd.logs.access_log import AccessLog
from httpd.logs.errors import ErrorLog
from httpd.server import BaseHTTPRequestHandler
from httpd.server.exchange import Exchange
from httpd.system.poller import make_poller
from httpd.worker.calls import CallMount
from httpd.worker.context import Context
from httpd.worker.dispatch import Dispatch
from httpd.worker.plain import PlainConnection
from unit.worker.lines import logged

PATIENCE = 20.0
GET = b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Server:
    """In the place of a server object."""

    def handle_error(self, request: Exchange, client_address: Any) -> None:
        import sys

        error = sys.exception()
        assert error is not None
        request.failed(error)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.wfile.write(OK)

    do_POST = do_GET  # noqa: N815


class World:
    """A worker with one mount, `call`, at "/"; handlers run when the test says so."""

    def __init__(self, call: Callable[..., Any], limits: schema.Limits | None = None, seconds: float = 0.0,
                 **settings: Any) -> None:  # fmt: skip
        self.errors: list[str] = []
        config = schema.Config(
            path="", server=schema.Server(), timeouts=schema.Timeouts(),
            limits=limits or schema.Limits(body_memory=100), log=schema.Log(), vhosts=(),
        )  # fmt: skip
        log = ErrorLog(lambda line: self.errors.append(line.decode()), "debug", "test")
        self.context = Context(config, make_poller(), log, lambda: None)
        self.context.now = self.context.wall = 1000.0
        self.context.preambles.at(1000)
        self.dispatch = self.context.dispatch = Dispatch(self.context, 4, seconds)
        self.written = bytearray()
        self.log = AccessLog(compile_format("%r %>s %b"), self.written.extend, self.context.dirty)
        self.mount = CallMount("vhost[0].handler[0]", b"", schema.Settings(**settings), self.log)
        self.mount.limit, self.mount.queue = 4, 100
        self.mount._call = call
        self.mount.servers = [Server()]
        site: Site[Any] = Site(schema.Vhost(key="k", settings=schema.Settings()), [self.mount], self.log)
        self.table: SiteTable[Any] = SiteTable([site])
        self.ends: list[socket.socket] = []

    def client(self, data: bytes = b"", buffer: int = 0) -> socket.socket:
        """A client's end, of which `data` has been sent and read."""
        near, far = socket.socketpair()
        near.setblocking(False)
        far.settimeout(PATIENCE)
        if buffer:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self.ends.append(far)
        connection = PlainConnection(self.context, near.detach(), b"client", 0, self.table, ("192.0.2.1", 7))
        connection._wait(1, connection.on_input)
        if data:
            far.send(data)
            self.turn()
        return far

    def turn(self) -> None:
        """Handle all that has happened; no handler runs."""
        self.mount.score = -1000  # none is quick: these would run at once
        for _ in range(10_000):
            self.dispatch.collect()
            events = self.context.poller.poll(0)
            self.context.round += 1
            for fd, mask in events:
                handler = self.context.handlers.get(fd)
                if handler is not None:
                    handler(mask)
            for connection, plain in self.context.asked:
                connection.answer(plain)
            self.context.asked.clear()
            if not events:
                return
        pytest.fail("the loop spins")

    @property
    def queued(self) -> list[Exchange]:
        return list(self.dispatch.pool.queue)

    def run(self, count: int = 1) -> None:
        """Run `count` handlers, here, and go on with the loop."""
        for _ in range(count):
            exchange = self.dispatch.pool.queue.popleft()
            exchange.since = time.monotonic()
            exchange.run()
            self.dispatch.pool.finished.append(exchange)
        self.turn()

    def during(self, call: Callable[[], None]) -> threading.Thread:
        """Have a thread do something for which it needs the loop; it is turned by `until`."""
        thread = threading.Thread(target=call, daemon=True)
        thread.start()
        return thread

    def until(self, thread: threading.Thread) -> None:
        """Turn the loop until a thread has ended."""
        until = time.monotonic() + PATIENCE
        while thread.is_alive():
            self.turn()
            assert time.monotonic() < until
        thread.join()
        self.turn()

    @property
    def logged(self) -> list[str]:
        return logged(self.context, self.written)

    def close(self) -> None:
        for connection in list(self.context.connections.values()):
            connection.close()
        for end in self.ends:
            end.close()
        self.context.poller.close()
        self.dispatch.bell.close()


Make = Callable[..., World]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[World] = []

    def start(call: Callable[..., Any] = Handler, **options: Any) -> World:
        made.append(World(call, **options))
        return made[-1]

    yield start
    for world in made:
        world.close()


# Who may run


def test_a_request_waits_for_its_turn_and_is_answered(make: Make) -> None:
    world = make()
    client = world.client(GET)
    assert len(world.queued) == world.dispatch.active == world.mount.active == 1
    world.run()
    assert client.recv(1000) == OK
    assert world.dispatch.active == world.mount.active == 0
    assert world.logged == ["GET /x HTTP/1.1 200 2"]


def test_a_mount_has_its_limit(make: Make) -> None:
    world = make()
    world.mount.limit = 2
    clients = [world.client(GET) for _ in range(5)]
    assert (len(world.queued), len(world.mount.waiting)) == (2, 3)
    world.run()
    assert (len(world.queued), len(world.mount.waiting)) == (2, 2)
    world.run(2)
    world.run(2)
    assert [client.recv(1000) for client in clients] == [OK] * 5
    assert world.mount.active == 0


def test_quick_ones_are_known_by_their_runs(make: Make) -> None:
    world = make()
    world.mount.score = 4
    exchange = _exchange(world)
    world.dispatch.submit(exchange, world.mount)
    assert list(world.dispatch.quick) == [exchange]
    world.dispatch.quick.clear()
    world.mount.score = 3
    world.dispatch.submit(_exchange(world), world.mount)
    assert not world.dispatch.quick


def test_one_that_was_slow_has_to_prove_itself(make: Make) -> None:
    world = make()
    world.mount.score = 4
    exchange = _exchange(world)
    exchange.since = time.monotonic() - 1.0
    world.dispatch.pool.finished.append(exchange)
    world.dispatch.collect()
    assert world.mount.score < 0


def test_a_request_that_reads_from_its_client_is_never_quick(make: Make) -> None:
    world = make()
    world.mount.score = 4
    exchange = _exchange(world)
    exchange.body_at = -1
    world.dispatch.submit(exchange, world.mount)
    assert not world.dispatch.quick


def _exchange(world: World) -> Exchange:
    return Exchange(world.dispatch, world.mount, GET, len(GET), GET[:14], "/x")


# What is sent while they run


class Steps:
    """A handler that stops between its steps: `world.during` runs it, and each `step` lets it go on."""

    def __init__(self, *steps: Callable[[Exchange], None]) -> None:
        self.steps = steps
        self.reached = [threading.Event() for _ in steps]
        self.free = [threading.Event() for _ in steps]

    def __call__(self, exchange: Exchange, client_address: Any, server: Any) -> None:
        for step, reached, free in zip(self.steps, self.reached, self.free, strict=True):
            step(exchange)
            reached.set()
            assert free.wait(PATIENCE)

    def go_on(self) -> None:
        for free in self.free:
            free.set()


HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"


def _running(world: World, steps: Steps) -> tuple[Exchange, threading.Thread]:
    """Start the first handler that waits, in a thread of its own that the pool counts as one."""
    exchange = world.dispatch.pool.queue.popleft()
    exchange.since = world.context.now
    worker = type("Worker", (), {"job": exchange, "thread": None, "asleep": False})()
    world.dispatch.pool._threads.append(worker)

    def run() -> None:
        exchange.run()
        worker.job = None
        world.dispatch.pool.finished.append(exchange)

    thread = world.during(run)
    assert steps.reached[0].wait(PATIENCE)
    return exchange, thread


def test_nothing_is_sent_of_a_young_one(make: Make) -> None:
    steps = Steps(lambda exchange: exchange.wfile.write(HEAD + b"1234") and None)
    world = make(steps)
    client = world.client(GET)
    exchange, thread = _running(world, steps)
    world.dispatch.look(world.context.now)
    world.turn()
    client.setblocking(False)
    with pytest.raises(BlockingIOError):
        client.recv(1)
    world.context.now += 1.0
    world.dispatch.look(world.context.now)
    world.turn()
    assert client.recv(1000) == HEAD + b"1234"
    assert exchange.eager
    steps.go_on()
    world.until(thread)
    assert world.logged == ["GET /x HTTP/1.1 200 4"]


def test_an_old_one_has_sent_what_it_writes(make: Make) -> None:
    def second(exchange: Exchange) -> None:
        exchange.wfile.write(b"34")

    steps = Steps(lambda exchange: exchange.wfile.write(HEAD + b"12") and None, second)
    world = make(steps)
    client = world.client(GET)
    _, thread = _running(world, steps)
    world.context.now += 1.0
    world.dispatch.look(world.context.now)
    world.turn()
    assert client.recv(1000) == HEAD + b"12"
    steps.free[0].set()
    assert steps.reached[1].wait(PATIENCE)
    world.turn()
    assert client.recv(1000) == b"34"
    steps.go_on()
    world.until(thread)


def test_streams_do_not_count_and_no_more_than_may(make: Make) -> None:
    steps = [Steps(lambda exchange: exchange.wfile.write(HEAD + b"1") and None) for _ in range(2)]
    calls = iter(steps)

    def call(*arguments: Any) -> None:
        next(calls)(*arguments)

    world = make(call, limits=schema.Limits(detached=1))
    clients, threads = [], []
    for step in steps:
        clients.append(world.client(GET))
        threads.append(_running(world, step)[1])
    world.context.now += 0.5
    world.dispatch.look(world.context.now)
    world.turn()
    world.context.now += 1.0
    world.dispatch.oversee(world.context.now)
    assert world.dispatch.detached == 1
    assert any("limits.detached is reached" in line for line in world.errors)
    for step in steps:
        step.go_on()
    for thread in threads:
        world.until(thread)
    world.turn()
    assert (world.dispatch.detached, world.dispatch.active) == (0, 0)


def test_who_takes_long_is_reported_once(make: Make) -> None:
    steps = Steps(lambda exchange: None)
    world = make(steps, seconds=5.0)
    world.client(GET)
    _, thread = _running(world, steps)
    for seconds, reports in ((4.0, 0), (2.0, 1), (10.0, 1)):
        world.context.now += seconds
        world.dispatch.oversee(world.context.now)
        assert sum("a handler takes long" in line for line in world.errors) == reports
    assert 'request="GET /x HTTP/1.1"' in "".join(world.errors)
    steps.go_on()
    world.until(thread)


# Failures


def test_a_failure_is_one_entry_with_an_id_of_its_own(make: Make) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("told")

    world = make(fail)
    clients = [world.client(GET) for _ in range(2)]
    world.run(2)
    found = [line for line in world.errors if "a handler raised" in line]
    assert len(found) == 2
    numbers = [re.findall(r" id=(\S+)", line)[0] for line in found]
    assert len(set(numbers)) == 2
    for client, number, line in zip(clients, numbers, found, strict=True):
        answer = client.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 500 ")
        assert b"\r\nX-Request-Id: %b\r\n" % number.encode() in answer
        assert line.count("Traceback") == 1
        assert "RuntimeError: told" in line


def test_a_client_that_left_is_none(make: Make) -> None:
    def call(exchange: Exchange, *arguments: Any) -> None:
        exchange.wfile.write(b"x")

    world = make(call)
    world.client(GET).close()
    world.turn()
    world.run()
    assert [line for line in world.errors if "[error]" in line or "[warning]" in line] == []
    assert world.logged == ["GET /x HTTP/1.1 499 -"]


# Calls that threads have the loop make


def test_a_call_on_the_loop(make: Make) -> None:
    world = make()
    made: list[int] = []
    thread = world.during(lambda: world.dispatch.on_loop(lambda: made.append(threading.get_ident())))
    world.until(thread)
    assert made == [threading.get_ident()]
    world.dispatch.closed = True
    world.dispatch.on_loop(lambda: made.append(1))
    assert made[1:] == [1]


def test_questions_to_the_socket_and_taking_it(make: Make) -> None:
    found: list[Any] = []

    def call(exchange: Exchange, *arguments: Any) -> None:
        found.append(exchange.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
        exchange.wfile.write(b"HTTP/1.1 101 X\r\n\r\n")
        exchange.rfile.read()
        exchange.parsed = True
        found.append(exchange.recv(100))

    world = make(call)
    client = world.client(GET)
    client.send(b"early")
    world.turn()
    exchange = world.dispatch.pool.queue.popleft()

    def run() -> None:
        exchange.run()
        world.dispatch.pool.finished.append(exchange)

    world.until(world.during(run))
    assert found == [socket.SOCK_STREAM, b"early"]
    assert client.recv(100) == b"HTTP/1.1 101 X\r\n\r\n"
    assert client.recv(100) == b""
    world.turn()
    assert world.context.connections == {}
    assert world.logged == ["GET /x HTTP/1.1 101 -"]


def test_a_socket_that_is_gone_can_not_be_taken(make: Make) -> None:
    problems: list[OSError] = []

    def call(exchange: Exchange, *arguments: Any) -> None:
        try:
            exchange.recv(1)
        except OSError as error:
            problems.append(error)
        try:
            exchange.getsockname()
        except OSError as error:
            problems.append(error)

    world = make(call)
    world.client(GET).close()
    world.turn()
    exchange = world.dispatch.pool.queue.popleft()
    world.until(world.during(lambda: call(exchange)))
    assert [type(error) for error in problems] == [BrokenPipeError, OSError]


def test_threads_give_the_interpreter_up_sooner_while_any_runs(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[float] = []
    monkeypatch.setattr(sys, "setswitchinterval", said.append)
    before = sys.getswitchinterval()
    world = make()
    world.client(GET)
    world.client(GET)
    assert said == [0.0001]
    world.dispatch.oversee(world.context.now)
    assert said == [0.0001]
    world.run(2)
    world.dispatch.oversee(world.context.now)
    assert said == [0.0001, before]
