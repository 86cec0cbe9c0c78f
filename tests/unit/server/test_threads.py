"""Threads that take one job after the other."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

import pytest

from httpd.server import threads
from httpd.server.threads import Crew
from unit.server.wire import LIMIT


def wait_for(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def run(crew: Crew) -> threading.Thread:
    """One job, and the thread that did it."""
    found: list[threading.Thread] = []
    done = threading.Event()
    crew.run(lambda: (found.append(threading.current_thread()), done.set()))
    assert done.wait(LIMIT)
    return found[0]


def test_a_thread_that_is_free_is_taken() -> None:
    crew = Crew()
    first = run(crew)
    wait_for(lambda: crew._waiting == 1)
    assert run(crew) is first
    assert first.daemon
    wait_for(lambda: crew._waiting == 1)
    crew.dismiss()
    first.join(LIMIT)
    assert not first.is_alive()


def test_one_that_is_busy_is_not_waited_for() -> None:
    crew = Crew()
    go = threading.Event()
    crew.run(go.wait, LIMIT)
    assert run(crew) is not threading.current_thread()
    go.set()
    crew.dismiss()


def test_who_works_when_the_crew_is_dismissed_ends_afterwards() -> None:
    crew = Crew()
    go, begun = threading.Event(), threading.Event()
    seen: list[threading.Thread] = []
    crew.run(lambda: (seen.append(threading.current_thread()), begun.set(), go.wait(LIMIT)))
    assert begun.wait(LIMIT)
    crew.dismiss()
    go.set()
    seen[0].join(LIMIT)
    assert not seen[0].is_alive()


def test_idle_threads_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "_IDLE", 0.01)
    crew = Crew()
    thread = run(crew)
    thread.join(LIMIT)
    assert not thread.is_alive()
    assert crew._waiting == 0
    assert run(crew) is not thread


def test_a_job_that_fails_takes_its_thread_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)
    crew = Crew()

    def fail() -> None:
        raise SystemExit

    crew.run(fail)
    thread = run(crew)
    wait_for(lambda: crew._waiting == 1)
    crew.dismiss()
    thread.join(LIMIT)


def test_jobs_and_their_arguments_are_let_go() -> None:
    class Token:
        pass

    gone = threading.Event()

    class Watched(Token):
        def __del__(self) -> None:
            gone.set()

    crew = Crew()
    crew.run(lambda _: None, Watched())
    assert gone.wait(LIMIT)
    crew.dismiss()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_has_no_threads_to_give_jobs_to() -> None:
    crew = Crew()
    run(crew)
    wait_for(lambda: crew._waiting == 1)
    pid = os.fork()
    if pid == 0:
        done = threading.Event()
        crew.run(done.set)
        os._exit(0 if done.wait(LIMIT) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    crew.dismiss()
