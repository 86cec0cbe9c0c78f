"""Handlers: how their answers are framed, and what is made of answers that are none."""

from __future__ import annotations

import json

import pytest

from live.daemon import Daemon, Place, eventually
from live.handlers.talk import Open, Talk, close_gate, entered, entries, install, open_gate

_CONFIG = """
[[vhost]]
root = "www"
error_pages = { 500 = "pages/failed.html" }
headers = { "X-Frame-Options" = "DENY" }

  [[vhost.handler]]
  path = "/old"
  class = "answers:Old"
  pythonpath = ["app"]
  [[vhost.handler]]
  path = "/old11"
  class = "answers:Old"
  http11 = true
  [[vhost.handler]]
  path = "/new"
  class = "answers:New"
  [[vhost.handler]]
  path = "/odd"
  class = "answers:Odd"
  [[vhost.handler]]
  path = "/odd11"
  class = "answers:Odd10"
  http11 = true
  [[vhost.handler]]
  path = "/odd10"
  class = "answers:Odd10"
  [[vhost.handler]]
  path = "/length"
  class = "answers:Odd"
  [[vhost.handler]]
  path = "/bare"
  class = "answers:Bare"
  [[vhost.handler]]
  path = "/methods"
  class = "answers:Says"
  methods = ["GET", "PUT", "SPAM"]
  [[vhost.handler]]
  path = "/says"
  class = "answers:Says"
"""
_MORE = "\n\nclass Odd10(Odd):\n    protocol_version = 'HTTP/1.0'\n"


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    install(shared_place, "answers")
    module = shared_place.path / "app/answers.py"
    module.write_text(module.read_text() + _MORE)
    shared_place.write("www/a.txt", b"static")
    shared_place.write("pages/failed.html", b"<p>our own 500")
    shared_daemon.configure(_CONFIG, "workers = 1")
    return shared_daemon.start()


# Versions and persistence


def test_a_class_that_says_1_0_is_answered_as_it_says(talk: Open) -> None:
    client = talk()
    answer = client.ask("/old")
    assert (answer.minor, answer.status, answer.text, answer["Content-Length"]) == (0, 200, "hello", "5")
    assert client.closed()


def test_http11_keeps_it_alive(talk: Open) -> None:
    client = talk()
    for _ in range(3):
        answer = client.ask("/old11")
        assert (answer.minor, answer.text, answer.framing) == (1, "hello", "length")
        assert "Connection" not in answer
    answer = client.ask("/old11", "Connection: close")
    assert (answer.text, answer["Connection"]) == ("hello", "close")
    assert client.closed()


def test_a_class_that_says_1_1_is_kept_alive(talk: Open) -> None:
    client = talk()
    first = [client.ask("/new").text for _ in range(10)]
    assert first == ["hello"] * 10
    assert client.ask("/a.txt").text == "static"
    assert client.ask("/new", "Connection: close")["Connection"] == "close"
    assert client.closed()


def test_a_client_of_1_0(talk: Open) -> None:
    client = talk()
    answer = client.ask("/new", "Connection: keep-alive", version=0)
    assert (answer.text, answer["Connection"].lower()) == ("hello", "keep-alive")
    assert client.ask("/new", version=0).text == "hello"
    assert client.closed()
    client = talk()
    answer = client.ask("/odd/no_length", "Connection: keep-alive", version=0)
    assert (answer.text, answer.framing) == ("no length", "close")  # chunks are not for 1.0


@pytest.mark.parametrize("name", ["closes", "sets_close"])
def test_the_class_may_close(talk: Open, name: str) -> None:
    client = talk()
    assert client.ask(f"/odd/{name}").text == "bye"
    assert client.closed()


def test_a_callable_that_is_no_handler_class(talk: Open, server: Daemon) -> None:
    client = talk()
    answer = client.ask("/bare")
    assert (answer.minor, answer.text, answer.framing) == (0, "bare", "close")


# Framing


@pytest.mark.parametrize("mount", ["/odd", "/odd11"])
@pytest.mark.parametrize(
    ("name", "body", "framing"),
    [
        ("plain", b"plain", "length"), ("no_length", b"no length", "chunked"),
        ("pieces", b"one two three four", "chunked"), ("empty", b"", "length"), ("no_content", b"", "none"),
        ("not_modified", b"", "none"), ("by_hand", b"ok", "length"), ("early_hints", b"late", "length"),
        ("text_io", "größer".encode(), "chunked"),
    ],
)  # fmt: skip
def test_what_is_written_is_one_answer(talk: Open, mount: str, name: str, body: bytes, framing: str) -> None:
    client = talk()
    for _ in range(2):
        answer = client.ask(f"{mount}/{name}")
        assert (answer.minor, answer.body, answer.framing) == (1, body, framing)
    for _ in range(2):
        assert client.ask(f"{mount}/{name}", method="HEAD").framing == "none"
    assert client.ask("/a.txt").text == "static"


def test_without_http11_a_body_without_a_length_ends_with_the_connection(talk: Open) -> None:
    answer = talk().ask("/odd10/pieces")
    assert (answer.minor, answer.text, answer.framing) == (0, "one two three four", "close")


def test_a_class_that_frames_itself_closes(talk: Open) -> None:
    client = talk()
    answer = client.ask("/odd/chunked")
    assert (answer.body, answer.framing) == (b"abc", "chunked")
    assert client.closed()


def test_an_interim_answer_goes_out_before_the_final_one(talk: Open) -> None:
    client = talk()
    client.send(b"GET /odd/early_hints HTTP/1.1\r\nHost: a\r\n\r\n")
    hint = client.head()
    assert (hint.status, hint["Link"]) == (103, "</a.css>; rel=preload")
    assert client.reply().text == "late"


def test_more_than_the_length_is_cut_and_said(talk: Open, server: Daemon) -> None:
    server.expect("a handler wrote more than its Content-Length")
    client = talk()
    for _ in range(2):
        assert client.ask("/length/long").body == b"1234"
    assert client.ask("/a.txt").text == "static"
    (entry,) = entries(server, 'wrote more than .* request="GET /length/long HTTP/1.1"')
    assert "bytes=5" in entry


def test_less_than_the_length_is_a_reset_and_said(talk: Open, server: Daemon) -> None:
    server.expect("a handler wrote less than its Content-Length")
    client = talk()
    client.send(b"GET /length/short HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.was_cut()
    assert len(entries(server, 'wrote less than .* request="GET /length/short HTTP/1.1"')) == 1


@pytest.mark.parametrize("name", ["crlf", "crlf_reason", "crlf_name"])
def test_a_line_break_in_a_header_is_a_500(talk: Open, server: Daemon, name: str) -> None:
    server.expect("a handler raised", r"^\t")
    client = talk()
    answer = client.ask(f"/odd/{name}")
    assert (answer.status, answer.body) == (500, b"<p>our own 500")
    assert "Set-Cookie" not in answer
    (entry,) = entries(server, f"a handler raised .*/odd/{name} ")
    assert "ValueError: a line break in a header" in entry
    assert client.ask("/odd/plain").text == "plain"


@pytest.mark.parametrize("name", ["nonsense", "two_lengths"])
def test_what_is_no_answer_is_a_500(talk: Open, server: Daemon, name: str) -> None:
    server.expect("a handler raised", r"^\t")
    client = talk()
    assert client.ask(f"/odd/{name}").status == 500
    (entry,) = entries(server, f"a handler raised .*/odd/{name} ")
    assert "BadAnswer" in entry
    assert client.ask("/odd/plain").text == "plain"


@pytest.mark.parametrize("name", ["silent", "half_head"])
def test_no_answer_at_all_is_a_500(talk: Open, server: Daemon, name: str) -> None:
    server.expect("a handler sent no answer")
    client = talk()
    answer = client.ask(f"/odd/{name}")
    assert (answer.status, answer.body) == (500, b"<p>our own 500")
    assert entries(server, "a handler sent no answer: 500")
    assert client.ask("/odd/plain").text == "plain"
    assert client.ask(f"/odd/{name}", method="HEAD").framing == "none"
    assert client.ask("/odd/plain").text == "plain"


# Fields and methods


def test_configured_fields_are_added_unless_the_handler_sets_them(talk: Open) -> None:
    client = talk()
    assert client.ask("/odd/plain")["X-Frame-Options"] == "DENY"
    assert client.ask("/odd/has_field")["X-Frame-Options"] == "SAMEORIGIN"
    assert client.ask("/odd/error?status=404")["X-Frame-Options"] == "DENY"


def test_the_class_s_own_error_is_sent_as_it_is(talk: Open) -> None:
    client = talk()
    answer = client.ask("/odd/error?status=404")
    assert (answer.status, answer.reason, answer["Connection"]) == (404, "No <such> thing", "close")
    assert b"Message: No &lt;such&gt; thing." in answer.body
    assert client.closed()


@pytest.mark.parametrize("method", ["POST", "DELETE", "HEAD", "EGGS"])
def test_other_methods_are_refused_before_the_handler(talk: Open, method: str) -> None:
    client = talk()
    for _ in range(2):
        answer = client.ask("/methods", method=method)
        assert (answer.status, answer["Allow"]) == (405, "GET, PUT, SPAM")
    assert json.loads(client.ask("/methods").body)["command"] == "GET"


def test_a_body_that_is_refused_is_not_read_as_a_request(talk: Open) -> None:
    client = talk()
    answer = client.ask("/methods", method="POST", body=b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.status == 405
    assert client.closed()


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "SPAM", "OPTIONS"])
def test_every_method_reaches_the_class(talk: Open, method: str) -> None:
    said = json.loads(talk().ask("/says", method=method).body)
    assert (said["command"], said["requestline"]) == (method, f"{method} /says HTTP/1.1")


def test_what_the_class_does_not_know_it_refuses_itself(talk: Open) -> None:
    answer = talk().ask("/says", method="EGGS")
    assert (answer.status, answer.reason) == (501, "Unsupported method ('EGGS')")


# Order


def test_pipelined_requests_are_answered_in_order(talk: Open) -> None:
    client = talk()
    asked = ["/odd/plain", "/a.txt", "/odd/no_length", "/old11", "/odd/empty", "/new"] * 5
    client.send(b"".join(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for target in asked))
    found = [client.reply().text for _ in asked]
    assert found == ["plain", "static", "no length", "hello", "", "hello"] * 5


def test_a_pipelined_request_waits_for_a_slow_one(talk: Open, server: Daemon, shared_place: Place) -> None:
    close_gate(shared_place, "slow")
    client = talk()
    client.send(b"GET /odd/gate?name=slow HTTP/1.1\r\nHost: a\r\n\r\nGET /new HTTP/1.1\r\nHost: a\r\n\r\n")
    entered(server, "slow")
    client.send(b"GET /a.txt HTTP/1.1\r\nHost: a\r\n\r\n")
    assert talk().ask("/new").text == "hello"
    open_gate(shared_place, "slow")
    assert [client.reply().text for _ in range(3)] == ["through slow", "hello", "static"]


@pytest.mark.parametrize("name", ["unread", "half_read"])
def test_an_unread_body_is_never_the_next_request(talk: Open, name: str) -> None:
    client = talk()
    smuggled = b"GET /new HTTP/1.1\r\nHost: a\r\n\r\n"
    for _ in range(2):
        answer = client.ask(f"/odd/{name}", method="POST", body=smuggled)
        assert answer.body == (b"not read" if name == "unread" else b"GET")
    assert client.ask("/a.txt").text == "static"


# Who reads slowly, and who leaves


def test_a_slow_reader_holds_no_thread(talk: Open, server: Daemon) -> None:
    size = 1024 * 1024 - 64 * 1024
    with Talk(server, receive_buffer=4096) as slow:
        slow.send(f"GET /odd/large?size={size} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert server.stderr is not None
        server.stderr.wait("stderr: large is written")
        assert slow.reply().body == b"x" * size


def test_an_answer_that_is_larger_than_what_may_wait(talk: Open, server: Daemon) -> None:
    client = talk()
    for _ in range(2):
        assert client.ask("/odd/large?size=20000000").body == b"x" * 20_000_000
    assert client.ask("/a.txt").text == "static"


def test_a_client_that_leaves_in_the_middle_costs_nothing(talk: Open, server: Daemon) -> None:
    client = talk()
    client.send(b"GET /odd/large?size=200000000 HTTP/1.1\r\nHost: a\r\n\r\n")
    client.upto(b"xxxx")
    client.reset()
    eventually(lambda: any("/odd/large?size=200000000" in line for line in server.access_lines(0)), "a line in the log")
    assert talk().ask("/a.txt").text == "static"


def test_a_client_that_leaves_while_the_handler_runs(talk: Open, server: Daemon, shared_place: Place) -> None:
    close_gate(shared_place, "left")
    client = talk()
    client.send(b"GET /odd/gate?name=left HTTP/1.1\r\nHost: a\r\n\r\n")
    entered(server, "left")
    client.reset()
    lines = eventually(
        lambda: [line for line in server.access_lines(0) if "/odd/gate?name=left" in line], "a line in the log"
    )
    assert '" 499 ' in lines[0]
    open_gate(shared_place, "left")
    assert talk().ask("/odd/plain").text == "plain"


def test_half_an_answer_leaves_while_the_handler_goes_on(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("a handler wrote less than its Content-Length")
    close_gate(shared_place, "middle")
    client = talk()
    client.send(b"GET /odd/stops_in_the_middle?gate=middle HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.head().status == 200
    assert client.exactly(5) == b"12345"
    open_gate(shared_place, "middle")
    assert client.was_cut()
