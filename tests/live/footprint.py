"""What a worker holds, before and after clients did their worst to it: processes, descriptors, memory.

Rules:

- Counted while one known connection is open and served: "none is open" may be said before the last is accepted.
- Memory is compared between turns of the same abuse, because the first turns fill arenas and caches that stay.  What
  leaks grows with every turn, so the first turn without growth is the proof, and only growth to the end is a failure.
"""

from __future__ import annotations

from collections.abc import Callable

from httpd.system.limits import private_memory
from live.client import Client
from live.daemon import Daemon, eventually, open_files

# Bytes a turn may add.  A turn has several hundred connections; one that stayed would hold 2 KiB at least.  The
# allocator's arenas come in pieces of 1 MiB, of which a few pages are touched at a time.
GROWTH = 256 * 1024
_TURNS = 8


def descriptors(daemon: Daemon) -> dict[int, int]:
    """How many descriptors each worker has open."""
    return {pid: len(open_files(pid)) for pid in daemon.workers()}


def memory(daemon: Daemon) -> int:
    """Bytes that only the workers have."""
    return sum(private_memory(pid) for pid in daemon.workers())


def leaves_nothing(daemon: Daemon, abuse: Callable[[], None], target: str = "/a") -> None:
    """Run `abuse` until it leaves no trace in the daemon's one worker: same process, same descriptors, same memory.

    `target` is asked for before and after each turn, on one connection that has to live through all of them.
    """
    with Client(("127.0.0.1", daemon.port)) as known:
        expected = known.get(target).body
        before = descriptors(daemon)
        assert len(before) == 1, "one worker, or the known connection says nothing about the others"
        sizes: list[int] = []
        for _ in range(_TURNS):
            abuse()
            eventually(lambda: descriptors(daemon) == before, "the same worker has as many descriptors as before")
            assert known.get(target).body == expected
            sizes.append(memory(daemon))
            if len(sizes) > 2 and sizes[-1] - sizes[-2] <= GROWTH:
                return
        raise AssertionError(f"every turn takes memory that it does not give back: {sizes}")
