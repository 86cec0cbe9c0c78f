"""Which site answers: by name, by wildcard, by listener."""

from __future__ import annotations

import os
import stat

import pytest

from live.client import Client, request
from live.conftest import Connect
from live.daemon import Daemon, Place

_CONFIG = """
[[vhost]]
names = ["first.example"]
root = "sites/first"
[[vhost]]
names = ["b.example", "*.b.example"]
root = "sites/wild"
[[vhost]]
names = ["deep.a.b.example", "*.a.b.example"]
root = "sites/deeper"
[[vhost]]
names = ["only-second.example"]
listen = ["127.0.0.1:0", "unix:{path}/site.sock"]
root = "sites/second"
[[vhost]]
names = ["socket.example"]
listen = ["unix:{path}/site.sock"]
root = "sites/socket"
"""


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    for name in ("first", "wild", "deeper", "second", "socket"):
        shared_place.write(f"sites/{name}/who", name.encode())
    path = shared_place.path
    shared_daemon.configure(
        _CONFIG.format(path=path), listen=f'["127.0.0.1:0", "127.0.0.2:0", "unix:{path}/site.sock"]'
    )
    return shared_daemon.start()


@pytest.mark.parametrize(
    ("host", "site"),
    [
        ("first.example", "first"), ("FIRST.Example", "first"), ("first.example:8080", "first"),
        ("first.example.", "first"), ("b.example", "wild"), ("x.b.example", "wild"), ("y.x.b.example", "wild"),
        ("x.a.b.example", "deeper"), ("deep.a.b.example", "deeper"), ("a.b.example", "wild"), ("ab.example", "first"),
        ("unknown", "first"), ("127.0.0.1", "first"), ("[::1]:80", "first"), ("", "first"),
        ("only-second.example", "second"), ("socket.example", "first"),
    ],
)  # fmt: skip
def test_a_name_chooses_the_site(server: Daemon, connect: Connect, host: str, site: str) -> None:
    client = connect()
    for _ in range(2):
        assert client.send(request("/who", host=host)).read().body == site.encode()


def test_the_target_wins_over_host(server: Daemon, connect: Connect) -> None:
    assert connect().send(request("http://b.example/who", host="first.example")).read().body == b"wild"


def test_one_connection_may_ask_several_sites(server: Daemon, connect: Connect) -> None:
    client = connect()
    for host, site in [("first.example", b"first"), ("b.example", b"wild"), ("z.a.b.example", b"deeper")] * 3:
        assert client.send(request("/who", host=host)).read().body == site


def test_a_listener_has_its_own_sites(server: Daemon) -> None:
    second = next(name for name in server.listeners() if name.startswith("127.0.0.2:"))
    with Client(("127.0.0.2", int(second.rpartition(":")[2]))) as client:
        assert client.send(request("/who", host="only-second.example")).read().body == b"first"
        assert client.send(request("/who", host="b.example")).read().body == b"wild"


def test_a_unix_socket_serves_like_any_other(server: Daemon, shared_place: Place) -> None:
    path = shared_place.path / "site.sock"
    mode = os.stat(path).st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o666
    with Client(str(path)) as client:
        assert client.send(request("/who", host="socket.example")).read().body == b"socket"
        assert client.send(request("/who", host="only-second.example")).read().body == b"second"
        assert client.send(request("/who", host="unknown")).read().body == b"first"


def test_thousands_of_unknown_hosts(server: Daemon, connect: Connect) -> None:
    client = connect()
    for number in range(3000):
        client.send(request("/who", host=f"n{number}.example"))
        assert client.read().body == b"first"
