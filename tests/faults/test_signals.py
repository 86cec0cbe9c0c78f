"""Faults A of tests/live/README.md with their real durations and numbers."""

from __future__ import annotations

import os
import signal
import time

import pytest

from httpd.system.limits import raise_nofile
from live import scenarios
from live.daemon import Daemon, Place, eventually
from live.scenarios import SITE

_CROWD = 10_000
_A_MINUTE = 60.0  # seconds; twice the default heartbeat


@pytest.mark.parametrize("hundred", range(0, 200, 20))
def test_term_at_two_hundred_random_moments(daemon: Daemon, hundred: int) -> None:
    """A2."""
    for seed in range(hundred, hundred + 20):
        scenarios.term_during_start(daemon, seed, 1.0)


def test_a_master_that_is_stopped_for_a_minute(files: Place, daemon: Daemon) -> None:
    """A12."""
    daemon.configure(SITE)
    scenarios.master_stopped(daemon.start(), _A_MINUTE)


def test_everybody_is_stopped_for_a_minute(files: Place, daemon: Daemon) -> None:
    """A13."""
    daemon.configure(SITE + '[timeouts]\nkeepalive = "600s"\nhead = "600s"\n')
    group = daemon.start().pid
    scenarios.everybody_stopped(
        daemon, _A_MINUTE, lambda: os.killpg(group, signal.SIGSTOP), lambda: os.killpg(group, signal.SIGCONT)
    )


def test_everybody_is_stopped_for_a_minute_while_a_worker_starts(files: Place, daemon: Daemon) -> None:
    """A13: its time for that does not run meanwhile, and the reload that it belongs to succeeds."""
    daemon.configure(SITE + '[timeouts]\nstart = "10s"\n')
    group = daemon.start().pid
    assert daemon.stderr is not None
    eventually(lambda: scenarios.caught_starting(daemon), "a new worker is stopped while it starts", 60)
    before = len(daemon.stderr.find(": reloaded generation="))
    os.killpg(group, signal.SIGSTOP)
    time.sleep(_A_MINUTE)  # the fault itself
    os.killpg(group, signal.SIGCONT)
    daemon.stderr.wait(": reloaded generation=", before + 1)


def test_a_stop_among_ten_thousand_idle_connections(files: Place, daemon: Daemon) -> None:
    """A20."""
    needed = _CROWD + 400
    if raise_nofile(needed)[1] < needed:
        pytest.skip("the hard limit on open files is too low")
    limits = f"[limits]\nconnections = {_CROWD}\ndetached = 1\n"
    daemon.configure(SITE + '[timeouts]\nbody = "1s"\nkeepalive = "600s"\n' + limits)
    daemon.start()
    scenarios.stop_among_idle(daemon, _CROWD)
