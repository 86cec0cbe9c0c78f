"""The common load of the fault scenarios: 50 clients of several kinds, each answer checked byte for byte.

    with Load(daemon.port, {"/a": b"the a", "/large": ...}) as load:     returns when answers come
        ...
        load.more(200)                  waits for so many further answers
        load.kill(pid)                  a worker; what it had in hand is forgiven
    report = load.report                behind the block: every client has finished what it had asked for
    assert not report.lost, report

What counts as lost is said in `live.load_clients`.  What was in the hands of a process that the test itself killed is
counted apart, as `forgiven`: a loss on a connection that this process had, opened before and noticed after that moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from live.daemon import PATIENCE, eventually
from live.load_clients import Order

_SHOWN = 10  # losses in a report's text


@dataclass(frozen=True, slots=True)
class Loss:
    """One answer that did not come as it should.  Times are monotonic seconds, `answers` those before it on the same
    connection, and `port` is the client's."""

    kind: str
    client: str
    port: int
    opened: float
    when: float
    path: str
    detail: str
    answers: int


@dataclass(slots=True)
class Report:
    """What became of all requests."""

    answers: int
    connections: int
    retried: int
    lost: list[Loss] = field(default_factory=list)
    forgiven: list[Loss] = field(default_factory=list)

    def __str__(self) -> str:
        shown = "".join(f"\n  {loss}" for loss in self.lost[:_SHOWN])
        return (
            f"{self.answers} answers on {self.connections} connections, {self.retried} asked again, "
            f"{len(self.forgiven)} forgiven, {len(self.lost)} lost{shown}"
        )


class Load:
    """Clients in a process of their own, from `with` to its end or to `stop`.

    `files` are the bodies by their paths; those of 500 kB and more are for the clients that download.  `rate` is
    requests per second of all together, at most.  `kinds` leaves out the clients of other kinds.
    """

    def __init__(
        self, address: int | tuple[str, int], files: Mapping[str, bytes], clients: int = 50, rate: float = 600.0,
        patience: float = PATIENCE, seed: int = 1, kinds: Iterable[str] = (),
    ) -> None:  # fmt: skip
        where = ("127.0.0.1", address) if isinstance(address, int) else address
        self._order = Order(where, dict(files), clients, rate, patience, seed, tuple(kinds))
        self._process: subprocess.Popen[bytes] | None = None
        self._pardons: list[tuple[float, frozenset[int]]] = []
        self._report: Report | None = None

    def __enter__(self) -> Load:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            self.stop()
        else:
            self.kill_clients()

    def start(self, answers: int = 1) -> None:
        """Begin, and wait for the first answers."""
        script = Path(__file__).with_name("load_clients.py")
        self._process = subprocess.Popen(
            [sys.executable, "-S", str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        order = pickle.dumps(asdict(self._order))
        self._write(b"%d\n" % len(order) + order)
        if answers:
            self.more(answers)

    def now(self) -> dict[str, int]:
        """Figures so far: answers, connections, retried, lost (forgiven ones included)."""
        self._write(b"look\n")
        figures: dict[str, int] = json.loads(self._line())
        return figures

    def more(self, answers: int, seconds: float = PATIENCE) -> None:
        """Wait until so many further answers have come."""
        wanted = self.now()["answers"] + answers
        eventually(lambda: self.now()["answers"] >= wanted, f"{answers} further answers", seconds)

    def forgive(self, ports: Iterable[int], at: float | None = None) -> None:
        """What is lost from now on (or `at`, monotonic seconds) on connections that these client ports have now."""
        self._pardons.append((time.monotonic() if at is None else at, frozenset(ports)))

    def kill(self, pid: int, number: int = signal.SIGKILL) -> None:
        """Kill a worker with a signal, and forgive what it had in hand."""
        halt(pid)
        self.forgive(client_ports_of(pid))
        os.kill(pid, number)
        if number != signal.SIGKILL:
            os.kill(pid, signal.SIGCONT)  # it dies of `number` before it runs on

    def stop(self) -> Report:
        """End: every client finishes what it has asked for.  Repeated calls return the same report."""
        if self._report is None:
            assert self._process is not None
            assert self._process.stdin is not None
            self._process.stdin.close()
            try:
                figures = json.loads(self._line())
                assert self._process.wait(PATIENCE) == 0
            finally:
                self.kill_clients()
            losses = [Loss(**loss) for loss in figures.pop("lost")]
            self._report = Report(**figures)
            for loss in losses:
                (self._report.forgiven if self._pardoned(loss) else self._report.lost).append(loss)
        return self._report

    @property
    def report(self) -> Report:
        """Of a load that has ended."""
        assert self._report is not None
        return self._report

    def kill_clients(self) -> None:
        """End at once, without a report."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def _pardoned(self, loss: Loss) -> bool:
        return any(loss.opened <= at <= loss.when and loss.port in ports for at, ports in self._pardons)

    def _write(self, data: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        view = memoryview(data)
        while view:
            view = view[self._process.stdin.write(view) :]

    def _line(self) -> bytes:
        """One line of the clients, who may have to finish a request first."""
        assert self._process is not None
        assert self._process.stdout is not None
        until = time.monotonic() + self._order.patience * 3
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self._process.stdout], [], [], max(0.0, until - time.monotonic()))
            assert ready, "the clients say nothing"
            data = self._process.stdout.read(1 << 16)
            assert data, "the clients ended too early"
            line += data
        return line


def halt(pid: int) -> None:
    """SIGSTOP, and wait until every thread of the process stands still."""
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: all(state in "TtZX" for state in _states(pid)), f"process {pid} stands still")


def _states(pid: int) -> list[str]:
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/stat"):
        with contextlib.suppress(OSError):
            found.append(path.read_text().rpartition(")")[2].split()[0])
    return found


def client_ports_of(pid: int) -> set[int]:
    """The ports of the clients whose connections a process has.  It should stand still: see `halt`.

    Raises ProcessLookupError for one that is gone.
    """
    inodes = set()
    try:
        entries = list(Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:
        raise ProcessLookupError(pid) from None
    for entry in entries:
        with contextlib.suppress(OSError):
            inodes.update(re.findall(r"socket:\[(\d+)\]", os.readlink(entry)))
    rows: list[list[Any]] = []
    for name in ("tcp", "tcp6"):
        with contextlib.suppress(FileNotFoundError):
            rows += [line.split() for line in Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]]
    ports = {int(row[2].rpartition(":")[2], 16) for row in rows if row[9] in inodes}
    return ports - {0}  # a listener has nobody at the other end
