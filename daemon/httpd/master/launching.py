"""The launcher of scripts, as the master sees it: started when a configuration first has scripts, told which, watched,
replaced, and ended last.

Rules:

- The launcher is told of a generation's scripts before that generation has a worker, and by nobody else.
- One that ends, or does not answer when a worker has found it silent, is replaced: the new one gets the tables of all
  generations, every worker a way to it.  Scripts that run are seen to their end by their spawners.
- The server ends when the launcher has, and so not before the last script.  What scripts have left behind is the
  launcher's to end; where one was killed that has become a child of the master (a subreaper), which ends it at last.
- What it says is text for the log.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import time
from collections.abc import Callable, Collection, Iterable

import msgspec

from httpd.cgi.launcher import launch
from httpd.cgi.messages import Admit, Drop, Message, Mount, Note, Ping, Pong, Receiver, TooLong, send
from httpd.config import schema
from httpd.logs.errors import ErrorLog
from httpd.master.children import Child
from httpd.master.generations import Generation
from httpd.system import children, pairs, signals
from httpd.system.pairs import EOF, BadMessage
from httpd.system.poller import IN, Poller
from httpd.system.reaping import become_subreaper, child_pids, end_children

_PONG_SECONDS = 1.0  # that it has to show that it lives
_END_SECONDS = 8.0  # ... to end all scripts, when the server ends
_LOST_SECONDS = 3.5  # that spawners of a lost launcher have for the same
_PAUSES = (0.0, 0.5, 1.0, 2.0, 5.0)  # seconds before it is started anew, by how often it has died in short order
_SHORT = 30.0  # seconds
_NEVER = float("inf")


class Launching:
    """One per master; without scripts it does nothing."""

    def __init__(self, poller: Poller, handlers: dict[int, Callable[[int], None]], errors: ErrorLog,
                 close_in_child: Callable[[], None]) -> None:  # fmt: skip
        """`close_in_child` is called in the launcher, right behind the fork."""
        self._poller = poller
        self._handlers = handlers
        self._errors = errors
        self._close_in_child = close_in_child
        self._known: dict[int, Generation] = {}
        self._pid = 0
        self._pidfd: int | None = None
        self._receiver: Receiver | None = None
        self._started = 0.0
        self._deaths = self._replaced = 0
        self._start_at = _NEVER
        self._answer_by = _NEVER
        self._end_by = _NEVER
        self._ending = False
        self._lost = False  # a launcher, with what it was to end
        self._before = set(child_pids())  # of whoever was this process before

    # Generations and workers

    def prepare(self, generation: Generation) -> None:
        """Tell of a new generation's scripts, if it has any.  Raises OSError when there is no launcher to be had."""
        if not any(scripts_of(generation.config)):
            return
        self._known[generation.number] = generation
        if self._receiver is None:
            self._start()
        else:
            self._describe(generation)

    def _describe(self, generation: Generation) -> None:
        for mount in scripts_of(generation.config):
            of_interest = schema.Settings(symlinks=mount.settings.symlinks, dotfiles=mount.settings.dotfiles)
            told = msgspec.structs.replace(mount, settings=of_interest)  # a new header makes no new spawners
            try:
                self._tell(Mount(generation.number, told, generation.script_users.get(mount.key)))
            except TooLong as error:
                raise OSError(errno.E2BIG, f"what its spawner is to be told is too long: {error}", mount.key) from None

    def drop(self, generation: Generation) -> None:
        """A generation is gone."""
        if self._known.pop(generation.number, None) is not None:
            self._tell(Drop(generation.number))

    def admit(self, generation: Generation, slot: int) -> socket.socket | None:
        """A worker's way to the launcher; None for a generation without scripts.  Raises OSError."""
        if generation.number not in self._known:
            return None
        ours, theirs = pairs.control_pair()
        with ours:
            self._tell(Admit(generation.number, slot), [ours.fileno()])
        return theirs

    def _tell(self, message: Message, fds: Iterable[int] = ()) -> None:
        if self._receiver is not None and not send(self._receiver.sock, message, list(fds)):
            self._errors.limited("launcher", 10).error("the launcher does not listen")
            self.suspect()

    # The process

    def _start(self) -> None:
        become_subreaper()
        ours, theirs = pairs.control_pair()
        try:
            with signals.blocked_signals():
                pid = os.fork()
                if pid == 0:
                    self._close_in_child()
                    launch(theirs, dict(os.environb))
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # many mounts are told at once
        self._pid, self._pidfd, self._receiver = pid, children.watch(pid), Receiver(ours, Note | Pong)
        self._started = time.monotonic()
        self._start_at = self._answer_by = _NEVER
        self._listen(ours.fileno(), self._on_message)
        if self._pidfd is not None:
            self._listen(self._pidfd, lambda mask: self.reap())
        for generation in self._known.values():
            self._describe(generation)

    def _listen(self, fd: int, handler: Callable[[int], None]) -> None:
        self._handlers[fd] = handler
        self._poller.register(fd, IN)

    def _forget(self, fd: int) -> None:
        if self._handlers.pop(fd, None) is not None:
            self._poller.unregister(fd)

    def _on_message(self, mask: int) -> None:
        assert self._receiver is not None
        try:
            received = self._receiver.next()
        except BadMessage as error:
            self._errors.limited("launcher said", 10).error("bad message of the launcher", reason=str(error))
            return
        if received is None:
            return
        if received is EOF:
            self._forget(self._receiver.sock.fileno())
            return
        message, fds = received
        for fd in fds:
            os.close(fd)
        if isinstance(message, Note):
            log = self._errors.limited(f"launcher {message.level}", 1) if message.level == "error" else self._errors
            getattr(log, message.level)(message.text)
        elif isinstance(message, Pong):
            self._answer_by = _NEVER

    @property
    def pids(self) -> set[int]:
        """The process, if there is one."""
        return {self._pid} if self._pid else set()

    @property
    def figures(self) -> dict[str, object] | None:
        """For `status`; None where there are no scripts."""
        if not self._known:
            return None
        uptime = time.monotonic() - self._started if self._pid else 0.0
        return {"pid": self._pid, "uptime": round(uptime, 3), "replaced": self._replaced}

    def reap(self) -> None:
        """See whether it has ended, and have another started."""
        status = children.reap(self._pid, self._pidfd) if self._pid else None
        if status is None:
            return
        self._pid = 0
        if self._pidfd is not None:
            self._forget(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None
        self._close()
        self._answer_by = _NEVER
        if self._ending:
            self._lost = self._lost or status.code != 0
            self._end_by = _NEVER
            return
        self._lost = True
        now = time.monotonic()
        self._deaths = self._deaths + 1 if now - self._started < _SHORT else 0
        pause = _PAUSES[min(self._deaths, len(_PAUSES) - 1)]
        self._replaced += 1
        self._errors.error("the launcher of scripts has ended", reason=status.text, again_in=f"{pause:.1f}s")
        if self._known:
            self._start_at = now + pause

    def _close(self) -> None:
        if self._receiver is not None:
            self._forget(self._receiver.sock.fileno())
            self._receiver.sock.close()
            self._receiver = None

    def suspect(self) -> None:
        """Somebody has found it silent: it has to answer now, or is replaced."""
        if self._receiver is not None and self._answer_by == _NEVER:
            self._answer_by = time.monotonic() + _PONG_SECONDS
            send(self._receiver.sock, Ping())

    # Time

    @property
    def deadline(self) -> float:
        """When `tick` has something to do (monotonic seconds)."""
        return min(self._start_at, self._answer_by, self._end_by)

    def tick(self, now: float, generations: Iterable[Generation]) -> None:
        """What is due."""
        if now >= self._answer_by or (now >= self._end_by and self._pid):
            if self._pid:
                what = "end" if self._ending else "answer"
                self._errors.error(f"the launcher of scripts does not {what}: killed")
                children.kill(self._pid, self._pidfd, signal.SIGKILL)
            self._answer_by = self._end_by = _NEVER
        if now >= self._start_at:
            try:
                self._start()
            except OSError as error:
                self._start_at = now + _PAUSES[-1]
                self._errors.error("the launcher of scripts can't be started", reason=error.strerror)
                return
            for generation in generations:
                for child in generation.children:
                    self._introduce(generation, child)

    def _introduce(self, generation: Generation, child: Child) -> None:
        theirs = self.admit(generation, child.slot)
        if theirs is not None:
            with theirs:
                pairs.send(child.channel, {"do": "launcher"}, [theirs.fileno()])

    def end(self, others: Collection[int]) -> bool:
        """The server ends and the workers have: end the scripts.  True when that is done.

        `others` are children of the master that are neither workers nor scripts'.
        """
        if not self._ending:
            self._ending = True
            self._start_at = _NEVER
            self._close()
            if self._pid:
                self._end_by = time.monotonic() + _END_SECONDS
        if self._pid:
            return False
        if self._lost and set(child_pids()) - self._before - set(others):
            if self._end_by == _NEVER:
                self._end_by = time.monotonic() + _LOST_SECONDS
            if time.monotonic() < self._end_by:
                return False
            end_children(self._before | set(others), seconds=0.5)
        self._end_by = _NEVER
        return True


def scripts_of(config: schema.Config) -> list[schema.Cgi]:
    """The mounts of scripts of a configuration."""
    return [mount for vhost in config.vhosts for mount in vhost.mounts if isinstance(mount, schema.Cgi)]
