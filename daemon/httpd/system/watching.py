"""Descriptors that a process waits for, and who is called when one has something to read.

Rules:

- What the poller tells is of descriptors as they were when it was asked.  One that is closed in the same round may be
  another's by then, who must not be told of its end: what was forgotten in a round is not called any more in it.  If
  there is something for its successor, the next round says so.
- A handler that fails takes nothing from the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from httpd.system.poller import IN, OUT, make_poller

_NEVER = float("inf")


class Watching:
    """`failed` is told what a handler has raised."""

    def __init__(self, failed: Callable[[Exception], None]) -> None:
        self._failed = failed
        self._poller = make_poller()
        self._handlers: dict[int, Callable[[], None]] = {}
        self._forgotten: set[int] = set()  # in this round

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        """Have `handler` called when `fd` has something to read."""
        self._handlers[fd] = handler
        self._poller.register(fd, IN)

    def wait_for_room(self, fd: int, *, room: bool = True) -> None:
        """Have it called as well when something can be written; or not any more."""
        self._poller.modify(fd, IN | OUT if room else IN)

    def forget(self, fd: int) -> None:
        """The opposite of `watch`, for who was watched or not."""
        if self._handlers.pop(fd, None) is not None:
            self._poller.unregister(fd)
            self._forgotten.add(fd)

    def round(self, until: float) -> None:
        """Wait until there is something, or to `until` (monotonic seconds), and call who is meant."""
        events = self._poller.poll(-1 if until == _NEVER else max(0.0, until - time.monotonic()))
        self._forgotten.clear()
        for fd, _ in events:
            handler = None if fd in self._forgotten else self._handlers.get(fd)
            try:
                if handler is not None:
                    handler()
            except Exception as error:
                self._failed(error)
