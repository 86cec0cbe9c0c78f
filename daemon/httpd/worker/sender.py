"""The sending half of a connection: one head, then parts that are bytes or stretches of open files.

Rules:

- A head and a small body leave in one send; a head before a file goes with MSG_MORE, so that it shares the first
  packet with the file's first bytes.
- The sender owns the descriptors of the files it was given and closes each when its last stretch is out.
- A file that ends before its stretch (it was truncated meanwhile) fails the send: the promised length can't be kept, so
  the connection has to end.
"""

from __future__ import annotations

import os
import socket

from httpd.protocol.messages import FileBody
from httpd.worker.exchange import Part

FAILED = -1
_MSG_MORE = getattr(socket, "MSG_MORE", 0)
_JOIN = 128 * 1024  # a head and bytes up to this size are joined
_SLICE = 1024 * 1024  # bytes given to one send
_STRETCH = 0x7FFF_0000  # bytes asked of one sendfile


class Sender:
    """Sends one answer at a time on a non-blocking socket.  `left` is how many bytes are still to go."""

    __slots__ = ("_fd", "_parts", "_sock", "left")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self._parts: list[Part | memoryview] = []
        self.left = 0

    def start(self, head: bytes, parts: list[Part] | None = None) -> int:
        """Send `head` and `parts` as far as the socket takes them.

        Returns the number of bytes sent now, or `FAILED` when the connection is of no more use.
        """
        rest = parts or []
        if rest and isinstance(rest[0], bytes) and len(rest[0]) <= _JOIN:
            head += rest[0]
            rest = rest[1:]
        self.left = len(head) + sum([_size(part) for part in rest])
        self._parts = list(rest)
        return self._head(head)

    def start_file(self, head: bytes, fd: int, size: int) -> int:
        """`start` for a head and a whole file."""
        self.left = len(head) + size
        self._parts = [FileBody(fd, 0, size)]
        return self._head(head)

    def _head(self, head: bytes) -> int:
        try:
            sent = self._sock.send(head, _MSG_MORE if self._parts else 0)
        except BlockingIOError:
            sent = 0
        except OSError:
            return FAILED
        self.left -= sent
        if sent < len(head):
            self._parts.insert(0, memoryview(head)[sent:])
            return sent
        if not self._parts:
            return sent
        further = self.go_on()
        return further if further < 0 else sent + further

    def adopt(self, data: bytes, sent: int) -> int:
        """Go on with `data`, of which the caller has sent `sent` bytes itself (or `FAILED`); as `start`."""
        self.left = len(data) - max(sent, 0)
        self._parts = [memoryview(data)[sent:]] if self.left and sent >= 0 else []
        return sent

    def go_on(self) -> int:
        """Send on until the socket is full or all is out; as `start`."""
        sent = 0
        try:
            while self._parts:
                part = self._parts[0]
                moved = self._send_file(part) if isinstance(part, FileBody) else self._send_bytes(part)
                if moved <= 0:
                    return FAILED
                sent += moved
                self.left -= moved
        except BlockingIOError:
            pass
        except OSError:
            return FAILED
        return sent

    def _send_bytes(self, part: bytes | memoryview) -> int:
        sent = self._sock.send(memoryview(part)[:_SLICE])
        if sent == len(part):
            del self._parts[0]
        else:
            self._parts[0] = memoryview(part)[sent:]
        return sent

    def _send_file(self, part: FileBody) -> int:
        sent = os.sendfile(self._fd, part.fd, part.offset, min(part.length, _STRETCH))
        part.offset += sent
        part.length -= sent
        if not part.length:
            del self._parts[0]
            if not any(isinstance(other, FileBody) and other.fd == part.fd for other in self._parts):
                os.close(part.fd)
        return sent

    def abandon(self) -> None:
        """Close the files of an answer that will not be finished."""
        for fd in {part.fd for part in self._parts if isinstance(part, FileBody)}:
            os.close(fd)
        self._parts = []


def _size(part: Part) -> int:
    return len(part) if isinstance(part, bytes) else part.length
