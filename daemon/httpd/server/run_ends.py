"""The two ends of a script of `CGIHTTPRequestHandler` that are its client's: the body of the request, kept in a file,
and an answer that stops halfway.

Rules:

- What the client has announced must be there before the script starts, and is on disk: it can be read late, or not
  at all.
- An answer that can't be completed is cut off by a reset: its end would be taken for that of a whole one.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import tempfile
from typing import IO, Any

from httpd.system.descriptors import reset

_READ = 64 * 1024  # bytes


class Failed(Exception):
    """There is no answer: `status`, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def body_file() -> IO[bytes]:
    """A file without a name.  Raises Failed."""
    try:
        return tempfile.TemporaryFile(prefix="httpd-body-", buffering=0)
    except OSError as error:
        raise Failed(500, f"there is no file for its body: {error}") from None


def read_body(handler: Any, body: IO[bytes]) -> int | None:
    """Keep the body in `body`; returns its length in bytes, None where there is none.  Raises Failed."""
    text = handler.headers.get("Content-Length")
    if text is None and handler.headers.get("Transfer-Encoding") is None:
        return None
    length = 0
    left = int(text) if text is not None and text.isdecimal() else sys.maxsize
    while left and (piece := handler.rfile.read(min(_READ, left))):
        _keep(body, piece)
        length += len(piece)
        left -= len(piece)
    if text is not None and left:
        raise Failed(400, "the client sent less than it announced")
    body.seek(0)
    return length


def _keep(body: IO[bytes], piece: bytes) -> None:
    try:
        while piece:
            piece = piece[body.write(piece) :]
    except OSError as error:  # the disk is full
        raise Failed(500, f"its body can't be kept: {error}") from None


def cut_off(handler: Any, failed: Failed) -> None:
    """An answer that can't be completed: the client must not take it for whole, so the connection is reset."""
    handler.close_connection = True
    abandon = getattr(handler.wfile, "abandon", None)
    if abandon is not None:
        abandon(failed.status, failed.reason)
    elif isinstance(handler.connection, socket.socket):
        with contextlib.suppress(OSError):
            handler.wfile.flush()
            reset(handler.connection)
