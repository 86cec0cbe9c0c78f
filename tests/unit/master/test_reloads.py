"""Reloads one behind the other, into each other, undone, refused; who is answered what, and when."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator

import msgspec
import pytest

from httpd.control.wire import DONE, REFUSED, ROLLED_BACK, Outcome
from httpd.master.children import GRACE_SECONDS, State
from httpd.master.generations import Generation, Stage
from httpd.worker.checker import Verdict
from unit.master.fake_server import Server, free_port, is_open, make_server

BAD = Verdict(problems=["httpd.toml:3: unknown key", "httpd.toml:9: no such folder"])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    with make_server(monkeypatch) as server:
        yield server


def codes(outcomes: list[Outcome]) -> list[int]:
    return [outcome.code for outcome in outcomes]


def stage(generation: Generation) -> Stage:
    return generation.stage


# One


def test_a_reload(server: Server) -> None:
    port = free_port()
    server.start(server.verdict(port))
    outcomes = server.ask(server.verdict(port, workers=1))
    assert outcomes == []
    assert server.reloads.busy
    server.all_ready()
    (outcome,) = outcomes
    assert outcome.code == DONE
    assert outcome.text.startswith("reloaded: generation 2 serves after ")
    assert outcome.data["changes"] == ["workers: 2 -> 1"]
    assert list(outcome.data["steps"]) == ["check", "bind", "canary", "roll"]  # type: ignore[call-overload]
    assert server.reloads.last["ok"] is True
    assert server.activated == [1, 2]
    assert server.manager.heard == ["reloading", "ready"]


def test_a_bad_configuration_changes_nothing(server: Server) -> None:
    old = server.start(server.verdict(free_port()))
    (outcome,) = server.ask(BAD)
    assert outcome == Outcome(REFUSED, "\n".join(BAD.problems), {"step": "check"})
    assert server.active is old
    assert server.crew.generations == [old]
    assert (server.reloads.last["ok"], server.reloads.last["code"]) == (False, REFUSED)
    assert server.manager.heard == ["reloading", "ready"]  # without "ready" the unit would be in a reload for ever
    assert [worker.told() for worker in server.of(old)] == [[], []]


def test_a_check_that_takes_too_long(server: Server) -> None:
    server.start(server.verdict(free_port()))
    outcomes = server.ask()
    server.after(29.9)
    assert outcomes == []
    server.after(0.1)
    assert codes(outcomes) == [REFUSED]
    assert server.checks[-1].cancelled
    assert not server.reloads.busy


def test_a_check_that_cannot_be_started(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(11, "no room")

    server.start(server.verdict(free_port()))
    monkeypatch.setattr("httpd.master.reloads.CheckProcess", refuse)
    (outcome,) = server.ask()
    assert outcome.text == "cannot start the configuration check: no room"
    assert not server.reloads.busy


@pytest.mark.parametrize("key", ["run_dir", "control_group"])
def test_what_only_a_restart_can_change(server: Server, key: str) -> None:
    port = free_port()
    old = server.start(server.verdict(port))
    verdict = server.verdict(port)
    assert verdict.config is not None
    table = msgspec.structs.replace(verdict.config.server, **{key: "/else"})
    config = msgspec.structs.replace(verdict.config, server=table)
    (outcome,) = server.ask(msgspec.structs.replace(verdict, config=config))
    assert outcome.code == REFUSED
    assert f"server.{key} can't change in a reload" in outcome.text
    assert server.active is old


def test_a_canary_that_dies_undoes_it(server: Server) -> None:
    port = free_port()
    old = server.start(server.verdict(port))
    outcomes = server.ask(server.verdict(port, free_port()))
    server.workers[-1].end(70)
    (outcome,) = outcomes
    assert (outcome.code, outcome.data) == (ROLLED_BACK, {"step": "canary"})
    assert server.active is old
    assert old.stage is Stage.ACTIVE
    assert server.crew.generations == [old]


def test_time_in_which_the_master_did_not_run_does_not_count(server: Server) -> None:
    port = free_port()
    old = server.start(server.verdict(port))
    server.reload(server.verdict(port))
    server.ask()
    server.clock.now += 1000.0
    server.reloads.forgive(1000.0)
    server.crew.forgive(1000.0, server.clock.now)
    server.after(2.9)
    assert stage(old) is Stage.STANDBY
    server.after(0.1)
    assert old.stage is Stage.DRAINING
    assert not server.checks[-1].cancelled
    server.after(27)
    assert server.checks[-1].cancelled


# Several


def test_those_that_come_meanwhile_become_one(server: Server) -> None:
    """With the file as it is then: who asked late gets what was written late."""
    port = free_port()
    server.start(server.verdict(port))
    first = server.ask()
    later = [server.ask() for _ in range(5)]
    assert len(server.checks) == 1
    server.checks[0].report(BAD)
    assert codes(first) == [REFUSED]
    assert later == [[]] * 5
    assert len(server.checks) == 2
    server.checks[1].report(server.verdict(port))
    last = server.ask()
    server.all_ready()
    assert [codes(outcomes) for outcomes in later] == [[DONE]] * 5
    assert (last, len(server.checks)) == ([], 3)
    server.checks[2].report(server.verdict(port))
    server.all_ready()
    assert codes(last) == [DONE]
    assert server.active.number == 3


@pytest.mark.parametrize("meanwhile", ["check", "restart"])
def test_a_reload_that_is_asked_for_during_a_test_is_done_behind_it(server: Server, meanwhile: str) -> None:
    """It must not be forgotten: somebody waits, or has sent a HUP and relies on it."""
    port = free_port()
    server.start(server.verdict(port))
    answers: list[Outcome] = []
    if meanwhile == "check":
        server.reloads.check(answers.append)
    else:
        server.ending.restart(answers.append)
    outcomes = server.ask()
    server.checks[0].report(BAD)
    assert codes(answers) == [REFUSED]
    assert len(server.checks) == 2
    server.checks[1].report(server.verdict(port))
    server.all_ready()
    assert codes(outcomes) == [DONE]


def test_the_next_one_settles_the_one_before(server: Server) -> None:
    """Its probation is over with the next good one, not with the asking: only then it has a successor."""
    port = free_port()
    first = server.start(server.verdict(port))
    second = server.reload(server.verdict(port))
    server.ask(server.verdict(port))
    assert (first.stage, second.stage) == (Stage.STANDBY, Stage.ACTIVE)
    server.all_ready()
    assert [generation.stage for generation in server.crew.generations] == [
        Stage.DRAINING, Stage.STANDBY, Stage.ACTIVE,
    ]  # fmt: skip
    server.of(server.active)[0].end(number=signal.SIGSEGV)
    assert server.active is second


def test_a_bad_one_does_not_settle_the_one_before(server: Server) -> None:
    port = free_port()
    first = server.start(server.verdict(port))
    second = server.reload(server.verdict(port))
    server.ask(BAD)
    assert first.stage is Stage.STANDBY
    server.of(second)[0].end(1)
    assert server.active is first


def test_a_listener_that_is_wanted_again_keeps_its_socket(server: Server) -> None:
    """Dropped, and within the probation taken up again: no connection in its queue is lost."""
    stays, wanted = free_port(), free_port()
    first = server.start(server.verdict(wanted, stays))
    server.reload(server.verdict(stays))
    with socket.create_connection(("127.0.0.1", wanted)) as client:
        third = server.reload(server.verdict(stays, wanted))
        assert third.listeners[1].sockets[0] is first.listeners[0].sockets[0]
        assert is_open(third.listeners[1])
        orders = [worker.told()[-1] for worker in server.of(first)]
        assert [(order["do"], order["empty"]) for order in orders] == [("drain", [])] * 2
        peer, address = third.listeners[1].sockets[0].accept()
        assert address == client.getsockname()
        peer.close()


@pytest.mark.parametrize("good", [True, False])
def test_the_probation_does_not_end_in_the_middle_of_the_next_reload(server: Server, good: bool) -> None:
    """What it would close may be what the next generation has just taken up."""
    stays, wanted = free_port(), free_port()
    first = server.start(server.verdict(wanted, stays))
    server.reload(server.verdict(stays))
    outcomes = server.ask(server.verdict(stays, wanted, start=20.0))
    server.after(5)
    assert stage(first) is Stage.STANDBY
    assert is_open(first.listeners[0])
    if good:
        server.all_ready()
        assert codes(outcomes) == [DONE]
        assert is_open(first.listeners[0])
    else:
        server.workers[-1].end(70)
        server.after(0)
        assert codes(outcomes) == [ROLLED_BACK]
        assert not is_open(first.listeners[0])
    assert first.stage is Stage.DRAINING


def test_a_roll_back_in_the_middle_of_the_next_reload(server: Server) -> None:
    """The next generation goes away, too: what it was to follow has failed."""
    stays, wanted = free_port(), free_port()
    first = server.start(server.verdict(wanted, stays))
    second = server.reload(server.verdict(stays))
    outcomes = server.ask(server.verdict(stays, wanted, free_port()))
    third = server.crew.generations[-1]
    fresh = third.listeners[2]
    server.workers[-1].ready()
    server.of(second)[0].end(number=signal.SIGSEGV)
    assert server.active is first
    (outcome,) = outcomes
    assert outcome.code == ROLLED_BACK
    assert "rolled back meanwhile" in outcome.text
    assert not server.reloads.busy
    assert (first.stage, second.stage, third.stage) == (Stage.ACTIVE, Stage.DRAINING, Stage.DRAINING)
    assert server.states(first) == {State.SERVING}
    assert server.states(third) <= {State.DRAINING, State.STOPPING}
    assert all(map(is_open, first.listeners))
    assert not is_open(fresh)
    assert server.reloads.last["code"] == ROLLED_BACK


def test_a_roll_back_in_the_middle_of_the_next_check(server: Server) -> None:
    """There is nothing of it yet, so it goes on, and follows the generation that serves again."""
    port = free_port()
    first = server.start(server.verdict(port))
    second = server.reload(server.verdict(port))
    outcomes = server.ask()
    server.of(second)[0].end(1)
    assert server.active is first
    server.checks[-1].report(server.verdict(port))
    server.all_ready()
    assert codes(outcomes) == [DONE]
    third = server.active
    assert (third.number, first.stage) == (3, Stage.STANDBY)
    server.of(third)[0].end(1)
    assert server.active is first


def test_those_that_wait_behind_an_aborted_one_are_done(server: Server) -> None:
    port = free_port()
    first = server.start(server.verdict(port))
    second = server.reload(server.verdict(port))
    server.ask(server.verdict(port))
    waiting = server.ask()
    server.of(second)[0].end(1)
    assert server.active is first
    server.checks[-1].report(server.verdict(port))
    server.all_ready()
    assert codes(waiting) == [DONE]


# What is told


def test_rolled_back_is_told(server: Server) -> None:
    port = free_port()
    server.start(server.verdict(port))
    new = server.reload(server.verdict(port))
    server.manager.heard.clear()
    server.of(new)[1].end(number=signal.SIGSEGV)
    assert server.reloads.last["ok"] is False
    assert server.reloads.last["code"] == ROLLED_BACK
    text = str(server.reloads.last["text"])
    assert text.startswith("rolled back to generation 1: ")
    assert "killed by SIGSEGV" in text
    assert server.manager.heard == ["ready"]
    assert server.activated == [1, 2, 1]
    assert "rolled back generation=1 failed=2" in server.log


def test_who_asked_for_certainty_waits_for_the_end_of_the_probation(server: Server) -> None:
    port = free_port()
    server.start(server.verdict(port))
    quick, sure = server.ask(), server.ask(settled=True)
    server.checks[-1].report(server.verdict(port))
    server.all_ready()
    server.checks[-1].report(server.verdict(port))
    server.all_ready()
    assert (codes(quick), codes(sure)) == ([DONE], [])
    server.after(2.9)
    assert sure == []
    server.after(0.1)
    assert codes(sure) == [DONE]


def test_certainty_that_it_was_undone(server: Server) -> None:
    port = free_port()
    server.start(server.verdict(port))
    sure = server.ask(server.verdict(port), settled=True)
    server.all_ready()
    assert sure == []
    server.of(server.active)[0].end(1)
    (outcome,) = sure
    assert (outcome.code, outcome.data) == (ROLLED_BACK, {"step": "probation"})


@pytest.mark.parametrize("what", ["bad", "no probation", "the next", "the end"])
def test_certainty_at_once(server: Server, what: str) -> None:
    port = free_port()
    server.start(server.verdict(port))
    sure = server.ask(
        BAD if what == "bad" else server.verdict(port, probation=0.0 if what == "no probation" else 3.0), settled=True
    )
    server.all_ready()
    if what == "the next":
        assert sure == []
        server.reload(server.verdict(port))
    elif what == "the end":
        assert sure == []
        server.reloads.give_up()
    assert codes(sure) == [REFUSED if what == "bad" else DONE]


# The end of the server goes before everything


@pytest.mark.parametrize("step", ["check", "canary", "roll", "probation"])
def test_the_end_in_the_middle(server: Server, step: str) -> None:
    stays, goes = free_port(), free_port()
    old = server.start(server.verdict(stays, goes))
    outcomes = server.ask()
    waiting = server.ask()
    if step != "check":
        server.checks[-1].report(server.verdict(stays, free_port()))
    if step == "roll":
        server.workers[-1].ready()
    if step == "probation":
        server.all_ready()
        server.checks[-1].report(BAD)
    server.reloads.give_up()
    assert len(outcomes) == 1
    assert codes(waiting) == [REFUSED]
    assert server.ask() == [Outcome(REFUSED, "not now: the server starts, reloads or stops")]
    assert not server.reloads.busy
    if step == "check":
        assert server.checks[-1].cancelled
    if step == "probation":
        assert old.stage is Stage.DRAINING
        assert not is_open(old.listeners[1])
    else:
        assert server.active is old
        assert old.stage is Stage.ACTIVE
    for generation in server.crew.generations:
        if generation.number == 2 and step in ("canary", "roll"):
            assert server.states(generation) <= {State.DRAINING, State.STOPPING}
    server.of(server.active)[0].end(1)  # nobody goes back to what is over
    assert server.active.number == (2 if step == "probation" else 1)


def test_a_test_waits_for_its_turn(server: Server) -> None:
    port = free_port()
    server.start(server.verdict(port))
    answers: list[Outcome] = []
    server.reloads.check(answers.append)
    server.reloads.check(answers.append)
    assert codes(answers) == [REFUSED]
    server.checks[-1].report(server.verdict(port))
    assert answers[1:] == [Outcome(DONE, "the configuration is good", {"problems": []})]
    server.reloads.check(answers.append)
    server.checks[-1].report(BAD)
    assert answers[2:] == [Outcome(REFUSED, "\n".join(BAD.problems), {"problems": BAD.problems})]
    assert server.active.number == 1


# Too many old generations


def hurried(server: Server) -> list[int]:
    """The generations whose workers have little time left."""
    return [
        generation.number for generation in server.crew.generations
        if server.of(generation)
        and all(worker.child.deadline <= server.clock.now + 2 + GRACE_SECONDS for worker in server.of(generation))
    ]  # fmt: skip


def test_the_oldest_of_too_many_have_to_end(server: Server) -> None:
    port = free_port()
    server.start(server.verdict(port, drain=3600.0))
    for _ in range(2):
        server.reload(server.verdict(port, generations=2, drain=3600.0, probation=0.0))
        server.after(10)
        assert hurried(server) == []
    server.reload(server.verdict(port, generations=2, drain=3600.0, probation=0.0))
    server.after(2)
    assert hurried(server) == [1]
    assert server.log.count("too many old generations") == 1
    server.after(10)
    assert server.states(server.crew.generations[0]) <= {State.KILLED, State.STOPPING}
    assert {worker.child.state for worker in server.workers[2:6]} == {State.DRAINING}
    server.reload(server.verdict(port, generations=2, drain=3600.0, probation=0.0))
    server.after(2)
    told = [line for line in server.log.splitlines() if "too many old generations" in line]
    assert [line.partition("generation=")[2][:1] for line in told] == ["1", "2"]  # each is told once


def test_a_storm_of_reloads_is_no_reason_to_cut_off_requests(server: Server) -> None:
    """What comes and goes in a moment is not what the limit is for."""
    port = free_port()
    server.start(server.verdict(port, drain=3600.0))
    for _ in range(8):
        old = server.active
        server.reload(server.verdict(port, generations=2, drain=3600.0, probation=0.0))
        server.after(0.3)
        for worker in server.of(old):
            worker.end(0)
    server.after(10)
    assert "too many" not in server.log
    assert len(server.crew.generations) == 1


def test_a_storm_without_end_does_not_put_the_limit_off(server: Server) -> None:
    """Reloads every second, each with requests that take long: the number of workers must not grow for ever."""
    port = free_port()
    server.start(server.verdict(port, drain=3600.0))
    for _ in range(30):
        server.reload(server.verdict(port, generations=2, drain=3600.0, probation=0.0))
        server.after(1.0)
        for worker in [worker for worker in server.workers if worker.child.state is State.STOPPING]:
            worker.end(0)
    assert len(server.crew.generations) < 12


def test_a_generation_without_workers_lets_go_of_its_listeners(server: Server) -> None:
    """All died on standby, and nobody is left who could be told anything: the port is free all the same."""
    stays, goes = free_port(), free_port()
    old = server.start(server.verdict(stays, goes, heartbeat=30.0))
    for worker in server.of(old):
        worker.beat()
    server.after(2)
    server.reload(server.verdict(stays, heartbeat=30.0))
    for worker in server.of(old):
        worker.end(number=signal.SIGKILL)
    server.after(5)
    assert server.crew.generations == [server.active]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", goes))


def test_recycling_a_worker_does_not_blind_the_watch(server: Server) -> None:
    """The generation goes on: a connection that nobody takes must still end the sleep of all."""
    port = free_port()
    generation = server.start(server.verdict(port, heartbeat=30.0))
    tired = server.of(generation)[0]
    tired.say("recycle", reason="max_requests")
    server.all_ready()
    tired.end(0)
    for _ in range(10):
        for worker in server.of(generation):
            worker.beat()
        server.after(1)
    assert server.due() == float("inf")  # idle
    with socket.create_connection(("127.0.0.1", port)):
        server.turn()
        assert server.due() < float("inf")
