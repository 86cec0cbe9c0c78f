"""Orphans become the children of a subreaper, which can tell all that it has."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from httpd.system import reaping
from httpd.system.reaping import become_subreaper, child_pids

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has subreapers")


def in_child(work: Callable[[], bool]) -> bool:
    """Whether `work` is true in a process of its own, which may become a subreaper."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            code = 0 if work() else 2
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def sleeper() -> int:
    """A process that waits until it is killed."""
    pid = os.fork()
    if pid == 0:
        while True:
            signal.pause()
    return pid


def orphan() -> int:
    """A process whose parent is gone."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writing, b"%d" % sleeper())
        os._exit(0)
    os.waitpid(pid, 0)
    found = int(os.read(reading, 20))
    os.close(reading)
    os.close(writing)
    return found


def end(pid: int) -> int:
    """The status of a child that is killed; -1 for who is nobody's child here."""
    os.kill(pid, signal.SIGKILL)
    try:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        return -1


@linux
def test_orphans_become_its_children() -> None:
    def work() -> bool:
        become_subreaper()
        pid = orphan()
        return child_pids() == [pid] and end(pid) == -signal.SIGKILL and child_pids() == []

    assert in_child(work)


@linux
def test_without_it_they_go_elsewhere() -> None:
    def work() -> bool:
        pid = orphan()
        return child_pids() == [] and end(pid) == -1

    assert in_child(work)


@linux
def test_all_children() -> None:
    def work() -> bool:
        pids = [sleeper() for _ in range(20)]
        found = child_pids()
        return found == pids and [end(pid) for pid in pids] == [-signal.SIGKILL] * 20

    assert in_child(work)


@linux
def test_who_has_ended_is_told_until_he_is_collected() -> None:
    def work() -> bool:
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        there = child_pids() == [pid]
        os.waitpid(pid, 0)
        return there and child_pids() == []

    assert in_child(work)


def test_where_the_system_can_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nowhere(type(Path())):  # type: ignore[misc]
        def read_text(self, *arguments: object) -> str:
            raise FileNotFoundError(str(self))

    monkeypatch.setattr(reaping, "Path", Nowhere)
    assert child_pids() == []


def test_an_old_kernel_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: int) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(reaping, "prctl", refuse)
    become_subreaper()


def test_elsewhere_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaping.sys, "platform", "darwin")
    monkeypatch.setattr(reaping, "prctl", lambda *arguments: pytest.fail("asked"))
    become_subreaper()
