"""Replacing workers that are well: by a new one first, and only then does the old one go.

    a worker is tired -> its successor starts -> the successor serves -> the worker drains -> the next one's turn

Rules: one at a time in a generation, so that a service never runs on half its workers because all grew old together.
"""

from __future__ import annotations

from collections.abc import Callable

from httpd.logs.errors import ErrorLog
from httpd.master.children import Child, Slot, State
from httpd.master.generations import Generation, Stage
from httpd.master.losses import Losses


class Recycling:
    """`fill` starts workers in the slots it is given."""

    def __init__(self, errors: ErrorLog, losses: Losses, fill: Callable[[Generation, list[Slot]], None]) -> None:
        self._errors = errors
        self._losses = losses
        self._fill = fill

    def ask(self, generation: Generation, child: Child, reason: str) -> None:
        """A worker wants to be replaced (`max_requests`, `max_memory`).  It may ask as often as it likes."""
        known = any(slot.replacing is child for slot in generation.slots) or child in generation.extra
        if generation.stage is Stage.DRAINING or child.state not in (State.SERVING, State.STANDBY) or known:
            return
        if not any(child is tired for tired, _ in generation.tired):
            self._errors.info("replacing worker", worker=child.pid, slot=child.slot, reason=reason)
            generation.tired.append((child, reason))

    def go_on(self, generation: Generation) -> None:
        """Begin with the next one, if it is its turn.  To be called whenever something has happened."""
        if not generation.tired or generation.stage is not Stage.ACTIVE:
            return
        if any(slot.replacing is not None for slot in generation.slots):
            return
        while generation.tired:
            child, reason = generation.tired.pop(0)
            slot = self.replace(generation, child, reason)
            if slot is not None:
                slot.replacing = child
                return

    def replace(self, generation: Generation, child: Child, reason: str) -> Slot | None:
        """Give the child's slot to a new worker; the child goes on without a slot."""
        for slot in generation.slots:
            if slot.child is child:
                generation.set_aside(slot)
                slot.restarts += 1
                self._losses.note(child, reason)
                if generation.stage is Stage.ACTIVE:
                    self._fill(generation, [slot])
                return slot
        return None

    def successor_serves(self, generation: Generation, child: Child) -> Child | None:
        """`child` serves: the worker that it was started for, which may go now."""
        for slot in generation.slots:
            if slot.child is child:
                old, slot.replacing = slot.replacing, None
                return old
        return None
