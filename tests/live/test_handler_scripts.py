"""`CGIHTTPRequestHandler` as a handler of the daemon: its scripts run in the worker's name, and end with it."""

from __future__ import annotations

import re

import pytest

from live.cgi.scripts import alive, gone
from live.daemon import Daemon, Place
from live.handlers.talk import Talk

_MODULE = """
from http.server import CGIHTTPRequestHandler

class Scripts(CGIHTTPRequestHandler):
    cgi_directories = ["/cgi-bin"]
    protocol_version = "HTTP/1.1"
    @property
    def cgi_timeout(self):
        return 0.3 if "stops" in self.path else 60
    def __init__(self, *args):
        super().__init__(*args, directory={folder!r})
"""
_SCRIPT = "#!/bin/sh\n{first}\nprintf 'Content-Type: text/plain\\n\\n'; echo pid $$ is here\n{last}\n"
_SCRIPTS = {
    "plain": ("", ""),
    "obedient": ("", "exec sleep 1000"),
    "short": ("printf 'Content-Length: 1000\\n'", ""),
    "stops": ("", "exec sleep 1000"),
    "stubborn": ("trap '' TERM", "while :; do sleep 1000; done"),
}


@pytest.fixture
def server(daemon: Daemon, place: Place) -> Daemon:
    for name, (first, last) in _SCRIPTS.items():
        place.write(f"site/cgi-bin/{name}", _SCRIPT.format(first=first, last=last).encode(), 0o755)
    for folder in (place.path / "site", place.path / "site/cgi-bin"):
        folder.chmod(0o755)
    place.write("app/scripts.py", _MODULE.format(folder=str(place.path / "site")).encode())
    (place.path / "app").chmod(0o755)
    handler = 'path = "/"\nclass = "scripts:Scripts"\npythonpath = ["app"]'
    daemon.configure(f'[timeouts]\ndrain = "100ms"\n[[vhost]]\n[[vhost.handler]]\n{handler}\n', "workers = 1")
    return daemon.start()


def _begin(client: Talk, name: str) -> int:
    """The process of a script that goes on."""
    client.send(f"GET /cgi-bin/{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    found = re.search(rb"pid ([0-9]+) is", client.upto(b"is here"))
    assert found is not None
    return int(found[1])


@pytest.mark.parametrize("how", ["stop", "reload"])
def test_a_script_ends_with_its_worker(server: Daemon, how: str) -> None:
    server.expect("cut off", "Broken pipe", "CGI script", "client")
    with Talk(server) as one, Talk(server) as other, Talk(server) as third:
        assert "pid" in third.ask("/cgi-bin/plain").text
        pids = [_begin(one, "obedient"), _begin(other, "stubborn")]
        assert all(map(alive, pids))
        if how == "stop":
            server.signal("TERM")
            assert server.wait() == 0
        else:
            server.reload()
        gone(pids)


@pytest.mark.parametrize("minor", [0, 1])
def test_an_answer_that_stops_halfway_is_cut_off(server: Daemon, minor: int) -> None:
    server.expect("it wrote nothing for 0.3 s")
    with Talk(server) as client:
        client.send(f"GET /cgi-bin/stops HTTP/1.{minor}\r\nHost: a\r\n\r\n".encode())
        assert b"is here" in client.upto(b"is here")
        assert client.was_cut()


def test_one_of_which_nothing_has_left_is_502(server: Daemon) -> None:
    server.expect("bytes less than its Content-Length")
    with Talk(server) as client:
        try:
            assert client.ask("/cgi-bin/short").status == 502
        except ConnectionResetError:
            return  # it took a moment, and its head was on its way
        assert "pid" in client.ask("/cgi-bin/plain").text
