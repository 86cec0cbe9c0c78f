"""Callers of commands whose outcome takes time: each is answered once, when it is known or when its time is over."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from httpd.control.commands import Reply
from httpd.control.wire import DONE, ROLLED_BACK, TIMED_OUT, Outcome


@dataclass(slots=True)
class _Wait:
    done: Callable[[], Outcome | None]
    reply: Reply
    deadline: float


class Waits:
    """All who wait."""

    def __init__(self) -> None:
        self._waits: list[_Wait] = []

    def add(self, done: Callable[[], Outcome | None], reply: Reply, deadline: float) -> None:
        """Answer `reply` as soon as `done` has an outcome, at the latest at `deadline` (monotonic seconds)."""
        self._waits.append(_Wait(done, reply, deadline))

    def behind(self, reply: Reply, ready: Callable[[], bool], seconds: float = 1.0) -> Reply:
        """A reply that passes the outcome of a change on as soon as it is `ready`, and after so many seconds in any
        case; that of none at once."""

        def later(outcome: Outcome) -> None:
            if outcome.code not in (DONE, ROLLED_BACK):
                reply(outcome)
                return
            until = time.monotonic() + seconds
            self.add(lambda: outcome if ready() or time.monotonic() >= until else None, reply, until)

        return later

    @property
    def deadline(self) -> float:
        """The first deadline (monotonic seconds)."""
        return min((wait.deadline for wait in self._waits), default=float("inf"))

    def answer(self, now: float) -> None:
        """Look who can be answered.  To be called after everything that may change an outcome."""
        for wait in list(self._waits):
            outcome = wait.done()
            if outcome is None and now >= wait.deadline:
                outcome = Outcome(TIMED_OUT, "still in progress")
            if outcome is not None:
                self._waits.remove(wait)
                wait.reply(outcome)
