"""Which configuration is in force, and the way to the next one: the start, reloads, the test on request.

Rules:

- One thing at a time.  Reloads that are asked for while one runs collapse into a single next one, and everybody who
  asked gets an answer.
- Whatever becomes of a reload, the service manager is told that it is over, and `last` says how it ended.
- For some seconds behind a reload it can still be undone (`master.probation`).  A further reload, or the end of the
  server, does not wait for that.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence

from httpd.config import schema
from httpd.control.commands import Reply
from httpd.control.wire import DONE, REFUSED, ROLLED_BACK, Outcome
from httpd.logs.errors import ErrorLog
from httpd.master import report
from httpd.master.crew import Crew
from httpd.master.generations import Generation
from httpd.master.listeners import Listener
from httpd.master.probation import Probation
from httpd.master.transition import CheckProcess, Failure, Step, Transition
from httpd.system.poller import Poller
from httpd.system.systemd import Notifier
from httpd.worker import checker

_QUICK_SECONDS = 2.0  # a generation without long requests is gone by then
_HURRY_SECONDS = 2.0  # what the oldest of too many generations gets
_NEVER = float("inf")
_BUSY = Outcome(REFUSED, "not now: the server starts, reloads or stops")


class Reloads:
    """Owns the active generation and the transition to the next.

    `activated` is called with every generation that comes into force; `errors` may change with it.
    """

    def __init__(
        self,
        crew: Crew,
        poller: Poller,
        handlers: dict[int, Callable[[int], None]],
        source: checker.Source,
        notifier: Notifier,
        errors: ErrorLog,
        activated: Callable[[Generation], None],
    ) -> None:
        self._crew = crew
        self._poller = poller
        self._handlers = handlers
        self._source = source
        self._notifier = notifier
        self._activated = activated
        self.errors = errors
        self.active: Generation | None = None
        self.last: dict[str, object] = {}
        self.closed = False  # the server ends: nothing new is begun
        self._numbers = 0
        self._transition: Transition | None = None
        self._check: CheckProcess | None = None
        self._probation: Probation | None = None
        self._count_at = _NEVER  # when to count old generations (monotonic seconds)
        self._unsettled: list[tuple[Reply, Outcome]] = []  # who wants to know how the probation ends
        self._replies: list[Reply] = []
        self._again: list[Reply] = []

    @property
    def busy(self) -> bool:
        """A start, a reload or a test is under way."""
        return self._transition is not None or self._check is not None

    @property
    def deadline(self) -> float:
        """When `expire` has something to do (monotonic seconds)."""
        check = _NEVER if self._check is None else self._check.deadline
        # While the next reload runs it is not settled: what it gave up may be wanted again.
        probation = _NEVER if self._probation is None or self._transition else self._probation.deadline
        return min(check, probation, self._count_at)

    def expire(self, now: float) -> None:
        """Give up a check that takes too long; end a probation that was passed."""
        if self._check is not None and now >= self._check.deadline:
            self._check.expire()
        if self._probation is not None and self._transition is None and now >= self._probation.deadline:
            self._settle()
        if now >= self._count_at:
            self._count_old()

    def forgive(self, seconds: float) -> None:
        """The master itself did not run for so long."""
        if self._check is not None:
            self._check.deadline += seconds
        if self._probation is not None:
            self._probation.deadline += seconds

    def worker_ready(self, generation: Generation) -> None:
        """A worker serves."""
        transition = self.transition_of(generation)
        if transition is not None:
            transition.worker_ready()

    def worker_lost(self, generation: Generation, how: str, *, crashed: bool) -> None:
        """A worker ended that nobody had told to, or could not be started."""
        transition, probation = self.transition_of(generation), self._probation
        if transition is not None:
            transition.worker_lost(how)
        elif probation is not None and probation.new is generation and probation.failed(crashed=crashed):
            self._roll_back(probation, how)

    def transition_of(self, generation: Generation) -> Transition | None:
        """The transition that `generation` is made by, while it runs."""
        transition = self._transition
        return transition if transition is not None and transition.generation is generation else None

    def start(self, verdict: checker.Verdict, kept: list[Listener], ended: Callable[[Failure | None], None]) -> None:
        """The first generation, from a verdict that is already there."""

        def over(_: Transition, failure: Failure | None) -> None:
            ended(failure)
            if failure is None:
                self._once_more()

        self._begin(verdict, kept, over)

    def _begin(
        self, verdict: checker.Verdict, kept: list[Listener], ended: Callable[[Transition, Failure | None], None]
    ) -> None:
        self._numbers += 1

        def over(failure: Failure | None) -> None:
            self._transition = None
            if failure is None:
                assert transition.generation is not None
                self._settle(transition.generation.listeners)
                old, self.active = self.active, transition.generation
                self._activated(self.active)
                self._put_on_probation(old, self.active)
            ended(transition, failure)

        transition = Transition(self._crew, self.errors, self._numbers, self.active, over)
        self._transition = transition
        transition.go_on(verdict, kept)

    # Behind a reload

    def _put_on_probation(self, old: Generation | None, new: Generation) -> None:
        if old is None:
            return
        seconds = new.config.timeouts.probation
        self._probation = Probation(self._crew, old, new, time.monotonic() + seconds)
        if seconds:
            self._probation.begin()
        else:
            self._settle()

    def _settle(self, kept: Sequence[Listener] = ()) -> None:
        """What the last reload did stays; `kept` are the listeners of the generation behind it, if there is one."""
        probation, self._probation = self._probation, None
        if probation is None:
            return
        probation.settle(kept)
        self._tell_unsettled(None)
        self._count_at = min(self._count_at, time.monotonic() + _QUICK_SECONDS)

    def _count_old(self) -> None:
        """Have old generations end that are too many.  Those that come and go in a storm of reloads do not count."""
        until = time.monotonic() - _QUICK_SECONDS
        draining = [generation.drains_since for generation in self._crew.generations]
        self._count_at = min((since for since in draining if since > until), default=_NEVER) + _QUICK_SECONDS
        old = [generation for generation in self._crew.generations if generation.drains_since <= until]
        assert self.active is not None
        for oldest in old[: -self.active.config.limits.generations]:
            if not oldest.hurried:
                oldest.hurried = True
                self.errors.notice("too many old generations: the oldest has to end", generation=oldest.number,
                                   seconds=_HURRY_SECONDS)  # fmt: skip
                self._crew.hurry(oldest, _HURRY_SECONDS)

    def _roll_back(self, probation: Probation, how: str) -> None:
        self._probation = None
        if self._transition is not None:
            self._transition.abort("the generation before it was rolled back meanwhile")
        text = f"rolled back to generation {probation.old.number}: a new worker was lost: {how}"
        self.errors.error("rolled back", generation=probation.old.number, failed=probation.new.number, reason=how)
        self.active = probation.old
        probation.roll_back()
        self._activated(self.active)
        outcome = Outcome(ROLLED_BACK, text, {"step": "probation"})
        self._note(outcome, 0.0)
        self._notifier.ready(report.status_line(self.active, self.last))
        self._tell_unsettled(outcome)

    def _tell_unsettled(self, outcome: Outcome | None) -> None:
        unsettled, self._unsettled = self._unsettled, []
        for reply, earlier in unsettled:
            reply(outcome or earlier)

    # The test, and the reload

    def run_check(self, done: Callable[[checker.Verdict], None], *, imports: bool = False) -> None:
        """Check the configuration in a child; `done` gets the verdict.  `imports`: and load the handlers."""

        def finished(verdict: checker.Verdict) -> None:
            self._check = None
            done(verdict)
            if not self.busy and not self._replies:
                self._once_more()

        try:
            judge = functools.partial(checker.check, self._source, imports=imports)
            self._check = CheckProcess(judge, self._poller, self._handlers, finished, self._crew.strays)
        except OSError as error:
            done(checker.Verdict(problems=[f"cannot start the configuration check: {error.strerror}"]))

    def check(self, reply: Reply) -> None:
        """The test on request."""
        if self.busy or self.closed:
            reply(_BUSY)
            return

        def done(verdict: checker.Verdict) -> None:
            problems = list(verdict.problems)
            text = "\n".join(problems) or "the configuration is good"
            reply(Outcome(REFUSED if problems else DONE, text, {"problems": problems}))

        self.run_check(done, imports=True)

    def reload_for_good(self, reply: Reply) -> None:
        """The same; the reply waits until it can't be rolled back any more."""

        def wait(outcome: Outcome) -> None:
            if outcome.code == DONE and self._probation is not None:
                self._unsettled.append((reply, outcome))
            else:
                reply(outcome)

        self.reload(wait)

    def reload(self, reply: Reply) -> None:
        """CHECK -> BIND -> CANARY -> ROLL, or nothing."""
        if self.closed:
            reply(_BUSY)
        elif self.busy or self.active is None:
            self._again.append(reply)
        else:
            self._replies = [reply]
            self._notifier.reloading("reloading", time.monotonic_ns() // 1000)
            self.errors.info("reloading")
            began = time.monotonic()
            self.run_check(lambda verdict: self._on_verdict(verdict, began))

    def _on_verdict(self, verdict: checker.Verdict, began: float) -> None:
        before = self.active
        assert before is not None
        seconds = time.monotonic() - began
        problems = list(verdict.problems)
        if verdict.config is not None:
            problems += _fixed(before.config.server, verdict.config.server)
        if problems:
            self._refused(Failure(Step.CHECK, "\n".join(problems)), seconds)
            return

        def ended(transition: Transition, failure: Failure | None) -> None:
            if failure is None:
                marks = [("check", seconds), *transition.marks]
                self._succeeded(before, marks, time.monotonic() - began)
            else:
                self._refused(failure, time.monotonic() - began)

        open_still = [] if self._probation is None else self._probation.given_up
        self._begin(verdict, [*before.listeners, *open_still], ended)

    def _succeeded(self, before: Generation, marks: list[tuple[str, float]], seconds: float) -> None:
        changes = report.changes(before, self.active)
        text = report.reload_text(self.active, changes, seconds, marks)
        number = 0 if self.active is None else self.active.number
        self.errors.notice("reloaded", generation=number, changes="; ".join(changes) or "none",
                           seconds=f"{seconds:.3f}")  # fmt: skip
        steps = {step: round(took, 4) for step, took in marks}
        self._ended(Outcome(DONE, text, {"generation": number, "changes": changes, "steps": steps}), seconds)

    def _refused(self, failure: Failure, seconds: float) -> None:
        self.errors.error("reload refused: the old configuration stays", step=failure.step.value, reason=failure.reason)
        self._ended(failure.outcome, seconds)

    def _ended(self, outcome: Outcome, seconds: float) -> None:
        self._note(outcome, seconds)
        if not self.closed:
            self._notifier.ready(report.status_line(self.active, self.last))
        replies, self._replies = self._replies, []
        _reply_all(replies, outcome)
        self._once_more()

    def _once_more(self) -> None:
        """The one reload for all who asked for one meanwhile."""
        again, self._again = self._again, []
        if again:
            self.reload(functools.partial(_reply_all, again))

    def _note(self, outcome: Outcome, seconds: float) -> None:
        self.last = {
            "ok": outcome.code == DONE, "code": outcome.code, "text": outcome.text, "at": time.time(),
            "seconds": round(seconds, 3),
        }  # fmt: skip

    def give_up(self) -> None:
        """The server ends: whatever is under way is cancelled, nothing new begins."""
        self.closed = True
        self._settle()
        if self._check is not None:
            self._check.cancel()
            self._check = None
            _reply_all(self._replies, Outcome(REFUSED, "stopped meanwhile"))
            self._replies = []
        if self._transition is not None:
            self._transition.abort("stopped meanwhile")
        _reply_all(self._again, Outcome(REFUSED, "stopped meanwhile"))
        self._again = []


def _fixed(old: schema.Server, new: schema.Server) -> list[str]:
    """What only a restart can change: where httpd-ctl finds the server, and who may use it."""
    return [
        f"server.{key} can't change in a reload: use httpd-ctl --run-dir {old.run_dir} restart"
        for key in ("run_dir", "control_group") if getattr(old, key) != getattr(new, key)
    ]  # fmt: skip


def _reply_all(replies: list[Reply], outcome: Outcome) -> None:
    for reply in replies:
        reply(outcome)
