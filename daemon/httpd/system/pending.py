"""How much input a socket holds that nobody has read: one ioctl, no exception when there is none."""

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
