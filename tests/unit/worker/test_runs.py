"""A run whose spawner says nothing, of its start or of its end: when somebody is to see whether it lives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.worker.run_faces import State
from httpd.worker.runs import ScriptRun
from unit.worker.scripted import HEAD, PID, Scripted, make_scripts, scripted

WORD, STOPPED = 2.0, 4.0  # seconds for the first word, and for the end of what was told to stop
TIMEOUT = 60.0
TICK = 0.125  # seconds; as a binary fraction it adds up


class Door:
    """One behind which nobody says a word."""

    mount = "cgi[0]"
    leaving = False

    def __init__(self) -> None:
        self.runs: dict[int, ScriptRun] = {}


class Told:
    """A run that was asked for, and what was told of it: when (seconds since), and what."""

    def __init__(self, world: Scripted) -> None:
        self.world = world
        world.context.now = 1000.0
        self.run = world.run()
        self.since = world.context.now
        self.what: list[tuple[float, str]] = []
        world.scripts._waiting.clear()
        world.scripts.silent = lambda run: self._tell("silent")  # type: ignore[method-assign]
        world.scripts.stop = lambda run: self._tell("stop")  # type: ignore[method-assign]
        self.run.door, self.run.state = Door(), State.ASKED
        self.run.asked_at = self.since
        self.run.deadline = self.run.word_by = self.since + WORD

    def _tell(self, what: str) -> None:
        self.what.append((self.world.context.now - self.since, what))

    def pass_time(self, seconds: float) -> None:
        for _ in range(int(seconds / TICK)):
            self.world.context.now += TICK
            if self.run.state is not State.OVER:
                self.run.look(self.world.context.now)

    def answer(self) -> None:
        os.write(self.run.output.child_fd, HEAD)
        self.run.close_child_fds()
        self.run.output.read()


@pytest.fixture
def told(tmp_path: Path) -> Iterator[Told]:
    with scripted(make_scripts(tmp_path)) as world:
        made = Told(world)
        yield made
        made.run.close_child_fds()
        made.run.lost()
        made.run.ended(PID, "exit status 0")


def test_not_a_word(told: Told) -> None:
    os.write(told.run.output.child_fd, HEAD)
    told.run.output.read()
    told.pass_time(WORD - TICK)
    assert not told.what
    told.pass_time(2 * TICK)
    assert told.what == [(WORD, "silent")]
    told.pass_time(TIMEOUT / 2)
    assert told.what == [(WORD, "silent")]


def test_not_a_word_behind_the_answer(told: Told) -> None:
    told.run.started(PID)
    told.pass_time(10.0)
    told.answer()
    told.pass_time(WORD + TICK)
    assert told.what == [(10.0 + WORD, "silent")]


def test_not_a_word_behind_output_that_goes_on_behind_the_answer(told: Told) -> None:
    """The answer was over before the output was: it is the end of that behind which the process' end is told."""
    run = told.run
    os.write(run.output.child_fd, b"Content-Length: 4\n" + HEAD + b"whole")
    run.output.read()
    told.world.context.now += 1
    told.world.scripts.look(told.world.context.now)
    assert run.state is State.ANSWERED and run.output.open
    run.started(PID)
    told.pass_time(10.0)
    assert told.what == []
    run.close_child_fds()
    run.output.read()
    told.pass_time(10.0)
    assert told.what == [(11.0 + WORD, "silent")]


def test_what_comes_behind_the_answer_is_dropped_and_gives_no_time(told: Told) -> None:
    run = told.run
    run.started(PID)
    os.write(run.output.child_fd, b"Content-Length: 4\n" + HEAD + b"whole")
    run.output.read()
    told.world.context.now += 1
    told.world.scripts.look(told.world.context.now)
    for _ in range(int(TIMEOUT) + 1):
        os.write(run.output.child_fd, b"more")
        run.output.read()
        told.pass_time(1.0)
    assert [what for _, what in told.what] == ["stop"]
    run.ended(PID, "killed by SIGTERM")


def test_a_start_that_is_told_behind_the_answer_is_not_its_end(told: Told) -> None:
    told.answer()
    told.run.started(PID)
    told.pass_time(WORD + TICK)
    assert told.what == [(WORD, "silent")]


@pytest.mark.parametrize("late", ["started", "queued"])
def test_not_a_word_behind_a_stop(told: Told, late: str) -> None:
    """What was on its way is none."""
    told.run.lost()
    if late == "started":
        told.run.started(PID)
    else:
        told.run.queued(ready=False)
    told.pass_time(STOPPED + TICK)
    assert told.what == [(0.0, "stop"), (STOPPED, "silent")]


def test_its_end_is_the_last_word(told: Told) -> None:
    told.run.started(PID)
    told.answer()
    told.run.ended(PID, "exit status 0")
    told.pass_time(STOPPED)
    assert not told.what


@pytest.mark.parametrize(("ready", "what"), [(True, "its turn"), (False, "its warm interpreter")])
def test_who_is_told_to_wait_waits_for_timeout_in_all(told: Told, *, ready: bool, what: str) -> None:
    told.pass_time(1.0)
    told.run.queued(ready=ready)
    told.pass_time(TIMEOUT / 2)
    told.run.queued(ready=ready)
    told.pass_time(TIMEOUT / 2 - 1.0 - TICK)
    assert told.run.state is State.QUEUED
    told.pass_time(2 * TICK)
    assert told.run.state is State.OVER
    assert f"script failed: it waited for {what} for longer than timeout".encode() in told.world.errors[0]


def test_time_that_this_process_stood_still_is_nobody_s(told: Told) -> None:
    told.run.postpone(100.0)
    told.world.context.now += 100.0
    told.pass_time(WORD - TICK)
    assert not told.what
