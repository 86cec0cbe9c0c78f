"""Watches over the workers' signs of life: `heartbeat` judges, this reads, asks and tells.

Rules: an idle server does not wake up to look at itself.  When all workers are asleep, and none owes an answer, looking
ends; the first that wakes up begins by saying so, whatever it then hangs in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from httpd.logs.errors import ErrorLog
from httpd.master import heartbeat
from httpd.master.children import WATCHED, Child
from httpd.master.generations import Generation
from httpd.master.heartbeat import Judgement
from httpd.system import pairs
from httpd.system.usage import usage
from httpd.worker.scoreboard import Scoreboard

_SOON = 2.0  # seconds until the first look at who woke up
_NEVER = float("inf")


class Watch:
    """`hung` is called with a worker that has given no sign for `timeouts.heartbeat`, and with the reason.

    `due` is when `look` has to be called next (monotonic seconds).
    """

    def __init__(self, errors: ErrorLog, hung: Callable[[Generation, Child, str], None]) -> None:
        self._errors = errors
        self._hung = hung
        self.due = _NEVER
        self._soon = _SOON
        self._asleep_since = 0.0  # monotonic seconds
        self._slept = 0.0  # seconds since the last look in which nobody looked
        self._unattended: list[Scoreboard] = []

    def begin(self, generation: Generation, child: Child, now: float) -> None:
        """A worker serves from now on."""
        heartbeat.forgive(child.pulse, now)
        if generation.config.timeouts.heartbeat:
            self.due = min(self.due, now + min(_SOON, _interval(generation)))

    def rouse(self, now: float) -> None:
        """A worker says that it is awake."""
        if self._unattended:
            self._attend(now)
            self.due = min(self.due, now + self._soon)

    def _attend(self, now: float) -> None:
        if self._unattended:
            self._slept += now - self._asleep_since
        for scoreboard in self._unattended:
            scoreboard.leave_unattended(unattended=False)
        self._unattended = []

    def look(self, generations: Iterable[Generation], now: float) -> None:
        """Look at all workers."""
        self.due = _NEVER
        self._attend(now)
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
        if not any(child.pulse.asked for _, child in watched):
            self._unattended = list({id(generation): generation.scoreboard for generation, _ in watched}.values())
            self._asleep_since = now
            for scoreboard in self._unattended:
                scoreboard.leave_unattended(unattended=True)
        # Behind that: who has woken up before it was said did not tell.
        if not self._unattended or any(generation.scoreboard.awake(child.board) for generation, child in watched):
            self._attend(now)
            self.due = now + interval

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
