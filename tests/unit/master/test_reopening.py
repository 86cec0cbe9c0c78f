"""New log files: opened when their folders answer, all of them or none, and confirmed by every worker."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from httpd.config.schema import Log
from httpd.control.wire import DONE, REFUSED, TIMED_OUT, Outcome
from httpd.master import reopening as module
from httpd.master.children import Event
from httpd.master.reopening import Reopening
from httpd.system import pairs
from httpd.worker.checker import Verdict
from machine import descriptors
from unit.master.fake_server import Check, Server, free_port, make_server
from unit.master.fakes import Worker


class Desk:
    """A server with log files, and who reopens them."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.reopened = 0
        self.reopening = Reopening(
            server.crew, server.errors, server.poller, server.handlers, server.waits, self._on_reopened
        )
        self.outcomes: list[Outcome] = []
        tick, due = server.tick, server.due

        def also(now: float) -> None:
            self.reopening.expire(now)
            tick(now)

        server.tick, server.due = also, lambda: min(due(), self.reopening.deadline)

    def _on_reopened(self) -> None:
        self.reopened += 1

    def verdict(self, port: int, *, errors: str = "error.log") -> Verdict:
        verdict = self.server.verdict(port)
        assert verdict.config is not None
        log = Log(access=str(self.folder / "access.log"), error=str(self.folder / errors) if errors else "")
        return msgspec.structs.replace(verdict, config=msgspec.structs.replace(verdict.config, log=log))

    def ask(self) -> None:
        self.reopening.ask(self.outcomes.append)

    def touched(self) -> None:
        """The child has looked at the folders."""
        self.server.checks[-1].report(Verdict())
        self.server.turn()


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Desk]:
    with make_server(monkeypatch) as server:
        monkeypatch.setattr(module, "time", server.clock)

        def touch(judge: Any, poller: Any, handlers: Any, done: Any, strays: Any, seconds: float) -> Check:
            check = server.note(Check(server, done))
            check.deadline = server.clock.now + seconds
            return check

        monkeypatch.setattr(module, "CheckProcess", touch)
        yield Desk(server, tmp_path)


def files(worker: Worker) -> dict[str, str]:
    """What a worker was told to write to: the paths behind the descriptors."""
    received = pairs.receive(worker.channel)
    assert received is not None
    assert received is not pairs.EOF
    message, fds = received
    assert message["do"] == "reopen"
    paths = [os.readlink(f"/proc/self/fd/{fd}") for fd in fds]
    for fd in fds:
        os.close(fd)
    return dict(zip(message["targets"], paths, strict=True))


def test_reopen(desk: Desk) -> None:
    server, folder = desk.server, desk.folder
    generation = server.start(desk.verdict(free_port()))
    os.rename(folder / "access.log", folder / "access.log.1")
    os.rename(folder / "error.log", folder / "error.log.1")
    desk.ask()
    assert not (folder / "access.log").exists()
    desk.touched()
    assert desk.reopened == 1
    os.write(generation.errors.fd, b"x")
    assert (folder / "error.log").read_bytes() == b"x"
    expected = {f"access:{folder}/access.log": f"{folder}/access.log", "error": f"{folder}/error.log"}
    assert [files(worker) for worker in server.workers] == [expected] * 2
    server.workers[0].say("reopened")
    assert desk.outcomes == []
    server.workers[1].say("reopened")
    assert desk.outcomes == [Outcome(DONE, "log files reopened")]


def test_every_generation_and_every_worker_that_writes(desk: Desk) -> None:
    """Old workers on standby and those that drain write as well; who was stopped has other things to do."""
    server = desk.server
    port = free_port()
    old = server.start(desk.verdict(port))
    new = server.reload(desk.verdict(port, errors="other.log"))
    stopped, draining = server.of(new)
    server.crew.apply(new, stopped.child, Event.STOP)
    server.crew.apply(new, draining.child, Event.DRAIN)
    for worker in server.workers:
        worker.told()
    desk.ask()
    desk.touched()
    assert [worker for worker in server.workers if worker.child.reopening] == [*server.of(old), draining]
    assert [Path(files(worker)["error"]).name for worker in server.of(old)] == ["error.log"] * 2
    assert Path(files(draining)["error"]).name == "other.log"
    assert stopped.told() == []
    for worker in (*server.of(old), draining):
        assert desk.outcomes == []
        worker.say("reopened")
    assert [outcome.code for outcome in desk.outcomes] == [DONE]


@pytest.mark.parametrize("broken", ["error.log", "other.log"])
def test_all_files_or_none(desk: Desk, broken: str) -> None:
    """Of all generations; what was opened before the one that fails is closed again."""
    server, port = desk.server, free_port()
    old = server.start(desk.verdict(port))
    new = server.reload(desk.verdict(port, errors="other.log"))
    before = [(generation.targets, generation.errors) for generation in (old, new)]
    opened = descriptors()
    os.unlink(desk.folder / broken)
    os.mkdir(desk.folder / broken)
    for worker in server.workers:
        worker.told()
    desk.ask()
    desk.touched()
    (outcome,) = desk.outcomes
    assert outcome.code == REFUSED
    assert outcome.text.endswith(f"{broken}: Is a directory; the old log files stay in use")
    assert [(generation.targets, generation.errors) for generation in (old, new)] == before
    os.write(old.errors.fd, b"x")
    assert [worker.told() for worker in server.workers] == [[]] * 4
    assert desk.reopened == 0
    assert descriptors() == opened


def test_a_folder_that_does_not_answer(desk: Desk) -> None:
    """On a dead network mount the child hangs, and is given up; the master serves on with its old files."""
    desk.server.start(desk.verdict(free_port()))
    desk.ask()
    desk.server.after(4.9)
    assert desk.outcomes == []
    desk.server.after(0.1)
    assert desk.server.checks[-1].cancelled
    assert [outcome.code for outcome in desk.outcomes] == [REFUSED]
    desk.ask()
    desk.touched()
    assert desk.reopened == 1


def test_those_who_ask_meanwhile_are_answered_together(desk: Desk) -> None:
    desk.server.start(desk.verdict(free_port()))
    for _ in range(3):
        desk.ask()
    assert len(desk.server.checks) == 1
    desk.touched()
    for worker in desk.server.workers:
        files(worker)
        worker.say("reopened")
    assert [outcome.code for outcome in desk.outcomes] == [DONE] * 3


def test_a_worker_that_ends_meanwhile_is_not_waited_for(desk: Desk) -> None:
    desk.server.start(desk.verdict(free_port()))
    desk.ask()
    desk.touched()
    first, second = desk.server.workers
    files(first)
    first.say("reopened")
    assert desk.outcomes == []
    second.end(1)
    assert [outcome.code for outcome in desk.outcomes] == [DONE]


def test_a_worker_that_is_stopped_meanwhile_is_not_waited_for(desk: Desk) -> None:
    generation = desk.server.start(desk.verdict(free_port()))
    desk.ask()
    desk.touched()
    first, second = desk.server.workers
    files(first)
    first.say("reopened")
    desk.server.crew.apply(generation, second.child, Event.STOP)
    desk.server.turn()
    assert [outcome.code for outcome in desk.outcomes] == [DONE]


def test_a_worker_that_does_not_confirm(desk: Desk) -> None:
    desk.server.start(desk.verdict(free_port()))
    desk.ask()
    desk.touched()
    desk.server.after(9.9)
    assert desk.outcomes == []
    desk.server.after(0.1)
    assert [outcome.code for outcome in desk.outcomes] == [TIMED_OUT]


def test_no_room_for_the_child(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError(11, "no room")

    desk.server.start(desk.verdict(free_port()))
    monkeypatch.setattr(module, "CheckProcess", refuse)
    desk.ask()
    assert desk.outcomes == [Outcome(REFUSED, "cannot look for the log files: no room; the old ones stay in use")]
    assert desk.reopening.deadline == float("inf")
