"""A start or a reload as a transaction.

    CHECK -> BIND -> CANARY -> ROLL -> done: the new generation is ACTIVE, the old one stands by (`master.probation`)
      |       |        |        |
      +-------+--------+--------+--> failed: what is new goes away, what is old was never touched

Rules:

- "Undo" is always "do nothing to the old generation": it serves, and is kept at full strength, until `done`.
- CHECK runs in a child (`worker.checker`); this process parses no TOML and touches no folder of a site.
- BIND opens everything new before anything is closed.
- One worker goes ahead (the canary).  Only when it has said READY are the others started.
- A start has nothing to fall back to: it goes on with what workers it gets.
- Every step has a deadline; the failure of a step says which step it was and why.
"""

from __future__ import annotations

import enum
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass

from httpd.control.wire import REFUSED, ROLLED_BACK, Outcome
from httpd.logs.errors import ErrorLog
from httpd.master.children import State
from httpd.master.crew import Crew
from httpd.master.generations import Generation, Stage, make_generation
from httpd.master.listeners import BindError, Listener, bind_all, dropped
from httpd.master.probation import dismiss
from httpd.system import children
from httpd.system.poller import IN, Poller
from httpd.worker import checker

_REPORT_LIMIT = 64 * 1024 * 1024  # bytes
_FAILED_STARTS = 3  # of workers behind the canary, before the transaction is given up


class Step(enum.Enum):
    CHECK = "check"
    BIND = "bind"
    CANARY = "canary"
    ROLL = "roll"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True, frozen=True)
class Failure:
    """Why a transaction failed.  `permission` tells that privileges were missing: a start then exits otherwise."""

    step: Step
    reason: str
    permission: bool = False
    in_use: bool = False  # an address is taken

    @property
    def outcome(self) -> Outcome:
        """What httpd-ctl is told: refused before any worker ran, rolled back after."""
        code = ROLLED_BACK if self.step in (Step.CANARY, Step.ROLL) else REFUSED
        return Outcome(code, self.reason, {"step": self.step.value})


class CheckProcess:
    """A child that looks at something for the master, on its loop.  Calls `done` with its verdict, once."""

    def __init__(
        self,
        judge: Callable[[], checker.Verdict],
        poller: Poller,
        handlers: dict[int, Callable[[int], None]],
        done: Callable[[checker.Verdict], None],
        strays: set[int],
        seconds: float = checker.SECONDS,
    ) -> None:
        self._poller = poller
        self._handlers = handlers
        self._done = done
        self._strays = strays
        self._report = bytearray()
        self._pid, self._pipe = checker.start(judge)
        self._pidfd = children.watch(self._pid)
        self.deadline = time.monotonic() + seconds
        os.set_blocking(self._pipe, False)
        handlers[self._pipe] = self._on_report
        poller.register(self._pipe, IN)

    def _on_report(self, mask: int) -> None:
        try:
            data = os.read(self._pipe, 1 << 20)
        except BlockingIOError:
            return
        self._report += data
        if len(self._report) > _REPORT_LIMIT:
            data = b""
            self._report.clear()
        if not data:
            self._end()
            self._done(checker.finish(bytes(self._report)))

    def expire(self) -> None:
        """The check takes too long: a folder on a dead network mount, say."""
        self.cancel()
        self._done(checker.TOO_SLOW)

    def cancel(self) -> None:
        """Forget the check.  Its process is killed; if it hangs in the kernel it is left to init."""
        children.kill(self._pid, self._pidfd, signal.SIGKILL)
        self._end()

    def _end(self) -> None:
        del self._handlers[self._pipe]
        self._poller.unregister(self._pipe)
        os.close(self._pipe)
        # It has closed its end of the pipe or was killed: it is gone now or in a moment, and then SIGCHLD comes.
        if children.reap(self._pid, self._pidfd) is None:
            self._strays.add(self._pid)
        if self._pidfd is not None:
            os.close(self._pidfd)


class Transition:
    """From a good verdict to an active generation.  `ended` is called once, with None or with what failed."""

    def __init__(
        self, crew: Crew, errors: ErrorLog, number: int, old: Generation | None, ended: Callable[[Failure | None], None]
    ) -> None:
        self._crew = crew
        self._errors = errors
        self._number = number
        self._old = old
        self._ended = ended
        self._fresh: list[Listener] = []
        self._failed_starts = 0
        self.step = Step.BIND
        self.generation: Generation | None = None
        self.began = time.monotonic()
        self.marks: list[tuple[str, float]] = []  # (step, seconds it took)
        self._mark = self.began

    def go_on(self, verdict: checker.Verdict, kept: list[Listener]) -> None:
        """CHECK is over and was good: bind, open the logs, and send the canary ahead."""
        assert verdict.config is not None
        try:
            listeners = bind_all(verdict.config.server.listen, verdict.endpoints, kept, self._errors.info)
        except BindError as error:
            self._fail(str(error), permission=error.permission, in_use=error.in_use)
            return
        self._fresh = dropped(listeners, kept)
        try:
            generation = make_generation(self._number, verdict.config, verdict.identity, listeners,
                                         verdict.script_users)  # fmt: skip
            self.generation = generation
            self._crew.launching.prepare(generation)
        except OSError as error:
            what = error.filename or "a new generation can't be set up"
            self._fail(f"{what}: {error.strerror}", permission=isinstance(error, PermissionError))
            return
        self._crew.generations.append(self.generation)
        self._next(Step.CANARY)
        self._crew.fill(self.generation, self.generation.slots[:1])

    def worker_ready(self) -> None:
        """A worker of the new generation serves."""
        generation = self.generation
        assert generation is not None
        if self.step is Step.CANARY:
            self._next(Step.ROLL)
            generation.stage = Stage.ROLL
            self._crew.fill(generation)
        self._look(generation)

    def worker_lost(self, how: str) -> None:
        """A worker of the new generation died, or could not be started."""
        self._failed_starts += 1
        if self.step is Step.CANARY or (self._old is not None and self._failed_starts >= _FAILED_STARTS):
            self._fail(f"new worker: {how}")
        elif self.step is Step.ROLL and self.generation is not None:
            self._look(self.generation)

    def _look(self, generation: Generation) -> None:
        """Whether this is all: every worker serves, or, at a start, was tried at least."""
        missing = [slot for slot in generation.slots if slot.child is None or slot.child.state is not State.SERVING]
        if self.step is Step.ROLL and (not missing or (self._old is None and all(slot.deaths for slot in missing))):
            self._next(Step.DONE)
            generation.stage = Stage.ACTIVE
            self._ended(None)

    def _next(self, step: Step) -> None:
        now = time.monotonic()
        self.marks.append((self.step.value, now - self._mark))
        self._mark = now
        self.step = step

    def abort(self, reason: str) -> None:
        """Give up whatever step it is in."""
        if self.step not in (Step.DONE, Step.FAILED):
            self._fail(reason)

    def _fail(self, reason: str, *, permission: bool = False, in_use: bool = False) -> None:
        failure = Failure(self.step, reason, permission, in_use)
        self.step = Step.FAILED
        generation = self.generation
        if generation is None:
            for listener in self._fresh:
                listener.close()
        else:
            if generation.config.script is not None:  # what it has asked for since, and no other generation has
                others = [other.listeners for other in self._crew.generations if other is not generation]
                self._fresh = dropped(generation.listeners, [listener for found in others for listener in found])
            dismiss(self._crew, generation, self._fresh)
        self._ended(failure)
