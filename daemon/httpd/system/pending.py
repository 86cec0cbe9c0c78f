"""How much a socket holds: input that nobody has read, output that the peer has not taken.  One ioctl each."""

from __future__ import annotations

import fcntl
import termios
from array import array

_COUNT = array("i", [0])


def input_pending(fd: int) -> bool:
    """Whether bytes wait in the receive buffer of `fd`."""
    try:
        fcntl.ioctl(fd, termios.FIONREAD, _COUNT, True)
    except OSError:
        return False
    return _COUNT[0] > 0


def output_queued(fd: int) -> int:
    """Bytes that were sent on `fd` and that the peer's kernel has not acknowledged; 0 where that can't be known."""
    try:
        fcntl.ioctl(fd, termios.TIOCOUTQ, _COUNT, True)
    except OSError:
        return 0
    return _COUNT[0]
