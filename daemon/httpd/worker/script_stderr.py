"""What a script writes to stderr, on its way into the error log."""

from __future__ import annotations

import os

from httpd.cgi.stderr import Stderr
from httpd.system.poller import IN
from httpd.worker.run_faces import Run

_READ = 64 * 1024  # bytes of one read
_TURN = 256 * 1024  # bytes that are taken in one round


class ScriptStderr:
    """The stderr of one run.  `child_fd` is the script's end of it.

    It is watched only when a script takes longer than a moment: what the others have written is there at their end.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._text = Stderr()
        self._lines: list[str] = []  # that are not logged yet
        self._watched = False
        self._fd, self.child_fd = os.pipe()
        os.set_blocking(self._fd, False)

    @property
    def open(self) -> bool:
        """Whether more may come."""
        return self._fd >= 0

    @property
    def last_words(self) -> str:
        """The end of what was written."""
        return self._text.last_words

    def watch(self) -> None:
        """Read on as it comes."""
        if not self._watched and self._fd >= 0:
            self._watched = True
            self._run.scripts.context.watch(self._fd, IN, 0, self._on_input)

    def _on_input(self, mask: int) -> None:
        self.read()
        if self._fd < 0:
            self._run.settle()

    def read(self) -> None:
        """Take what is there."""
        taken = 0
        while self._fd >= 0 and taken < _TURN:
            try:
                data = os.read(self._fd, _READ)
            except BlockingIOError:
                return
            if not data:
                self._lines += self._text.end()
                self.close()
            taken += len(data)
            self._lines += self._text.feed(data)
            self.log()

    def log(self) -> None:
        """Log lines, as soon as it is known by which process they are."""
        run = self._run
        if not self._lines or not (run.pid or run.gone):
            return
        allowance, log, now = run.mount.allowance, run.scripts.context.errors, run.scripts.context.now
        lines, self._lines = self._lines, []
        dropped = allowance.settle(now)
        if dropped:
            log.warning("scripts wrote more to stderr than is logged", mount=run.mount.key, lines=dropped)
        for line in lines:
            if allowance.take(now):
                log.info(f"stderr: {line}", script=run.found.file, pid=run.pid, id=run.id)

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            if self._watched:
                self._run.scripts.context.forget(self._fd)
            os.close(self._fd)
            self._fd = -1
