"""Who hangs: time lines of workers, each turned by the test."""

from __future__ import annotations

import pytest

from httpd.master import heartbeat
from httpd.master.children import Pulse
from httpd.master.heartbeat import Judgement
from httpd.system.usage import Usage

FINE, ASK, HUNG = Judgement.FINE, Judgement.ASK, Judgement.HUNG
PATIENCE = 20.0
BEGAN = 1000.0

# One look: seconds since the worker began to serve, what it has written by then, the judgement.
Look = tuple[float, int, Judgement]
LINES: dict[str, list[Look]] = {
    "idle and answers": [
        (4.9, 0, FINE), (5, 0, ASK), (7, 7, FINE), (11.9, 7, FINE), (12, 7, ASK), (15, 8, FINE), (20, 8, ASK),
    ],
    "never says a word": [(5, 0, ASK), (10, 0, FINE), (20, 0, FINE), (24.9, 0, FINE), (25, 0, HUNG), (30, 0, HUNG)],
    "always busy": [(5, 1, FINE), (10, 2, FINE), (15, 3, FINE), (500, 4, FINE), (1000, 5, FINE)],
    "answers in the last moment": [(5, 0, ASK), (24.9, 0, FINE), (25, 1, FINE), (29.9, 1, FINE), (30, 1, ASK)],
    "hangs after a busy life": [(5, 1, FINE), (10, 2, FINE), (15, 2, ASK), (34.9, 2, FINE), (35, 2, HUNG)],
    "looked at late": [(300, 0, ASK), (310, 0, FINE), (320, 0, HUNG)],
    "a beat that goes back is a beat": [(5, 9, FINE), (9, 3, FINE), (13.9, 3, FINE), (14, 3, ASK), (30, 0, FINE)],
    "hung, but it does wake up": [(5, 0, ASK), (25, 0, HUNG), (26, 1, FINE), (31, 1, ASK)],
}  # fmt: skip


def serving(at: float = BEGAN) -> Pulse:
    pulse = Pulse()
    heartbeat.forgive(pulse, at)
    return pulse


def look(pulse: Pulse, at: float, beat: int, patience: float = PATIENCE, usage: Usage | None = None) -> Judgement:
    """As the watch does."""
    judgement = heartbeat.judge(pulse, beat, at, patience)
    if judgement is ASK:
        heartbeat.asked(pulse, at, usage)
    return judgement


@pytest.mark.parametrize("line", LINES.values(), ids=LINES.keys())
def test_time_lines(line: list[Look]) -> None:
    pulse = serving()
    assert [look(pulse, BEGAN + at, beat) for at, beat, _ in line] == [judgement for _, _, judgement in line]


@pytest.mark.parametrize("patience", [0.2, 1.0, 30.0, 3600.0])
@pytest.mark.parametrize("offset", [0.0, 0.01, 0.13, 0.24])
def test_a_question_may_be_left_unanswered_for_that_long(patience: float, offset: float) -> None:
    """With a look every quarter of it, from whenever: never sooner, and found in one and a half times it at most."""
    pulse, step = serving(), patience / heartbeat.LOOKS
    at = BEGAN + offset * patience
    while look(pulse, at, 0, patience) is not HUNG:
        at += step
        assert at < BEGAN + 10 * patience
    slack = 1e-9 * BEGAN
    assert pulse.asked + patience - slack <= at <= BEGAN + 1.5 * patience + 2 * step + slack
    assert pulse.asked >= BEGAN + step - slack


def test_a_worker_that_was_never_seen_is_not_to_blame() -> None:
    """`seen` is 0 before the first look: whatever the clock shows, that look begins the count."""
    pulse = Pulse()
    assert look(pulse, BEGAN, 0) is FINE
    assert look(pulse, BEGAN + PATIENCE / 4, 0) is ASK


def test_when_the_master_stalls_nobody_is_to_blame() -> None:
    pulse = serving()
    assert look(pulse, BEGAN + 10, 0) is ASK
    heartbeat.forgive(pulse, BEGAN + 100)  # it was stopped from 11 to 100
    line = [(100, FINE), (104.9, FINE), (105, ASK), (124.9, FINE), (125, HUNG)]
    assert [look(pulse, BEGAN + at, 0) for at, _ in line] == [judgement for _, judgement in line]


# Starvation: what the kernel tells of the processor, between the question and the judgement


@pytest.mark.parametrize(
    ("before", "after", "starved"),
    [
        (Usage(5, 1), Usage(5.0, 9.0), True),  # 8 of 10 seconds in the queue for a processor
        (Usage(5, 1), Usage(5.9, 3.6), True),  # a quarter of the time, and it ran for a tenth at most
        (Usage(5, 1), Usage(5.0, 3.5), False),  # not more than a quarter
        (Usage(5, 1), Usage(6.0, 9.0), False),  # it ran: it had its chance
        (Usage(5, 1), Usage(15.0, 1.0), False),  # an endless loop
        (Usage(5, 1), Usage(5.0, 1.0), False),  # it sleeps, on a lock or a disk
        (None, Usage(5.0, 9.0), False),  # the kernel does not tell
        (Usage(5, 1), None, False),
    ],
)
def test_starved(before: Usage | None, after: Usage | None, starved: bool) -> None:
    pulse = serving()
    heartbeat.asked(pulse, BEGAN + 10, before)
    assert heartbeat.starved(pulse, after, BEGAN + 20) is starved


def test_who_starves_is_asked_again_and_again() -> None:
    pulse = serving()
    waited = 0.0
    assert look(pulse, BEGAN + 10, 0, usage=Usage(1.0, waited)) is ASK
    for at in (30, 50, 70, 90):
        waited += 18.0
        usage = Usage(1.0, waited)
        assert heartbeat.judge(pulse, 0, BEGAN + at, PATIENCE) is HUNG
        assert heartbeat.starved(pulse, usage, BEGAN + at)
        heartbeat.asked(pulse, BEGAN + at, usage)
        assert heartbeat.judge(pulse, 0, BEGAN + at + 5, PATIENCE) is FINE
    assert heartbeat.judge(pulse, 0, BEGAN + 110, PATIENCE) is HUNG
    assert not heartbeat.starved(pulse, Usage(19.0, waited), BEGAN + 110)  # it ran, and is silent all the same
