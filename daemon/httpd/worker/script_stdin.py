"""What a script reads its request's body from: a file, or a pipe that is full and has no other end."""

from __future__ import annotations

import os
import tempfile

from httpd.system.descriptors import lend


def body_in(body: bytes) -> int:
    """A descriptor to read `body` from.  Raises OSError."""
    reader, writer = os.pipe()
    try:
        os.set_blocking(writer, False)
        if not body or os.write(writer, body) == len(body):
            return lend(reader)
    except BlockingIOError:
        pass
    finally:
        os.close(writer)
    os.close(reader)  # it is more than a pipe holds
    with tempfile.TemporaryFile(prefix="httpd-body-") as file:
        file.write(body)
        file.flush()
        return reopened(file.fileno())


def reopened(fd: int) -> int:
    """The file behind `fd` from its beginning, to be read alone.  Raises OSError."""
    return lend(os.open(f"/dev/fd/{fd}", os.O_RDONLY))


class Progress:
    """How far a script has read its body, as far as that can be seen: a file's offset is its reader's."""

    def __init__(self, fd: int) -> None:
        """`fd` stays the caller's; -1: there is no body."""
        self._at = -1
        self._fd = -1
        if fd < 0:
            return
        try:
            os.lseek(fd, 0, os.SEEK_CUR)
        except OSError:  # a pipe
            return
        self._fd = os.dup(fd)

    def moved(self) -> bool:
        """Whether it has read more since this was last asked."""
        if self._fd < 0:
            return False
        before, self._at = self._at, os.lseek(self._fd, 0, os.SEEK_CUR)
        return self._at != before

    def close(self) -> None:
        """It is of no interest any more."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
