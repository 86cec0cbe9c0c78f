"""HTTP/1.1 on the wire: what is refused, what is kept in order, when a connection stays open."""

from __future__ import annotations

import pytest

from live.client import request
from live.conftest import Connect
from live.daemon import Daemon, Place

_OK = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
_BAD_HEADS = {
    "no version": (b"GET /a\r\n\r\n", 400),
    "two spaces": (b"GET  /a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "space in target": (b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "bare LF": (b"GET /a HTTP/1.1\nHost: x\n\n", 400),
    "bare CR": (b"GET /a HTTP/1.1\r\nHost: x\ry: z\r\n\r\n", 400),
    "obs-fold": (b"GET /a HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400),
    "fold first": (b"GET /a HTTP/1.1\r\n Host: x\r\n\r\n", 400),
    "space before colon": (b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n", 400),
    "no colon": (b"GET /a HTTP/1.1\r\nHost: x\r\nnothing\r\n\r\n", 400),
    "empty name": (b"GET /a HTTP/1.1\r\nHost: x\r\n: y\r\n\r\n", 400),
    "NUL in value": (b"GET /a HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n", 400),
    "no Host": (b"GET /a HTTP/1.1\r\n\r\n", 400),
    "two Hosts": (b"GET /a HTTP/1.1\r\nHost: x\r\nHost: x\r\n\r\n", 400),
    "bad Host": (b"GET /a HTTP/1.1\r\nHost: x/y\r\n\r\n", 400),
    "fragment": (b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "relative target": (b"GET a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "asterisk with GET": (b"GET * HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "userinfo": (b"GET http://u@x/a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    "length and chunked": (
        b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "two lengths": (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400),
    "length list": (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3, 3\r\n\r\nabc", 400),
    "signed length": (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", 400),
    "hex length": (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 0x3\r\n\r\nabc", 400),
    "chunked not last": (b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n", 400),
    "chunked in 1.0": (b"POST /a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
    "unknown coding": (b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
    "bad chunk": (b"POST /a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", 400),
    "HTTP/2.0": (b"GET /a HTTP/2.0\r\nHost: x\r\n\r\n", 505),
    "HTTP/0.9": (b"GET /a HTTP/0.9\r\nHost: x\r\n\r\n", 505),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    "unknown expectation": (b"GET /a HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", 417),
    "https asked for": (b"GET https://x/a HTTP/1.1\r\nHost: x\r\n\r\n", 421),
    "nine empty lines": (b"\r\n" * 9 + _OK, 400),
    "line too long": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 414),
    "line without end": (b"GET /" + b"a" * 9000, 414),
    "head too large": (b"GET /a HTTP/1.1\r\nHost: x\r\n" + (b"A: " + b"b" * 900 + b"\r\n") * 40, 431),
    "too many fields": (b"GET /a HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 120 + b"\r\n", 431),
    "body too large": (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1000001\r\n\r\n", 413),
    "length of 30 digits": (b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\n", 413),
}  # fmt: skip


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    shared_place.write("www/a", b"the a")
    shared_place.write("www/large", b"l" * 200_000)
    shared_daemon.configure('[[vhost]]\nroot = "www"\n[limits]\nbody = 1000000\n')
    return shared_daemon.start()


@pytest.mark.parametrize("case", _BAD_HEADS)
def test_a_bad_head_is_answered_and_ends_the_connection(server: Daemon, connect: Connect, case: str) -> None:
    data, status = _BAD_HEADS[case]
    client = connect().send(data + _OK)
    answer = client.read()
    assert (answer.status, answer.closes) == (status, True)
    assert client.closed(), "the request behind it must not be answered"


@pytest.mark.parametrize("case", ["bare LF", "two lengths", "NUL in value", "line too long", "HTTP/2.0"])
def test_a_bad_head_is_the_same_byte_by_byte(server: Daemon, connect: Connect, case: str) -> None:
    data, status = _BAD_HEADS[case]
    client = connect()
    try:
        for place in range(len(data)):
            client.send(data[place : place + 1])
    except (BrokenPipeError, ConnectionResetError):
        pass  # it was refused before it was complete
    assert client.read().status == status


def test_a_good_request_byte_by_byte(server: Daemon, connect: Connect) -> None:
    client = connect()
    for _ in range(2):
        for place in range(len(_OK)):
            client.send(_OK[place : place + 1])
        assert client.read().body == b"the a"


def test_fifty_pipelined_requests_are_answered_in_order(server: Daemon, connect: Connect) -> None:
    kinds = [
        (request("/a"), "GET", 200), (request("/large"), "GET", 200), (request("/nope"), "GET", 404),
        (request("/a", method="HEAD"), "HEAD", 200), (request("/a", method="POST", body=b"x" * 5000), "POST", 405),
        (request("/large", "Range: bytes=5-9"), "GET", 206), (request("/a", method="OPTIONS"), "OPTIONS", 200),
        (request("/a", body=b"a body on a GET"), "GET", 200),
        (request("/a", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n", "GET", 200),
        (request("/large", "If-None-Match: *"), "GET", 304),
    ]  # fmt: skip
    client = connect()
    client.send(b"".join(kind[0] for kind in kinds * 5))
    for number, (_, method, status) in enumerate(kinds * 5):
        answer = client.read(method)
        assert answer.status == status, number
    assert client.get("/a").body == b"the a"
    assert client.shut().closed()


def test_pipelined_requests_behind_a_close_are_dropped(server: Daemon, connect: Connect) -> None:
    client = connect().send(request("/a") + request("/a", "Connection: close") + request("/a"))
    assert not client.read().closes
    assert client.read().closes
    assert client.closed()


@pytest.mark.parametrize("body", [b"", b"x", b"GET /nope HTTP/1.1\r\nHost: x\r\n\r\n", b"y" * 60_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_is_read_and_the_next_request_served(
    server: Daemon, connect: Connect, body: bytes, chunked: bool
) -> None:
    client = connect()
    for method, status in (("GET", 200), ("POST", 405)):
        if chunked:
            client.send(request("/a", "Transfer-Encoding: chunked", method=method))
            client.send((b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\nTrailer: x\r\n\r\n")
        else:
            client.send(request("/a", method=method, body=body))
        assert client.read().status == status
        assert client.get("/a").body == b"the a"


def test_expect_gets_the_final_answer_at_once(server: Daemon, connect: Connect) -> None:
    client = connect().send(request("/a", "Expect: 100-continue", "Content-Length: 10", method="PUT"))
    answer = client.read_interim()
    assert (answer.status, answer.closes) == (405, True)
    assert client.closed()


def test_expect_without_a_body_changes_nothing(server: Daemon, connect: Connect) -> None:
    client = connect()
    assert client.get("/a", "Expect: 100-continue").status == 200
    assert client.get("/a").status == 200


def test_http_10_closes_unless_told_otherwise(server: Daemon, connect: Connect) -> None:
    client = connect().send(b"GET /a HTTP/1.0\r\n\r\n")
    assert client.read().body == b"the a"
    assert client.closed()
    client = connect()
    for _ in range(3):
        answer = client.send(b"GET /a HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n").read()
        assert (answer.body, answer["Connection"].lower()) == (b"the a", "keep-alive")
    assert client.send(b"GET /a HTTP/1.0\r\n\r\n").read().status == 200
    assert client.closed()


def test_connection_close_is_honoured(server: Daemon, connect: Connect) -> None:
    client = connect()
    assert not client.get("/a").closes
    assert client.get("/a", "Connection: Close").closes
    assert client.closed()


def test_absolute_form(server: Daemon, connect: Connect) -> None:
    client = connect()
    assert client.get("http://other:80/a?q").body == b"the a"
    assert client.get("HTTP://other", method="OPTIONS").status == 200
    assert client.get("http://other").status == 403  # the root, which has no index


def test_connect_and_other_methods_do_not_tunnel(server: Daemon, connect: Connect) -> None:
    client = connect()
    answer = client.get("x:80", method="CONNECT")
    assert (answer.status, answer.closes) == (405, True)
    assert client.closed()


def test_a_client_that_shut_its_side_still_gets_its_answers(server: Daemon, connect: Connect) -> None:
    client = connect().send(request("/large") + request("/a")).shut()
    assert len(client.read().body) == 200_000
    assert client.read().body == b"the a"
    assert client.closed()


def test_the_end_of_input_inside_a_request_is_400(server: Daemon, connect: Connect) -> None:
    for data in (b"GET /a HTT", b"GET /a HTTP/1.1\r\nHost", request("/a", "Content-Length: 5") + b"ab"):
        client = connect().send(data).shut()
        assert client.read().status == 400, data
        assert client.closed()
    assert connect().shut().closed()


def test_eight_empty_lines_before_a_request(server: Daemon, connect: Connect) -> None:
    client = connect().send(b"\r\n" * 8 + _OK)
    assert client.read().body == b"the a"
    assert client.send(b"\r\n" + _OK).read().body == b"the a"


def test_white_space_around_values_is_not_part_of_them(server: Daemon, connect: Connect) -> None:
    client = connect().send(b"GET /a HTTP/1.1\r\nHost:\t x \t\r\nConnection:  close \r\n\r\n")
    assert client.read().closes
    assert client.closed()


def test_limits_that_are_just_kept(server: Daemon, connect: Connect) -> None:
    client = connect()
    line = 8192 - len("GET / HTTP/1.1")
    assert client.get("/" + "a" * line).status == 404
    assert client.get("/a", *(f"A{number}: b" for number in range(99))).status == 200
    assert connect().get("/" + "a" * (line + 1)).status == 414
    assert connect().get("/a", *(f"A{number}: b" for number in range(100))).status == 431
