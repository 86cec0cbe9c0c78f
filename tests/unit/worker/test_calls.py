"""A mount whose requests are answered by calling something."""

from __future__ import annotations

import socketserver
from typing import Any

import pytest

from httpd.config.schema import Settings
from httpd.server.exchange import Exchange
from httpd.worker.calls import CallMount

LINE = b"GET /app/x HTTP/1.1"
HEAD = LINE + b"\r\nHost: a\r\n\r\n"


class Driver:
    def __init__(self) -> None:
        self.errors: list[BaseException] = []

    def push(self, exchange: Exchange) -> None: ...
    def take_over(self, exchange: Exchange) -> Any: ...
    def ask_socket(self, exchange: Exchange, name: str, arguments: Any) -> Any: ...
    def failed(self, exchange: Exchange, error: BaseException) -> None:
        self.errors.append(error)


class Server(socketserver.BaseServer):
    def __init__(self) -> None:
        self.handled: list[BaseException | None] = []

    def handle_error(self, request: Any, client_address: Any) -> None:
        import sys

        error = sys.exception()
        assert error is not None
        self.handled.append(error)
        request.failed(error)


def mount_of(prefix: bytes = b"/app", strip: bool = False, **settings: Any) -> CallMount:
    made = CallMount("vhost[0].handler[0]", prefix, Settings(**settings), None)
    made._strip = strip
    made.servers = [Server()]
    return made


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/app", "/app"), (b"/app/x?y", "/app/x?y"), (b"//app/x", "/app/x"), (b"////app", "/app"),
        (b"/a%70p/%2e?%20", "/a%70p/%2e?%20"), (b"*", "*"), (b"/app/\xe9", "/app/\xe9"),
    ],
)  # fmt: skip
def test_the_path_as_it_is(target: bytes, path: str) -> None:
    assert mount_of().path_for(target) == path


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"/app", "/"), (b"/app/", "/"), (b"/app?q=/a/../b", "/?q=/a/../b"), (b"/app/x", "/x"),
        (b"/app/x%20y?q", "/x%20y?q"), (b"/app//x", "/x"),
        (b"/app///evil.example", "/evil.example"), (b"/%61pp/x%20y", "/x%20y"), (b"//app/x", "/x"),
        (b"/application/../app/x", "/x"), (b"/app/../app/x", "/x"), (b"/app/./x", "/x"), (b"/app/.hidden", "/.hidden"),
        (b"/app/a%2Fb", "/a%2Fb"), (b"/app?", "/?"),
    ],
)  # fmt: skip
def test_the_path_without_the_prefix(target: bytes, path: str) -> None:
    assert mount_of(strip=True).path_for(target) == path


def test_a_prefix_beyond_ascii() -> None:
    assert mount_of("/grün".encode(), strip=True).path_for(b"/gr%C3%BCn/x") == "/x"


def test_what_the_server_answers_itself() -> None:
    mount = mount_of(methods=("PUT", "GET"))
    assert mount.refusal(405).fields == [(b"Allow", b"GET, PUT")]
    assert mount.refusal(503).fields == [(b"Retry-After", b"1")]
    assert (mount.refusal(500).status, mount.refusal(500).fields) == (500, [])
    assert mount.refuses(b"POST")
    assert not mount.refuses(b"GET")
    assert not mount_of().refuses(b"SPAM")
    assert mount.knows(b"SPAM")
    assert mount.load(b"/", 0.0, 0.0) is None


def test_how_many_may_wait() -> None:
    mount = mount_of()
    mount.limit, mount.queue = 2, 3
    assert [full for mount.active in range(7) for full in [mount.full]] == [False] * 5 + [True] * 2


def test_fields_that_the_handler_has_not_set() -> None:
    mount = mount_of(headers={"X-One": "1", "Cache-Control": "no-store"})
    head = b"HTTP/1.1 200 OK\r\nx-one: own\r\n\r\n"
    assert mount.with_extra_fields(head, head.lower()) == (
        b"HTTP/1.1 200 OK\r\nx-one: own\r\nCache-Control: no-store\r\n\r\n"
    )


# Calling it


def run(call: Any, mount: CallMount | None = None) -> tuple[Exchange, Driver, Any]:
    mount = mount or mount_of()
    mount._call = call
    driver = Driver()
    exchange = Exchange(driver, mount, HEAD, len(HEAD), LINE, "/app/x")
    exchange.client_address = ("192.0.2.1", 7)
    mount.run(exchange)
    return exchange, driver, mount.servers[0]


def test_it_is_called_as_socketserver_does() -> None:
    seen: list[Any] = []
    exchange, driver, server = run(lambda *arguments: seen.extend(arguments))
    assert seen == [exchange, ("192.0.2.1", 7), server]
    assert exchange.over
    assert exchange.returned
    assert (driver.errors, exchange.failure) == ([], None)


def test_what_it_raises_goes_to_the_server() -> None:
    error = ValueError()

    def fail(*arguments: Any) -> None:
        raise error

    exchange, driver, server = run(fail)
    assert server.handled == driver.errors == [error]
    assert exchange.failure is error
    assert exchange.over


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_what_would_end_a_process_ends_the_request(error: BaseException) -> None:
    def fail(*arguments: Any) -> None:
        raise error

    exchange, driver, server = run(fail)
    assert driver.errors == [error]
    assert server.handled == []
    assert exchange.over


def test_a_server_that_keeps_quiet_about_it() -> None:
    mount = mount_of()
    mount.servers[0].handle_error = lambda *arguments: None
    error = ValueError()

    def fail(*arguments: Any) -> None:
        raise error

    exchange, driver, _ = run(fail, mount)
    assert driver.errors == []
    assert exchange.failure is error


def test_a_server_that_fails_at_it() -> None:
    mount = mount_of()
    another = KeyError()

    def worse(*arguments: Any) -> None:
        raise another

    mount.servers[0].handle_error = worse

    def fail(*arguments: Any) -> None:
        raise ValueError

    exchange, driver, _ = run(fail, mount)
    assert driver.errors == [another]
    assert exchange.over


def test_who_has_left_while_it_waited_is_not_handled() -> None:
    called: list[object] = []
    mount = mount_of()
    mount._call = lambda *given: called.append(given)
    made = Exchange(Driver(), mount, HEAD, len(HEAD), LINE, "/app/x")
    made.lose()
    mount.run(made)
    assert made.over
    assert called == []
