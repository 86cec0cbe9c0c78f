"""A request's body is of that request alone: where nobody has taken it, it is not there for the next one."""

from __future__ import annotations

import pytest

from live.cgi.scripts import SCRIPTS, install, marked, mount, write
from live.daemon import Daemon, Place, eventually
from live.handlers.talk import Open, close_gate, entered, open_gate
from live.handlers.talk import install as install_handlers

_HANDLERS = """
[limits]
queue = 0
[[vhost]]
root = "www"
  [[vhost.handler]]
  path = "/work"
  class = "echo:Handler"
  pythonpath = ["app"]
"""
_ECHO = b"""
import work

class Handler(work.Handler):
    def echo(self):
        self.reply(f"{self.headers['Cookie']} {self.rfile.read()}")
"""
_SECRET = b"pay=1000&user=A"


@pytest.fixture
def server(daemon: Daemon) -> Daemon:
    return daemon


def test_of_a_request_that_is_refused_behind_its_body(daemon: Daemon, place: Place, talk: Open) -> None:
    install_handlers(place, "work")
    place.write("app/echo.py", _ECHO)
    place.write("www/a", b"a")
    daemon.configure(_HANDLERS, "workers = 1\nthreads = 1")
    daemon.expect("all threads are busy")
    daemon.start()
    client, other = talk(), talk()
    client.send(b"POST /work/echo HTTP/1.1\r\nHost: a\r\nCookie: A\r\nContent-Length: %d\r\n\r\n" % len(_SECRET))
    assert talk().ask("/a").status == 200  # the head has been looked at by now
    close_gate(place, "full")
    other.send(b"GET /work/gate/full HTTP/1.1\r\nHost: a\r\n\r\n")
    entered(daemon, "full")
    client.send(_SECRET)
    assert client.reply().status == 503
    open_gate(place, "full")
    assert other.reply().status == 200

    def answer() -> str:  # 503 until the thread that has answered is free again
        reply = client.ask("/work/echo", "Cookie: B", "Content-Length: 0", method="POST")
        return reply.text if reply.status == 200 else ""

    assert eventually(answer, "the thread is free") == "B b''"


@pytest.fixture
def scripts(daemon: Daemon, place: Place) -> Daemon:
    install(place, SCRIPTS)
    daemon.configure('[[vhost]]\nroot = "www"\n' + mount(place, "/s"), "workers = 1")
    place.write("www/a", b"a")
    return daemon.start()


def test_of_a_script_that_goes_while_it_comes(scripts: Daemon, place: Place, talk: Open) -> None:
    client = talk()
    client.send(b"POST /s/counts?first HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(_SECRET))
    assert talk().ask("/a").status == 200
    (place.path / "cgi" / "counts").unlink()
    client.send(_SECRET)
    scripts.expect("script failed: it does not exist")
    assert client.reply().status == 404
    write(place, "counts", SCRIPTS["counts"])
    assert client.ask("/s/counts?second").text.split() == ["0"]


def test_of_a_script_that_appears_while_it_comes(scripts: Daemon, place: Place, talk: Open) -> None:
    (place.path / "cgi" / "counts").unlink()
    client = talk()
    client.send(b"POST /s/counts?none HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(_SECRET))
    assert talk().ask("/a").status == 200
    write(place, "counts", SCRIPTS["counts"])
    client.send(_SECRET)
    assert client.reply().status in (404, 405)
    assert not marked(place, "none")
    assert client.ask("/s/counts?some", method="POST", body=_SECRET).text.split() == [str(len(_SECRET))] * 2
