"""Connections are shared out evenly, whoever of the workers happens to run; and nobody waits for one that hangs."""

from __future__ import annotations

import contextlib
import os
import signal

from live.client import Client, connections
from live.daemon import Daemon, Place, eventually

_SITE = '[[vhost]]\nroot = "www"\n'


def _counts(daemon: Daemon) -> list[int]:
    return sorted(worker["connections"] for worker in daemon.status()["workers"])


def _shared_out(daemon: Daemon) -> list[int]:
    """How a burst is shared out."""
    eventually(lambda: sum(_counts(daemon)) == 0, "the burst before is over")
    with connections(("127.0.0.1", daemon.port), 96) as clients:
        for client in clients:
            assert client.get("/a").body == b"the a"
        eventually(lambda: sum(_counts(daemon)) == 96, "all are counted")
        return _counts(daemon)


def test_a_burst_of_connections(place: Place, daemon: Daemon) -> None:
    place.write("www/a", b"the a")
    daemon.configure(_SITE, server="workers = 3")
    daemon.start()
    # Each may have a few more than the one with the fewest.  Who gets no processor for some milliseconds is not waited
    # for, which on a loaded machine happens: not each time.
    bursts = [_shared_out(daemon)]
    while bursts[-1][0] < 20 and len(bursts) < 4:
        bursts.append(_shared_out(daemon))
    assert bursts[-1][0] >= 20, bursts


def test_a_worker_that_hangs_is_not_waited_for(place: Place, daemon: Daemon) -> None:
    place.write("www/a", b"the a")
    daemon.configure(_SITE, server="workers = 2")
    daemon.start()
    stuck = daemon.workers()[0]
    os.kill(stuck, signal.SIGSTOP)
    with contextlib.ExitStack() as stack:
        stack.callback(os.kill, stuck, signal.SIGCONT)
        with connections(("127.0.0.1", daemon.port), 40) as clients:
            served = [client for client in clients if client.get("/a").body == b"the a"]
            assert len(served) == 40
    with Client(("127.0.0.1", daemon.port)) as client:
        assert client.get("/a").status == 200
