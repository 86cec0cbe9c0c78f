"""The worker processes of all generations: forked, listened to, told what to do, buried.

Rules:

- A worker is known by its pidfd and its channel, never by waiting for any child.
- What a worker says is data from an untrusted process: it can report, it can't command.
- Nothing here waits.  What takes time has a deadline in the child's record.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from httpd.logs.errors import ErrorLog
from httpd.master import heartbeat, scripts
from httpd.master.children import GRACE_SECONDS, IN_OFFICE, Action, Child, Event, Slot, State, jitter
from httpd.master.generations import Generation, Stage
from httpd.master.launching import Launching
from httpd.master.losses import End, Losses
from httpd.master.probing import Probing
from httpd.master.recycling import Recycling
from httpd.master.revival import restore_paths, revive
from httpd.master.spawning import Spawner, log_last_words, release
from httpd.master.watch import Watch
from httpd.system import children, pairs
from httpd.system.poller import IN, Poller

_FILLED = (Stage.ACTIVE, Stage.ROLL)  # stages in which an empty slot gets a new worker by itself


class Observer(Protocol):
    """Who is told what happens to workers."""

    def worker_ready(self, generation: Generation) -> None: ...

    def worker_lost(self, generation: Generation, how: str, *, crashed: bool) -> None:
        """A process ended that nobody had told to, or could not be started."""


class Crew:
    """All workers of one master."""

    def __init__(
        self, poller: Poller, handlers: dict[int, Callable[[int], None]], errors: ErrorLog, spawner: Spawner,
        launching: Launching,
    ) -> None:  # fmt: skip
        self._poller = poller
        self._handlers = handlers
        self._errors = errors
        self._spawner = spawner
        self.launching = launching
        self.probing = Probing()
        self._watch = Watch(poller, handlers, errors, self._hangs)
        self.generations: list[Generation] = []
        self.observer: Observer | None = None
        self.on_finished: Callable[[int], None] = lambda code: None  # a script has come to its end
        self.losses = Losses()
        self._recycling = Recycling(errors, self.losses, self.fill)
        self.strays: set[int] = set()  # other children of ours that are about to end

    # Filling slots

    def fill(self, generation: Generation, slots: Iterable[Slot] | None = None) -> None:
        """Start a worker in every empty slot that is due."""
        now = time.monotonic()
        for slot in list(generation.slots if slots is None else slots):
            if slot.child is None and now >= slot.next_start and generation.stage is not Stage.DRAINING:
                self._spawn(generation, slot, now)

    def _spawn(self, generation: Generation, slot: Slot, now: float) -> None:
        try:
            child = self._spawner.spawn(generation, slot, now)
        except OSError as error:
            pause = slot.died(now, 0.0, jitter())
            slot.last_exit = f"cannot start a worker: {error.strerror}"
            self._errors.limited("fork", 10).error("cannot start a worker", slot=slot.number, reason=error.strerror,
                                                   again_in=f"{pause:.1f}s")  # fmt: skip
            assert self.observer is not None
            self.observer.worker_lost(generation, slot.last_exit, crashed=False)
            return
        slot.child = child
        self._listen_to(child.channel.fileno(), lambda mask: self._on_message(generation, child))
        if child.pidfd is not None:
            self._listen_to(child.pidfd, lambda mask: self._reap(generation, child))

    def _listen_to(self, fd: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._poller.register(fd, IN)

    def _forget(self, fd: int) -> bool:
        """Stop listening to `fd`; False if that was so already."""
        if self._handlers.pop(fd, None) is None:
            return False
        self._poller.unregister(fd)
        return True

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
            if self._forget(child.channel.fileno()) and child.pidfd is None:
                self._reap(generation, child)
            return
        message, fds = received
        for fd in fds:
            os.close(fd)
        self._heed(generation, child, message)

    def _heed(self, generation: Generation, child: Child, message: Mapping[str, object]) -> None:
        match message:
            case {"event": "ready"}:
                self.apply(generation, child, Event.READY)
            case {"event": "failed", "reason": str() as reason}:
                child.failure = reason
                self.apply(generation, child, Event.FAILED)
            case {"event": "reopened"}:
                child.reopening = max(0, child.reopening - 1)
            case {"event": "recycle", "reason": str() as reason}:
                self._recycling.ask(generation, child, reason)
            case {"event": "standing"}:
                child.standing = True
            case {"event": "awake"}:
                self._watch.attend(time.monotonic())
            case {"event": "listener"}:
                revive(generation.listeners, self._errors)
            case {"event": "probed" | "launcher"}:
                self._heed_about_scripts(child, message)
            case {"event": "bind"}:
                scripts.bind(self.generations, generation, child, message, self._errors)
            case {"event": "finished", "code": int() as code} if generation.config.script and child.state in IN_OFFICE:
                self.on_finished(code)
            case {"event": "leaving"} if child.state in IN_OFFICE:
                self._errors.warning("worker was told to end from outside", worker=child.pid, slot=child.slot)
                self._recycling.replace(generation, child, "told to end from outside")
                self.apply(generation, child, Event.DRAIN)

    def _heed_about_scripts(self, child: Child, message: Mapping[str, object]) -> None:
        if message["event"] == "probed":
            self.probing.heed(child, message)
        elif message.get("what") == "silent":
            self.launching.suspect()

    # What the master tells them

    def apply(self, generation: Generation, child: Child, event: Event, names: Iterable[str] = ()) -> None:
        """Move a child by its table and do what the move asks for.

        `names` are the listeners that a worker on standby keeps, or whose queue a draining one has to empty.
        """
        drain = generation.config.timeouts.drain
        action = child.apply(event, time.monotonic(), drain)
        if action is Action.WELCOME:
            self._welcome(generation, child)
        elif action is Action.SEND_STANDBY:
            pairs.send(child.channel, {"do": "standby", "keep": list(names)})
        elif action is Action.SEND_RESUME:
            child.standing = False
            pairs.send(child.channel, {"do": "resume"})
        elif action is Action.SEND_DRAIN:
            # Its place among those who share connections is another's by now, or nobody's.
            leave = not any(slot.number == child.slot and slot.child is not child for slot in generation.slots)
            pairs.send(child.channel, {"do": "drain", "seconds": drain, "empty": list(names), "leave": leave})
        elif action is Action.SEND_STOP:
            if event is Event.DEADLINE:
                self._errors.warning("worker did not finish in time", worker=child.pid, generation=child.generation)
            pairs.send(child.channel, {"do": "stop"})
        elif action is Action.ABORT:
            if event is Event.DEADLINE:
                child.failure = f"not ready after {generation.config.timeouts.start:g} s"
            self._errors.error("aborting worker", worker=child.pid, slot=child.slot, generation=child.generation,
                               reason=child.failure)  # fmt: skip
            children.kill(child.pid, child.pidfd, signal.SIGABRT)  # faulthandler tells where it stands
        elif action is Action.KILL:
            self._kill(generation, child)

    def _hangs(self, generation: Generation, child: Child, reason: str) -> None:
        child.failure = reason
        self.apply(generation, child, Event.HUNG)

    def _kill(self, generation: Generation, child: Child) -> None:
        log = self._errors.limited(f"kill {child.pid}", 600)
        log.error("killing worker", worker=child.pid, generation=child.generation)
        if not children.kill(child.pid, child.pidfd, signal.SIGKILL) or not child.stuck:
            child.stuck = True
            return
        # It has not died of the last SIGKILL: it hangs in the kernel, on a dead disk, say.  Its place need not wait.
        for slot in generation.slots:
            if slot.child is child and len(generation.extra) < len(generation.slots):
                generation.set_aside(slot)
                slot.died(time.monotonic(), 0.0, jitter())
                slot.last_exit = f"{child.failure or 'told to go'}; does not end by SIGKILL: it hangs in the kernel"
                assert self.observer is not None
                self.observer.worker_lost(generation, slot.last_exit, crashed=False)

    def _welcome(self, generation: Generation, child: Child) -> None:
        self._watch.begin(generation, child, time.monotonic())
        old = self._recycling.successor_serves(generation, child)
        if old is not None:
            self.apply(generation, old, Event.DRAIN)
        assert self.observer is not None
        self.observer.worker_ready(generation)

    def close(self, generation: Generation) -> None:
        """From now on a generation only ends.  Its workers are the last who hold listeners that nobody else has."""
        generation.stage = Stage.DRAINING
        generation.drains_since = min(generation.drains_since, time.monotonic())
        self._watch.release(generation)

    def drain(self, generation: Generation, empty: Iterable[str] = ()) -> None:
        """Tell every worker of a generation to finish."""
        self.close(generation)
        for child in list(generation.children):
            self.apply(generation, child, Event.DRAIN, empty)

    def stand_by(self, generation: Generation, keep: Iterable[str]) -> None:
        """Have the workers answer what is open, accept on the listeners `keep` only, and wait."""
        generation.stage = Stage.STANDBY
        for child in list(generation.children):
            self.apply(generation, child, Event.STAND_BY, keep)

    def resume(self, generation: Generation) -> None:
        """Have workers on standby serve again, and fill the places of those that are gone."""
        generation.stage = Stage.ACTIVE
        for child in list(generation.children):
            self.apply(generation, child, Event.RESUME)
        self.fill(generation)

    def hurry(self, generation: Generation, seconds: float) -> None:
        """Give workers that drain only so long from now on."""
        for child in generation.children:
            if child.state is State.DRAINING:
                child.deadline = min(child.deadline, time.monotonic() + seconds + GRACE_SECONDS)
                pairs.send(child.channel, {"do": "drain", "seconds": seconds, "empty": [], "leave": False})

    def stop(self, generation: Generation) -> None:
        """Tell every worker of a generation to end now."""
        self.close(generation)
        for child in list(generation.children):
            self.apply(generation, child, Event.STOP)

    # The end of a child

    def reap_all(self) -> None:
        """What SIGCHLD calls for: children without a pidfd, strays, and strangers.

        PID 1 gets these from everywhere; anybody may have some from the program that ran before in the same process.
        """
        self.strays -= {pid for pid in self.strays if children.reap(pid, None) is not None}  # others add to this set
        self.launching.reap()
        known = self.strays | self.launching.pids
        for generation in self.generations:
            for child in list(generation.children):
                known.add(child.pid)
                if child.pidfd is None:
                    self._reap(generation, child)
        children.reap_strangers(known)

    def _reap(self, generation: Generation, child: Child) -> None:
        status = children.reap(child.pid, child.pidfd)
        if status is None:
            return
        self._forget(child.channel.fileno())
        if child.state is State.STARTING and not child.failure:
            self._on_message(generation, child)  # its last words, if they have not been read yet
        was = child.state
        child.apply(Event.EXIT, time.monotonic(), 0.0)
        if child.pidfd is not None:
            self._forget(child.pidfd)
        log_last_words(child, self._errors)
        release(child)
        generation.give_board(child.board)
        self._bury(generation, child, was, self.losses.judge(child, was, status), status.code)

    def _bury(self, generation: Generation, child: Child, was: State, end: End, code: int | None) -> None:
        if child in generation.extra:
            generation.extra.remove(child)
        for slot in generation.slots:
            if slot.replacing is child:
                slot.replacing = None
            if slot.child is child:
                generation.shares.leave(slot.number)
                slot.child = None
                slot.last_exit = end.reason
                if end.unexpected:
                    self._lost(generation, slot, child, end)
        if was is State.DRAINING and code != 0:
            self._errors.warning("worker died before its requests were over", worker=child.pid,
                                 generation=child.generation, reason=end.reason)  # fmt: skip
        if end.unexpected:
            assert self.observer is not None
            self.observer.worker_lost(generation, end.reason, crashed=end.crashed)

    def _lost(self, generation: Generation, slot: Slot, child: Child, end: End) -> None:
        now = time.monotonic()
        pause = (slot.killed if end.by_hand else slot.died)(now, now - child.started, jitter())
        slot.restarts += 1
        self.losses.note(child, end.reason)
        log = self._errors if max(slot.deaths, slot.kills) <= 3 else self._errors.limited(f"lost {slot.number}", 10)
        log.error("worker ended", worker=child.pid, slot=slot.number, generation=generation.number,
                  reason=end.reason, again_in=f"{pause:.1f}s")  # fmt: skip

    # Time

    def deadline(self) -> float:
        """When `tick` has something to do next (monotonic seconds)."""
        due = [child.deadline for generation in self.generations for child in generation.children]
        for generation in self.generations:
            if generation.stage in _FILLED:
                due += [slot.next_start for slot in generation.slots if slot.child is None]
        return min([*due, self._watch.due, self.launching.deadline, self.probing.deadline])

    def tick(self, now: float) -> None:
        """Deadlines that have passed, slots that may be filled, signs of life."""
        self.launching.tick(now, self.generations)
        self.probing.tick(now)
        for generation in list(self.generations):
            for child in list(generation.children):
                if now >= child.deadline:
                    self.apply(generation, child, Event.DEADLINE)
            if generation.stage in _FILLED:
                self.fill(generation)
            self._recycling.go_on(generation)
        if now >= self._watch.due:
            self._watch.look(self.generations, now)

    def restore_paths(self, generation: Generation) -> None:
        """Make unix sockets anew whose paths are gone."""
        if any(listener.astray for listener in generation.listeners):
            self._watch.release(generation)
            restore_paths(self.generations, generation, self._errors)

    def forgive(self, seconds: float, now: float) -> None:
        """The master itself did not run for so long: that time counts for nobody."""
        for generation in self.generations:
            for child in generation.children:
                child.deadline += seconds
                heartbeat.forgive(child.pulse, now)
