"""The stderr of a run, from its pipe into the error log: whose it is, how much of it, and what is said of the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from httpd.cgi.stderr import Allowance
from httpd.logs.errors import ErrorLog
from httpd.worker.script_stderr import ScriptStderr, Untold

MISSING = "[warning] w: scripts wrote more to stderr than is logged mount=m lines="


class World:
    """What a run belongs to, with a clock that stands; `log` is what was logged, without its time."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.held: list[Untold] = []
        self.now = 100.0
        self.draining = False
        self.errors = ErrorLog(lambda line: self.log.append(line.decode().rstrip("\n").partition(" ")[2]), "info", "w")
        self.mount = SimpleNamespace(key="m", allowance=Allowance())
        self.context = self

    def watch(self, fd: int, mask: int, before: int, handler: Callable[[int], None]) -> None:
        self.handlers[fd] = handler

    def forget(self, fd: int) -> None:
        del self.handlers[fd]

    def look(self) -> None:
        """As the scripts' host does it in every round."""
        held, self.held = self.held, []
        for one in held:
            if one.holds and self.now >= one.hold_until:
                one.release()
            elif one.holds:
                self.held.append(one)


class Running:
    """A run; `write` is what its script does."""

    def __init__(self, world: World) -> None:
        self.scripts: Any = world
        self.mount: Any = world.mount
        self.found: Any = SimpleNamespace(file=b"/s")
        self.pid = 7
        self.gone = False
        self.id = "1-2"
        self.settled = 0
        self.stderr = ScriptStderr(self)
        self._fd = self.stderr.child_fd

    def write(self, data: bytes) -> None:
        assert os.write(self._fd, data) == len(data)

    def end(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def settle(self) -> None:
        self.settled += 1

    def fail(self, status: int, reason: str) -> None:
        raise AssertionError

    def redirect(self, target: bytes) -> None:
        raise AssertionError

    def pause(self) -> None:
        raise AssertionError


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def begin(world: World) -> Iterator[Callable[[], Running]]:
    begun: list[Running] = []

    def make() -> Running:
        begun.append(Running(world))
        return begun[-1]

    yield make
    for run in begun:
        run.end()
        run.stderr.close()


Begin = Callable[[], Running]


def test_a_line_is_a_value(world: World, begin: Begin) -> None:
    run = begin()
    run.write(b'bare\nfoo script=/other pid=1 "\\\n\xc3\xa9\xff\n')
    run.stderr.read()
    whose = "[info] w: stderr script=/s pid=7 id=1-2 text="
    assert world.log == [
        whose + "bare", whose + r'"foo script=/other pid=1 \x22\x5c"', whose + r'"\xc3\xa9\xff"',
    ]  # fmt: skip


def test_lines_wait_until_it_is_known_whose_they_are(world: World, begin: Begin) -> None:
    run = begin()
    run.pid = 0
    run.write(b"early\n")
    run.stderr.read()
    assert world.log == []
    run.pid = 8
    run.stderr.log()
    run.stderr.log()
    assert world.log == ["[info] w: stderr script=/s pid=8 id=1-2 text=early"]


def test_no_more_waits_than_may_be_logged(world: World, begin: Begin) -> None:
    run = begin()
    run.pid = 0
    for _ in range(10):
        run.write(b"a\n" * 10_000)
        run.stderr.read()
    run.gone = True
    run.stderr.log()
    assert len(world.log) == 200
    assert world.mount.allowance.dropped == 99_800


def test_all_that_is_there_at_the_end(world: World, begin: Begin) -> None:
    run = begin()
    run.write(b"x" * 50_000 + b"\nlast words")
    run.end()
    run.stderr.read()
    assert world.log[-1].endswith('text="last words"')
    assert not run.stderr.open
    assert run.stderr.last_words.endswith("x\nlast words")
    assert not world.handlers  # it was not watched


def test_one_read_in_a_round(world: World, begin: Begin) -> None:
    """Else whoever floods it has more of this process than others."""
    run = begin()
    run.stderr.watch()
    run.stderr.watch()
    (on_input,) = world.handlers.values()
    run.write(b"a\n" * 32 * 1024)  # what a pipe holds
    run.end()
    for taken in range(8, 40, 8):
        on_input(0)
        assert world.mount.allowance.dropped == taken * 1024 - 200
    assert run.stderr.open
    on_input(0)
    assert (run.settled, run.stderr.open, world.handlers) == (1, False, {})


def test_what_is_missing_is_told_at_the_end_of_the_run(world: World, begin: Begin) -> None:
    run = begin()
    run.write(b"a\n" * 1000)
    run.stderr.read()
    world.look()
    assert len(world.log) == 200
    run.end()
    run.stderr.read()
    assert world.log[200:] == [MISSING + "800"]
    world.now += 60
    world.look()
    assert (world.log[201:], world.held) == ([], [])


def test_of_a_run_that_goes_on_it_is_told_in_between(world: World, begin: Begin) -> None:
    run = begin()
    for _ in range(12):
        run.write(b"a\n" * 1000)
        run.stderr.read()
        world.look()
        world.now += 1
    told = [int(line.removeprefix(MISSING)) for line in world.log if line.startswith(MISSING)]
    assert len(told) == 3
    assert len(world.log) - 3 + sum(told) + world.mount.allowance.dropped == 12_000


def test_where_that_was_done_lately_it_is_told_later_for_all_runs(world: World, begin: Begin) -> None:
    """An entry for each would be a flood of its own; nothing is lost, though nobody writes any more."""
    for _ in range(5):
        run = begin()
        run.write(b"a\n" * 1000)
        run.end()
        run.stderr.read()
        world.look()
    assert [line for line in world.log if line.startswith(MISSING)] == [MISSING + "800"]
    world.now += 4.9
    world.look()
    assert len(world.log) == 201
    world.now += 0.1
    world.look()
    assert world.log[201:] == [MISSING + "4000"]
    assert world.held == []


def test_a_process_that_ends_does_not_wait_with_it(world: World, begin: Begin) -> None:
    world.draining = True
    for _ in range(2):
        run = begin()
        run.write(b"a\n" * 1000)
        run.end()
        run.stderr.read()
    assert [line for line in world.log if line.startswith(MISSING)] == [MISSING + "800", MISSING + "1000"]
