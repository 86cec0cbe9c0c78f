"""Who is called of those that are watched, and of what."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from httpd.system.watching import Watching

_SOON = 20.0  # seconds; reached only by a failure


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as made:
        yield made


def pipe(stack: ExitStack) -> tuple[int, int]:
    ends = os.pipe()
    for fd in ends:
        stack.callback(_close, fd)
    return ends


def _close(fd: int) -> None:
    with suppress(OSError):  # the test did
        os.close(fd)


def never(error: Exception) -> None:
    raise AssertionError from error


def test_who_has_something_to_read_is_called(stack: ExitStack) -> None:
    watching, told = Watching(never), []
    (one, writer), (other, _) = pipe(stack), pipe(stack)
    watching.watch(one, lambda: told.append("one"))
    watching.watch(other, lambda: told.append("other"))
    os.write(writer, b"x")
    watching.round(time.monotonic() + _SOON)
    assert told == ["one"]
    watching.forget(one)
    watching.forget(one)  # nobody minds
    watching.round(time.monotonic())
    assert told == ["one"]


def test_room_to_write_is_told_on_demand(stack: ExitStack) -> None:
    watching, told = Watching(never), []
    _, writer = pipe(stack)
    watching.watch(writer, lambda: told.append("room"))
    watching.round(time.monotonic())
    assert told == []
    watching.wait_for_room(writer)
    watching.round(time.monotonic() + _SOON)
    watching.wait_for_room(writer, room=False)
    watching.round(time.monotonic())
    assert told == ["room"]


def test_a_handler_that_fails_takes_nothing_from_the_others(stack: ExitStack) -> None:
    failures: list[Exception] = []
    watching, told = Watching(failures.append), []

    def fail() -> None:
        told.append("failed")
        raise ValueError("a defect")

    for handler in (fail, lambda: told.append("fine"), fail):
        reader, writer = pipe(stack)
        watching.watch(reader, handler)
        os.write(writer, b"x")
    watching.round(time.monotonic() + _SOON)
    assert sorted(told) == ["failed", "failed", "fine"]
    assert list(map(str, failures)) == ["a defect"] * 2


def test_what_was_told_of_a_descriptor_is_not_for_who_gets_its_number(stack: ExitStack) -> None:
    """And what there is for that one it is told in the next round."""
    watching, told = Watching(never), []
    ends = [pipe(stack) for _ in range(2)]
    fresh: list[tuple[int, int]] = []

    def hear() -> None:
        told.append("first")
        for reader, _ in ends:
            watching.forget(reader)
            os.close(reader)
        fresh.extend(pipe(stack) for _ in ends)
        for reader, writer in fresh:
            watching.watch(reader, lambda: told.append("second"))
            os.write(writer, b"x")

    for reader, writer in ends:
        watching.watch(reader, hear)
        os.write(writer, b"x")
    watching.round(time.monotonic() + _SOON)
    assert told == ["first"]
    assert {reader for reader, _ in ends} <= {fd for pair in fresh for fd in pair}, "no number was used again"
    watching.round(time.monotonic() + _SOON)
    assert told == ["first", "second", "second"]
