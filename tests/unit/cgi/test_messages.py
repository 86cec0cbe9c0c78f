"""Messages between worker, launcher, spawners and master: what fits, what does not, and whose descriptors those are."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator

import msgspec
import pytest

from httpd.cgi import messages
from httpd.cgi.messages import (
    MAX_MESSAGE,
    Admit,
    Ask,
    Declined,
    Door,
    Drop,
    Ended,
    Leaving,
    Message,
    Mount,
    Note,
    Ping,
    Pong,
    Queued,
    Receiver,
    Run,
    Several,
    Shut,
    Started,
    Stop,
    Suspect,
    ToLauncher,
    ToMaster,
    TooLong,
    ToSpawner,
    ToWorker,
    send,
)
from httpd.config import schema
from httpd.system import pairs
from httpd.system.pairs import EOF, BadMessage
from httpd.system.privileges import Identity
from machine import descriptors

MOUNT = schema.Cgi(
    "/c/", "vhost[0].cgi[0]", schema.Settings(), "/srv/cgi", extensions=(".cgi",), env={"A": "é"},
    limits=schema.ScriptLimits(cpu=1.5, memory=1 << 40),
)  # fmt: skip
SAMPLES: list[tuple[object, Message]] = [
    (ToLauncher, Ask("vhost[0].cgi[0]")),
    (ToLauncher, Ask("vhost[0].cgi[0]")),
    (ToLauncher, Suspect("vhost[0].cgi[0]")),
    (ToLauncher, Mount(3, MOUNT, Identity("nobody", 65534, 65534, (65534,)))),
    (ToLauncher, Mount(3, MOUNT, None)),
    (ToLauncher, Admit(3, 5)),
    (ToLauncher, Drop(3)),
    (ToLauncher, Ping()),
    (ToMaster, Note("warning", "a\nb")),
    (ToMaster, Pong()),
    (ToSpawner, Run(7, b"a\xff/b", [b"", b"\xff"], {b"A": b"\xff", b"B": b""})),
    (ToSpawner, Stop(7)),
    (ToSpawner, Ping()),
    (ToWorker, Queued(7)),
    (ToWorker, Started(7, 4711)),
    (ToWorker, Declined(7, 403, "it is setuid", alarm=True)),
    (ToWorker, Ended(7, 4711, "exit status 1")),
    (ToWorker, Several([Ended(7, 4711, "exit status 1"), Ended(8, 4712, "killed by SIGKILL")])),
    (ToWorker, Leaving()),
    (ToWorker, Door("vhost[0].cgi[0]")),
    (ToWorker, Shut("vhost[0].cgi[0]", "no memory")),
]

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    before = descriptors()
    ends = pairs.control_pair()
    yield ends
    for end in ends:
        end.close()
    assert descriptors() == before, "descriptors left open"


def put(sock: socket.socket, data: bytes, fds: list[int] | None = None) -> None:
    """A packet as a process that was taken over might send it."""
    extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], extra)


@pytest.mark.parametrize(("kinds", "message"), SAMPLES, ids=lambda value: getattr(type(value), "__name__", ""))
def test_each_arrives_as_it_was(pair: Pair, kinds: object, message: Message) -> None:
    assert send(pair[0], message)
    assert Receiver(pair[1], kinds).next() == (message, [])


@pytest.mark.parametrize(("kinds", "message"), SAMPLES, ids=lambda value: getattr(type(value), "__name__", ""))
def test_who_may_not_say_it_has_not_said_it(pair: Pair, kinds: object, message: Message) -> None:
    """A worker can't send what is for the master to send."""
    known = {kind for kind in (ToLauncher, ToMaster, ToSpawner, ToWorker) if type(message) not in kind.__args__}
    assert known
    for other in known:
        assert send(pair[0], message)
        with pytest.raises(BadMessage):
            Receiver(pair[1], other).next()


def test_every_message_is_here() -> None:
    assert {type(message) for _, message in SAMPLES} == set(Message.__subclasses__())


def test_nothing_and_the_end(pair: Pair) -> None:
    receiver = Receiver(pair[1], ToWorker)
    assert receiver.next() is None
    assert send(pair[0], Queued(1))
    pair[0].close()
    assert receiver.next() == (Queued(1), [])
    assert receiver.next() is EOF


def test_a_peer_that_died_with_something_unread(pair: Pair) -> None:
    """What it has said comes behind the news of that."""
    assert send(pair[1], Stop(1))
    assert send(pair[0], Ended(1, 2, "exit status 0"))
    pair[0].close()
    receiver = Receiver(pair[1], ToWorker)
    assert receiver.next() == (Ended(1, 2, "exit status 0"), [])
    assert receiver.next() is EOF
    assert not send(pair[1], Stop(1))


def test_descriptors_arrive_as_duplicates_that_no_program_inherits(pair: Pair) -> None:
    ends = os.pipe()
    assert send(pair[0], Door("m"), [ends[1]])
    os.close(ends[1])
    received = Receiver(pair[1], ToWorker).next()
    assert isinstance(received, tuple)
    message, (fd,) = received
    assert message == Door("m")
    assert not os.get_inheritable(fd)
    os.write(fd, b"x")
    assert os.read(ends[0], 9) == b"x"
    os.close(ends[0])
    os.close(fd)


@pytest.mark.parametrize(
    "data",
    [
        b"\xc1", b"{}", b"\x80", b"\xff" * 100, msgspec.msgpack.encode({"is": "nothing"}),
        msgspec.msgpack.encode({"is": "queued"}), msgspec.msgpack.encode({"is": "queued", "number": "1"}),
        msgspec.msgpack.encode({"is": "queued", "number": 1.5}), msgspec.msgpack.encode(["queued", 1]),
        msgspec.msgpack.encode({"is": "queued", "number": 1}) + b"\0", b"\x91" * 5000, b"\xdf\xff\xff\xff\xff",
        msgspec.msgpack.encode({"is": "declined", "number": 1, "status": 403, "reason": b"x"}),
    ],
)  # fmt: skip
def test_what_is_no_message(pair: Pair, data: bytes) -> None:
    """It is refused, its descriptors are closed, and what follows is read."""
    ends = os.pipe()
    put(pair[0], data, [ends[1]])
    os.close(ends[1])
    assert send(pair[0], Leaving())
    receiver = Receiver(pair[1], ToWorker)
    with pytest.raises(BadMessage):
        receiver.next()
    assert os.read(ends[0], 1) == b""  # nobody holds the other end
    os.close(ends[0])
    assert receiver.next() == (Leaving(), [])


def test_too_many_descriptors(pair: Pair) -> None:
    ends = os.pipe()
    put(pair[0], msgspec.msgpack.encode(Leaving()), [ends[1]] * 20)
    os.close(ends[1])
    with pytest.raises(BadMessage, match="cut off"):
        Receiver(pair[1], ToWorker).next()
    assert os.read(ends[0], 1) == b""
    os.close(ends[0])


def test_too_long_to_be_received(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(messages, "MAX_MESSAGE", 100)
        receiver = Receiver(pair[1], ToWorker)
    assert send(pair[0], Ended(1, 2, "x" * 100))
    with pytest.raises(BadMessage, match="cut off"):
        receiver.next()
    assert send(pair[0], Ended(1, 2, "x"))
    assert receiver.next() == (Ended(1, 2, "x"), [])


def test_too_long_to_be_sent(pair: Pair) -> None:
    with pytest.raises(TooLong, match="bytes, and"):
        send(pair[0], Note("info", "x" * MAX_MESSAGE))
    assert Receiver(pair[1], ToMaster).next() is None


def test_the_longest_that_can_be_sent(pair: Pair) -> None:
    """A large environment goes through in one packet."""
    room = MAX_MESSAGE - len(msgspec.msgpack.encode(Run(1, b"s", [], {b"A": b"x" * 70_000}))) + 70_000
    message = Run(1, b"s", [], {b"A": b"x" * room})
    assert len(msgspec.msgpack.encode(message)) == MAX_MESSAGE
    assert send(pair[0], message)
    assert Receiver(pair[1], ToSpawner).next() == (message, [])


def test_a_full_socket_is_not_waited_for(pair: Pair) -> None:
    sent = 0
    while send(pair[0], Note("info", "x" * 10_000)):
        sent += 1
    assert sent > 0
    receiver = Receiver(pair[1], ToMaster)
    assert isinstance(receiver.next(), tuple)
    while receiver.next() is not None:
        pass
    assert send(pair[0], Pong())
