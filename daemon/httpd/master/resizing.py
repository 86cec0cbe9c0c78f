"""Another number of workers, while the server runs: by command or signal.

Rules:

- Only the active generation is resized, and never while another is on its way to take its place.
- Workers that go finish their requests first; the reply comes when they have, and the new ones serve.
"""

from __future__ import annotations

import time

from httpd.control.commands import Reply
from httpd.control.wire import REFUSED, Outcome
from httpd.logs.errors import ErrorLog
from httpd.master import report
from httpd.master.children import Child, Event, Slot
from httpd.master.crew import Crew
from httpd.master.generations import Generation
from httpd.master.reloads import Reloads
from httpd.master.waits import Waits

_SECONDS = 90.0  # until the reply comes, whatever has happened


class Resizing:
    """Does it for one master."""

    def __init__(self, crew: Crew, reloads: Reloads, errors: ErrorLog, waits: Waits) -> None:
        self._crew = crew
        self._reloads = reloads
        self._errors = errors
        self._waits = waits

    def change(self, by: int, reply: Reply, *, stopping: bool) -> None:
        """Have so many more."""
        active = self._reloads.active
        self.set(len(active.slots) + by if active is not None else 0, reply, stopping=stopping)

    def set(self, count: int, reply: Reply, *, stopping: bool) -> None:
        """Have `count`.  `stopping`: the server ends."""
        generation = self._reloads.active
        refusal = ""
        if generation is None or stopping or self._reloads.busy:
            refusal = "not now: the server starts, reloads or stops"
        elif not 1 <= count <= generation.config.server.max_workers:
            refusal = f"{count} workers: must be 1 to server.max_workers ({generation.config.server.max_workers})"
        if refusal or generation is None:
            self._errors.warning("worker count not changed", reason=refusal)
            reply(Outcome(REFUSED, refusal))
            return
        self._errors.notice("worker count", workers=count)
        leaving = resize(self._crew, generation, count)
        self._waits.add(lambda: report.settled(generation, count, leaving), reply, time.monotonic() + _SECONDS)


def resize(crew: Crew, generation: Generation, count: int) -> list[Child]:
    """Have `count` slots; returns the workers that have to go."""
    going = generation.slots[count:]
    del generation.slots[count:]
    generation.slots += [Slot(number) for number in range(len(generation.slots), count)]
    leaving = [slot.child for slot in going if slot.child is not None]
    generation.extra += leaving
    leaving += [slot.replacing for slot in going if slot.replacing is not None]  # these have no place already
    for child in leaving:
        crew.apply(generation, child, Event.DRAIN)
    crew.fill(generation)
    return leaving
