"""Messages between the master and its children: JSON objects, and descriptors, over a pair of unix sockets.

One message is one packet, so none is ever half read.  The peer may be a worker that was taken over, so
`receive` trusts nothing: descriptors arrive closed-on-exec, a packet that is cut off, not JSON or not an
object is refused as a whole and its descriptors are closed.  SO_PEERCRED of a pair names its maker, not its
user: who speaks is known by which socket it is.

SOCK_DGRAM, used where there is no SOCK_SEQPACKET for unix sockets (macOS), shows the end of the peer as an
error only.
"""

from __future__ import annotations

import array
import enum
import errno
import json
import os
import socket
import sys
from collections.abc import Sequence
from typing import Any, Final, Literal

MAX_MESSAGE = 60 * 1024  # bytes of JSON
MAX_FDS = 64  # per message; the kernel's own bound is 253

_RECEIVE_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0)

# Why a message was not sent.  ETOOMANYREFS: too many descriptors are under way.
_GONE = {errno.EPIPE, errno.ECONNRESET, errno.ECONNREFUSED, errno.ENOTCONN}
_NO_ROOM = {errno.EAGAIN, errno.EWOULDBLOCK, errno.ENOBUFS, errno.ETOOMANYREFS}


class End(enum.Enum):
    EOF = "end of file"


EOF: Final = End.EOF


class BadMessage(Exception):
    """A packet that is no message of ours; nothing of it is kept."""


def control_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets, non-blocking, closed on exec."""
    if sys.platform == "linux":
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    else:
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        for end in pair:  # macOS takes 2 KiB by default
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * MAX_MESSAGE)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 * MAX_MESSAGE)
    for end in pair:
        end.setblocking(False)
    return pair


def send(sock: socket.socket, message: dict[str, Any], fds: Sequence[int] = ()) -> bool:
    """Send a message and duplicates of `fds`; the caller keeps its own.  Never waits.

    False if the peer is gone or has no room; what is gone is told by `receive`.  Raises ValueError for a
    message or a number of descriptors above the bounds, TypeError for what JSON can't carry.
    """
    data = json.dumps(message, separators=(",", ":")).encode("ascii")
    if len(data) > MAX_MESSAGE or len(fds) > MAX_FDS:
        raise ValueError(f"a message of {len(data)} bytes and {len(fds)} descriptors")
    extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    try:
        sock.sendmsg([data], extra, socket.MSG_DONTWAIT)
    except OSError as error:
        if error.errno in _GONE | _NO_ROOM:
            return False
        raise
    return True


def receive(sock: socket.socket) -> tuple[dict[str, Any], list[int]] | Literal[End.EOF] | None:
    """The next message and its descriptors; None if there is none now; EOF if the peer is gone.

    The descriptors belong to the caller.      Raises BadMessage; the socket can be read on after it.
    """
    room = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
    try:
        try:
            data, extra, flags, _ = sock.recvmsg(MAX_MESSAGE, room, _RECEIVE_FLAGS)
        except ConnectionResetError:  # once, where the peer has left something unread; what it has said comes behind
            data, extra, flags, _ = sock.recvmsg(MAX_MESSAGE, room, _RECEIVE_FLAGS)
    except BlockingIOError:
        return None
    except ConnectionError:
        return EOF
    fds = _descriptors(extra)
    if not data and not fds and not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
        return EOF
    try:
        return _parse(data, flags), fds
    except BadMessage:
        for fd in fds:
            os.close(fd)
        raise


def _parse(data: bytes, flags: int) -> dict[str, Any]:
    if flags & socket.MSG_TRUNC:
        raise BadMessage(f"longer than {MAX_MESSAGE} bytes")
    if flags & socket.MSG_CTRUNC:
        raise BadMessage(f"descriptors lost: more than {MAX_FDS}, or none left here")
    try:
        message = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise BadMessage("not a JSON object")
    return message


def _descriptors(extra: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    for fd in fds:
        os.set_inheritable(fd, False)  # where MSG_CMSG_CLOEXEC is missing
    return list(fds)
