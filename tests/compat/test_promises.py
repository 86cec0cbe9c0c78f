"""What http.server promises, in its manual or by what code relies on, asked of it and of httpd.server alike."""

from __future__ import annotations

import email.message
import functools
import http.client
import http.server
import io
import re
import socket
import socketserver
import sys
import threading
import time
from http import HTTPStatus
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

import httpd.server
from compat.playing import LIMIT, connect, get, playing, quiet, receive, receive_until, send, split

assert http.server is not httpd.server


@pytest.fixture(params=[http.server, httpd.server], ids=lambda module: module.__name__)
def lib(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(socket, "getfqdn", lambda name="": name)  # http.server asks name servers
    return request.param  # type: ignore[no-any-return]


# Servers


def test_what_a_server_knows(lib: Any) -> None:
    handler = quiet(lib)
    with lib.HTTPServer(("127.0.0.1", 0), handler) as server:
        assert isinstance(server, socketserver.TCPServer)
        assert server.server_address == server.socket.getsockname()
        assert (server.server_name, server.server_port) == ("127.0.0.1", server.server_address[1])
        assert server.RequestHandlerClass is handler
        assert (server.request_queue_size, server.timeout, server.address_family) == (5, None, socket.AF_INET)
        assert server.allow_reuse_address
        assert server.fileno() == server.socket.fileno()
    assert server.fileno() == -1


def test_the_threading_server_is_made_of_the_mixin(lib: Any) -> None:
    assert issubclass(lib.ThreadingHTTPServer, socketserver.ThreadingMixIn)
    assert issubclass(lib.ThreadingHTTPServer, lib.HTTPServer)
    assert lib.ThreadingHTTPServer.daemon_threads
    assert lib.ThreadingHTTPServer.block_on_close


def test_binding_by_hand(lib: Any) -> None:
    with lib.HTTPServer(("127.0.0.1", 0), quiet(lib), bind_and_activate=False) as server:
        assert not hasattr(server, "server_port")
        server.server_bind()
        server.server_activate()
        connect(server).close()


def test_a_port_that_is_taken(lib: Any) -> None:
    with lib.HTTPServer(("127.0.0.1", 0), quiet(lib)) as server, pytest.raises(OSError, match="in use"):
        lib.HTTPServer(server.server_address, quiet(lib))


def test_one_request_at_a_time_by_hand(lib: Any) -> None:
    handler = quiet(lib)
    handler.do_GET = lambda self: self.reply(self.path.encode())
    with lib.HTTPServer(("127.0.0.1", 0), handler) as server, connect(server) as one, connect(server) as two:
        one.sendall(b"GET /one HTTP/1.0\r\n\r\n")
        two.sendall(b"GET /two HTTP/1.0\r\n\r\n")
        server.handle_request()
        assert receive(one).endswith(b"/one")
        two.setblocking(False)
        with pytest.raises(BlockingIOError):
            two.recv(1)
        two.settimeout(LIMIT)
        server.handle_request()
        assert receive(two).endswith(b"/two")


def test_handle_request_gives_up_in_time(lib: Any) -> None:
    class Server(lib.HTTPServer):  # type: ignore[misc]
        timeout = 0.01
        given_up = 0

        def handle_timeout(self) -> None:
            self.given_up += 1

    with Server(("127.0.0.1", 0), quiet(lib)) as server:
        server.handle_request()
        server.handle_request()
        assert server.given_up == 2


def test_service_actions_are_called(lib: Any) -> None:
    called = threading.Event()

    class Server(lib.HTTPServer):  # type: ignore[misc]
        def service_actions(self) -> None:
            called.set()

    with playing(lib, quiet(lib), Server):
        assert called.wait(LIMIT)


def test_the_hooks_of_a_server_and_their_order(lib: Any) -> None:
    called: list[str] = []
    done = threading.Event()

    class Server(lib.HTTPServer):  # type: ignore[misc]
        pass

    def note(name: str) -> None:
        def method(self: Any, *arguments: Any) -> Any:
            called.append(name)
            result = getattr(super(Server, self), name)(*arguments)
            if name == "close_request":
                done.set()
            return result

        setattr(Server, name, method)

    for name in ("get_request", "verify_request", "process_request", "finish_request", "shutdown_request",
                 "close_request", "server_bind", "server_activate"):  # fmt: skip
        note(name)
    handler = quiet(lib)
    handler.do_GET = lambda self: self.reply(b"")
    with playing(lib, handler, Server) as server:
        send(server, b"GET / HTTP/1.0\r\n\r\n")
        assert done.wait(LIMIT)
    assert called == ["server_bind", "server_activate", "get_request", "verify_request", "process_request",
                      "finish_request", "shutdown_request", "close_request"]  # fmt: skip


@pytest.mark.parametrize("kind", ["HTTPServer", "ThreadingHTTPServer"])
def test_a_connection_that_is_not_wanted(lib: Any, kind: str) -> None:
    class Server(getattr(lib, kind)):  # type: ignore[misc]
        def verify_request(self, request: Any, client_address: Any) -> bool:
            return False

    with playing(lib, quiet(lib), Server) as server:
        assert send(server) == b""


@pytest.mark.parametrize("kind", ["HTTPServer", "ThreadingHTTPServer"])
def test_what_a_handler_raises_reaches_handle_error(lib: Any, kind: str) -> None:
    errors: list[Any] = []

    class Server(getattr(lib, kind)):  # type: ignore[misc]
        def handle_error(self, request: Any, client_address: Any) -> None:
            errors.append((sys.exc_info()[1], client_address))

    def fail(self: Any) -> None:
        raise ZeroDivisionError

    handler = quiet(lib)
    handler.do_GET = fail
    with playing(lib, handler, Server) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert receive(client) == b""
        address = client.getsockname()
    (error, given), = errors  # fmt: skip
    assert isinstance(error, ZeroDivisionError)
    assert given == address


def test_the_traceback_of_a_handler(lib: Any, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(self: Any) -> None:
        raise ZeroDivisionError("of mine")

    handler = quiet(lib)
    handler.do_GET = fail
    get(lib, handler, kind=lib.HTTPServer)
    assert "ZeroDivisionError: of mine" in capsys.readouterr().err


def test_requests_of_their_own_making(lib: Any) -> None:
    """get_request may give something else than a socket that was just accepted."""

    class Wrapped:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    class Server(lib.HTTPServer):  # type: ignore[misc]
        def get_request(self) -> Any:
            sock, address = super().get_request()
            return Wrapped(sock), address

    handler = quiet(lib)
    handler.do_GET = lambda self: self.reply(type(self.request).__name__.encode())
    assert get(lib, handler, kind=Server).endswith(b"Wrapped")


def test_shutdown_from_a_handler(lib: Any) -> None:
    def stop(self: Any) -> None:
        threading.Thread(target=self.server.shutdown).start()
        self.reply(b"bye")

    handler = quiet(lib)
    handler.do_POST = stop
    server = lib.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    assert send(server, b"POST / HTTP/1.0\r\n\r\n").endswith(b"bye")
    thread.join(LIMIT)
    assert not thread.is_alive()
    server.server_close()


def test_a_server_can_serve_again(lib: Any) -> None:
    handler = quiet(lib)
    handler.do_GET = lambda self: self.reply(b"again")
    server = lib.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    for _ in range(2):
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        assert send(server, b"GET / HTTP/1.0\r\n\r\n").endswith(b"again")
        server.shutdown()
        thread.join(LIMIT)
    server.server_close()


def test_state_of_the_server(lib: Any) -> None:
    def count(self: Any) -> None:
        self.server.count += 1
        self.reply(b"%d" % self.server.count)

    handler = quiet(lib)
    handler.do_GET = count
    with playing(lib, handler) as server:
        server.count = 5
        send(server, b"GET / HTTP/1.0\r\n\r\n")
        assert send(server, b"GET / HTTP/1.0\r\n\r\n").endswith(b"7")


@pytest.mark.parametrize("how", ["class", "partial", "lambda", "function"])
def test_anything_that_can_be_called_is_a_handler(lib: Any, how: str) -> None:
    class Handler(quiet(lib)):  # type: ignore[misc]
        def __init__(self, *arguments: Any, word: str = "class", **options: Any) -> None:
            self.word = word
            super().__init__(*arguments, **options)

        def do_GET(self) -> None:
            self.reply(self.word.encode())

    def function(request: Any, client_address: Any, server: Any) -> Any:
        return Handler(request, client_address, server, word="function")

    handlers = {
        "class": Handler, "partial": functools.partial(Handler, word="partial"),
        "lambda": lambda *arguments: Handler(*arguments, word="lambda"), "function": function,
    }  # fmt: skip
    assert get(lib, handlers[how]).endswith(how.encode())


def test_a_handler_under_a_plain_tcp_server(lib: Any) -> None:
    """The manual's own example."""
    handler = quiet(lib)
    handler.do_GET = lambda self: self.reply(b"plain")
    assert get(lib, handler, kind=socketserver.TCPServer).endswith(b"plain")


@pytest.mark.parametrize("mixin", [socketserver.ThreadingMixIn])
def test_a_server_with_the_mixin_of_old(lib: Any, mixin: Any) -> None:
    kind = type("Server", (mixin, lib.HTTPServer), {})
    handler = quiet(lib)
    handler.do_GET = lambda self: self.reply(b"old")
    assert get(lib, handler, kind=kind).endswith(b"old")


# A request


def test_what_a_handler_knows(lib: Any) -> None:
    seen: list[Any] = []

    class Handler(quiet(lib)):  # type: ignore[misc]
        def do_GET(self) -> None:
            seen.append(self)
            self.reply(b"")

    with playing(lib, Handler) as server, connect(server) as client:
        client.sendall(b"GET /a?b HTTP/1.0\r\nX: y\r\n\r\n")
        receive(client)
        handler = seen[0]
        assert handler.client_address == client.getsockname()
        assert handler.server is server
    assert (handler.requestline, handler.raw_requestline) == ("GET /a?b HTTP/1.0", b"GET /a?b HTTP/1.0\r\n")
    assert (handler.command, handler.path, handler.request_version) == ("GET", "/a?b", "HTTP/1.0")
    assert handler.close_connection is True
    assert handler.request is handler.connection
    assert isinstance(handler.headers, http.client.HTTPMessage)
    assert isinstance(handler.rfile, io.BufferedIOBase)
    assert isinstance(handler.wfile, io.BufferedIOBase)


def test_the_hooks_of_a_handler_and_their_order(lib: Any) -> None:
    called: list[str] = []

    class Handler(lib.BaseHTTPRequestHandler):  # type: ignore[misc]
        def do_GET(self) -> None:
            called.append("do_GET")
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def note(name: str) -> None:
        def method(self: Any, *arguments: Any, **options: Any) -> Any:
            called.append(name)
            return getattr(super(Handler, self), name)(*arguments, **options) if name != "log_message" else None

        setattr(Handler, name, method)

    for name in ("setup", "handle", "handle_one_request", "parse_request", "send_response", "send_response_only",
                 "send_header", "end_headers", "flush_headers", "log_request", "log_message", "version_string",
                 "date_time_string", "finish"):  # fmt: skip
        note(name)
    with playing(lib, Handler, lib.HTTPServer) as server:
        send(server, b"GET / HTTP/1.0\r\n\r\n")
    assert called == [
        "setup", "handle", "handle_one_request", "parse_request", "do_GET", "send_response", "log_request",
        "log_message", "send_response_only", "version_string", "send_header", "date_time_string", "send_header",
        "send_header", "end_headers", "flush_headers", "finish",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("get", "one"), ("getitem", "one"), ("missing", None), ("in", True), ("not in", False),
        ("all", ["one", "two"]), ("items", [("X-A", "one"), ("x-a", "two"), ("Content-Type", "text/html; charset=x")]),
        ("keys", ["X-A", "x-a", "Content-Type"]), ("type", "text/html"), ("charset", "x"), ("len", 3),
        ("default", "given"), ("str", "X-A: one\nx-a: two\nContent-Type: text/html; charset=x\n\n"),
    ],
)  # fmt: skip
def test_fields_are_a_message(lib: Any, name: str, expected: Any) -> None:
    looks = {
        "get": lambda m: m.get("x-A"), "getitem": lambda m: m["X-a"], "missing": lambda m: m["nothing"],
        "in": lambda m: "CONTENT-TYPE" in m, "not in": lambda m: "nothing" in m, "all": lambda m: m.get_all("x-a"),
        "items": lambda m: m.items(), "keys": list, "type": lambda m: m.get_content_type(),
        "charset": lambda m: m.get_content_charset(), "len": len, "default": lambda m: m.get("nothing", "given"),
        "str": str,
    }  # fmt: skip
    found: list[Any] = []
    handler = quiet(lib)
    handler.do_GET = lambda self: (found.append(looks[name](self.headers)), self.reply(b""))
    get(lib, handler, "/", "X-A: one", "x-a:two", "Content-Type: text/html; charset=x")
    assert found == [expected]


def test_fields_can_be_changed(lib: Any) -> None:
    """Django drops those with an underscore while it goes through them."""
    found: list[Any] = []

    class Handler(quiet(lib)):  # type: ignore[misc]
        def do_GET(self) -> None:
            assert isinstance(self.headers, email.message.Message)
            for name in self.headers:
                if "_" in name:
                    del self.headers[name]
            self.headers["X-New"] = "n"
            self.headers.replace_header("Host", "other")
            self.headers.add_header("X-Par", "v", a="b")
            found.extend(self.headers.items())
            self.reply(b"")

    get(lib, Handler, "/", "Host: h", "X_A: 1", "X-B: 2")
    assert found == [("Host", "other"), ("X-B", "2"), ("X-New", "n"), ("X-Par", 'v; a="b"')]


def test_a_class_for_messages(lib: Any) -> None:
    class Own(email.message.Message):
        pass

    handler = quiet(lib)
    handler.MessageClass = Own
    handler.do_GET = lambda self: self.reply(f"{type(self.headers).__name__} {self.headers['a']}".encode())
    assert get(lib, handler, "/", "A: b").endswith(b"Own b")


# Which method


def test_methods_by_name(lib: Any) -> None:
    handler = quiet(lib)
    handler.do_SPAM = lambda self: self.reply(b"spam")
    assert get(lib, handler, method="SPAM").endswith(b"spam")


@pytest.mark.parametrize("method", ["GET", "spam", "SPAMS"])
def test_methods_that_are_not_there(lib: Any, method: str) -> None:
    handler = quiet(lib)
    handler.do_SPAM = lambda self: self.reply(b"spam")
    assert get(lib, handler, method=method).startswith(f"HTTP/1.0 501 Unsupported method ('{method}')\r\n".encode())


def test_methods_by_getattr(lib: Any) -> None:
    """werkzeug answers every method so."""

    class Handler(quiet(lib)):  # type: ignore[misc]
        def __getattr__(self, name: str) -> Any:
            if name.startswith("do_"):
                return lambda: self.reply(name.encode())
            raise AttributeError(name)

    assert get(lib, Handler, method="WHAT-EVER").endswith(b"do_WHAT-EVER")


def test_methods_of_an_instance(lib: Any) -> None:
    class Handler(quiet(lib)):  # type: ignore[misc]
        def setup(self) -> None:
            super().setup()
            self.do_GET = lambda: self.reply(b"mine")

    assert get(lib, Handler).endswith(b"mine")


# Connections


def echo(lib: Any, version: str = "HTTP/1.1") -> Any:
    class Echo(quiet(lib)):  # type: ignore[misc]
        protocol_version = version

        def do_GET(self) -> None:
            self.reply(f"[{id(self)} {self.path}]".encode())

        def do_POST(self) -> None:
            self.reply(b"[" + self.rfile.read(int(self.headers["Content-Length"])) + b"]")

        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "10")
            self.end_headers()

    return Echo


def test_http_10_closes(lib: Any) -> None:
    with playing(lib, echo(lib, "HTTP/1.0")) as server:
        answer = send(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert answer.count(b"HTTP/1.0 200") == 1


def test_http_11_stays(lib: Any) -> None:
    with playing(lib, echo(lib)) as server, connect(server) as client:
        answers = []
        for _ in range(3):
            client.sendall(b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n")
            answers.append(split(receive_until(client, b"]"))[2])
    assert len(set(answers)) == 1  # of one object


def test_requests_in_a_row(lib: Any) -> None:
    request = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    with playing(lib, echo(lib)) as server:
        answer = send(server, request % 1 + request % 2 + b"GET /3 HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert re.findall(rb" /(\d)\]", answer) == [b"1", b"2", b"3"]


def test_a_client_that_stays_with_http_10(lib: Any) -> None:
    with playing(lib, echo(lib)) as server, connect(server) as client:
        for _ in range(2):
            client.sendall(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            receive_until(client, b"]")


def test_posts_and_heads_on_one_connection(lib: Any) -> None:
    with playing(lib, echo(lib)) as server:
        connection = http.client.HTTPConnection(*server.server_address, timeout=LIMIT)
        for body in (b"one", b"", b"x" * 100_000):
            connection.request("POST", "/", body)
            assert connection.getresponse().read() == b"[" + body + b"]"
        connection.request("HEAD", "/")
        response = connection.getresponse()
        assert (response.headers["Content-Length"], response.read()) == ("10", b"")
        connection.close()


@pytest.mark.parametrize("value", ["close", "Close"])
def test_a_handler_ends_the_connection(lib: Any, value: str) -> None:
    handler = echo(lib)
    handler.do_GET = lambda self: self.reply(b"last", ("Connection", value))
    with playing(lib, handler) as server:
        assert send(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"last")


def test_a_handler_keeps_the_connection(lib: Any) -> None:
    handler = echo(lib, "HTTP/1.0")
    handler.do_GET = lambda self: self.reply(b"more", ("Connection", "keep-alive"))
    with playing(lib, handler) as server, connect(server) as client:
        for _ in range(2):
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            receive_until(client, b"more")


def test_the_timeout_of_a_class(lib: Any) -> None:
    lines: list[str] = []

    class Handler(echo(lib)):  # type: ignore[misc]
        timeout = 0.02

        def log_error(self, format: str, *arguments: Any) -> None:  # noqa: A002
            lines.append(format % arguments)

    with playing(lib, Handler) as server:
        assert send(server, b"GET / HT") == b""
    assert lines == ["Request timed out: TimeoutError('timed out')"]


def test_expect(lib: Any) -> None:
    with playing(lib, echo(lib)) as server, connect(server) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
        assert receive_until(client, b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(b"abc")
        assert receive_until(client, b"]").endswith(b"[abc]")


def test_an_expectation_that_is_refused(lib: Any) -> None:
    def refuse(self: Any) -> bool:
        self.send_error(417)
        return False

    handler = echo(lib)
    handler.handle_expect_100 = refuse
    with playing(lib, handler) as server:
        answer = send(server, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert split(answer)[:2][0] == "HTTP/1.1 417 Expectation Failed"


def test_a_request_that_a_class_has_answered_itself(lib: Any) -> None:
    class Handler(echo(lib)):  # type: ignore[misc]
        def parse_request(self) -> bool:
            assert super().parse_request()
            self.reply(b"from parse_request")
            self.close_connection = True
            return False

    with playing(lib, Handler) as server:
        assert send(server, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").endswith(b"from parse_request")


def test_a_loop_of_its_own(lib: Any) -> None:
    """handle_one_request as Django writes it."""

    class Handler(echo(lib)):  # type: ignore[misc]
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline:
                self.close_connection = True
            elif self.parse_request():
                getattr(self, "do_" + self.command)()

    with playing(lib, Handler) as server, connect(server) as client:
        for _ in range(2):
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
            receive_until(client, b"[abc]")


def test_a_socket_that_is_taken_over(lib: Any) -> None:
    def take(self: Any) -> None:
        self.send_response(101)
        self.end_headers()
        self.wfile.flush()
        self.connection.sendall(b"<")
        data = self.rfile.read(5)
        self.request.sendall(data + b">")
        self.close_connection = True

    handler = echo(lib)
    handler.do_GET = take
    with playing(lib, handler) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n")
        receive_until(client, b"<")
        client.sendall(b"hello")
        assert receive(client) == b"hello>"


def test_the_socket_itself_behind_a_head(lib: Any) -> None:
    def write(self: Any) -> None:
        self.send_response(200)
        self.end_headers()
        self.connection.sendall(b"past wfile")

    handler = echo(lib, "HTTP/1.0")
    handler.do_GET = write
    assert split(get(lib, handler))[2] == b"past wfile"


def test_a_head_arrives_although_the_body_takes_its_time(lib: Any) -> None:
    go = threading.Event()

    def slow(self: Any) -> None:
        self.send_response(200)
        self.end_headers()
        assert go.wait(LIMIT)
        self.wfile.write(b"at last")

    handler = echo(lib, "HTTP/1.0")
    handler.do_GET = slow
    with playing(lib, handler) as server, connect(server) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        receive_until(client, b"\r\n\r\n")
        go.set()
        assert receive(client) == b"at last"


def test_a_stream(lib: Any) -> None:
    def stream(self: Any) -> None:
        self.send_response(200)
        self.end_headers()
        for number in range(1000):
            self.wfile.write(b"%04d" % number)

    handler = echo(lib, "HTTP/1.0")
    handler.do_GET = stream
    assert split(get(lib, handler))[2] == b"".join(b"%04d" % number for number in range(1000))


def test_much_at_once(lib: Any) -> None:
    handler = echo(lib, "HTTP/1.0")
    handler.do_GET = lambda self: self.reply(b"x" * 5_000_000)
    assert split(get(lib, handler))[2] == b"x" * 5_000_000


@pytest.mark.parametrize("data", [bytearray(b"data"), memoryview(b"data")])
def test_what_can_be_written(lib: Any, data: Any) -> None:
    written: list[int] = []

    def write(self: Any) -> None:
        self.send_response(200)
        self.end_headers()
        written.append(self.wfile.write(data))

    handler = echo(lib, "HTTP/1.0")
    handler.do_GET = write
    assert split(get(lib, handler))[2] == b"data"
    assert written == [4]


def test_a_buffer_for_writing(lib: Any) -> None:
    """As xmlrpc has it."""

    class Handler(echo(lib, "HTTP/1.0")):  # type: ignore[misc]
        wbufsize = -1
        disable_nagle_algorithm = True

    assert isinstance(split(get(lib, Handler))[2], bytes)
    assert get(lib, Handler).endswith(b"/]")


def test_an_rfile_of_its_own(lib: Any) -> None:
    class Handler(echo(lib, "HTTP/1.0")):  # type: ignore[misc]
        def setup(self) -> None:
            super().setup()
            self.rfile = io.BytesIO(b"GET /other HTTP/1.0\r\n\r\n")

    assert b"/other]" in get(lib, Handler)


# Answers


def test_the_head_of_an_answer(lib: Any) -> None:
    handler = echo(lib, "HTTP/1.0")
    handler.server_version, handler.sys_version = "Mine/1", "Sys/2"
    head = get(lib, handler).partition(b"\r\n\r\n")[0].decode()
    date = r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"
    pattern = rf"HTTP/1.0 200 OK\r\nServer: Mine/1 Sys/2\r\nDate: {date}\r\nContent-Length: \d+"
    assert re.fullmatch(pattern, head)


class Sink:
    """Notes what is written."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.writes.append(data)

    @property
    def text(self) -> bytes:
        return b"".join(self.writes)


def alone(lib: Any, base: str = "BaseHTTPRequestHandler", **more: Any) -> Any:
    """A handler without a client, made as tests make them: everything is None or a mock."""
    request = mock.Mock()
    request.makefile.return_value = io.BytesIO()
    made = quiet(lib, base)(request, None, None, **more)
    made.wfile = Sink()
    made.request_version = "HTTP/1.1"
    made.requestline = ""
    made.command = "GET"
    return made


@pytest.mark.parametrize(
    ("code", "message", "line"),
    [(200, None, b"200 OK"), (HTTPStatus.NOT_FOUND, None, b"404 Not Found"), (299, None, b"299 "),
     (200, "Fine", b"200 Fine"), (404, "\xe4", b"404 \xe4")],
)  # fmt: skip
def test_status_lines(lib: Any, code: int, message: str | None, line: bytes) -> None:
    handler = alone(lib)
    handler.send_response_only(code, message)
    handler.end_headers()
    assert handler.wfile.text == b"HTTP/1.0 " + line + b"\r\n\r\n"


@pytest.mark.parametrize(("value", "line"), [("v", b"N: v"), (5, b"N: 5"), (None, b"N: None"), ("\xe9", b"N: \xe9")])
def test_values_of_fields(lib: Any, value: Any, line: bytes) -> None:
    handler = alone(lib)
    handler.send_header("N", value)
    handler.end_headers()
    assert handler.wfile.writes == [line + b"\r\n\r\n"]


def test_a_field_that_cannot_be_sent(lib: Any) -> None:
    with pytest.raises(UnicodeEncodeError):
        alone(lib).send_header("N", "\u20ac")


def test_nothing_is_written_before_the_end_of_the_head(lib: Any) -> None:
    handler = alone(lib)
    handler.send_response(200)
    handler.send_header("A", "b")
    assert handler.wfile.writes == []
    handler.end_headers()
    assert len(handler.wfile.writes) == 1


def test_the_lines_of_a_head_can_be_looked_at_and_changed(lib: Any) -> None:
    """uploadserver and many others do so in end_headers."""

    class Handler(quiet(lib)):  # type: ignore[misc]
        def end_headers(self) -> None:
            buffer = self._headers_buffer
            assert isinstance(buffer, list)
            assert any(b"content-length" in line.lower() for line in buffer)
            buffer[:] = [line.replace(b"Content-Length", b"CONTENT-LENGTH") for line in buffer]
            buffer.append("X-Snow: \u2603\r\n".encode())
            super().end_headers()

        def do_GET(self) -> None:
            self.reply(b"ab")

    answer = get(lib, Handler)
    assert b"\r\nCONTENT-LENGTH: 2\r\nX-Snow: \xe2\x98\x83\r\n\r\nab" in answer


def test_flush_headers_of_an_instance(lib: Any) -> None:
    handler = alone(lib)
    flushed: list[bytes] = []
    setattr(handler, "flush_headers", lambda: flushed.append(b"".join(handler._headers_buffer)))  # noqa: B010
    handler.send_header("A", "b")
    handler.end_headers()
    assert (flushed, handler.wfile.writes) == ([b"A: b\r\n\r\n"], [])


def test_flushing_an_unfinished_head(lib: Any) -> None:
    """As CGI does it: the script writes the rest."""
    handler = alone(lib)
    handler.send_response_only(200)
    handler.flush_headers()
    handler.flush_headers()
    assert handler.wfile.text == b"HTTP/1.0 200 OK\r\n"


def test_http_09_has_no_head(lib: Any) -> None:
    handler = alone(lib)
    handler.request_version = "HTTP/0.9"
    handler.send_response(200)
    handler.send_header("A", "b")
    handler.end_headers()
    assert handler.wfile.writes == []


# Errors


@pytest.mark.parametrize(
    ("arguments", "status", "texts"),
    [
        ((404,), "404 Not Found", ("Error code: 404", "Message: Not Found.", "404 - Nothing matches the given URI")),
        ((404, "Gone away"), "404 Gone away", ("Message: Gone away.", "404 - Nothing matches the given URI")),
        ((500, "A", "B"), "500 A", ("Message: A.", "Error code explanation: 500 - B.")),
        ((999,), "999 ???", ("Message: ???.", "999 - ???.")),
        ((400, "<b>&\""), "400 <b>&\"", ("Message: &lt;b&gt;&amp;\".",)),
    ],
)
def test_errors(lib: Any, arguments: Any, status: str, texts: tuple[str, ...]) -> None:
    handler = alone(lib)
    handler.close_connection = False
    handler.send_error(*arguments)
    assert len(handler.wfile.writes) == 2
    line, fields, body = split(handler.wfile.text)
    assert line == "HTTP/1.0 " + status
    assert fields == ["Connection: close", "Content-Type: text/html;charset=utf-8", f"Content-Length: {len(body)}"]
    assert all(text in body.decode() for text in texts)
    assert handler.close_connection


@pytest.mark.parametrize("code", [100, 204, 205, 304])
def test_errors_without_a_body(lib: Any, code: int) -> None:
    handler = alone(lib)
    handler.send_error(code)
    assert split(handler.wfile.text)[1:] == (["Connection: close"], b"")


def test_an_error_for_head(lib: Any) -> None:
    handler = alone(lib)
    handler.command = "HEAD"
    handler.send_error(404)
    _, fields, body = split(handler.wfile.text)
    assert (len(fields), body) == (3, b"")


def test_an_error_page_of_its_own(lib: Any) -> None:
    handler = alone(lib)
    handler.error_message_format = "%(code)d|%(message)s|%(explain)s"
    handler.error_content_type = "text/plain"
    handler.responses = {**handler.responses, 404: ("Nope", "no such thing")}
    handler.send_error(404)
    assert split(handler.wfile.text)[1:] == (
        ["Connection: close", "Content-Type: text/plain", "Content-Length: 22"], b"404|Nope|no such thing"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET / FUBAR\r\n\r\n", 400), (b"GET / HTTP/9.9.9\r\n\r\n", 400), (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"GET /a b HTTP/1.0\r\n\r\n", 400), (b"GET\r\n\r\n", 400), (b"POST /\r\n\r\n", 400),
        (b"GET /" + b"x" * 65536 + b" HTTP/1.0\r\n\r\n", 414),
        (b"GET / HTTP/1.0\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.0\r\nX: " + b"y" * 65536 + b"\r\n\r\n", 431),
    ],
)  # fmt: skip
def test_requests_that_are_none(lib: Any, request_: bytes, status: int) -> None:
    handler = alone(lib)
    handler.default_request_version = "HTTP/1.1"
    handler.rfile = io.BytesIO(request_)
    handler.handle_one_request()
    assert handler.wfile.text.startswith(b"HTTP/1.0 %d " % status)


# Logs


def logged(lib: Any, capsys: pytest.CaptureFixture[str], request: bytes, **attributes: Any) -> str:
    class Handler(lib.BaseHTTPRequestHandler):  # type: ignore[misc]
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

    for name, value in attributes.items():
        setattr(Handler, name, value)
    with playing(lib, Handler, lib.HTTPServer) as server:
        send(server, request)
    return capsys.readouterr().err


def test_a_line_of_the_log(lib: Any, capsys: pytest.CaptureFixture[str]) -> None:
    line = logged(lib, capsys, b"GET /a?b HTTP/1.0\r\n\r\n")
    assert re.fullmatch(
        r'127\.0\.0\.1 - - \[\d\d/\w{3}/\d{4} \d\d:\d\d:\d\d\] "GET /a\?b HTTP/1\.0" 200 -\n', line
    )  # fmt: skip


def test_an_error_in_the_log(lib: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines = logged(lib, capsys, b"NOPE / HTTP/1.0\r\n\r\n").splitlines()
    assert lines[0].endswith("] code 501, message Unsupported method ('NOPE')")
    assert lines[1].endswith('] "NOPE / HTTP/1.0" 501 -')


def test_stderr_is_looked_up_when_it_is_needed(lib: Any) -> None:
    handler = alone(lib)
    handler.client_address = ("10.0.0.1", 5)
    with mock.patch.object(sys, "stderr", io.StringIO()) as stderr:
        lib.BaseHTTPRequestHandler.log_message(handler, "a %s", "b")
    assert re.fullmatch(r"10\.0\.0\.1 - - \[.*\] a b\n", stderr.getvalue())


def test_control_characters_in_the_log(lib: Any) -> None:
    handler = alone(lib)
    handler.client_address = ("10.0.0.1", 5)
    with mock.patch.object(sys, "stderr", io.StringIO()) as stderr:
        lib.BaseHTTPRequestHandler.log_message(handler, "%s", "\x1b[2J \x7f \x9b \\ \xa0 \xe4")
    assert stderr.getvalue().endswith("] \\x1b[2J \\x7f \\x9b \\\\ \xa0 \xe4\n")


def test_what_log_message_is_called_with(lib: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Django looks at the status as text."""
    calls: list[Any] = []
    logged(lib, capsys, b"GET / HTTP/1.0\r\n\r\n", log_message=lambda self, *arguments: calls.append(arguments))
    assert calls == [('"%s" %s %s', "GET / HTTP/1.0", "200", "-")]


def test_log_request_by_hand(lib: Any, capsys: pytest.CaptureFixture[str]) -> None:
    calls: list[Any] = []
    handler = alone(lib)
    handler.log_message = lambda *arguments: calls.append(arguments)
    handler.log_request()
    handler.log_request(HTTPStatus.OK, 17)
    handler.log_error("x %d", 3)
    assert calls == [('"%s" %s %s', "", "-", "-"), ('"%s" %s %s', "", "200", "17"), ("x %d", 3)]


def test_small_things_a_handler_can_say(lib: Any) -> None:
    handler = alone(lib)
    handler.client_address = ("::1", 5, 0, 0)
    handler.server_version = "S/1"
    assert handler.version_string() == f"S/1 Python/{sys.version.split()[0]}"
    assert handler.address_string() == "::1"
    assert handler.date_time_string(0) == "Thu, 01 Jan 1970 00:00:00 GMT"
    moment = time.mktime((2026, 11, 22, 5, 44, 49, 0, 0, -1))
    with mock.patch.object(time, "time", return_value=moment):
        assert handler.log_date_time_string() == "22/Nov/2026 05:44:49"


def test_months_of_its_own(lib: Any) -> None:
    handler = alone(lib)
    with mock.patch.object(time, "time", return_value=1_600_000_000.0):
        assert re.match(r"\d\d/Sep/2020 ", handler.log_date_time_string())
        handler.monthname = [None, *(f"M{number:02d}" for number in range(1, 13))]
        assert re.match(r"\d\d/M09/2020 ", handler.log_date_time_string())


# Loops without a client


def test_handle_goes_on_until_the_connection_is_to_close(lib: Any) -> None:
    handler = alone(lib)
    values = iter([False, False, True])
    handler.handle_one_request = lambda: setattr(handler, "close_connection", next(values))
    handler.handle()
    assert next(values, None) is None


def test_parsing_by_hand(lib: Any) -> None:
    """A class that only parses, as scripts have it."""

    class Parsed(lib.BaseHTTPRequestHandler):  # type: ignore[misc]
        def __init__(self, text: bytes) -> None:
            self.rfile = io.BytesIO(text)
            self.raw_requestline = self.rfile.readline()
            self.error_code = self.error_message = None
            self.parse_request()

        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            self.error_code, self.error_message = code, message

    good = Parsed(b"GET /who HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n")
    assert (good.error_code, good.command, good.path, good.headers["host"]) == (None, "GET", "/who", "h")
    assert Parsed(b"GET\r\n").error_code == 400
