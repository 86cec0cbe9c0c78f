"""What scripts have bound for them: one listener for each of their servers, whoever asks, and whatever they ask for."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from httpd.config import schema
from httpd.logs.errors import ErrorLog
from httpd.master import scripts
from httpd.master.generations import Generation
from httpd.system import pairs
from machine import needs_ipv6
from unit.master.fake_server import free_port


class World:
    """Generations, of which only what `bind` looks at is real, and one child that asks."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.errors = ErrorLog(lambda line: self.lines.append(line.decode()), "debug", "test")
        self.generations: list[Any] = []
        self.fds: list[int] = []
        self.ours, self.theirs = pairs.control_pair()

    def generation(self, path: str = "/x.py") -> Any:
        """`path` is the script's; "" is none."""
        script = schema.Script(path) if path else None
        made: Any = object.__new__(Generation)
        made.listeners = []
        made.config = schema.Config(path="", server=schema.Server(), timeouts=schema.Timeouts(),
                                    limits=schema.Limits(), log=schema.Log(), vhosts=(), script=script)  # fmt: skip
        self.generations.append(made)
        return made

    def ask(self, generation: Any, ordinal: object = 0, host: object = "127.0.0.1", port: object = 0,
            both: object = False) -> dict[str, Any]:  # fmt: skip
        """The answer; `names` are what the sockets that came with it are bound to, `inodes` which they are."""

        class Child:
            pid = 1
            channel = self.ours

        message = {"event": "bind", "ask": 7, "ordinal": ordinal, "host": host, "port": port, "both": both}
        scripts.bind(self.generations, generation, Child(), message, self.errors)  # type: ignore[arg-type]
        received = pairs.receive(self.theirs)
        if received is None:
            return {}
        assert received is not pairs.EOF
        answer, fds = received
        self.fds += fds
        names = []
        for fd in fds:
            with socket.socket(fileno=os.dup(fd)) as sock:
                names.append(sock.getsockname()[:2])
        return {**answer, "names": names, "inodes": [os.fstat(fd).st_ino for fd in fds]}

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
        for generation in self.generations:
            for listener in generation.listeners:
                listener.close()
        self.ours.close()
        self.theirs.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


def test_it_is_bound_and_listens(world: World) -> None:
    generation = world.generation()
    answer = world.ask(generation)
    assert (answer["do"], answer["ask"]) == ("bound", 7)
    assert answer["address"] == "127.0.0.1:0 (server 1 of the script)"
    (name,) = answer["names"]
    socket.create_connection(name).close()
    assert [listener.address.text for listener in generation.listeners] == [answer["address"]]


def test_who_asks_again_gets_the_same(world: World) -> None:
    generation = world.generation()
    port = free_port()
    for ordinal, wanted in ((0, 0), (1, port), (2, 0)):
        first = world.ask(generation, ordinal, port=wanted)
        assert world.ask(generation, ordinal, port=wanted)["inodes"] == first["inodes"]
    assert len(generation.listeners) == 3


def test_servers_on_port_0_are_told_apart(world: World) -> None:
    """They have the same address; asked again, in this generation or the next, each is what it was."""
    generation = world.generation()
    first = [world.ask(generation, ordinal)["inodes"] for ordinal in range(3)]
    assert len({inode for inodes in first for inode in inodes}) == 3
    assert [world.ask(generation, ordinal)["inodes"] for ordinal in range(3)] == first
    later = world.generation()
    assert [world.ask(later, ordinal)["inodes"] for ordinal in range(3)] == first
    assert len(later.listeners) == len(generation.listeners) == 3


def test_another_place_in_a_new_script(world: World) -> None:
    """It was the first server's address, and is now the second's."""
    port = free_port()
    first = world.ask(world.generation(), 0, port=port)
    later = world.generation()
    world.ask(later, 0)
    assert world.ask(later, 1, port=port)["inodes"] == first["inodes"]


def test_what_can_t_be_bound_is_told(world: World) -> None:
    generation = world.generation()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        answer = world.ask(generation, port=other.getsockname()[1])
    assert answer["errno"] == errno.EADDRINUSE
    assert "Address already in use" in answer["reason"]
    assert answer["names"] == []
    assert world.ask(generation, host="192.0.2.1")["errno"] == errno.EADDRNOTAVAIL
    assert generation.listeners == []


@pytest.mark.parametrize(
    ("ordinal", "host", "port", "reason"),
    [
        (-1, "127.0.0.1", 0, "64 servers"), (64, "127.0.0.1", 0, "64 servers"), (0, "127.0.0.1", -1, "no port"),
        (0, "127.0.0.1", 65536, "no port"), (0, "localhost", 0, "localhost"), (0, "", 0, "address"),
        (0, "/etc/passwd", 0, "address"), (0, "127.0.0.1%a.example", 0, "zone"), (0, "::1%no", 0, "zone"),
        (0, "\xe9" * 20_000, 0, ""),
    ],
)  # fmt: skip
def test_what_no_script_asks_for(world: World, ordinal: int, host: str, port: int, reason: str) -> None:
    generation = world.generation()
    answer = world.ask(generation, ordinal, host, port)
    assert answer["errno"] == errno.EINVAL
    assert reason in answer["reason"]
    assert generation.listeners == []


@pytest.mark.parametrize(
    "message", [{"ordinal": "0"}, {"host": 1}, {"port": None}, {"both": "yes"}, {"port": [80]}]
)  # fmt: skip
def test_a_message_that_is_none(world: World, message: dict[str, object]) -> None:
    assert world.ask(world.generation(), **message) == {}
    assert "bad message" in world.lines[-1]


def test_only_scripts_bind(world: World) -> None:
    """A worker of a configuration does not choose where the master listens."""
    generation = world.generation("")
    assert world.ask(generation) == {}
    assert generation.listeners == []
    assert "bad message" in world.lines[-1]


@needs_ipv6
def test_ipv6_alone_and_with_ipv4(world: World) -> None:
    generation = world.generation()
    alone = world.ask(generation, 0, "::1")
    assert alone["address"] == "[::1]:0 (server 1 of the script)"
    assert [name[0] for name in alone["names"]] == ["::1"]
    both = world.ask(generation, 1, "::", both=True)
    assert [name[0] for name in both["names"]] == ["::", "0.0.0.0"]
    assert both["names"][0][1] == both["names"][1][1]
    assert [name[0] for name in world.ask(generation, 2, "::", both=False)["names"]] == ["::"]


def test_no_more_than_a_script_can_want(world: World) -> None:
    generation = world.generation()
    world.ask(generation)
    generation.listeners += generation.listeners * 127
    assert world.ask(generation, 1) == {}
    assert len(generation.listeners) == 128
    assert any("too many listeners" in line for line in world.lines)
