"""The load: wrk on a core of its own, and what the server's worker spent on it."""

from __future__ import annotations

import http.client
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from servers import Server


@dataclass(frozen=True)
class Result:
    """One measurement.  `cpu` is microseconds of the worker's CPU time per request."""

    rate: float
    cpu: float
    errors: int


def wrk(server: Server, path: str, script: str, seconds: int, connections: int, core: int) -> Result:
    """Run wrk against a server."""
    command = ["taskset", "-c", str(core), "wrk", "-t1", f"-c{connections}", f"-d{seconds}s"]
    if script:
        command += ["-s", script]
    before = server.cpu_seconds()
    command.append(f"http://127.0.0.1:{server.port}{path}")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    spent = server.cpu_seconds() - before
    requests = int(_number(r"(\d+) requests in", done.stdout))
    bad = _number(r"Non-2xx or 3xx responses: (\d+)", done.stdout)
    errors = sum(int(count) for count in re.findall(r"(?:connect|read|write|timeout) (\d+)", done.stdout))
    rate = _number(r"Requests/sec:\s+([\d.]+)", done.stdout)
    return Result(rate, spent / max(1, requests) * 1e6, int(bad) + errors)


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0


def same_bytes(port: int, path: str, file: Path) -> None:
    """Fail unless the server answers with the file's bytes: nobody is timed for doing something else."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    connection.request("GET", path)
    response = connection.getresponse()
    if response.status != 200 or response.read() != file.read_bytes():
        raise SystemExit(f"bench: port {port} does not serve {path} right")
    connection.close()
