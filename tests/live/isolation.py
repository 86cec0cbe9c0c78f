"""What a fault needs that a test can't do by itself: namespaces, control groups, a tracer, a tampered C library.

Rules:

- Nothing outside changes: a namespace ends with its processes, a control group is removed, a tracer detaches.
- What the machine or the user can't do is a skip that names what is missing.
- Threads, not processes: `unshare` is per thread, what a thread starts is in the thread's namespaces, and a test goes
  on using the harness from there.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar
from unittest import mock

import pytest

from live.daemon import Daemon, eventually

NEW_MOUNTS, NEW_USERS, NEW_PIDS, NEW_NETWORK = 0x00020000, 0x10000000, 0x20000000, 0x40000000
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000
_PR_CAPBSET_DROP = 24
_SYS_PIDFD_GETFD = 438  # the same on every architecture (Linux 5.6)

T = TypeVar("T")

_libc = ctypes.CDLL(None, use_errno=True)


def needs(*commands: str) -> pytest.MarkDecorator:
    """Skip where one of the commands is not installed."""
    missing = [command for command in commands if shutil.which(command) is None]
    return pytest.mark.skipif(bool(missing), reason=f"no {', '.join(missing)} here")


def _call(name: str, *arguments: object) -> int:
    result = int(getattr(_libc, name)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """New namespaces for this thread; mounts of a new mount namespace are seen by nobody else.  Raises OSError."""
    _call("unshare", flags)
    if flags & NEW_MOUNTS:
        _call("mount", b"none", b"/", None, ctypes.c_ulong(_MS_REC | _MS_PRIVATE), None)


def apart(flags: int, body: Callable[[], T]) -> T:
    """What `body` returns, run in a thread with namespaces of its own; skips where that is forbidden."""
    results: list[T] = []
    failures: list[BaseException] = []

    def run() -> None:
        try:
            try:
                unshare(flags)
            except OSError as error:
                pytest.skip(f"no namespaces here: {error}")
            results.append(body())
        except BaseException as error:  # also what pytest raises to skip: it belongs to the test's thread
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failures:
        raise failures[0]
    return results[0]


def command(*words: str | Path) -> None:
    """Run a command that has to work, in the namespaces of this thread."""
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, (words, done.stderr)


def mount_proc() -> None:
    """For a new process in a new PID namespace: a /proc that shows it."""
    unshare(NEW_MOUNTS)
    _call("mount", b"proc", b"/proc", b"proc", ctypes.c_ulong(0), None)


def become_root_of_nothing() -> None:
    """For a new process: root in a user namespace that maps no other user, where setgroups is denied."""
    user, group = os.geteuid(), os.getegid()
    _call("unshare", NEW_USERS)
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1")


def drop_from_bounding_set(capability: int) -> None:
    """For a new process: root without one of its capabilities."""
    zero = ctypes.c_ulong(0)
    _call("prctl", _PR_CAPBSET_DROP, ctypes.c_ulong(capability), zero, zero, zero)


def descriptor_of(pid: int, fd: int) -> int:
    """A copy of another process' descriptor, of the same open socket.  Raises OSError."""
    pidfd = os.pidfd_open(pid)
    try:
        return _call("syscall", _SYS_PIDFD_GETFD, pidfd, fd, 0)
    finally:
        os.close(pidfd)


class Contained(Daemon):
    """A daemon that is PID 1 of a PID namespace, as in a container.  Pids that it tells are those of the inside."""

    def spawn(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        popen = subprocess.Popen
        before = options.pop("before", None)

        def prepare() -> None:
            mount_proc()
            if before is not None:
                before()

        def inside(*args: Any, **keys: Any) -> subprocess.Popen[bytes]:
            return apart(NEW_PIDS, lambda: popen(*args, **keys))

        with mock.patch("live.daemon.subprocess.Popen", inside):
            return super().spawn(*arguments, before=prepare, **options)


@contextlib.contextmanager
def control_group(controller: str, name: str) -> Iterator[Path]:
    """A folder of a new control group (cgroups(7), version 1 or 2); skips where none can be made."""
    try:
        lines = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    except OSError:
        pytest.skip("no control groups here")
    paths = {names: path.lstrip("/") for _, names, path in lines}
    old = Path("/sys/fs/cgroup", controller)
    new = Path("/sys/fs/cgroup", paths.get("", ""))
    parent = old if (old / "cgroup.procs").exists() else new
    made = parent / f"httpd-test-{name}-{os.getpid()}"
    try:
        made.mkdir()
    except OSError as error:
        pytest.skip(f"no control group of our own: {error}")
    try:
        if parent == new and controller not in ("freezer", *(made / "cgroup.controllers").read_text().split()):
            pytest.skip(f"the controller {controller} is not ours to use")
        yield made
    finally:
        eventually(lambda: not (made / "cgroup.procs").read_text(), "nobody is left in the control group")
        made.rmdir()


def join(group: Path) -> None:
    """For a new process: it and all that it starts belong to the control group."""
    (group / "cgroup.procs").write_text(str(os.getpid()))


def freeze(group: Path) -> None:
    """Stop all processes of a control group, and return when they stand still."""
    if (group / "freezer.state").exists():
        (group / "freezer.state").write_text("FROZEN")
        eventually(lambda: (group / "freezer.state").read_text() == "FROZEN\n", "frozen")
    else:
        (group / "cgroup.freeze").write_text("1")
        eventually(lambda: "frozen 1" in (group / "cgroup.events").read_text(), "frozen")


def thaw(group: Path) -> None:
    """Let them go on."""
    if (group / "freezer.state").exists():
        (group / "freezer.state").write_text("THAWED")
    else:
        (group / "cgroup.freeze").write_text("0")


@contextlib.contextmanager
def injected(pid: int, *what: str) -> Iterator[None]:
    """A tracer lets system calls of a process fail, as strace's `inject=` says (strace(1)); `what` may have options."""
    arguments = ["strace", "-f", "-o", "/dev/null", "-p", str(pid), *what]
    process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        assert process.stderr is not None
        said = b""
        while b"attached" not in said:
            line = process.stderr.readline()
            if not line:
                pytest.skip(f"strace can't do it here: {said.decode().strip()}")
            said += line
        yield
    finally:
        process.terminate()
        process.communicate(timeout=20)


def preload(folder: Path, source: str) -> str:
    """A shared object made of C `source`, for LD_PRELOAD; skips without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler here")
    (folder / "shim.c").write_text(source)
    done = subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", str(folder / "shim.so"), str(folder / "shim.c"), "-ldl"],
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"no shared object can be made here: {done.stderr[-300:]}")
    return str(folder / "shim.so")
