"""The load itself: it notices every way to lose an answer, and takes nothing else for one."""

from __future__ import annotations

import contextlib
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from live.daemon import eventually
from live.load import Load, client_ports_of
from live.load_clients import KINDS, Connection, Crowd, LostError, Order
from live.load_clients import Client as LoadClient

_BODY = b"the body of this file"
_HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n" % len(_BODY)
_GOOD = _HEAD + b"\r\n" + _BODY
_LAST = _HEAD + b"Connection: close\r\n\r\n" + _BODY

Act = Callable[[socket.socket], None]


def _heard(sock: socket.socket, requests: int = 1) -> int:
    """Read so many requests; how many came, 0 when the client is gone."""
    data = b""
    while data.count(b"\r\n\r\n") < requests:
        more = sock.recv(4096)
        if not more:
            return 0
        data += more
    return data.count(b"\r\n\r\n")


def _serve(sock: socket.socket) -> None:
    while count := _heard(sock):
        sock.sendall(_GOOD * count)


def _says(data: bytes, *, reset: bool = False, requests: int = 1) -> Act:
    def act(sock: socket.socket) -> None:
        if _heard(sock, requests):
            sock.sendall(data)
            if reset:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return act


def _then(*acts: Act) -> Act:
    def act(sock: socket.socket) -> None:
        for one in acts:
            one(sock)

    return act


def _silent(sock: socket.socket) -> None:
    while sock.recv(4096):
        pass


def _at_once(sock: socket.socket) -> None:
    sock.shutdown(socket.SHUT_RDWR)


class _Server:
    """Does one act with each connection in turn, and serves those behind them as it should be."""

    def __init__(self, *acts: Act) -> None:
        self._acts = list(acts)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.done = threading.Event()  # all acts are over, and somebody was served behind them
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self.listener.close()

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock, contextlib.suppress(OSError):
                act = self._acts.pop(0) if self._acts else None
                if act is not None:
                    act(sock)
                elif count := _heard(sock):
                    sock.sendall(_GOOD * count)
                    self.done.set()
                    _serve(sock)


def _one(port: int, kind: str = "keep-alive", patience: float = 20.0) -> Load:
    return Load(port, {"/a": _BODY}, clients=1, rate=1000, kinds=(kind,), patience=patience)


_LOST: dict[str, tuple[Act, str]] = {
    "reset before the answer": (_says(b"", reset=True), "reset"),
    "reset inside of the head": (_says(_GOOD[:20], reset=True), "reset"),
    "reset inside of the body": (_says(_GOOD[:-3], reset=True), "reset"),
    "reset of a connection that had served": (_then(_says(_GOOD), _says(b"", reset=True)), "reset"),
    "closed inside of the head": (_says(_GOOD[:20]), "short"),
    "closed inside of the body": (_says(_GOOD[:-1]), "short"),
    "closed inside of a second answer": (_then(_says(_GOOD), _says(_GOOD[:-1])), "short"),
    "a byte is another": (_says(_GOOD[:-2] + b"L" + _GOOD[-1:]), "wrong"),
    "more than the length": (_says(_GOOD + b"x"), "wrong"),
    "another length": (_says(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nthe"), "wrong"),
    "no length": (_says(b"HTTP/1.1 200 OK\r\n\r\n" + _BODY), "wrong"),
    "the length comes twice": (_says(_HEAD + b"Content-Length: %d\r\n\r\n" % len(_BODY) + _BODY), "wrong"),
    "no HTTP": (_says(b"hello\r\n\r\n"), "wrong"),
    "not available": (_says(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"), "status"),
    "a redirect": (_says(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"), "status"),
    "closed when fresh, the request was read": (_says(b""), "closed"),
    "closed when fresh, at once": (_at_once, "closed"),
    "silence": (_silent, "timeout"),
}


@pytest.mark.parametrize("name", _LOST)
def test_every_loss_is_noticed(name: str) -> None:
    act, kind = _LOST[name]
    with _Server(act) as server, _one(server.port, patience=0.3 if kind == "timeout" else 20.0) as load:
        assert server.done.wait(20)
        report = load.stop()
    assert [loss.kind for loss in report.lost] == [kind], report
    assert (report.lost[0].path, report.lost[0].client, report.retried) == ("/a", "keep-alive", 0)
    assert report.answers >= 1


def test_a_server_that_is_not_there_is_noticed() -> None:
    with _Server() as server:
        load = _one(server.port)
    try:
        load.start(answers=0)
        eventually(lambda: load.now()["lost"] >= 2, "nobody is there, twice")
        assert {loss.kind for loss in load.stop().lost} == {"refused"}
    finally:
        load.kill_clients()


_FINE: dict[str, tuple[str, Act, int]] = {
    "good answers": ("keep-alive", _serve, 0),
    "one at a time": ("one-shot", _says(_LAST), 0),
    "in pieces": ("slow", _serve, 0),
    "closed in order between two requests": ("keep-alive", _says(_GOOD), 1),
    "closed in order when the second request had come": ("keep-alive", _then(_says(_GOOD), _says(b"")), 1),
    "the last answer of a connection": ("keep-alive", _says(_LAST), 0),
    "the last answer, and another request behind it": ("pipelined", _says(_LAST, requests=2), 1),
    "two answers": ("pipelined", _says(_GOOD + _LAST, requests=2), 0),
}


@pytest.mark.parametrize("name", _FINE)
def test_what_is_no_loss(name: str) -> None:
    kind, act, retried = _FINE[name]
    with _Server(act) as server, _one(server.port, kind) as load:
        load.more(3)
        report = load.stop()
    assert not report.lost, report
    # "between two requests" may be so early that it is behind a request, and the other way round: both are asked again.
    assert report.retried >= retried
    assert retried or not report.retried


@pytest.mark.parametrize(("silent", "lost"), [(0.0, True), (2.0, False)])
def test_a_client_that_was_late_blames_nobody(silent: float, lost: bool) -> None:
    crowd = Crowd(Order(("127.0.0.1", 1), {"/a": _BODY}, 1, 1.0, 1.0, 1, ()))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        client, connection = LoadClient(crowd, 0, KINDS[0], 0.0), Connection(KINDS[0], 1.0)
        connection.sock.close()
        connection.sock, connection.opened = ours, time.monotonic() - silent
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(LostError) if lost else contextlib.nullcontext():
            assert list(client._talk(connection)) == []
    assert crowd.retried == (0 if lost else 1)


def test_what_a_killed_process_had_in_hand_is_forgiven_and_nothing_else() -> None:
    server = _Server(_says(b"", reset=True))
    fd = server.listener.fileno()
    program = f"import socket\ns, _ = socket.socket(fileno={fd}).accept()\ns.recv(1, 2)\nprint('has it', flush=True)\n"
    command = [sys.executable, "-c", program + "s.recv(1, 2)\ninput()"]
    load = _one(server.port)
    with subprocess.Popen(command, pass_fds=[fd], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        try:
            load.start(answers=0)
            assert child.stdout is not None
            assert child.stdout.readline() == b"has it\n"
            assert len(client_ports_of(child.pid)) == 1
            load.kill(child.pid)
            with server:
                assert server.done.wait(20)
                report = load.stop()
        finally:
            child.kill()
            load.kill_clients()
    assert [loss.kind for loss in report.forgiven] == ["reset"], report
    assert [loss.kind for loss in report.lost] == ["reset"], report
    assert report.forgiven[0].port != report.lost[0].port or report.forgiven[0].when < report.lost[0].opened


def test_all_kinds_at_once() -> None:
    large = bytes(range(256)) * 4000
    files = {"/a": b"the a", "/b": b"b" * 5000, "/large": large}
    listener = socket.create_server(("127.0.0.1", 0))

    def serve(sock: socket.socket) -> None:
        rest = b""
        with sock, contextlib.suppress(OSError):
            while data := sock.recv(4096):
                *requests, rest = (rest + data).split(b"\r\n\r\n")
                for one in requests:
                    body = files[one.split(b" ")[1].decode()]
                    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    with Load(listener.getsockname()[1], files) as load:
        load.more(150)
    listener.shutdown(socket.SHUT_RDWR)
    accepting.join()
    listener.close()
    assert not load.report.lost, load.report
    assert load.report.answers >= 150
    assert load.report.connections >= 50
