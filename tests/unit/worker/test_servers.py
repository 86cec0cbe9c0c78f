"""One server of a script: what decides how it gets its connections, and the requests that wait for `handle_request`."""

from __future__ import annotations

import os
import queue
import select
import socket
import socketserver
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

import pytest

from httpd.config import schema
from httpd.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer
from httpd.worker.listening import Inbox, ScriptListener, make_twin
from httpd.worker.servers import ScriptMount, Serving


class FakePool:
    def __init__(self) -> None:
        self.finished: deque[Any] = deque()
        self.queue: deque[Any] = deque()
        self.rung = 0

    def ring(self) -> None:
        self.rung += 1


class FakeDispatch:
    def __init__(self) -> None:
        self.pool = FakePool()
        self.look_at = 0.0

    def on_loop(self, call: Any) -> None:
        call()


class FakeExchange:
    hooked = returned = over = False
    since = 0.0
    ran = False

    def run(self) -> None:
        self.ran = True


class Context:
    draining = True  # nothing is accepted
    now = 5.0
    connections: tuple[Any, ...] = ()


class Share:
    def alone(self, count: int) -> bool:
        return True


class Echo(socketserver.StreamRequestHandler):
    pass


class Own(HTTPServer):
    def get_request(self) -> Any:
        return super().get_request()


Made = list[socketserver.TCPServer]


@pytest.fixture
def made() -> Iterator[Made]:
    servers: Made = []
    yield servers
    for server in servers:
        server.server_close()


def serving(made: Made, kind: Any = HTTPServer, handler: Any = BaseHTTPRequestHandler, extra: int = 0) -> Serving:
    server = kind(("127.0.0.1", 0), handler)
    made.append(server)
    plain, server.socket = server.socket, ScriptListener(fileno=os.dup(server.socket.fileno()))
    plain.close()
    listeners: list[Any] = [(schema.Address("first"), server.socket)]
    for number in range(extra):
        with socket.create_server(("127.0.0.1", 0)) as sock:
            listeners.append((schema.Address(f"extra {number}"), ScriptListener(fileno=os.dup(sock.fileno()))))
    config = schema.Config(path="", server=schema.Server(threads=7), timeouts=schema.Timeouts(),
                           limits=schema.Limits(queue=9), log=schema.Log(), vhosts=())  # fmt: skip
    return Serving(server, listeners, Context(), FakeDispatch(), Share(), [], None, config)  # type: ignore[arg-type]


# On the loop, or in threads


@pytest.mark.parametrize(
    ("kind", "handler", "threaded"),
    [
        (HTTPServer, BaseHTTPRequestHandler, False), (ThreadingHTTPServer, BaseHTTPRequestHandler, False),
        (socketserver.TCPServer, BaseHTTPRequestHandler, False), (socketserver.TCPServer, Echo, True),
        (Own, BaseHTTPRequestHandler, True), (HTTPServer, lambda *arguments: None, False),
    ],
)  # fmt: skip
def test_who_has_connections_of_its_own(made: Made, kind: Any, handler: Any, threaded: bool) -> None:
    assert serving(made, kind, handler).threaded is threaded


def test_by_an_attribute_of_the_object(made: Made) -> None:
    found = serving(made)
    assert not found.threaded
    found.server.get_request = lambda: None
    assert found.threaded


def test_by_another_socket(made: Made) -> None:
    found = serving(made)
    listener, found.server.socket = found.server.socket, socket.socket()
    listener.close()
    assert found.threaded


@pytest.mark.parametrize(("kind", "limit"), [(HTTPServer, 1), (socketserver.TCPServer, 1), (ThreadingHTTPServer, 7)])
def test_how_many_at_once(made: Made, kind: Any, limit: int) -> None:
    mount = serving(made, kind)._mount
    assert (mount.limit, mount.queue) == (limit, 9)


def test_hooks_are_seen(made: Made) -> None:
    class Hooked(HTTPServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            return True

    assert serving(made)._mount.direct
    assert not serving(made, Hooked)._mount.direct
    server = serving(made).server
    server.finish_request = lambda *arguments: None
    assert not ScriptMount(server, None, 1, 1).direct


def test_the_handler_is_looked_up_each_time(made: Made) -> None:
    found = serving(made)
    seen: list[Any] = []
    for name in ("first", "second"):
        found.server.RequestHandlerClass = lambda *arguments, name=name: seen.append((name, arguments))
        found._mount._handle(1, 2, 3)
    assert seen == [("first", (1, 2, 3)), ("second", (1, 2, 3))]


# handle_request


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_requests_come_in_their_order(made: Made) -> None:
    inbox = Inbox(FakeDispatch())  # type: ignore[arg-type]
    first, second = FakeExchange(), FakeExchange()
    assert not readable(inbox.fd)
    inbox.put(first)  # type: ignore[arg-type]
    inbox.put(second)  # type: ignore[arg-type]
    assert readable(inbox.fd)
    assert inbox.get(0) is first
    assert readable(inbox.fd)
    assert inbox.get(None) is second
    assert not readable(inbox.fd)
    with pytest.raises(queue.Empty):
        inbox.get(0.001)
    inbox.close()


def test_nobody_waits_for_ever(made: Made) -> None:
    """Who waits when the script hangs up, and who comes then, is over without an answer."""
    dispatch = FakeDispatch()
    inbox = Inbox(dispatch)  # type: ignore[arg-type]
    before, behind = FakeExchange(), FakeExchange()
    inbox.put(before)  # type: ignore[arg-type]
    fd = inbox.fd
    inbox.hang_up()
    inbox.put(behind)  # type: ignore[arg-type]
    assert list(dispatch.pool.finished) == [before, behind]
    assert all(exchange.hooked and exchange.over and exchange.returned for exchange in (before, behind))
    assert dispatch.pool.rung == 2
    assert inbox.fd == -1
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    inbox.hang_up()


def test_one_request_runs_here(made: Made) -> None:
    found = serving(made)
    assert found.polled == -1
    found.begin(forever=False)
    inbox = found._mount.inbox
    assert inbox is not None
    assert found.polled == inbox.fd
    exchange = FakeExchange()
    inbox.put(exchange)  # type: ignore[arg-type]
    found.begin(forever=False)
    assert found._mount.inbox is inbox
    found.handle_one()
    assert exchange.ran
    assert exchange.since > 0
    assert list(found._dispatch.pool.finished) == [exchange]
    found.shut_down()
    found.close()


def test_none_in_time(made: Made) -> None:
    found = serving(made)
    found.server.timeout = 0.001
    calls: list[str] = []
    found.server.handle_timeout = lambda: calls.append("timeout")
    found.begin(forever=False)
    found.handle_one()
    assert calls == ["timeout"]
    found.shut_down()
    found.close()


def test_who_waits_is_served_when_it_serves_for_ever(made: Made) -> None:
    found = serving(made)
    found.begin(forever=False)
    inbox = found._mount.inbox
    assert inbox is not None
    exchange = FakeExchange()
    inbox.put(exchange)  # type: ignore[arg-type]
    found.begin(forever=True)
    assert found._mount.inbox is None
    assert list(found._dispatch.pool.queue) == [exchange]
    assert found._dispatch.look_at == Context.now
    assert found.polled == -1
    found.shut_down()
    found.close()


# serve_forever


def test_service_actions_are_called_where_there_are_any(made: Made) -> None:
    found = serving(made)
    calls: list[int] = []

    def act() -> None:
        calls.append(1)
        if len(calls) == 3:
            found.stop.set()

    found.server.service_actions = act
    found.wait(0.001)
    assert len(calls) == 3
    assert found.thread is None


def test_shutdown_waits_for_serve_forever(made: Made) -> None:
    found = serving(made)
    began = threading.Event()

    def serve() -> None:
        found.begin(forever=True)
        began.set()
        found.wait(0.5)

    thread = threading.Thread(target=serve)
    thread.start()
    assert began.wait(20)
    found.shut_down()
    thread.join(20)
    assert not thread.is_alive()
    assert found._mine == []
    assert found._acceptors == []


# More listeners than one, in threads


def test_a_twin_is_the_same_server_on_another_listener(made: Made) -> None:
    found = serving(made, Own, extra=1)
    other = found._listeners[1][1]
    twin = make_twin(found.server, other)
    assert isinstance(twin, Own)
    assert twin.socket is other
    assert type(twin).__name__ == "Own"
    twin.state = "new"
    assert found.server.state == "new"
    assert found.server.socket is found._listeners[0][1]
    other.close()


def test_all_listeners_are_accepted_from(made: Made) -> None:
    class Name(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(type(self.server).__name__.encode())

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    found = serving(made, Server, Name, extra=2)
    names = [sock.getsockname() for _, sock in found._listeners]
    found.begin(forever=True)
    thread = threading.Thread(target=found.wait, args=(0.01,))
    thread.start()
    for name in names * 2:
        with socket.create_connection(name, 20) as client:
            assert client.recv(100) == b"Server"
    found.shut_down()
    thread.join(20)
    assert not thread.is_alive()
    found.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(names[1], 20)


def test_one_at_a_time_on_all_of_them(made: Made) -> None:
    inside: list[int] = []
    most: list[int] = []
    lock = threading.Lock()

    class Count(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with lock:
                inside.append(1)
                most.append(len(inside))
            self.rfile.readline()
            with lock:
                inside.pop()

    found = serving(made, socketserver.TCPServer, Count, extra=1)
    names = [sock.getsockname() for _, sock in found._listeners]
    found.begin(forever=True)
    thread = threading.Thread(target=found.wait, args=(0.01,))
    thread.start()
    clients = [socket.create_connection(name, 20) for name in names * 3]
    for client in clients:
        client.sendall(b"\n")
    for client in clients:
        assert client.recv(1) == b""
        client.close()
    assert most == [1] * 6
    found.shut_down()
    thread.join(20)
    found.close()
