"""What is a request, what is refused, and what a request means for the connection."""

from __future__ import annotations

import email.message
import http.client
import io
from typing import Any
from unittest import mock

import pytest

import httpd.server
from httpd.server.headers import Headers
from unit.server.wire import Quiet, ask, statuses


class Parsed(Quiet):
    """A handler that has only parsed a request from a file."""

    def __init__(self, data: bytes) -> None:  # no socket, and nothing is handled
        self.rfile = io.BytesIO(data)
        self.wfile = io.BytesIO()
        self.raw_requestline = self.rfile.readline(65537)
        self.good = self.parse_request()

    @property
    def answer(self) -> bytes:
        return self.wfile.getvalue()  # type: ignore[attr-defined, no-any-return]


# Request lines


@pytest.mark.parametrize(
    ("line", "command", "path", "version"),
    [
        ("GET / HTTP/1.1", "GET", "/", "HTTP/1.1"),
        ("GET /a?b=c#d HTTP/1.0", "GET", "/a?b=c#d", "HTTP/1.0"),
        ("SPAM x HTTP/1.1", "SPAM", "x", "HTTP/1.1"),
        ("get / HTTP/1.1", "get", "/", "HTTP/1.1"),
        ("GET   /   HTTP/1.1", "GET", "/", "HTTP/1.1"),
        ("  GET / HTTP/1.1  ", "GET", "/", "HTTP/1.1"),
        ("GET /\xe9 HTTP/1.1", "GET", "/\xe9", "HTTP/1.1"),
        ("GET / HTTP/1.2", "GET", "/", "HTTP/1.2"),
        ("GET / HTTP/01.01", "GET", "/", "HTTP/01.01"),
        ("GET //evil/.. HTTP/1.1", "GET", "/evil/..", "HTTP/1.1"),
        ("GET ///x HTTP/1.1", "GET", "/x", "HTTP/1.1"),
        ("GET  //x HTTP/1.1", "GET", "/x", "HTTP/1.1"),
        ("GET http://h/x HTTP/1.1", "GET", "http://h/x", "HTTP/1.1"),
        ("OPTIONS * HTTP/1.1", "OPTIONS", "*", "HTTP/1.1"),
    ],
)
@pytest.mark.parametrize("end", ["\r\n", "\n"])
def test_request_lines(line: str, end: str, command: str, path: str, version: str) -> None:
    got = Parsed((line + end + "\r\n").encode("latin-1"))
    assert got.good, got.answer
    assert (got.requestline, got.command, got.path, got.request_version) == (line, command, path, version)


@pytest.mark.parametrize(
    ("line", "status", "message"),
    [
        ("GET / FUBAR", 400, "Bad request version ('FUBAR')"),
        ("GET / HTTP/9.9.9", 400, "Bad request version ('HTTP/9.9.9')"),
        ("GET / HTTP/1", 400, "Bad request version ('HTTP/1')"),
        ("GET / HTTP/-1.1", 400, "Bad request version ('HTTP/-1.1')"),
        ("GET / HTTP/1.\xb2", 400, "Bad request version ('HTTP/1.\xb2')"),
        ("GET / HTTP/1.12345678901", 400, "Bad request version ('HTTP/1.12345678901')"),
        ("GET / HTTP/2.0", 505, "Invalid HTTP version (2.0)"),
        ("GET / HTTP/9.9", 505, "Invalid HTTP version (9.9)"),
        ("GET /a b HTTP/1.1", 400, "Bad request syntax ('GET /a b HTTP/1.1')"),
        ("GET", 400, "Bad request syntax ('GET')"),
        ("POST /", 400, "Bad HTTP/0.9 request type ('POST')"),
    ],
)
def test_bad_request_lines(line: str, status: int, message: str) -> None:
    got = Parsed((line + "\r\n\r\n").encode("latin-1"))
    assert not got.good
    assert got.answer.startswith(f"HTTP/1.1 {status} {message}\r\n".encode("latin-1"))
    assert got.close_connection


def test_an_empty_line_from_a_file_is_no_request() -> None:
    got = Parsed(b"\r\n")
    assert (got.good, got.answer) == (False, b"")


def test_empty_lines_before_a_request_are_passed_over() -> None:
    assert b"<GET /a HTTP/1.1>" in ask(Quiet, b"\r\n\n\r\nGET /a HTTP/1.1\r\n\r\n")


def test_but_not_for_ever() -> None:
    assert ask(Quiet, b"\r\n" * 10 + b"GET /a HTTP/1.1\r\n\r\n") == b""


class Old(Quiet):
    default_request_version = "HTTP/0.9"

    def do_GET(self) -> None:
        assert len(self.headers) == 0
        self.wfile.write(b"just this")


def test_http_09_has_no_fields_to_wait_for() -> None:
    assert ask(Old, b"GET /\r\n", end=False) == b"just this"


# Fields

GOOD = b"GET / HTTP/1.1\r\n"


def test_fields() -> None:
    got = Parsed(GOOD + b"Host: a\r\nX-A:1\r\nx-a: \t2 \r\nEmpty:\r\nLatin: \xe9\r\n\r\n")
    assert got.good
    assert got.headers.items() == [("Host", "a"), ("X-A", "1"), ("x-a", "2"), ("Empty", ""), ("Latin", "\xe9")]
    assert got.headers.get_all("X-A") == ["1", "2"]
    assert isinstance(got.headers, http.client.HTTPMessage)


@pytest.mark.parametrize(
    "line",
    [b"no colon", b"Name : x", b" Name: x", b"\tfolded", b": x", b"Na me: x", b"N\0: x", b"N: a\0b", b"N: a\rb",
     b"N\xe9: x", b"N: a\x7fb", b"N: a\r"],
)  # fmt: skip
@pytest.mark.parametrize("others", [b"", b"Host: a\r\n"])
def test_malformed_lines(line: bytes, others: bytes) -> None:
    data = GOOD + others + line + b"\r\nConnection: close\r\n\r\n"
    got = Parsed(data)
    assert not got.good
    assert got.answer.startswith(b"HTTP/1.1 400 Bad header line (")
    assert statuses(ask(Quiet, data + GOOD + b"\r\n")) == [400]


@pytest.mark.parametrize("pieces", [1, 5])
def test_in_pieces_it_is_the_same(pieces: int) -> None:
    data = GOOD + b"Host: a\r\nX: y\r\nContent-Length: 0\r\n\r\n"
    cut = [data[at : at + pieces] for at in range(0, len(data), pieces)]
    assert ask(Quiet, *cut).endswith(b"<GET / HTTP/1.1>")


def test_a_hundred_fields() -> None:
    assert Parsed(GOOD + b"X: y\r\n" * 100 + b"\r\n").good
    got = Parsed(GOOD + b"X: y\r\n" * 101 + b"\r\n")
    assert got.answer.startswith(b"HTTP/1.1 431 Too many headers\r\n")
    assert statuses(ask(Quiet, GOOD + b"X: y\r\n" * 101 + b"\r\n")) == [431]


def test_who_has_raised_the_limit_gets_more() -> None:
    with mock.patch.object(http.client, "_MAXHEADERS", 200):
        assert Parsed(GOOD + b"X: y\r\n" * 150 + b"\r\n").good


@pytest.mark.parametrize("size", [65529, 65530])
def test_the_longest_line(size: int) -> None:
    data = GOOD + b"Xxx: " + b"y" * size + b"\r\n\r\n"  # 65536 with its end, and one more
    assert statuses(ask(Quiet, data)) == [200 if size == 65529 else 431]
    if size == 65530:
        assert Parsed(data).answer.startswith(b"HTTP/1.1 431 Line too long\r\n")


def test_the_longest_request_line() -> None:
    assert statuses(ask(Quiet, b"GET /" + b"x" * 65536 + b" HTTP/1.1\r\n\r\n")) == [414]


def test_a_class_of_its_own_for_the_fields() -> None:
    class Own(email.message.Message):
        pass

    class Handler(Parsed):
        MessageClass = Own  # type: ignore[assignment]

    got = Handler(GOOD + b"A: b\r\nC: d\r\n\r\n")
    assert type(got.headers) is Own
    assert got.headers["c"] == "d"
    assert type(Parsed(GOOD + b"\r\n").headers) is Headers


# Framing


@pytest.mark.parametrize(
    "fields",
    [
        b"Content-Length: 1\r\nContent-Length: 1",
        b"Content-Length: 1\r\ncontent-length: 2",
        b"Content-Length: +1",
        b"Content-Length: -1",
        b"Content-Length: 1_0",
        b"Content-Length: 0x1",
        b"Content-Length: 1, 1",
        b"Content-Length:",
        b"Content-Length: \xb2",
        b"Content-Length: 9999999999999999999",
        b"Content-Length: 1\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: xchunked",
        b"Transfer-Encoding:",
    ],
)
def test_framing_that_has_two_meanings(fields: bytes) -> None:
    data = b"POST / HTTP/1.1\r\n" + fields + b"\r\n\r\n1\r\nx\r\n0\r\n\r\n" + GOOD + b"\r\n"
    assert statuses(ask(Quiet, data)) == [400]


def test_chunked_is_not_for_http_10() -> None:
    assert statuses(ask(Quiet, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n")) == [400]


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (b"Content-Length: 5", b"hello"),
        (b"content-length:\t0005 ", b"hello"),
        (b"Transfer-Encoding: chunked", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
        (b"transfer-ENCODING: \tCHUNKED ", b"5\r\nhello\r\n0\r\n\r\n"),
    ],
)
def test_a_body_and_the_next_request(fields: bytes, body: bytes) -> None:
    answer = ask(Quiet, b"POST / HTTP/1.1\r\n" + fields + b"\r\n\r\n" + body + b"GET /next HTTP/1.1\r\n\r\n")
    assert statuses(answer) == [200, 200]
    assert b"<hello>" in answer
    assert b"<GET /next HTTP/1.1>" in answer


class Ignorant(Quiet):
    def do_POST(self) -> None:
        self.reply(b"whatever")


@pytest.mark.parametrize("size", [0, 100, 60_000])
def test_an_unread_body_is_no_request(size: int) -> None:
    smuggled = (GOOD + b"\r\n").ljust(size, b"x") if size else b""
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    assert statuses(ask(Ignorant, head + smuggled + GOOD + b"\r\n")) == [200, 200]


def test_a_long_unread_body_ends_the_connection() -> None:
    head = b"POST / HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n"
    assert statuses(ask(Ignorant, head + b"x" * 1_000_000 + GOOD + b"\r\n")) == [200]


class OwnLoop(Ignorant):
    """As Django and others do it."""

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline:
            self.close_connection = True
        elif self.parse_request():
            getattr(self, "do_" + self.command)()


def test_loops_of_others_go_on() -> None:
    assert statuses(ask(OwnLoop, (GOOD + b"\r\n") * 3)) == [200] * 3


def test_and_take_no_body_for_a_request() -> None:
    smuggled = GOOD + b"\r\n"
    head = b"POST / HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(smuggled)
    assert statuses(ask(OwnLoop, head + smuggled + GOOD + b"\r\n")) == [200]


class Upgrading(Quiet):
    def do_GET(self) -> None:
        self.send_response(101)
        self.end_headers()
        self.wfile.write(b"{" + self.rfile.read() + b"}")
        self.close_connection = True

    do_CONNECT = do_GET  # noqa: N815


@pytest.mark.parametrize("head", [GOOD + b"Upgrade: x\r\nConnection: upgrade\r\n\r\n", b"CONNECT h:1 HTTP/1.1\r\n\r\n"])
def test_behind_an_upgrade_everything_can_be_read(head: bytes) -> None:
    assert ask(Upgrading, head, b"frames").endswith(b"{frames}")


# Connection and Expect


@pytest.mark.parametrize(
    ("version", "protocol", "fields", "closes"),
    [
        ("1.1", "HTTP/1.1", "", False),
        ("1.0", "HTTP/1.1", "", True),
        ("1.1", "HTTP/1.0", "", True),
        ("1.1", "HTTP/1.0", "Connection: keep-alive", True),
        ("1.0", "HTTP/1.1", "Connection: Keep-Alive", False),
        ("1.1", "HTTP/1.1", "Connection: close", True),
        ("1.1", "HTTP/1.1", "Connection: CLOSE, x", True),
        ("1.1", "HTTP/1.1", "Connection: x ,close", True),
        ("1.1", "HTTP/1.1", "Connection: x\r\nConnection: close", True),
        ("1.1", "HTTP/1.1", "Connection: keep-alive, close", True),
        ("1.0", "HTTP/1.1", "Connection: te, keep-alive", False),
        ("1.1", "HTTP/1.1", "Connection: closed", False),
        ("1.2", "HTTP/1.1", "", False),
    ],
)
def test_whether_the_connection_stays(version: str, protocol: str, fields: str, closes: bool) -> None:
    class Handler(Parsed):
        protocol_version = protocol

    lines = fields + "\r\n" if fields else ""
    got = Handler(f"GET / HTTP/{version}\r\n{lines}\r\n".encode())
    assert got.good
    assert got.close_connection is closes


def expecting(version: str, protocol: str, expect: str) -> bytes:
    class Handler(Parsed):
        protocol_version = protocol

    return Handler(f"POST / HTTP/{version}\r\nExpect: {expect}\r\nContent-Length: 1\r\n\r\n".encode()).answer


def test_expect() -> None:
    assert expecting("1.1", "HTTP/1.1", "100-Continue") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert expecting("1.0", "HTTP/1.1", "100-continue") == b""
    assert expecting("1.1", "HTTP/1.0", "100-continue") == b""
    assert expecting("1.1", "HTTP/1.1", "something") == b""


class Refusing(Quiet):
    def handle_expect_100(self) -> bool:
        self.send_response(417)
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False


def test_a_body_that_was_refused_is_not_waited_for() -> None:
    data = b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 20\r\n\r\n"
    assert statuses(ask(Refusing, data + GOOD + b"\r\n")) == [417]


def test_absolute_form_stays_for_proxies() -> None:
    assert b"<GET http://host/x?y HTTP/1.1>" in ask(Quiet, b"GET http://host/x?y HTTP/1.1\r\n\r\n")


def test_errors_are_logged_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    class Loud(Quiet):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            httpd.server.BaseHTTPRequestHandler.log_message(self, format, *args)

    ask(Loud, b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n")
    assert "code 400, message Bad Content-Length" in capsys.readouterr().err
