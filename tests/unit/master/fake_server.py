"""What the supervisor puts together, without its loop and its processes: `fakes`, and who decides over generations."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.config.schema import Address, Config, Limits, Log, Timeouts
from httpd.config.schema import Server as ServerTable
from httpd.control.wire import DONE, Outcome
from httpd.master import reloads as reloads_module
from httpd.master.children import State
from httpd.master.ending import Ending
from httpd.master.generations import Generation, Stage
from httpd.master.listeners import Listener
from httpd.master.reloads import Reloads
from httpd.master.transition import Failure
from httpd.master.waits import Waits
from httpd.worker import checker
from httpd.worker.checker import Endpoint, Verdict
from unit.master.fakes import Worker, World, nothing_left_open, replace_kernel


def good(*ports: int, workers: int = 2, generations: int = 4, **timeouts: Any) -> Verdict:
    """A verdict without problems, for a server that listens on these ports of 127.0.0.1 and logs nowhere."""
    addresses = tuple(Address(f"127.0.0.1:{port}", "tcp", "127.0.0.1", port) for port in ports)
    config = Config(
        path="/etc/httpd.toml", server=ServerTable(listen=addresses, workers=workers, run_dir="/run/x"),
        timeouts=Timeouts(**{"heartbeat": 0.0, "probation": 3.0, "drain": 30.0, **timeouts}),
        limits=Limits(generations=generations), log=Log(access="", error=""), vhosts=(),
    )  # fmt: skip
    endpoints = {address.text: [Endpoint(socket.AF_INET, "127.0.0.1", address.port)] for address in addresses}
    return Verdict(config=config, endpoints=endpoints)


class Check:
    """Stands for the process that checks a configuration; the test says what it reports."""

    def __init__(self, server: Server, done: Callable[[Verdict], None]) -> None:
        self._done = done
        self.deadline = server.clock.now + checker.SECONDS
        self.cancelled = False

    def report(self, verdict: Verdict) -> None:
        self._done(verdict)

    def expire(self) -> None:
        self.cancel()
        self._done(checker.TOO_SLOW)

    def cancel(self) -> None:
        self.cancelled = True


class Manager:
    """Stands for `system.systemd.Notifier`.  `heard` is what was told."""

    def __init__(self) -> None:
        self.connected = True
        self.heard: list[str] = []

    def ready(self, status: str) -> None:
        self.heard.append("ready")

    def reloading(self, status: str, monotonic_us: int) -> None:
        self.heard.append("reloading")

    def stopping(self, status: str) -> None:
        self.heard.append("stopping")

    def extend_timeout(self, microseconds: int) -> None:
        self.heard.append("extend")


class Server(World):
    """What the supervisor puts together, without its loop.  `checks` are the running and past ones, newest last."""

    def __init__(self) -> None:
        super().__init__()
        self.manager = Manager()
        self.checks: list[Check] = []
        self.activated: list[int] = []
        self.reloads = Reloads(
            self.crew, self.poller, self.handlers, None, self.manager, self.errors,  # type: ignore[arg-type]
            lambda generation: self.activated.append(generation.number),
        )  # fmt: skip
        self.crew.observer = self.reloads
        self.waits = Waits()
        self.ending = Ending(
            self.crew, self.reloads, self.waits, self.manager, self.errors, "/run/x"  # type: ignore[arg-type]
        )
        self.tick = self._tick
        self.due = self._due
        self.listeners: list[Listener] = []

    def _tick(self, now: float) -> None:
        self.reloads.expire(now)
        self.crew.tick(now)
        self.ending.tick(now)
        for generation in list(self.crew.generations):
            if generation.stage is Stage.DRAINING and not any(generation.children):
                generation.end()
                self.crew.generations.remove(generation)
        self.ending.look()
        self.waits.answer(now)

    def _due(self) -> float:
        return min(self.crew.deadline(), self.reloads.deadline, self.ending.due, self.waits.deadline)

    def verdict(self, *ports: int, **fields: Any) -> Verdict:
        """See `good`."""
        return good(*ports, **fields)

    def all_ready(self) -> None:
        """Have every worker that starts say that it is ready, until no more are started."""
        while starting := [worker for worker in self.workers if worker.child.state is State.STARTING]:
            starting[0].ready()

    def start(self, verdict: Verdict) -> Generation:
        """The first generation; its workers serve."""
        failures: list[Failure | None] = []
        self.reloads.start(verdict, [], failures.append)
        self.all_ready()
        assert failures == [None]
        return self.active

    def ask(self, verdict: Verdict | None = None, *, settled: bool = False) -> list[Outcome]:
        """Ask for a reload; with a verdict the check is over at once.  Returns the outcomes, which come in time."""
        outcomes: list[Outcome] = []
        (self.reloads.reload_for_good if settled else self.reloads.reload)(outcomes.append)
        if verdict is not None:
            self.checks[-1].report(verdict)
        self.turn()
        return outcomes

    def reload(self, verdict: Verdict) -> Generation:
        """A reload that works, and is on probation."""
        outcomes = self.ask(verdict)
        self.all_ready()
        assert [outcome.code for outcome in outcomes] == [DONE]
        return self.active

    @property
    def active(self) -> Generation:
        assert self.reloads.active is not None
        return self.reloads.active

    def of(self, generation: Generation) -> list[Worker]:
        """The workers of a generation that have not ended."""
        return [worker for worker in self.workers if worker.generation is generation]

    def states(self, generation: Generation) -> set[State]:
        return {worker.child.state for worker in self.of(generation)}

    def note(self, check: Check) -> Check:
        self.checks.append(check)
        return check

    def close(self) -> None:
        for generation in self.crew.generations:
            self.crew.stop(generation)
            for listener in generation.listeners:
                listener.close()
            generation.end()
        super().close()


@contextlib.contextmanager
def make_server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that has not started.  Checks that nothing stays open."""
    with nothing_left_open():
        server = Server()
        replace_kernel(monkeypatch, server)
        monkeypatch.setattr(
            reloads_module, "CheckProcess",
            lambda source, poller, handlers, done, strays: server.note(Check(server, done)),
        )  # fmt: skip
        yield server
        server.close()


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def is_open(listener: Listener) -> bool:
    return all(sock.fileno() >= 0 for sock in listener.sockets)
