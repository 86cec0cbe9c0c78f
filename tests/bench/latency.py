"""Latency at a fixed rate: h2load sends when it is time to, whether or not the server keeps up.

- The rate is half of what the slower of the two servers can do, so that neither is measured in its overload.
- h2load keeps one request at a time on a connection.  One that is due while the connection waits is sent late and its
  wait is not in h2load's figure (coordinated omission).  So each answer that took longer than the interval of its
  connection stands for the requests that should have been sent meanwhile as well: L - I, L - 2 I, and so on, as
  HdrHistogram corrects it.
- Connections start one after the other: together they would send in bursts of all.
"""

from __future__ import annotations

import statistics
import subprocess
from pathlib import Path

from load import Load
from servers import Server
from session import NotMeasured, Session

_PAIR = ("httpd", "nginx")
_LOAD = Load("/1k.html")
_RAMP_MS = 3  # between the starts of two connections
_SECONDS = 4.0
_SETTLE_US = 300_000  # of a measurement's begin that is not counted: the ramp
_REACHED = 0.97  # share of the rate from which on it counts as kept


def at_half_load(session: Session) -> tuple[list[str], dict[str, float]]:
    """p50, p99 and p99.9 of httpd and nginx, taking turns, and how the p99 compare."""
    most = session.maximum("same", _LOAD, _PAIR)
    if len(most) < len(_PAIR):
        raise NotMeasured(f"needs {' and '.join(_PAIR)}")
    rate = min(most.values()) / 2
    found: dict[str, list[list[float]]] = {name: [] for name in most}
    for turn in range(session.options.rounds):
        for name in sorted(most, reverse=turn % 2 == 1):
            server = session.server(name)
            assert server is not None
            found[name].append(_measure(session, server, rate))
    lines = [f"{rate:,.0f} requests/s, microseconds{'p50':>19} {'p99':>9} {'p99.9':>9} {'of the rate':>12}"]
    for name, rounds in found.items():
        p50, p99, p999, share = (statistics.median(column) for column in zip(*rounds, strict=True))
        lines.append(f"{name:<38} {p50:>9,.0f} {p99:>9,.0f} {p999:>9,.0f} {share:>11.0%}")
        if share < _REACHED:
            lines.append(f"  {name} did not keep the rate")
    pairs = zip(*(found[name] for name in _PAIR), strict=True)
    return lines, {"p99 over nginx's": statistics.median(ours[1] / theirs[1] for ours, theirs in pairs)}


def _measure(session: Session, server: Server, rate: float) -> list[float]:
    """Percentiles in microseconds, and the share of the rate that was reached."""
    connections = session.options.connections
    each = rate / connections
    log = server.folder / "h2load.log"
    log.unlink(missing_ok=True)
    count = int(each * _SECONDS) * connections
    command = [
        "taskset", "-c", str(session.client_core), "h2load", "--h1", f"-c{connections}", f"-n{count}",
        "-r1", f"--rate-period={_RAMP_MS}ms", f"--rps={each:.3f}", f"--log-file={log}",
        f"http://127.0.0.1:{server.port}{_LOAD.path}",
    ]  # fmt: skip
    subprocess.run(command, capture_output=True, check=True, timeout=60)
    server.forget_log()
    return percentiles(log, 1e6 / each, rate)


def percentiles(log: Path, interval: float, rate: float) -> list[float]:
    """p50, p99, p99.9 of h2load's log, corrected for requests sent late, and the share of the rate that was reached."""
    rows = [line.split() for line in log.read_text().splitlines()]
    began = min(int(row[0]) for row in rows) + _SETTLE_US
    ended = began - _SETTLE_US + int((_SECONDS - 0.1) * 1e6)  # later some connections are through with theirs
    counted = [row for row in rows if began <= int(row[0]) < ended]
    if any(row[1] != "200" for row in rows):
        raise SystemExit(f"bench: {log.parent.name} failed requests at a fixed rate")
    times: list[float] = []
    for row in counted:
        late = float(row[2])
        times.append(late)
        while (late := late - interval) >= interval:
            times.append(late)
    times.sort()
    share = len(counted) / ((ended - began) / 1e6) / rate
    return [*(times[min(len(times) - 1, int(len(times) * part))] for part in (0.50, 0.99, 0.999)), share]
