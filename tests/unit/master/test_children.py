"""The state table of workers, deadlines, and the pause before a slot is filled again."""

from __future__ import annotations

import itertools
import socket

import pytest

from httpd.master import children
from httpd.master.children import (
    FIRST_PAUSE,
    GRACE_SECONDS,
    IN_OFFICE,
    KILL_SECONDS,
    LONG_LIFE,
    LONGEST_PAUSE,
    TABLE,
    WATCHED,
    Action,
    Child,
    Event,
    Slot,
    State,
)

NEVER = float("inf")
NOW, DRAIN = 1000.0, 30.0

# What every event does in every state: the table written down a second time, as sentences about a worker.
EXPECTED = {
    State.STARTING: {
        Event.READY: (State.SERVING, Action.WELCOME),
        Event.FAILED: (State.STOPPING, Action.NONE),
        Event.STAND_BY: (State.STOPPING, Action.SEND_STOP),  # it has no client to stand by for
        Event.DRAIN: (State.DRAINING, Action.SEND_DRAIN),
        Event.STOP: (State.STOPPING, Action.SEND_STOP),
        Event.DEADLINE: (State.ABORTED, Action.ABORT),
    },
    State.SERVING: {
        Event.STAND_BY: (State.STANDBY, Action.SEND_STANDBY),
        Event.DRAIN: (State.DRAINING, Action.SEND_DRAIN),
        Event.STOP: (State.STOPPING, Action.SEND_STOP),
        Event.HUNG: (State.ABORTED, Action.ABORT),
    },
    State.STANDBY: {
        Event.RESUME: (State.SERVING, Action.SEND_RESUME),
        Event.DRAIN: (State.DRAINING, Action.SEND_DRAIN),
        Event.STOP: (State.STOPPING, Action.SEND_STOP),
        Event.HUNG: (State.ABORTED, Action.ABORT),
    },
    State.DRAINING: {
        Event.STOP: (State.STOPPING, Action.SEND_STOP),
        Event.DEADLINE: (State.STOPPING, Action.SEND_STOP),
    },
    State.STOPPING: {Event.DEADLINE: (State.KILLED, Action.KILL)},
    State.ABORTED: {Event.DEADLINE: (State.KILLED, Action.KILL)},
    State.KILLED: {Event.DEADLINE: (State.KILLED, Action.KILL)},
    State.GONE: {},
}
SECONDS = {
    State.SERVING: NEVER,
    State.STANDBY: NEVER,
    State.DRAINING: DRAIN + GRACE_SECONDS,
    State.STOPPING: GRACE_SECONDS,
    State.ABORTED: GRACE_SECONDS,
    State.KILLED: KILL_SECONDS,
    State.GONE: NEVER,
}


def child_in(state: State) -> Child:
    with socket.socket() as channel:
        return Child(1, None, channel, -1, 0, 1, 0.0, state, deadline=1234.0)


@pytest.mark.parametrize(("state", "event"), list(itertools.product(State, Event)))
def test_every_event_in_every_state(state: State, event: Event) -> None:
    expected = EXPECTED[state].get(event)
    if event is Event.EXIT and state is not State.GONE:
        expected = (State.GONE, Action.BURY)
    child = child_in(state)
    action = child.apply(event, NOW, DRAIN)
    if expected is None:
        assert (child.state, action, child.deadline) == (state, Action.NONE, 1234.0)
    else:
        assert (child.state, action) == expected
        assert child.deadline == NOW + SECONDS[child.state]


@pytest.mark.parametrize("state", [state for state in State if SECONDS.get(state) != NEVER])
def test_a_state_with_a_deadline_has_a_way_out_of_it(state: State) -> None:
    _, action = TABLE[state, Event.DEADLINE]
    assert action in (Action.KILL, Action.ABORT, Action.SEND_STOP)


def test_the_old_workers_come_back() -> None:
    """What stands by loses nothing: told to serve again it is as it was, without a deadline."""
    child = child_in(State.SERVING)
    child.apply(Event.STAND_BY, NOW, DRAIN)
    assert child.apply(Event.RESUME, NOW + 2, DRAIN) is Action.SEND_RESUME
    assert (child.state, child.deadline) == (State.SERVING, NEVER)


@pytest.mark.parametrize("told", [Event.DRAIN, Event.STOP, Event.HUNG])
def test_who_was_told_to_go_does_not_come_back(told: Event) -> None:
    child = child_in(State.SERVING)
    child.apply(told, NOW, DRAIN)
    before = child.state
    assert child.apply(Event.RESUME, NOW, DRAIN) is Action.NONE
    assert child.apply(Event.STAND_BY, NOW, DRAIN) is Action.NONE
    assert child.state is before


def test_only_those_in_office_are_watched_and_only_who_serves_or_stands_by() -> None:
    """A worker that starts has a deadline of its own; one that drains may take its time for the last requests."""
    assert {State.SERVING, State.STANDBY} == WATCHED
    assert WATCHED | {State.STARTING} == IN_OFFICE
    assert all((state, Event.HUNG) in TABLE for state in WATCHED)


@pytest.mark.parametrize("state", [state for state in State if state is not State.GONE])
@pytest.mark.parametrize("first", [Event.DRAIN, Event.STOP, Event.FAILED, Event.STAND_BY, Event.HUNG, None])
def test_a_worker_that_does_nothing_is_killed_in_the_end(state: State, first: Event | None) -> None:
    """Whatever it was doing, and however often it is told to drain meanwhile."""
    child = child_in(state)
    child.apply(first or Event.DRAIN, NOW, DRAIN)
    now, actions = NOW, []
    while Action.KILL not in actions:
        if child.state in WATCHED:  # there it may stay
            child.apply(Event.DRAIN, now, DRAIN)
        assert child.deadline < NEVER
        child.apply(Event.DRAIN, (now + child.deadline) / 2, DRAIN)
        now = child.deadline
        actions.append(child.apply(Event.DEADLINE, now, DRAIN))
    assert len(actions) <= 3
    assert child.state is State.KILLED
    assert child.apply(Event.DEADLINE, child.deadline, DRAIN) is Action.KILL


def test_ready_after_the_order_to_drain_changes_nothing() -> None:
    """The two cross each other on the channel."""
    child = child_in(State.STARTING)
    child.apply(Event.DRAIN, NOW, DRAIN)
    assert child.apply(Event.READY, NOW + 1, DRAIN) is Action.NONE
    assert child.deadline == NOW + DRAIN + GRACE_SECONDS


def test_children_are_told_apart() -> None:
    """By identity: two may have the same pid one after the other."""
    assert child_in(State.GONE) != child_in(State.GONE)


# The pause


def died_often(times: int, lived: float = 0.0, jitter: float = 0.5) -> list[float]:
    slot = Slot(0)
    return [slot.died(NOW, lived, jitter) for _ in range(times)]


def test_the_pause_doubles_up_to_its_limit() -> None:
    pauses = died_often(12)
    assert pauses[:5] == pytest.approx([FIRST_PAUSE * 2**n for n in range(5)])
    assert pauses[8] == pytest.approx(FIRST_PAUSE * 256)
    assert pauses[9:] == pytest.approx([LONGEST_PAUSE] * 3)


def test_no_overflow_after_years() -> None:
    slot = Slot(0, deaths=10**9)
    assert slot.died(NOW, 0.0, 0.5) == LONGEST_PAUSE


@pytest.mark.parametrize(("jitter", "factor"), [(0.0, 0.75), (0.5, 1.0), (1.0, 1.25)])
def test_jitter_spreads_by_a_quarter(jitter: float, factor: float) -> None:
    assert died_often(2, jitter=jitter) == pytest.approx([FIRST_PAUSE * factor, 2 * FIRST_PAUSE * factor])


def test_next_start() -> None:
    slot = Slot(0)
    pause = slot.died(NOW, 0.0, 0.3)
    assert slot.next_start == NOW + pause
    assert slot.deaths == 1


def test_the_first_death_of_a_worker_that_was_well_costs_no_pause() -> None:
    slot = Slot(0)
    assert slot.died(NOW, 1.0, 0.9) == 0.0
    assert slot.next_start == NOW
    assert slot.died(NOW, 1.0, 0.5) == pytest.approx(2 * FIRST_PAUSE)


def test_a_death_within_a_second_costs_a_pause_at_once() -> None:
    assert Slot(0).died(NOW, 0.999, 0.5) == pytest.approx(FIRST_PAUSE)


@pytest.mark.parametrize("lived", [LONG_LIFE, LONG_LIFE * 100])
def test_a_long_life_resets(lived: float) -> None:
    slot = Slot(0)
    for _ in range(10):
        slot.died(NOW, 0.0, 0.5)
    assert slot.died(NOW, lived, 0.5) == 0.0
    assert slot.deaths == 1
    assert slot.died(NOW, 0.0, 0.5) == pytest.approx(2 * FIRST_PAUSE)


def test_a_life_that_is_not_long_does_not() -> None:
    slot = Slot(0)
    for _ in range(10):
        slot.died(NOW, 0.0, 0.5)
    assert slot.died(NOW, LONG_LIFE - 0.001, 0.5) == pytest.approx(LONGEST_PAUSE)


def test_jitter_is_in_its_range() -> None:
    numbers = {children.jitter() for _ in range(100)}
    assert len(numbers) > 90
    assert all(0 <= number < 1 for number in numbers)
