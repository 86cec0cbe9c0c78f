"""`BaseHTTPRequestHandler` with a request that the loop has read: the same calls, hooks and attributes as ever."""

from __future__ import annotations

import http.client
import sys
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import pytest

from httpd.server import BaseHTTPRequestHandler
from httpd.server.exchange import Exchange
from httpd.server.headers import Headers


class Mount:
    extra_fields: tuple[Any, ...] = ()


class Driver:
    def push(self, exchange: Exchange) -> None: ...
    def take_over(self, exchange: Exchange) -> Any: ...
    def ask_socket(self, exchange: Exchange, name: str, arguments: Any) -> Any: ...
    def failed(self, exchange: Exchange, error: BaseException) -> None: ...


def exchange_of(
    line: bytes = b"GET /x HTTP/1.1", fields: bytes = b"Host: a\r\n", body: bytes = b"", **more: Any
) -> Exchange:
    head = line + b"\r\n" + fields + b"\r\n"
    made = Exchange(Driver(), Mount(), head + body, len(head), line, line.split()[1].decode())
    made.command = line.split()[0].decode()
    made.client_address = ("192.0.2.7", 4711)
    for name, value in more.items():
        setattr(made, name, value)
    return made


def ask(kind: Callable[..., Any], **options: Any) -> tuple[bytes, Exchange]:
    exchange = exchange_of(**options)
    kind(exchange, exchange.client_address, "the server")
    exchange.wfile.finish()
    return b"".join(exchange.wfile.queue), exchange  # type: ignore[arg-type]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")


def test_every_hook_is_called_once_in_its_order() -> None:
    calls: list[str] = []

    class Noting(Handler):
        pass

    def note(name: str) -> None:
        stock = getattr(BaseHTTPRequestHandler, name)

        def method(self: Any, *arguments: Any, **options: Any) -> Any:
            calls.append(name)
            return stock(self, *arguments, **options)

        setattr(Noting, name, method)

    for name in ("setup", "handle", "handle_one_request", "parse_request", "send_response", "log_request",
                 "send_response_only", "version_string", "date_time_string", "send_header", "end_headers",
                 "flush_headers", "finish"):  # fmt: skip
        note(name)
    data, _ = ask(Noting)
    assert data.endswith(b"\r\n\r\nok")
    assert calls == [
        "setup", "handle", "handle_one_request", "parse_request", "send_response", "log_request", "send_response_only",
        "version_string", "send_header", "date_time_string", "send_header", "send_header", "end_headers",
        "flush_headers", "finish",
    ]  # fmt: skip


def test_the_attributes() -> None:
    seen: dict[str, Any] = {}

    class Looking(Handler):
        def do_PUT(self) -> None:
            seen.update(self.__dict__, body=self.rfile.read(), server_given=self.server)
            self.do_GET()

    _, exchange = ask(
        Looking, line=b"PUT /a%20b?q=1 HTTP/1.1", fields=b"Host: a\r\nContent-Length: 4\r\n", body=b"body"
    )
    assert (seen["command"], seen["path"], seen["request_version"]) == ("PUT", "/a%20b?q=1", "HTTP/1.1")
    assert seen["requestline"] == "PUT /a%20b?q=1 HTTP/1.1"
    assert seen["raw_requestline"] == b"PUT /a%20b?q=1 HTTP/1.1\r\n"
    assert (seen["client_address"], seen["server_given"]) == (("192.0.2.7", 4711), "the server")
    assert seen["body"] == b"body"
    assert isinstance(seen["headers"], http.client.HTTPMessage)
    assert seen["headers"]["content-length"] == "4"
    assert seen["connection"] is seen["request"] is exchange
    assert exchange.settled
    assert not exchange.close_connection


@pytest.mark.parametrize(
    ("protocol", "http11", "keep_alive", "stays"),
    [
        ("HTTP/1.1", False, True, True), ("HTTP/1.1", False, False, False), ("HTTP/1.0", False, True, False),
        ("HTTP/1.0", True, True, True), ("HTTP/1.0", True, False, False),
    ],
)  # fmt: skip
def test_who_decides_about_the_connection(protocol: str, http11: bool, keep_alive: bool, stays: bool) -> None:
    class Of(Handler):
        protocol_version = protocol

    data, exchange = ask(Of, http11=http11, keep_alive=keep_alive)
    assert exchange.close_connection != stays
    assert data.startswith(b"HTTP/1.1" if http11 or protocol == "HTTP/1.1" else b"HTTP/1.0")


@pytest.mark.parametrize(("value", "closes"), [("close", True), ("CLOSE", True), ("keep-alive", False)])
def test_send_header_decides_too(value: str, closes: bool) -> None:
    class Of(Handler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Connection", value)
            self.send_header("Content-Length", "0")
            self.end_headers()

    assert ask(Of)[1].close_connection == closes


def test_asking_for_another_request_is_noted() -> None:
    class Loops(Handler):
        def handle(self) -> None:
            self.close_connection = False
            while not self.close_connection:
                self.handle_one_request()

    _, exchange = ask(Loops)
    assert exchange.asked_again


def test_a_parse_request_of_its_own() -> None:
    class Rewrites(Handler):
        def parse_request(self) -> bool:
            self.raw_requestline = self.raw_requestline.replace(b"/x", b"/rewritten")
            return super().parse_request()

        def do_GET(self) -> None:
            body = self.path.encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    assert ask(Rewrites)[0].endswith(b"\r\n\r\n/rewritten")


def test_a_message_class_of_its_own() -> None:
    class Own(http.client.HTTPMessage):
        pass

    class Of(Handler):
        MessageClass = Own

        def do_GET(self) -> None:
            assert type(self.headers) is Own
            assert self.headers["Host"] == "a"
            super().do_GET()

    assert ask(Of)[0].endswith(b"ok")
    assert Handler.MessageClass is http.client.HTTPMessage
    assert issubclass(Headers, http.client.HTTPMessage)


@pytest.mark.parametrize("method", ["SPAM", "M-SEARCH", "get"])
def test_methods_are_looked_up_on_the_instance(method: str) -> None:
    class Any_(Handler):  # noqa: N801
        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return self.do_GET
            raise AttributeError(name)

    assert ask(Any_, line=f"{method} /x HTTP/1.1".encode())[0].endswith(b"ok")
    data, _ = ask(Handler, line=f"{method} /x HTTP/1.1".encode())
    assert data.startswith(f"HTTP/1.1 501 Unsupported method ('{method}')".encode())


# Fields that could break out


@pytest.mark.parametrize("text", ["a\r\nb", "a\nb", "a\rb", "a\0b"])
@pytest.mark.parametrize("where", ["value", "name", "reason"])
def test_line_breaks_are_refused(text: str, where: str) -> None:
    class Of(Handler):
        def do_GET(self) -> None:
            self.send_response(200, text if where == "reason" else None)
            self.send_header(text if where == "name" else "X", text if where == "value" else "y")

    with pytest.raises(ValueError, match="line break"):
        ask(Of)


@pytest.mark.parametrize("value", ["tab\there", "größe", "\x7f", 7, ""])
def test_others_are_not(value: Any) -> None:
    class Of(Handler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("X", value)
            self.end_headers()

    assert f"\r\nX: {value}\r\n".encode("latin-1") in ask(Of)[0]


def test_a_server_version_with_a_line_break_is_refused_as_well() -> None:
    class Of(Handler):
        server_version = "a\r\nSet-Cookie: b"

    with pytest.raises(ValueError, match="line break"):
        ask(Of)


# Server and Date


def test_server_and_date_are_the_class_s() -> None:
    class Of(Handler):
        server_version = "Mine/1"
        sys_version = ""

        def date_time_string(self, timestamp: float | None = None) -> str:
            return "some day"

    head = ask(Of)[0]
    assert b"\r\nServer: Mine/1 \r\nDate: some day\r\n" in head


def test_both_are_in_every_answer_and_of_each_class_its_own() -> None:
    class Other(Handler):
        server_version = "Other/2"

    for kind, name in ((Handler, "BaseHTTP/0.6"), (Other, "Other/2"), (Handler, "BaseHTTP/0.6")):
        head = ask(kind)[0]
        assert f"\r\nServer: {name} Python/{sys.version.split()[0]}\r\nDate: ".encode() in head


# Errors


@pytest.mark.parametrize(("code", "body"), [(404, True), (204, False), (304, False), (HTTPStatus.GONE, True)])
def test_send_error(code: int, body: bool) -> None:
    class Of(Handler):
        def do_GET(self) -> None:
            self.send_error(code)

    data, exchange = ask(Of)
    assert exchange.close_connection
    assert data.startswith(f"HTTP/1.1 {int(code)} ".encode())
    assert (b"Error response" in data) == body


# Expect


@pytest.mark.parametrize(("protocol", "sent"), [("HTTP/1.1", True), ("HTTP/1.0", False)])
def test_expect_in_a_stream(protocol: str, sent: bool) -> None:
    class Of(Handler):
        protocol_version = protocol

    assert ask(Of, expect=True)[0].startswith(b"HTTP/1.1 100 Continue\r\n\r\n") == sent


def test_a_handler_may_decide_about_it() -> None:
    class Of(Handler):
        def handle_expect_100(self) -> bool:
            self.send_error(417)
            return False

    assert ask(Of, expect=True)[0].startswith(b"HTTP/1.1 417 ")


# Logs


def test_the_default_log_is_silent_and_another_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []

    class Logs(Handler):
        def log_message(self, format: str, *arguments: Any) -> None:  # noqa: A002
            lines.append(format % arguments)

    ask(Handler)
    ask(Logs)
    assert lines == ['"GET /x HTTP/1.1" 200 -']
    assert capsys.readouterr().err == ""


def test_errors_are_logged_by_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    ask(Handler, line=b"SPAM /x HTTP/1.1")
    assert "code 501, message Unsupported method ('SPAM')" in capsys.readouterr().err


def test_a_handle_one_request_of_its_own() -> None:
    class Reads(Handler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537).replace(b"/x", b"/other")
            if self.raw_requestline and self.parse_request():
                self.do_GET()
            else:
                self.close_connection = True

        def do_GET(self) -> None:
            assert self.path == "/other"
            assert self.headers["Host"] == "a"
            super().do_GET()

    assert ask(Reads)[0].endswith(b"ok")
