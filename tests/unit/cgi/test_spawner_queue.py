"""A spawner with one slot: who waits, who has gone meanwhile, and that no slot is lost by what goes wrong."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from httpd.cgi.messages import Declined, Queued, Stop
from unit.cgi.fake_worker import End, Master, Pipes, door

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def master() -> Iterator[Master]:
    made = Master(concurrency=1, queue=3)
    yield made
    made.end()


def ends(spawner: End, number: int) -> None:
    """Hear of the end of a run, alone or among others."""
    spawner.until(lambda message: number in [end.number for end in getattr(message, "ends", [message])])


def begun(spawner: End, number: int) -> Pipes:
    """A run that has the slot until the gate is open."""
    pipes = Pipes()
    pipes.run(spawner, number, b"waits")
    assert pipes.line()
    return pipes


def waiting(spawner: End, number: int, name: bytes = b"plain") -> Pipes:
    pipes = Pipes()
    pipes.run(spawner, number, name)
    assert spawner.until(lambda message: isinstance(message, Queued)).number == number
    return pipes


def test_who_waits_has_its_turn(master: Master) -> None:
    spawner = door(master.worker(1))
    first, second = begun(spawner, 1), waiting(spawner, 2)
    (master.folder / "gate").touch()
    assert first.output() == b"waited\n"
    assert second.output().endswith(b"plain\n")
    ends(spawner, 2)


def test_one_too_many_is_refused(master: Master) -> None:
    spawner = door(master.worker(1))
    first = begun(spawner, 1)
    others = [waiting(spawner, number) for number in range(2, 6)]  # one of them without a place
    declined = spawner.until(lambda message: isinstance(message, Declined))
    assert (declined.number, declined.status, declined.reason) == (5, 503, "1 scripts run and 3 wait")
    assert others.pop().output() == b""
    (master.folder / "gate").touch()
    assert first.output() == b"waited\n"
    assert all(pipes.output().endswith(b"plain\n") for pipes in others)


def test_whose_worker_goes_is_forgotten(master: Master) -> None:
    """Those that wait, too: they would be run later, for nobody."""
    other, spawner = door(master.worker(1)), door(master.worker(1))
    pipes = [begun(other, 1), waiting(other, 2, b"waits"), waiting(other, 3, b"waits")]
    other.close()
    assert [one.output() for one in pipes] == [b"", b"", b""]
    last = Pipes()
    last.run(spawner, 4, b"plain")
    assert last.output().endswith(b"plain\n")
    ends(spawner, 4)


def test_who_is_told_to_forget_one_that_waits(master: Master) -> None:
    spawner = door(master.worker(1))
    first, second = begun(spawner, 1), waiting(spawner, 2)
    spawner.say(Stop(2))
    assert spawner.until(lambda message: isinstance(message, Declined)).number == 2
    assert second.output() == b""
    (master.folder / "gate").touch()
    assert first.output() == b"waited\n"


@pytest.mark.parametrize("queued", [False, True])
def test_a_script_that_changes_while_it_is_looked_at_costs_no_slot(master: Master, *, queued: bool) -> None:
    os.symlink("plain", master.folder / "cgi" / "vanishing")
    spawner = door(master.worker(1))
    first = begun(spawner, 1) if queued else None
    odd = Pipes()
    odd.run(spawner, 2, b"vanishing")
    if first is not None:
        (master.folder / "gate").touch()
        assert first.output() == b"waited\n"
    declined = spawner.until(lambda message: isinstance(message, Declined))
    assert (declined.number, declined.status) == (2, 500)
    assert odd.output() == b""
    last = Pipes()
    last.run(spawner, 3, b"plain")
    assert last.output().endswith(b"plain\n")
    ends(spawner, 3)
