"""A generation: one configuration, its listeners, its log files and the workers that serve by it."""

from __future__ import annotations

import contextlib
import enum
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from httpd.config import schema
from httpd.logs.stderr import NonBlockingWriter
from httpd.logs.targets import Kind, Target, log_names, open_target
from httpd.master.children import Child, Slot, State
from httpd.master.listeners import Listener
from httpd.system.limits import usable_cpus
from httpd.system.privileges import Identity
from httpd.worker.scoreboard import Scoreboard
from httpd.worker.shares import Shares


class Stage(enum.Enum):
    """CHECK and BIND happen before there is a generation."""

    CANARY = "canary"
    ROLL = "roll"
    ACTIVE = "active"
    STANDBY = "standby"
    DRAINING = "draining"
    GONE = "gone"


@dataclass(slots=True, eq=False)
class Generation:
    number: int
    config: schema.Config
    identity: Identity | None
    listeners: list[Listener]
    targets: dict[str, Target]  # access logs by their name in the configuration
    errors: Target
    scoreboard: Scoreboard
    shares: Shares
    slots: list[Slot]
    stage: Stage = Stage.CANARY
    extra: list[Child] = field(default_factory=list)  # children that hold no slot any more
    started: float = 0.0  # wall clock
    drains_since: float = float("inf")  # monotonic seconds
    hurried: bool = False  # its drain time was cut short
    tired: list[tuple[Child, str]] = field(default_factory=list)  # waiting to be replaced, and why
    boards: list[int] = field(default_factory=list)  # free places on the scoreboard
    script_users: Mapping[str, Identity] = field(default_factory=dict)  # whom scripts run as, by the mount's key

    @property
    def children(self) -> Iterator[Child]:
        """Every process of this generation that has not been buried."""
        for slot in self.slots:
            if slot.child is not None:
                yield slot.child
        yield from self.extra

    @property
    def listener_names(self) -> list[str]:
        """What is listened on, as bound."""
        return [name for listener in self.listeners for name in listener.names]

    def serving(self) -> int:
        """How many slots have a worker that serves."""
        return sum(1 for slot in self.slots if slot.child is not None and slot.child.state is State.SERVING)

    def set_aside(self, slot: Slot) -> None:
        """Take the slot from its child, which goes on without one."""
        if slot.child is not None:
            self.shares.leave(slot.number)
            self.extra.append(slot.child)
            slot.child = None

    def take_board(self) -> int:
        """A free place on the scoreboard, wiped."""
        board = self.boards.pop(0) if self.boards else -1
        self.scoreboard.clear(board)
        return board

    def give_board(self, board: int) -> None:
        """Take back what `take_board` gave."""
        if board >= 0:
            self.boards.append(board)

    def close(self) -> None:
        """Close the log files.  Listeners are closed by whoever knows whether the next generation shares them."""
        close_targets((*self.targets.values(), self.errors))

    def end(self) -> None:
        """Close everything: the last worker is gone."""
        self.close()
        self.shares.close()
        self.scoreboard.close()


def make_generation(
    number: int, config: schema.Config, identity: Identity | None, listeners: list[Listener],
    script_users: Mapping[str, Identity] | None = None,
) -> Generation:  # fmt: skip
    """A generation without workers.  Opens its log files; raises OSError with the file's name."""
    places = 2 * config.server.max_workers  # a worker and the one that replaces it
    scoreboard, shares = Scoreboard(places), Shares(config.server.max_workers)
    try:
        targets, errors = open_targets(config)
    except OSError:
        shares.close()
        raise
    return Generation(
        number, config, identity, listeners, targets, errors, scoreboard, shares,
        [Slot(index) for index in range(worker_count(config))], started=time.time(), boards=list(range(places)),
        script_users=script_users or {},
    )  # fmt: skip


def handed_over(generations: Iterable[Generation]) -> bool:
    """Whether no worker of an old generation accepts any more what a new one is to have."""
    return all(
        child.standing or child.state not in (State.STANDBY, State.DRAINING)
        for generation in generations if generation.stage in (Stage.STANDBY, Stage.DRAINING)
        for child in generation.children
    )  # fmt: skip


def worker_count(config: schema.Config) -> int:
    """`server.workers`, or one per usable CPU, within `max_workers`."""
    return min(config.server.workers or usable_cpus(), config.server.max_workers)


def open_targets(config: schema.Config) -> tuple[dict[str, Target], Target]:
    """Open all log files of a configuration, or none: raises OSError."""
    with contextlib.ExitStack() as stack:
        targets: dict[str, Target] = {}
        for name in log_names(config):
            targets[name] = open_target(name)
            stack.callback(close_targets, (targets[name],))
        errors = open_target(config.log.error, error=True)
        stack.pop_all()
        return targets, errors


def close_targets(targets: Iterable[Target]) -> None:
    """Close the descriptors behind targets that have one."""
    for target in targets:
        if target.kind is Kind.DESCRIPTOR:
            os.close(target.fd)


def log_failure(config: schema.Config | None, writer: NonBlockingWriter, say: Callable[[], None]) -> None:
    """A start failed before the error log was open: say it there too; behind a restart nobody may read stderr."""
    with contextlib.suppress(OSError):
        target = open_target("-" if config is None else config.log.error, error=True)
        if target.kind is Kind.DESCRIPTOR and target.spec != "-":
            writer.reopen(target.fd)
            say()
        close_targets((target,))
