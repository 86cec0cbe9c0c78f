"""Listeners that stopped being reachable: what the master finds when it looks, says, and tells the workers."""

from __future__ import annotations

import errno
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from httpd.config.schema import Address
from httpd.logs.errors import ErrorLog
from httpd.master.children import Child, State
from httpd.master.generations import Generation
from httpd.master.listeners import Listener, bind_all
from httpd.master.revival import restore_paths, revive
from httpd.system import pairs
from httpd.worker.checker import Endpoint

MakeGeneration = Callable[..., Generation]
MakeChild = Callable[..., Child]


class Log:
    """An error log that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.errors = ErrorLog(self.lines.append, "info", "test")

    @property
    def text(self) -> str:
        return b"".join(self.lines).decode()


def bound(*wanted: tuple[Address, Endpoint]) -> list[Listener]:
    endpoints = {address.text: [endpoint] for address, endpoint in wanted}
    return bind_all([address for address, _ in wanted], endpoints, [], pytest.fail)


def local(text: str = "127.0.0.1:0") -> tuple[Address, Endpoint]:
    return Address(text, host="127.0.0.1"), Endpoint(socket.AF_INET, "127.0.0.1")


WEB = (Address("unix:web", "unix", path="web"), Endpoint(socket.AF_UNIX, path="web"))


def close(listeners: list[Listener]) -> None:
    for listener in listeners:
        listener.close()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether a socket still listens")
def test_only_what_was_shut_down_is_said(tmp_path: Path) -> None:
    """A worker that lies about a listener gets nothing done, and nothing written."""
    log, listeners = Log(), bound(local(), local("127.0.0.1:1"))
    revive(listeners, log.errors)
    assert log.lines == []
    listeners[1].sockets[0].shutdown(socket.SHUT_RDWR)
    revive(listeners, log.errors)
    assert log.text.count("it listens again") == len(log.lines) == 1
    assert listeners[1].names[0] in log.text
    close(listeners)


def test_what_cannot_be_revived_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(listener: Listener) -> list[str]:
        raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))

    monkeypatch.setattr(Listener, "revive", fail)
    log = Log()
    listeners = [Listener(Address(text), ()) for text in ("one", "two")]
    for _ in range(50):
        revive(listeners, log.errors)
    assert len(log.lines) == 2
    assert "listener=one" in log.text
    assert "listener=two" in log.text
    assert os.strerror(errno.EADDRINUSE) in log.text


def test_workers_in_office_get_the_new_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_generation: MakeGeneration, make_child: MakeChild
) -> None:
    monkeypatch.chdir(tmp_path)
    log, listeners = Log(), bound(local(), WEB)
    generation = make_generation(slots=len(State), listeners=listeners)
    ends = {}
    for slot, state in zip(generation.slots, State, strict=True):
        slot.child = make_child(slot=slot.number, state=state)
        slot.child.channel.close()
        slot.child.channel, ends[state] = pairs.control_pair()
    restore_paths([generation], generation, log.errors)
    assert log.lines == []
    os.unlink("web")
    restore_paths([generation], generation, log.errors)
    assert log.text.count("made again listener=unix:web") == len(log.lines) == 1
    told = set()
    for state, end in ends.items():
        received = pairs.receive(end)
        if received is not None and received is not pairs.EOF:
            message, (fd,) = received
            assert message == {"do": "listen", "address": "unix:web"}
            assert os.fstat(fd).st_ino == os.fstat(listeners[1].sockets[0].fileno()).st_ino
            os.close(fd)
            told.add(state)
        end.close()
    assert told == {State.STARTING, State.SERVING, State.STANDBY}
    for slot in generation.slots:
        assert slot.child is not None
        slot.child.channel.close()
    close(listeners)


def test_a_path_that_is_taken_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_generation: MakeGeneration
) -> None:
    monkeypatch.chdir(tmp_path)
    log, listeners = Log(), bound(WEB)
    generation = make_generation(listeners=listeners)
    os.unlink("web")
    Path("web").write_text("precious")
    for _ in range(50):
        restore_paths([generation], generation, log.errors)
    assert len(log.lines) == 1
    assert "listener=unix:web" in log.text
    assert "not a socket" in log.text
    assert Path("web").read_text() == "precious"
    close(listeners)


def test_every_generation_that_shares_the_listener_has_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make_generation: MakeGeneration, make_child: MakeChild
) -> None:
    """Called back, the old generation must not take what was made meanwhile for somebody else's."""
    monkeypatch.chdir(tmp_path)
    log, before = Log(), bound(WEB)
    after = bind_all([WEB[0]], {"unix:web": [WEB[1]]}, before, pytest.fail)
    old, new = make_generation(1, listeners=before), make_generation(2, listeners=after)
    stranger = make_generation(3, listeners=bound(local()))
    ends = {}
    for generation in (old, new, stranger):
        generation.slots[0].child = child = make_child(state=State.STANDBY)
        child.channel.close()
        child.channel, ends[generation.number] = pairs.control_pair()
    os.unlink("web")
    restore_paths([old, new, stranger], new, log.errors)
    assert not before[0].astray
    assert not after[0].astray
    assert before[0].sockets[0] is after[0].sockets[0]
    for number, end in ends.items():
        received = pairs.receive(end)
        assert (received is not None) is (number in (1, 2))
        if received is not None and received is not pairs.EOF:
            os.close(received[1][0])
        end.close()
    for generation in (old, new, stranger):
        for child in generation.children:
            child.channel.close()
    restore_paths([old, new], old, log.errors)
    assert len(log.lines) == 1
    close([*before, *stranger.listeners])
