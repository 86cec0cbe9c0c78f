"""A refusal reaches a client that is still sending: no reset destroys it (RFC 9112 9.6)."""

from __future__ import annotations

import http.client
import subprocess

import pytest

from live.client import request
from live.conftest import Connect
from live.daemon import Daemon, Place

_UPLOAD = 20_000_000
_BLOCK = b"u" * 500_000


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    shared_place.write("www/a", b"the a")
    shared_daemon.configure('[[vhost]]\nroot = "www"\n')
    return shared_daemon.start()


@pytest.mark.parametrize("turn", range(5))
def test_405_for_an_upload_is_seen(server: Daemon, connect: Connect, turn: int) -> None:
    client = connect().send(request("/a", f"Content-Length: {_UPLOAD}", method="POST"))
    for _ in range(_UPLOAD // len(_BLOCK)):
        client.send(_BLOCK)
    answer = client.read()
    assert (answer.status, answer.closes) == (405, True)
    assert client.closed()


def test_405_for_a_chunked_upload_is_seen(server: Daemon, connect: Connect) -> None:
    client = connect().send(request("/a", "Transfer-Encoding: chunked", method="PUT"))
    for _ in range(_UPLOAD // len(_BLOCK)):
        client.send(b"%x\r\n%b\r\n" % (len(_BLOCK), _BLOCK))
    client.send(b"0\r\n\r\n")
    assert client.read().status == 405
    assert client.closed()


def test_the_standard_librarys_client_sees_it(server: Daemon) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.request("POST", "/a", body=b"u" * _UPLOAD)
    assert connection.getresponse().status == 405
    connection.close()


@pytest.mark.parametrize("expect", ["Expect:", "Expect: 100-continue"])
def test_curl_sees_it(server: Daemon, shared_place: Place, expect: str) -> None:
    body = shared_place.write("upload", b"u" * _UPLOAD)
    url = f"http://127.0.0.1:{server.port}/a"
    command = ["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", expect, "--data-binary", f"@{body}", url]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except FileNotFoundError:
        pytest.skip("no curl here")
    assert (done.returncode, done.stdout) == (0, "405"), done.stderr


def test_413_is_seen(place: Place, daemon: Daemon, connect: Connect) -> None:
    place.write("www/a", b"the a")
    daemon.configure('[[vhost]]\nroot = "www"\n[limits]\nbody = 1000000\n')
    daemon.start()
    for _ in range(5):
        client = connect().send(request("/a", f"Content-Length: {_UPLOAD}", method="POST"))
        for _ in range(_UPLOAD // len(_BLOCK)):
            client.send(_BLOCK)
        assert client.read().status == 413
        assert client.closed()


def test_a_pipeline_behind_a_refusal(server: Daemon, connect: Connect) -> None:
    client = connect().send(b"BAD\r\n\r\n" + request("/a") * 10_000)
    assert client.read().status == 400
    assert client.closed()


def test_a_pipeline_behind_a_close(server: Daemon, connect: Connect) -> None:
    client = connect().send(request("/a", "Connection: close") + request("/a") * 10_000)
    assert client.read().body == b"the a"
    assert client.closed()
