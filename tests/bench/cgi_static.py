"""A file while 200 clients wait for scripts that sleep: they may cost the loop memory, and no time.

Each round measures with and without them, in an order that alternates; a server of its own has no other mounts.
"""

from __future__ import annotations

import contextlib
import socket
import statistics
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
from cgi_servers import HttpdCgi200
from load import Load, wrong
from servers import Server
from session import Session

_FILE = "1k.html"
_RATE = 500  # requests per second
_CONNECTIONS = 4
_WAITING = HttpdCgi200.concurrency
_PATIENCE = 20.0  # seconds until all scripts run, or none does


def beside_waiting(session: Session) -> tuple[list[str], dict[str, float]]:
    """p50 and p99 of the file with and without scripts, and the ratio of the p99."""
    server = session.own(HttpdCgi200(session.folder, session.site, None))
    server.start()
    if problem := wrong(Load(f"/{_FILE}"), server):
        raise SystemExit(f"bench: {server.name}: {problem}\n{server.said()}")
    found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
    for turn in range(session.options.rounds):
        session.say(f"cgi-static: round {turn + 1} of {session.options.rounds}", passing=True)
        for scripts in (False, True) if turn % 2 else (True, False):
            with _waiting(server) if scripts else contextlib.nullcontext():
                found[scripts].append(_measure(session, server))
    server.stop()
    lines = [f"{_RATE} requests/s, milliseconds{'p50':>14} {'p99':>8}"]
    for scripts, title in ((False, "nothing else to do"), (True, f"{_WAITING} clients wait for scripts")):
        p50, p99 = (statistics.median(column) for column in zip(*found[scripts], strict=True))
        lines.append(f"{title:<32} {p50:>8.2f} {p99:>8.2f}")
    pairs = zip(found[True], found[False], strict=True)
    return lines, {"p99 over that without scripts": statistics.median(one[1] / two[1] for one, two in pairs)}


@contextlib.contextmanager
def _waiting(server: Server) -> Iterator[None]:
    """Clients that wait for scripts, all of which run."""
    request = b"GET /cgi-bin/sleeps HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(_WAITING):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset: the client is gone
            sock.sendall(request)
        _until(server, _WAITING)
        yield
        if (running := _running(server)) != _WAITING:
            raise SystemExit(f"bench: {server.name}: of {_WAITING} scripts {running} run")
    _until(server, 0)


def _until(server: Server, count: int) -> None:
    until = time.monotonic() + _PATIENCE
    while (running := _running(server)) != count:
        if time.monotonic() > until:
            raise SystemExit(f"bench: {server.name}: {running} scripts run and not {count}\n{server.said()}")
        time.sleep(0.1)


def _running(server: Server) -> int:
    count = 0
    for process in psutil.Process(server.pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            count += process.name() == "sleep"
    return count


def _measure(session: Session, server: Server) -> tuple[float, float]:
    """p50 and p99 in milliseconds."""
    size = (session.site / _FILE).stat().st_size
    arguments = (server.port, f"/{_FILE}", size, _RATE, max(2, session.options.seconds), _CONNECTIONS)
    client = Path(__file__).with_name("paced.py")
    done = subprocess.run(
        [sys.executable, str(client), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"bench: {server.name}: {done.stderr.strip()}")
    server.forget_log()
    took = sorted(float(line) for line in done.stdout.split())
    return took[len(took) // 2], took[int(len(took) * 0.99)]
