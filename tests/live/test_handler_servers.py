"""The server objects of handlers: the documented ones, driven by the worker, with their hooks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from live.daemon import Daemon, Place, eventually
from live.handlers.talk import Open, Talk, close_gate, entered, entries, install, open_gate

_SERVERS = {
    "threading": "http.server:ThreadingHTTPServer", "one": "http.server:HTTPServer", "hooked": "hosts:Hooked",
    "denies": "hosts:Denies", "alters": "hosts:Alters", "own_thread": "hosts:OwnThread",
    "own_errors": "hosts:OwnErrors", "broken": "hosts:Broken", "tcp": "socketserver:TCPServer",
    "ours": "httpd.server:HTTPServer",
}  # fmt: skip
_MOUNTS = "".join(
    f"""
  [[vhost.handler]]
  path = "/{name}"
  class = "hosts:Handler"
  server = "{server}"
  pythonpath = ["app"]
"""
    for name, server in _SERVERS.items()
)
_CONFIG = f"""
[[vhost]]
root = "www"
{_MOUNTS}
  [[vhost.handler]]
  path = "/single"
  class = "hosts:Handler"
  threads = 1
"""


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    install(shared_place, "hosts")
    shared_place.write("www/a.txt", b"static")
    shared_daemon.configure(_CONFIG, "workers = 1")
    return shared_daemon.start()


def _ask(client: Talk, target: str) -> dict[str, Any]:
    answer = client.ask(target)
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    return found


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("threading", "ThreadingHTTPServer"), ("one", "HTTPServer"), ("hooked", "Hooked"), ("tcp", "TCPServer"),
        ("ours", "HTTPServer"), ("alters", "Alters"),
    ],
)  # fmt: skip
def test_the_server_is_the_one_that_was_named(talk: Open, name: str, kind: str) -> None:
    client = talk()
    for _ in range(6):
        found = _ask(client, f"/{name}/x")
        assert (found["class"], found["is_server"], found["request"]) == (kind, True, "Exchange")


def test_every_hook_is_called_in_its_order(talk: Open) -> None:
    client = talk()
    before = _ask(client, "/hooked/x")["notes"]
    assert before[:2] == ["init", "bind"]
    after = _ask(client, "/hooked/x")["notes"]
    calls = ["get_request", "verify_request", "process_request", "finish_request"]
    assert after[len(before) :] == ["shutdown_request", *calls]


def test_a_request_that_is_not_verified_is_closed_without_a_word(talk: Open, server: Daemon) -> None:
    client = talk()
    client.send(b"GET /denies HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.closed()
    assert talk().ask("/threading/behind-it").status == 200
    eventually(lambda: any("/threading/behind-it" in line for line in server.access_lines(1)), "the line behind it")
    assert not [line for line in server.access_lines(1) if "/denies" in line]
    assert not [line for line in server.log_lines() if "/denies" in line]


def test_finish_request_may_call_what_it_likes(talk: Open) -> None:
    assert _ask(talk(), "/alters/x")["notes"] == ["from 127.0.0.1"]


def test_a_thread_of_the_server_s_own(talk: Open, server: Daemon, shared_place: Place) -> None:
    client = talk()
    for _ in range(3):
        assert _ask(client, "/own_thread/x")["thread"] == "of its own"
    close_gate(shared_place, "gate-own")
    client.send(b"GET /own_thread/gate-own HTTP/1.1\r\nHost: a\r\n\r\n")
    entered(server, "gate-own")
    assert _ask(talk(), "/threading/x")["name"] == "x"
    open_gate(shared_place, "gate-own")
    assert json.loads(client.reply().body)["name"] == "gate-own"
    assert client.ask("/a.txt").text == "static"


def test_an_error_in_a_thread_of_the_server_s_own(talk: Open, server: Daemon) -> None:
    server.expect("a handler raised", r"^\t")
    client = talk()
    assert client.ask("/own_thread/raise").status == 500
    assert len(entries(server, "request=.*/own_thread/raise")) == 1
    assert client.ask("/a.txt").text == "static"


def test_handle_error_may_be_overridden(talk: Open, server: Daemon) -> None:
    client = talk()
    assert client.ask("/own_errors/raise").status == 500
    assert entries(server, "stderr: own handle_error: raised in a handler")
    assert not entries(server, "a handler raised.*own_errors", 0)
    assert _ask(client, "/own_errors/x")["name"] == "x"


def test_what_a_hook_raises_is_a_500_too(talk: Open, server: Daemon) -> None:
    server.expect("a handler raised", r"^\t")
    client = talk()
    assert client.ask("/broken/x").status == 500
    (entry,) = entries(server, "request=.*/broken/x")
    assert "RuntimeError: raised in a server" in entry
    assert client.ask("/a.txt").text == "static"


@pytest.mark.parametrize("name", ["one", "single", "own_errors"])
def test_how_many_at_once(talk: Open, server: Daemon, shared_place: Place, name: str) -> None:
    gates = [f"gate-{name}-{number}" for number in range(2)]
    for gate in gates:
        close_gate(shared_place, gate)
    first, second = talk(), talk()
    first.send(f"GET /{name}/{gates[0]} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    entered(server, gates[0])
    second.send(f"GET /{name}/{gates[1]} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    if name == "own_errors":  # many at once
        entered(server, gates[1])
    assert _ask(talk(), "/threading/x")["name"] == "x"  # others are not held up
    assert server.stderr is not None
    assert len(server.stderr.find(f"stderr: at {gates[1]}")) == (name == "own_errors")
    open_gate(shared_place, gates[0])
    assert json.loads(first.reply().body)["name"] == gates[0]
    entered(server, gates[1])
    open_gate(shared_place, gates[1])
    assert json.loads(second.reply().body)["name"] == gates[1]


def test_a_handler_can_not_stop_the_server(talk: Open, server: Daemon) -> None:
    server.expect(r"a handler called (shutdown|server_close)\(\): refused")
    client = talk()
    assert _ask(client, "/threading/stop")["name"] == "stop"
    assert entries(server, r"a handler called shutdown\(\): refused")
    assert entries(server, r"a handler called server_close\(\): refused")
    assert _ask(client, "/threading/x")["name"] == "x"
    assert eventually(lambda: len(server.workers()) == 1, "the worker serves")


def test_a_handler_can_not_listen(talk: Open) -> None:
    assert "name the address in server.listen" in _ask(talk(), "/threading/listen")["name"]
