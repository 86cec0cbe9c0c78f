"""How a worker is made: what it gets, and what is left when it can't be made."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from httpd.logs.errors import ErrorLog
from httpd.master import spawning as module
from httpd.master.generations import Generation
from httpd.master.launching import Launching
from httpd.master.spawning import Spawner, last_words, release
from httpd.system import pairs
from httpd.system.poller import Poller
from httpd.worker.process import Order
from machine import descriptors
from unit.master.fakes import nothing_left_open

MakeGeneration = Callable[..., Generation]


@pytest.fixture(autouse=True)
def nothing_open() -> Iterator[None]:
    with nothing_left_open():
        yield


def spawner(before_work: Callable[[], None] = lambda: None) -> Spawner:
    """No generation here has scripts: the launching is asked, and has nothing to give."""
    launching = Launching(cast(Poller, None), {}, ErrorLog(lambda line: None, "info", "test"), lambda: None)
    return Spawner(-1, before_work, launching, detached=False)


def test_a_worker(make_generation: MakeGeneration, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is forked with all signals held back; it has a channel and a pipe, and a time until which it must be ready."""

    def work(order: Order) -> None:
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        held = signal.SIGTERM in blocked and signal.SIGCHLD in blocked
        pairs.send(order.channel, {"event": "test", "held": held, "slot": order.slot, "board": order.board})
        os.write(order.dump, b"one\ntwo\n")
        os._exit(3)

    monkeypatch.setattr(module, "work", work)
    generation = make_generation(5, slots=2)
    child = spawner().spawn(generation, generation.slots[1], 1000.0)
    _, status = os.waitpid(child.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 3
    assert (child.slot, child.generation, child.started, child.deadline) == (1, 5, 1000.0, 1030.0)
    assert pairs.receive(child.channel) == ({"event": "test", "held": True, "slot": 1, "board": 0}, [])
    assert pairs.receive(child.channel) is pairs.EOF
    assert last_words(child) == "one\ntwo"
    assert last_words(child) == ""
    assert generation.boards == [1, 2, 3]
    release(child)


def test_a_worker_has_nothing_to_say_yet(make_generation: MakeGeneration, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked while it lives, which must not block."""

    def work(order: Order) -> None:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM,))
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        while True:
            signal.pause()

    monkeypatch.setattr(module, "work", work)
    generation = make_generation()
    child = spawner().spawn(generation, generation.slots[0], 0.0)
    assert last_words(child) == ""
    os.kill(child.pid, signal.SIGKILL)
    os.waitpid(child.pid, 0)
    release(child)


@pytest.mark.parametrize("where", ["pairs.control_pair", "os.pipe", "os.fork"])
def test_what_fails_leaves_nothing(make_generation: MakeGeneration, monkeypatch: pytest.MonkeyPatch,
                                   where: str) -> None:  # fmt: skip
    def refuse() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    generation = make_generation(slots=2)
    before, blocked = descriptors(), signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with monkeypatch.context() as patch:
        patch.setattr(f"httpd.master.spawning.{where}", refuse)
        with pytest.raises(OSError, match=os.strerror(errno.EMFILE)):
            spawner().spawn(generation, generation.slots[0], 0.0)
    assert descriptors() == before
    assert sorted(generation.boards) == [0, 1, 2, 3]
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == blocked
