"""Who waits for a slot, who has no place and when it is refused."""

from __future__ import annotations

from typing import Any

from httpd.cgi.jobs import Job
from httpd.cgi.waiting import Waiting
from httpd.system.slots import Slots

MOMENT = 0.5  # seconds


def job() -> Job:
    nobody: Any = None
    return Job(nobody, nobody, [])


def test_first_come_first_served() -> None:
    waiting = Waiting(Slots(2), 1)
    jobs = [job() for _ in range(3)]
    assert all(waiting.add(one, 0.0) for one in jobs)
    assert [waiting.next() for _ in range(3)] == jobs
    assert not waiting


def test_places_are_given_back() -> None:
    places = Slots(1)
    waiting = Waiting(places, 1)
    first, second = job(), job()
    for one in (first, second):
        assert waiting.add(one, 0.0)
        assert not places.take()
        assert one in waiting
        waiting.remove(one)
    assert places.take()


def test_without_a_place_it_is_refused_in_a_moment() -> None:
    waiting = Waiting(Slots(0), 2)
    early, later = job(), job()
    assert waiting.due == float("inf")
    assert waiting.add(early, 10.0)
    assert waiting.add(later, 10.25)
    assert waiting.due == 10.0 + MOMENT
    assert waiting.late(10.0 + MOMENT / 2) == []
    assert waiting.late(10.0 + MOMENT) == [early]
    assert list(waiting._jobs) == [later]
    assert waiting.due == 10.25 + MOMENT
    assert waiting.next() is later
    assert waiting.due == float("inf")


def test_no_more_are_kept_for_a_moment_than_there_are_slots() -> None:
    waiting = Waiting(Slots(0), 2)
    kept = [job() for _ in range(2)]
    assert all(waiting.add(one, 0.0) for one in kept)
    assert not waiting.add(job(), 0.0)
    assert waiting.late(1.0) == kept
    assert waiting.add(job(), 1.0)


def test_a_place_that_gets_free_is_the_oldest_s_who_has_none() -> None:
    places = Slots(1)
    waiting = Waiting(places, 2)
    placed, without, later = job(), job(), job()
    for one in (placed, without, later):
        assert waiting.add(one, 0.0)
    assert waiting.next() is placed
    assert not places.take()
    assert waiting.late(1.0) == [later]
    assert waiting.next() is without
    assert places.take()


def test_a_place_that_another_spawner_has_given_back_is_taken() -> None:
    places = Slots(0)
    waiting = Waiting(places, 1)
    without = job()
    assert waiting.add(without, 0.0)
    places.give()
    assert waiting.late(1.0) == []
    assert without in waiting
    assert not places.take()
