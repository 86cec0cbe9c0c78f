"""What httpd costs beside requests: memory, idle connections, idle time, and its start.

Memory is the worker's USS: what would be free if it ended.  What it shares with the master is in no figure here.
"""

from __future__ import annotations

import contextlib
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

import heads
import psutil
from files import SMALL
from load import Load, exchange
from servers import SOURCE, Httpd
from session import NotMeasured, Session

_REQUESTS = 100_000
_IDLE = 10_000
_MIB = 1 << 20
_STARTS = 7
_START_LIMIT = 20.0  # seconds
_ASK = b"GET /1k.html HTTP/1.1\r\nHost: localhost\r\n\r\n"
_SETTLE_SECONDS = 3.0  # from the last request until nothing of it is left to do


def memory(session: Session) -> tuple[list[str], dict[str, float]]:
    """USS after 100,000 requests with differing heads.  They are for 16 files of 1 KiB, which the file cache then
    holds: these 16 KiB are taken off, its other bytes are what httpd makes of them."""
    server = session.own_httpd()
    server.start()
    exchange(server.port, _ASK)
    first = _uss(server)
    client, load, done = session.client(), Load(replay=heads.browsers), 0
    while done < _REQUESTS:
        done += client.run(load, server, 1).requests
    uss = _uss(server) - len(SMALL) * 1024
    rss = server.workers()[0].memory_info().rss
    server.stop()
    lines = [
        f"USS {first / _MIB:.2f} MiB after the first request, {uss / _MIB:.2f} MiB after {done:,}",
        f"(RSS {rss / _MIB:.1f} MiB: with what it shares with the master)",
    ]
    return lines, {"USS": uss / _MIB}


def idle_connections(session: Session) -> tuple[list[str], dict[str, float]]:
    """How much more USS 10,000 connections are that wait for their next request, each after its first."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < _IDLE + 200:
        raise NotMeasured(f"needs {_IDLE + 200} open files, and the hard limit is {hard}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (_IDLE + 200, hard))
    server = session.own_httpd()
    server.start()
    session.client().run(Load("/1k.html"), server, 1)
    before, began = _uss(server), time.monotonic()
    with contextlib.ExitStack() as stack:
        for _ in range(_IDLE):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
            sock.sendall(_ASK)
            if not sock.recv(65536).startswith(b"HTTP/1.1 200 "):
                raise SystemExit("bench: httpd did not answer one of many connections")
        took = time.monotonic() - began
        more = _uss(server) - before
        held = sum(worker["connections"] for worker in server.status()["workers"])
    server.stop()
    line = f"{before / _MIB:.2f} MiB and {more / _MIB:.2f} MiB more with {held:,} connections, opened in {took:.1f} s"
    return [line], {"more USS": more / _MIB} if held == _IDLE else {}


def start(session: Session) -> tuple[list[str], dict[str, float]]:
    """From exec to the first 200, two workers; with byte code and, after an update say, without httpd's own."""
    sources = {name: session.folder / "start" / name for name in ("compiled", "uncompiled")}
    for folder in sources.values():
        shutil.copytree(SOURCE / "httpd", folder / "httpd", ignore=shutil.ignore_patterns("__pycache__"))
    compile_all = [sys.executable, "-m", "compileall", "-q", str(sources["compiled"])]
    subprocess.run(compile_all, check=True)
    times: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(_STARTS):
        for name, source in sources.items():
            times[name].append(_first_answer(session, source))
    lines = [
        f"{name:<11} {statistics.median(took):.3f} s (from {min(took):.3f} to {max(took):.3f}, {_STARTS} starts)"
        for name, took in times.items()
    ]
    return lines, {f"{name} start": statistics.median(took) for name, took in times.items()}


def _first_answer(session: Session, source: Path) -> float:
    """Seconds from exec to the first 200."""
    server = session.own_httpd(pinned=False, workers=2, source=source, settings={"PYTHONDONTWRITEBYTECODE": "1"})
    began = server.spawn()
    while True:
        with contextlib.suppress(OSError):
            response, _ = exchange(server.port, _ASK)
            took = time.monotonic() - began
            server.stop()
            if response.status != 200:
                raise SystemExit(f"bench: httpd's first answer is {response.status}")
            return took
        server.still_starting(began + _START_LIMIT)
        time.sleep(0.001)


def idle(session: Session) -> tuple[list[str], dict[str, float]]:
    """How often an idle master and idle workers wake up: voluntary context switches of all their threads."""
    server = session.own_httpd(pinned=False, workers=2)
    server.start()
    exchange(server.port, _ASK)
    time.sleep(_SETTLE_SECONDS)
    seconds = session.options.idle_seconds
    workers = {f"worker {number}": process.pid for number, process in enumerate(server.workers())}
    processes = {"master": server.pid, **workers}
    before = {name: wakeups(pid) for name, pid in processes.items()}
    session.say(f"idle: {seconds} s", passing=True)
    time.sleep(seconds)
    found = {name: wakeups(pid) - before[name] for name, pid in processes.items()}
    server.stop()
    lines = [f"{name:<11} {count} wake-ups in {seconds} s" for name, count in found.items()]
    most = max(found[name] for name in workers) / seconds
    return lines, {"wake-ups of the master": found["master"], "wake-ups of a worker": most}


def wakeups(pid: int) -> int:
    """Voluntary context switches of a process so far, of all its threads."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        found = re.search(r"^voluntary_ctxt_switches:\s+(\d+)", (task / "status").read_text(), re.MULTILINE)
        total += int(found[1]) if found else 0
    return total


def _uss(server: Httpd) -> int:
    """The worker's private memory in bytes."""
    (worker,) = server.workers()
    return int(psutil.Process(worker.pid).memory_full_info().uss)
