"""What a child inherits: everything that is open, of which it should keep only what is its own."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Collection


def close_all_but(keep: Collection[int]) -> None:
    """Close every descriptor of this process but 0, 1, 2 and `keep`.

    For a child after fork: a lock, a listener or the control socket that an orphan holds outlives its owner.
    """
    for name in os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd"):
        fd = int(name)
        if fd > 2 and fd not in keep:
            with contextlib.suppress(OSError):  # the folder that was just read is in its own list
                os.close(fd)
