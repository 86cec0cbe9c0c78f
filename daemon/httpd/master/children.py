"""The life of a worker as the master sees it: a table of states and events, and the pause before it is replaced.

Rules:

- Everything here is values: time comes in as an argument, what has to be done comes out as an `Action`.
- The table is complete for what can happen; a pair that is missing means "nothing changes".
- Deadlines belong to states, so a child can't be in a state for ever.
"""

from __future__ import annotations

import enum
import math
import random
import socket
from dataclasses import dataclass, field

from httpd.system.usage import Usage

GRACE_SECONDS = 2.0  # beyond the drain time, and for "stop now"
KILL_SECONDS = 5.0  # between two SIGKILLs at a process that does not go (state D)
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds before a slot is filled again
LONG_LIFE = 60.0  # seconds after which a death counts as the first


class State(enum.Enum):
    STARTING = "starting"
    SERVING = "serving"
    STANDBY = "standby"  # the next generation serves, on probation; this one answers what is open, and can come back
    DRAINING = "draining"
    STOPPING = "stopping"
    ABORTED = "aborted"  # it hangs: told by SIGABRT to dump where it stands, and to end
    KILLED = "killed"
    GONE = "gone"


class Event(enum.Enum):
    READY = "ready"
    FAILED = "failed"  # it says why it can't start; its exit follows
    STAND_BY = "stand by"
    RESUME = "resume"
    HUNG = "hung"  # it gives no sign of life
    DRAIN = "drain"
    STOP = "stop"
    DEADLINE = "deadline"
    EXIT = "exit"


class Action(enum.Enum):
    NONE = "none"
    WELCOME = "welcome"
    SEND_STANDBY = "send standby"
    SEND_RESUME = "send resume"
    SEND_DRAIN = "send drain"
    SEND_STOP = "send stop"
    ABORT = "abort"
    KILL = "kill"
    BURY = "bury"


TABLE: dict[tuple[State, Event], tuple[State, Action]] = {
    (State.STARTING, Event.READY): (State.SERVING, Action.WELCOME),
    (State.STARTING, Event.FAILED): (State.STOPPING, Action.NONE),
    (State.STARTING, Event.STAND_BY): (State.STOPPING, Action.SEND_STOP),
    (State.STARTING, Event.DRAIN): (State.DRAINING, Action.SEND_DRAIN),
    (State.STARTING, Event.STOP): (State.STOPPING, Action.SEND_STOP),
    (State.STARTING, Event.DEADLINE): (State.ABORTED, Action.ABORT),
    (State.SERVING, Event.STAND_BY): (State.STANDBY, Action.SEND_STANDBY),
    (State.SERVING, Event.DRAIN): (State.DRAINING, Action.SEND_DRAIN),
    (State.SERVING, Event.STOP): (State.STOPPING, Action.SEND_STOP),
    (State.SERVING, Event.HUNG): (State.ABORTED, Action.ABORT),
    (State.STANDBY, Event.RESUME): (State.SERVING, Action.SEND_RESUME),
    (State.STANDBY, Event.DRAIN): (State.DRAINING, Action.SEND_DRAIN),
    (State.STANDBY, Event.STOP): (State.STOPPING, Action.SEND_STOP),
    (State.STANDBY, Event.HUNG): (State.ABORTED, Action.ABORT),
    (State.DRAINING, Event.STOP): (State.STOPPING, Action.SEND_STOP),
    (State.DRAINING, Event.DEADLINE): (State.STOPPING, Action.SEND_STOP),
    (State.STOPPING, Event.DEADLINE): (State.KILLED, Action.KILL),
    (State.ABORTED, Event.DEADLINE): (State.KILLED, Action.KILL),
    (State.KILLED, Event.DEADLINE): (State.KILLED, Action.KILL),
    **{(state, Event.EXIT): (State.GONE, Action.BURY) for state in State if state is not State.GONE},
}

WATCHED = frozenset((State.SERVING, State.STANDBY))  # those whose signs of life are looked for
IN_OFFICE = frozenset((State.STARTING, State.SERVING, State.STANDBY))  # nobody has told them to go


# How long a child may be in a state; STARTING and DRAINING depend on the configuration.
_SECONDS: dict[State, float] = {
    State.SERVING: float("inf"),
    State.STANDBY: float("inf"),
    State.STOPPING: GRACE_SECONDS,
    State.ABORTED: GRACE_SECONDS,
    State.KILLED: KILL_SECONDS,
    State.GONE: float("inf"),
}


@dataclass(slots=True)
class Pulse:
    """What is known of a worker's life: see `heartbeat`."""

    beat: int = 0  # the last that was seen on the scoreboard
    seen: float = 0.0  # when it was seen to change (monotonic seconds)
    asked: float = 0.0  # when the worker was asked for a sign; 0: it was not
    usage: Usage | None = None  # of the processor, when it was asked


@dataclass(slots=True, eq=False)
class Child:
    """One worker process."""

    pid: int
    pidfd: int | None
    channel: socket.socket
    dump: int  # what it writes tracebacks to when it hangs or crashes: the reading end of a pipe
    slot: int
    generation: int
    started: float  # monotonic seconds
    state: State = State.STARTING
    deadline: float = float("inf")
    failure: str = ""  # why it has to end, as it said itself or as was found out
    reopening: int = 0  # orders to write to new log files that it has not confirmed
    standing: bool = False  # it has confirmed that it accepts nothing more
    stuck: bool = False  # it was sent SIGKILL
    board: int = 0  # its place on the scoreboard
    pulse: Pulse = field(default_factory=Pulse)

    def apply(self, event: Event, now: float, drain: float) -> Action:
        """Move by the table; `drain` is the seconds that a drain may take."""
        state, action = TABLE.get((self.state, event), (self.state, Action.NONE))
        if action is not Action.NONE or state is not self.state:
            self.state = state
            self.deadline = now + _seconds(state, drain)
        return action


def _seconds(state: State, drain: float) -> float:
    return drain + GRACE_SECONDS if state is State.DRAINING else _SECONDS[state]


@dataclass(slots=True)
class Slot:
    """A place for one worker in a generation.  `next_start` is when it may be filled (monotonic seconds)."""

    number: int
    child: Child | None = None
    deaths: int = 0
    kills: int = 0  # in a row, of workers that had not lived for long
    next_start: float = 0.0
    restarts: int = 0
    last_exit: str = ""
    replacing: Child | None = field(default=None)  # the old worker of a slot that is being recycled

    def died(self, now: float, lived: float, jitter: float) -> float:
        """Note a death after `lived` seconds; return the pause in seconds.  `jitter` is in [0, 1)."""
        self.deaths = 1 if lived >= LONG_LIFE else self.deaths + 1
        pause = min(LONGEST_PAUSE, math.ldexp(FIRST_PAUSE, min(self.deaths - 1, 16)))
        if lived >= 1.0 and self.deaths == 1:
            pause = 0.0  # an accident of a worker that was well: its place is filled at once
        pause *= 0.75 + jitter / 2
        self.next_start = now + pause
        return pause

    def killed(self, now: float, lived: float, jitter: float) -> float:
        """The same for a worker that was well and was killed from outside: that is no reason to wait for long."""
        self.kills = 1 if lived >= LONG_LIFE else self.kills + 1
        pause = 0.0 if lived >= 1.0 else FIRST_PAUSE * (0.75 + jitter / 2)
        self.next_start = now + pause
        return pause


def jitter() -> float:
    """A number in [0, 1)."""
    return random.random()
