"""What the machine gives the daemon: descriptors, processors, memory.

`os.cpu_count` counts the machine's processors; a container or a service often may use fewer.  What counts is
the affinity mask and the cgroup quota, which holds for every group from the process' own up to the root
(cgroups(7), the kernel's cgroup-v2.rst and sched-bwc.rst).
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

_DARWIN_OPEN_MAX = 10240  # macOS reports no hard limit, but refuses a soft one above this


def raise_nofile(wanted: int) -> tuple[int, int]:
    """Raise the soft RLIMIT_NOFILE to `wanted`, or as near as is allowed; returns it before and after.

    It is never lowered.  The hard limit goes up too where the process may do that (root, CAP_SYS_RESOURCE).
    """
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if before == resource.RLIM_INFINITY or before >= wanted:
        return before, before
    limited = hard != resource.RLIM_INFINITY
    tries = [(wanted, max(wanted, hard) if limited else hard)]
    if limited:
        tries.append((min(wanted, hard), hard))
    tries.append((min(wanted, _DARWIN_OPEN_MAX), hard))
    for soft, new_hard in tries:
        if soft > before:
            # ValueError is what Python makes of EPERM and EINVAL here.
            with contextlib.suppress(ValueError, OSError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, new_hard))
                return before, soft
    return before, before


def usable_cpus(proc: Path = Path("/proc/self")) -> int:
    """Processors that this process may use: its affinity or, if less, its cgroup quota; at least 1.

    Part of a processor counts as one.  `proc` is the process' folder in /proc.
    """
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        groups, mounts = (proc / "cgroup").read_text(), (proc / "mountinfo").read_text()
    except OSError:  # not Linux, or no /proc: no quota to be found
        return max(1, count)
    quotas = [cpus for folder in cgroup_folders(groups, mounts) for cpus in _quotas(folder)]
    return max(1, min([count, *quotas]))


def cgroup_folders(groups: str, mounts: str) -> list[Path]:
    """Folders that may hold a CPU quota for a process: its cgroups and all above them that are mounted.

    `groups` is the text of /proc/PID/cgroup ("ID:CONTROLLERS:PATH"), `mounts` that of /proc/PID/mountinfo.
    """
    paths: dict[str, str] = {}  # "cgroup2" or "cgroup" (the v1 hierarchy with the cpu controller) -> path
    for line in groups.splitlines():
        number, controllers, path = line.split(":", 2)
        if number == "0" and not controllers:
            paths["cgroup2"] = path
        elif "cpu" in controllers.split(","):
            paths["cgroup"] = path
    folders = []
    for line in mounts.splitlines():
        fields, _, rest = line.partition(" - ")
        root, mount_point = (_unescape(field) for field in fields.split(" ")[3:5])
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup" and "cpu" not in options.split(" ")[-1].split(","):
            continue
        if kind in paths:
            folders += _upwards(Path(mount_point), root, paths[kind])
    return folders


def private_memory(pid: int) -> int:
    """Bytes of memory that only process `pid` has: what ending it would free.

    Linux: the private pages of smaps_rollup.  They are open to the process itself, its user, and
    CAP_SYS_PTRACE, which the root master does not keep; for others it is the anonymous resident memory, which
    counts pages still shared with the parent since fork as well, so it is never too low.  Raises
    ProcessLookupError, PermissionError.
    """
    if sys.platform != "linux":
        return _private_memory_psutil(pid)
    # A zombie has an empty status; its smaps_rollup, like that of a process that ends meanwhile, answers
    # ESRCH.
    try:
        try:
            text, pattern = Path(f"/proc/{pid}/smaps_rollup").read_text(), r"^Private_\w+: +(\d+) kB$"
        except PermissionError:
            text, pattern = Path(f"/proc/{pid}/status").read_text(), r"^RssAnon:\s+(\d+) kB$"
    except FileNotFoundError:
        raise ProcessLookupError(f"there is no process {pid}") from None
    return 1024 * sum(int(size) for size in re.findall(pattern, text, re.MULTILINE))


def _private_memory_psutil(pid: int) -> int:
    import psutil  # type: ignore[import-untyped, unused-ignore]  # Linux does without

    try:
        return int(psutil.Process(pid).memory_full_info().uss)
    except psutil.NoSuchProcess:
        raise ProcessLookupError(f"there is no process {pid}") from None
    except psutil.AccessDenied:
        raise PermissionError(f"the memory of process {pid} is not ours to see") from None


def _upwards(mount_point: Path, root: str, path: str) -> list[Path]:
    """The folder of cgroup `path` and those above it, in a mount that shows the hierarchy from `root` on."""
    inside = [part for part in path.split("/") if part]
    above = [part for part in root.split("/") if part]
    if inside[: len(above)] != above or ".." in inside:
        # A container that sees the outer path, or a mount outside of our cgroup namespace: its top is the
        # best there is.
        return [mount_point]
    folder = mount_point.joinpath(*inside[len(above) :])
    return [folder, *list(folder.parents)[: len(inside) - len(above)]]


def _quotas(folder: Path) -> Iterator[int]:
    """The CPU quota set in a cgroup folder, in whole processors rounded up; nothing where none is set."""
    with contextlib.suppress(OSError, ValueError):  # ValueError: "max", no quota
        quota, period = (folder / "cpu.max").read_text().split()
        yield _rounded_up(int(quota), int(period))
    with contextlib.suppress(OSError, ValueError):
        quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        if int(quota) > 0:  # -1: no quota
            yield _rounded_up(int(quota), int(period))


def _rounded_up(quota: int, period: int) -> int:
    return -(-quota // period)


def _unescape(field: str) -> str:
    """mountinfo writes blanks and backslashes as three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), field)
