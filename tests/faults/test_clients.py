"""Faults E of tests/live/README.md with their real durations and numbers."""

from __future__ import annotations

import time

from live import scenarios
from live.daemon import Daemon, Place
from live.footprint import leaves_nothing
from live.scenarios import SITE

_SECONDS = 30.0


def test_half_a_minute_of_connections_that_end_at_once(files: Place, daemon: Daemon) -> None:
    """E8: as many as this machine makes."""
    daemon.configure(SITE, server="workers = 1")
    daemon.start()
    address = ("127.0.0.1", daemon.port)
    until = time.monotonic() + _SECONDS
    while time.monotonic() < until:
        leaves_nothing(daemon, lambda: scenarios.come_and_go(address, 5000))
