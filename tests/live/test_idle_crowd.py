"""Ten thousand connections that are kept open and say nothing: what they cost one worker, and that each still works."""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from httpd.system.limits import raise_nofile
from live.client import Client
from live.crowds import ask_each, gather, leave
from live.daemon import Daemon, Place, eventually
from live.footprint import descriptors, memory

_CROWD = 10_000
_NEEDED = _CROWD + 400  # descriptors of a process that holds them all
_MEMORY = 24 * 1024 * 1024  # bytes of the worker's own for all of them
_WARM_UP = 100  # connections before the first look at the memory


@pytest.fixture
def room() -> Iterator[None]:
    """Descriptors enough here; the daemon inherits the limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if raise_nofile(_NEEDED)[1] < _NEEDED:
        pytest.skip(f"the hard limit on open files is {hard}, and this takes {_NEEDED}")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


@pytest.mark.usefixtures("room")
def test_ten_thousand_idle_connections_and_a_request_on_each(place: Place, daemon: Daemon) -> None:
    place.write("www/a", b"the a")
    daemon.configure(
        f'[[vhost]]\nroot = "www"\n[timeouts]\nhead = "600s"\nkeepalive = "600s"\n'
        f"[limits]\nconnections = {_CROWD + 100}\ndetached = 1\n",
        server="workers = 1",
    )
    daemon.start()
    address = ("127.0.0.1", daemon.port)
    with Client(address) as known:
        assert known.get("/a").status == 200
        leave(gather(address, _WARM_UP))
        eventually(lambda: daemon.status()["workers"][0]["connections"] == 1, "the first ones are gone")
        before, small = descriptors(daemon), memory(daemon)
        crowd = gather(address, _CROWD)
        try:
            assert memory(daemon) - small <= _MEMORY
            eventually(lambda: daemon.status()["workers"][0]["connections"] == _CROWD + 1, "all are connected")
            ask_each(crowd)
            assert known.get("/a").status == 200
        finally:
            leave(crowd)
        eventually(lambda: descriptors(daemon) == before, "the same worker has as many descriptors as before")
        assert known.get("/a").status == 200
