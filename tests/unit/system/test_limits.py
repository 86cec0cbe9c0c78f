from __future__ import annotations

import contextlib
import mmap
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from httpd.system import limits

InChild = Callable[[Callable[[], Any]], Any]
MIB = 1024**2
STRANGER = 54321


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "answer"),
    [
        (64, 128, 100, [64, 100]),
        (64, 128, 128, [64, 128]),
        (64, 128, 64, [64, 64]),
        (64, 128, 10, [64, 64]),
        (128, 128, 100, [128, 128]),
    ],
)
def test_nofile_within_the_hard_limit(
    in_child: InChild, soft: int, hard: int, wanted: int, answer: list[int]
) -> None:
    def outcome() -> list[Any]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        return [limits.raise_nofile(wanted), resource.getrlimit(resource.RLIMIT_NOFILE)]

    assert in_child(outcome) == [answer, [answer[1], hard]]


def test_nofile_who_may_raises_the_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    state = [64, 128]
    monkeypatch.setattr(resource, "getrlimit", lambda which: tuple(state))
    monkeypatch.setattr(resource, "setrlimit", lambda which, new: state.__setitem__(slice(None), new))
    assert limits.raise_nofile(500) == (64, 500)
    assert state == [500, 500]
    assert limits.raise_nofile(400) == (500, 500)
    assert state == [500, 500]


@pytest.mark.usefixtures("root")
def test_nofile_root_raises_the_hard_limit(in_child: InChild) -> None:
    def outcome() -> list[Any]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 129))
        except ValueError:
            return []
        return [limits.raise_nofile(500), resource.getrlimit(resource.RLIMIT_NOFILE)]

    found = in_child(outcome)
    if not found:
        pytest.skip("needs CAP_SYS_RESOURCE")
    assert found == [[64, 500], [500, 500]]


def test_nofile_others_get_what_is_allowed(in_child: InChild) -> None:
    def outcome() -> list[Any]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
        if os.geteuid() == 0:
            os.setresuid(STRANGER, STRANGER, STRANGER)
        return [limits.raise_nofile(500), resource.getrlimit(resource.RLIMIT_NOFILE)]

    assert in_child(outcome) == [[64, 128], [128, 128]]


def test_nofile_above_what_the_kernel_allows(in_child: InChild) -> None:
    """Above fs.nr_open even root is refused."""

    def outcome() -> list[Any]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 128))
        return [limits.raise_nofile(2**40), resource.getrlimit(resource.RLIMIT_NOFILE)]

    assert in_child(outcome) == [[64, 128], [128, 128]]


def test_nofile_with_macos_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    """No hard limit, but a soft one above OPEN_MAX is refused."""
    state = [256, resource.RLIM_INFINITY]

    def setrlimit(_which: int, new: tuple[int, int]) -> None:
        if new[0] > 10240:
            raise ValueError("current limit exceeds maximum limit")
        state[:] = new

    monkeypatch.setattr(resource, "getrlimit", lambda which: tuple(state))
    monkeypatch.setattr(resource, "setrlimit", setrlimit)
    assert limits.raise_nofile(20000) == (256, 10240)
    assert state == [10240, resource.RLIM_INFINITY]
    state[0] = resource.RLIM_INFINITY
    assert limits.raise_nofile(20000) == (resource.RLIM_INFINITY,) * 2


V2 = "31 23 0:28 {root} {top} rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "32 31 0:29 {root} {top} rw,relatime - cgroup cgroup rw,cpu,cpuacct"


class Machine:
    """A /proc/PID folder and cgroup mounts, with 8 processors in the affinity mask."""

    def __init__(self, folder: Path) -> None:
        self.proc, self.top = folder / "proc", folder / "with blank"
        self.proc.mkdir()
        self.top.mkdir()

    def member(self, text: str, mount: str, root: str = "/") -> None:
        (self.proc / "cgroup").write_text(text)
        top = str(self.top).replace(" ", r"\040")
        other = "22 1 0:5 / / rw - ext4 /dev/sda rw\n33 31 0:30 / /x rw - cgroup cgroup rw,cpuset\n"
        (self.proc / "mountinfo").write_text(other + mount.format(root=root, top=top) + "\n")

    def group(self, path: str, **files: str) -> None:
        folder = self.top / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name.replace("_", ".", 1)).write_text(text + "\n")

    def cpus(self) -> int:
        return limits.usable_cpus(self.proc)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)
    yield Machine(tmp_path)


def v1(quota: str, period: str = "100000") -> dict[str, str]:
    return {"cpu_cfs_quota_us": quota, "cpu_cfs_period_us": period}


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("max 100000", 8),
        ("50000 100000", 1),
        ("100000 100000", 1),
        ("250000 100000", 3),
        ("9900000 100000", 8),
        ("garbage", 8),
        ("", 8),
    ],
)
def test_quota_v2(machine: Machine, text: str, cpus: int) -> None:
    machine.member("0::/\n", V2)
    machine.group("", cpu_max=text)
    assert machine.cpus() == cpus


@pytest.mark.parametrize(("quota", "cpus"), [("-1", 8), ("50000", 1), ("150000", 2), ("800000", 8), ("x", 8)])
def test_quota_v1(machine: Machine, quota: str, cpus: int) -> None:
    machine.member("4:memory:/m\n3:cpu,cpuacct:/a\n1:name=systemd:/s\n0::/u\n", V1)
    machine.group("a", **v1(quota))
    assert machine.cpus() == cpus


def test_the_smallest_quota_of_all_groups_above_counts(machine: Machine) -> None:
    machine.member("0::/a/b/c\n", V2)
    machine.group("a/b/c", cpu_max="600000 100000")
    assert machine.cpus() == 6
    machine.group("a", cpu_max="300000 100000")
    assert machine.cpus() == 3
    machine.group("", cpu_max="200000 100000")
    assert machine.cpus() == 2
    (machine.top.parent / "cpu.max").write_text("100000 100000\n")
    assert machine.cpus() == 2, "above the mount there is no cgroup"


def test_a_container_that_sees_its_outer_path(machine: Machine) -> None:
    """cgroup v1 without a cgroup namespace: the mount starts at the container's own group."""
    machine.member("3:cpu,cpuacct:/docker/abc/in\n", V1, root="/docker/abc")
    machine.group("", **v1("200000"))
    assert machine.cpus() == 2
    machine.group("in", **v1("100000"))
    assert machine.cpus() == 1


@pytest.mark.parametrize(("path", "root"), [("/elsewhere", "/docker/abc"), ("/../other", "/")])
def test_a_path_outside_of_the_mount_means_its_top(machine: Machine, path: str, root: str) -> None:
    machine.member(f"0::{path}\n", V2, root=root)
    machine.group("", cpu_max="200000 100000")
    (machine.top.parent / "cpu.max").write_text("100000 100000\n")
    assert machine.cpus() == 2


def test_affinity_counts(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.member("0::/\n", V2)
    machine.group("", cpu_max="400000 100000")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {5})
    assert machine.cpus() == 1


def test_without_proc_and_affinity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, cpus in ((6, 6), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert limits.usable_cpus(tmp_path) == cpus


def test_this_machine() -> None:
    assert 1 <= limits.usable_cpus() <= (os.cpu_count() or 1)


@pytest.fixture
def block() -> Iterator[mmap.mmap]:
    """32 MiB of memory, not written to."""
    with mmap.mmap(-1, 32 * MIB, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made:
        yield made


@pytest.mark.usefixtures("linux")
def test_private_memory_grows_with_what_is_written(block: mmap.mmap) -> None:
    before = limits.private_memory(os.getpid())
    block.write(bytes(32 * MIB))
    assert limits.private_memory(os.getpid()) - before > 24 * MIB


@pytest.mark.usefixtures("linux")
def test_private_memory_leaves_shared_pages_out(in_child: InChild, block: mmap.mmap) -> None:
    block.write(bytes(32 * MIB))
    assert in_child(lambda: limits.private_memory(os.getpid())) < 32 * MIB
    assert limits.private_memory(os.getpid()) > 32 * MIB


@pytest.mark.usefixtures("linux")
def test_private_memory_of_another_user(in_child: InChild) -> None:
    """Without CAP_SYS_PTRACE only the resident anonymous memory is to be had."""
    owner = os.getpid()
    if os.geteuid() != 0:
        pytest.skip("needs root: looks at root's process as another user")

    def outcome() -> int:
        os.setresuid(STRANGER, STRANGER, STRANGER)
        with pytest.raises(PermissionError):
            Path(f"/proc/{owner}/smaps_rollup").read_text()
        return limits.private_memory(owner)

    assert in_child(outcome) > MIB


@pytest.mark.usefixtures("linux")
def test_private_memory_of_the_dead() -> None:
    child = subprocess.Popen(["true"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # a zombie now
    with contextlib.suppress(ProcessLookupError):
        assert limits.private_memory(child.pid) == 0
    child.wait()
    with pytest.raises(ProcessLookupError):
        limits.private_memory(child.pid)


def test_private_memory_elsewhere_is_psutils(monkeypatch: pytest.MonkeyPatch) -> None:
    import psutil  # type: ignore[import-untyped, unused-ignore]

    monkeypatch.setattr(sys, "platform", "darwin")
    assert limits.private_memory(os.getpid()) > MIB
    with pytest.raises(ProcessLookupError):
        limits.private_memory(2**22 + 1)

    def denied(self: Any) -> SimpleNamespace:
        raise psutil.AccessDenied(self.pid)

    monkeypatch.setattr(psutil.Process, "memory_full_info", denied)
    with pytest.raises(PermissionError):
        limits.private_memory(os.getpid())
