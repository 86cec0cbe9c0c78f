"""What a spawner keeps of its runs and of the workers that asked for them, and the environment that all runs share."""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from httpd.cgi import meta
from httpd.cgi.checks import Refused
from httpd.cgi.messages import Ended, Message, Receiver, Run, Several, send
from httpd.config import schema

_DEFAULT_PATH = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_NAMES = 1000  # that are remembered
_MOST_ENDS = 200  # of one message
_NEVER = float("inf")


@dataclass(slots=True, eq=False)
class Job:
    """One run, from its request to its end."""

    client: Client
    run: Run
    fds: list[int]
    pid: int = 0
    pidfd: int | None = None
    warm: Any = None  # the interpreter whose child it is
    kill_at: float = _NEVER
    refuse_at: float = _NEVER  # of one that waits without a place in the queue
    stopping: bool = False
    started: float = 0.0  # monotonic seconds
    announced: bool = False  # its worker was told that it runs
    over: bool = False

    def close_fds(self) -> None:
        """Let go of the script's descriptors: it has its own by now, or never will."""
        for fd in self.fds:
            os.close(fd)
        self.fds = []


@dataclass(slots=True, eq=False)
class Client:
    """A worker."""

    receiver: Receiver
    wait_for_room: Callable[[Client], None]  # called when what is to be said does not fit into the socket
    jobs: dict[int, Job] = field(default_factory=dict)
    ends: list[Ended] = field(default_factory=list)  # that it has not been told yet
    unsent: deque[Message] = field(default_factory=deque)

    def tell(self, message: Message) -> None:
        """Send a message, as soon as there is room for it."""
        if self.receiver.sock.fileno() < 0 or (not self.unsent and send(self.receiver.sock, message)):
            return
        self.unsent.append(message)
        if len(self.unsent) == 1:
            self.wait_for_room(self)

    def flush(self) -> bool:
        """Send what has waited; True when that is all."""
        while self.unsent and send(self.receiver.sock, self.unsent[0]):
            self.unsent.popleft()
        return not self.unsent

    def tell_ends(self) -> None:
        """Tell what has ended."""
        while self.ends:
            ends, self.ends = self.ends[:_MOST_ENDS], self.ends[_MOST_ENDS:]
            self.tell(ends[0] if len(ends) == 1 else Several(ends))


class Names:
    """The names of variables that workers have set, those that were judged and found to be good."""

    def __init__(self) -> None:
        self._good: set[bytes] = set()

    def judge(self, environment: Mapping[bytes, bytes], words: Sequence[bytes]) -> None:
        """Raises Refused for what no request has: a worker that was taken over may want LD_PRELOAD."""
        if not environment.keys() <= self._good:
            strange = environment.keys() - self._good
            bad = [name for name in strange if not meta.allowed(name)]
            if bad:
                raise Refused(500, f"a worker would have set variables that are none of a request: {bad[:3]}")
            if len(self._good) < _MOST_NAMES:
                self._good |= strange
        if b"\0" in b"".join((*environment.values(), *words)):
            raise Refused(500, "a worker would have set a variable with NUL in it")


def signal_group(pid: int, number: int) -> None:
    """Send a signal to all of a run, whose process was not collected: its group, and itself, where it has left that."""
    for send_to in (os.killpg, os.kill):
        with contextlib.suppress(ProcessLookupError, PermissionError):  # PermissionError: it runs a setuid program
            send_to(pid, number)


def base_environment(mount: schema.Cgi, environ: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What all runs of a mount have: PATH, what is passed on of `environ`, and what the configuration sets."""
    names = [b"PATH", *(name.encode() for name in mount.pass_env)]
    found = {b"PATH": _DEFAULT_PATH, **{name: environ[name] for name in names if name in environ}}
    configured = {name.encode(): value.encode("utf-8", "surrogateescape") for name, value in mount.env.items()}
    return {**found, **configured}
