"""A handler at the end of a socket: what it is sent, and what it answers."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpd.server

LIMIT = 20.0  # seconds; only a failure takes so long


class Stage:
    """A server object for handlers that only ask for its name."""

    server_name, server_port = "stage", 80


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a TCP connection: client, server."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname(), timeout=LIMIT)
        served, _ = listener.accept()
        served.settimeout(LIMIT)
        with client, served:
            yield client, served


def ask(kind: Callable[..., Any], *pieces: bytes, end: bool = True, **options: Any) -> bytes:
    """All that `kind` answers to `pieces`, sent as they are; `end`: and then to the end of input."""
    with tcp_pair() as (client, served):

        def run() -> None:
            with contextlib.suppress(ConnectionError):
                kind(served, ("127.0.0.1", 1), Stage(), **options)
            served.close()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        for piece in pieces:
            client.sendall(piece)
        if end:
            client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65536), b""))
        thread.join(LIMIT)
        assert not thread.is_alive()
        return answer


class Quiet(httpd.server.BaseHTTPRequestHandler):
    """HTTP/1.1, no log; tells what it was asked for."""

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def reply(self, body: bytes, *fields: tuple[str, str]) -> None:
        self.send_response(200)
        for name, value in fields:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.reply(f"<{self.command} {self.path} {self.request_version}>".encode())

    def do_POST(self) -> None:
        self.reply(b"<" + self.rfile.read() + b">")


def statuses(answer: bytes) -> list[int]:
    """The statuses of the answers in a stream."""
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d\d\d) ", answer)]
