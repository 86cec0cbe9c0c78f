"""The crew with workers that are only records: filled slots, back-off, recycling, deadlines, ends."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from signal import Signals
from typing import Any

import pytest

from httpd.config import schema
from httpd.config.schema import Server, Timeouts
from httpd.master.children import GRACE_SECONDS, KILL_SECONDS, LONG_LIFE, Event, State
from httpd.master.generations import Generation, Stage, handed_over
from httpd.master.resizing import resize
from httpd.system import pairs
from httpd.system.children import ExitStatus
from machine import descriptors
from unit.master.fakes import Worker, World, make_world

MakeConfig = Callable[..., schema.Config]
MakeGeneration = Callable[..., Generation]
NO_ROOM = OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with make_world(monkeypatch) as world:
        yield world


@pytest.fixture
def staffed(world: World, make_config: MakeConfig, make_generation: MakeGeneration) -> Callable[..., Generation]:
    """An active generation whose workers serve; arguments are its timeouts."""

    def make(slots: int = 2, number: int = 1, **timeouts: Any) -> Generation:
        config = make_config(timeouts=Timeouts(**{"heartbeat": 0.0, **timeouts}), server=Server(workers=slots))
        generation = make_generation(number, slots, config, stage=Stage.ACTIVE)
        world.crew.generations.append(generation)
        world.crew.fill(generation)
        for worker in list(world.workers):
            if worker.generation is generation:
                worker.ready()
        world.observer.seen.clear()
        return generation

    return make


Staffed = Callable[..., Generation]


# Starts


def test_ready(world: World, make_generation: MakeGeneration) -> None:
    generation = make_generation(slots=2, stage=Stage.ACTIVE)
    world.crew.generations.append(generation)
    world.crew.fill(generation)
    world.crew.fill(generation)  # there is nothing to fill
    first, second = world.workers
    assert (first.child.slot, second.child.slot) == (0, 1)
    assert generation.serving() == 0
    second.ready()
    assert world.observer.seen == [("ready", 1)]
    assert second.child.state is State.SERVING
    assert generation.serving() == 1


def test_what_can_not_be_forked_is_tried_again_later(world: World, make_generation: MakeGeneration) -> None:
    generation = make_generation(slots=1, stage=Stage.ACTIVE)
    world.crew.generations.append(generation)
    world.spawner.refused.extend([NO_ROOM] * 3)
    world.crew.fill(generation)
    text = f"cannot start a worker: {NO_ROOM.strerror}"
    assert world.observer.seen == [("lost", 1, text, False)]
    assert generation.slots[0].last_exit == text
    assert world.crew.deadline() == world.clock.now + 0.1
    world.after(0.099)
    assert len(world.observer.seen) == 1
    world.after(0.601)  # 0.1, then 0.2, then 0.4
    assert world.spawner.made == 1
    assert len(world.observer.seen) == 3
    assert world.log.count("cannot start a worker") == 1  # said once, not with every try


def test_not_ready_in_time(world: World, staffed: Staffed) -> None:
    generation = staffed(1, start=7.0)
    world.at(0).end(1)
    world.after(0.1)
    worker = world.at(0)
    world.after(6.9)
    assert world.state(0) is State.STARTING
    assert world.kernel.signals == []
    world.after(0.1)
    assert world.kernel.signals == [(worker.child.pid, signal.SIGABRT)]
    assert worker.child.state is State.ABORTED
    world.after(GRACE_SECONDS)  # it does not even die of that
    assert world.kernel.signals[1:] == [(worker.child.pid, signal.SIGKILL)]
    worker.end(number=signal.SIGKILL)
    assert generation.slots[0].last_exit == "not ready after 7 s"
    assert world.observer.seen[-1] == ("lost", 1, "not ready after 7 s", True)


def test_why_a_worker_cannot_start(world: World, staffed: Staffed) -> None:
    generation = staffed(1)
    world.at(0).end(1)
    world.after(0.1)
    worker = world.at(0)
    worker.say("failed", reason="PermissionError: no")
    assert worker.child.state is State.STOPPING  # its exit follows, or a kill
    worker.end(70)
    assert generation.slots[0].last_exit == "PermissionError: no"


@pytest.mark.parametrize("pidfds", [True, False])
def test_last_words_that_nobody_has_read_yet(world: World, staffed: Staffed, pidfds: bool) -> None:
    """Its message and its end are seen in one round, the end first."""
    generation = staffed(1)
    world.spawner.pidfds = pidfds
    world.at(0).end(1)
    world.after(0.1)
    worker = world.at(0)
    world.crew._forget(worker.child.channel.fileno())  # the poller will not tell of the message
    worker.say("failed", reason="ImportError: no module named x")
    worker.end(70)
    assert generation.slots[0].last_exit == "ImportError: no module named x"


@pytest.mark.parametrize("pidfds", [True, False])
def test_a_worker_that_dies_at_its_start_without_a_word(world: World, staffed: Staffed, pidfds: bool) -> None:
    generation = staffed(1)
    world.spawner.pidfds = pidfds
    world.at(0).end(1)
    world.after(0.1)
    world.at(0).end(number=signal.SIGSEGV)
    assert generation.slots[0].last_exit == "killed by SIGSEGV"
    assert len(world.observer.seen) == 2
    assert generation.slots[0].child is None


def test_without_pidfds_the_end_of_the_channel_will_do(world: World, staffed: Staffed) -> None:
    """SIGCHLD may come later, or, merged with another one, never."""
    world.spawner.pidfds = False
    generation = staffed(2)
    world.at(1).end(1)
    world.after(0.1)
    worker = world.at(1).ready()
    world.workers.remove(worker)
    world.kernel.ended[worker.child.pid] = ExitStatus(3)
    worker.channel.close()
    os.close(worker.dump)
    world.turn()
    assert generation.slots[1].last_exit == "exit status 3"


# Back-off


def test_the_pauses_between_two_lives(world: World, staffed: Staffed) -> None:
    generation = staffed(1)
    slot = generation.slots[0]
    pauses = []
    for _ in range(12):
        world.at(0).end(1)
        pauses.append(slot.next_start - world.clock.now)
        world.after(pauses[-1])
        assert slot.child is not None
    assert pauses == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0, 30.0])
    assert (slot.restarts, world.crew.losses.count) == (12, 12)


def test_the_place_of_a_worker_that_was_well_is_filled_at_once(world: World, staffed: Staffed) -> None:
    generation = staffed(1)
    world.after(LONG_LIFE)
    world.at(0).end(number=signal.SIGSEGV)
    world.after(0.0)
    assert generation.slots[0].child is not None
    assert generation.slots[0].deaths == 1


def test_the_place_of_a_worker_that_was_killed_from_outside_is_filled_at_once(world: World, staffed: Staffed) -> None:
    """An operator's kill is no crash, so it does not lengthen the pauses either."""
    generation = staffed(1)
    slot = generation.slots[0]
    for _ in range(2):
        world.at(0).end(1)
        world.after(1)
        world.at(0).ready()
    world.after(1)
    world.at(0).end(number=signal.SIGKILL)
    world.after(0.0)
    assert slot.child is not None
    assert (slot.deaths, slot.restarts) == (2, 3)


def test_one_that_is_killed_as_soon_as_it_serves_has_a_short_pause(world: World, staffed: Staffed) -> None:
    """Again and again: no loop of forks, and none of log lines."""
    generation = staffed(1)
    for _ in range(20):
        world.at(0).end(number=signal.SIGKILL)
        assert generation.slots[0].next_start == pytest.approx(world.clock.now + 0.1)
        world.after(0.1)
        world.at(0).ready()
    assert world.log.count("worker ended") == 4
    assert generation.slots[0].deaths == 0


@pytest.mark.parametrize("stage", Stage)
def test_only_a_generation_that_serves_fills_its_places_again(world: World, staffed: Staffed, stage: Stage) -> None:
    generation = staffed(1)
    generation.stage = stage
    world.at(0).end(1)
    world.after(10)
    assert (generation.slots[0].child is not None) is (stage in (Stage.ACTIVE, Stage.ROLL))


def test_a_crash_loop_is_not_a_loop_of_log_lines(world: World, staffed: Staffed) -> None:
    staffed(1)
    for _ in range(20):
        world.at(0).end(1)
        world.crew.generations[0].slots[0].next_start = 0.0
        world.after(0.01)
    assert world.log.count("worker ended") == 4  # three, then one each ten seconds


# Ends


@pytest.mark.parametrize(
    ("state", "code", "number", "lost", "crashed"),
    [
        (State.SERVING, 1, None, True, True),
        (State.SERVING, 0, None, True, True),  # nobody had told it to
        (State.SERVING, None, signal.SIGSEGV, True, True),
        (State.SERVING, None, signal.SIGKILL, True, False),  # an operator, or the kernel for memory
        (State.STANDBY, None, signal.SIGSEGV, True, True),
        (State.DRAINING, 0, None, False, False),
        (State.DRAINING, None, signal.SIGSEGV, False, False),
        (State.STOPPING, 0, None, False, False),
        (State.KILLED, None, signal.SIGKILL, False, False),
    ],
)
def test_how_workers_end(world: World, staffed: Staffed, state: State, code: int | None, number: Signals | None,
                         lost: bool, crashed: bool) -> None:  # fmt: skip
    generation = staffed(1)
    worker = world.at(0)
    worker.child.state = state
    worker.end(code, number)
    assert [(seen[0], seen[3]) for seen in world.observer.seen] == ([("lost", crashed)] if lost else [])
    assert (generation.slots[0].restarts, world.crew.losses.count) == (lost, lost)
    assert worker.child.state is State.GONE
    assert generation.shares.serving() == 0
    assert ("worker died before its requests were over" in world.log) is (
        state is State.DRAINING and number is not None
    )


def test_everything_of_a_worker_is_given_back(world: World, staffed: Staffed) -> None:
    generation = staffed(2)
    before = (len(generation.boards), len(world.handlers), descriptors())
    for _ in range(5):
        world.at(1).end(1)
        world.after(30)
    assert (len(generation.boards), len(world.handlers), descriptors()) == before


def test_what_a_worker_wrote_when_it_crashed_is_logged(world: World, staffed: Staffed) -> None:
    staffed(1)
    worker = world.at(0)
    os.write(worker.dump, b"Fatal Python error\nfile x\x1b[31m, line 1\n")
    worker.end(number=signal.SIGSEGV)
    assert f"where worker {worker.child.pid} stood\n\tFatal Python error\n\tfile x\\x1b[31m, line 1\n" in world.log


def test_strays_and_strangers(world: World, staffed: Staffed) -> None:
    """Nobody's children come to PID 1, and with a restart in the same process to anybody."""
    staffed(2)
    world.crew.strays |= {111, 222}
    world.kernel.ended[111] = ExitStatus(0)
    world.crew.reap_all()
    assert world.crew.strays == {222}
    assert world.kernel.strangers == [{222, *(worker.child.pid for worker in world.workers)}]


# What workers say is data


@pytest.mark.parametrize(
    "message",
    [
        {}, {"event": None}, {"event": "drain"}, {"event": "failed"}, {"event": "failed", "reason": 5},
        {"event": "recycle"}, {"event": ["ready"]}, {"do": "stop"},
    ],
)  # fmt: skip
def test_nonsense_changes_nothing(world: World, staffed: Staffed, message: dict[str, object]) -> None:
    generation = staffed(1)
    worker = world.at(0)
    pairs.send(worker.channel, message, [0])
    world.turn()
    assert worker.child.state is State.SERVING
    assert worker.child.failure == ""
    assert generation.tired == []
    assert worker.told() == []


def test_a_packet_that_is_none_is_said_now_and_then(world: World, staffed: Staffed) -> None:
    staffed(1)
    worker = world.at(0)
    for _ in range(50):
        worker.channel.send(b"\xff")
        world.turn()
    assert world.log.count("bad message") == 1
    assert worker.child.state is State.SERVING


def test_ready_twice_is_one_welcome(world: World, staffed: Staffed) -> None:
    staffed(1)
    world.at(0).ready().ready()
    assert world.observer.seen == []


def test_confirmations_that_nobody_asked_for(world: World, staffed: Staffed) -> None:
    staffed(1)
    worker = world.at(0)
    worker.child.reopening = 1
    for _ in range(3):
        worker.say("reopened")
    assert worker.child.reopening == 0


# Recycling


def recycling(world: World, generation: Generation) -> list[int]:
    """The slots in which an old worker waits for its successor."""
    return [slot.number for slot in generation.slots if slot.replacing is not None]


def test_recycling(world: World, staffed: Staffed) -> None:
    generation = staffed(2)
    old = world.at(1)
    old.say("recycle", reason="max_requests (10 requests)")
    new = world.at(1)
    assert new is not old
    assert old.child.state is State.SERVING  # until its successor serves
    assert (old.told(), generation.serving()) == ([], 1)
    new.ready()
    (order,) = old.told()
    assert (order["do"], order["empty"]) == ("drain", [])
    assert generation.serving() == 2
    assert recycling(world, generation) == []
    world.observer.seen.clear()
    old.end(0)
    assert generation.serving() == 2
    assert generation.extra == []
    assert [loss.reason for loss in world.crew.losses.last] == ["max_requests (10 requests)"]
    assert generation.slots[1].restarts == 1


def test_one_at_a_time(world: World, staffed: Staffed) -> None:
    generation = staffed(4)
    olds = [world.at(slot) for slot in range(4)]
    for old in (olds[2], olds[0], olds[3], olds[1]):
        old.say("recycle", reason="max_memory")
    for slot in (2, 0, 3, 1):  # in the order in which they asked
        assert recycling(world, generation) == [slot]
        assert sum(old.child.state is State.SERVING for old in olds) + generation.serving() >= 4
        world.at(slot).ready()
        assert olds[slot].child.state is State.DRAINING
    assert recycling(world, generation) == []
    assert generation.tired == []
    assert all(old.child.state is State.DRAINING for old in olds)


def test_a_successor_that_does_not_come_up_costs_nobody(world: World, staffed: Staffed) -> None:
    """The old worker serves on, the new one is tried again."""
    staffed(2)
    old = world.at(0)
    old.say("recycle", reason="max_memory")
    for _ in range(3):
        world.at(0).end(70)
        assert old.child.state is State.SERVING
        world.after(30)
    world.at(0).ready()
    assert old.child.state is State.DRAINING


def test_a_tired_worker_that_dies_does_not_stop_the_others(world: World, staffed: Staffed) -> None:
    """The first dies while its successor starts, the third while it waits: the second's turn comes all the same."""
    generation = staffed(3)
    first, second, third = (world.at(slot) for slot in range(3))
    for old in (first, third, second):
        old.say("recycle", reason="max_memory")
    third.end(number=signal.SIGKILL)
    first.end(number=signal.SIGKILL)
    world.at(0).ready()
    world.after(1)
    assert recycling(world, generation) == [1]
    world.at(1).ready()
    assert second.child.state is State.DRAINING


@pytest.mark.parametrize("stage", [Stage.ROLL, Stage.STANDBY])
def test_who_gets_tired_in_a_reload_is_replaced_behind_it(world: World, staffed: Staffed, stage: Stage) -> None:
    """A worker asks once.  During the roll, or on standby, it is not the time; forgotten it must not be."""
    generation = staffed(2)
    if stage is Stage.STANDBY:
        world.crew.stand_by(generation, [])
    else:
        generation.stage = stage
    old = world.at(0)
    old.say("recycle", reason="max_memory")
    assert world.at(0) is old
    if stage is Stage.STANDBY:
        world.crew.resume(generation)
    else:
        generation.stage = Stage.ACTIVE
    world.after(1)
    assert world.at(0) is not old
    world.at(0).ready()
    assert old.child.state is State.DRAINING


def test_who_leaves_anyway_is_not_recycled(world: World, staffed: Staffed) -> None:
    generation = staffed(1)
    old = world.at(0)
    world.crew.drain(generation)
    old.say("recycle", reason="max_memory")
    world.after(1)
    assert world.at(0) is old
    assert len(world.workers) == 1


def test_a_worker_told_to_end_from_outside_has_a_successor_at_once(world: World, staffed: Staffed) -> None:
    generation = staffed(1)
    old = world.at(0)
    old.say("leaving")
    assert world.at(0).child.state is State.STARTING
    assert old.child.state is State.DRAINING
    old.end(0)
    assert [loss.reason for loss in world.crew.losses.last] == ["told to end from outside"]
    assert generation.slots[0].deaths == 0
    assert world.observer.seen == []


# More and fewer workers


def test_resize(world: World, staffed: Staffed) -> None:
    generation = staffed(2)
    assert resize(world.crew, generation, 4) == []
    assert [slot.number for slot in generation.slots] == [0, 1, 2, 3]
    for slot in (2, 3):
        world.at(slot).ready()
    assert generation.serving() == 4
    last = [world.at(slot) for slot in (1, 2, 3)]
    assert resize(world.crew, generation, 1) == [worker.child for worker in last]
    assert all(worker.child.state is State.DRAINING for worker in last)
    for worker in last:
        worker.end(0)
    world.after(60)
    assert (len(world.workers), generation.serving()) == (1, 1)
    assert world.crew.losses.count == 0


def test_resize_in_the_middle_of_a_recycling(world: World, staffed: Staffed) -> None:
    """Both go: the worker that is being replaced, and its successor."""
    generation = staffed(2)
    old = world.at(1)
    old.say("recycle", reason="max_memory")
    new = world.at(1)
    leaving = resize(world.crew, generation, 1)
    assert set(leaving) == {old.child, new.child}
    assert old.child.state is new.child.state is State.DRAINING
    assert sorted(generation.extra, key=lambda child: child.pid) == [old.child, new.child]


# Orders


def test_stand_by_and_resume(world: World, staffed: Staffed) -> None:
    generation = staffed(3)
    world.at(2).end(number=signal.SIGKILL)
    world.after(0.1)
    starting = world.at(2)
    one, two = world.at(0), world.at(1)
    world.crew.stand_by(generation, ["a:1", "unix:b"])
    assert one.told() == two.told() == [{"do": "standby", "keep": ["a:1", "unix:b"]}]
    assert [order["do"] for order in starting.told()] == ["stop"]
    assert generation.serving() == 0
    starting.end(0)
    two.end(number=signal.SIGKILL)
    world.after(60)
    assert world.workers == [one]  # nobody comes to stand by
    world.crew.resume(generation)
    world.after(10)
    assert one.told() == [{"do": "resume"}]
    for worker in world.workers[1:]:
        worker.ready()
    assert [worker.child.state for worker in world.workers] == [State.SERVING] * 3
    assert generation.serving() == 3


def test_drain_and_what_follows_when_nothing_happens(world: World, staffed: Staffed) -> None:
    generation = staffed(1, drain=30.0)
    worker = world.at(0)
    world.crew.drain(generation, ["a:1"])
    (order,) = worker.told()
    assert (order["do"], order["seconds"], order["empty"]) == ("drain", 30.0, ["a:1"])
    world.after(30 + GRACE_SECONDS - 0.1)
    assert worker.told() == []
    world.after(0.1)
    assert worker.told() == [{"do": "stop"}]
    assert "did not finish in time" in world.log
    world.after(GRACE_SECONDS)
    assert world.kernel.signals == [(worker.child.pid, signal.SIGKILL)]


def test_hurry(world: World, staffed: Staffed) -> None:
    generation = staffed(2, drain=3600.0)
    worker, other = world.at(0), world.at(1)
    world.crew.drain(generation)
    world.crew.apply(generation, other.child, Event.STOP)
    assert worker.told()
    assert other.told()
    world.after(100)
    world.crew.hurry(generation, 2.0)
    (order,) = worker.told()
    assert (order["do"], order["seconds"], order["empty"]) == ("drain", 2.0, [])
    assert other.told() == []
    assert worker.child.deadline == world.clock.now + 2.0 + GRACE_SECONDS
    world.after(1)
    world.crew.hurry(generation, 2.0)
    assert worker.child.deadline == world.clock.now + 1.0 + GRACE_SECONDS  # once more does not mean more time


def test_stop(world: World, staffed: Staffed) -> None:
    generation = staffed(2)
    world.crew.stop(generation)
    assert [worker.told() for worker in world.workers] == [[{"do": "stop"}]] * 2
    assert generation.stage is Stage.DRAINING
    for worker in list(world.workers):
        worker.end(0)
    world.after(60)
    assert world.workers == []


# A process that does not die


def test_a_worker_in_the_kernel_for_ever_does_not_hold_its_place(world: World, staffed: Staffed) -> None:
    generation = staffed(2, start=5.0)
    world.at(1).end(1)
    world.after(0.1)
    stuck = world.at(1)
    world.after(5.0 + GRACE_SECONDS)
    kill = (stuck.child.pid, signal.SIGKILL)
    assert world.kernel.signals[1:] == [kill]
    assert world.at(1) is stuck
    world.after(KILL_SECONDS)
    assert world.kernel.signals[1:] == [kill, kill]
    assert generation.slots[1].child is not stuck.child
    assert stuck.child in generation.extra
    world.after(1)
    world.at(1).ready()
    assert generation.serving() == 2
    world.after(10 * KILL_SECONDS)
    assert world.kernel.signals.count(kill) == 12
    assert world.log.count("killing worker") == 1
    restarts = generation.slots[1].restarts
    stuck.end(number=signal.SIGKILL)  # the disk is back
    assert generation.extra == []
    assert generation.serving() == 2
    assert generation.slots[1].restarts == restarts


def test_there_is_an_end_to_such_places(world: World, staffed: Staffed) -> None:
    """On a dead disk every new worker would hang as well: not more of them than there are places."""
    generation = staffed(1, start=1.0)
    world.at(0).end(1)
    world.after(300)
    assert len(world.workers) == 2
    assert len(generation.extra) == 1


def test_a_canary_that_cannot_be_killed_is_a_failure(world: World, make_config: MakeConfig,
                                                     make_generation: MakeGeneration) -> None:  # fmt: skip
    """Whoever waits for it has to hear of it: a reload must not be under way for ever."""
    config = make_config(timeouts=Timeouts(start=1.0))
    generation = make_generation(1, 2, config)
    world.crew.generations.append(generation)
    world.crew.fill(generation, generation.slots[:1])
    world.after(1.0 + GRACE_SECONDS + KILL_SECONDS)
    ((what, number, how, _),) = world.observer.seen
    assert (what, number) == ("lost", 1)
    assert "not ready after 1 s" in how


# Signs of life


def test_a_worker_that_hangs(world: World, staffed: Staffed) -> None:
    generation = staffed(2, heartbeat=10.0)
    hanging, other = world.at(0), world.at(1)
    hanging.wake()
    for _ in range(9):
        other.beat()
        world.after(1)
    assert hanging.told() == [{"do": "beat"}]
    for _ in range(8):
        other.beat()
        world.after(1)
    assert world.kernel.signals[0] == (hanging.child.pid, signal.SIGABRT)
    assert "no sign of life" in hanging.child.failure
    hanging.end(number=signal.SIGABRT)
    assert generation.slots[0].last_exit.startswith("hangs: no sign of life for 1")
    assert world.observer.seen[-1][3] is True
    world.after(0.0)
    assert world.at(0).child.state is State.STARTING
    assert other.child.state is State.SERVING


def test_a_stall_of_the_master_puts_everything_off(world: World, staffed: Staffed) -> None:
    generation = staffed(2, heartbeat=10.0, drain=30.0)
    serving, leaving = world.at(0), world.at(1)
    resize(world.crew, generation, 1)
    serving.wake()
    world.after(12)  # the question was asked
    before = leaving.child.deadline
    world.clock.now += 1000.0
    world.crew.forgive(1000.0, world.clock.now)
    assert leaving.child.deadline == before + 1000
    world.after(12)
    assert world.kernel.signals == []
    assert serving.child.state is State.SERVING
    world.after(2)
    assert world.kernel.signals == [(serving.child.pid, signal.SIGABRT)]


def test_the_worker_is_told_of_its_place_among_those_who_share(world: World, staffed: Staffed) -> None:
    """One whose place has a new owner must not give it up; one that just goes has to."""
    generation = staffed(2)
    old: Worker = world.at(0)
    old.say("recycle", reason="max_memory")
    world.at(0).ready()
    assert [order["leave"] for order in old.told()] == [False]
    world.crew.drain(generation)
    assert [order["leave"] for order in world.at(1).told()] == [True]


def test_the_hand_over_is_over_when_every_old_worker_has_said_so(world: World, staffed: Staffed) -> None:
    generation = staffed(2)
    workers = [world.at(0), world.at(1)]
    assert handed_over(world.crew.generations)  # it is no old one
    world.crew.stand_by(generation, [])
    assert not handed_over(world.crew.generations)
    workers[0].say("standing")
    assert not handed_over(world.crew.generations)
    workers[1].say("standing")
    assert handed_over(world.crew.generations)
    world.crew.resume(generation)
    world.crew.stand_by(generation, [])
    assert not handed_over(world.crew.generations)  # what was said before counts no more
    for worker in workers:
        worker.end(0)
    assert handed_over(world.crew.generations)


def test_a_worker_of_a_configuration_can_not_end_the_server(world: World, staffed: Staffed) -> None:
    staffed(1)
    told: list[int] = []
    world.crew.on_finished = told.append
    world.at(0).say("finished", code=0)
    assert told == []
