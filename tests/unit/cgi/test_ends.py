"""How a spawner notices ends: together for those that are young, at once for others, and nothing is left behind."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.cgi.ends import Ends
from httpd.cgi.jobs import Job
from httpd.system import children

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="by pidfd")

MANY, FEW = 100, 15  # slots
LOOK, YOUNG = 0.01, 0.02  # seconds
NEVER = float("inf")
PATIENCE = 20.0  # seconds, for what is expected


class Host:
    """A spawner that notes what it is told."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[], None]] = {}
        self.announced: list[Job] = []
        self.over: list[tuple[Job, str]] = []

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        self.handlers[fd] = handler

    def forget(self, fd: int) -> None:
        del self.handlers[fd]

    def announce(self, job: Job) -> None:
        self.announced.append(job)

    def ended(self, job: Job, how: str) -> None:
        self.over.append((job, how))

    def hear(self) -> None:
        """Wait until something that is watched has ended, and see to it."""
        readable, _, _ = select.select(list(self.handlers), [], [], PATIENCE)
        for fd in readable:
            self.handlers[fd]()
        assert readable


Begin = Callable[..., Job]


@pytest.fixture
def host() -> Host:
    return Host()


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts a shell, in a group of its own, that waits until its stdin is closed, by `finish`."""
    begun: list[subprocess.Popen[bytes]] = []

    def make(text: str = "exit 3", **options: Any) -> Job:
        begun.append(subprocess.Popen(["/bin/sh", "-c", f"read line; {text}"], stdin=subprocess.PIPE,
                                      start_new_session=True, **options))  # fmt: skip
        stdin = begun[-1].stdin
        assert stdin is not None
        nobody: Any = None
        return Job(nobody, nobody, [stdin.fileno()], begun[-1].pid)

    yield make
    for process in begun:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(PATIENCE)


def finish(job: Job) -> None:
    """Have it end, and wait until it has; it is not collected by that."""
    os.write(job.fds[0], b"\n")
    pidfd = os.pidfd_open(job.pid)
    assert select.select([pidfd], [], [], PATIENCE)[0]
    os.close(pidfd)


def collected(job: Job) -> bool:
    """Whether its number is free for others."""
    try:
        os.waitid(os.P_PID, job.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return True
    return False


def test_the_young_are_looked_at_together(host: Host, begin: Begin) -> None:
    ends = Ends(host, MANY)
    jobs = [begin(f"exit {number}") for number in range(3)]
    for job in jobs:
        ends.add(job)
    assert host.handlers == {}
    assert ends.due == jobs[0].started + LOOK
    for job in jobs:
        finish(job)
    ends.look(jobs[0].started + LOOK / 2)
    assert host.over == []
    assert not any(collected(job) for job in jobs)
    ends.look(jobs[0].started + LOOK)
    assert sorted(how for _, how in host.over) == ["exit status 0", "exit status 1", "exit status 2"]
    assert all(collected(job) for job in jobs)
    assert host.announced == []


def test_who_has_not_ended_is_looked_at_again(host: Host, begin: Begin) -> None:
    ends = Ends(host, MANY)
    job = begin()
    ends.add(job)
    ends.look(job.started + LOOK)
    assert host.over == []
    assert job.started + LOOK < ends.due < NEVER
    finish(job)
    ends.look(ends.due)
    assert host.over == [(job, "exit status 3")]


def test_when_slots_run_out_it_is_looked_before_the_time(host: Host, begin: Begin) -> None:
    ends = Ends(host, MANY)
    job = begin()
    ends.add(job)
    finish(job)
    ends.collect()
    assert host.over == [(job, "exit status 3")]


def test_nothing_is_due_where_nothing_runs(host: Host, begin: Begin) -> None:
    ends = Ends(host, MANY)
    assert ends.due == NEVER
    job = begin()
    ends.add(job)
    finish(job)
    job.over = True
    ends.look(job.started + YOUNG)
    assert ends.due == NEVER


def test_where_few_may_run_an_end_is_news_at_once(host: Host, begin: Begin) -> None:
    ends = Ends(host, FEW)
    job = begin()
    ends.add(job)
    assert list(host.handlers) == [job.pidfd]
    finish(job)
    host.hear()
    assert host.over == [(job, "exit status 3")]
    assert (host.handlers, job.pidfd) == ({}, None)
    ends.collect()
    assert len(host.over) == 1


def test_who_runs_for_longer_is_announced_and_watched(host: Host, begin: Begin) -> None:
    ends = Ends(host, MANY)
    job = begin()
    ends.add(job)
    ends.look(job.started + YOUNG * 0.9)
    assert (host.announced, host.handlers) == ([], {})
    ends.look(job.started + YOUNG)
    assert host.announced == [job]
    assert list(host.handlers) == [job.pidfd]
    finish(job)
    host.hear()
    assert host.over == [(job, "exit status 3")]
    ends.look(job.started + 1)
    assert host.announced == [job]


def test_who_is_over_is_not_announced(host: Host, begin: Begin) -> None:
    ends = Ends(host, MANY)
    job = begin()
    ends.add(job)
    job.over = True
    ends.look(job.started + YOUNG)
    assert (host.announced, host.handlers) == ([], {})


def test_the_end_of_what_is_told_to_stop_is_news_at_once(host: Host, begin: Begin) -> None:
    ends = Ends(host, MANY)
    job = begin()
    ends.add(job)
    ends.watch(job)
    ends.watch(job)
    assert len(host.handlers) == 1
    os.kill(job.pid, signal.SIGTERM)
    host.hear()
    assert host.over == [(job, "killed by SIGTERM")]


@pytest.mark.parametrize("stopping", [True, False])
def test_what_was_told_to_stop_leaves_nothing(host: Host, begin: Begin, stopping: bool) -> None:
    """What others leave behind is theirs."""
    reader, writer = os.pipe()
    ends = Ends(host, MANY)
    job = begin("sleep 1000 & exit 0", stdout=writer)
    os.close(writer)
    ends.add(job)
    ends.watch(job)
    finish(job)
    job.stopping = stopping
    host.hear()
    assert host.over == [(job, "exit status 0")]
    gone, _, _ = select.select([reader], [], [], PATIENCE if stopping else 0)
    assert bool(gone) == stopping  # the end of file: nobody holds the other end
    os.close(reader)
    if not stopping:
        os.killpg(job.pid, signal.SIGKILL)


def test_without_a_pidfd_it_is_looked_at_for_ever(host: Host, begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "watch", lambda pid: None)
    ends = Ends(host, FEW)
    job = begin()
    ends.add(job)
    ends.look(job.started + YOUNG)
    assert (host.announced, host.handlers) == ([job], {})
    assert ends.due < NEVER
    finish(job)
    ends.look(ends.due)
    assert host.over == [(job, "exit status 3")]


@pytest.mark.parametrize("slots", [FEW, MANY])
def test_what_a_warm_interpreter_has_started_it_reports_itself(host: Host, begin: Begin, slots: int) -> None:
    ends = Ends(host, slots)
    job = begin()
    job.warm = object()
    ends.add(job)
    ends.watch(job)
    finish(job)
    ends.collect()
    ends.look(job.started + YOUNG)
    assert host.announced == [job]
    assert (host.over, host.handlers, ends.due) == ([], {}, NEVER)
    assert not collected(job)
    os.waitpid(job.pid, 0)
