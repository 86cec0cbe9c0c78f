"""A bell that threads ring to wake a loop.

Rules:

- It is heard by its edge: an event counter (Linux) that nobody reads, so that ringing costs one system call and hearing
  none.  Elsewhere it is a pipe, which has to be emptied (`hear`).
- Ringing never waits and never fails; rung twice before it is heard, it counts once.
"""

from __future__ import annotations

import contextlib
import os
import sys

from httpd.system.poller import EDGE, IN

_COUNTER = sys.platform == "linux"


class Bell:
    """Watch `fd` for `mask`, and call `hear` when it shows."""

    __slots__ = ("_end", "fd")

    mask = IN | EDGE if _COUNTER else IN

    def __init__(self) -> None:
        if _COUNTER:
            self.fd = self._end = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.fd, self._end = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._end, False)

    if _COUNTER:

        def ring(self) -> None:
            """From any thread."""
            with contextlib.suppress(OSError):  # the counter is full of rings that nobody heard yet
                os.eventfd_write(self._end, 1)

    else:

        def ring(self) -> None:
            """From any thread."""
            with contextlib.suppress(OSError):
                os.write(self._end, b"\0")

    def hear(self) -> None:
        """Called by who watches, when it was rung."""
        if not _COUNTER:
            with contextlib.suppress(OSError):
                while os.read(self.fd, 4096):
                    pass

    def close(self) -> None:
        os.close(self.fd)
        if self._end != self.fd:
            os.close(self._end)
