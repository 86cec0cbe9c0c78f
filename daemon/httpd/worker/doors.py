"""Where a worker has its scripts run: its way to the launcher, and by that to the spawner of each mount.

    run --> door of its mount? --> Run, with the script's three descriptors --> what the spawner says of it
              | no
              +--> Ask the launcher, wait --> Door

Rules:

- A launcher that is gone or silent costs requests for scripts a moment of waiting and then 503, and others nothing.
- A spawner that leaves, or is gone, is asked for no more; what it runs it sees to its end.
- What these say is believed: they are the master's own.  What they are told they check.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
from collections import deque
from collections.abc import Callable
from typing import Any

from httpd.cgi.messages import (
    Ask,
    Declined,
    Door,
    Ended,
    Leaving,
    Message,
    Queued,
    Receiver,
    Run,
    Several,
    Shut,
    Started,
    Stop,
    Suspect,
    TooLong,
    ToWorker,
    encode,
    send,
    send_encoded,
)
from httpd.server.exchange import Exchange
from httpd.system.pairs import EOF, BadMessage
from httpd.system.poller import IN, OUT
from httpd.worker.context import Context
from httpd.worker.run_faces import AHEAD, Held, State
from httpd.worker.runs import ScriptRun
from httpd.worker.script_output import ScriptOutput

_PATIENCE = 2.0  # seconds that a run waits for a door, or for a first word behind it
_TICK = 0.1  # seconds between two looks at what runs
_NEVER = float("inf")


class Spawning:
    """A door: the socket to a spawner, and the runs that were given to it."""

    def __init__(self, mount: str, sock: socket.socket) -> None:
        self.mount = mount
        self.sock = sock
        self.receiver = Receiver(sock, ToWorker)
        self.runs: dict[int, ScriptRun] = {}
        self.unsent: list[tuple[bytes, tuple[int, ...]]] = []
        self.leaving = False


class Scripts:
    """All of a worker's runs.  `tell_master(message)`: what the master should know."""

    def __init__(self, context: Context, launcher: socket.socket | None, tell_master: Callable[[str], None]) -> None:
        self.context = context
        self.null = os.open(os.devnull, os.O_RDONLY)
        self.active: set[ScriptRun] = set()
        self.held: list[Held] = []  # what waits for a moment: answers, for their end or for more
        self._fresh: deque[ScriptOutput] = deque()  # that are not read yet
        self._tell_master = tell_master
        self._doors: dict[str, Spawning] = {}
        self._waiting: dict[str, list[ScriptRun]] = {}  # for a door, by mount
        self._numbers = itertools.count(1)
        self._launcher: Receiver | None = None
        self._next_look = _NEVER
        if launcher is not None:
            self.adopt(launcher)

    def postpone(self, seconds: float) -> None:
        """The loop stood still for so long."""
        for run in self.active:
            run.postpone(seconds)

    def adopt(self, sock: socket.socket) -> None:
        """A launcher, in the place of the one before."""
        self._lose_launcher()
        self._launcher = Receiver(sock, ToWorker)
        self.context.watch(sock.fileno(), IN, 0, self._on_launcher)
        for mount in self._waiting:
            self._ask(mount)

    def new_id(self) -> str:
        """A name for a request, for the error log."""
        return f"{os.getpid():x}-{next(self._numbers):x}"

    # Runs

    def begin(self, run: ScriptRun) -> None:
        """Have a script run."""
        self.active.add(run)
        self._fresh.append(run.output)
        if self._next_look == _NEVER:
            self._next_look = self.context.now + _TICK
        door = self._doors.get(run.mount.key)
        if door is None:
            self._wait_for_door(run)
        else:
            self._send_run(door, run)

    def _wait_for_door(self, run: ScriptRun) -> None:
        waiting = self._waiting.setdefault(run.mount.key, [])
        waiting.append(run)
        run.deadline = self.context.now + _PATIENCE
        if len(waiting) == 1:
            self._ask(run.mount.key)

    def _ask(self, mount: str) -> None:
        if self._launcher is not None:
            send(self._launcher.sock, Ask(mount))

    def _send_run(self, door: Spawning, run: ScriptRun) -> None:
        run.number, run.door, run.state = next(self._numbers), door, State.ASKED
        run.asked_at = self.context.now
        run.deadline = run.word_by = run.asked_at + _PATIENCE
        door.runs[run.number] = run
        try:
            self._send(door, Run(run.number, run.found.relative, run.words, run.environment), run.child_fds)
        except (TooLong, OSError) as error:
            run.door, run.state = None, State.WAITING
            del door.runs[run.number]
            if isinstance(error, TooLong):
                run.fail(431, f"what it is to be told of the request is too much: {error}")
            else:
                run.fail(503, f"it can't be handed over: {error.strerror}")
        run.close_child_fds()

    def _send(self, door: Spawning, message: Message, fds: tuple[int, ...] = ()) -> None:
        data = encode(message)
        if not door.unsent and send_encoded(door.sock, data, fds):
            return
        with contextlib.ExitStack() as made:
            kept = []
            for fd in fds:
                kept.append(os.dup(fd))
                made.callback(os.close, kept[-1])
            made.pop_all()
        door.unsent.append((data, tuple(kept)))
        if len(door.unsent) == 1:
            self.context.watch(door.sock.fileno(), IN | OUT, IN, lambda mask: self._on_door(door, mask))

    def _flush(self, door: Spawning) -> None:
        while door.unsent and send_encoded(door.sock, *door.unsent[0]):
            _, fds = door.unsent.pop(0)
            for fd in fds:
                os.close(fd)
        if not door.unsent:
            self.context.watch(door.sock.fileno(), IN, IN | OUT, lambda mask: self._on_door(door, mask))

    def stop(self, run: ScriptRun) -> None:
        """End a run, or have it forgotten."""
        if run.door is not None:
            self._send(run.door, Stop(run.number))
        elif run in self._waiting.get(run.mount.key, ()):
            self._waiting[run.mount.key].remove(run)

    def over(self, run: ScriptRun) -> None:
        """All is known of a run."""
        self.active.discard(run)
        if run.door is not None:
            run.door.runs.pop(run.number, None)
            if run.door.leaving and not run.door.runs:
                self._close_door(run.door)

    # What launcher and spawners say

    def _on_launcher(self, mask: int) -> None:
        assert self._launcher is not None
        try:
            received = self._launcher.next()
        except BadMessage:
            return
        if received is EOF:
            self._lose_launcher()
            self._tell_master("gone")
        elif received is not None:
            message, fds = received
            if isinstance(message, Door) and len(fds) == 1:
                self._opened(message.mount, socket.socket(fileno=fds[0]))
            elif isinstance(message, Shut):
                self.context.errors.limited(f"shut {message.mount}", 10).error(
                    "scripts can't be run", mount=message.mount, reason=message.reason
                )
                for run in self._waiting.pop(message.mount, []):
                    run.fail(503, f"there is no spawner: {message.reason}")

    def _lose_launcher(self) -> None:
        if self._launcher is not None:
            self.context.forget(self._launcher.sock.fileno())
            self._launcher.sock.close()
            self._launcher = None

    def _opened(self, mount: str, sock: socket.socket) -> None:
        old = self._doors.get(mount)
        if old is not None:  # asked twice
            self._leave(old)
        door = self._doors[mount] = Spawning(mount, sock)
        self.context.watch(sock.fileno(), IN, 0, lambda mask: self._on_door(door, mask))
        for run in self._waiting.pop(mount, []):
            self._send_run(door, run)

    def _leave(self, door: Spawning) -> None:
        door.leaving = True
        if self._doors.get(door.mount) is door:
            del self._doors[door.mount]
        if not door.runs:
            self._close_door(door)

    def _close_door(self, door: Spawning) -> None:
        if door.sock.fileno() >= 0:
            self.context.forget(door.sock.fileno())
            door.sock.close()
            for _, fds in door.unsent:
                for fd in fds:
                    os.close(fd)

    def _on_door(self, door: Spawning, mask: int) -> None:
        if mask & OUT:
            self._flush(door)
        if not mask & ~OUT:
            return
        try:
            received = door.receiver.next()
        except BadMessage as error:
            self.context.errors.limited("spawner", 10).error("bad message of a spawner", reason=str(error))
            return
        if received is EOF:
            runs = list(door.runs.values())
            door.runs.clear()
            self._leave(door)
            for run in runs:
                run.orphaned()
        elif received is not None:
            message, _ = received
            if isinstance(message, Several):
                for end in message.ends:
                    self._end(door, end)
            else:
                self._heed(door, message)

    def _end(self, door: Spawning, end: Ended) -> None:
        run = door.runs.get(end.number)
        if run is not None:
            run.ended(end.pid, end.how)

    def _heed(self, door: Spawning, message: Message) -> None:
        run = door.runs.get(getattr(message, "number", 0))
        match message:
            case Leaving():
                self._leave(door)
            case Declined(alarm=True):
                self.context.errors.limited("alarm", 1).error("a spawner refuses", mount=door.mount,
                                                              reason=message.reason)  # fmt: skip
            case Started() if run is not None:
                run.started(message.pid)
            case Queued() if run is not None:
                run.queued(ready=message.ready)
            case Declined() if run is not None:
                run.declined(message.status, message.reason)
            case Ended():
                self._end(door, message)

    def silent(self, run: ScriptRun) -> None:
        """A spawner, or the launcher, has not said a word about a run."""
        door, current = run.door, self._doors.get(run.mount.key)
        if door is None:
            self._tell_master("silent")
        elif current is not None and door is current:
            if self._launcher is not None:
                send(self._launcher.sock, Suspect(current.mount))
            if run.state in AHEAD:  # nothing is run there; and another launcher may not know of it
                self._leave(current)
                self._ask(current.mount)

    # For the exchanges

    def push(self, exchange: Exchange) -> None:
        """Output is sent when it is taken; nobody has to be told."""

    def take_over(self, exchange: Exchange) -> tuple[socket.socket, bytes]:
        raise OSError(errno.EOPNOTSUPP, "a script never gets the client's socket")

    def ask_socket(self, exchange: Exchange, name: str, arguments: tuple[Any, ...]) -> Any:
        raise OSError(errno.EOPNOTSUPP, "a script never gets the client's socket")

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        """Runs say by themselves what went wrong."""

    # Time

    def tend(self, now: float) -> float:
        """Seconds until `look` has something to do."""
        due = self._next_look
        if self.held:
            due = min(due, *[one.hold_until for one in self.held])
        fresh = self._fresh
        while fresh and not fresh[0].waits:
            fresh.popleft()
        if fresh:
            due = min(due, fresh[0].read_at)
        return _NEVER if due == _NEVER else max(0.0, due - now)

    def look(self, now: float) -> bool:
        """Deadlines, and output that has waited for long enough.  Whether a run is over by that."""
        before = len(self.active)
        while self._fresh and now >= self._fresh[0].read_at:
            self._fresh.popleft().attend()
        held, self.held = self.held, []
        for one in held:
            if one.holds:
                if now >= one.hold_until:
                    one.release()
                else:
                    self.held.append(one)
        if now >= self._next_look:
            for run in list(self.active):
                try:
                    run.look(now)
                except Exception as error:  # the others are not to suffer by it
                    self.context.errors.error("defect in a script's run", script=run.found.file, exception=error)
                    run.fail(500, "a defect of the server")
                    self.active.discard(run)
            self._next_look = now + _TICK if self.active else _NEVER
        return len(self.active) < before

    def close_in_child(self) -> None:
        """This process was forked off the worker: the doors are not its own."""
        for door in self._doors.values():
            door.sock.close()
        if self._launcher is not None:
            self._launcher.sock.close()
