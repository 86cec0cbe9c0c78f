"""A server of either library for the length of a test, and a client that sends bytes."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

LIMIT = 20.0  # seconds; only a failure takes so long


@contextlib.contextmanager
def playing(lib: Any, handler: Any, kind: Any = None) -> Iterator[Any]:
    """A server that serves `handler`, in a thread."""
    server = (kind or lib.ThreadingHTTPServer)(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(LIMIT)


def connect(server: Any) -> socket.socket:
    return socket.create_connection(server.server_address[:2], timeout=LIMIT)


def send(server: Any, *pieces: bytes) -> bytes:
    """All that comes back before the server closes the connection."""
    with connect(server) as client:
        for piece in pieces:
            client.sendall(piece)
        return receive(client)


def receive(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(65536), b""))


def receive_until(client: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        piece = client.recv(65536)
        assert piece, data
        data += piece
    return data


def get(lib: Any, handler: Any, path: str = "/", *fields: str, method: str = "GET", kind: Any = None) -> bytes:
    """The answer to one request."""
    lines = "".join(field + "\r\n" for field in fields)
    with playing(lib, handler, kind) as server:
        return send(server, f"{method} {path} HTTP/1.0\r\n{lines}\r\n".encode("latin-1"))


def quiet(lib: Any, base: str = "BaseHTTPRequestHandler") -> Any:
    """A handler class without a log."""

    class Quiet(getattr(lib, base)):  # type: ignore[misc]
        def log_message(self, *args: Any) -> None:
            pass

        def reply(self, body: bytes, *fields: tuple[str, Any]) -> None:
            self.send_response(200)
            for name, value in (*fields, ("Content-Length", len(body))):
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

    return Quiet


def split(answer: bytes) -> tuple[str, list[str], bytes]:
    """Status line, fields without Server and Date, body."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return status, [line for line in lines if not line.startswith(("Server:", "Date:"))], body
