"""`make profile`: which system calls httpd's worker makes per request, as strace counts them.

strace slows the worker several times over, so the client is always ahead and a round of the loop finds every
connection ready: calls that are made once per round (epoll_wait, the log's write) are the fewest they can be.
"""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from load import Load
from measures import MEASURES, Throughput
from servers import Httpd
from session import Session

_CALL = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:(\d+)\s+)?(\w+)$", re.MULTILINE)
_LEAST = 0.005  # calls per request that are worth a line


def run(session: Session) -> None:
    """Print a table for each chosen measure that is a load."""
    if shutil.which("strace") is None:
        print("profile: strace is not installed, nothing is counted")
        return
    server = session.own_httpd()
    server.start()
    for measure in MEASURES:
        if isinstance(measure, Throughput) and not measure.connections and measure.name in session.options.only:
            print(f"\n{measure.title} ({measure.name})")
            print("\n".join(_table(session, server, measure.load)), flush=True)


def _table(session: Session, server: Httpd, load: Load) -> Iterator[str]:
    """Calls per request, the most frequent first."""
    client = session.client()
    client.run(load, server, 1)
    report = server.folder / "strace"
    (worker,) = server.workers()
    command = ["strace", "-c", "-f", "-qq", "-o", str(report), "-p", str(worker.pid)]
    tracer = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        if not _attached(tracer, worker.pid):
            yield f"strace can't attach: {_said(tracer)}"
            return
        requests = client.run(load, server, session.options.seconds).requests
    finally:
        tracer.send_signal(signal.SIGINT)
        tracer.wait(20)
    counts = {name: (int(calls), int(errors or 0)) for calls, errors, name in _CALL.findall(report.read_text())}
    counts.pop("total", None)
    for name, (calls, errors) in sorted(counts.items(), key=lambda item: -item[1][0]):
        if calls / requests >= _LEAST:
            failed = f", {errors / requests:.2f} of them failed" if errors / requests >= _LEAST else ""
            yield f"{calls / requests:>8.2f} {name}{failed}"
    yield f"{sum(calls for calls, _ in counts.values()) / requests:>8.2f} in all, over {requests:,} requests"


def _attached(tracer: subprocess.Popen[bytes], pid: int) -> bool:
    """Wait until every thread of the process has a tracer; false when strace gave up."""
    until = time.monotonic() + 10
    while tracer.poll() is None and time.monotonic() < until:
        statuses = [(task / "status").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        if not any("TracerPid:\t0\n" in status for status in statuses):
            return True
        time.sleep(0.01)
    return False


def _said(tracer: subprocess.Popen[bytes]) -> str:
    assert tracer.stderr is not None
    tracer.terminate()
    return tracer.stderr.read().decode(errors="replace").strip()
