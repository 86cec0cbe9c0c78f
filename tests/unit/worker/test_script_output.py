"""The output of a script: when it is read, how much at once, and that a client that takes its time stops it."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.system.poller import make_poller
from httpd.worker.script_output import ScriptOutput

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere output is read as it comes")

READ, TURN, MOST = 64 * 1024, 256 * 1024, 1024 * 1024


class World:
    """The loop, its poller, and the run that takes the output; `child` is the script's end."""

    def __init__(self) -> None:
        self.poller = make_poller()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.now = 100.0
        self.got = b""
        self.said: list[str] = []
        self.wants = True
        self.pause_behind = MOST * 10  # bytes
        context: Any = self
        self.output = ScriptOutput(context, self)
        self.child = self.output.child_fd

    def watch(self, fd: int, mask: int, before: int, handler: Callable[[int], None]) -> None:
        if before:
            self.poller.modify(fd, mask)
        else:
            self.poller.register(fd, mask)
        self.handlers[fd] = handler

    def forget(self, fd: int) -> None:
        del self.handlers[fd]
        self.poller.unregister(fd)

    def take(self, data: bytes) -> bool:
        self.got += data
        if len(self.got) >= self.pause_behind:
            self.output.pause()
            return False
        return self.wants

    def took_some(self) -> None:
        self.said.append("some")

    def output_ended(self) -> None:
        self.said.append("ended")

    def write(self, data: bytes) -> None:
        """As the script, into a pipe that holds it all."""
        if len(data) > READ:
            fcntl.fcntl(self.child, fcntl.F_SETPIPE_SZ, MOST)
        assert os.write(self.child, data) == len(data)

    def end(self) -> None:
        if self.child >= 0:
            os.close(self.child)
        self.child = -1

    def turn(self) -> int:
        """A round of the loop: how many events there were."""
        events = self.poller.poll(0)
        for fd, mask in events:
            self.handlers[fd](mask)
        return len(events)

    def close(self) -> None:
        self.end()
        self.output.close()
        self.poller.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


# In its first moment


def test_what_is_over_within_a_moment_is_taken_as_a_whole(world: World) -> None:
    for piece in (b"one ", b"two"):
        world.write(piece)
        assert world.turn() == 0
    assert world.output.waits
    world.end()
    assert world.turn() == 1
    assert (world.got, world.said) == (b"one two", ["ended"])
    assert not world.output.open
    assert not world.output.waits
    assert world.handlers == {}


def test_who_writes_nothing(world: World) -> None:
    world.end()
    assert world.turn() == 1
    assert (world.got, world.said) == (b"", ["ended"])


def test_behind_that_moment_output_is_read_as_it_comes(world: World) -> None:
    assert world.output.read_at == pytest.approx(100.003)
    world.write(b"one")
    assert world.turn() == 0
    world.output.attend()
    assert not world.output.waits
    assert world.turn() == 1
    assert (world.got, world.said) == (b"one", ["some"])
    assert world.turn() == 0
    world.write(b"two")
    world.output.attend()
    assert world.turn() == 1
    assert (world.got, world.said) == (b"onetwo", ["some", "some"])
    world.end()
    assert world.turn() == 1
    assert world.said[2:] == ["ended"]


@pytest.mark.parametrize("size", [READ - 1, READ, READ + 1, 2 * READ, TURN - 1])
def test_no_byte_is_lost_where_its_end_is_closed(world: World, size: int) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    world.write(data[:size])
    world.end()
    assert world.turn() == 1
    assert world.got == data[:size]
    assert world.said == ["ended"]


# How much at once


def test_a_turn_is_bounded(world: World) -> None:
    world.write(b"x" * MOST)
    world.output.attend()
    for taken in range(TURN, MOST + 1, TURN):
        assert world.turn() == 1
        assert len(world.got) == taken
    assert world.turn() == 0
    assert world.said == ["some"] * 4


def test_all_that_is_there(world: World) -> None:
    world.write(b"x" * MOST)
    world.output.read_all()
    assert len(world.got) == MOST
    assert world.output.open
    world.end()
    world.output.read_all()
    assert world.said[-1] == "ended"


# The client's time


def pause_behind_one(world: World, *, attended: bool) -> None:
    world.write(b"one")
    if attended:
        world.output.attend()
        world.turn()
    world.output.pause()


@pytest.mark.parametrize("attended", [True, False])
def test_while_it_is_paused_nothing_is_read(world: World, attended: bool) -> None:
    pause_behind_one(world, attended=attended)
    world.output.pause()
    got = world.got
    world.write(b"two")
    world.end()
    assert (world.turn(), world.got, world.handlers) == (0, got, {})
    assert world.output.paused
    world.output.close()
    assert not world.output.paused  # what waits for it to go on would wait for ever


def test_behind_the_answer_some_is_dropped_and_no_more(world: World) -> None:
    world.output.drop()
    for _ in range(MOST // READ):
        world.write(b"x" * READ)
        world.output.read()
    assert (world.got, world.said, world.output.open) == (b"", [], True)
    world.write(b"x")
    world.output.read()
    assert (world.got, world.said, world.output.open) == (b"", ["ended"], False)


def test_so_is_its_end(world: World) -> None:
    world.output.drop()
    world.write(b"x")
    world.end()
    world.output.read()
    assert (world.got, world.said, world.output.open) == (b"", ["ended"], False)


@pytest.mark.parametrize("attended", [True, False])
def test_when_it_goes_on(world: World, attended: bool) -> None:
    pause_behind_one(world, attended=attended)
    world.write(b"two")
    world.end()
    assert world.output.resume()
    assert not world.output.paused
    assert world.turn() == 1
    assert (world.got, world.said[-1]) == (b"onetwo", "ended")


def test_a_pause_ends_the_turn(world: World) -> None:
    world.write(b"x" * MOST)
    world.pause_behind = 2 * READ
    world.output.attend()
    world.turn()
    assert (len(world.got), world.said) == (2 * READ, [])
    world.output.read_all()
    assert len(world.got) == 2 * READ
    world.pause_behind = 6 * READ
    assert world.output.resume()
    world.output.read_all()
    assert len(world.got) == 6 * READ


def test_what_is_not_wanted_ends_the_turn(world: World) -> None:
    world.wants = False
    world.write(b"x" * 2 * READ)
    world.output.attend()
    assert world.turn() == 1
    assert (len(world.got), world.said) == (READ, [])


def test_there_is_nothing_to_go_on_with(world: World) -> None:
    assert not world.output.resume()  # it was not paused
    world.output.pause()
    world.output.close()
    assert not world.output.resume()


@pytest.mark.parametrize("paused", [True, False])
def test_to_close_it_twice_is_to_close_it(world: World, paused: bool) -> None:
    if paused:
        world.output.pause()
    for _ in range(2):
        world.output.close()
    assert (world.output.open, world.handlers) == (False, {})
    world.output.pause()
    world.output.read()
    with pytest.raises(BrokenPipeError):
        os.write(world.child, b"x")
