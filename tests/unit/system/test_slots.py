"""Slots that several processes count together."""

from __future__ import annotations

import os
import select
from collections.abc import Callable, Iterator

import pytest

from httpd.system.slots import SHARED, Slots
from machine import descriptors

shared = pytest.mark.skipif(not SHARED, reason="processes can't count together without eventfd")


@pytest.fixture(params=["shared", "alone"])
def make(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Slots]]:
    """Slots as the system has them, and as they are where there is no eventfd."""
    if request.param == "alone":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not SHARED:
        pytest.skip("no eventfd")
    made: list[Slots] = []

    def slots(count: int) -> Slots:
        made.append(Slots(count))
        return made[-1]

    yield slots
    for item in made:
        item.close()


def test_so_many_and_no_more(make: Callable[[int], Slots]) -> None:
    slots = make(2)
    assert [slots.take() for _ in range(4)] == [True, True, False, False]
    slots.give()
    assert [slots.take() for _ in range(2)] == [True, False]


def test_none(make: Callable[[int], Slots]) -> None:
    slots = make(0)
    assert not slots.take()
    slots.give()
    assert slots.take()


def test_many(make: Callable[[int], Slots]) -> None:
    slots = make(10_000)
    assert sum(slots.take() for _ in range(10_001)) == 10_000


def test_closed_once_or_twice(make: Callable[[int], Slots]) -> None:
    before = descriptors()
    slots = Slots(1)
    slots.close()
    slots.close()
    assert descriptors() == before


def child(work: Callable[[], int]) -> int:
    """What a forked process gives back, a small number."""
    pid = os.fork()
    if pid == 0:
        code = 255
        try:
            code = work()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@shared
def test_what_one_process_has_taken_another_has_not() -> None:
    slots = Slots(3)
    assert slots.take()
    assert child(lambda: sum(slots.take() for _ in range(5))) == 2
    assert not slots.take()  # the process is gone, and what it had with it
    assert child(lambda: slots.give() or 0) == 0  # type: ignore[func-returns-value]
    assert slots.take()
    slots.close()


@shared
def test_several_at_once_never_have_more() -> None:
    """Every process takes what it can get: together it is exactly what there was."""
    count, processes = 500, 4
    slots = Slots(count)
    reading, writing = os.pipe()
    pids = []
    for _ in range(processes):
        pid = os.fork()
        if pid == 0:
            try:
                taken = 0
                while slots.take():
                    taken += 1
                os.write(writing, b"%d\n" % taken)
            finally:
                os._exit(0)
        pids.append(pid)
    for pid in pids:
        os.waitpid(pid, 0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        counts = [int(line) for line in pipe]
    assert len(counts) == processes
    assert sum(counts) == count
    slots.close()


@shared
def test_a_slot_that_becomes_free_can_be_waited_for() -> None:
    slots = Slots(1)
    poller = select.poll()
    poller.register(slots.fd, select.POLLIN)
    assert poller.poll(0)
    assert slots.take()
    assert not poller.poll(0)
    assert child(lambda: slots.give() or 0) == 0  # type: ignore[func-returns-value]
    assert poller.poll(10_000)
    slots.close()


@shared
def test_no_program_inherits_it() -> None:
    slots = Slots(1)
    assert not os.get_inheritable(slots.fd)
    slots.close()
