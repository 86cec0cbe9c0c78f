"""What `send_head` gives to `copyfile`: a whole file, a slice of it, or several in a multipart body.

Rules:

- Each is a file that can be read like any other, because subclasses of `SimpleHTTPRequestHandler` do so.  Slices end
  where what was announced ends, however long the file has become meanwhile.
- `send_to` has the kernel copy (sendfile) where the way to the client allows it.
- A buffer and all that belongs to it are made only for who reads: most files are never read here.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

from httpd.protocol.messages import FileBody, MultiBody
from httpd.server.streams import SocketWriter
from httpd.server.writer import ResponseWriter


class ServedFile:
    """An open file, `stat` when it was opened.  All else is asked of an `io.BufferedReader`, made then."""

    __slots__ = ("_fd", "_file", "name", "stat")

    def __init__(self, fd: int, name: str, stat: os.stat_result) -> None:
        self._fd = fd
        self._file: io.BufferedReader | None = None
        self.name = name
        self.stat = stat

    def send_to(self, writer: Any) -> bool:
        """Send what was not read yet, as much as there was when it was opened.  False: nothing was, copy the bytes."""
        offset = 0 if self._file is None else self._file.tell()
        return _send(writer, self._fd, offset, max(self.stat.st_size - offset, 0))

    def _opened(self) -> io.BufferedReader:
        file = self._file
        if file is None:
            if self._fd < 0:
                raise ValueError("I/O operation on closed file")
            file = self._file = open(self._fd, "rb", closefd=False)  # noqa: SIM115 - `close` closes it
        return file

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._opened(), name)

    def read(self, size: int | None = -1, /) -> bytes:
        return self._opened().read(size)

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._opened())

    def __next__(self) -> bytes:
        return next(self._opened())

    def fileno(self) -> int:
        if self._fd < 0:
            raise ValueError("I/O operation on closed file")
        return self._fd

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            if self._file is not None:
                self._file.close()
            os.close(fd)

    __del__ = close

    def __enter__(self) -> ServedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


io.BufferedIOBase.register(ServedFile)


class Slice(io.RawIOBase):
    """`length` bytes of an open file from `offset` on.  Closes the file."""

    def __init__(self, file: ServedFile, offset: int, length: int) -> None:
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
        piece = os.pread(self._file.fileno(), size, self._offset) if size else b""
        view[: len(piece)] = piece
        self._offset += len(piece)
        return len(piece)

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

    def __init__(self, file: ServedFile, parts: Sequence[bytes | FileBody]) -> None:
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


def part_of(file: ServedFile, body: FileBody | MultiBody) -> Slice | Parts:
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
