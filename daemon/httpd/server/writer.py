"""What a handler of the daemon writes, on its way to the client (`wfile`).

    HEAD -> BODY        the head is held until the first bytes of the body, or the end, join it: one packet
      ^ |
      +-+ 1xx           interim answers leave at once

Rules:

- Whatever a class writes, the bytes that leave are one well-framed answer (RFC 9112 6.3): not more than Content-Length,
  nothing behind 204 and 304 or for HEAD, chunked when a 1.1 client is not told the length.  So a handler can break its
  own answer and never the next one on the connection.
- Nothing here touches a socket or waits for the loop, but for room (`Exchange.wait_for_room`).
- `put` counts what the handler's thread has queued, `taken` what the loop has sent: each is written by one side only.
"""

from __future__ import annotations

import io
import os
from collections import deque
from typing import Any, Protocol

from httpd.protocol.body import LAST_CHUNK, chunk
from httpd.protocol.messages import FileBody
from httpd.server.face import WriteOnly
from httpd.server.heads import (
    CONNECTION,
    CONTENT_LENGTH,
    TRANSFER_ENCODING,
    UNKNOWN,
    BadAnswer,
    Head,
    read,
    said,
    with_crlf,
    without,
)

HIGH = 1024 * 1024  # bytes queued above which the handler's thread waits
_SOON = 64 * 1024  # bytes queued above which the loop is told although the handler goes on
_LONGEST_HEAD = 256 * 1024  # bytes; a head that does not end is a defect of the handler

_BODYLESS = frozenset((101, 204, 304))


class Owner(Protocol):
    """The exchange, as far as its writer needs it."""

    broken: bool
    command: str
    eager: bool
    failure: BaseException | None
    fault: int
    http11: bool
    keep_alive: bool
    minor: int
    mount: Any
    over: bool

    @property
    def taken_over(self) -> bool: ...

    def push(self) -> None: ...

    def taken(self) -> Any: ...

    def wait_for_room(self, high: int) -> None: ...


class ResponseWriter(WriteOnly):
    """`wfile` of one exchange.  Safe between the handler's thread (or several, one at a time) and the loop."""

    _partial = b""  # of a head that is not complete
    _left = UNKNOWN  # bytes of the body that may still come
    _chunked = False
    put = taken = 0
    head = b""  # of the final answer, as it goes out
    status = 0
    sent = 0  # bytes of the body that were queued, framing not counted
    dropped = 0  # bytes behind the length that was announced
    _bodyless = False  # there can't be a body, whatever is written
    keep_alive = False  # the framing allows another answer behind this one, and both sides want it
    flushed = False  # the handler wanted its answer to leave: it counts, even if the loop has not sent any of it yet
    closed = False

    def __init__(self, exchange: Owner) -> None:
        self._exchange = exchange
        self.queue: deque[bytes | FileBody] = deque()

    @property
    def queued(self) -> int:
        """Bytes that wait for the loop."""
        return self.put - self.taken

    @property
    def begun(self) -> bool:
        """Whether its head is on its way: no other answer can be given in its place."""
        return self.flushed or self.taken > 0 or (self.status > 0 and all(part is not self.head for part in self.queue))

    @property
    def complete(self) -> bool:
        """All of the body that was announced is there."""
        return bool(self.status) and self._left == 0

    def write(self, data: Any, /) -> int:
        """Queue `data`.  Raises BrokenPipeError when the client is gone, ValueError behind `close`."""
        if type(data) is not bytes:
            data = bytes(memoryview(data))  # a copy: the caller may change its buffer
        exchange = self._exchange
        if exchange.broken or exchange.over:
            self._refuse()
        size = len(data)
        if not size:
            return 0
        body = data if self.status else self._read_head(data)
        if body:
            self._body(body)
        if exchange.taken_over:
            self.spill(exchange.taken())
            return size
        waiting = self.put - self.taken
        if exchange.eager or waiting > _SOON:
            exchange.push()
            if waiting > HIGH:
                exchange.wait_for_room(HIGH)
        return size

    def _refuse(self) -> None:
        if self._exchange.broken:
            raise BrokenPipeError(32, "the client is gone")
        raise ValueError("write to closed file")

    def _read_head(self, data: bytes) -> bytes:
        """Take in the head, and all interim ones before it; returns what of `data` lies behind it."""
        while data and not self.status:
            data = self._read_one_head(data)
        return data

    def _read_one_head(self, data: bytes) -> bytes:
        if self._partial:
            data = self._partial + data
        end = data.find(b"\r\n\r\n")
        behind = end + 4
        bare = data.find(b"\n\n", 0, end if end >= 0 else len(data))
        if bare >= 0:  # some write LF alone
            end, behind = bare, bare + 2
        if end < 0:
            if len(data) > _LONGEST_HEAD or not b"HTTP/1.".startswith(data[:7]):
                raise BadAnswer(f"not the head of an HTTP answer: {data[:40]!r}")
            self._partial = data
            return b""
        self._partial = b""
        head, rest = (data, b"") if behind == len(data) else (data[:behind], data[behind:])
        if bare >= 0:
            head = with_crlf(head)
        says = said.get(head) or read(head)
        if says.status < 200 and says.status != 101:
            if self._exchange.minor:  # RFC 9110 15.2: an older client would take it for the answer
                self._queue(head)
                self._exchange.push()
            return rest
        self._frame(head, says)
        return rest

    def _frame(self, head: bytes, says: Head) -> None:
        """Decide how the body is delimited and whether the connection may stay (RFC 9112 6.3, 9.3)."""
        exchange = self._exchange
        status = says.status
        if exchange.command == "CONNECT" and 200 <= status < 300:
            says = says._replace(status=101, length=UNKNOWN)  # what follows is a tunnel (RFC 9110 9.3.6)
        no_body = self._bodyless = exchange.command == "HEAD" or says.status in _BODYLESS
        if status == 204 and says.length >= 0:  # RFC 9110 8.6
            head = without(head, CONTENT_LENGTH)
        elif status == 204 and says.coded:  # RFC 9112 6.1
            head = without(head, TRANSFER_ENCODING)
        if says.coded and says.length >= 0:  # one framing: who copies another server's fields has decoded its body
            head = without(head, TRANSFER_ENCODING)
        if says.minor or exchange.http11:
            keep, more = self._frame_11(says, no_body=no_body)
            if not says.minor:
                head = b"HTTP/1.1" + head[8:]
        else:
            self._left = says.length if not no_body else UNKNOWN if says.status == 101 else 0
            keep, more = exchange.keep_alive and self._left >= 0 and says.keeps, b""
        if says.keeps and not (keep or says.closes) and says.status != 101:  # it would say the contrary
            head = without(head, CONNECTION)
        if more:
            head = head[:-2] + more + b"\r\n"
        extra = exchange.mount.extra_fields
        if extra:
            head = exchange.mount.with_extra_fields(head, head.lower())
        self.keep_alive, self.status, self.head = keep, status, head
        self.queue.append(head)
        self.put += len(head)

    def _frame_11(self, says: Head, *, no_body: bool) -> tuple[bool, bytes]:
        """Whether the connection stays, and the field lines that are to be added."""
        exchange = self._exchange
        keep = exchange.keep_alive and not says.closes
        more = b""
        if no_body:
            self._left = 0
            if says.status == 101:
                keep, self._left = False, UNKNOWN
        elif says.length >= 0:
            self._left = says.length
        elif says.coded:
            keep = False  # the handler frames its body itself; whether it does so rightly is not known here
        elif exchange.minor and not says.closes:  # where we close, too: else a cut answer looks like a whole one
            self._chunked = True
            more = b"Transfer-Encoding: chunked\r\n"
        else:
            keep = False
        if not keep and not says.closes and says.status != 101:
            more += b"Connection: close\r\n"
        elif keep and not exchange.minor and not says.keeps:
            more += b"Connection: keep-alive\r\n"
        return keep, more

    def _body(self, data: bytes) -> None:
        left = self._left
        if left >= 0:
            if len(data) > left:
                if not self._bodyless:
                    self.dropped += len(data) - left
                data = data[:left]
                if not data:
                    return
            self._left = left - len(data)
        self.sent += len(data)
        if self._chunked:
            data = chunk(data)
        self.queue.append(data)
        self.put += len(data)

    def _queue(self, data: bytes) -> None:
        self.queue.append(data)
        self.put += len(data)

    def send_file(self, fd: int, offset: int, length: int) -> bool:
        """Have the loop send a stretch of a file behind what was written; `fd` is the loop's from then on.

        False: that can't be done here, nothing was taken, write the bytes instead.
        """
        if not self.status or self._chunked or self._exchange.broken or not 0 < length <= self._left:
            return False
        self._left -= length
        self.sent += length
        self.queue.append(FileBody(fd, offset, length))
        self.put += length
        return True

    def announce_close(self) -> None:
        """Say that the connection ends behind the answer, if its head has not left yet and says otherwise."""
        if self.keep_alive and not self.taken and self.queue and self.queue[0] is self.head:
            head = without(self.head, CONNECTION)[:-2] + b"Connection: close\r\n\r\n"
            self.put += len(head) - len(self.head)
            self.queue[0] = self.head = head
            self.keep_alive = False

    def abandon(self, status: int, reason: str) -> None:
        """The answer can't be completed: it is cut off where it is, however it is framed, and where nothing has left
        yet `status` takes its place."""
        self._exchange.failure, self._exchange.fault = RuntimeError(reason), status

    def release(self) -> None:
        """Let go of the exchange, which refers to this: so neither has to be found by a collection."""
        self._exchange = _OVER

    def finish(self) -> bool:
        """The handler has returned.  Whether what it wrote is a whole answer; what was promised must be there."""
        if self._chunked and self.status:
            self._chunked = False
            self._left = 0
            self._queue(LAST_CHUNK)
        return bool(self.status) and self._left <= 0

    def spill(self, sock: Any) -> None:
        """Send what is queued to the client's socket, which the handler has taken over.  Raises OSError."""
        while self.queue:
            part = self.queue.popleft()
            if isinstance(part, FileBody):
                try:
                    while part.length and (moved := os.sendfile(sock.fileno(), part.fd, part.offset, part.length)):
                        part.offset += moved
                        part.length -= moved
                        self.taken += moved
                finally:
                    os.close(part.fd)
            else:
                sock.sendall(part)
                self.taken += len(part)

    # The rest of the face of a file

    def flush(self) -> None:
        """Have what was written leave now, without waiting for more."""
        if self.put != self.taken and not self._exchange.broken:
            self.flushed = self.status > 0  # first: the loop may look at once
            self._exchange.eager = True
            self._exchange.push()

    def close(self) -> None:
        self.closed = True

    def fileno(self) -> int:
        """The client's socket, taken over (`Exchange`)."""
        return int(self._exchange.taken().fileno())


io.BufferedIOBase.register(ResponseWriter)  # one in all but its finalizer, which would cost a tenth of a request


class _Over:
    """In the place of an exchange that is over."""

    over, broken, taken_over = True, False, False


_OVER: Any = _Over()
