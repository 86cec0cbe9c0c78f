"""The worker processes of all generations: forked, listened to, told what to do, buried.

Rules:

- A worker is known by its pidfd and its channel, never by waiting for any child.
- All signals are blocked around the fork, so that none meant for the master runs in the child's first moments.
- What a worker says is data from an untrusted process: it can report, it can't command.
- Nothing here waits.  What takes time has a deadline in the child's record.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from typing import Protocol

from httpd.logs.errors import ErrorLog
from httpd.master.children import BOOT_SECONDS, Action, Child, Event, Slot, State, jitter
from httpd.master.generations import Generation, Stage
from httpd.system import children, pairs, signals
from httpd.system.poller import IN, Poller
from httpd.worker.process import Order, work


class Observer(Protocol):
    """Who is told what happens to workers."""

    def worker_ready(self, generation: Generation, child: Child) -> None: ...

    def worker_gone(self, generation: Generation, child: Child, how: str) -> None: ...


class Crew:
    """All workers of one master."""

    def __init__(
        self,
        poller: Poller,
        handlers: dict[int, Callable[[int], None]],
        errors: ErrorLog,
        folder: int,
        before_work: Callable[[], None],
        *,
        detached: bool,
    ) -> None:
        self._poller = poller
        self._handlers = handlers
        self._errors = errors
        self._folder = folder
        self._before_work = before_work
        self._detached = detached
        self.generations: list[Generation] = []
        self.observer: Observer | None = None
        self.strays: set[int] = set()  # other children of ours that are about to end

    # Filling slots

    def fill(self, generation: Generation, slots: Iterable[Slot] | None = None) -> None:
        """Start a worker in every empty slot that is due."""
        now = time.monotonic()
        for slot in generation.slots if slots is None else slots:
            if slot.child is None and now >= slot.next_start:
                self._spawn(generation, slot, now)

    def _spawn(self, generation: Generation, slot: Slot, now: float) -> None:
        try:
            ours, theirs = pairs.control_pair()
        except OSError as error:
            self._cannot_start(slot, now, error)
            return
        board = generation.take_board()
        order = Order(
            generation.config, generation.identity, slot.number, generation.number, theirs,
            [(listener.address, listener.sockets) for listener in generation.listeners], generation.targets,
            generation.errors, generation.scoreboard, board, generation.shares, self._folder, self._detached,
        )  # fmt: skip
        try:
            with signals.blocked_signals():
                pid = os.fork()
                if pid == 0:
                    self._before_work()
                    work(order)
        except OSError as error:
            ours.close()
            theirs.close()
            generation.give_board(board)
            self._cannot_start(slot, now, error)
            return
        theirs.close()
        child = Child(pid, children.watch(pid), ours, slot.number, generation.number, now, board=board)
        child.deadline = now + BOOT_SECONDS
        slot.child = child
        self._watch(ours.fileno(), lambda mask: self._on_message(generation, child))
        if child.pidfd is not None:
            self._watch(child.pidfd, lambda mask: self._reap(generation, child))

    def _cannot_start(self, slot: Slot, now: float, error: OSError) -> None:
        pause = slot.died(now, 0.0, jitter())
        self._errors.limited("fork", 10).error("cannot start a worker", reason=error.strerror, again_in=f"{pause:.1f}s")

    def _watch(self, fd: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._poller.register(fd, IN)

    def _forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def resize(self, generation: Generation, count: int) -> list[Child]:
        """Have `count` slots; returns the workers that have to go."""
        leaving = [slot.child for slot in generation.slots[count:] if slot.child is not None]
        del generation.slots[count:]
        generation.slots += [Slot(number) for number in range(len(generation.slots), count)]
        generation.extra += leaving
        for child in leaving:
            self.apply(generation, child, Event.DRAIN)
        self.fill(generation)
        return leaving

    # What workers say

    def _on_message(self, generation: Generation, child: Child) -> None:
        try:
            received = pairs.receive(child.channel)
        except pairs.BadMessage as error:
            self._errors.limited(f"message {child.pid}", 10).error("bad message", worker=child.pid, reason=str(error))
            return
        if received is None:
            return
        if received is pairs.EOF:
            self._forget(child.channel.fileno())
            if child.pidfd is None:
                self._reap(generation, child)
            return
        message, fds = received
        for fd in fds:
            os.close(fd)
        match message:
            case {"event": "ready"}:
                self.apply(generation, child, Event.READY)
            case {"event": "failed", "reason": str() as reason}:
                child.failure = reason
                self.apply(generation, child, Event.FAILED)
            case {"event": "reopened"}:
                child.reopening = max(0, child.reopening - 1)
            case {"event": "recycle", "reason": str() as reason}:
                self._recycle(generation, child, reason)
            case {"event": "leaving"}:
                self._errors.warning("worker was told to end from outside", worker=child.pid, slot=child.slot)
                self._replace(generation, child)
                self.apply(generation, child, Event.DRAIN)

    # Replacing a worker by a new one before it goes

    def _recycle(self, generation: Generation, child: Child, reason: str) -> None:
        if generation.stage is not Stage.ACTIVE or child.state is not State.SERVING:
            return
        self._errors.info("replacing worker", worker=child.pid, slot=child.slot, reason=reason)
        generation.tired.append(child)
        self._next_tired(generation)

    def _next_tired(self, generation: Generation) -> None:
        """One at a time, so that a service never runs on half its workers because all grew old together."""
        if any(slot.replacing is not None for slot in generation.slots):
            return
        while generation.tired:
            child = generation.tired.pop(0)
            slot = self._replace(generation, child)
            if slot is not None:
                slot.replacing = child
                return

    def _replace(self, generation: Generation, child: Child) -> Slot | None:
        """Give the child's slot to a new worker; the child goes on without a slot."""
        for slot in generation.slots:
            if slot.child is child:
                generation.shares.leave(slot.number)
                slot.child = None
                generation.extra.append(child)
                slot.restarts += 1
                if generation.stage is Stage.ACTIVE:
                    self.fill(generation, [slot])
                return slot
        return None

    # What the master tells them

    def apply(self, generation: Generation, child: Child, event: Event, empty: Iterable[str] = ()) -> None:
        """Move a child by its table and do what the move asks for.

        `empty` names the listeners whose queue a draining worker has to empty before it closes them.
        """
        drain = generation.config.timeouts.drain
        action = child.apply(event, time.monotonic(), drain)
        if action is Action.WELCOME:
            self._welcome(generation, child)
        elif action is Action.SEND_DRAIN:
            pairs.send(child.channel, {"do": "drain", "seconds": drain, "empty": list(empty)})
        elif action is Action.SEND_STOP:
            if event is Event.DEADLINE:
                self._errors.warning("worker did not finish in time", worker=child.pid, generation=child.generation)
            pairs.send(child.channel, {"do": "stop"})
        elif action is Action.KILL:
            self._errors.error("killing worker", worker=child.pid, generation=child.generation)
            children.kill(child.pid, child.pidfd, signal.SIGKILL)

    def _welcome(self, generation: Generation, child: Child) -> None:
        for slot in generation.slots:
            if slot.child is child and slot.replacing is not None:
                old, slot.replacing = slot.replacing, None
                self.apply(generation, old, Event.DRAIN)
                self._next_tired(generation)
        assert self.observer is not None
        self.observer.worker_ready(generation, child)

    def drain(self, generation: Generation, empty: Iterable[str] = ()) -> None:
        """Tell every worker of a generation to finish."""
        generation.stage = Stage.DRAINING
        for child in list(generation.children):
            self.apply(generation, child, Event.DRAIN, empty)

    def stop(self, generation: Generation) -> None:
        """Tell every worker of a generation to end now."""
        generation.stage = Stage.DRAINING
        for child in list(generation.children):
            self.apply(generation, child, Event.STOP)

    # The end of a child

    def reap_all(self) -> None:
        """What SIGCHLD calls for: children without a pidfd, strays, and, for a process that is PID 1, strangers."""
        self.strays = {pid for pid in self.strays if children.reap(pid, None) is None}
        known = set(self.strays)
        for generation in self.generations:
            for child in list(generation.children):
                known.add(child.pid)
                if child.pidfd is None:
                    self._reap(generation, child)
        if os.getpid() == 1:
            children.reap_strangers(known)

    def _reap(self, generation: Generation, child: Child) -> None:
        status = children.reap(child.pid, child.pidfd)
        if status is None:
            return
        if child.state is State.STARTING and not child.failure:
            self._on_message(generation, child)  # its last words, if they have not been read yet
        was = child.state
        child.apply(Event.EXIT, time.monotonic(), 0.0)
        self._forget(child.channel.fileno())
        child.channel.close()
        if child.pidfd is not None:
            self._forget(child.pidfd)
            os.close(child.pidfd)
        generation.give_board(child.board)
        self._bury(generation, child, was, child.failure or status.text)

    def _bury(self, generation: Generation, child: Child, was: State, how: str) -> None:
        if child in generation.extra:
            generation.extra.remove(child)
        for slot in generation.slots:
            if slot.replacing is child:
                slot.replacing = None
            if slot.child is child:
                generation.shares.leave(slot.number)
                slot.child = None
                slot.last_exit = how
                if generation.stage is not Stage.DRAINING:
                    self._lost(generation, slot, child, how)
        assert self.observer is not None
        self.observer.worker_gone(generation, child, how)

    def _lost(self, generation: Generation, slot: Slot, child: Child, how: str) -> None:
        now = time.monotonic()
        pause = slot.died(now, now - child.started, jitter())
        slot.restarts += 1
        log = self._errors if slot.deaths <= 3 else self._errors.limited(f"lost {slot.number}", 10)
        log.error("worker ended", worker=child.pid, slot=slot.number, generation=generation.number, reason=how,
                  again_in=f"{pause:.1f}s")  # fmt: skip

    # Time

    def deadline(self) -> float:
        """When `tick` has something to do next (monotonic seconds)."""
        due = [child.deadline for generation in self.generations for child in generation.children]
        for generation in self.generations:
            if generation.stage in (Stage.ACTIVE, Stage.ROLL):
                due += [slot.next_start for slot in generation.slots if slot.child is None]
        return min(due, default=float("inf"))

    def tick(self, now: float) -> None:
        """Deadlines that have passed, slots that may be filled."""
        for generation in self.generations:
            for child in list(generation.children):
                if now >= child.deadline:
                    self.apply(generation, child, Event.DEADLINE)
            if generation.stage in (Stage.ACTIVE, Stage.ROLL):
                self.fill(generation)
