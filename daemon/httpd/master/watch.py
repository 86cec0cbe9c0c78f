"""Watches over the workers' signs of life: `heartbeat` judges, this reads, asks and tells.

Rules: an idle server does not wake up to look at itself.  When all workers are asleep, and none owes an answer, looking
ends.  It begins again with the first worker that wakes up, which says so before whatever it may hang in; and, as all of
them may stand still, with the first connection that comes.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable

from httpd.logs.errors import ErrorLog
from httpd.master import heartbeat
from httpd.master.children import WATCHED, Child
from httpd.master.generations import Generation
from httpd.master.heartbeat import Judgement
from httpd.system import pairs
from httpd.system.poller import IN, Poller
from httpd.system.usage import usage
from httpd.worker.scoreboard import Scoreboard

_SOON = 2.0  # seconds until the first look at who woke up
_NEVER = float("inf")


class Watch:
    """`hung` is called with a worker that has given no sign for `timeouts.heartbeat`, and with the reason.

    `due` is when `look` has to be called next (monotonic seconds).
    """

    def __init__(
        self, poller: Poller, handlers: dict[int, Callable[[int], None]], errors: ErrorLog,
        hung: Callable[[Generation, Child, str], None],
    ) -> None:  # fmt: skip
        self._poller = poller
        self._handlers = handlers
        self._errors = errors
        self._hung = hung
        self.due = _NEVER
        self._soon = _SOON
        self._asleep_since = 0.0  # monotonic seconds
        self._slept = 0.0  # seconds since the last look in which nobody looked
        self._unattended: list[Scoreboard] = []
        # Copies of the listeners of each generation: nobody else closes them while they are waited for.
        self._bells: dict[int, list[int]] = {}
        self._waited_for: list[int] = []

    def begin(self, generation: Generation, child: Child, now: float) -> None:
        """A worker serves from now on."""
        heartbeat.forgive(child.pulse, now)
        self._copy_listeners(generation)
        if generation.config.timeouts.heartbeat:
            self.due = min(self.due, now + min(_SOON, _interval(generation)))

    def attend(self, now: float) -> None:
        """Look at workers again, as one of them says that it is awake, and wait for no listener any more."""
        if self._unattended:
            self._slept += now - self._asleep_since
            self.due = min(self.due, now + self._soon)
        for scoreboard in self._unattended:
            scoreboard.leave_unattended(unattended=False)
        self._unattended = []
        for bell in self._waited_for:
            del self._handlers[bell]
            self._poller.unregister(bell)
        self._waited_for = []

    def release(self, generation: Generation) -> None:
        """Let go of a generation's listeners: its workers are to be the last who hold them."""
        bells = self._bells.pop(generation.number, None)
        if bells is not None:
            self.attend(time.monotonic())
            for bell in bells:
                os.close(bell)

    def _leave(self, generations: Collection[Generation], now: float) -> None:
        """Do not look until somebody wakes up, or comes."""
        self._asleep_since = now
        self._unattended = [generation.scoreboard for generation in generations]
        for scoreboard in self._unattended:
            scoreboard.leave_unattended(unattended=True)
        for generation in generations:
            for bell in self._bells.get(generation.number, ()):
                self._handlers[bell] = lambda mask: self.attend(time.monotonic())
                self._poller.register(bell, IN)
                self._waited_for.append(bell)

    def _copy_listeners(self, generation: Generation) -> None:
        if generation.number in self._bells or not generation.config.timeouts.heartbeat:
            return
        bells = self._bells[generation.number] = []
        for sock in (sock for listener in generation.listeners for sock in listener.sockets):
            with contextlib.suppress(OSError):  # no descriptor left: then only workers ring
                bells.append(os.dup(sock.fileno()))

    def look(self, generations: Iterable[Generation], now: float) -> None:
        """Look at all workers."""
        self.attend(now)
        self.due = _NEVER
        watched = [
            (generation, child) for generation in generations if generation.config.timeouts.heartbeat
            for child in generation.children if child.state in WATCHED
        ]  # fmt: skip
        slept, self._slept = self._slept, 0.0
        for generation, child in watched:
            if not child.pulse.asked:
                child.pulse.seen = min(now, child.pulse.seen + slept)  # nobody looked: that was no silence
            self._look_at(generation, child, now, generation.config.timeouts.heartbeat)
        interval = min((_interval(generation) for generation, _ in watched), default=_NEVER)
        self._soon = min(_SOON, interval)
        if not watched or any(child.pulse.asked or generation.scoreboard.awake(child.board)
                              for generation, child in watched):  # fmt: skip
            self.due = now + interval
            return
        self._leave({generation.number: generation for generation, _ in watched}.values(), now)
        # Behind that: who has woken up before it was said did not tell.
        if any(generation.scoreboard.awake(child.board) for generation, child in watched):
            self.attend(now)

    def _look_at(self, generation: Generation, child: Child, now: float, patience: float) -> None:
        judgement = heartbeat.judge(child.pulse, generation.scoreboard.read(child.board).beat, now, patience)
        if judgement is Judgement.HUNG and heartbeat.starved(child.pulse, usage(child.pid), now):
            judgement = Judgement.ASK
            self._errors.limited("starved", 60).warning("worker waits for a processor: not ended for its silence",
                                                        worker=child.pid)  # fmt: skip
        if judgement is Judgement.ASK:
            heartbeat.asked(child.pulse, now, usage(child.pid))
            pairs.send(child.channel, {"do": "beat"})
        elif judgement is Judgement.HUNG:
            self._hung(generation, child, f"hangs: no sign of life for {now - child.pulse.seen:.1f} s")


def _interval(generation: Generation) -> float:
    return generation.config.timeouts.heartbeat / heartbeat.LOOKS
