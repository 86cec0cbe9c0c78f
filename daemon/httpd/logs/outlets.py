"""What a sink's thread writes to: a descriptor, syslog, or the journal.

Rules: an outlet may block, because only the sink's thread calls it.  It is given whole lines; what it cannot
write is given up and counted (`LinesLostError`), never tried again, so a full disk or a dead reader holds
nothing.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import stat
from collections.abc import Callable, Iterator
from typing import Protocol

from httpd.logs.targets import Kind, Target

SYSLOG_PATH = "/dev/log"
JOURNAL_PATH = "/run/systemd/journal/socket"

_DAEMON_INFO = 3 << 3 | 6  # RFC 3164 section 4.1.1: facility 3 (daemon), severity 6 (info)


class LinesLostError(Exception):
    """`lines` lines could not be written because of `cause`."""

    def __init__(self, lines: int, cause: OSError) -> None:
        super().__init__(lines, cause)
        self.lines = lines
        self.cause = cause


class Outlet(Protocol):
    def write(self, data: bytes) -> None:
        """Write whole lines; may block.  Raises LinesLostError."""

    def reopen(self, fd: int) -> None:
        """Go on with `fd`, which the outlet owns from now on, and close what was open before."""

    def close(self) -> None: ...


def chunks(data: bytes, limit: int) -> Iterator[bytes]:
    """Whole lines of `data` in pieces of at most `limit` bytes; a longer line is a piece of its own."""
    start = 0
    while len(data) - start > limit:
        end = data.rfind(b"\n", start, start + limit) + 1
        if not end:
            end = data.find(b"\n", start) + 1 or len(data)
        yield data[start:end]
        start = end
    if start < len(data):
        yield data[start:]


class DescriptorOutlet:
    """A file, pipe, terminal or stream socket.

    Several workers share the file.  A regular file gets each batch in one `write`, which O_APPEND keeps in
    one piece.  Everything else gets pieces of at most PIPE_BUF, which is all that POSIX keeps in one piece:
    there, and only there, a longer line of one worker can be mixed with lines of another.
    """

    __slots__ = ("_fd", "_limit", "_torn")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._torn = False
        self._limit = self._piece()

    def _piece(self) -> int | None:
        return None if stat.S_ISREG(os.fstat(self._fd).st_mode) else select.PIPE_BUF

    def write(self, data: bytes) -> None:
        if self._torn:
            # The last line was cut off by an error; without this the next one would be glued to it.
            data = b"\n" + data
        rest = len(data)
        try:
            for piece in chunks(data, self._limit or len(data)):
                for written in self._put(piece):
                    rest -= written
        except OSError as cause:
            done = len(data) - rest
            lost = data.count(b"\n", done) - (self._torn and not done)
            self._torn = data[done - 1] != ord("\n") if done else self._torn
            raise LinesLostError(lost, cause) from None
        self._torn = False

    def _put(self, piece: bytes) -> Iterator[int]:
        """Write all of `piece`, giving the number of bytes that each system call took."""
        while piece:
            try:
                written = os.write(self._fd, piece)
            except BlockingIOError:
                # Another process that shares the pipe or terminal made it non-blocking.
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll()
                continue
            yield written
            piece = piece[written:]

    def reopen(self, fd: int) -> None:
        self.close()
        self._fd = fd
        self._torn = False
        self._limit = self._piece()

    def close(self) -> None:
        os.close(self._fd)


class DatagramOutlet:
    """One datagram per line to a unix socket; connects again when its daemon was restarted."""

    __slots__ = ("_frame", "_path", "_socket")

    def __init__(self, path: str, frame: Callable[[bytes], bytes]) -> None:
        self._path = path
        self._frame = frame
        self._socket: socket.socket | None = None

    def write(self, data: bytes) -> None:
        lines = data.removesuffix(b"\n").split(b"\n")
        lost = 0
        cause: OSError | None = None
        for index, line in enumerate(lines):
            try:
                self._send(self._frame(line))
            except OSError as problem:
                cause = problem
                if problem.errno != errno.EMSGSIZE:
                    lost += len(lines) - index
                    break
                lost += 1
        if cause is not None:
            raise LinesLostError(lost, cause)

    def _send(self, datagram: bytes) -> None:
        if self._socket is not None:
            try:
                self._socket.send(datagram)
            except OSError:
                self._disconnect()
            else:
                return
        self._connect().send(datagram)

    def _connect(self) -> socket.socket:
        fresh = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            fresh.settimeout(None)
            fresh.connect(self._path)
        except OSError:
            fresh.close()
            raise
        self._socket = fresh
        return fresh

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def reopen(self, fd: int) -> None:
        """There is no file to swap: `fd` is closed if it is one, and the next line connects again."""
        if fd >= 0:
            os.close(fd)
        self._disconnect()

    def close(self) -> None:
        self._disconnect()


def syslog_datagram(line: bytes) -> bytes:
    """RFC 3164 without time and host: the local daemon adds both."""
    return b"<%d>httpd[%d]: %b" % (_DAEMON_INFO, os.getpid(), line)


def journal_datagram(line: bytes) -> bytes:
    """The journal's native protocol: NAME=value per line, which is enough for values without a newline."""
    return b"MESSAGE=%b\nPRIORITY=6\nSYSLOG_IDENTIFIER=httpd\n" % line


def make_outlet(target: Target) -> Outlet:
    """The outlet for a target.  Raises ValueError for one that is off."""
    if target.kind is Kind.DESCRIPTOR:
        return DescriptorOutlet(target.fd)
    if target.kind is Kind.SYSLOG:
        return DatagramOutlet(SYSLOG_PATH, syslog_datagram)
    if target.kind is Kind.JOURNAL:
        return DatagramOutlet(JOURNAL_PATH, journal_datagram)
    raise ValueError("this log is off: there is nothing to write to")
