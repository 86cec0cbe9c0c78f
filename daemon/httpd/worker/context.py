"""What the connections of one worker share: the loop's time, the poller, the sites, limits and counters."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from typing import Any, Protocol

from httpd.config import schema
from httpd.content.cache import FileCache
from httpd.logs.access_log import AccessLog
from httpd.logs.errors import ErrorLog
from httpd.protocol.messages import HeadLimits
from httpd.protocol.plain import plain_head
from httpd.protocol.writer import Preambles
from httpd.server.exchange import Driver
from httpd.system.bell import Bell
from httpd.system.poller import Poller
from httpd.worker.exchange import Responder


class Watched(Protocol):
    """A connection as the loop's sweep sees it."""

    deadline: float

    def sweep(self, now: float) -> None: ...

    def postpone(self, seconds: float) -> None: ...

    @property
    def busy(self) -> bool: ...

    def drain(self, *, fresh: bool) -> None: ...

    def close(self) -> None: ...

    def cut(self) -> None: ...

    def fileno(self) -> int: ...

    def answer(self, plain: re.Match[bytes]) -> None: ...


class Dispatching(Driver, Protocol):
    """What runs handlers, as the loop and its connections see it."""

    active: int
    bell: Bell
    look_at: float

    def lead(self, loop: Callable[[], bool]) -> None: ...

    def close(self) -> None: ...

    def submit(self, exchange: Any, mount: Any, /) -> None: ...

    def tend(self, now: float) -> float: ...

    def run_quick(self) -> bool: ...

    def collect(self) -> None: ...

    def look(self, now: float) -> None: ...

    def oversee(self, now: float) -> None: ...


class Running(Protocol):
    """What runs scripts, as the loop sees it."""

    @property
    def active(self) -> Collection[Any]: ...

    def tend(self, now: float) -> float: ...

    def look(self, now: float) -> bool: ...

    def postpone(self, seconds: float) -> None: ...


class Context:
    """One per worker.  `now` (monotonic seconds) and `wall` (seconds since the epoch) are those of the loop's round."""

    __slots__ = (
        "accepted", "asked", "connections", "dirty", "dispatch", "draining", "errors", "files", "forgotten", "handlers",
        "head_limits", "idle_seconds", "limits", "listener_lost", "log", "now", "paused", "plain", "poller",
        "preambles", "requests", "responder", "round", "scripts", "sending", "timeouts", "wall",
    )  # fmt: skip

    def __init__(
        self, config: schema.Config, poller: Poller, errors: ErrorLog, listener_lost: Callable[[], None]
    ) -> None:
        """`listener_lost` is to be called when somebody has shut a listener down."""
        limits = config.limits
        self.now = self.wall = 0.0
        self.round = 0
        self.poller = poller
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.forgotten: set[int] = set()  # descriptors, in this round
        self.connections: dict[int, Watched] = {}
        self.dirty: list[AccessLog] = []
        self.asked: list[tuple[Watched, re.Match[bytes]]] = []  # plain requests that were read in this round
        self.errors = errors
        self.limits = limits
        self.timeouts = config.timeouts
        self.head_limits = HeadLimits(limits.request_line, limits.head, limits.fields, limits.body)
        self.plain = plain_head(self.head_limits)
        self.preambles = Preambles()
        self.files = FileCache(limits.file_cache)
        self.log: AccessLog | None = None  # for what can't be given to a site
        self.responder = Responder(self.files, errors)
        self.dispatch: Dispatching | None = None  # where there are handlers
        self.scripts: Running | None = None  # where there are scripts
        self.listener_lost = listener_lost
        self.draining = False  # every answer is the last of its connection
        self.idle_seconds = config.timeouts.keepalive  # how long a connection may wait for its next request
        self.requests = 0
        self.accepted = 0
        self.sending = 0  # answers that did not go out at once
        self.paused = 0  # listeners that pause for want of room

    def watch(self, fd: int, mask: int, before: int, handler: Callable[[int], None]) -> None:
        """Have `handler` called when `fd` shows one of `mask`; `before` is what it was watched for, 0 for nothing."""
        if not before:
            self.poller.register(fd, mask)
        elif before != mask:
            self.poller.modify(fd, mask)
        self.handlers[fd] = handler

    def forget(self, fd: int) -> None:
        """Stop watching `fd`, which is about to be closed.

        What the poller has told of it in this round is not for who gets its number.
        """
        self.forgotten.add(fd)
        del self.handlers[fd]
        self.poller.unregister(fd)
