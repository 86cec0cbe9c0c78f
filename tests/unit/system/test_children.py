from __future__ import annotations

import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.system import children
from httpd.system.children import ExitStatus

InChild = Callable[[Callable[[], Any]], Any]


@pytest.fixture(params=["pidfd", "pid"])
def by_pidfd(request: pytest.FixtureRequest) -> bool:
    by = bool(request.param == "pidfd")
    if by and not hasattr(os, "pidfd_open"):
        pytest.skip("needs pidfd_open")
    return by


class Child:
    """A child that waits for its pipe to be closed and then ends with `code`."""

    def __init__(self, code: int, pidfd: bool) -> None:
        reader, self.hold = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.hold)
            os.read(reader, 1)
            os._exit(code)
        os.close(reader)
        self.pidfd = children.watch(self.pid) if pidfd else None

    def ended(self) -> ExitStatus:
        """Wait for the end without collecting it, then reap."""
        if self.pidfd is not None:
            select.select([self.pidfd], [], [])
        else:
            os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        status = self.reap()
        assert status is not None
        return status

    def reap(self) -> ExitStatus | None:
        return children.reap(self.pid, self.pidfd)

    def kill(self, number: int) -> bool:
        return children.kill(self.pid, self.pidfd, number)

    def close(self) -> None:
        os.close(self.hold)
        if self.pidfd is not None:
            os.close(self.pidfd)


@pytest.fixture
def make(by_pidfd: bool) -> Iterator[Callable[[int], Child]]:
    made: list[Child] = []

    def child(code: int) -> Child:
        made.append(Child(code, by_pidfd))
        return made[-1]

    yield child
    for one in made:
        one.kill(signal.SIGKILL)
        one.close()


Make = Callable[[int], Child]


def test_a_running_child_is_not_reaped(make: Make) -> None:
    child = make(3)
    assert child.reap() is None
    assert child.kill(signal.SIGKILL)
    assert child.ended() == ExitStatus(signal=signal.SIGKILL)


@pytest.mark.parametrize("code", [0, 3, 255])
def test_exit_code(make: Make, code: int) -> None:
    child = make(code)
    os.write(child.hold, b"x")
    assert child.ended() == ExitStatus(code=code)


def test_reaped_once_then_gone(make: Make) -> None:
    child = make(0)
    os.write(child.hold, b"x")
    child.ended()
    assert child.reap() == ExitStatus()
    assert child.kill(signal.SIGTERM) is False


def test_only_the_asked_child_is_reaped(make: Make) -> None:
    children = [make(code) for code in (1, 2, 3)]
    for child in children:
        os.write(child.hold, b"x")
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    for code in (2, 3, 1):
        assert children[code - 1].reap() == ExitStatus(code=code)


def test_core_dump_flag(by_pidfd: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether a core is written depends on the machine; the flag must come through."""
    if by_pidfd:
        ended = os.waitid_result((1, 0, signal.SIGCHLD, signal.SIGSEGV, os.CLD_DUMPED))
        monkeypatch.setattr(os, "waitid", lambda *arguments: ended)
    else:
        monkeypatch.setattr(os, "waitpid", lambda pid, options: (pid, signal.SIGSEGV | 0x80))
    assert children.reap(1, 99 if by_pidfd else None) == ExitStatus(signal=signal.SIGSEGV, core=True)


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (ExitStatus(code=3), "exit status 3"),
        (ExitStatus(code=0), "exit status 0"),
        (ExitStatus(signal=9), "killed by SIGKILL"),
        (ExitStatus(signal=11, core=True), "killed by SIGSEGV (core dumped)"),
        (ExitStatus(signal=250), "killed by signal 250"),
        (ExitStatus(), "ended, exit status unknown"),
    ],
)
def test_text(status: ExitStatus, text: str) -> None:
    assert status.text == text


def test_watch_without_pidfd(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", fail, raising=False)
    assert children.watch(os.getpid()) is None
    monkeypatch.delattr(os, "pidfd_open")
    assert children.watch(os.getpid()) is None


def test_watch_is_closed_on_exec() -> None:
    pidfd = children.watch(os.getpid())
    if pidfd is None:
        pytest.skip("needs pidfd_open")
    assert not os.get_inheritable(pidfd)
    os.close(pidfd)


def test_strangers_are_reaped_and_known_ones_left(in_child: InChild) -> None:
    if not hasattr(os, "waitid"):
        pytest.skip("needs waitid")

    def outcome() -> list[Any]:
        assert children.reap_strangers([]) == []
        ended = [subprocess.Popen(["true"]).pid for _ in range(3)]
        for pid in ended:
            os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        reader, hold = os.pipe()
        running = subprocess.Popen(["cat"], stdin=reader)
        known = ended[1]
        reaped = children.reap_strangers({known})
        status = children.reap(known, None)
        reaped += children.reap_strangers(set())
        os.close(hold)
        assert running.wait() == 0
        return [sorted(reaped) == [ended[0], ended[2]], status is not None and status.text, len(reaped)]

    assert in_child(outcome) == [True, "exit status 0", 2]
