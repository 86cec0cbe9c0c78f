"""A start or a reload as a transaction, with a crew whose workers are only records; and the process that checks."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from httpd.config import schema
from httpd.config.errors import ConfigError, ConfigErrors
from httpd.config.load import Loaded
from httpd.config.schema import Address, Log, Server
from httpd.control.wire import REFUSED, ROLLED_BACK
from httpd.logs.errors import ErrorLog
from httpd.master import transition as module
from httpd.master.children import Child, Event, Slot, State
from httpd.master.generations import Generation, Stage
from httpd.master.launching import Launching
from httpd.master.listeners import Listener
from httpd.master.transition import CheckProcess, Failure, Step, Transition
from httpd.system.poller import Poller, make_poller
from httpd.worker import checker
from httpd.worker.checker import Verdict
from machine import descriptors

MakeConfig = Callable[..., schema.Config]
MakeChild = Callable[..., Child]


class Crew:
    """Fills slots with records.  `log` notes what is asked of whom."""

    def __init__(self, make_child: MakeChild) -> None:
        self.make_child = make_child
        self.generations: list[Generation] = []
        self.log: list[tuple[Any, ...]] = []
        # Nothing here has scripts: it is asked, and does nothing.
        errors = ErrorLog(lambda line: None, "info", "test")
        self.launching = Launching(cast(Poller, None), {}, errors, lambda: None)
        self.can_start = True
        self.refused: Callable[[str], None] = pytest.fail
        self.on_apply: Callable[[], None] = lambda: None

    def fill(self, generation: Generation, slots: Iterable[Slot] | None = None) -> None:
        for slot in generation.slots if slots is None else slots:
            if slot.child is not None or generation.stage is Stage.DRAINING:
                continue
            if not self.can_start:
                slot.died(0.0, 0.0, 0.0)
                self.refused("cannot start a worker: no room")
            else:
                slot.child = self.make_child(slot=slot.number, state=State.STARTING, generation=generation.number)
                self.log.append(("start", generation.number, slot.number))

    def close(self, generation: Generation) -> None:
        generation.stage = Stage.DRAINING

    def apply(self, generation: Generation, child: Child, event: Event, names: Iterable[str] = ()) -> None:
        self.on_apply()
        child.apply(event, 0.0, 30.0)
        self.log.append((event, generation.number, child.slot, list(names)))


class World:
    """What a transition works on."""

    def __init__(self, make_config: MakeConfig, make_child: MakeChild, folder: Path) -> None:
        self.make_config = make_config
        self.crew = Crew(make_child)
        self.folder = folder
        self.ended: list[Failure | None] = []
        self.number = 0
        self.transitions: list[Transition] = []

    def verdict(self, *ports: int, workers: int = 2, access: str = "") -> Verdict:
        """Listens on these ports; 0 is a free one."""
        addresses = tuple(Address(f"127.0.0.1:{port}", "tcp", "127.0.0.1", port) for port in ports)
        config = self.make_config(server=Server(listen=addresses, workers=workers), log=Log(access=access, error=""))
        endpoints = {
            address.text: [checker.Endpoint(socket.AF_INET, "127.0.0.1", address.port)] for address in addresses
        }
        return Verdict(config=config, endpoints=endpoints)

    def begin(self, verdict: Verdict, old: Generation | None = None) -> Transition:
        self.number += 1
        errors = ErrorLog(lambda line: None, "info", "test")
        transition = Transition(self.crew, errors, self.number, old, self.ended.append)  # type: ignore[arg-type]
        self.transitions.append(transition)
        self.crew.refused = transition.worker_lost
        transition.go_on(verdict, [] if old is None else old.listeners)
        return transition

    def ready(self, transition: Transition, *slots: int) -> None:
        generation = transition.generation
        assert generation is not None
        for slot in slots:
            child = generation.slots[slot].child
            assert child is not None
            child.apply(Event.READY, 0.0, 0.0)
            transition.worker_ready()

    def gone(self, transition: Transition, slot: int, how: str = "exit status 70") -> None:
        generation = transition.generation
        assert generation is not None
        child = generation.slots[slot].child
        assert child is not None
        generation.slots[slot].child = None
        generation.slots[slot].died(0.0, 0.0, 0.0)
        child.apply(Event.EXIT, 0.0, 0.0)
        transition.worker_lost(how)

    def active(self, *ports: int, old: Generation | None = None) -> Generation:
        transition = self.begin(self.verdict(*ports), old)
        self.ready(transition, 0, 1)
        assert self.ended.pop() is None
        assert transition.generation is not None
        self.crew.log.clear()
        return transition.generation


@pytest.fixture
def world(make_config: MakeConfig, make_child: MakeChild, tmp_path: Path) -> Iterator[World]:
    world = World(make_config, make_child, tmp_path)
    yield world
    for transition in world.transitions:
        if transition.generation is not None:
            for listener in transition.generation.listeners:
                listener.close()


def is_open(listener: Listener) -> bool:
    return all(sock.fileno() >= 0 for sock in listener.sockets)


def steps(transition: Transition) -> list[str]:
    return [step for step, _ in transition.marks]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


@contextlib.contextmanager
def taken_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        yield sock.getsockname()[1]


# Good ways


def test_a_start(world: World) -> None:
    transition = world.begin(world.verdict(0, workers=3))
    generation = transition.generation
    assert generation is not None
    assert world.crew.generations == [generation]
    assert (transition.step, generation.stage) == (Step.CANARY, Stage.CANARY)
    assert world.crew.log == [("start", 1, 0)]  # one goes ahead
    world.ready(transition, 0)
    assert (transition.step, generation.stage) == (Step.ROLL, Stage.ROLL)
    assert world.crew.log == [("start", 1, 0), ("start", 1, 1), ("start", 1, 2)]
    world.ready(transition, 2)
    assert world.ended == []
    world.ready(transition, 1)
    assert world.ended == [None]
    assert (transition.step, generation.stage) == (Step.DONE, Stage.ACTIVE)
    assert steps(transition) == ["bind", "canary", "roll"]
    assert all(seconds >= 0 for _, seconds in transition.marks)


def test_one_worker_is_canary_and_all(world: World) -> None:
    transition = world.begin(world.verdict(0, workers=1))
    world.ready(transition, 0)
    assert world.ended == [None]
    assert transition.step is Step.DONE


def test_a_reload_keeps_what_stays_and_does_not_touch_the_old(world: World) -> None:
    """What becomes of it is decided behind the transition, by `probation`."""
    stays, goes, comes = free_port(), free_port(), free_port()
    old = world.active(stays, goes)
    kept, dropped = old.listeners
    transition = world.begin(world.verdict(comes, stays), old)
    world.ready(transition, 0)
    assert is_open(kept)
    assert is_open(dropped)
    world.ready(transition, 1)
    assert world.ended == [None]
    generation = transition.generation
    assert generation is not None
    assert generation.stage is Stage.ACTIVE
    assert [listener.address.port for listener in generation.listeners] == [comes, stays]
    assert generation.listeners[1].sockets == kept.sockets
    assert unharmed(world, old)
    assert world.crew.generations == [old, generation]


def test_a_start_goes_on_with_what_workers_it_gets(world: World) -> None:
    """There is nothing to fall back to, and the crew goes on trying."""
    transition = world.begin(world.verdict(0, workers=4))
    world.ready(transition, 0)
    world.gone(transition, 2)
    world.ready(transition, 1)
    assert world.ended == []  # one has not been tried to its end
    world.gone(transition, 3)
    assert world.ended == [None]
    generation = transition.generation
    assert generation is not None
    assert generation.stage is Stage.ACTIVE
    assert generation.serving() == 2


def test_a_start_with_room_for_one_worker_only(world: World) -> None:
    transition = world.begin(world.verdict(0, workers=3))
    world.crew.can_start = False
    world.ready(transition, 0)
    assert world.ended == [None]
    assert transition.generation is not None
    assert transition.generation.serving() == 1


# Failures: what is new goes away, what is old is never touched


def unharmed(world: World, old: Generation) -> bool:
    touched = any(entry[1] == old.number for entry in world.crew.log)
    return old.stage is Stage.ACTIVE and all(map(is_open, old.listeners)) and not touched


def test_a_port_is_taken(world: World) -> None:
    old = world.active(free_port())
    with taken_port() as port:
        transition = world.begin(world.verdict(old.listeners[0].address.port, port), old)
    (failure,) = world.ended
    assert failure is not None
    assert (failure.step, failure.permission) == (Step.BIND, False)
    assert failure.reason.startswith(f"cannot listen on 127.0.0.1:{port}: ")
    assert failure.outcome.code == REFUSED
    assert failure.outcome.data == {"step": "bind"}
    assert transition.generation is None
    assert world.crew.generations == [old]
    assert unharmed(world, old)


def test_a_log_file_cannot_be_opened(world: World) -> None:
    old = world.active(free_port())
    port = free_port()
    missing = str(world.folder / "missing" / "log")
    world.begin(world.verdict(old.listeners[0].address.port, port, access=missing), old)
    (failure,) = world.ended
    assert failure is not None
    assert failure.step is Step.BIND
    assert failure.reason == f"{missing}: No such file or directory"
    assert unharmed(world, old)
    with socket.socket() as sock:  # what was bound for it is free again
        sock.bind(("127.0.0.1", port))


def test_no_worker_can_be_forked(world: World) -> None:
    world.crew.can_start = False
    transition = world.begin(world.verdict(0))
    (failure,) = world.ended
    assert failure is not None
    assert failure.step is Step.CANARY
    assert failure.reason == "new worker: cannot start a worker: no room"
    assert transition.generation is not None
    assert transition.generation.stage is Stage.DRAINING


def test_the_canary_dies(world: World) -> None:
    old = world.active(free_port())
    transition = world.begin(world.verdict(old.listeners[0].address.port, 0), old)
    generation = transition.generation
    assert generation is not None
    world.gone(transition, 0, "no module named x")
    (failure,) = world.ended
    assert failure == Failure(Step.CANARY, "new worker: no module named x")
    assert failure.outcome.code == ROLLED_BACK
    assert generation.stage is Stage.DRAINING
    assert [is_open(listener) for listener in generation.listeners] == [True, False]
    assert unharmed(world, old)


def test_a_worker_behind_the_canary_may_die_twice(world: World) -> None:
    """A reload needs all of them; what fails is tried again."""
    old = world.active(free_port())
    transition = world.begin(world.verdict(0), old)
    generation = transition.generation
    assert generation is not None
    world.ready(transition, 0)
    for _ in range(2):
        world.gone(transition, 1)
        assert world.ended == []
        world.crew.fill(generation)
    world.ready(transition, 1)
    assert world.ended == [None]


def test_a_third_death_is_the_end_of_it(world: World) -> None:
    old = world.active(free_port())
    transition = world.begin(world.verdict(0), old)
    generation = transition.generation
    assert generation is not None
    (fresh,) = generation.listeners
    world.ready(transition, 0)
    for _ in range(2):
        world.gone(transition, 1)
        world.crew.fill(generation)
    world.crew.on_apply = lambda: world.crew.log.append(("is open", 0, is_open(fresh)))
    world.gone(transition, 1)
    (failure,) = world.ended
    assert failure == Failure(Step.ROLL, "new worker: exit status 70")
    # The canary serves, so it may have clients: it finishes them and empties what only it listens on.
    assert world.crew.log[-2:] == [("is open", 0, False), (Event.DRAIN, 2, 0, ["127.0.0.1:0"])]
    assert unharmed(world, old)


def test_no_room_for_the_workers_behind_the_canary(world: World) -> None:
    """Each worker that could not be started counts, also when the first tries follow each other at once."""
    old = world.active(free_port())
    transition = world.begin(world.verdict(0, workers=5), old)
    world.crew.can_start = False
    world.ready(transition, 0)
    assert world.ended == [Failure(Step.ROLL, "new worker: cannot start a worker: no room")]
    generation = transition.generation
    assert generation is not None
    assert [slot.deaths for slot in generation.slots] == [0, 1, 1, 1, 0]
    assert unharmed(world, old)


def test_a_canary_that_dies_behind_its_ready_counts_as_well(world: World) -> None:
    old = world.active(free_port())
    transition = world.begin(world.verdict(0), old)
    generation = transition.generation
    assert generation is not None
    world.ready(transition, 0)
    world.gone(transition, 0)
    world.ready(transition, 1)
    assert world.ended == []  # its place is empty
    world.crew.fill(generation)
    world.ready(transition, 0)
    assert world.ended == [None]


def test_workers_that_do_not_serve_yet_are_stopped(world: World) -> None:
    transition = world.begin(world.verdict(0, workers=3))
    world.ready(transition, 0, 1)
    transition.abort("stopped meanwhile")
    assert world.ended == [Failure(Step.ROLL, "stopped meanwhile")]
    assert [entry[0] for entry in world.crew.log[-3:]] == [Event.DRAIN, Event.DRAIN, Event.STOP]


def test_abort_after_the_end_changes_nothing(world: World) -> None:
    done = world.begin(world.verdict(0, workers=1))
    world.ready(done, 0)
    done.abort("late")
    assert (done.step, world.ended) == (Step.DONE, [None])
    failed = world.begin(world.verdict(0))
    failed.abort("first")
    failed.abort("second")
    assert (failed.step, world.ended[1:]) == (Step.FAILED, [Failure(Step.CANARY, "first")])


@pytest.mark.parametrize(
    ("step", "code"),
    [(Step.CHECK, REFUSED), (Step.BIND, REFUSED), (Step.CANARY, ROLLED_BACK), (Step.ROLL, ROLLED_BACK)],
)
def test_outcomes(step: Step, code: int) -> None:
    outcome = Failure(step, "why").outcome
    assert (outcome.code, outcome.text, outcome.data) == (code, "why", {"step": step.value})


# The process that checks


class Checks:
    """A loop with one check in it."""

    def __init__(self, source: checker.Source) -> None:
        self.poller = make_poller()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.verdicts: list[Verdict] = []
        self.strays: set[int] = set()
        self.began = time.monotonic()
        judge = functools.partial(checker.check, source)
        self.check = CheckProcess(judge, self.poller, self.handlers, self.verdicts.append, self.strays)

    def run(self) -> Verdict:
        """The loop until there is a verdict."""
        while not self.verdicts:
            for fd, mask in self.poller.poll(20):
                self.handlers[fd](mask)
        (verdict,) = self.verdicts
        return verdict

    def close(self) -> None:
        assert self.handlers == {}
        self.poller.close()
        for pid in self.strays:
            os.waitpid(pid, 0)


@pytest.fixture
def start() -> Iterator[Callable[[checker.Source], Checks]]:
    running: list[Checks] = []

    def start(source: checker.Source) -> Checks:
        running.append(Checks(source))
        return running[-1]

    before = descriptors()
    yield start
    for checks in running:
        checks.close()
    assert descriptors() == before


Start = Callable[[checker.Source], Checks]


def broken(reason: str) -> checker.Source:
    def source() -> Loaded:
        raise ConfigErrors([ConfigError("httpd.toml", 3, "server.user", reason)])

    return source


def silent() -> Loaded:
    os._exit(3)


def hanging() -> Loaded:
    while True:
        signal.pause()


def test_a_check_reports_problems(start: Start) -> None:
    checks = start(broken("who?"))
    assert checks.began + checker.SECONDS <= checks.check.deadline <= time.monotonic() + checker.SECONDS
    verdict = checks.run()
    assert len(verdict.problems) == 1
    assert "who?" in verdict.problems[0]


def test_a_large_report(start: Start) -> None:
    """More than a pipe holds."""
    (problem,) = start(broken("x" * 3_000_000)).run().problems
    assert len(problem) > 3_000_000


def test_a_check_that_dies(start: Start) -> None:
    assert start(silent).run().problems == ["the configuration check died"]


def test_a_check_that_hangs(start: Start) -> None:
    checks = start(hanging)
    checks.check.expire()
    assert checks.verdicts == [Verdict(problems=["the configuration check took more than 30 s"])]


def test_cancel(start: Start) -> None:
    checks = start(hanging)
    checks.check.cancel()
    assert checks.verdicts == []
    pid = checks.check._pid
    assert checks.strays == {pid} or not Path(f"/proc/{pid}").exists()


def test_a_report_without_end(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REPORT_LIMIT", 100_000)
    assert start(broken("x" * 3_000_000)).run().problems == ["the configuration check died"]


def test_verdicts_survive_the_way(make_config: MakeConfig) -> None:
    verdict = Verdict(config=make_config(), endpoints={":80": [checker.Endpoint(socket.AF_INET, "0.0.0.0", 80)]})
    assert checker.finish(msgspec.msgpack.encode(verdict)) == verdict
