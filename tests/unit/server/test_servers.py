"""The servers: binding, threads, errors, TLS."""

from __future__ import annotations

import contextlib
import gc
import http.client
import os
import socket
import socketserver
import ssl
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from httpd.server import (
    HTTPDualStackServer,
    HTTPServer,
    HTTPSServer,
    ThreadingHTTPServer,
    ThreadingHTTPSServer,
    servers,
    threads,
)
from httpd.system.tls import TLSError
from unit.server.wire import LIMIT, Quiet


@contextlib.contextmanager
def running(server: Any) -> Iterator[Any]:
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(LIMIT)


def get(server: Any, path: str = "/") -> bytes:
    connection = http.client.HTTPConnection(*server.server_address[:2], timeout=LIMIT)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read()


def wait_for(condition: Any) -> None:
    until = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


# Binding


@pytest.mark.parametrize(
    ("given", "name"),
    [("127.0.0.1", "127.0.0.1"), ("localhost", "localhost"), ("", None), ("0.0.0.0", None),
     (b"127.0.0.1", "127.0.0.1")],
)
def test_no_name_server_is_asked_for_the_name(given: Any, name: str | None) -> None:
    with mock.patch.object(socket, "getfqdn", side_effect=AssertionError), mock.patch.object(
        socket, "gethostbyaddr", side_effect=AssertionError
    ), HTTPServer((given, 0), Quiet) as server:
        assert server.server_name == (socket.gethostname() if name is None else name)
        assert server.server_port == server.socket.getsockname()[1] == server.server_address[1]


def backlog(kind: type[HTTPServer]) -> list[int]:
    with mock.patch.object(socket.socket, "listen", autospec=True) as listen:
        with kind(("127.0.0.1", 0), Quiet) as server:
            assert server.request_queue_size == kind.request_queue_size
        return [call.args[-1] for call in listen.call_args_list]


def test_the_queue_is_long_unless_somebody_says_how_long() -> None:
    class Own(HTTPServer):
        request_queue_size = 7

    assert backlog(HTTPServer) == [1024]
    assert backlog(Own) == [7]


def test_the_address_can_be_bound_again_at_once() -> None:
    with HTTPServer(("127.0.0.1", 0), Quiet) as server:
        assert server.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)


def test_dual_stack() -> None:
    class Server(HTTPDualStackServer):
        address_family = socket.AF_INET6

    try:
        server = Server(("::", 0), Quiet)
    except OSError:
        pytest.skip("no IPv6 here")
    with running(server):
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=LIMIT)
        with contextlib.closing(connection):
            connection.request("GET", "/four")
            assert b"/four" in connection.getresponse().read()


def test_accepting_differs_in_nothing_from_socketserver() -> None:
    for kind in (HTTPServer, socketserver.TCPServer):
        with kind(("127.0.0.1", 0), Quiet) as server, socket.create_connection(server.server_address) as client:
            server.socket.settimeout(LIMIT)
            request, address = server.get_request()
            with request:
                assert address == client.getsockname()
                assert (type(request), request.family, request.type) == (
                    socket.socket, socket.AF_INET, socket.SOCK_STREAM,
                )  # fmt: skip
                assert request.getpeername() == client.getsockname()
                assert request.gettimeout() is None
                assert not request.get_inheritable()


# Threads


class Naming(Quiet):
    """Answers the name of its thread; /wait waits for `go`."""

    go = threading.Event()
    entered = threading.Semaphore(0)
    protocol_version = "HTTP/1.0"

    def do_GET(self) -> None:
        if self.path == "/wait":
            Naming.entered.release()
            assert Naming.go.wait(LIMIT)
        self.reply(threading.current_thread().name.encode())


@pytest.fixture(autouse=True)
def fresh() -> None:
    Naming.go = threading.Event()
    Naming.entered = threading.Semaphore(0)


def waiting(server: Any) -> int:
    return 0 if server._crew is None else server._crew._waiting


def thread_of(name: bytes) -> threading.Thread:
    return next(thread for thread in threading.enumerate() if thread.name == name.decode())


def test_threads_are_used_again() -> None:
    with running(ThreadingHTTPServer(("127.0.0.1", 0), Naming)) as server:
        names = set()
        for _ in range(10):
            names.add(get(server))
            wait_for(lambda: waiting(server) == 1)
        assert len(names) == 1


def test_nobody_waits_for_another() -> None:
    with running(ThreadingHTTPServer(("127.0.0.1", 0), Naming)) as server:
        slow = [threading.Thread(target=get, args=(server, "/wait"), daemon=True) for _ in range(20)]
        for thread in slow:
            thread.start()
        for _ in slow:
            assert Naming.entered.acquire(timeout=LIMIT)
        assert get(server)
        Naming.go.set()
        for thread in slow:
            thread.join(LIMIT)
        wait_for(lambda: waiting(server) >= 20)


def test_no_thread_is_left_behind_a_closed_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_IDLE", 1000.0)
    with running(ThreadingHTTPServer(("127.0.0.1", 0), Naming)) as server:
        worker = thread_of(get(server))
        wait_for(lambda: waiting(server) == 1)
    worker.join(LIMIT)
    assert not worker.is_alive()


def test_nor_behind_one_that_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_IDLE", 1000.0)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Naming)
    thread = threading.Thread(target=server.handle_request, daemon=True)
    thread.start()
    worker = thread_of(get(server))
    thread.join(LIMIT)
    crew = server._crew
    wait_for(lambda: crew._waiting == 1)
    server.socket.close()
    gone = weakref.ref(server)
    del server, thread
    gc.collect()
    assert gone() is None
    worker.join(LIMIT)
    assert not worker.is_alive()


def test_a_server_that_waits_for_its_connections() -> None:
    class Waiting(ThreadingHTTPServer):
        daemon_threads = False

    with running(Waiting(("127.0.0.1", 0), Naming)) as server:
        client = threading.Thread(target=get, args=(server, "/wait"), daemon=True)
        client.start()
        assert Naming.entered.acquire(timeout=LIMIT)
        server.shutdown()
        closed = threading.Event()
        closer = threading.Thread(target=lambda: (server.server_close(), closed.set()), daemon=True)
        closer.start()
        wait_for(lambda: server.fileno() == -1)
        assert not closed.is_set()
        Naming.go.set()
        assert closed.wait(LIMIT)
        client.join(LIMIT)


@pytest.mark.parametrize("daemon_threads", [True, False])
def test_an_interrupt_while_a_thread_starts_ends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], daemon_threads: bool
) -> None:
    def start(thread: threading.Thread) -> None:
        lock = threading.Lock()
        with lock:  # as Event.wait does, in which Condition.wait lets go of it for a while
            lock.release()
            raise KeyboardInterrupt

    with ThreadingHTTPServer(("127.0.0.1", 0), Naming) as server:
        server.daemon_threads = daemon_threads
        server.block_on_close = False  # there is no thread to be waited for
        with socket.create_connection(server.server_address, LIMIT) as client:
            monkeypatch.setattr(threading.Thread, "start", start)
            with pytest.raises(KeyboardInterrupt):
                server.handle_request()
            assert client.recv(1) == b""
    assert capsys.readouterr().err == ""


def test_a_thread_that_can_not_be_started_costs_one_connection(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Naming)
    with server, socket.create_connection(server.server_address, LIMIT) as client:
        monkeypatch.setattr(threading.Thread, "start", start)
        server.handle_request()
        assert client.recv(1) == b""
    assert "can't start new thread" in capsys.readouterr().err


def test_the_first_connection_imports_nothing() -> None:
    """In the thread that accepts: the lock of an import has a weakref callback, and ^C is lost in one of these."""
    code = """
import socket, sys, threading
from httpd.server import BaseHTTPRequestHandler, ThreadingHTTPServer

with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
    with socket.create_connection(server.server_address):
        import builtins
        real, me = builtins.__import__, threading.get_ident()
        def told(name, *rest):
            if threading.get_ident() == me and name not in sys.modules:
                print(name)
            return real(name, *rest)
        builtins.__import__ = told
        server.handle_request()
        builtins.__import__ = real
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(servers.__file__).parents[2])}
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT, check=True, env=environment
    )
    assert found.stdout == ""


def test_connections_are_accepted_in_a_row() -> None:
    """Those that wait are, before service_actions has its turn; handle_request accepts one."""
    ticks: list[int] = []
    accepted: list[Any] = []

    class Server(ThreadingHTTPServer):
        def service_actions(self) -> None:
            ticks.append(len(accepted))

        def process_request(self, request: Any, client_address: Any) -> None:
            accepted.append(client_address)
            self.shutdown_request(request)
            if len(accepted) == 6:
                threading.Thread(target=self.shutdown).start()

    with Server(("127.0.0.1", 0), Quiet) as server, contextlib.ExitStack() as stack:
        for _ in range(6):
            stack.enter_context(socket.create_connection(server.server_address))
        server.handle_request()
        assert len(accepted) == 1
        server.serve_forever(0.01)
        assert 6 in ticks
        assert not {2, 3, 4, 5} & set(ticks)


# Errors


class Failing(Quiet):
    def do_GET(self) -> None:
        if self.path == "/bug":
            raise ValueError("a bug")
        if self.path == "/upstream":
            raise ConnectionResetError("another server")
        for _ in range(1000):
            self.wfile.write(b"x" * 100_000)

    def do_POST(self) -> None:
        self.rfile.read()


def said(capsys: pytest.CaptureFixture[str], send: bytes, close: bool) -> str:
    """What is written to stderr while one connection is served."""
    done = threading.Event()

    class Server(HTTPServer):
        def shutdown_request(self, request: Any) -> None:
            super().shutdown_request(request)
            done.set()

    with running(Server(("127.0.0.1", 0), Failing)) as server:
        with socket.create_connection(server.server_address, timeout=LIMIT) as client:
            client.sendall(send)
            if close:
                client.recv(1)
            else:
                assert done.wait(LIMIT)
        assert done.wait(LIMIT)
    return capsys.readouterr().err


def test_a_client_that_leaves_is_no_news(capsys: pytest.CaptureFixture[str]) -> None:
    assert said(capsys, b"GET / HTTP/1.1\r\n\r\n", close=True) == ""


def test_a_bug_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ValueError: a bug" in said(capsys, b"GET /bug HTTP/1.1\r\n\r\n", close=False)


def test_and_so_is_the_loss_of_another_connection(capsys: pytest.CaptureFixture[str]) -> None:
    assert "ConnectionResetError: another server" in said(capsys, b"GET /upstream HTTP/1.1\r\n\r\n", close=False)


def test_a_malformed_body_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", close=False)
    assert text == (
        "Bad request body from 127.0.0.1: a chunked body is malformed: malformed chunk line b'xyz'\n"
    )


# TLS


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with cert.pem and key.pem."""
    folder = tmp_path_factory.mktemp("tls")
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("no openssl here, to make a certificate with")
    return folder


def trusting() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def get_by_tls(server: Any, path: str = "/") -> bytes:
    connection = http.client.HTTPSConnection(*server.server_address[:2], timeout=LIMIT, context=trusting())
    with contextlib.closing(connection):
        connection.request("GET", path)
        assert connection.sock.selected_alpn_protocol() == "http/1.1"
        return connection.getresponse().read()


@pytest.mark.parametrize("kind", [HTTPSServer, ThreadingHTTPSServer])
def test_https(kind: type[HTTPSServer], certificate: Path) -> None:
    server = kind(("127.0.0.1", 0), Quiet, certfile=certificate / "cert.pem", keyfile=certificate / "key.pem")
    with running(server):
        assert get_by_tls(server, "/a") == b"<GET /a HTTP/1.1>"


def test_a_silent_client_holds_up_nobody(certificate: Path) -> None:
    server = ThreadingHTTPSServer(
        ("127.0.0.1", 0), Quiet, certfile=certificate / "cert.pem", keyfile=certificate / "key.pem"
    )
    with running(server), socket.create_connection(server.server_address):
        assert get_by_tls(server)


def test_a_client_that_speaks_no_tls_is_a_line(certificate: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = HTTPSServer(("127.0.0.1", 0), Quiet, certfile=certificate / "cert.pem", keyfile=certificate / "key.pem")
    ours = ("127.0.0.77", 0)  # not that of a stranger who looks whether somebody is at this port
    with running(server), socket.create_connection(server.server_address, LIMIT, ours) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            while client.recv(1000):
                pass
        assert get_by_tls(server)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if ours[0] in line] == ["TLS handshake with 127.0.0.77 failed: HTTP_REQUEST"]


def test_a_certificate_that_is_not_there() -> None:
    with pytest.raises(TLSError) as caught:
        HTTPSServer(("127.0.0.1", 0), Quiet, certfile="/nonexistent/cert.pem")
    assert caught.value.filename == "/nonexistent/cert.pem"


def test_a_python_without_ssl() -> None:
    with mock.patch.dict(sys.modules, {"ssl": None}), pytest.raises(RuntimeError, match="SSL module is missing"):
        HTTPSServer(("127.0.0.1", 0), Quiet, certfile="x")


def test_gone_is_asked_of_the_socket() -> None:
    near, far = socket.socketpair()
    with near:
        assert not servers._is_gone(near)
        far.close()
        assert servers._is_gone(near)
    assert servers._is_gone(near)
    assert servers._is_gone(object())
