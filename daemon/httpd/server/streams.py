"""rfile and wfile of a handler that owns a socket.  What is read is bounded (`server.reader`); here is what is written.

Rules:

- A whole head is given to the kernel with MSG_MORE, which lets it wait for the body (200 ms at most): one packet, and
  nothing is held here that a handler could miss when it waits, closes, or goes on with the socket itself.
- Everything else leaves at once.  An interim answer (1xx) does: the client waits for it.
- Nagle's algorithm is off: it makes the second of two small writes wait for the client's delayed acknowledgement.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import socket
from typing import Any

from httpd.server.face import WriteOnly
from httpd.server.reader import RequestReader

_DISCARDED = 64 * 1024  # bytes of a body that are read for nothing to keep a connection
_MORE = getattr(socket, "MSG_MORE", 0)
_TCP, _NODELAY = int(socket.IPPROTO_TCP), int(socket.TCP_NODELAY)
_final_head = re.compile(rb"HTTP/1\.. [2-9]").match


class SocketWriter(WriteOnly):
    """`wfile` without a buffer: what is written is sent, a head together with what follows it."""

    __slots__ = ("_more", "_sock", "_waiting", "closed")

    def __init__(self, sock: Any, *, more: bool) -> None:
        """`more`: a plain socket, where the kernel can hold a head."""
        self._sock = sock
        self._more = more
        self._waiting = False  # the kernel holds a head
        self.closed = False

    def write(self, data: Any, /) -> int:
        """Send `data`.  Raises OSError when the client is gone, or takes nothing within the socket's timeout."""
        if self._more and type(data) is bytes and data[-4:] == b"\r\n\r\n" and _final_head(data):
            self._waiting = True
            self._sock.sendall(data, _MORE)
        else:
            self._waiting = False
            self._sock.sendall(data)
        return len(data) if type(data) is bytes else memoryview(data).nbytes

    def send_file(self, fd: int, offset: int, length: int) -> bool:
        """Send a stretch of a file, without closing it.  False: that can't be done here, and nothing was sent.

        If the file has become shorter the client gets to know by the end of the connection.
        """
        if not self._more:
            return False
        out = self._sock.fileno()
        end = offset + length
        begin = offset
        while offset < end:
            try:
                sent = os.sendfile(out, fd, offset, min(end - offset, 1 << 30))
            except BlockingIOError:
                self._wait(out)
                continue
            except ConnectionError:
                raise
            except OSError:
                if offset == begin:
                    return False  # no file that can be sent like this
                raise
            if not sent:
                self._sock.shutdown(socket.SHUT_WR)
                break
            offset += sent
        self._waiting = False
        return True

    def _wait(self, out: int) -> None:
        timeout = self._sock.gettimeout()
        poller = select.poll()
        poller.register(out, select.POLLOUT)
        if not poller.poll(None if timeout is None else timeout * 1000):
            raise TimeoutError("timed out")

    def flush(self) -> None:
        """Have the kernel send what it holds."""
        if self._waiting:
            self._waiting = False
            with contextlib.suppress(OSError):  # no TCP: nothing was held
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # also pushes, tcp(7)

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self.flush()

    def fileno(self) -> int:
        number: int = self._sock.fileno()
        return number


io.BufferedIOBase.register(SocketWriter)  # one in all but its finalizer, which costs time with each connection


def no_delay(request: Any) -> None:
    """Send small packets at once (tcp(7)); whatever is no TCP socket is left alone."""
    try:  # noqa: SIM105 - suppress() costs as much as the call
        request.setsockopt(_TCP, _NODELAY, 1)
    except (OSError, AttributeError):
        pass


def reader_of(request: Any, rbufsize: int) -> Any:
    """rfile for a socket, or for whatever has `makefile`.  It is always buffered."""
    if isinstance(request, socket.socket) and type(request).makefile is socket.socket.makefile:
        return RequestReader(request)
    return RequestReader(request, request.makefile("rb", rbufsize or -1))


def writer_of(request: Any, wbufsize: int) -> Any:
    """wfile for a socket, or for whatever has `sendall`; with a buffer, a file of `makefile`."""
    if wbufsize != 0:
        return request.makefile("wb", wbufsize)
    return SocketWriter(request, more=bool(_MORE) and _is_plain(request))


def _is_plain(request: Any) -> bool:
    """Whether `request` is a socket whose bytes leave as they are, unlike those of TLS."""
    kind = type(request)
    return isinstance(request, socket.socket) and kind.sendall is socket.socket.sendall


def discard_rest(rfile: Any) -> bool:
    """Read what is left of a request; False when that is too much, or broken, and the connection has to end."""
    return rfile.discard(_DISCARDED) if type(rfile) is RequestReader else True
