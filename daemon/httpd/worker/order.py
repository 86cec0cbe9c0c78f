"""What the master hands to a worker over the fork, and what a worker keeps of all that it inherits."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import dataclass

from httpd.config import schema
from httpd.logs.targets import Target
from httpd.system import privileges
from httpd.system.descriptors import close_all_but
from httpd.worker.scoreboard import Scoreboard
from httpd.worker.shares import Shares


@dataclass(slots=True)
class Order:
    """What the master hands to a worker.  Everything in here was made before the fork."""

    config: schema.Config
    identity: privileges.Identity | None
    slot: int
    generation: int
    channel: socket.socket
    listeners: list[tuple[schema.Address, list[socket.socket]]]
    targets: Mapping[str, Target]  # access logs by what the configuration calls them
    errors: Target
    scoreboard: Scoreboard
    board: int  # our place on it
    shares: Shares
    folder: int  # descriptor of an empty folder to stay in
    detached: bool  # stdin, stdout and stderr are nobody's
    launcher: socket.socket | None  # who has scripts run
    dump: int  # a pipe on which the master hears of a crash


def keep_only(order: Order) -> None:
    """Close every descriptor that belongs to the master or to other workers."""
    keep = {order.channel.fileno(), order.errors.fd, order.dump}
    if order.launcher is not None:
        keep.add(order.launcher.fileno())
    if order.shares.bell >= 0:
        keep.add(order.shares.bell)
    keep.update(sock.fileno() for _, socks in order.listeners for sock in socks)
    keep.update(target.fd for target in order.targets.values())
    close_all_but(keep)
