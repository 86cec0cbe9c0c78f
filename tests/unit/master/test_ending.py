"""The ways in which a server ends, and who is answered when."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from httpd.control.wire import DONE, REFUSED, Outcome
from httpd.master.children import State
from httpd.master.generations import Stage
from httpd.worker.checker import Verdict
from unit.master.fake_server import Server, free_port, is_open, make_server


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with make_server(monkeypatch) as server:
        yield server


def orders(server: Server) -> list[tuple[object, object]]:
    """What each worker was told last: the order, and which queues it has to empty."""
    found = []
    for worker in server.workers:
        *_, last = worker.told() or [{}]
        found.append((last.get("do"), last.get("empty")))
    return found


def end_all(server: Server) -> None:
    for worker in list(server.workers):
        worker.end(0)


def stop(server: Server, *, now: bool = False) -> list[Outcome]:
    outcomes: list[Outcome] = []
    server.ending.stop(now=now, reply=outcomes.append)
    server.turn()
    return outcomes


STOPPED = Outcome(DONE, "stopped", {"pid": os.getpid(), "run_dir": "/run/x"})


def test_stop(server: Server) -> None:
    """The listeners go here first: then the workers are the last who can empty the queues."""
    generation = server.start(server.verdict(free_port(), free_port()))
    names = [listener.address.text for listener in generation.listeners]
    outcomes = stop(server)
    assert not any(map(is_open, generation.listeners))
    assert orders(server) == [("drain", names)] * 2
    assert (outcomes, server.ending.over) == ([], False)
    server.workers[0].end(0)
    assert not server.ending.over
    server.workers[0].end(0)
    assert server.ending.over
    assert outcomes == [STOPPED]
    assert server.ending.handed_on == []
    server.after(60)
    assert server.workers == []  # nobody is started any more


def test_stop_now(server: Server) -> None:
    generation = server.start(server.verdict(free_port()))
    outcomes = stop(server, now=True)
    assert not any(map(is_open, generation.listeners))
    assert orders(server) == [("stop", None)] * 2
    end_all(server)
    assert outcomes == [STOPPED]


def test_asking_again_changes_nothing_but_the_pace(server: Server) -> None:
    server.start(server.verdict(free_port()))
    first, second = stop(server), stop(server)
    assert [order for order, _ in orders(server)] == ["drain"] * 2
    third = stop(server, now=True)
    assert [order for order, _ in orders(server)] == ["stop"] * 2
    assert stop(server) == []
    end_all(server)
    assert first == second == third == [STOPPED]


def test_the_second_interrupt_stops_now(server: Server) -> None:
    server.start(server.verdict(free_port()))
    outcomes: list[Outcome] = []
    server.ending.interrupt(outcomes.append)
    server.turn()
    assert [order for order, _ in orders(server)] == ["drain"] * 2
    server.ending.interrupt(outcomes.append)
    server.turn()
    assert [order for order, _ in orders(server)] == ["stop"] * 2
    end_all(server)
    assert outcomes == [STOPPED] * 2


def test_who_does_not_end_is_made_to(server: Server) -> None:
    """Whatever the workers do, the end comes: drain, stop, kill."""
    server.start(server.verdict(free_port(), drain=10.0))
    stop(server)
    server.after(60)
    assert {state for worker in server.workers for state in [worker.child.state]} == {State.KILLED}
    end_all(server)
    assert server.ending.over


def test_stop_delay(server: Server) -> None:
    """A load balancer has the time to notice; until then everything goes on, and a stop at once is at once."""
    generation = server.start(server.verdict(free_port(), stop_delay=5.0))
    stop(server)
    assert server.ending.stopping
    server.after(4.9)
    assert is_open(generation.listeners[0])
    assert orders(server) == [(None, None)] * 2
    server.after(0.1)
    assert not is_open(generation.listeners[0])
    assert [order for order, _ in orders(server)] == ["drain"] * 2


def test_a_stop_at_once_does_not_wait_for_the_delay(server: Server) -> None:
    server.start(server.verdict(free_port(), stop_delay=5.0))
    stop(server)
    stop(server, now=True)
    assert [order for order, _ in orders(server)] == ["stop"] * 2
    end_all(server)
    assert server.ending.over


def test_the_end_of_a_probation_and_of_everything_else(server: Server) -> None:
    """Both generations drain: the old one empties what only it listens on, the new one the rest."""
    stays, goes = free_port(), free_port()
    old = server.start(server.verdict(goes, stays))
    new = server.reload(server.verdict(stays))
    orders(server)
    stop(server)
    assert (old.stage, new.stage) == (Stage.DRAINING, Stage.DRAINING)
    assert not any(is_open(listener) for generation in (old, new) for listener in generation.listeners)
    assert orders(server) == [("drain", [f"127.0.0.1:{goes}"])] * 2 + [("drain", [f"127.0.0.1:{stays}"])] * 2
    end_all(server)
    assert server.ending.over


def test_the_manager_hears_of_it_and_is_asked_for_time(server: Server) -> None:
    server.start(server.verdict(free_port(), drain=30.0))
    stop(server)
    server.after(16)
    assert server.manager.heard[0] == "stopping"
    assert server.manager.heard[1:] == ["extend"] * 4  # at once, and each five seconds
    server.manager.heard.clear()
    end_all(server)
    assert server.ending.over


def test_without_a_manager_nothing_is_due_for_it(server: Server) -> None:
    server.manager.connected = False
    server.start(server.verdict(free_port()))
    stop(server)
    assert server.ending.due == float("inf")


# Restart


def restart(server: Server, verdict: Verdict) -> list[Outcome]:
    outcomes: list[Outcome] = []
    server.ending.restart(outcomes.append)
    if not outcomes:
        server.checks[-1].report(verdict)
        server.turn()
    return outcomes


def test_restart(server: Server) -> None:
    """The listening sockets stay open, and what is queued waits for the next program."""
    generation = server.start(server.verdict(free_port()))
    outcomes = restart(server, server.verdict(free_port()))
    assert orders(server) == [("drain", [])] * 2
    assert is_open(generation.listeners[0])
    assert outcomes == []
    end_all(server)
    assert server.ending.over
    assert [(outcome.code, outcome.text) for outcome in outcomes] == [(DONE, "restarting")]
    kept, fresh = server.ending.handed_on
    assert kept is generation.listeners[0]
    assert is_open(kept)
    assert is_open(fresh)  # bound before anything was stopped
    assert "stopping" not in server.manager.heard
    kept.close()
    fresh.close()


def test_a_restart_that_could_not_bind_is_refused(server: Server) -> None:
    generation = server.start(server.verdict(free_port()))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        (outcome,) = restart(server, server.verdict(free_port(), other.getsockname()[1]))
    assert (outcome.code, "Address already in use" in outcome.text) == (REFUSED, True)
    assert not server.ending.stopping
    assert generation.stage is Stage.ACTIVE


def test_a_stop_behind_a_restart_lets_go_of_what_was_bound_for_it(server: Server) -> None:
    port = free_port()
    server.start(server.verdict(free_port()))
    restart(server, server.verdict(port))
    stop(server)
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
    end_all(server)
    assert server.ending.handed_on == []


def test_a_restart_with_a_bad_configuration_is_refused(server: Server) -> None:
    generation = server.start(server.verdict(free_port()))
    assert restart(server, Verdict(problems=["a", "b"])) == [Outcome(REFUSED, "a\nb")]
    assert not server.ending.stopping
    assert orders(server) == [(None, None)] * 2
    assert generation.stage is Stage.ACTIVE


@pytest.mark.parametrize("what", ["reload", "stop"])
def test_a_restart_needs_a_quiet_moment(server: Server, what: str) -> None:
    server.start(server.verdict(free_port()))
    if what == "reload":
        server.ask()
    else:
        stop(server)
    (outcome,) = restart(server, Verdict())
    assert outcome.code == REFUSED


def test_a_stop_during_the_check_of_a_restart(server: Server) -> None:
    generation = server.start(server.verdict(free_port()))
    server.ending.restart(lambda outcome: None)
    outcomes = stop(server)
    assert server.checks[-1].cancelled
    end_all(server)
    assert outcomes == [STOPPED]
    assert server.ending.handed_on == []
    assert not is_open(generation.listeners[0])


def test_a_stop_in_the_middle_of_a_restart(server: Server) -> None:
    generation = server.start(server.verdict(free_port()))
    restarted = restart(server, server.verdict(free_port()))
    stopped = stop(server)
    assert not is_open(generation.listeners[0])
    end_all(server)
    assert server.ending.handed_on == []
    assert stopped == [STOPPED]
    assert len(restarted) == 1
