"""Threads that serve one connection after the other.

Rules:

- A job goes to a thread that waits, or else to a new one: nobody ever queues behind a connection, as with a thread for
  each.
- A thread that has waited for `_IDLE` seconds ends, and so do all that wait when the crew is dismissed.
- Threads that wait know the crew only, never the server: one that nobody needs any more goes, and dismisses its crew.
- All are daemon threads.  Where connections have to be waited for at the end, socketserver's own are used.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from typing import Any

_IDLE = 5.0  # seconds

_Job = tuple[Callable[..., Any], tuple[Any, ...]]


class Crew:
    """The threads of one server."""

    def __init__(self) -> None:
        self._renew()

    def _renew(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting = 0  # threads that wait and are promised to nobody
        self._dismissed = False

    def run(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call `call` in a thread.  Raises RuntimeError when no more threads can be started."""
        if self._pid != os.getpid():  # forked: the threads stayed behind
            self._renew()
        with self._lock:
            found = self._waiting > 0
            if found:
                self._waiting -= 1
        if found:
            self._jobs.put((call, arguments))
        else:
            threading.Thread(target=self._work, args=([(call, arguments)],), daemon=True).start()

    def dismiss(self) -> None:
        """Have the threads that wait end; those that work end when they are done."""
        with self._lock:
            self._dismissed = True
            waiting, self._waiting = self._waiting, 0
        for _ in range(waiting):
            self._jobs.put(None)

    def _work(self, first: list[_Job]) -> None:
        job: _Job | None = first.pop()  # out of what the Thread keeps
        while job is not None:
            call, arguments = job
            call(*arguments)
            del job, call, arguments  # they hold the server
            job = self._next()

    def _next(self) -> _Job | None:
        with self._lock:
            if self._dismissed:
                return None
            self._waiting += 1
        try:
            return self._jobs.get(timeout=_IDLE)
        except queue.Empty:
            with self._lock:
                if self._waiting:
                    self._waiting -= 1
                    return None
        return self._jobs.get()  # promised to somebody at the last moment
