"""From a request to the thread of a handler: what it is given, and what is refused before."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from httpd.config import schema
from httpd.server.exchange import Exchange
from unit.worker.test_dispatch import GET, OK, Handler, Make, World

LIMITS = schema.Limits(body_memory=100, body=10_000)


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[World] = []

    def start(call: Any = Handler, **options: Any) -> World:
        made.append(World(call, **{"limits": LIMITS, **options}))
        return made[-1]

    yield start
    for world in made:
        world.close()


def _given(exchange: Exchange) -> tuple[Any, ...]:
    return (
        exchange.rfile.read(), exchange.head, exchange.line, exchange.path, exchange.command, exchange.minor,
        exchange.keep_alive, exchange.client_address, exchange.listener, exchange.fields,
    )  # fmt: skip


@pytest.mark.parametrize(
    "head",
    [
        b"GET /x HTTP/1.1\r\nHost: a\r\n", b"GET /x?q=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: u\r\nX-A:  b \r\n",
        b"GET /a%20b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n", b"GET //x HTTP/1.1\r\nHost: a\r\nReferer: r\r\n",
        b"GET /x HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n",
    ],
)  # fmt: skip
def test_plain_requests_come_as_all_others_do(make: Make, head: bytes) -> None:
    """Who was seen before is handed over without being parsed; the handler sees no difference but in white space."""
    world = make()
    first = b""
    found = []
    for _ in range(2):
        client = world.client(head + b"\r\n")
        (exchange,) = world.queued
        found.append(_given(exchange))
        world.run()
        first = first or client.recv(1000)
    assert found[0][2:9] == found[1][2:9]
    assert found[0][0].replace(b":  b ", b": b") == found[1][0].replace(b":  b ", b": b")
    assert [line.partition(" 200 ")[2] for line in world.logged] == ["2", "2"]


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"GET /x HTTP/1.1", "/x"), (b"GET http://a/x?y HTTP/1.1", "/x?y"), (b"OPTIONS * HTTP/1.1", None),
        (b"CONNECT a:1 HTTP/1.1", "a:1"), (b"GET /a/../x HTTP/1.1", "/a/../x"), (b"SPAM / HTTP/1.0", "/"),
    ],
)  # fmt: skip
def test_targets(make: Make, line: bytes, path: str | None) -> None:
    world = make()
    world.client(line + b"\r\nHost: a\r\n\r\n")
    assert [exchange.path for exchange in world.queued] == ([] if path is None else [path])


@pytest.mark.parametrize("target", [b"/../x", b"/%zz", b"/%00"])
def test_what_is_no_path_reaches_nobody(make: Make, target: bytes) -> None:
    world = make()
    client = world.client(b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n" % target)
    assert world.queued == []
    assert client.recv(1000).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("method", [b"POST", b"HEAD", b"SPAM"])
def test_methods_that_are_not_let_through(make: Make, method: bytes) -> None:
    world = make(methods=("GET",))
    client = world.client(b"%b /x HTTP/1.1\r\nHost: a\r\n\r\n" % method + GET)
    answer = client.recv(10_000)
    assert answer.startswith(b"HTTP/1.1 405 ")
    assert b"\r\nAllow: GET\r\n" in answer
    assert (b"<html" in answer) == (method != b"HEAD")
    assert len(world.queued) == 1  # the next one, which is let through
    world.run()
    assert client.recv(100) == OK


def test_a_queue_that_is_full(make: Make) -> None:
    world = make()
    world.mount.limit, world.mount.queue = 1, 1
    for _ in range(2):
        world.client(GET)
    for request in (GET, b"HEAD /x HTTP/1.1\r\nHost: a\r\n\r\n"):
        client = world.client(request)
        answer = client.recv(10_000)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"\r\nRetry-After: " in answer
        assert (b"<html" in answer) == (request is GET)
    client = world.client(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n")
    assert client.recv(10_000).startswith(b"HTTP/1.1 503 ")  # before the body came
    assert sum("queue is full: 503" in line for line in world.errors) == 1


# Bodies


def test_no_handler_before_the_body_is_whole(make: Make) -> None:
    world = make()
    client = world.client(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 150\r\n\r\n" + b"x" * 149)
    assert world.queued == []
    client.send(b"yGET /z HTTP/1.1\r\n")
    world.turn()
    (exchange,) = world.queued
    exchange.begin_body()
    assert exchange.rfile.read() == b"x" * 149 + b"y"
    exchange.let_go()


def test_expect_is_answered_before(make: Make) -> None:
    world = make()
    client = world.client(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert world.queued == []
    client.send(b"ab")
    world.turn()
    world.run()
    assert client.recv(100) == OK


def test_who_decides_by_the_head_gets_it_alone(make: Make) -> None:
    world = make()
    world.mount.decides_expect = True
    client = world.client(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
    (exchange,) = world.queued
    assert exchange.expect
    world.mount._call = lambda exchange, *arguments: exchange.wfile.write(
        b"HTTP/1.1 417 X\r\nContent-Length: 0\r\n\r\n"
    )
    world.run()
    assert client.recv(100) == b"HTTP/1.1 417 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert client.recv(100) == b""  # what comes now can't be told from a body


def test_a_stream_begins_at_once(make: Make) -> None:
    world = make()
    world.mount.stream = True
    client = world.client(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab")
    (exchange,) = world.queued
    client.send(b"cd")

    def call(exchange: Exchange, *arguments: Any) -> None:
        exchange.begin_body()
        assert exchange.rfile.read() == b"abcd"
        exchange.wfile.write(OK)

    world.mount._call = call
    world.run()
    assert client.recv(100) == OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")
    assert exchange.rfile.closed


def test_a_client_that_leaves_in_its_body(make: Make) -> None:
    world = make()
    client = world.client(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n" + b"x" * 200)
    client.close()
    world.turn()
    assert world.queued == []
    assert world.dispatch.active == 0
