"""When a worker asks to be replaced."""

from __future__ import annotations

import random

import pytest

from httpd.config import schema
from httpd.system import limits
from httpd.worker.age import Age


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "randrange", lambda stop: 0)


def test_without_limits_never() -> None:
    age = Age(schema.Server())
    assert age.reason(10**9, 10.0**9) == ""


def test_requests_and_once() -> None:
    age = Age(schema.Server(max_requests=100))
    assert age.reason(99, 0.0) == ""
    assert age.reason(107, 1.0) == "max_requests (107 requests)"
    assert age.reason(108, 2.0) == ""


@pytest.mark.parametrize(("most", "jitter"), [(100, 26), (4, 2), (3, 1), (1, 1)])
def test_the_jitter_is_a_quarter_at_most(monkeypatch: pytest.MonkeyPatch, most: int, jitter: int) -> None:
    asked: list[int] = []

    def last(stop: int) -> int:
        asked.append(stop)
        return stop - 1

    monkeypatch.setattr(random, "randrange", last)
    age = Age(schema.Server(max_requests=most))
    assert asked == [jitter]
    assert age.reason(most + jitter - 2, 0.0) == ""
    assert age.reason(most + jitter - 1, 0.0)


def test_memory_is_looked_at_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = [900, 1000, 1001]
    monkeypatch.setattr(limits, "private_memory", lambda pid: memory.pop(0))
    age = Age(schema.Server(max_memory=1000))
    assert [age.reason(0, now) for now in (0.0, 1.0, 9.9)] == ["", "", ""]
    assert len(memory) == 2
    assert age.reason(0, 10.0) == ""
    assert age.reason(0, 15.0) == ""
    assert age.reason(0, 20.0) == "max_memory (1001 bytes)"
    assert age.reason(0, 30.0) == ""
    assert memory == []


def test_requests_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "private_memory", lambda pid: 2000)
    age = Age(schema.Server(max_memory=1000, max_requests=1))
    assert age.reason(1, 0.0) == "max_requests (1 requests)"
