"""Handlers that take the client's socket over, and those that write without an end."""

from __future__ import annotations

import re
import socket
import threading

import pytest

from live.daemon import PATIENCE, Daemon, Place, eventually
from live.handlers.talk import Open, Talk, install

_CONFIG = """
[[vhost]]
root = "www"

  [[vhost.handler]]
  path = "/taken"
  class = "sockets:Taken"
  pythonpath = ["app"]
  [[vhost.handler]]
  path = "/raw"
  class = "sockets:Raw"

[[vhost]]
names = ["proxy.example", "127.0.0.1"]
  [[vhost.handler]]
  path = "/"
  class = "sockets:Proxy"

[limits]
detached = 3
"""


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    install(shared_place, "sockets")
    shared_place.write("www/a.txt", b"static")
    shared_daemon.configure(_CONFIG, "workers = 1\nthreads = 4")
    return shared_daemon.start()


def _ask(client: Talk, target: str, behind: bytes = b"") -> Talk:
    client.send(f"GET {target} HTTP/1.1\r\nHost: a\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\n".encode() + behind)
    return client


def _upgraded(client: Talk, name: str, behind: bytes = b"") -> Talk:
    assert _ask(client, f"/taken/{name}", behind).head().status == 101
    return client


def test_another_protocol_behind_an_upgrade(talk: Open, server: Daemon) -> None:
    client = _upgraded(talk(), "upgraded")
    for line in (b"one\n", b"two\n"):
        assert client.send(line).upto(b"\n") == line.upper()
    client.send(b"\n")
    assert client.closed()
    lines = eventually(lambda: [line for line in server.access_lines(1) if "/taken/upgraded" in line], "a line")
    assert '" 101 ' in lines[0]


def test_bytes_that_were_read_before_come_first(talk: Open) -> None:
    client = _upgraded(talk(), "upgraded", b"early\n")
    assert client.upto(b"\n") == b"EARLY\n"
    assert client.send(b"late\n").upto(b"\n") == b"LATE\n"


@pytest.mark.parametrize(
    ("name", "sent", "received"),
    [
        ("by_fileno", b"abc", b"cba"), ("by_makefile", b"line\n", b"<line>"), ("by_detach", b"abc", b"detached abc"),
        ("by_recv_into", b"abc", b"abc"), ("peek", b"abcdef", b"abc|abcdef"), ("timed", b"", b"timed out"),
    ],
)  # fmt: skip
def test_every_way_to_the_socket(talk: Open, name: str, sent: bytes, received: bytes) -> None:
    client = _upgraded(talk(), name)
    client.send(sent)
    assert client.exactly(len(received)) == received
    client.sock.shutdown(socket.SHUT_WR)
    assert client.closed()


@pytest.mark.parametrize(("name", "received"), [("by_recv_into", b"early"), ("peek", b"ear|early")])
def test_early_bytes_in_every_way(talk: Open, name: str, received: bytes) -> None:
    client = _upgraded(talk(), name, b"early")
    assert client.exactly(len(received)) == received


def test_an_answer_past_wfile(talk: Open) -> None:
    client = talk()
    answer = client.ask("/taken/by_send")
    assert answer.text == "raw"
    assert client.closed()


def test_a_callable_may_read_the_request_itself(talk: Open) -> None:
    request = b"GET /raw?x HTTP/1.1\r\nHost: a\r\nX-One: 1\r\n\r\n"
    client = talk().send(request)
    assert client.reply().body == request


def test_questions_take_nothing_over(talk: Open, server: Daemon) -> None:
    client = talk()
    for _ in range(2):
        peer, own, *facts = eval(client.ask("/taken/facts").body)
        assert (peer, own) == (client.sock.getsockname(), ("127.0.0.1", server.port))
        assert facts == [True, True, None]
    assert client.ask("/a.txt").text == "static"


def test_the_end_of_the_client_is_seen(talk: Open, server: Daemon) -> None:
    client = _upgraded(talk(), "left")
    assert client.exactly(1) == b"x"
    client.close()
    assert server.stderr is not None
    server.stderr.wait("stderr: the peer has ended")


def test_no_more_than_limits_detached(talk: Open, server: Daemon) -> None:
    server.expect("limits.detached", r"a handler raised request=.*/taken/by_send", r"^\t")
    held = [_upgraded(talk(), "held") for _ in range(3)]
    refused = _ask(talk(), "/taken/by_send")
    assert refused.reply().status == 500
    assert server.stderr is not None
    server.stderr.wait("limits.detached")
    for client in held:
        client.send(b"x")
        assert client.closed()
    assert talk().ask("/taken/by_send").text == "raw"


def test_taken_sockets_hold_no_thread_of_the_pool(talk: Open) -> None:
    held = [_upgraded(talk(), "held") for _ in range(3)]
    held_too = [talk() for _ in range(4)]
    assert [client.ask("/taken/facts").status for client in held_too] == [200] * 4
    for client in held:
        client.send(b"x")
        assert client.closed()


@pytest.mark.parametrize("name", ["forever", "trickles"])
def test_who_leaves_an_endless_answer_is_no_traceback(talk: Open, server: Daemon, name: str) -> None:
    client = talk()
    client.send(f"GET /taken/{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    assert client.head().status == 200
    for _ in range(20):
        client.upto(b"\n")
    client.reset()
    if name == "trickles":
        assert server.stderr is not None
        server.stderr.wait("stderr: the client left the trickle")
    eventually(lambda: any(f"/taken/{name} " in line for line in server.access_lines(1)), "a line in the access log")
    assert talk().ask("/taken/facts").status == 200
    assert not [line for line in server.log_lines() if re.search("BrokenPipe|a handler raised .*" + name, line)]


def test_connect(talk: Open, server: Daemon) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE)

        def answer() -> None:
            sock, _ = listener.accept()
            with sock:
                sock.settimeout(PATIENCE)
                sock.sendall(b"through: " + sock.recv(100))
                sock.recv(1)

        thread = threading.Thread(target=answer)
        thread.start()
        port = listener.getsockname()[1]
        client = talk()
        client.send(f"CONNECT 127.0.0.1:{port} HTTP/1.1\r\nHost: proxy.example\r\n\r\n".encode())
        assert client.head().status == 200
        assert client.send(b"hello").exactly(14) == b"through: hello"
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()
        thread.join(PATIENCE)


def test_connect_where_no_handler_is_asked_for_it(talk: Open) -> None:
    client = talk()
    client.send(b"CONNECT a:1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert client.head().status == 405


def test_an_absolute_target_at_a_mount_for_all(talk: Open) -> None:
    client = talk()
    client.send(b"GET http://proxy.example/x?y HTTP/1.1\r\nHost: proxy.example\r\n\r\n")
    assert client.reply().text == "/x?y"


def test_what_is_written_behind_a_take_over_holds_nobody_up(talk: Open, server: Daemon) -> None:
    slow = _ask(talk(), "/taken/answers_by_wfile")
    assert slow.head().status == 200
    other = talk()
    other.send(b"GET /a.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert other.rest().endswith(b"static")
    assert len(slow.rest()) == 50_000_000


def test_who_asks_for_what_a_socket_does_not_have_takes_nothing(talk: Open, server: Daemon) -> None:
    client = talk()
    for _ in range(2):
        assert _ask(client, "/taken/asks_for_tls").head().status == 200
        assert client.exactly(2) == b"ok"


@pytest.mark.parametrize("quick", [False, True])
def test_chunks_that_break_off_have_no_end(talk: Open, server: Daemon, quick: bool) -> None:
    server.expect("a handler raised", "behind a part", r"^\t")
    client = talk()
    if quick:  # it fails in the loop's own thread, which can't have sent anything by then
        for _ in range(60):  # more than a mount that was slow has to prove itself
            assert client.ask("/taken/asks_for_tls").text == "ok"
        client.send(b"GET /taken/fails_in_chunks HTTP/1.1\r\nHost: a\r\n\r\n")
    else:
        _ask(client, "/taken/fails_in_chunks")
    assert client.head().status == 200
    got = b""
    with pytest.raises(ConnectionResetError):
        while data := client.sock.recv(4096):
            got += data
    assert b"0\r\n\r\n" not in got


def test_another_protocol_by_rfile(talk: Open, server: Daemon) -> None:
    client = _upgraded(talk(), "by_rfile", b"early ")
    client.send(b"late")
    assert client.exactly(10) == b"EARLY LATE"
