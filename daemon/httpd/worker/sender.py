"""The sending half of a connection: one head, then parts that are bytes or stretches of open files.

Rules:

- A head and a body in memory leave in one call.  A head before a file leaves by itself: to let it share a packet with
  pages of the file (MSG_MORE) costs the kernel more than the packet does.
- The sender owns the descriptors of the files it was given and closes each when its last stretch is out.
- A file that ends before its stretch (it was truncated meanwhile) fails the send: the promised length can't be kept, so
  the connection has to end.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from httpd.protocol.messages import FileBody
from httpd.worker.exchange import Part

FAILED = -1
GATHER = 16 * 1024  # bytes: joining copies, gathering costs more work, and from a few pages on copying is dearer
_SLICE = 1024 * 1024  # bytes given to one send
TURN = 2 * 1024 * 1024  # bytes of one answer in one round of the loop: a fast reader must not hold up the others


class Sender:
    """Sends one answer at a time on a non-blocking socket.  `left` is how many bytes are still to go."""

    __slots__ = ("_fd", "_parts", "left")

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._parts: list[Part] = []
        self.left = 0

    def start(self, head: bytes, parts: Sequence[Part] = (), turn: int = TURN) -> int:
        """Send `head` and `parts` as far as the socket takes them, and about `turn` bytes at most.

        Returns the number of bytes sent now, or `FAILED` when the connection is of no more use.
        """
        rest = list(parts)
        self.left = len(head) + sum([_size(part) for part in parts])
        self._parts = rest
        try:
            if rest and not isinstance(first := rest[0], FileBody):
                if len(first) >= GATHER:
                    return self._began(head, os.writev(self._fd, (head, first)), turn)
                head += first
                del rest[0]
            return self._began(head, os.write(self._fd, head), turn)
        except BlockingIOError:
            return self._began(head, 0, turn)
        except OSError:
            return FAILED

    def add(self, part: Part) -> None:
        """Send `part` behind what is there; `go_on` does."""
        self._parts.append(part)
        self.left += _size(part)

    def adopt(self, head: bytes, rest: bytes | memoryview, sent: int) -> int:
        """Go on with two pieces of which the caller has sent `sent` bytes itself (or `FAILED`); as `start`."""
        self.left, self._parts = len(head) + len(rest), [rest]
        return self._began(head, sent, TURN) if sent >= 0 else FAILED

    def _began(self, head: bytes, sent: int, turn: int) -> int:
        """The first `sent` bytes of `head` and the first part are out."""
        self.left -= sent
        if sent < len(head):
            self._parts.insert(0, memoryview(head)[sent:])
            return sent
        beyond = sent - len(head)
        if beyond:
            first = self._parts[0]
            assert not isinstance(first, FileBody)
            if beyond < len(first):
                self._parts[0] = memoryview(first)[beyond:]
                return sent
            del self._parts[0]
        if not self._parts:
            return sent
        further = self.go_on(turn)
        return further if further < 0 else sent + further

    def go_on(self, turn: int = TURN) -> int:
        """Send on until the socket is full, all is out, or it is the others' turn; as `start`."""
        sent = 0
        try:
            while self._parts and sent < turn:
                part = self._parts[0]
                moved = self._send_file(part, turn) if isinstance(part, FileBody) else self._send_bytes(part)
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
        sent = os.write(self._fd, memoryview(part)[:_SLICE])
        if sent == len(part):
            del self._parts[0]
        else:
            self._parts[0] = memoryview(part)[sent:]
        return sent

    def _send_file(self, part: FileBody, turn: int) -> int:
        sent = os.sendfile(self._fd, part.fd, part.offset, min(part.length, turn))
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
    return part.length if isinstance(part, FileBody) else len(part)
