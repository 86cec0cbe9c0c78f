"""Runs that are to end: TERM at once, KILL behind a while, again and again."""

from __future__ import annotations

import signal
from typing import Any

from httpd.cgi.dying import GRACE, Dying
from httpd.cgi.jobs import Job


class Warm:
    """An interpreter that notes what its runs are sent."""

    def __init__(self) -> None:
        self.sent: list[tuple[Job, int]] = []

    def signal(self, job: Job, number: int) -> None:
        self.sent.append((job, number))


def job(warm: Warm) -> Job:
    nobody: Any = None
    return Job(nobody, nobody, [], warm=warm)


def test_term_then_kill() -> None:
    warm, dying = Warm(), Dying()
    one, other = job(warm), job(warm)
    assert dying.due == float("inf")
    dying.add(one, 10.0)
    dying.add(other, 11.0)
    assert one.stopping
    assert dying._jobs == {one, other}
    assert warm.sent == [(one, signal.SIGTERM), (other, signal.SIGTERM)]
    assert dying.due == 10.0 + GRACE
    dying.look(dying.due - 0.1)
    assert len(warm.sent) == 2
    for turn in (1, 2):
        dying.look(10.0 + turn * GRACE)
        assert warm.sent[-1] == (one, signal.SIGKILL) or turn == 2
        dying.discard(other)
    assert warm.sent.count((one, signal.SIGKILL)) == 2
    dying.discard(one)
    assert dying.due == float("inf")


def test_who_has_no_process_is_sent_nothing() -> None:
    nobody: Any = None
    dying = Dying()
    dying.add(Job(nobody, nobody, []), 0.0)
    dying.look(GRACE)
