"""What the parts of a script's run know of each other: the run, who has it run, who gets the answer."""

from __future__ import annotations

import enum
from typing import Any, Protocol

from httpd.cgi.lookup import Found
from httpd.server.writer import ResponseWriter
from httpd.worker.context import Context
from httpd.worker.script_mount import ScriptMount


class State(enum.Enum):
    """Of a run; its head says how one leads to the next."""

    WAITING = "waiting"  # for a spawner
    ASKED = "asked"
    QUEUED = "queued"
    RUNNING = "running"
    ANSWERED = "answered"  # the process, or its stderr, is still there
    OVER = "over"


AHEAD = (State.WAITING, State.ASKED, State.QUEUED)


class Owner(Protocol):
    """A connection, or who is in the place of one."""

    def forward(self, exchange: Any, /) -> None: ...

    def answered(self, exchange: Any, /) -> None: ...

    def redirect(self, exchange: Any, target: bytes, /) -> None: ...


class Sink(Protocol):
    """The exchange that is waiting for the answer."""

    owner: Any  # an Owner
    wfile: ResponseWriter
    command: str
    line: bytes
    name: str
    room: Any
    fault: int
    failure: BaseException | None
    close_connection: bool
    over: bool
    ended: bool


class Held(Protocol):
    """What is done in a moment, if it is still to be done then."""

    hold_until: float  # monotonic seconds

    @property
    def holds(self) -> bool: ...

    def release(self) -> None: ...


class Host(Protocol):
    """Who has scripts run."""

    context: Context
    null: int
    held: list[Held]

    def stop(self, run: Any, /) -> None: ...

    def over(self, run: Any, /) -> None: ...

    def silent(self, run: Any, /) -> None: ...

    def new_id(self) -> str: ...


class Run(Protocol):
    """A run, for its parts."""

    mount: ScriptMount
    found: Found
    output: Any  # a ScriptOutput
    pid: int

    @property
    def scripts(self) -> Host: ...

    def answered(self) -> None: ...

    @property
    def gone(self) -> bool: ...

    @property
    def id(self) -> str: ...

    def fail(self, status: int, reason: str) -> None: ...

    def redirect(self, target: bytes) -> None: ...

    def settle(self) -> None: ...
