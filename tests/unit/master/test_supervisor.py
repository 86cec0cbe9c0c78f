"""The supervisor's own loop: defects, stalls, the start, the end.  A poller that follows a script, and no processes."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from httpd.control.wire import DONE, REFUSED, Call, Outcome, decode_outcome, encode_call
from httpd.master import reloads as reloads_module
from httpd.master import supervisor as module
from httpd.master.children import State
from httpd.master.listeners import Listener
from httpd.master.supervisor import Supervisor
from httpd.system.detach import RunDir
from httpd.system.systemd import Notifier
from httpd.worker.checker import Verdict
from unit.master.fake_server import Check, free_port, good
from unit.master.fakes import Clock, Kernel, Script, Spawner, Worker, nothing_left_open, replace_kernel

OK, UNAVAILABLE, DEFECT, NO_PERMISSION = 0, 69, 70, 77


class Bell:
    """Stands for `system.signals.Wakeup`."""

    def __init__(self) -> None:
        self.fd, self._writer = os.pipe()
        self.names: list[str] = []

    def ring(self, name: str) -> None:
        self.names.append(name)
        os.write(self._writer, b"x")

    def take(self) -> list[str]:
        os.read(self.fd, 100)
        names, self.names = self.names, []
        return names

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._writer)


class Master:
    """A supervisor.  `run` takes the steps that it is given, in turn, each when the one before has had its effect."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.clock, self.kernel = Clock(), Kernel()
        self.workers: list[Worker] = []
        self.spawner = Spawner(self)  # type: ignore[arg-type]
        self.bell, self.script = Bell(), Script(self.clock)
        self.started: list[tuple[int, str]] = []
        self.log_file = folder / "error.log"
        self.run_dir = RunDir(folder / "run")
        self.run_dir.prepare()
        self.folders: list[int] = []
        self.checks: list[Check] = []
        replace_kernel(monkeypatch, self)  # type: ignore[arg-type]
        monkeypatch.setattr(module, "make_poller", lambda: self.script)
        monkeypatch.setattr(module, "Spawner", self._spawner)
        monkeypatch.setattr(
            reloads_module, "CheckProcess",
            lambda source, poller, handlers, done, strays: self.checks.append(Check(self, done)) or self.checks[-1],  # type: ignore[arg-type, func-returns-value]
        )  # fmt: skip

    def _spawner(self, folder: int, before_work: object, launching: object, *, detached: bool) -> Spawner:
        self.folders.append(folder)
        return self.spawner

    def verdict(self, *ports: int, **fields: Any) -> Verdict:
        """A good one; it logs to a file here."""
        verdict = good(*ports, **fields)
        assert verdict.config is not None
        log = msgspec.structs.replace(verdict.config.log, error=str(self.log_file))
        return msgspec.structs.replace(verdict, config=msgspec.structs.replace(verdict.config, log=log))

    def make(self, verdict: Verdict | None = None, patience: float = 0.0) -> Supervisor:
        self.supervisor = Supervisor(
            verdict or self.verdict(free_port()), None, self.run_dir, self.bell, Notifier(),  # type: ignore[arg-type]
            lambda code, reason: self.started.append((code, reason)), [], patience=patience, detached=False,
        )  # fmt: skip
        self.crew = self.supervisor.crew
        return self.supervisor

    def run(self, *steps: Callable[[], object]) -> int:
        """Start, take the steps, and go on to the end; returns the exit code."""
        self.script.steps.extend(steps)
        code, listeners = self.supervisor.run(None)
        assert listeners == []
        return code

    def turn(self) -> None:
        """Nothing: the supervisor's loop turns by itself."""

    def all_ready(self) -> None:
        """Every worker that starts is ready; again for those that come behind them."""
        starting = [worker for worker in self.workers if worker.child.state is State.STARTING]
        for worker in starting:
            worker.ready()
        if starting:
            self.script.steps.appendleft(self.all_ready)

    def signal(self, name: str) -> Callable[[], None]:
        return lambda: self.bell.ring(name)

    def end_all(self) -> None:
        """Every worker does as it was told, and ends."""
        assert all(worker.child.state in (State.DRAINING, State.STOPPING) for worker in self.workers)
        for worker in list(self.workers):
            worker.end(0)

    def wait(self, seconds: float) -> Callable[[], None]:
        """Time goes by, and the master has slept no longer than it wanted."""
        end: list[float] = []

        def step() -> None:
            end[:] = end or [self.clock.now + seconds]
            if self.clock.now < end[0]:
                self.script.steps.appendleft(step)
                self.clock.now = min(end[0], self.clock.now + 0.5)

        return step

    @property
    def active(self) -> Any:
        return self.supervisor.reloads.active

    @property
    def log(self) -> str:
        return self.log_file.read_text() if self.log_file.exists() else ""

    def close(self) -> None:
        if self.supervisor._endpoint is not None and self.run_dir.control_path.exists():
            self.supervisor._endpoint.close()  # the loop did not come to its end
        for worker in list(self.workers):
            worker.end(0)
        self.crew.reap_all()
        for generation in self.crew.generations:
            for child in list(generation.children):
                self.crew._reap(generation, child)
            for listener in generation.listeners:
                listener.close()
            generation.end()
        self.supervisor._writer.close()
        self.script.close()
        self.bell.close()
        for fd in self.folders:
            os.close(fd)
        self.run_dir.close()


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Master]:
    with nothing_left_open():
        master = Master(tmp_path, monkeypatch)
        yield master
        master.close()


def broken(*arguments: object, **fields: object) -> None:
    raise LookupError("a defect of the test")


# From the start to the end


def test_it_serves_and_stops(master: Master) -> None:
    master.make()
    assert master.run(master.all_ready, master.signal("TERM"), master.end_all) == OK
    assert master.started == [(OK, "")]
    assert "serving" in master.log
    assert "generation gone" in master.log
    assert not master.run_dir.control_path.exists()


def test_a_stop_without_a_single_worker_is_over_at_once(master: Master) -> None:
    """All have crashed and wait for their turn to come back; nothing else would wake the loop up."""

    def crash() -> None:
        for worker in list(master.workers):
            worker.end(70)
        master.bell.ring("TERM")

    master.make()
    assert master.run(master.all_ready, crash) == OK
    assert "generation gone" in master.log


def test_a_start_without_a_worker(master: Master) -> None:
    master.make()
    assert master.run(lambda: master.workers[0].end(70)) == UNAVAILABLE
    assert master.started == [(UNAVAILABLE, "new worker: exit status 70")]


def test_a_start_without_permission(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> socket.socket:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("httpd.master.listeners._open", refuse)
    master.make(master.verdict(80))
    assert master.run() == NO_PERMISSION
    assert master.started == [(NO_PERMISSION, "cannot listen on 127.0.0.1:80: Permission denied")]


@pytest.mark.parametrize("patience", [0.0, 2.0])
def test_an_address_that_is_in_use(master: Master, patience: float) -> None:
    """Workers of a master that was killed may just be leaving it: tried again, but not for ever."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        master.make(master.verdict(other.getsockname()[1]), patience)
        began = master.clock.now
        assert master.run() == UNAVAILABLE
    assert patience <= master.clock.now - began <= patience + 0.1
    assert len(master.started) == 1


def test_an_address_that_becomes_free(master: Master) -> None:
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen()
    master.make(master.verdict(other.getsockname()[1]), patience=2.0)
    assert master.run(other.close, master.wait(0.5), master.all_ready, master.signal("TERM"), master.end_all) == OK
    assert master.started == [(OK, "")]


@pytest.mark.parametrize("name", ["TERM", "QUIT", "INT"])
def test_told_to_end_before_it_is_up(master: Master, name: str) -> None:
    master.make()
    assert master.run(master.signal(name), master.end_all) == OK
    assert master.spawner.made == 1
    assert len(master.started) == 1


def test_a_reload_that_is_asked_for_during_the_start(master: Master) -> None:
    """A HUP that comes early is not lost: the file may have changed since it was read."""
    port = free_port()
    master.make(master.verdict(port))

    def report() -> None:
        master.checks[0].report(master.verdict(port))

    steps = (master.signal("HUP"), master.all_ready, report, master.all_ready, master.signal("QUIT"), master.end_all)
    assert master.run(*steps) == OK
    assert master.active.number == 2


def test_hup_without_a_configuration_file_is_the_end(master: Master) -> None:
    """The terminal is gone, and with it who wanted a folder served."""
    verdict = master.verdict(free_port())
    assert verdict.config is not None
    master.make(msgspec.structs.replace(verdict, config=msgspec.structs.replace(verdict.config, path="")))
    assert master.run(master.all_ready, master.signal("HUP"), master.end_all) == OK
    assert master.checks == []


# Defects


def test_a_defect_costs_what_was_being_done_and_nothing_else(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    master.make()
    monkeypatch.setattr(master.supervisor, "upgrade", broken)
    steps = (master.all_ready, master.signal("USR2"), master.signal("USR2"), master.signal("TERM"), master.end_all)
    assert master.run(*steps) == OK
    assert master.log.count("[error]") == 2
    assert master.log.count("defect in the master\n\tTraceback (most recent call last):") == 2
    assert "\tLookupError: a defect of the test" in master.log


def test_three_in_ten_seconds_are_too_many(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends in order, requests are finished: a service manager starts it anew."""
    master.make()
    monkeypatch.setattr(master.supervisor, "upgrade", broken)
    told: list[list[str]] = []

    def end() -> None:
        told.extend([order["do"] for order in worker.told()] for worker in master.workers)
        master.end_all()

    usr2 = master.signal("USR2")
    assert master.run(master.all_ready, usr2, usr2, master.wait(9.0), usr2, end) == DEFECT
    assert told == [["drain"], ["drain"]]
    assert "too many defects" in master.log


def test_three_in_a_longer_time_are_not(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    master.make()
    monkeypatch.setattr(master.supervisor, "upgrade", broken)
    usr2, wait = master.signal("USR2"), master.wait
    steps = (usr2, wait(6), usr2, wait(6), usr2, wait(6), usr2, master.signal("TERM"), master.end_all)
    assert master.run(master.all_ready, *steps) == OK
    assert "too many defects" not in master.log


def test_one_that_can_not_even_end_in_order(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every round fails: it goes all the same, and soon.  Its workers see the end of their channels."""
    master.make()
    monkeypatch.setattr(master.supervisor.reloads, "expire", broken)
    assert master.run(master.all_ready, *([master.wait(0.1)] * 10)) == DEFECT
    assert master.script.rounds < 100


def test_a_defect_answers_who_is_waiting_for_the_command(master: Master, monkeypatch: pytest.MonkeyPatch) -> None:
    master.make()
    monkeypatch.setattr(master.supervisor, "status", broken)
    client = socket.socket(socket.AF_UNIX)
    answers: list[Outcome] = []

    def ask() -> None:
        client.connect(str(master.run_dir.control_path))
        client.sendall(encode_call(Call("status")))

    def hear() -> None:
        client.settimeout(20)
        answers.append(decode_outcome(client.recv(10_000)))

    assert master.run(master.all_ready, ask, hear, master.signal("TERM"), master.end_all) == OK
    assert [answer.code for answer in answers] == [REFUSED]
    assert master.log.count("defect in the master") == 1
    client.close()


# Time


def test_when_it_did_not_run_what_was_due_is_put_off(master: Master) -> None:
    """The machine slept, or the process was stopped: neither workers nor the probation are to blame."""
    port = free_port()
    master.make(master.verdict(port, start=20.0))
    seen: list[object] = []

    def sleep() -> None:
        master.clock.now += 3600.0

    def look() -> None:
        seen.extend([worker.child.state for worker in master.workers])

    steps = (master.wait(10.0), sleep, look, master.wait(9.0), look, master.all_ready, master.signal("TERM"))
    assert master.run(*steps, master.end_all) == OK
    assert seen == [State.STARTING, State.STARTING]
    assert master.kernel.signals == []


def test_a_long_sleep_without_anything_due_is_no_stall(master: Master) -> None:
    master.make()
    seconds = master.clock.now

    def sleep() -> None:
        master.clock.now += 36_000.0

    assert master.run(master.all_ready, sleep, master.signal("TERM"), master.end_all) == OK
    assert master.clock.now >= seconds + 36_000
    assert "stalled" not in master.log


# The number of workers


def resize(master: Master, count: int, outcomes: list[Outcome]) -> Callable[[], None]:
    return lambda: master.supervisor.set_workers(count, outcomes.append)


def test_workers(master: Master) -> None:
    """The reply comes when the new ones serve, and when those that go are gone."""
    master.make()
    outcomes: list[Outcome] = []
    pending: list[int] = []

    def end_leaving() -> None:
        pending.append(len(outcomes))
        for worker in [worker for worker in master.workers if worker.child.state is State.DRAINING]:
            worker.end(0)

    steps = (
        resize(master, 4, outcomes), lambda: pending.append(len(outcomes)), master.all_ready,
        resize(master, 1, outcomes), end_leaving,
    )  # fmt: skip
    assert master.run(master.all_ready, *steps, master.signal("TERM"), master.end_all) == OK
    assert outcomes == [Outcome(DONE, "4 workers", {"workers": 4}), Outcome(DONE, "1 workers", {"workers": 1})]
    assert pending == [0, 1]


@pytest.mark.parametrize("count", [0, -1, 65, 10**9])
def test_a_number_of_workers_that_is_refused(master: Master, count: int) -> None:
    master.make()
    outcomes: list[Outcome] = []
    steps = (master.all_ready, resize(master, count, outcomes), master.signal("TERM"), master.end_all)
    assert master.run(*steps) == OK
    assert [outcome.code for outcome in outcomes] == [REFUSED]
    assert f"{count} workers: must be 1 to server.max_workers (64)" in outcomes[0].text


def test_one_more_one_less(master: Master) -> None:
    master.make(master.verdict(free_port(), workers=1))
    counts: list[int] = []

    def count() -> None:
        counts.append(len(master.active.slots))

    ttin, ttou = master.signal("TTIN"), master.signal("TTOU")
    steps = (ttin, count, master.all_ready, ttou, count, ttou, count, master.signal("TERM"))
    assert master.run(master.all_ready, *steps, master.end_all) == OK
    assert counts == [2, 1, 1]
    assert "worker count not changed" in master.log


def test_listeners_are_closed_at_the_end(master: Master) -> None:
    port = free_port()
    master.make(master.verdict(port))
    listeners: list[Listener] = []
    steps = (lambda: listeners.extend(master.active.listeners), master.signal("TERM"), master.end_all)
    assert master.run(master.all_ready, *steps) == OK
    assert [sock.fileno() for listener in listeners for sock in listener.sockets] == [-1]
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", port))
