"""The time behind a reload in which it can still be undone.

    ROLL is over -> new workers accept, old ones stand by -> settled: the old ones drain
                                                          -> rolled back: the old ones accept again

A configuration can be good, its workers get ready, and crash with the first requests.  Until that time is over the old
generation is kept as it was: its processes, its log files, its listeners.

Rules:

- A crash of one new worker is enough.  SIGKILL is not a crash, it comes from outside; but when as many were killed as
  there are places the new generation can't live, whatever the cause (memory, most likely).
- Listeners that the reload gave up stay open, and are served by the old workers, until it is settled; a roll-back needs
  no address back from the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

from httpd.master.children import Event, State
from httpd.master.crew import Crew
from httpd.master.generations import Generation
from httpd.master.listeners import Listener, dropped


class Probation:
    """Of generation `new` behind `old`, until `deadline` (monotonic seconds).  Ends by `settle` or `roll_back`."""

    def __init__(self, crew: Crew, old: Generation, new: Generation, deadline: float) -> None:
        self.old, self.new, self.deadline = old, new, deadline
        self._crew = crew
        self._killed = 0
        self.given_up = dropped(old.listeners, new.listeners)

    def begin(self) -> None:
        """Have the old workers stand by."""
        self._crew.stand_by(self.old, [listener.address.text for listener in self.given_up])

    def failed(self, *, crashed: bool) -> bool:
        """A new worker was lost: whether the reload has to be undone."""
        self._killed += 1
        return crashed or self._killed >= len(self.new.slots)

    def settle(self, kept: Sequence[Listener] = ()) -> None:
        """The new generation has proved itself: the old one finishes what is open and goes.

        `kept` are listeners of a still newer generation, which may have taken up what this one gave up; so may a
        script of this one, since.
        """
        closing = dropped(self.given_up, [*kept, *self.new.listeners])
        for listener in closing:  # first here: then the workers are the last who can empty its queue
            listener.close()
        self._crew.drain(self.old, [listener.address.text for listener in closing])

    def roll_back(self) -> None:
        """The old generation serves again."""
        dismiss(self._crew, self.new, dropped(self.new.listeners, self.old.listeners))
        self._crew.resume(self.old)


def dismiss(crew: Crew, generation: Generation, fresh: list[Listener]) -> None:
    """End a generation that was not to be; `fresh` are listeners that only it has."""
    for listener in fresh:  # first here, as in `settle`
        listener.close()
    crew.close(generation)
    for child in list(generation.children):
        # A worker that serves may already have clients: it finishes them.
        event = Event.DRAIN if child.state is State.SERVING else Event.STOP
        crew.apply(generation, child, event, [listener.address.text for listener in fresh])
