"""The launcher, spoken to by workers that were taken over: refused, noted, and alive, with the descriptors it had."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Callable, Iterator

import msgspec
import pytest

from httpd.cgi.messages import MAX_MESSAGE, Admit, Ask, Drop, Message, Mount, Ping, Run, Shut, Stop
from unit.cgi.fake_worker import ENVIRONMENT, End, Master, Pipes, door, settled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_encode = msgspec.msgpack.Encoder().encode
_ASK = _encode(Ask("vhost[0].cgi[0]"))


@pytest.fixture(scope="module")
def master() -> Iterator[Master]:
    made = Master()
    yield made
    made.end()


@pytest.fixture
def fresh() -> Iterator[Master]:
    """One of this test alone."""
    made = Master()
    yield made
    made.end()


def works(worker: End) -> None:
    """Scripts can be run by way of it."""
    spawner, pipes = door(worker), Pipes()
    pipes.run(spawner, 1, b"plain")
    assert pipes.output().endswith(b"\n\nplain\n")
    spawner.close()


def test_a_worker_gets_a_door_to_what_its_generation_has(master: Master) -> None:
    for generation in (1, 2):
        worker = master.worker(generation)
        spawner, pipes = door(worker, generation - 1), Pipes()
        pipes.run(spawner, 7, b"plain")
        assert pipes.output().endswith(b"\n\nplain\n")


@pytest.mark.parametrize("mount", ["vhost[0].cgi[1]", "vhost[9].cgi[0]", "", "/", "x" * 60_000])
def test_and_to_nothing_else(master: Master, mount: str) -> None:
    worker = master.worker(1)
    works(worker)
    before = master.descriptors()
    worker.say(Ask(mount))
    message, fds = worker.hear()
    assert message == Shut(mount[:200], "not a mount of its generation")
    assert not fds
    master.note("worker 0 asked for scripts that its generation does not have: refused")
    assert master.descriptors() == before
    works(worker)


def test_a_generation_that_is_gone_has_nothing(fresh: Master) -> None:
    worker = fresh.worker(1)
    works(worker)
    fresh.say(Drop(1))
    fresh.descriptors()
    worker.say(Ask("vhost[0].cgi[0]"))
    assert worker.hear()[0] == Shut("vhost[0].cgi[0]", "not a mount of its generation")


def _spawners(master: Master) -> list[int]:
    with open(f"/proc/{master.process.pid}/task/{master.process.pid}/children") as children:
        return [int(pid) for pid in children.read().split()]


def test_a_spawner_that_stands_still_is_not_left_behind() -> None:
    """Its mount is served by nobody any more, so nobody would find it silent."""
    master = Master(leave=0.2)
    try:
        worker = master.worker(1)
        works(worker)
        (spawner,) = _spawners(master)
        os.kill(spawner, signal.SIGSTOP)
        master.say(Drop(1))
        master.note(f"the spawner of vhost[0].cgi[0] (pid {spawner}) does not answer: killed")
        settled(lambda: not _spawners(master), "it is gone")
    finally:
        master.end()


def test_a_spawner_that_is_let_go_is_gone_with_its_last_worker(fresh: Master) -> None:
    worker = fresh.worker(1)
    works(worker)
    fresh.say(Drop(1))
    worker.close()
    settled(lambda: not _spawners(fresh), "it is gone")


_SAID: dict[str, Callable[[Master], Message]] = {
    "run": lambda master: Run(1, b"plain", [], ENVIRONMENT),
    "stop": lambda master: Stop(1),
    "mount": lambda master: Mount(1, msgspec.structs.replace(master.mount(0), root="/bin"), None),
    "admit": lambda master: Admit(2, 0),
    "drop": lambda master: Drop(1),
    "ping": lambda master: Ping(),
}


@pytest.mark.parametrize("name", _SAID)
@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_only_others_may_say(master: Master, name: str, count: int) -> None:
    worker = master.worker(1)
    works(worker)
    before = master.descriptors()
    with open(os.devnull) as file:
        worker.say(_SAID[name](master), [file.fileno()] * count)
    master.note("worker 0 sent the launcher what ")
    assert master.descriptors() == before
    works(worker)


@pytest.mark.parametrize(
    "data",
    [
        b"\0", b"garbage", b"\xff" * 1000, b"{}", b"\x80", b"\x90" * 5000, _ASK[:-1], _ASK + b"x",
        random.Random(1).randbytes(60_000),
        _ASK + b"\0" * MAX_MESSAGE, _encode({"is": "ask", "mount": 5}), _encode({"is": "ask"}),
        _encode({"is": "other"}), _encode(["ask", "vhost[0].cgi[0]"]),
        _encode({"is": "ask", "mount": "x" * MAX_MESSAGE}),
        b"\x81\xa2is\xa2\xff\xfe", _encode({"is": "x" * (MAX_MESSAGE - 100)}),  # what is quoted in the complaint
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [0, 3, 253])
def test_garbage(master: Master, data: bytes, count: int) -> None:
    worker = master.worker(1)
    works(worker)
    before = master.descriptors()
    with open(os.devnull) as file:
        worker.raw(data, [file.fileno()] * count)
    assert "sent the launcher what" in master.note("worker 0 ")
    assert master.descriptors() == before
    works(worker)


@pytest.mark.parametrize("count", [1, 3, 4, 5, 253])
def test_descriptors_that_nobody_wants(master: Master, count: int) -> None:
    worker = master.worker(1)
    works(worker)
    before = master.descriptors()
    with open(os.devnull) as file:
        worker.raw(_ASK, [file.fileno()] * count)
        master.note("worker 0 sent the launcher what ")
    assert master.descriptors() == before
    works(worker)


def test_three_hundred_descriptors_in_many_messages(master: Master) -> None:
    worker = master.worker(1)
    works(worker)
    before = master.descriptors()
    with open(os.devnull) as file:
        for _ in range(100):
            worker.raw(_ASK, [file.fileno()] * 3)
            master.note("worker 0 sent the launcher what ")
    assert master.descriptors() == before
    works(worker)


def test_an_empty_packet_is_no_more_than_the_end_of_its_sender(master: Master) -> None:
    worker, other = master.worker(1), master.worker(1, 1)
    works(worker)
    works(other)
    before = master.descriptors()
    worker.sock.send(b"")
    settled(lambda: master.descriptors() == before - 1, "the descriptor of the one who said nothing is closed")
    works(other)


def test_it_ends_behind_its_master_with_the_last_worker(fresh: Master) -> None:
    worker, pipes = fresh.worker(1), Pipes()
    spawner = door(worker)
    pipes.run(spawner, 1, b"waits")
    pid = int(pipes.line())
    fresh.sock.shutdown(2)
    assert door(worker)  # a master that has died leaves workers behind, which finish what they have begun
    assert os.path.exists(f"/proc/{pid}")
    worker.close()
    assert fresh.process.wait(20) == 0
    settled(lambda: not os.path.exists(f"/proc/{pid}"), "the script is gone")
