"""Who is looked at, when, and who is asked: signs of life read from the scoreboard; and what ends the sleep of all."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.config import schema
from httpd.config.schema import Address, Timeouts
from httpd.logs.errors import ErrorLog
from httpd.master import watch as module
from httpd.master.children import Child, State
from httpd.master.generations import Generation
from httpd.master.heartbeat import LOOKS
from httpd.master.listeners import Listener
from httpd.master.watch import Watch
from httpd.system import pairs
from httpd.system.poller import make_poller
from httpd.system.usage import Usage
from httpd.worker.scoreboard import Figures
from unit.master.fakes import Clock, nothing_left_open

MakeConfig = Callable[..., schema.Config]
MakeGeneration = Callable[..., Generation]
MakeChild = Callable[..., Child]
NEVER = float("inf")
PATIENCE = 8.0  # so a look each two seconds


class Ward:
    """Workers that are watched, and the socket that they listen on.  `hung` are those that were found, and why."""

    def __init__(self, make_generation: MakeGeneration, make_child: MakeChild, make_config: MakeConfig) -> None:
        self.clock = Clock()
        self.hung: list[tuple[Child, str]] = []
        self.lines: list[bytes] = []
        self.poller = make_poller()
        self.handlers: dict[int, Callable[[int], None]] = {}
        errors = ErrorLog(self.lines.append, "info", "test")
        self.watch = Watch(
            self.poller, self.handlers, errors, lambda generation, child, reason: self.hung.append((child, reason))
        )
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listeners = [Listener(Address("a"), (), [self.listener])]
        self.config = make_config(timeouts=Timeouts(heartbeat=PATIENCE))
        self.generation = make_generation(slots=3, config=self.config, listeners=self.listeners)
        self.make_child = make_child
        self.ends: dict[int, Any] = {}

    def child(self, slot: int, state: State = State.SERVING) -> Child:
        """One that begins."""
        child = self.make_child(slot=slot, state=state, board=slot, pid=2**22 + 1 + slot)
        child.channel.close()
        child.channel, self.ends[slot] = pairs.control_pair()
        self.generation.slots[slot].child = child
        self.watch.begin(self.generation, child, self.clock.now)
        return child

    def look(self, seconds: float) -> None:
        """So many seconds after the begin."""
        self.clock.now = 1000.0 + seconds
        self.watch.look([self.generation], self.clock.now)

    def look_until(self, seconds: float) -> None:
        """Whenever a look is due, until nothing is or so many seconds after the begin."""
        while self.watch.due <= 1000 + seconds:
            self.look(self.watch.due - 1000)

    def asked(self, slot: int) -> int:
        """How often a worker has been asked since this was last called."""
        count = 0
        while (received := pairs.receive(self.ends[slot])) is not None:
            assert received == ({"do": "beat"}, [])
            count += 1
        return count

    def wake(self, slot: int) -> bool:
        """A worker begins a round; whether it has to tell."""
        return self.generation.scoreboard.presence(slot).awake()

    def sleep(self, slot: int) -> None:
        self.generation.scoreboard.presence(slot).asleep()

    def beat(self, slot: int, number: int) -> None:
        self.generation.scoreboard.write(slot, Figures(0, 0, 0, 0, number))

    def lull(self, *slots: int) -> None:
        """Have all be seen, and fall asleep: two seconds after the begin nobody looks any more."""
        for slot in slots:
            self.beat(slot, 1)
        self.look(2)
        assert self.watch.due == NEVER

    def turn(self) -> None:
        """A round of the master's loop."""
        for fd, mask in self.poller.poll(0):
            self.handlers[fd](mask)

    def close(self) -> None:
        self.watch.release(self.generation)
        assert self.handlers == {}
        self.poller.close()
        self.listener.close()
        for slot, end in self.ends.items():
            end.close()
            child = self.generation.slots[slot].child
            assert child is not None
            child.channel.close()


@pytest.fixture
def ward(monkeypatch: pytest.MonkeyPatch, make_config: MakeConfig, make_child: MakeChild,
         make_generation: MakeGeneration) -> Iterator[Ward]:  # fmt: skip
    monkeypatch.setattr(module, "usage", lambda pid: Usage(1.0, 0.0))
    ward = Ward(make_generation, make_child, make_config)
    monkeypatch.setattr(module, "time", ward.clock)
    yield ward
    ward.close()


def test_one_that_answers_and_one_that_does_not(ward: Ward) -> None:
    child = ward.child(0)
    ward.child(1)
    ward.wake(0)
    ward.look(1.9)
    assert (ward.asked(0), ward.asked(1)) == (0, 0)
    ward.look(2)
    assert (ward.asked(0), ward.asked(1)) == (1, 1)
    ward.beat(1, 5)
    ward.look(4)
    ward.look(9.9)
    assert ward.hung == []
    assert (ward.asked(0), ward.asked(1)) == (0, 1)  # one question is enough
    ward.look(10)
    assert ward.hung == [(child, "hangs: no sign of life for 10.0 s")]


@pytest.mark.parametrize("state", State)
def test_who_is_watched(ward: Ward, state: State) -> None:
    """Who starts has a deadline, and who drains as well; nobody in the other states is there to answer."""
    ward.child(0, state)
    ward.wake(0)
    for at in range(2, 12, 2):
        ward.look(at)
    watched = state in (State.SERVING, State.STANDBY)
    assert (len(ward.hung), ward.asked(0)) == (watched, watched)
    assert (ward.watch.due < NEVER) is watched


@pytest.mark.parametrize("patience", [1.0, 8.0, 30.0])
def test_when_to_look(ward: Ward, patience: float, make_config: MakeConfig) -> None:
    """Soon at who begins, and then four times in the time that a worker may be silent."""
    ward.generation.config = make_config(timeouts=Timeouts(heartbeat=patience))
    assert ward.watch.due == NEVER
    ward.child(0)
    assert ward.watch.due == 1000 + min(2.0, patience / LOOKS)
    ward.wake(0)
    ward.look(2)
    assert ward.watch.due == 1002 + patience / LOOKS


def test_the_shortest_patience_decides(ward: Ward, make_generation: MakeGeneration, make_config: MakeConfig,
                                       make_child: MakeChild) -> None:  # fmt: skip
    ward.child(0)
    ward.wake(0)
    hasty = make_generation(2, config=make_config(timeouts=Timeouts(heartbeat=1.0)))
    hasty.slots[0].child = make_child(generation=2)
    ward.watch.look([hasty, ward.generation], 1001.0)
    assert ward.watch.due == 1001 + 1 / LOOKS
    ward.watch.look([ward.generation, hasty], 1001.1)
    assert ward.watch.due == 1001.1 + 1 / LOOKS


def test_no_patience_means_no_watch(ward: Ward, make_generation: MakeGeneration, make_config: MakeConfig,
                                    make_child: MakeChild) -> None:  # fmt: skip
    careless = make_generation(2, config=make_config(timeouts=Timeouts(heartbeat=0.0)), listeners=ward.listeners)
    careless.slots[0].child = child = make_child(generation=2)
    with nothing_left_open():
        ward.watch.begin(careless, child, 1000.0)
    assert ward.watch.due == NEVER
    for at in range(1000, 2000, 10):
        ward.watch.look([careless], float(at))
    assert ward.hung == []


def test_who_waits_for_a_processor_is_not_ended(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with too much to do killing workers would make it worse.  It is said, but not each time."""
    waited = 0.0
    monkeypatch.setattr(module, "usage", lambda pid: Usage(1.0, waited))
    ward.child(0)
    ward.wake(0)
    ward.look(2)
    for at in range(10, 90, 8):
        waited += 7.9
        ward.look(at)
    assert ward.hung == []
    assert ward.asked(0) == 11  # the first time, and again each time
    assert b"".join(ward.lines).count(b"waits for a processor") == 1
    ward.look(90)  # now it could run, and is silent all the same
    assert len(ward.hung) == 1


# An idle server


def test_nobody_looks_at_those_who_sleep(ward: Ward) -> None:
    """Until one wakes up, who is the first to be told that nobody looks."""
    for slot in range(2):
        ward.child(slot)
    assert not ward.wake(0)
    ward.look(1)
    assert ward.watch.due == 1003.0
    ward.sleep(0)
    ward.look(2)  # a question is open
    assert ward.watch.due == 1004.0
    ward.beat(0, 1)
    ward.beat(1, 1)
    ward.look(4)
    assert ward.watch.due == NEVER
    assert ward.wake(1)
    ward.watch.attend(1500.0)
    assert ward.watch.due == 1502.0
    assert not ward.wake(1)  # it need not be said twice
    ward.look(502)
    assert ward.watch.due == 1504.0


def test_who_wakes_up_while_the_master_turns_away_is_seen(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was awake before it could read that it has to tell."""
    ward.child(0)
    ward.beat(0, 1)
    leave = ward.generation.scoreboard.leave_unattended

    def late(*, unattended: bool) -> None:
        leave(unattended=unattended)
        if unattended:
            ward.generation.scoreboard.presence(0).awake()

    monkeypatch.setattr(ward.generation.scoreboard, "leave_unattended", late)
    ward.look(2)
    assert ward.watch.due == 1004.0
    assert not ward.wake(0)


def test_who_hangs_as_soon_as_it_wakes_up_is_found(ward: Ward) -> None:
    ward.child(0)
    ward.lull(0)
    assert ward.wake(0)
    ward.watch.attend(5000.0)
    ward.look_until(4000 + 1.5 * PATIENCE + 4)
    assert ward.hung[0][1].startswith("hangs: ")


def test_time_in_which_nobody_looked_is_no_silence(ward: Ward) -> None:
    """A worker may be silent for the whole of its time, whenever it was seen last."""
    ward.child(0)
    ward.lull(0)
    assert ward.wake(0)
    ward.watch.attend(5000.0)
    ward.look_until(4000 + PATIENCE - 0.1)
    assert ward.hung == []


def test_a_message_in_vain(ward: Ward) -> None:
    """A worker may say so as often as it likes."""
    ward.child(0)
    ward.wake(0)
    ward.look(2)
    for _ in range(10):
        ward.watch.attend(1002.5)
    assert ward.watch.due == 1004.0


def test_a_worker_that_begins_on_an_idle_server_is_looked_at_once(ward: Ward) -> None:
    """Then all sleep again: an idle server does not wake up for ever because a worker was replaced."""
    ward.child(0)
    ward.lull(0)
    ward.clock.now = 1500.0
    ward.child(1)
    assert ward.watch.due == 1502.0
    ward.beat(1, 1)
    ward.look_until(600)
    ward.beat(0, 2)
    ward.beat(1, 2)
    ward.look_until(700)
    assert ward.watch.due == NEVER
    assert ward.hung == []


# All of them may stand still: a connection that nobody takes


def test_a_connection_ends_the_sleep(ward: Ward) -> None:
    """Whoever takes it or not, the workers are looked at for a while; the master takes nothing itself."""
    child = ward.child(0)
    ward.lull(0)
    ward.turn()
    assert ward.watch.due == NEVER
    with socket.create_connection(ward.listener.getsockname()):
        ward.clock.now = 5000.0
        ward.turn()
        assert ward.watch.due == 5002.0
        assert ward.poller.poll(0) == []  # it does not spin while the connection waits
        ward.look_until(4000 + 1.5 * PATIENCE + 4)
        assert ward.hung[0][0] is child
        ward.listener.accept()[0].close()


def test_while_somebody_is_awake_connections_are_not_the_masters_business(ward: Ward) -> None:
    ward.child(0)
    ward.wake(0)
    ward.look(2)
    with socket.create_connection(ward.listener.getsockname()):
        assert ward.poller.poll(0) == []


def test_listeners_are_let_go(ward: Ward) -> None:
    """A generation's workers have to be the last who hold them; a copy would keep the port, and queue up clients."""
    ward.child(0)
    ward.lull(0)
    address = ward.listener.getsockname()
    ward.listener.close()
    with socket.create_connection(address):
        pass
    ward.watch.release(ward.generation)
    assert ward.handlers == {}
    assert ward.poller.poll(0) == []
    with socket.socket() as client:
        assert client.connect_ex(address) != 0
    ward.watch.release(ward.generation)


def test_no_descriptor_left(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then only workers end the sleep."""

    def refuse(fd: int) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("os.dup", refuse)
        ward.child(0)
    ward.lull(0)
    assert ward.handlers == {}
    assert ward.wake(0)
