"""Handlers: what may be named by a mount, what it is given, and what becomes of request bodies."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from live.daemon import Daemon, Place, eventually, open_files
from live.handlers.talk import Open, Talk, entries, install

_CONFIG = """
[limits]
body = "2MiB"
body_memory = "16KiB"

[[vhost]]
root = "www"

  [[vhost.handler]]
  path = "/says"
  class = "answers:Says"
  options = { text = "words", number = 7, list = [1, "two"], table = { key = true } }
  pythonpath = ["app"]
  [[vhost.handler]]
  path = "/strip/it"
  class = "answers:Says"
  strip_prefix = true
  [[vhost.handler]]
  path = "/partial"
  class = "answers:partial"
  options = { more = 1 }
  [[vhost.handler]]
  path = "/lambda"
  class = "answers:by_lambda"
  [[vhost.handler]]
  path = "/factory"
  class = "answers:factory"
  options = { more = 1 }
  [[vhost.handler]]
  path = "/inner"
  class = "answers:Outer.Inner"
  [[vhost.handler]]
  path = "/echo"
  class = "answers:Echo"
  [[vhost.handler]]
  path = "/posts"
  class = "answers:Echo"
  methods = ["POST"]
  [[vhost.handler]]
  path = "/decides"
  class = "answers:Decides"
  [[vhost.handler]]
  path = "/stream"
  class = "answers:Stream"
  stream = true
  [[vhost.handler]]
  path = "/odd"
  class = "answers:Odd"

[[vhost]]
names = ["whole.example"]
  [[vhost.handler]]
  path = "/"
  class = "answers:Says"
"""


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    install(shared_place, "answers")
    shared_place.write("www/a.txt", b"static")
    shared_daemon.configure(_CONFIG, "workers = 1")
    return shared_daemon.start()


def said(client: Talk, target: str, *fields: str, **options: Any) -> dict[str, Any]:
    answer = client.ask(target, *fields, **options)
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    return found


# What is named, and what it is given


@pytest.mark.parametrize(
    ("path", "options"),
    [
        ("/says", {"text": "words", "number": 7, "list": [1, "two"], "table": {"key": True}}),
        ("/partial", {"given": "by the partial", "more": 1}), ("/lambda", {"given": "by the lambda"}),
        ("/factory", {"made": "by the factory", "more": 1}), ("/inner", {}),
    ],
)  # fmt: skip
def test_whatever_can_be_called(talk: Open, path: str, options: dict[str, Any]) -> None:
    client = talk()
    for _ in range(2):
        assert said(client, path)["options"] == options


def test_what_a_handler_is_given(talk: Open, server: Daemon) -> None:
    client = talk()
    found = said(client, "/says/a%20b//c?q=1&r", "X-One: 1", "x-two: zwei \xe9", "X-One: 2")
    assert found["path"] == "/says/a%20b//c?q=1&r"
    assert found["requestline"] == "GET /says/a%20b//c?q=1&r HTTP/1.1"
    assert found["version"] == "HTTP/1.1"
    assert found["headers"] == [["Host", "localhost"], ["X-One", "1"], ["x-two", "zwei \xe9"], ["X-One", "2"]]
    assert found["client"] == list(client.sock.getsockname())
    assert found["server"] == "ThreadingHTTPServer"
    assert found["address"] == ["127.0.0.1", server.port]
    assert found["named"] == ["127.0.0.1", server.port]
    assert found["cwd"] == []


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/says", "/says"), ("/says/", "/says/"), ("/says?x", "/says?x"), ("//says", "/says"),
        ("/other/../says/x", "/other/../says/x"), ("/s%61ys/x", "/s%61ys/x"),
        ("http://localhost/says/x?y", "/says/x?y"), ("/strip/it", "/"), ("/strip/it/", "/"),
        ("/strip/it?q", "/?q"), ("/strip/it/a/b?q", "/a/b?q"), ("/strip/it//evil.example/%2e", "/evil.example/%2e"),
        ("/s%74rip/it/a%20b?q", "/a%20b?q"), ("/strip//it/a", "/a"), ("/strip/itself/../it/a", "/a"),
        ("/strip/it/a/../b", "/b"), ("/strip/it/a%2Fb", "/a%2Fb"),
    ],
)  # fmt: skip
def test_the_path(talk: Open, target: str, path: str) -> None:
    client = talk()
    assert [said(client, target)["path"] for _ in range(2)] == [path] * 2


def test_only_whole_segments_are_a_mount_s(talk: Open) -> None:
    client = talk()
    assert client.ask("/saysmore").status == 404
    assert client.ask("/strip").status == 404
    assert client.ask("/a.txt").text == "static"


def test_a_mount_for_all_of_a_site(talk: Open) -> None:
    client = talk()
    client.send(b"GET /any/thing HTTP/1.1\r\nHost: whole.example\r\n\r\n")
    assert json.loads(client.reply().body)["path"] == "/any/thing"
    client.send(b"OPTIONS * HTTP/1.1\r\nHost: whole.example\r\n\r\n")
    assert client.reply().status == 200


def test_a_path_that_leaves_the_root_is_refused_for_handlers_too(talk: Open) -> None:
    assert talk().ask("/says/../../etc/passwd").status == 400


# Bodies


@pytest.mark.parametrize("size", [1, 3, 16384 - 1, 16384, 16385, 100_000, 2 * 1024 * 1024])
def test_a_body_comes_whole(talk: Open, size: int) -> None:
    client = talk()
    body = os.urandom(size)
    for _ in range(2):
        answer = client.ask("/echo", method="POST", body=body)
        assert answer.body == body
        assert (answer["X-Length"], answer["X-Coding"]) == (str(size), "None")
        assert answer["X-Kind"] == ("BytesIO" if size <= 16384 else "BufferedRandom")


@pytest.mark.parametrize("size", [0, 1, 16384, 16385, 100_000])
def test_a_chunked_body_comes_with_a_length(talk: Open, size: int) -> None:
    client = talk()
    body = os.urandom(size)
    for _ in range(2):
        client.send(b"PUT /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nX-End: 1\r\n\r\n")
        for start in range(0, size, 30_000):
            piece = body[start : start + 30_000]
            client.send(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\nX-Trailer: dropped\r\n\r\n")
        answer = client.reply()
        assert (answer.body, answer["X-Length"], answer["X-Coding"]) == (body, str(size), "None")
    assert client.ask("/a.txt").text == "static"


def test_a_head_in_front_of_a_spooled_body_is_the_client_s(talk: Open) -> None:
    client = talk()
    for size in (10, 50_000):
        client.send(b"POST /says?x HTTP/1.1\r\nHost: a\r\nX-A:  1 \r\nTransfer-Encoding: chunked\r\nx-b: 2\r\n\r\n")
        client.send(b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"y" * size))
        found = json.loads(client.reply().body)
        assert found["body"] == "y" * size
        assert found["headers"] == [["Host", "a"], ["X-A", "1"], ["x-b", "2"], ["Content-Length", str(size)]]
        assert found["requestline"] == "POST /says?x HTTP/1.1"


def test_a_body_byte_by_byte(talk: Open, server: Daemon) -> None:
    client = talk()
    for byte in b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 20\r\n\r\n" + b"0123456789" * 2:
        client.send(bytes((byte,)))
    assert client.reply().body == b"0123456789" * 2


def test_slow_uploads_hold_no_thread(talk: Open, server: Daemon) -> None:
    clients = [talk() for _ in range(40)]  # there are 16 threads
    for client in clients:
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\n\r\n" + b"x" * 20_000)
    assert talk().ask("/echo", method="POST", body=b"quick").body == b"quick"
    for client in clients:
        client.send(b"y" * 30_000)
    for client in clients:
        assert client.reply().body == b"x" * 20_000 + b"y" * 30_000


def _spooled(worker: int) -> list[str]:
    return [name for name in open_files(worker) if name.startswith("/tmp/") and name.endswith("(deleted)")]


def test_spooled_bodies_leave_nothing(talk: Open, server: Daemon) -> None:
    (worker,) = server.workers()
    client = talk()
    assert client.ask("/echo", method="POST", body=b"x" * 100_000).status == 200
    half = talk()
    half.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 90000\r\n\r\n" + b"x" * 80_000)
    eventually(lambda: _spooled(worker), "a temporary file")
    half.reset()
    client.ask("/echo", method="POST", body=b"x")
    eventually(lambda: not _spooled(worker), "the file is closed")


def test_what_is_too_large_is_refused_before_it_comes(talk: Open) -> None:
    client = talk()
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2097153\r\n\r\n")
    assert client.reply().status == 413
    client = talk()
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200001\r\n")
    assert client.reply().status == 413


def test_a_broken_body_never_reaches_the_handler(talk: Open) -> None:
    client = talk()
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n\r\n")
    assert client.reply().status == 400
    client = talk()
    client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc").shut()
    assert client.reply().status == 400


# Expect


def test_100_is_sent_before_the_body(talk: Open) -> None:
    client = talk()
    for _ in range(2):
        client.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.head().status == 100
        client.send(b"12345")
        assert client.reply().body == b"12345"


@pytest.mark.parametrize(
    ("line", "length", "status"), [(b"PUT /posts", 5, 405), (b"POST /echo", 2097153, 413), (b"PUT /a.txt", 5, 405)]
)
def test_what_would_be_refused_is_refused_instead(talk: Open, line: bytes, length: int, status: int) -> None:
    client = talk()
    client.send(b"%b HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\nExpect: 100-continue\r\n\r\n" % (line, length))
    assert client.head().status == status


def test_a_class_decides_by_the_head_alone(talk: Open, server: Daemon) -> None:
    client = talk()
    client.send(
        b"POST /decides HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\nX-Refuse: 1\r\n\r\n"
    )
    answer = client.head()
    assert (answer.status, answer["Connection"]) == (417, "close")
    client = talk()
    client.send(b"POST /decides HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert client.head().status == 100
    client.send(b"12345")
    assert client.reply().body == b"12345"
    assert client.ask("/a.txt").text == "static"
    assert client.ask("/decides", method="POST", body=b"abc").body == b"abc"


# stream = true


def test_a_stream_is_read_as_it_comes(talk: Open, server: Daemon) -> None:
    assert server.stderr is not None
    client = talk()
    client.send(b"POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
    server.stderr.wait("stderr: piece of 5$")
    client.send(b"678")
    server.stderr.wait("stderr: piece of 3$")
    client.send(b"90GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.reply().body == b"10 10 1234567890"
    assert client.reply().text == "static"


def test_a_chunked_stream(talk: Open, server: Daemon) -> None:
    assert server.stderr is not None
    client = talk()
    client.send(b"POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n7\r\nchunked\r\n")
    server.stderr.wait("stderr: piece of 7$")
    client.send(b"2\r\n!!\r\n0\r\n\r\n")
    assert client.reply().body.endswith(b" chunked!!")
    assert client.ask("/a.txt").text == "static"


def test_a_stream_with_expect(talk: Open) -> None:
    client = talk()
    client.send(b"POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert client.head().status == 100
    client.send(b"12345")
    assert client.reply().body == b"5 5 12345"


def test_the_rest_of_a_stream_is_never_a_request(talk: Open) -> None:
    client = talk()
    smuggled = b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n"
    client.send(b"POST /stream/none HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n" + smuggled)
    assert client.reply().body == b"not read"
    assert client.closed()


def test_a_stream_without_a_body(talk: Open) -> None:
    client = talk()
    assert client.ask("/stream").text == "hello"
    assert client.ask("/stream", method="POST").body == b"0 None "


def test_a_stream_that_breaks_off(talk: Open, server: Daemon) -> None:
    client = talk()
    client.send(b"POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n123456")
    assert server.stderr is not None
    server.stderr.wait("stderr: piece of 6$")
    client.reset()
    assert talk().ask("/a.txt").text == "static"


def test_a_stream_that_is_malformed_is_the_client_s_fault(talk: Open, server: Daemon) -> None:
    client = talk()
    client.send(b"POST /stream HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense\r\n")
    assert client.reply().status == 400
    assert client.closed()
    client = talk()
    client.send(b"POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n123").shut()
    assert client.reply().status == 400
    assert client.closed()
    assert not entries(server, "a handler raised|no answer", 0)
