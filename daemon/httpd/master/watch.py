"""Watches over the workers' signs of life: `heartbeat` judges, this reads, asks and tells."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from httpd.logs.errors import ErrorLog
from httpd.master import heartbeat
from httpd.master.children import WATCHED, Child
from httpd.master.generations import Generation
from httpd.master.heartbeat import Judgement
from httpd.system import pairs
from httpd.system.usage import usage

_NEVER = float("inf")


class Watch:
    """`hung` is called with a worker that has given no sign for `timeouts.heartbeat`, and with the reason.

    `due` is when `look` has to be called next (monotonic seconds).
    """

    def __init__(self, errors: ErrorLog, hung: Callable[[Generation, Child, str], None]) -> None:
        self._errors = errors
        self._hung = hung
        self.due = _NEVER

    def begin(self, generation: Generation, child: Child, now: float) -> None:
        """A worker serves from now on."""
        heartbeat.forgive(child.pulse, now)
        patience = generation.config.timeouts.heartbeat
        if patience:
            self.due = min(self.due, now + patience / heartbeat.LOOKS)

    def look(self, generations: Iterable[Generation], now: float) -> None:
        """Look at all workers."""
        self.due = _NEVER
        for generation in generations:
            patience = generation.config.timeouts.heartbeat
            watched = [child for child in generation.children if child.state in WATCHED] if patience else []
            if watched:
                self.due = min(self.due, now + patience / heartbeat.LOOKS)
            for child in watched:
                self._look_at(generation, child, now, patience)

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
