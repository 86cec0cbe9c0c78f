"""What the tests of the master share: configurations, and generations with workers that are only records."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.config import schema
from httpd.logs.targets import Kind, Target
from httpd.master.children import Child, Slot, State
from httpd.master.generations import Generation
from httpd.worker.scoreboard import Scoreboard
from httpd.worker.shares import Shares

MakeConfig = Callable[..., schema.Config]
MakeGeneration = Callable[..., Generation]
MakeChild = Callable[..., Child]


@pytest.fixture
def make_config() -> MakeConfig:
    """A configuration that logs nowhere; arguments are the tables that differ."""

    def make(**tables: Any) -> schema.Config:
        return schema.Config(
            path=tables.get("path", "/etc/httpd.toml"),
            server=tables.get("server", schema.Server(workers=2)),
            timeouts=tables.get("timeouts", schema.Timeouts()),
            limits=tables.get("limits", schema.Limits()),
            log=tables.get("log", schema.Log(access="", error="")),
            vhosts=tables.get("vhosts", ()),
        )

    return make


@pytest.fixture
def make_child() -> Iterator[MakeChild]:
    """A record of a worker; no process belongs to it."""
    channels: list[socket.socket] = []

    def make(pid: int = 2**22 + 1, slot: int = 0, state: State = State.SERVING, **fields: Any) -> Child:
        ours, theirs = socket.socketpair()
        channels.extend((ours, theirs))
        generation, started = fields.pop("generation", 1), fields.pop("started", 0.0)
        return Child(pid, None, ours, fields.pop("dump", -1), slot, generation, started, state, **fields)

    yield make
    for channel in channels:
        channel.close()


@pytest.fixture
def make_generation(make_config: MakeConfig) -> Iterator[MakeGeneration]:
    """A generation without workers and without sockets."""
    made: list[Generation] = []

    def make(number: int = 1, slots: int = 2, config: schema.Config | None = None, **fields: Any) -> Generation:
        made.append(Generation(
            number, config or make_config(), None, fields.pop("listeners", []), {}, Target("", Kind.NONE),
            Scoreboard(2 * slots), Shares(slots), [Slot(at) for at in range(slots)], boards=list(range(2 * slots)),
            **fields,
        ))  # fmt: skip
        return made[-1]

    yield make
    for generation in made:
        generation.end()
