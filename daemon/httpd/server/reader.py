"""rfile of a handler that owns a socket: it ends where the request ends.

    HEAD --begin_body--> BODY --discard, or the next request line is asked for--> HEAD

Rules:

- Once a head is parsed, rfile ends where its body ends: what a handler leaves unread is never the next request, and
  `read()` does not wait for the client to go.  A request that leaves HTTP (Upgrade, CONNECT) has no such end.
- A chunked body has two faces, because http.server never decoded any: who asks for a *line* first decodes by hand, as
  all code for http.server has to, and gets the bytes as they came; who reads gets the content.
- A connection that is closed while the client may still be sending is closed slowly: input that nobody reads makes the
  kernel send a reset, which destroys the answer on its way (RFC 9112 9.6).
"""

from __future__ import annotations

import contextlib
import io
import socket
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from httpd.protocol.body import ChunkedReader
from httpd.protocol.messages import ProtocolError

CHUNKED = -1  # for begin_body
TUNNEL = sys.maxsize  # for begin_body: no end
REQUEST_LINE = 65537  # the limit that loops of http.server's kind give to readline, for a request line and nothing else

_HEAD_PIECE = 8 * 1024  # bytes received at once
_BODY_PIECE = 256 * 1024
_SILENCE, _LINGER = 0.5, 2.0  # seconds that a close waits for a client that sends nothing, and altogether


class BadBody(ConnectionError):
    """The client broke off its chunked body, or the framing in it."""


class RequestReader:
    """`rfile`.  `in_body` from `begin_body` on until the next request is begun."""

    __slots__ = (
        "_behind", "_broken", "_buffer", "_chunks", "_ended", "_file", "_left", "_position", "_raw", "_receive_some",
        "_request", "_touched", "_writer", "closed", "in_body",
    )  # fmt: skip

    def __init__(self, request: Any, file: Any = None) -> None:
        """Reads from `request`, a socket, or else from `file`, which belongs to the reader then."""
        self._request = request
        self._file = file
        receive = request.recv if file is None else getattr(file, "read1", file.read)
        self._receive_some: Callable[[int], bytes] = receive
        self._writer: Any = None
        self._ended = False  # the client sends no more
        self._touched = False  # a head was begun that is not parsed yet
        self.closed = False
        self._buffer = b""
        self._position = 0
        self._begin_head(b"")

    def _begin_head(self, received: bytes) -> None:
        if received:
            self._buffer, self._position = received, 0
        self.in_body = False
        self._left = TUNNEL
        self._chunks: ChunkedReader | None = None
        self._raw: bool | None = None
        self._behind = b""  # received, but not decoded
        self._broken = False

    # For the parser

    def take_fields(self, match: Callable[[bytes, int], Any], limit: int, lines: int) -> bytes | None:
        """The first group of `match` at the point reached, if all of it was received already; None: ask for lines."""
        found = match(self._buffer, self._position)
        if found is None or found.end() - self._position > limit:
            return None
        block: bytes = found[1]
        if block.count(b"\n") > lines:
            return None
        self._position = found.end()
        return block

    def begin_body(self, length: int, writer: Any = None) -> None:
        """The head ends here; what follows is a body of `length` bytes, or CHUNKED, or a TUNNEL.

        `writer` is flushed before the client is waited for.
        """
        self._touched = False
        self._writer = writer
        if length == TUNNEL:
            return
        self.in_body = True
        if length == CHUNKED:
            self._chunks = ChunkedReader(sys.maxsize)
            self._behind, self._buffer, self._position = self._buffer[self._position :], b"", 0
        else:
            self._left = length

    def _at_end(self) -> bool:
        """Whether the body has been read to its end."""
        chunks = self._chunks
        return self._left == 0 if chunks is None else chunks.done and self._position == len(self._buffer)

    def discard(self, limit: int) -> bool:
        """Read the rest of the body, unless it is more than `limit` bytes; then go on to the next head."""
        if self.in_body and self._chunks is None and self._left > limit:
            return False
        while self.in_body and not self._at_end():
            if limit <= 0 or self._broken:
                return False
            try:
                limit -= len(self.read1(_HEAD_PIECE)) or limit + 1
            except BadBody:
                return False
        if self.in_body:
            self._begin_head(self._chunks.rest if self._chunks is not None else b"")
        return True

    # Receiving

    def _receive(self, size: int) -> bytes:
        if self._ended:
            return b""
        if self._writer is not None:
            self._writer.flush()
        data = self._receive_some(size)
        self._ended = not data
        return data

    def _fill(self) -> bool:
        """Receive more.  False: there is no more in this phase."""
        if self._chunks is not None:
            data = self._fill_from_chunks(self._chunks)
        else:
            data = self._receive(_BODY_PIECE if self.in_body and self._left > _BODY_PIECE else _HEAD_PIECE)
        if not data:
            return False
        rest = self._buffer[self._position :]
        self._buffer, self._position = rest + data if rest else data, 0
        return True

    def _fill_from_chunks(self, chunks: ChunkedReader) -> bytes:
        if self._raw is None:
            self._raw = False
        while not chunks.done:
            data = self._behind or self._receive(_BODY_PIECE)
            self._behind = b""
            if not data or self._broken:
                self._broken = True
                raise BadBody("the client broke off a chunked body")
            try:
                pieces = chunks.feed(data)
            except ProtocolError as error:
                self._broken = True
                raise BadBody(f"a chunked body is malformed: {error.reason}") from None
            new = data[: len(data) - len(chunks.rest)] if self._raw else b"".join(pieces)
            if new:
                return new
        return b""

    def _take(self, size: int) -> bytes:
        start = self._position
        data = self._buffer[start : start + size]
        self._position = start + len(data)
        self._left -= len(data)
        return data

    # The face of a file

    def read(self, size: int | None = -1, /) -> bytes:
        """`size` bytes, fewer at the end; all to the end for -1."""
        missing = self._left if size is None or size < 0 else min(size, self._left)
        data = self._take(missing)
        missing -= len(data)
        if not missing:
            return data
        pieces = [data]
        while missing:
            if self._chunks is not None or missing < _HEAD_PIECE:
                if not self._fill():
                    break
                data = self._take(missing)
            else:
                data = self._receive(min(missing, _BODY_PIECE))
                if not data:
                    break
                self._left -= len(data)
            pieces.append(data)
            missing -= len(data)
        return b"".join(pieces)

    def read1(self, size: int = -1, /) -> bytes:
        """What is there, at most `size` bytes; waits for the client if that is nothing."""
        wanted = self._left if size < 0 else min(size, self._left)
        if wanted and self._position == len(self._buffer):
            self._fill()
        return self._take(wanted)

    def readline(self, size: int | None = -1, /) -> bytes:
        """A line, at most `size` bytes of it."""
        if self.in_body and size == REQUEST_LINE and self._at_end():
            self.discard(0)
        if not self.in_body:
            return self._head_line(self._left if size is None or size < 0 else size)
        if self._raw is None:
            self._raw = True
        limit = self._left if size is None or size < 0 else min(size, self._left)
        pieces = []
        while limit > 0:
            start = self._position
            end = self._buffer.find(b"\n", start, start + min(limit, len(self._buffer)))
            piece = self._take(end + 1 - start if end >= 0 else limit)
            pieces.append(piece)
            limit -= len(piece)
            if end >= 0 or limit <= 0 or not self._fill():
                break
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _head_line(self, size: int) -> bytes:
        start = self._position
        end = self._buffer.find(b"\n", start)
        while end < 0:
            seen = len(self._buffer) - start
            if seen >= size or not self._fill():
                end = len(self._buffer) - 1  # as far as it goes
                break
            start = 0
            end = self._buffer.find(b"\n", seen)
        line = self._buffer[self._position : min(end + 1, self._position + size)]
        self._position += len(line)
        self._touched = bool(line)
        return line

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def readinto1(self, buffer: Any, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read1(len(view))
        view[: len(data)] = data
        return len(data)

    def peek(self, size: int = 0, /) -> bytes:
        """What is there, without taking it; waits for the client if that is nothing."""
        if self._left and self._position == len(self._buffer):
            self._fill()
        return self._buffer[self._position : self._position + min(self._left, len(self._buffer))]

    def readlines(self, hint: int | None = -1, /) -> list[bytes]:
        lines: list[bytes] = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if hint is not None and 0 < hint <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def isatty(self) -> bool:
        return False

    def flush(self) -> None:
        pass

    def fileno(self) -> int:
        number: int = self._request.fileno()
        return number

    def close(self) -> None:
        """The connection is about to be closed: see to it that what was answered arrives."""
        if self.closed:
            return
        self.closed = True
        if self._file is not None:
            self._file.close()
        elif not self._ended and (self._touched or (self.in_body and not self._at_end())):
            with contextlib.suppress(OSError, ProtocolError):
                self._linger()
        self._buffer = self._behind = b""

    def _linger(self) -> None:
        request = self._request
        request.settimeout(0.0)
        with contextlib.suppress(BlockingIOError, BadBody):
            while self.in_body and not self._at_end() and self.read1():  # mostly all of it is here
                pass
        if self._ended or (self.in_body and self._at_end()):
            return
        request.shutdown(socket.SHUT_WR)
        request.settimeout(_SILENCE)
        until = time.monotonic() + _LINGER
        while request.recv(_BODY_PIECE) and time.monotonic() < until:
            pass

    def __enter__(self) -> RequestReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


io.BufferedIOBase.register(RequestReader)  # one in all but its finalizer, which costs time with each connection
