"""How long a reload takes, and how long a killed worker is missed.  Nobody sends requests meanwhile."""

from __future__ import annotations

import os
import signal
import statistics
import time
from collections.abc import Callable
from typing import Any

from servers import Httpd
from session import Session

_RELOADS = 20
_KILLS = 20
_LIMIT = 30.0  # seconds
_GLANCE = 0.002  # seconds between two looks

Status = dict[str, Any]


def reload(session: Session) -> tuple[list[str], dict[str, float]]:
    """From the call to the answer, with 2 and 8 workers, and nothing left of the generation before."""
    lines: list[str] = []
    figures: dict[str, float] = {}
    for workers in (2, 8):
        server = session.own_httpd(pinned=False, workers=workers)
        server.start()
        times = []
        for _ in range(_RELOADS):
            began = time.monotonic()
            server.call("reload")
            times.append(time.monotonic() - began)
            _wait(server, lambda status, count=workers: len(status["workers"]) == count)
        server.stop()
        lines.append(f"{workers} workers  {_summary(times)}")
        figures[f"reload with {workers} workers"] = max(times)
    return lines, figures


def recovery(session: Session) -> tuple[list[str], dict[str, float]]:
    """From kill -9 of a worker until two serve again."""
    server = session.own_httpd(pinned=False, workers=2)
    server.start()
    _wait(server, lambda status: _whole(status, 0))
    times = []
    for _ in range(_KILLS):
        victim = server.call("status")["workers"][0]["pid"]
        began = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        _wait(server, lambda status, gone=victim: _whole(status, gone))
        times.append(time.monotonic() - began)
    server.stop()
    return [_summary(times)], {"kill to full strength": max(times)}


def _summary(times: list[float]) -> str:
    return f"median {statistics.median(times):.3f} s, longest {max(times):.3f} s of {len(times)}"


def _whole(status: Status, gone: int) -> bool:
    serving = [worker["pid"] for worker in status["workers"] if worker["state"] == "serving"]
    return len(serving) == 2 and gone not in serving


def _wait(server: Httpd, enough: Callable[[Status], bool]) -> None:
    until = time.monotonic() + _LIMIT
    while not enough(server.call("status")):
        if time.monotonic() > until:
            raise SystemExit(f"bench: httpd is not as it should be after {_LIMIT:.0f} s")
        time.sleep(_GLANCE)
