"""Bodies of requests for handlers: collected by the loop, or read by the handler itself.

    BodyStore    in memory, past `limits.body_memory` in a temporary file that has no name; with its head in front,
                 unless it is for a script
    StreamBody   `stream = true`: the handler's thread reads from the client, bounded by the framing

Rules:

- A handler sees one kind of framing: a chunked body was decoded, and its head says Content-Length instead (RFC 9112
  7.1.3).  Trailers are dropped.
- Where the head's size is known only at the end (chunked), room is left for it and it is put in front of the body then.
- A stream has a descriptor of its own: the loop may close the connection meanwhile, and its number may be another's
  then.
"""

from __future__ import annotations

import io
import os
import select
import tempfile
import time

from httpd.protocol.messages import ProtocolError, Request
from httpd.protocol.receiver import Receiver
from httpd.server.exchange import Exchange

_LONGEST = 10**18  # has as many digits as a length can have
_RECV = 64 * 1024  # bytes asked for by one read


def head_of(request: Request, length: int | None) -> bytes:
    """The head as a handler is to see it, with the body's length for the framing that it came with; None: not known."""
    lines = [b"%b: %b\r\n" % pair for pair in request.lines if pair[0].lower() != b"transfer-encoding"]
    if request.length < 0 and length is not None:
        lines.append(b"Content-Length: %d\r\n" % length)
    return b"%b\r\n%b\r\n" % (request.line, b"".join(lines))


class BodyStore:
    """The body of one request as it comes in."""

    __slots__ = ("_alone", "_limit", "_pieces", "_request", "_start", "file", "size")

    def __init__(self, limit: int, request: Request, *, alone: bool = False) -> None:
        """`limit`: bytes that are kept in memory; `alone`: without the head."""
        self._alone = alone
        self._limit = limit
        self._request = request
        self._pieces: list[bytes] = []
        self._start = 0  # where the body begins in the file
        self.file: io.BufferedRandom | None = None
        self.size = 0

    def add(self, piece: bytes) -> None:
        """Take more of it.  Raises OSError when there is no room for it on disk."""
        self.size += len(piece)
        if self.file is None:
            self._pieces.append(piece)
            if self.size <= self._limit:
                return
            self.file = tempfile.TemporaryFile(prefix="httpd-body-")  # noqa: SIM115 - kept
            self._start = 0 if self._alone else len(head_of(self._request, _LONGEST))
            self.file.seek(self._start)
            piece = b"".join(self._pieces)
            self._pieces.clear()
        self.file.write(piece)

    def finish(self) -> tuple[bytes, bytes, io.BufferedRandom | None, int]:
        """The head, the body if it is in memory, the file that holds both if not, and where the body begins in it."""
        head = b"" if self._alone else head_of(self._request, self.size)
        if self.file is None:
            return head, b"".join(self._pieces), None, len(head)
        self.file.seek(self._start - len(head))
        self.file.write(head)
        self.file.seek(self._start - len(head))
        return head, b"", self.file, self._start

    def close(self) -> None:
        """The request will not be answered."""
        if self.file is not None:
            self.file.close()


class TunnelBody(io.RawIOBase):
    """What is below `rfile` when another protocol may follow (Upgrade, CONNECT): the head, and once the answer has
    agreed to it, the client's socket, which is taken over for that."""

    def __init__(self, exchange: Exchange) -> None:
        super().__init__()
        self._exchange = exchange
        self._head = memoryview(exchange.data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        if self._head:
            size = min(len(view), len(self._head))
            view[:size] = self._head[:size]
            self._head = self._head[size:]
            return size
        status = self._exchange.wfile.status
        agreed = status == 101 or (self._exchange.command == "CONNECT" and 200 <= status < 300)
        return self._exchange.taken().recv_into(view) if agreed else 0


class StreamBody(io.RawIOBase):
    """What is below `rfile` when a handler reads from the client: the head first, then the body as it comes in.

    Raises TimeoutError when nothing came for `gap` seconds or less than `rate` bytes a second; ends early when the
    client does, or breaks the framing.
    """

    def __init__(self, exchange: Exchange, fd: int, receiver: Receiver, gap: float, rate: int) -> None:
        super().__init__()
        self._exchange = exchange
        self._fd = os.dup(fd)
        self._receiver = receiver
        self._gap = gap
        self._rate = rate
        self._since = time.monotonic()
        self._moved = 0
        self._ready = [exchange.data]
        self._begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: object, /) -> int:
        view = memoryview(buffer)  # type: ignore[arg-type]
        while not self._ready:
            if self._receiver.body is None:
                return 0
            try:
                self._ready = self._more()
            except ProtocolError as error:
                self._exchange.fault = error.status
                raise ConnectionAbortedError(f"the body is malformed: {error.reason}") from None
        piece = self._ready.pop(0)
        size = min(len(piece), len(view))
        view[:size] = piece[:size]
        if size < len(piece):
            self._ready.insert(0, piece[size:])
        return size

    def _more(self) -> list[bytes]:
        receiver = self._receiver
        if not self._begun:  # what was read together with the head
            self._begun = True
            if receiver.pending:
                return receiver.next_body(b"")
        self._exchange.wfile.flush()  # the client may wait for it before it sends more
        gap = self._gap if self._exchange.timeout is None else min(self._gap, self._exchange.timeout)
        poller = select.poll()
        poller.register(self._fd, select.POLLIN)
        if not poller.poll(gap * 1000):
            self._exchange.fault = 408
            raise TimeoutError("timed out")
        try:
            data = os.read(self._fd, _RECV)
        except BlockingIOError:
            return []
        except ConnectionError:
            self._exchange.fault = 400
            raise
        if not data:
            self._exchange.fault = 400
            raise ConnectionResetError(104, "the client stopped sending")
        self._moved += len(data)
        age = time.monotonic() - self._since
        if age > self._gap and self._moved < self._rate * age:
            self._exchange.fault = 408
            raise TimeoutError("the client is too slow")
        return receiver.next_body(data)

    def close(self) -> None:
        if not self.closed:
            os.close(self._fd)
        super().close()
