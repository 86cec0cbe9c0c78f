"""A wish for a short time slice: taken where there is one to take, and nowhere a reason to fail."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from httpd.system import scheduling

linux = pytest.mark.skipif(sys.platform != "linux", reason="the call is Linux's")


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    scheduling._setter.cache_clear()
    yield
    scheduling._setter.cache_clear()


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Who was asked for: (policy, runtime in nanoseconds)."""
    found: list[tuple[int, int]] = []

    def call(thread: int, attributes: Any, flags: int) -> int:
        given = attributes._obj
        assert (thread, flags, given.size) == (0, 0, ctypes.sizeof(given))
        assert given.nice == os.getpriority(os.PRIO_PROCESS, 0)
        assert (given.flags, given.priority, given.deadline, given.period) == (0, 0, 0, 0)
        found.append((given.policy, given.runtime))
        return 0

    monkeypatch.setattr(scheduling, "_setter", lambda: call)
    return found


def test_the_structure_is_the_kernel_s() -> None:
    """struct sched_attr, version 0."""
    assert ctypes.sizeof(scheduling._Attributes) == 48
    assert scheduling._Attributes.runtime.offset == 24


@linux
def test_a_short_slice_and_back(asked: list[tuple[int, int]]) -> None:
    if os.sched_getscheduler(0) != os.SCHED_OTHER:
        pytest.skip("these tests run with another policy")
    scheduling.be_prompt()
    scheduling.be_prompt(prompt=False)
    assert asked == [(os.SCHED_OTHER, 100_000), (os.SCHED_OTHER, 0)]


@linux
def test_another_policy_is_left_alone(asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch) -> None:
    for policy in (os.SCHED_BATCH, os.SCHED_IDLE, os.SCHED_FIFO, os.SCHED_RR):
        monkeypatch.setattr(os, "sched_getscheduler", lambda pid, policy=policy: policy)
        scheduling.be_prompt()
    assert asked == []


@pytest.mark.parametrize(("system", "machine"), [("darwin", "arm64"), ("linux", "of another kind")])
def test_elsewhere_nothing_is_done(monkeypatch: pytest.MonkeyPatch, system: str, machine: str) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert scheduling._setter() is None
    scheduling.be_prompt()


def test_without_a_c_library_nothing_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: object, **options: object) -> None:
        raise OSError("no such library")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    scheduling.be_prompt()


@linux
def test_the_kernel_is_asked_in_earnest(in_child: Any) -> None:
    """Whatever it says, the thread goes on with its policy and its nice value."""

    def look() -> list[object]:
        before = [os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)]
        scheduling.be_prompt()
        after = [os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)]
        scheduling.be_prompt(prompt=False)
        return [before == after, scheduling._setter() is not None]

    assert in_child(look) == [True, platform.machine() in scheduling._CALLS]
