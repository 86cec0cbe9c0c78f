"""A door whose socket is full: what waits before it, and what is refused at once."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from httpd.cgi import messages
from httpd.cgi.messages import Receiver, Run, Stop, ToSpawner, send
from httpd.worker.doors import Spawning
from httpd.worker.run_faces import State
from unit.worker.scripted import PID, Scripted, make_scripts, scripted

pytestmark = pytest.mark.skipif(sys.platform == "darwin", reason="there is no SEQPACKET")


class Full:
    """A worker with a door whose socket is full, and the spawner's end of it."""

    def __init__(self, world: Scripted) -> None:
        self.world = world
        ours, self.spawner = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        world.scripts._opened("cgi[0]", ours)
        self.door: Spawning = world.scripts._doors["cgi[0]"]
        while send(ours, Stop(0)):
            pass

    def received(self) -> list[Any]:
        """What the spawner gets, but for what the socket was filled with."""
        receiver, got = Receiver(self.spawner, ToSpawner), []
        while (one := receiver.next()) is not None:
            message, fds = one  # type: ignore[misc]  # it is open
            for fd in fds:
                socket.close(fd)
            got.append(message)
        return [message for message in got if message != Stop(0)]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Full]:
    with scripted(make_scripts(tmp_path)) as world:
        made = Full(world)
        yield made
        world.scripts._leave(made.door)
        world.scripts._close_door(made.door)
        made.spawner.close()


def test_what_waits_is_sent_in_order_when_there_is_room(full: Full) -> None:
    run = full.world.run()
    assert run.state is State.ASKED
    run._stop()
    assert not any(isinstance(message, Run) for message in full.received())
    full.world.scripts._flush(full.door)
    first, second = full.received()
    assert (first.number, second) == (run.number, Stop(run.number))
    assert not full.door.unsent
    run.ended(PID, "exit status 0")


def test_what_is_too_long_is_refused_at_once(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    first = full.world.run()
    monkeypatch.setattr(messages, "MAX_MESSAGE", 10)
    assert full.world.refusal("/cgi-bin/run.cgi") == ""
    assert full.world.report()["status"] == 431
    assert len(full.door.unsent) == len(full.door.runs) == 1
    first.ended(PID, "exit status 0")
