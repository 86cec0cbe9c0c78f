"""Files beside handlers of the same worker that compute: how long the loop waits for the interpreter.

- Four connections keep four handlers busy, each with some 50 ms of pure Python.
- Meanwhile a file is asked for at a low fixed rate, so that what is measured is waiting and not a queue (`paced`).
- The same worker without company, and one at Python's own switch interval, stand beside it.
"""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from load import Load, spent, wrong
from servers import Server
from session import NotMeasured, Session

_FILE = "1k.html"
_PATH = f"/static/{_FILE}"
_RATE = 200  # requests per second
_CONNECTIONS = 4
_BURNING = 4
_UNDER_WAY = 1.0  # seconds until all handlers are busy
_LEAST_BUSY = 0.85  # share of its core from which on the handlers did compute


@dataclass(slots=True)
class _Case:
    """A server with or without company.  Milliseconds of each request, and of each round the worker's share of its
    core and the handlers' requests per second."""

    title: str
    name: str
    burns: bool
    took: list[float] = field(default_factory=list)
    shares: list[float] = field(default_factory=list)
    burnt: list[float] = field(default_factory=list)


def beside_burning(session: Session) -> tuple[list[str], dict[str, float]]:
    """Percentiles of the files' latency over all rounds."""
    cases = [
        _Case("httpd, nothing else to do", "httpd-handler", False),
        _Case("httpd, four handlers computing", "httpd-handler", True),
        _Case("at Python's own switch interval", "httpd-switch", True),
    ]
    cases = [case for case in cases if session.server(case.name)]
    ours = next((case for case in cases if case.burns and case.name == "httpd-handler"), None)
    if ours is None:
        raise NotMeasured("needs httpd-handler")
    for case in cases:
        _check(session, case)
    for turn in range(session.options.rounds):
        session.say(f"burning: round {turn + 1} of {session.options.rounds}", passing=True)
        for offset in range(len(cases)):
            _measure(session, cases[(turn + offset) % len(cases)])
    lines = [
        f"{_RATE} requests/s, milliseconds{'p50':>14} {'p99':>8} {'longest':>8} {'server':>7} {'computed/s':>11}",
        *(_line(case) for case in cases),
    ]
    busy = min(ours.shares) >= _LEAST_BUSY
    if not busy:
        lines.append("  not measured: something else had the server's core")
    return lines, {"p99 beside burning handlers": _percentile(ours.took, 0.99)} if busy else {}


def _check(session: Session, case: _Case) -> None:
    """End the run when a server answers other than it should."""
    server = session.server(case.name)
    assert server is not None
    for load in (Load(_PATH, body=(session.site / _FILE).read_bytes()), Load("/burn", body=b"Hello, world!\n")):
        if problem := server.ended() or wrong(load, server):
            raise SystemExit(f"bench: {case.name}: {problem}\n{server.said()}")


def _measure(session: Session, case: _Case) -> None:
    """One round of a case."""
    server = session.server(case.name)
    assert server is not None
    size = (session.site / _FILE).stat().st_size
    client = Path(__file__).with_name("paced.py")
    seconds = max(2, session.options.seconds)
    arguments = (server.port, _PATH, size, _RATE, seconds, _CONNECTIONS)
    with _company(session, server, case, seconds), spent(server) as cost:
        done = subprocess.run(
            ["taskset", "-c", str(session.client_core), sys.executable, str(client), *map(str, arguments)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"bench: {case.name}: {done.stderr.strip()}")
    case.took += [float(line) for line in done.stdout.split()]
    case.shares.append(cost.server / cost.wall)
    server.forget_log()


@contextlib.contextmanager
def _company(session: Session, server: Server, case: _Case, seconds: int) -> Iterator[None]:
    """Keep the handlers computing for as long as the block takes, if this case has them computing."""
    if not case.burns:
        yield
        return
    wrk = subprocess.Popen(
        ["taskset", "-c", str(session.client_core), "wrk", "-t1", f"-c{_BURNING}", f"-d{seconds + 3}s",
         f"http://127.0.0.1:{server.port}/burn"], stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        time.sleep(_UNDER_WAY)
        yield
    finally:
        said, _ = wrk.communicate()
    found = re.search(r"Requests/sec:\s+([\d.]+)", said)
    if found is None or "Non-2xx" in said:
        raise SystemExit(f"bench: {case.name}: the handlers that compute failed: {said}")
    case.burnt.append(float(found[1]))


def _line(case: _Case) -> str:
    took, share = case.took, sum(case.shares) / len(case.shares)
    burnt = f"{sum(case.burnt) / len(case.burnt):>11.1f}" if case.burnt else f"{'-':>11}"
    return (f"{case.title:<32} {_percentile(took, 0.5):>8.2f} {_percentile(took, 0.99):>8.2f} {max(took):>8.2f}"
            f" {share:>7.0%} {burnt}")  # fmt: skip


def _percentile(values: list[float], part: float) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]
