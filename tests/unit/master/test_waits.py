"""Callers who wait: when each is answered, and by what."""

from __future__ import annotations

import time

import pytest

from httpd.control.wire import DONE, REFUSED, ROLLED_BACK, TIMED_OUT, Outcome
from httpd.master.waits import Waits


@pytest.mark.parametrize("code", [DONE, ROLLED_BACK])
def test_a_change_is_told_when_all_are_ready(code: int) -> None:
    waits, told, ready = Waits(), list[Outcome](), list[bool]()
    waits.behind(told.append, lambda: bool(ready))(Outcome(code, "text"))
    waits.answer(time.monotonic())
    assert not told
    ready.append(True)
    waits.answer(time.monotonic())
    assert told == [Outcome(code, "text")]
    assert waits.deadline == float("inf")


def test_a_change_is_told_in_the_end() -> None:
    waits, told = Waits(), list[Outcome]()
    waits.behind(told.append, lambda: False, seconds=0.0)(Outcome(DONE, "text"))
    waits.answer(time.monotonic())
    assert told == [Outcome(DONE, "text")]


def test_what_has_changed_nothing_is_told_at_once() -> None:
    told: list[Outcome] = []
    Waits().behind(told.append, lambda: False)(Outcome(REFUSED, "why not"))
    assert told == [Outcome(REFUSED, "why not")]


def test_who_waits_for_too_long_is_told_that() -> None:
    waits, told = Waits(), list[Outcome]()
    waits.add(lambda: None, told.append, 10.0)
    assert waits.deadline == 10.0
    waits.answer(9.0)
    assert not told
    waits.answer(10.0)
    assert [outcome.code for outcome in told] == [TIMED_OUT]
