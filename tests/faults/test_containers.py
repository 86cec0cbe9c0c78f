"""Faults J of tests/live/README.md with their real durations."""

from __future__ import annotations

from live import scenarios
from live.daemon import Daemon, Place
from live.isolation import control_group, freeze, join, thaw
from live.scenarios import SITE


def test_a_container_that_is_frozen_for_two_minutes(files: Place, daemon: Daemon) -> None:
    """J8."""
    with control_group("freezer", "freezer") as group:
        daemon.configure(SITE + '[timeouts]\nkeepalive = "600s"\nhead = "600s"\n')
        daemon.start(before=lambda: join(group))
        scenarios.everybody_stopped(daemon, 120.0, lambda: freeze(group), lambda: thaw(group))
        daemon.close()
