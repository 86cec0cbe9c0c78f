"""Counting over several processes: so many of something at once, whoever has them.

Linux: an eventfd that is a semaphore (eventfd(2)), which processes inherit and a poller can wait for.  Elsewhere: a
count in one process.

A process that dies takes its slots with it: whoever made them has to make them anew.
"""

from __future__ import annotations

import os


class Slots:
    """`count` of them."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.fd = -1
        if hasattr(os, "eventfd"):
            self.fd = os.eventfd(count, os.EFD_SEMAPHORE | os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def take(self) -> bool:
        """Take one; False: there is none."""
        if self.fd < 0:
            taken = self._left > 0
            self._left -= taken
            return taken
        try:
            os.eventfd_read(self.fd)
        except BlockingIOError:
            return False
        return True

    def give(self) -> None:
        """Give one back."""
        if self.fd < 0:
            self._left += 1
        else:
            os.eventfd_write(self.fd, 1)

    def close(self) -> None:
        """Let go of it in this process."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


SHARED = hasattr(os, "eventfd")  # whether several processes can count together
