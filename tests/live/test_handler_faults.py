"""Handlers that fail, and what they say: one entry in the error log, one answer, and a connection that goes on."""

from __future__ import annotations

import json
import re

import pytest

from live.daemon import Daemon, Place, eventually
from live.handlers.talk import Open, Talk, entries, install, open_gate

_CONFIG = """
[[vhost]]
root = "www"
error_pages = { 5xx = "pages/failed.html" }
access_log = "access.log"

  [[vhost.handler]]
  path = "/odd"
  class = "answers:Odd"
  pythonpath = ["app"]
  [[vhost.handler]]
  path = "/old"
  class = "answers:Old"
  [[vhost.handler]]
  path = "/talkative"
  class = "answers:Talkative"
  [[vhost.handler]]
  path = "/quiet"
  class = "answers:Quiet"
  [[vhost.handler]]
  path = "/hooked"
  class = "answers:Odd"
  server = "answers:HookedServer"
"""
_MORE = """

from http.server import ThreadingHTTPServer

class HookedServer(ThreadingHTTPServer):
    def verify_request(self, request, client_address):
        return True
"""


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    install(shared_place, "answers")
    module = shared_place.path / "app/answers.py"
    module.write_text(module.read_text() + _MORE)
    shared_place.write("www/a.txt", b"static")
    shared_place.write("pages/failed.html", b"<p>our own page")
    shared_daemon.configure(_CONFIG, "workers = 1")
    return shared_daemon.start()


def _one_entry(server: Daemon, mark: str) -> str:
    (entry,) = entries(server, mark)
    assert " [error] " in entry
    assert "a handler raised request=" in entry
    assert entry.count("Traceback (most recent call last):") == 1
    return entry


# Raised


@pytest.mark.parametrize("mount", ["odd", "hooked"])
@pytest.mark.parametrize(
    ("name", "kind"), [("raises", "RuntimeError"), ("exits", "SystemExit"), ("interrupts", "KeyboardInterrupt")]
)
def test_what_a_handler_raises_is_one_entry_and_a_500(
    talk: Open, server: Daemon, mount: str, name: str, kind: str
) -> None:
    server.expect("a handler raised", r"^\t")
    client = talk()
    for turn in range(2):
        mark = f"{mount}-{name}-{turn}"
        answer = client.ask(f"/{mount}/{name}?id={mark}")
        assert (answer.status, answer.body) == (500, b"<p>our own page")
        entry = _one_entry(server, f"by {mark}")
        assert f"{kind}: " in entry
        assert f'request="GET /{mount}/{name}?id={mark} HTTP/1.1"' in entry
        assert "answers.py" in entry
        assert f"id={answer['X-Request-Id']} " in entry
        assert client.ask("/odd/plain").text == "plain"
    assert client.ask("/a.txt").text == "static"


def test_ids_are_of_one_request_each(talk: Open, server: Daemon) -> None:
    server.expect("a handler raised", r"^\t")
    client = talk()
    assert len({client.ask(f"/odd/raises?id=many-{number}")["X-Request-Id"] for number in range(20)}) == 20


@pytest.mark.parametrize("mount", ["odd", "hooked"])
def test_raised_behind_the_head_cuts_the_answer(talk: Open, server: Daemon, shared_place: Place, mount: str) -> None:
    server.expect("a handler raised", r"^\t")
    client = talk()
    client.send(f"GET /{mount}/raises_late?id=late-{mount} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert client.head().status == 200
    assert client.exactly(5) == b"12345"
    open_gate(shared_place, f"late-{mount}")
    assert client.was_cut()
    _one_entry(server, f"by late-{mount}")
    assert not entries(server, f"less than its Content-Length.*late-{mount}", 0)
    lines = eventually(lambda: [line for line in server.access_lines(1) if f"id=late-{mount}" in line], "a line")
    assert len(lines) == 1


def test_raised_behind_a_whole_answer(talk: Open, server: Daemon) -> None:
    server.expect("a handler raised", r"^\t")
    client = talk()
    answer = client.ask("/odd/raises_behind?id=behind")
    assert answer.status in (200, 500)
    _one_entry(server, "by behind")
    assert talk().ask("/odd/plain").text == "plain"


def test_head_of_a_500(talk: Open, server: Daemon) -> None:
    server.expect("a handler raised", r"^\t")
    client = talk()
    answer = client.ask("/odd/raises?id=head", method="HEAD")
    assert (answer.status, answer["Content-Length"]) == (500, str(len(b"<p>our own page")))
    assert client.ask("/a.txt").text == "static"


def test_raised_with_a_body_that_was_not_read(talk: Open, server: Daemon) -> None:
    server.expect("a handler raised", r"^\t")
    client = talk()
    body = b"GET /old HTTP/1.1\r\nHost: a\r\n\r\n" * 5000
    assert client.ask("/odd/raises?id=unread", method="POST", body=body).status == 500
    assert client.ask("/a.txt").text == "static"


def test_raised_in_a_thread_of_the_handler_s_own(talk: Open, server: Daemon) -> None:
    server.expect("a thread of a handler raised", r"^\t")
    assert talk().ask("/odd/in_a_thread?id=thread").text == "started"
    (entry,) = entries(server, "a thread of a handler raised")
    assert "RuntimeError: raised in a thread by thread" in entry


# Said


def test_what_is_printed_is_in_the_error_log(talk: Open, server: Daemon) -> None:
    assert talk().ask("/odd/prints?id=printer").text == "printed"
    (first,) = entries(server, r"stderr: printed by printer$")
    (second,) = entries(server, r"stderr: half a line by printer$")
    assert " [info] " in first
    assert " [info] " in second


def test_what_goes_to_stdout_goes_to_the_server_s(talk: Open, server: Daemon) -> None:
    assert talk().ask("/odd/prints?id=stdout").text == "printed"
    assert server.stdout is not None
    server.stdout.wait("^to stdout by stdout$")


def test_a_log_message_of_its_own_is_called(talk: Open, server: Daemon) -> None:
    assert talk().ask("/talkative/x").text == "hello"
    (entry,) = entries(server, "talkative: .*/talkative/x")
    assert re.search(r'\[info\] .*: stderr: talkative: "GET /talkative/x HTTP/1\.1" 200 -$', entry)
    assert talk().ask("/talkative/y", method="POST").status == 418
    assert entries(server, "talkative: code 418, message I'm a Teapot")


def test_the_default_is_silent(talk: Open, server: Daemon) -> None:
    for path in ("/old/silent", "/quiet/silent"):
        assert talk().ask(path).text == "hello"
    eventually(lambda: sum("silent" in line for line in server.access_lines(2)) >= 2, "both lines in the access log")
    assert not [line for line in server.log_lines() if "silent" in line]


# The access log


@pytest.mark.parametrize("form", ["common", "combined", "json", '%h "%r" %>s %b %D %{X-One}i %{Content-Type}o'])
def test_every_format_has_handlers_too(place: Place, daemon: Daemon, form: str) -> None:
    daemon.expect("a handler raised", r"^\t")
    install(place, "answers")
    text = '[[vhost]]\nnames = ["site"]\n[[vhost.handler]]\npath = "/"\nclass = "answers:Odd"\npythonpath = ["app"]'
    daemon.configure(text, "workers = 1", log=f"format = {json.dumps(form)}")
    daemon.start()
    with Talk(daemon) as client:
        for target in ("/plain?x=%22", "/no_length", "/has_field", "/raises?id=1", "/old\xe9", "/plain"):
            raw = target.encode("latin-1")
            client.send(b"GET %b HTTP/1.1\r\nHost: site\r\nX-One: 1\r\nUser-Agent: me\r\n\r\n" % raw)
            if target == "/old\xe9":
                assert client.reply().status == 400
                break
            client.reply()
    with Talk(daemon) as client:
        assert client.ask("/plain", method="POST", body=b"x").text == "plain"
        assert client.ask("/plain", method="HEAD").status == 200
    lines = daemon.access_lines(7)
    assert len(lines) == 7
    if form == "json":
        found = [json.loads(line) for line in lines]
        assert [(one["method"], one["target"], one["status"], one["bytes"]) for one in found[:3]] == [
            ("GET", "/plain?x=%22", 200, 5), ("GET", "/no_length", 200, 9), ("GET", "/has_field", 200, 3)
        ]  # fmt: skip
        assert all(one["duration"] >= 0 and one["vhost"] == "site" for one in found[:4])
        assert found[0]["user_agent"] == "me"
    elif form in ("common", "combined"):
        tail = ' "-" "me"' if form == "combined" else ""
        assert lines[0].endswith(f'"GET /plain?x=%22 HTTP/1.1" 200 5{tail}')
        assert lines[1].endswith(f'"GET /no_length HTTP/1.1" 200 9{tail}')
        assert '" 500 ' in lines[3]
        tail = ' "-" "-"' if form == "combined" else ""
        assert lines[5].endswith(f'"POST /plain HTTP/1.1" 200 5{tail}')
        assert lines[6].endswith(f'"HEAD /plain HTTP/1.1" 200 -{tail}')
    else:
        assert re.fullmatch(r'127\.0\.0\.1 "GET /plain\?x=%22 HTTP/1\.1" 200 5 [0-9]+ 1 -', lines[0])
        assert re.fullmatch(r'127\.0\.0\.1 "GET /raises\?id=1 HTTP/1\.1" 500 [0-9]+ [0-9]+ 1 text/html.*', lines[3])
