"""What `send_head` gives to `copyfile`: a whole file, a slice of it, or several in a multipart body.

Rules:

- Each is a file that can be read like any other, because subclasses of `SimpleHTTPRequestHandler` do so, and ends where
  what was announced ends, however long the file has become meanwhile.
- `send_to` has the kernel copy (sendfile) where the way to the client allows it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

from httpd.protocol.messages import FileBody, MultiBody
from httpd.server.streams import SocketWriter
from httpd.server.writer import ResponseWriter


class ServedFile(io.BufferedReader):
    """A whole file, of `size` bytes when its head was sent."""

    size = 0

    def send_to(self, writer: Any) -> bool:
        """Send what was not read yet.  False: nothing was sent, copy the bytes."""
        offset = self.tell()
        return _send(writer, self.fileno(), offset, max(self.size - offset, 0))


class Slice(io.RawIOBase):
    """`length` bytes of an open file from `offset` on.  Closes the file."""

    def __init__(self, file: io.BufferedReader, offset: int, length: int) -> None:
        super().__init__()
        self._file = file
        self._offset = offset
        self._end = offset + length

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._file.fileno()

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        size = min(len(view), self._end - self._offset)
        done = os.preadv(self._file.fileno(), [view[:size]], self._offset) if size else 0
        self._offset += done
        return done

    def send_to(self, writer: Any) -> bool:
        """The same as for a whole file."""
        sent = _send(writer, self._file.fileno(), self._offset, self._end - self._offset)
        if sent:
            self._offset = self._end
        return sent

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


class Parts(io.RawIOBase):
    """A multipart/byteranges body over one open file.  Closes the file."""

    def __init__(self, file: io.BufferedReader, parts: Sequence[bytes | FileBody]) -> None:
        super().__init__()
        self._file = file
        self._left = list(reversed(parts))

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        view = memoryview(buffer)
        if not self._left or not len(view):
            return 0
        part = self._left.pop()
        if isinstance(part, bytes):
            piece, rest = part[: len(view)], part[len(view) :]
            if rest:
                self._left.append(rest)
        else:
            piece = os.pread(part.fd, min(len(view), part.length), part.offset)
            if not piece:  # the file has become shorter: what comes behind would be taken for its end
                self._left.clear()
            elif len(piece) < part.length:
                self._left.append(FileBody(part.fd, part.offset + len(piece), part.length - len(piece)))
        view[: len(piece)] = piece
        return len(piece)

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def part_of(file: io.BufferedReader, body: FileBody | MultiBody) -> Slice | Parts:
    """The stretch or the stretches of a file that `protocol.narrow` has chosen."""
    if isinstance(body, MultiBody):
        return Parts(file, body.parts)
    return Slice(file, body.offset, body.length)


def _send(writer: Any, fd: int, offset: int, length: int) -> bool:
    if type(writer) is SocketWriter:
        return writer.send_file(fd, offset, length)
    if type(writer) is not ResponseWriter or not length:
        return False
    taken = os.dup(fd)  # it sends, and closes, when the handler has long gone on
    if writer.send_file(taken, offset, length):
        return True
    os.close(taken)
    return False
