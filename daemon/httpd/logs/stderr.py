"""The master's own log lines: written at once if that is possible without waiting, else kept or dropped.

Rules: the master has one thread, so its log must never block it; a stderr that nobody reads stops a process
for ever after 64 KiB.  O_NONBLOCK is never set on the descriptor that was given: it belongs to the
description, which workers, scripts and the shell share.  So each kind of file has its own way (`_WAYS`).
"""

from __future__ import annotations

import os
import select
import socket
import stat
from collections.abc import Callable
from typing import Protocol

from httpd.logs.outlets import chunks

PENDING_LIMIT = 64 * 1024

_REOPEN_FLAGS = os.O_WRONLY | os.O_NONBLOCK | os.O_APPEND | os.O_NOCTTY | os.O_CLOEXEC


class _Way(Protocol):
    """One way to write without waiting.  `put` returns the bytes taken, or raises BlockingIOError."""

    def put(self, data: bytes) -> int: ...

    def fileno(self) -> int: ...

    def close(self) -> None: ...


class _Plain:
    """A regular file, or a pipe or terminal that was opened again, non-blocking, with its own description."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def put(self, data: bytes) -> int:
        return os.write(self._fd, data)

    def fileno(self) -> int:
        return self._fd

    def close(self) -> None:
        os.close(self._fd)


class _Polled(_Plain):
    """A pipe or terminal that could not be opened again: a plain write, once poll(2) says that there is room.

    A process that fills the pipe between poll and write can still make this one wait.
    """

    __slots__ = ()

    def put(self, data: bytes) -> int:
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not poll.poll(0):
            raise BlockingIOError
        return super().put(data[: select.PIPE_BUF])


class _Stream:
    """A socket, such as the one that systemd gives a service as stderr: MSG_DONTWAIT is per call."""

    __slots__ = ("_socket",)

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def put(self, data: bytes) -> int:
        return self._socket.send(data, socket.MSG_DONTWAIT)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()


def _reopened(fd: int) -> _Way:
    """The pipe or terminal behind `fd` with a description of its own.  Takes over `fd`."""
    try:
        own = os.open(f"/proc/self/fd/{fd}", _REOPEN_FLAGS)
    except OSError:
        # No /proc (macOS, some containers), another user's terminal, or a pipe without a reader.
        return _Polled(fd)
    os.close(fd)
    return _Plain(own)


_WAYS: dict[int, Callable[[int], _Way]] = {stat.S_IFIFO: _reopened, stat.S_IFCHR: _reopened, stat.S_IFSOCK: _Stream}


def _way(fd: int) -> _Way:
    """The way for a copy of `fd`.  Raises OSError when `fd` is not open."""
    copy = os.dup(fd)
    return _WAYS.get(stat.S_IFMT(os.fstat(copy).st_mode), _Plain)(copy)


class NonBlockingWriter:
    """Writes whole lines to a copy of `fd`; the caller keeps `fd`.  For one thread.

    While `pending` is not 0 the loop waits for `fileno()` to become writable and calls `flush`.  `dropped`
    counts the lines that were lost because more than 64 KiB were pending or because writing failed; the
    caller may set it back.  Raises OSError when `fd` is not open.
    """

    __slots__ = ("_midline", "_pending", "_way", "dropped")

    def __init__(self, fd: int) -> None:
        self._way = _way(fd)
        self._pending = bytearray()
        self._midline = False  # the last byte written was not the end of a line
        self.dropped = 0

    @property
    def pending(self) -> int:
        """Bytes kept for `flush`."""
        return len(self._pending)

    def fileno(self) -> int:
        return self._way.fileno()

    def write(self, data: bytes) -> None:
        """Write whole lines, or keep them, or drop and count them.  Never blocks, never raises OSError."""
        self.flush()
        if len(self._pending) + len(data) > PENDING_LIMIT:
            self.dropped += data.count(b"\n")
            return
        if self._midline and not self._pending:
            # The rest of the last line was lost; without this the next one would be glued to it.
            self._pending += b"\n"
        self._pending += data
        self.flush()

    def flush(self) -> None:
        """Write as much of what is pending as can be written without waiting."""
        # In pieces that a pipe keeps in one: the workers write to it too.
        for piece in chunks(bytes(self._pending), select.PIPE_BUF):
            if not self._put(piece):
                return

    def _put(self, piece: bytes) -> bool:
        """Write the first piece of what is pending.  False: there is no point in going on with the next."""
        while piece:
            try:
                written = self._way.put(piece)
            except BlockingIOError:
                return False
            except OSError:
                self._drop()
                return False
            self._midline = piece[written - 1] != ord("\n")
            del self._pending[:written]
            piece = piece[written:]
        return True

    def _drop(self) -> None:
        # No entry starts with a newline: one here ends a line whose text was written or is counted already.
        self.dropped += self._pending.count(b"\n") - self._pending.startswith(b"\n")
        self._pending.clear()

    def reopen(self, fd: int) -> None:
        """Go on with a copy of `fd`; the caller keeps `fd`.  What the old one cannot take at once is lost."""
        way = _way(fd)
        self.flush()
        self._drop()
        self._midline = False
        self._way.close()
        self._way = way

    def close(self) -> None:
        """Close the copy; what is pending is lost."""
        self._way.close()
