"""Descriptors and other processes: what a child inherits, of which it should keep only what is its own, and what is
lent to a program of another user, and how a connection ends without its end."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import sys
from collections.abc import Collection

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 seconds


def lend(fd: int) -> int:
    """Let whoever is given this pipe, or file without a name, open it anew as /dev/stdin, /dev/stdout or /dev/stderr.

    Linux asks for permission then, even of a pipe, which is its maker's alone.  Nobody else has a way to it: there is
    no name, and the descriptors of other users' processes can't be reached by /proc.
    """
    if sys.platform == "linux":
        os.fchmod(fd, 0o666)
    return fd


def lent_pipe() -> tuple[int, int]:
    """A pipe for what a program of another user writes: our end, which never waits, and its own.  Raises OSError."""
    ours, theirs = os.pipe()
    lend(theirs)
    os.set_blocking(ours, False)
    return ours, theirs


def reset_at_close(sock: socket.socket) -> None:
    """Have its connection end by a reset when it is closed.  Raises OSError."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


def reset(sock: socket.socket) -> None:
    """Reset the connection of a socket now, whoever has it open under this number: what is done with it later does
    nothing.  Raises OSError."""
    one, other = socket.socketpair()
    with one, other:
        reset_at_close(sock)
        os.dup2(one.fileno(), sock.fileno(), inheritable=False)


def close_all_but(keep: Collection[int]) -> None:
    """Close every descriptor of this process but 0, 1, 2 and `keep`.

    For a child after fork: a lock, a listener or the control socket that an orphan holds outlives its owner.
    """
    for name in os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):  # the folder that was just read is in its own list
                os.close(fd)
