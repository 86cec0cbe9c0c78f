"""A crew without processes: a clock that the test sets, a kernel that is a table, workers that are ends of channels.

The crew, its messages, its poller and its records are the real ones.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from httpd.logs.errors import ErrorLog
from httpd.master import crew as crew_module
from httpd.master.children import Child, Slot, State
from httpd.master.crew import Crew
from httpd.master.generations import Generation
from httpd.master.launching import Launching
from httpd.system import pairs
from httpd.system.children import ExitStatus
from httpd.system.poller import make_poller
from httpd.worker.scoreboard import Figures
from machine import descriptors

FIRST_PID = 2**22 + 1  # above the largest that Linux gives


class Clock:
    """Stands for the module `time` in what is tested."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)

    def time(self) -> float:
        return self.now + 1_700_000_000


class Script:
    """A poller.  When nothing is ready the next step is taken, and without one the clock goes on to what is due."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.real = make_poller()
        self.steps: deque[Callable[[], object]] = deque()
        self.register, self.modify = self.real.register, self.real.modify
        self.unregister, self.close = self.real.unregister, self.real.close
        self.rounds = 0
        self.timeout = -1.0  # how long it was to wait when the last step was taken

    def poll(self, timeout: float) -> list[tuple[int, int]]:
        self.rounds += 1
        self.timeout = timeout
        if self.rounds > 2000:
            pytest.fail("the loop spins")
        events = self.real.poll(0)
        if not events and self.steps:
            self.steps.popleft()()
            return self.real.poll(0)
        if not events and timeout < 0:
            pytest.fail("it sleeps for ever")
        if not events:
            self.clock.now += timeout
        return events


class Kernel:
    """Stands for the module `system.children`.  `ended` are to be collected, `signals` what was sent to whom."""

    def __init__(self) -> None:
        self.ended: dict[int, ExitStatus] = {}
        self.collected: set[int] = set()
        self.signals: list[tuple[int, signal.Signals]] = []
        self.strangers: list[set[int]] = []

    def reap(self, pid: int, pidfd: int | None) -> ExitStatus | None:
        """As `system.children`: whoever asks for a process again that was collected gets an unknown status."""
        if pid in self.collected:
            return ExitStatus()
        status = self.ended.pop(pid, None)
        if status is not None:
            self.collected.add(pid)
        return status

    def kill(self, pid: int, pidfd: int | None, number: int) -> bool:
        self.signals.append((pid, signal.Signals(number)))
        return pid not in self.ended and pid not in self.collected

    def reap_strangers(self, known: set[int]) -> list[int]:
        self.strangers.append(known)
        return []


@dataclass(slots=True, eq=False)
class Worker:
    """The far end of a child."""

    world: World
    generation: Generation
    child: Child
    channel: Any
    dump: int
    alarm: int  # its end makes the pidfd readable; -1 when there is none

    def say(self, event: str, **fields: object) -> None:
        """Have the master hear of an event."""
        assert pairs.send(self.channel, {"event": event, **fields})
        self.world.turn()

    def ready(self) -> Worker:
        self.say("ready")
        return self

    def told(self) -> list[dict[str, Any]]:
        """What the master has said since this was last asked."""
        found = []
        while (received := pairs.receive(self.channel)) is not None and received is not pairs.EOF:
            assert received[1] == []
            found.append(received[0])
        return found

    def wake(self) -> None:
        """Begin a round that does not end."""
        if self.generation.scoreboard.presence(self.child.board).awake():
            self.say("awake")

    def beat(self) -> None:
        """Leave a sign of life."""
        self.generation.scoreboard.write(self.child.board, Figures(0, 0, 0, 0, self.world.clock.monotonic_ns()))

    def end(self, code: int | None = None, number: signal.Signals | None = None) -> None:
        """The process ends, by exit status or by signal; the master hears of it as it does of real ones."""
        self.world.workers.remove(self)
        self.world.kernel.ended[self.child.pid] = ExitStatus(code, number)
        self.channel.close()
        os.close(self.dump)
        if self.alarm >= 0:
            os.close(self.alarm)
        else:
            self.world.crew.reap_all()
        self.world.turn()


class Spawner:
    """Makes records.  `refused` errors come first; `pidfds` False is a system without them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.refused: deque[OSError] = deque()
        self.pidfds = True
        self.made = 0

    def spawn(self, generation: Generation, slot: Slot, now: float) -> Child:
        if self.refused:
            raise self.refused.popleft()
        ours, theirs = pairs.control_pair()
        dump, their_dump = os.pipe()
        os.set_blocking(dump, False)
        pidfd, alarm = os.pipe() if self.pidfds else (None, -1)
        pid = FIRST_PID + self.made
        self.made += 1
        child = Child(pid, pidfd, ours, dump, slot.number, generation.number, now, board=generation.take_board())
        child.deadline = now + generation.config.timeouts.start
        self.world.workers.append(Worker(self.world, generation, child, theirs, their_dump, alarm))
        return child


@dataclass(slots=True)
class Observer:
    """Notes what it is told."""

    seen: list[tuple[Any, ...]] = field(default_factory=list)

    def worker_ready(self, generation: Generation) -> None:
        self.seen.append(("ready", generation.number))

    def worker_lost(self, generation: Generation, how: str, *, crashed: bool) -> None:
        self.seen.append(("lost", generation.number, how, crashed))


class World:
    """One crew.  `workers` are those that have not ended, in the order of their start."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.kernel = Kernel()
        self.lines: list[bytes] = []
        self.errors = ErrorLog(self.lines.append, "debug", "test", clock=self.clock.monotonic)
        self.poller = make_poller()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.workers: list[Worker] = []
        self.spawner = Spawner(self)
        launching = Launching(self.poller, self.handlers, self.errors, lambda: None)
        self.crew = Crew(self.poller, self.handlers, self.errors, self.spawner, launching)  # type: ignore[arg-type]
        self.observer = Observer()
        self.crew.observer = self.observer
        self.tick: Callable[[float], None] = self.crew.tick
        self.due: Callable[[], float] = self.crew.deadline

    @property
    def log(self) -> str:
        return b"".join(self.lines).decode()

    def turn(self) -> None:
        """Rounds of the master's loop, until nothing happens any more."""
        for _ in range(1000):
            events = self.poller.poll(0)
            for fd, mask in events:
                handler = self.handlers.get(fd)
                if handler is not None:
                    handler(mask)
            self.tick(self.clock.now)
            if not events:
                return
        pytest.fail("the loop spins")

    def after(self, seconds: float) -> None:
        """Let time pass, waking when something is due as the master does."""
        until = self.clock.now + seconds
        for _ in range(1000):
            due = self.due()
            self.clock.now = min(until, max(self.clock.now, due))
            self.turn()
            if self.clock.now >= until and self.due() > until:
                return
        pytest.fail("the loop spins")

    def state(self, slot: int, generation: int | None = None) -> State:
        """That of the worker in a slot."""
        return self.at(slot, generation).child.state

    def at(self, slot: int, generation: int | None = None) -> Worker:
        """The worker that holds a slot."""
        (worker,) = (
            worker for worker in self.workers
            if worker.generation.number == (generation or worker.generation.number)
            and worker.generation.slots[slot : slot + 1]
            and worker.generation.slots[slot].child is worker.child
        )  # fmt: skip
        return worker

    def close(self) -> None:
        for worker in self.workers:
            worker.channel.close()
            os.close(worker.dump)
            worker.child.channel.close()
            os.close(worker.child.dump)
            if worker.child.pidfd is not None:
                os.close(worker.alarm)
                os.close(worker.child.pidfd)
        self.poller.close()


def replace_kernel(monkeypatch: pytest.MonkeyPatch, world: World) -> None:
    """Give the world's clock to the whole master: a deadline of one clock would mean nothing by another, such as that
    of a machine that has just started."""
    timed = [module for name, module in sys.modules.items() if name.startswith(("httpd.master.", "httpd.control."))]
    for module in timed:
        if hasattr(module, "time"):
            monkeypatch.setattr(module, "time", world.clock)
    monkeypatch.setattr(crew_module, "children", world.kernel)
    monkeypatch.setattr(crew_module, "jitter", lambda: 0.5)  # pauses as in the book


@contextlib.contextmanager
def nothing_left_open() -> Iterator[None]:
    """Fails when descriptors stay open."""
    before = descriptors()
    yield
    if sys.platform == "linux":
        assert descriptors() == before, "descriptors left open"


@contextlib.contextmanager
def make_world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A crew alone.  Checks that nothing stays open."""
    with nothing_left_open():
        world = World()
        replace_kernel(monkeypatch, world)
        yield world
        world.close()
