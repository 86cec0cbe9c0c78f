"""The threads of a worker: who runs a handler, and who runs the loop meanwhile.  By events; nothing here sleeps."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.system.poller import make_poller
from httpd.worker.pool import Pool

PATIENCE = 20.0


class Job:
    """One run: says when it began, and ends when it may."""

    def __init__(self, *, free: bool = True) -> None:
        self.since = 0.0
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.thread = 0
        if free:
            self.may_end.set()

    def run(self) -> None:
        self.thread = threading.get_ident()
        self.began.set()
        assert self.may_end.wait(PATIENCE)


class Loop:
    """As the worker's: tends the pool, takes what is over, runs what is quick; `leads` are the threads that ran it."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.quick: deque[Job] = deque()
        self.over: list[Job] = []
        self.leads: list[int] = []
        self.stop = False
        self.changed = threading.Condition()
        pool.lead = self.run

    def run(self) -> bool:
        poller = make_poller()
        poller.register(self.pool.bell.fd, self.pool.bell.mask)
        with self.changed:
            self.leads.append(threading.get_ident())
            self.changed.notify_all()
        try:
            while not self.stop:
                wait = self.pool.tend(time.monotonic())
                poller.poll(0 if self.quick else min(wait, PATIENCE))
                self.pool.bell.hear()
                while self.pool.finished:
                    self.ended(self.pool.finished.popleft())
                while self.pool.calls:
                    self.pool.calls.popleft()()
                if self.quick and not self.pool.run_quick(self.quick, self.ended):
                    return False
            return True
        finally:
            poller.close()

    def ended(self, job: Job) -> None:
        with self.changed:
            self.over.append(job)
            self.changed.notify_all()

    def wait_for(self, what: Callable[[], Any]) -> None:
        with self.changed:
            assert self.changed.wait_for(what, PATIENCE)

    def do(self, call: Callable[[], None]) -> None:
        """Have the loop make a call."""
        self.pool.calls.append(call)
        self.pool.ring()

    def submit(self, *jobs: Job) -> None:
        self.do(lambda: self.pool.queue.extend(jobs))

    def submit_quick(self, *jobs: Job) -> None:
        self.do(lambda: self.quick.extend(jobs))


@pytest.fixture
def make() -> Iterator[Callable[[int], Loop]]:
    """A pool with its loop in a thread; all of its threads are daemons, and sleep in the end."""
    made: list[Loop] = []

    def start(size: int) -> Loop:
        loop = Loop(Pool(size))
        made.append(loop)

        def lead() -> None:
            loop.pool.lead_on()

        threading.Thread(target=lead, daemon=True).start()
        loop.wait_for(lambda: loop.leads)
        return loop

    yield start
    for loop in made:
        loop.do(lambda loop=loop: setattr(loop, "stop", True))  # type: ignore[misc]


def test_a_job_runs_in_another_thread_and_is_over(make: Callable[[int], Loop]) -> None:
    loop = make(2)
    job = Job()
    loop.submit(job)
    loop.wait_for(lambda: loop.over == [job])
    assert job.thread not in (0, loop.leads[0], threading.get_ident())
    assert job.since > 0


def test_all_are_run(make: Callable[[int], Loop]) -> None:
    loop = make(3)
    jobs = [Job() for _ in range(200)]
    loop.submit(*jobs)
    loop.wait_for(lambda: len(loop.over) == 200)
    assert set(loop.over) == set(jobs)


def test_no_more_at_once_than_there_may_be(make: Callable[[int], Loop]) -> None:
    loop = make(2)
    jobs = [Job(free=False) for _ in range(4)]
    loop.submit(*jobs)
    assert all(job.began.wait(PATIENCE) for job in jobs[:2])
    quick = Job()
    loop.submit_quick(quick)  # the loop has looked since
    loop.wait_for(lambda: quick in loop.over)
    assert not jobs[2].began.is_set()
    assert set(loop.pool.running) == set(jobs[:2])
    jobs[0].may_end.set()
    assert jobs[2].began.wait(PATIENCE)
    for job in jobs:
        job.may_end.set()
    loop.wait_for(lambda: len(loop.over) == 5)


def test_a_leader_that_was_relieved_is_no_thread_more(make: Callable[[int], Loop]) -> None:
    loop = make(1)
    busy, queued, slow = Job(free=False), Job(free=False), Job(free=False)
    loop.submit(busy)
    assert busy.began.wait(PATIENCE)
    loop.submit(queued)
    relieved = loop.pool.leader.thread
    loop.submit_quick(slow)
    loop.wait_for(lambda: len(loop.leads) >= 2)
    slow.may_end.set()
    assert relieved is not None
    relieved.join(PATIENCE)
    assert not relieved.is_alive() and not queued.began.is_set()
    busy.may_end.set()
    assert queued.began.wait(PATIENCE)
    queued.may_end.set()


def test_the_main_thread_lies_down_and_another_ends_in_its_place() -> None:
    """Which must not end; it leads at first, and is one of the threads when it was relieved."""
    program = "import unit.worker.test_pool as tests; tests.lead_in_the_main_thread()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=PATIENCE * 3, env=_environment())


def _environment() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def lead_in_the_main_thread() -> None:
    """What the test above has another process do."""
    pool = Pool(1)
    loop = Loop(pool)
    threading.Thread(target=_relieve, args=(loop,), daemon=True).start()
    pool.lead_on()  # never returns: the main thread is one of many in the end


def _relieve(loop: Loop) -> None:
    status = 1
    try:
        loop.wait_for(lambda: loop.leads)
        busy, queued, slow = Job(free=False), Job(), Job(free=False)
        loop.submit(busy)
        assert busy.began.wait(PATIENCE)
        loop.submit(queued)
        loop.submit_quick(slow)
        loop.wait_for(lambda: len(loop.leads) >= 2)
        slow.may_end.set()
        loop.wait_for(lambda: slow in loop.over)
        assert not queued.began.is_set()
        busy.may_end.set()
        loop.wait_for(lambda: queued in loop.over)
        further = [Job() for _ in range(50)]
        loop.submit(*further)
        loop.wait_for(lambda: set(further) <= set(loop.over))
        status = 0
    finally:
        os._exit(status)


def test_one_that_was_let_go_does_not_count(make: Callable[[int], Loop]) -> None:
    loop = make(1)
    stream, other = Job(free=False), Job()
    loop.submit(stream)
    assert stream.began.wait(PATIENCE)
    loop.do(loop.pool.let_go)
    loop.submit(other)
    loop.wait_for(lambda: other in loop.over)
    loop.do(loop.pool.take_back)
    stream.may_end.set()
    loop.wait_for(lambda: stream in loop.over)
    again = [Job() for _ in range(10)]
    loop.submit(*again)
    loop.wait_for(lambda: len(loop.over) == 12)


def test_threads_are_used_again(make: Callable[[int], Loop]) -> None:
    loop = make(4)
    seen = set()
    for turn in range(50):
        job = Job()
        loop.submit(job)
        loop.wait_for(lambda turn=turn: len(loop.over) == turn + 1)  # type: ignore[misc]
        seen.add(job.thread)
    assert len(seen) <= 4


# Quick ones


def test_a_quick_job_runs_in_the_thread_of_the_loop(make: Callable[[int], Loop]) -> None:
    loop = make(2)
    jobs = [Job() for _ in range(20)]
    loop.submit_quick(*jobs)
    loop.wait_for(lambda: len(loop.over) == 20)
    assert set(loop.over) == set(jobs)
    if len(loop.leads) == 1:  # else this machine was so busy that the leader was relieved, and its job is over last
        assert loop.over == jobs
        assert {job.thread for job in jobs} == {loop.leads[0]}


def test_the_deputy_leads_when_a_quick_job_is_not(make: Callable[[int], Loop]) -> None:
    loop = make(2)
    slow = Job(free=False)
    loop.submit_quick(slow)
    assert slow.began.wait(PATIENCE)
    loop.wait_for(lambda: len(loop.leads) >= 2)
    assert loop.leads[1] != loop.leads[0] == slow.thread
    assert slow in loop.pool.running
    assert loop.pool.thread_of(slow) == slow.thread
    quick, queued = Job(), Job()
    loop.submit_quick(quick)
    loop.submit(queued)
    loop.wait_for(lambda: {quick, queued} <= set(loop.over))
    assert slow not in loop.over
    slow.may_end.set()
    loop.wait_for(lambda: slow in loop.over)
    assert loop.over.count(slow) == 1


def test_each_leader_may_be_relieved_in_turn(make: Callable[[int], Loop]) -> None:
    loop = make(3)
    slow = [Job(free=False) for _ in range(3)]
    for number, job in enumerate(slow):
        loop.submit_quick(job)
        assert job.began.wait(PATIENCE)
        loop.wait_for(lambda number=number: len(loop.leads) >= number + 2)  # type: ignore[misc]
    assert len(set(loop.leads)) == len(loop.leads)
    quick = Job()
    loop.submit_quick(quick)
    loop.wait_for(lambda: quick in loop.over)
    for job in slow:
        job.may_end.set()
    loop.wait_for(lambda: set(slow) <= set(loop.over))
    further = [Job() for _ in range(50)]
    loop.submit(*further)
    loop.wait_for(lambda: set(further) <= set(loop.over))


def test_the_quick_ones_behind_a_slow_one_are_run_by_the_next_leader(make: Callable[[int], Loop]) -> None:
    loop = make(2)
    slow, behind = Job(free=False), [Job() for _ in range(5)]
    loop.submit_quick(slow, *behind)
    loop.wait_for(lambda: set(behind) <= set(loop.over))
    assert slow not in loop.over
    slow.may_end.set()
    loop.wait_for(lambda: slow in loop.over)


def test_nothing_of_a_job_is_kept_behind_its_end(make: Callable[[int], Loop]) -> None:
    import weakref

    loop = make(1)
    job = Job()
    reference = weakref.ref(job)
    loop.submit(job)
    loop.wait_for(lambda: loop.over)
    seen = threading.Event()
    loop.do(seen.set)  # another round
    del job
    loop.over.clear()
    assert seen.wait(PATIENCE)
    until = time.monotonic() + PATIENCE
    while reference() is not None and time.monotonic() < until:
        loop.do(lambda: None)
    assert reference() is None
