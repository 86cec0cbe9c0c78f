"""The process of a warm interpreter: how it is started, and what it says before it is ready.

Rules:

- It is the script's own interpreter with its options, in a session of its own, with `warm_script.py` and `warm.py` as
  its text.  They come through a pipe: its user need not be able to read the files.
- Descriptors: 0 and 1 nothing, 2 a file until all modules are loaded, 3 the text, 4 its door, 5 the real stderr.
- Until then its last words are the reason, if it does not get ready.
- Its libraries are bound at once: what is bound at its first call, and is called first behind a fork, would be looked
  up by every script anew.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import signal
import socket
import tempfile
from collections.abc import Callable, Mapping
from importlib import resources

from httpd.system import children
from httpd.system.signals import CHANGEABLE

# Before its user can't read it any more.
_SOURCE = b"\0".join(resources.files("httpd.cgi").joinpath(name).read_bytes() for name in ("warm_script.py", "warm.py"))
_BOOT = b"import os\nfor text in os.read(3, 65536).split(b'\\0'): exec(compile(text, 'httpd', 'exec'))"
_SAID = 4096  # bytes of what it wrote to stderr before it was ready, that are looked at


class WarmProcess:
    """One, and the spawner's end of its `door`, which does not wait."""

    def __init__(self, command: tuple[bytes, ...], environment: Mapping[bytes, bytes], nofile: int) -> None:
        """`nofile` is its soft limit on open files.  Raises OSError."""
        with contextlib.ExitStack() as made:
            self._said = _file_without_name()
            made.callback(self.close_said)
            self.door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            made.callback(self.door.close)
            self.door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # a large environment
            with theirs:
                self.pid = self._spawn(command, theirs, environment, nofile)
            made.pop_all()
        self.pidfd = children.watch(self.pid)

    def _spawn(self, command: tuple[bytes, ...], theirs: socket.socket, environment: Mapping[bytes, bytes],
               nofile: int) -> int:  # fmt: skip
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.ExitStack() as stack:
            source, writer = os.pipe()
            stack.callback(os.close, source)
            with open(writer, "wb", buffering=0) as pipe:
                pipe.write(_SOURCE)  # less than a pipe holds
            null = os.open(os.devnull, os.O_RDWR)
            stack.callback(os.close, null)
            # Some may have the number that another is to get: by way of numbers that are nobody's.
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (source, theirs.fileno(), self._said, 2)]
            for fd in high:
                stack.callback(os.close, fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            os.chdir("/")
            pairs = ((null, 0), (null, 1), (high[2], 2), (high[0], 3), (high[1], 4), (high[3], 5))
            return os.posix_spawn(
                command[0], [*command, b"-c", _BOOT], {**environment, b"LD_BIND_NOW": b"1"}, setsid=True, setsigmask=(),
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in pairs],
                setsigdef=CHANGEABLE,
            )  # fmt: skip

    def reap(self, forget: Callable[[int], None]) -> None:
        """See whether it has ended; `forget` is called with its pidfd before that is closed."""
        if self.pidfd is not None and children.reap(self.pid, self.pidfd) is not None:
            forget(self.pidfd)
            os.close(self.pidfd)
            self.pidfd = None

    def kill(self) -> None:
        """End it."""
        if self.pidfd is not None:
            children.kill(self.pid, self.pidfd, signal.SIGKILL)

    def last_words(self) -> str:
        """The last line on its stderr from before it was ready; "" where there is none."""
        if self._said < 0:
            return ""
        size = os.fstat(self._said).st_size
        lines = os.pread(self._said, _SAID, max(0, size - _SAID)).decode("utf-8", "replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "")

    def close_said(self) -> None:
        """It is ready, or gone."""
        if self._said >= 0:
            os.close(self._said)
            self._said = -1


def _file_without_name() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stderr")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
