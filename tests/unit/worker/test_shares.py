"""Whose turn it is to take a connection."""

from __future__ import annotations

import select
import sys
from collections.abc import Iterator

import pytest

from httpd.worker.shares import _ALONE, _PATIENCE, Share, Shares

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="nobody is waited for")


@pytest.fixture
def shares() -> Iterator[Shares]:
    made = Shares(3)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("mine", "others", "ahead"),
    [
        (0, [0, 0], False), (2, [0, 0], False), (3, [0, 0], True), (3, [1, 0], True), (3, [1, 1], False),
        (100, [96, 300], False), (105, [96, 300], True), (1, [], False), (1000, [], False),
    ],
)  # fmt: skip
def test_ahead(shares: Shares, mine: int, others: list[int], ahead: bool) -> None:
    shares.note(0, mine)
    for place, count in enumerate(others, 1):
        shares.note(place, count)
    assert shares.ahead(mine) is ahead


def test_who_has_left_is_not_waited_for(shares: Shares) -> None:
    shares.note(1, 0)
    assert shares.ahead(50)
    shares.leave(1)
    assert not shares.ahead(50)


def test_places_that_are_not_there(shares: Shares) -> None:
    shares.note(3, 7)
    shares.leave(3)
    assert not shares.ahead(50)


def test_everybody_hears_the_bell_each_time_it_rings(shares: Shares) -> None:
    with select.epoll() as one, select.epoll() as other:
        for poller in (one, other):
            poller.register(shares.bell, select.EPOLLIN | select.EPOLLET)
            assert poller.poll(0) == []
        for _ in range(3):
            shares.ring()
            assert [event[0] for event in one.poll(0) + other.poll(0)] == [shares.bell] * 2
            assert one.poll(0) + other.poll(0) == []


def test_others_are_called_a_few_times_and_then_left_alone_for_a_while(shares: Shares) -> None:
    share = Share(shares, 0)
    assert share.alone(2)
    shares.note(1, 0)
    assert not share.alone(2)
    assert not share.others_turn(2, 1.0)
    assert [share.others_turn(9, 1.0) for _ in range(_PATIENCE + 2)] == [True] * _PATIENCE + [False, False]
    assert not share.others_turn(9, 1.0 + _ALONE - 0.001)
    assert share.others_turn(9, 1.0 + _ALONE)


def test_who_answers_the_call_is_called_again(shares: Shares) -> None:
    share = Share(shares, 0)
    shares.note(1, 0)
    for _ in range(3 * _PATIENCE):
        assert share.others_turn(9, 1.0)
        shares.note(1, 8)
        assert not share.others_turn(9, 1.0)
        shares.note(1, 0)


def test_without_a_bell(shares: Shares) -> None:
    shares.note(1, 0)
    shares.close()
    shares.close()
    assert not Share(shares, 0).others_turn(9, 1.0)
