"""The time behind a reload: who accepts, what stays open, what brings the old generation back."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from httpd.master.children import State
from httpd.master.generations import Generation, Stage
from httpd.master.probation import Probation
from httpd.master.resizing import resize
from unit.master.fake_server import Server, free_port, is_open, make_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with make_server(monkeypatch) as server:
        yield server


def reloaded(server: Server, *, workers: int = 2) -> tuple[Generation, Generation, list[str]]:
    """Two generations that share one port, each with one of its own; the last is the text of the old one's."""
    stays, goes, comes = free_port(), free_port(), free_port()
    old = server.start(server.verdict(goes, stays))
    new = server.reload(server.verdict(stays, comes, workers=workers))
    return old, new, [f"127.0.0.1:{goes}"]


def test_the_old_generation_stands_by(server: Server) -> None:
    """It accepts where the new one does not listen, and only there."""
    old, new, gone = reloaded(server)
    assert (old.stage, new.stage) == (Stage.STANDBY, Stage.ACTIVE)
    assert server.states(old) == {State.STANDBY}
    assert [worker.told() for worker in server.of(old)] == [[{"do": "standby", "keep": gone}]] * 2
    assert all(is_open(listener) for generation in (old, new) for listener in generation.listeners)


def test_settled(server: Server) -> None:
    """What is given up is closed here first: then the workers are the last who can empty its queue."""
    old, new, gone = reloaded(server)
    for worker in server.of(old):
        worker.told()
    server.after(2.9)
    assert old.stage is Stage.STANDBY
    server.after(0.1)
    assert (old.stage, new.stage) == (Stage.DRAINING, Stage.ACTIVE)
    assert [is_open(listener) for listener in old.listeners] == [False, True]
    assert all(map(is_open, new.listeners))
    for worker in server.of(old):
        (order,) = worker.told()
        assert (order["do"], order["empty"]) == ("drain", gone)
        worker.end(0)
    assert server.crew.generations == [new]


def test_no_probation(server: Server) -> None:
    port = free_port()
    old = server.start(server.verdict(port))
    server.reload(server.verdict(port, probation=0.0))
    assert old.stage is Stage.DRAINING
    assert [[order["do"] for order in worker.told()] for worker in server.of(old)] == [["drain"]] * 2


@pytest.mark.parametrize(
    ("code", "number"), [(1, None), (0, None), (70, None), (None, signal.SIGSEGV), (None, signal.SIGABRT)]
)
def test_one_crash_is_enough(server: Server, code: int | None, number: signal.Signals | None) -> None:
    old, new, _ = reloaded(server, workers=3)
    for worker in server.of(old):
        worker.told()
    lost, *others = server.of(new)
    lost.end(code, number)
    assert server.active is old
    assert (old.stage, new.stage) == (Stage.ACTIVE, Stage.DRAINING)
    assert server.states(old) == {State.SERVING}
    assert [worker.told() for worker in server.of(old)] == [[{"do": "resume"}]] * 2
    assert [is_open(listener) for listener in new.listeners] == [True, False]
    assert all(map(is_open, old.listeners))
    for worker in others:  # they finish what they have, and empty what only they listened on
        (order,) = worker.told()
        assert (order["do"], order["empty"]) == ("drain", [new.listeners[1].address.text])
        worker.end(0)
    server.after(60)
    assert server.crew.generations == [old]
    assert old.serving() == 2


def test_a_worker_that_hangs_is_a_crash(server: Server) -> None:
    port = free_port()
    old = server.start(server.verdict(port))
    new = server.reload(server.verdict(port, heartbeat=1.0))
    (hanging, other) = server.of(new)
    hanging.wake()
    for _ in range(16):
        other.beat()
        server.after(0.1)
    assert hanging.child.state is State.ABORTED
    hanging.end(number=signal.SIGABRT)
    assert server.active is old


def test_what_is_killed_from_outside_does_not_count_at_first(server: Server) -> None:
    """An operator, or the kernel for want of memory; when as many as there are places were killed it is the latter."""
    old, new, _ = reloaded(server, workers=3)
    for _ in range(2):
        server.of(new)[-1].end(number=signal.SIGKILL)
        server.after(0.5)
        server.all_ready()
        assert server.active is new
    server.of(new)[-1].end(number=signal.SIGKILL)
    assert server.active is old


def test_workers_that_were_told_to_go_do_not_count(server: Server) -> None:
    """Fewer workers by order, and worn out ones that make room, are no sign of a bad configuration."""
    old, new, _ = reloaded(server, workers=3)
    for child in resize(server.crew, new, 1):
        next(worker for worker in server.workers if worker.child is child).end(0)
    (tired,) = server.of(new)
    tired.say("recycle", reason="max_requests")
    server.all_ready()
    tired.end(0)
    (told,) = server.of(new)
    told.say("leaving")
    server.all_ready()
    told.end(0)
    assert server.active is new
    server.after(3)
    assert old.stage is Stage.DRAINING


def test_a_crash_behind_it_is_only_a_crash(server: Server) -> None:
    old, new, _ = reloaded(server)
    server.after(3)
    server.of(new)[0].end(number=signal.SIGSEGV)
    server.all_ready()
    assert server.active is new
    assert old.stage is Stage.DRAINING


def test_what_happens_to_the_old_ones_meanwhile_undoes_nothing(server: Server) -> None:
    """Who stands by may crash; back in office the place is filled again."""
    old, new, _ = reloaded(server)
    for worker in server.of(old):
        worker.end(number=signal.SIGSEGV)
    assert server.active is new
    server.of(new)[0].end(1)
    assert server.active is old
    server.after(1)
    server.all_ready()
    assert old.serving() == 2


def test_a_generation_with_nobody_left_serves_again(server: Server) -> None:
    """Its descriptors are not given up as long as it may be called back."""
    old, new, _ = reloaded(server)
    for worker in server.of(old):
        worker.end(number=signal.SIGKILL)
    server.after(2)
    assert old in server.crew.generations
    server.of(new)[0].end(1)
    server.after(1)
    server.all_ready()
    assert old.serving() == 2


def test_the_same_probation_ends_once(server: Server) -> None:
    old, new, gone = reloaded(server)
    probation = Probation(server.crew, old, new, 0.0)
    assert [listener.address.text for listener in probation.given_up] == gone
    assert probation.failed(crashed=False) is False
    assert probation.failed(crashed=False) is True
    assert probation.failed(crashed=True) is True
