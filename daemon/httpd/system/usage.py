"""What the kernel tells of a process: its share of processor and memory, and who was killed for want of memory.

Rules: a process that is gone, or a kernel that does not tell, gives None or zeros, never an error.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import psutil


class Usage(NamedTuple):
    """Of a process' main thread: seconds that it ran, and seconds that it waited for a free processor."""

    ran: float
    waited: float


def usage(pid: int) -> Usage | None:
    """What `pid` had of the processors so far; None where the kernel does not tell (proc(5): /proc/PID/schedstat)."""
    try:
        ran, waited, *_ = Path(f"/proc/{pid}/schedstat").read_text("ascii").split()
    except (OSError, ValueError):
        return None
    return Usage(int(ran) / 1e9, int(waited) / 1e9)


def footprint(pid: int) -> tuple[float, int]:
    """Seconds of CPU time and resident bytes; zeros for a process that is just gone."""
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return round(times.user + times.system, 2), process.memory_info().rss
    except psutil.Error:
        return 0.0, 0


def _counter(path: str, name: str) -> int:
    with contextlib.suppress(OSError, ValueError):
        for line in Path(path).read_text("ascii").splitlines():
            key, _, value = line.partition(" ")
            if key == name:
                return int(value)
    return 0


def out_of_memory_kills() -> int:
    """How many processes of this machine the kernel has killed for want of memory, in cgroups too (Linux 4.13)."""
    return _counter("/proc/vmstat", "oom_kill")


def listen_overflows() -> int:
    """How many connections of this network namespace found the queue of their listener full."""
    with contextlib.suppress(OSError, ValueError):
        rows = [line.split() for line in Path("/proc/net/netstat").read_text("ascii").splitlines()]
        for names, values in zip(rows[::2], rows[1::2], strict=True):
            if "ListenOverflows" in names:
                return int(values[names.index("ListenOverflows")])
    return 0
