"""Server objects that somebody else drives: made without a socket of their own, asked through their hooks."""

from __future__ import annotations

import http
import http.server
import socket
import socketserver
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import httpd.server
from httpd.server import adopted
from httpd.server.exchange import Exchange

LINE = b"GET / HTTP/1.1"
HEAD = LINE + b"\r\nHost: a\r\n\r\n"
_PATCHED = (
    *((socketserver.TCPServer, name) for name in adopted._KEPT),
    (socketserver.ThreadingMixIn, "process_request"), (socketserver.BaseServer, "handle_error"), (http, "server"),
)  # fmt: skip


class Host:
    """Who drives them; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def bind(self, server: Any) -> None:
        self.asked.append("bind")
        server.socket.close()
        server.server_address = ("192.0.2.1", 80)

    def serve_forever(self, server: Any, poll_interval: float) -> None:
        self.asked.append(f"serve_forever {poll_interval}")

    def handle_request(self, server: Any) -> None:
        self.asked.append("handle_request")

    def shutdown(self, server: Any) -> None:
        self.asked.append("shutdown")

    def close(self, server: Any) -> None:
        self.asked.append("close")


class Driver:
    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def push(self, exchange: Exchange) -> None: ...
    def take_over(self, exchange: Exchange) -> Any: ...
    def ask_socket(self, exchange: Exchange, name: str, arguments: Any) -> Any: ...
    def failed(self, exchange: Exchange, error: BaseException) -> None:
        self.errors.append(error)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """Installed for one test."""
    for owner, name in _PATCHED:
        monkeypatch.setattr(owner, name, getattr(owner, name))
    monkeypatch.setitem(sys.modules, "http.server", sys.modules["http.server"])
    made = Host()
    adopted.install(made)
    yield made


def exchange_of(driver: Driver) -> Exchange:
    made = Exchange(driver, None, HEAD, len(HEAD), LINE, "/")
    made.client_address = ("192.0.2.9", 7)
    return made


def test_http_server_is_ours_from_now_on(host: Host) -> None:
    import http.server as found

    assert found is httpd.server
    assert sys.modules["http.server"] is httpd.server


def test_everything_that_reaches_for_a_socket_asks_the_host(host: Host) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), Exchange) as server:
        assert server.server_address == ("192.0.2.1", 80)
        server.serve_forever(0.25)
        server.serve_forever()
        server.handle_request()
        server.shutdown()
    assert host.asked == ["bind", "serve_forever 0.25", "serve_forever 0.5", "handle_request", "shutdown", "close"]


def test_what_is_overridden_still_counts(host: Host) -> None:
    class Own(httpd.server.HTTPServer):
        def server_bind(self) -> None:
            host.asked.append("own bind")
            super().server_bind()

        def server_close(self) -> None:
            host.asked.append("own close")

    with Own(("127.0.0.1", 0), Exchange) as server:
        assert (server.server_name, server.server_port) == ("127.0.0.1", 80)
    assert host.asked == ["own bind", "bind", "own close"]


@pytest.mark.parametrize("kind", [socketserver.UDPServer, socketserver.UnixStreamServer])
def test_other_servers_are_their_own(host: Host, tmp_path: Any, kind: Any) -> None:
    address = str(tmp_path / "s") if kind is socketserver.UnixStreamServer else ("127.0.0.1", 0)
    with kind(address, Exchange) as server:
        assert server.fileno() >= 0
    assert host.asked == []


def test_an_exchange_comes_by_get_request_and_ends_where_it_was_taken_from(host: Host) -> None:
    calls: list[Any] = []

    class Own(socketserver.TCPServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            calls.append(("verify", client_address))
            return True

        def process_request(self, request: Any, client_address: Any) -> None:
            calls.append(("process", request is exchange))
            super().process_request(request, client_address)

    server = Own(("127.0.0.1", 0), lambda *arguments: calls.append(("handler", arguments[0] is exchange)))  # type: ignore[arg-type]
    exchange = exchange_of(Driver())
    adopted.offer(server, exchange)
    assert calls == [("verify", ("192.0.2.9", 7)), ("process", True), ("handler", True)]
    assert exchange.over


def test_one_that_is_not_verified_is_denied(host: Host) -> None:
    class Denies(socketserver.TCPServer):
        def verify_request(self, request: Any, client_address: Any) -> bool:
            return False

    exchange = exchange_of(Driver())
    exchange.hooked = True
    adopted.offer(Denies(("127.0.0.1", 0), Exchange), exchange)
    assert exchange.over
    assert exchange.denied


@pytest.mark.parametrize("kind", ["TCPServer", "ThreadingTCPServer", "HTTPServer", "ThreadingHTTPServer"])
def test_what_a_handler_raises_is_told_to_the_driver(host: Host, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError("raised")

    def fail(*arguments: Any) -> None:
        raise error

    driver = Driver()
    named: Any = getattr(socketserver, kind, None) or getattr(httpd.server, kind)
    adopted.offer(named(("127.0.0.1", 0), fail), exchange_of(driver))
    assert driver.errors == [error]
    assert capsys.readouterr().err == ""


def test_who_handles_errors_itself_is_let(host: Host) -> None:
    seen: list[BaseException | None] = []

    class Own(socketserver.ThreadingTCPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            seen.append(sys.exception())

    def fail(*arguments: Any) -> None:
        raise ValueError

    driver = Driver()
    adopted.offer(Own(("127.0.0.1", 0), fail), exchange_of(driver))  # type: ignore[arg-type]
    assert [type(error) for error in seen] == [ValueError]
    assert driver.errors == []


def test_without_an_exchange_connections_are_accepted_as_ever(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.create_connection(listener.getsockname()):
        server = socketserver.TCPServer(("127.0.0.1", 0), Exchange)
        server.socket = listener
        request, _ = server.get_request()
        with request:
            assert isinstance(request, socket.socket)


# Which servers have a say


class Name(httpd.server.ThreadingHTTPServer):
    allow_reuse_port = True
    timeout = 3

    def handle_error(self, request: Any, client_address: Any) -> None: ...

    def service_actions(self) -> None: ...


class Verifies(httpd.server.HTTPServer):
    def verify_request(self, request: Any, client_address: Any) -> bool:
        return True


class Mixed:
    def finish_request(self, request: Any, client_address: Any) -> None: ...


@pytest.mark.parametrize(
    ("kind", "has"),
    [
        (httpd.server.HTTPServer, False), (httpd.server.ThreadingHTTPServer, False), (socketserver.TCPServer, False),
        (socketserver.ThreadingTCPServer, False), (Name, False), (Verifies, True),
        (type("Both", (Mixed, httpd.server.HTTPServer), {}), True),
        (type("Below", (Verifies,), {}), True),
    ],
)  # fmt: skip
def test_hooks(kind: Any, has: bool) -> None:
    assert adopted.takes_hooks(kind) == has
