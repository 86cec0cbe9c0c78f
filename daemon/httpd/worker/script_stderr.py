"""What a script writes to stderr, on its way into the error log.

Rules:

- The script's text is a value of an entry, the last one: it can be taken for nothing else.
- It is watched only when a script takes longer than a moment: what the others have written is there at their end.
- One read in a round: whoever floods it has no more of this process than others.  What is over the mount's allowance is
  counted when it is read, so that nothing of it is kept.
- What was not logged is told of at the end of the run; where that was done lately, a few seconds later for all runs.
"""

from __future__ import annotations

import os

from httpd.cgi.stderr import Stderr
from httpd.system.descriptors import lent_pipe
from httpd.system.poller import IN
from httpd.worker.context import Context
from httpd.worker.run_faces import Run
from httpd.worker.script_mount import ScriptMount

_READ = 16 * 1024  # bytes of one read
_LAST = 256 * 1024  # bytes that are taken at the end


class Untold:
    """Lines of a mount that were not logged: held back by the scripts' host until it is time to tell of them."""

    __slots__ = ("_context", "_mount", "hold_until")

    def __init__(self, context: Context, mount: ScriptMount) -> None:
        self._context = context
        self._mount = mount
        self.hold_until = mount.allowance.due_at(context.now)

    @property
    def holds(self) -> bool:
        """Whether there is something to tell: the end of a run may have done so."""
        return self._mount.allowance.dropped > 0

    def release(self) -> None:
        """Tell of them."""
        context, mount = self._context, self._mount
        context.errors.warning("scripts wrote more to stderr than is logged", mount=mount.key,
                               lines=mount.allowance.settle(context.now))  # fmt: skip


class ScriptStderr:
    """The stderr of one run.  `child_fd` is the script's end of it."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._text = Stderr()
        self._lines: list[bytes] = []  # that are not logged yet
        self._watched = False
        self._fd, self.child_fd = lent_pipe()

    @property
    def open(self) -> bool:
        """Whether more may come."""
        return self._fd >= 0

    @property
    def last_words(self) -> str:
        """The end of what was written."""
        return self._text.last_words

    @property
    def tail(self) -> bytes:
        """The same, as it was written."""
        return self._text.tail.strip()

    @property
    def has_more(self) -> bool:
        """Whether more was written than that."""
        return self._text.has_more

    def watch(self) -> None:
        """Read on as it comes."""
        if not self._watched and self._fd >= 0:
            self._watched = True
            self._run.scripts.context.watch(self._fd, IN, 0, self._on_input)

    def _on_input(self, mask: int) -> None:
        self._read_some()
        if self._fd < 0:
            self._run.settle()

    def read(self) -> None:
        """Take what is there, at the end."""
        taken = 0
        while self._fd >= 0 and taken < _LAST:
            some = self._read_some()
            if not some:
                return
            taken += some

    def _read_some(self) -> int:
        """How many bytes were there."""
        try:
            data = os.read(self._fd, _READ)
        except BlockingIOError:
            return 0
        if data:
            self._take(data)
            return len(data)
        if self._text.within_line:
            self._take(b"\n")  # the last line needs no end
        self.close()
        return 0

    def _take(self, data: bytes) -> None:
        scripts, mount = self._run.scripts, self._run.mount
        allowance = mount.allowance
        lines, dropped = self._text.cut(data, allowance.left(scripts.context.now))
        if dropped and not allowance.dropped:
            scripts.held.append(Untold(scripts.context, mount))
        allowance.spend(len(lines), dropped)
        self._lines += lines
        self.log()

    def log(self) -> None:
        """Log lines, as soon as it is known by which process they are."""
        run = self._run
        if not self._lines or not (run.pid or run.gone):
            return
        lines, self._lines = self._lines, []
        for line in lines:
            run.scripts.context.errors.info("stderr", script=run.found.file, pid=run.pid, id=run.id, text=line)

    def close(self) -> None:
        """Let go of it."""
        if self._fd < 0:
            return
        context, mount = self._run.scripts.context, self._run.mount
        if self._watched:
            context.forget(self._fd)
        os.close(self._fd)
        self._fd = -1
        # When this process ends there may be no time for it later.
        if mount.allowance.due(context.now) or (context.draining and mount.allowance.dropped):
            Untold(context, mount).release()
