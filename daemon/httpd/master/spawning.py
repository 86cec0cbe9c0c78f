"""How a worker is made.

Rules:

- All signals are blocked around the fork, so that none meant for the master runs in the child's first moments.
- Whatever fails (descriptors, memory, the limit of processes) leaves nothing open and raises OSError; nothing waits.
- Each worker has a pipe of its own to the master, non-blocking, for what faulthandler has to say in a moment in which
  nothing else works any more.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable

from httpd.logs.errors import ErrorLog
from httpd.master.children import Child, Slot
from httpd.master.generations import Generation
from httpd.master.launching import Launching
from httpd.system import children, pairs, signals
from httpd.worker.hosting import preload
from httpd.worker.order import Order
from httpd.worker.process import work

_DUMP_LIMIT = 64 * 1024  # bytes; what a pipe holds


class Spawner:
    """Forks workers.  `folder` is a descriptor of the folder they stay in, `before_work` runs first in each of them."""

    def __init__(self, folder: int, before_work: Callable[[], None], launching: Launching, *, detached: bool) -> None:
        self._folder = folder
        self._before_work = before_work
        self._launching = launching
        self._detached = detached

    def spawn(self, generation: Generation, slot: Slot, now: float) -> Child:
        """Start a worker for `slot`.  Raises OSError."""
        preload(generation.config)
        with contextlib.ExitStack() as always, contextlib.ExitStack() as undo:
            ours, theirs = pairs.control_pair()
            always.enter_context(theirs)
            undo.callback(ours.close)
            dump, their_dump = os.pipe()
            always.callback(os.close, their_dump)
            undo.callback(os.close, dump)
            os.set_blocking(dump, False)
            os.set_blocking(their_dump, False)
            launcher = self._launching.admit(generation, slot.number)
            if launcher is not None:
                always.enter_context(launcher)
            board = generation.take_board()
            undo.callback(generation.give_board, board)
            order = Order(
                generation.config, generation.identity, slot.number, generation.number, theirs,
                [(listener.address, listener.sockets) for listener in generation.listeners], generation.targets,
                generation.errors, generation.scoreboard, board, generation.shares, self._folder, self._detached,
                launcher, their_dump,
            )  # fmt: skip
            with signals.blocked_signals():
                pid = os.fork()
                if pid == 0:
                    self._before_work()
                    work(order)
            undo.pop_all()
        child = Child(pid, children.watch(pid), ours, dump, slot.number, generation.number, now, board=board)
        child.deadline = now + generation.config.timeouts.start
        return child


def last_words(child: Child) -> str:
    """What faulthandler wrote of the worker since this was last asked; untrusted text of several lines."""
    try:
        return os.read(child.dump, _DUMP_LIMIT).decode("utf-8", "replace").rstrip("\n")
    except OSError:  # nothing is there
        return ""


def log_last_words(child: Child, errors: ErrorLog) -> None:
    """The same, for whoever has to find out why it went."""
    words = last_words(child)
    if words:
        errors.error(f"where worker {child.pid} stood\n{words}")


def release(child: Child) -> None:
    """Close what the master holds of a worker that is gone."""
    child.channel.close()
    os.close(child.dump)
    if child.pidfd is not None:
        os.close(child.pidfd)
