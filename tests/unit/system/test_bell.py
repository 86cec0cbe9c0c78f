"""A bell wakes a loop, from any thread, and never makes anybody wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from httpd.system.bell import Bell
from httpd.system.poller import make_poller

PATIENCE = 20.0


@pytest.fixture
def bell() -> Iterator[Bell]:
    made = Bell()
    yield made
    made.close()


def test_it_is_silent_until_it_is_rung(bell: Bell) -> None:
    poller = make_poller()
    poller.register(bell.fd, bell.mask)
    assert list(poller.poll(0)) == []
    bell.ring()
    assert [fd for fd, _ in poller.poll(PATIENCE)] == [bell.fd]
    poller.close()


def test_many_rings_are_heard_once_and_the_next_one_again(bell: Bell) -> None:
    poller = make_poller()
    poller.register(bell.fd, bell.mask)
    for _ in range(3):
        for _ in range(10):
            bell.ring()
        assert len(list(poller.poll(PATIENCE))) == 1
        bell.hear()
        assert list(poller.poll(0)) == []
    poller.close()


def test_ringing_never_waits(bell: Bell) -> None:
    for _ in range(100_000):  # more than a pipe holds
        bell.ring()


def test_from_another_thread(bell: Bell) -> None:
    poller = make_poller()
    poller.register(bell.fd, bell.mask)
    thread = threading.Thread(target=bell.ring)
    thread.start()
    assert [fd for fd, _ in poller.poll(PATIENCE)] == [bell.fd]
    thread.join()
    poller.close()
