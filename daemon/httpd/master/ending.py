"""How the server ends: after the requests, at once, or to start anew in the same process.

    asked -> (stop_delay) -> draining -> over
                 +-- now --> stopping --> over

Rules:

- An end goes before everything: a reload that is under way is given up, what is new goes away.
- Whoever asked is answered when it is over; asking again changes nothing but the pace.
- The master's copies of the listeners go first: then what is queued belongs to the workers, who empty the queues.
"""

from __future__ import annotations

import os
import time

from httpd.control.commands import Reply, nobody
from httpd.control.wire import DONE, REFUSED, Outcome
from httpd.logs.errors import ErrorLog
from httpd.master.crew import Crew
from httpd.master.generations import close_targets, open_targets
from httpd.master.listeners import BindError, Listener, bind_all, dropped
from httpd.master.reloads import Reloads
from httpd.master.waits import Waits
from httpd.system.systemd import Notifier
from httpd.worker import checker

_EXTEND_US = 15_000_000  # microseconds from now on that the service manager is asked for
_EXTEND_AGAIN = 5.0  # seconds
_NEVER = float("inf")


class Ending:
    """The end of one server."""

    def __init__(
        self, crew: Crew, reloads: Reloads, waits: Waits, notifier: Notifier, errors: ErrorLog, run_dir: str
    ) -> None:
        self._crew = crew
        self._reloads = reloads
        self._waits = waits
        self._notifier = notifier
        self._errors = errors
        self._interrupts = 0
        self._restart = False
        self._fresh: list[Listener] = []  # listeners that only the next program will serve
        self._run_dir = self._next_run_dir = run_dir  # now, and behind a restart
        self._drain_at = _NEVER  # when a stop that was delayed begins to drain
        self._extend_at = _NEVER  # when the service manager is asked for more time
        self.stopping = False
        self.over = False
        self.code = 0  # exit code, where a script has chosen one

    @property
    def due(self) -> float:
        """When `tick` has something to do (monotonic seconds)."""
        return min(self._drain_at, self._extend_at)

    @property
    def stays(self) -> bool:
        """Whether the next program in this process will use the same run folder."""
        return self._restart and self._next_run_dir == self._run_dir

    @property
    def handed_on(self) -> list[Listener]:
        """The listeners to go on with, when it is a restart that was asked for."""
        active = self._reloads.active
        return [*active.listeners, *self._fresh] if self._restart and active is not None else []

    def script_ended(self, code: int) -> None:
        """`httpd run`: the script came to its end in a worker, so all of them end, and so does the server."""
        if not self.stopping:
            self._errors.notice("the script has ended: stopping", code=code)
            self.code = min(max(code, 0), 255)
            self.stop(now=False, reply=nobody)

    def interrupt(self, reply: Reply) -> None:
        """INT: the first is a graceful stop, the second stops now."""
        self._interrupts += 1
        self.stop(now=self._interrupts > 1, reply=reply)

    def stop(self, *, now: bool, reply: Reply) -> None:
        """End: after the requests, or at once."""
        if self._restart:
            self._restart = False
            self._close_fresh()
            self._close_listeners()
        self._end(now=now, reply=reply, text="stopped")

    def restart(self, reply: Reply) -> None:
        """Check, bind, stop, and start again in this process; the listening sockets stay open meanwhile."""
        if self.stopping or self._reloads.busy:
            reply(Outcome(REFUSED, "not now: the server starts, reloads or stops"))
            return

        def done(verdict: checker.Verdict) -> None:
            problem = "\n".join(verdict.problems) or self._bind(verdict)
            if problem:
                self._errors.error("restart refused", reason=problem)
                reply(Outcome(REFUSED, problem))
            elif verdict.config is not None:
                self._next_run_dir = verdict.config.server.run_dir
                self._restart = True
                self._notifier.reloading("restarting", time.monotonic_ns() // 1000)
                self._end(now=False, reply=reply, text="restarting")

        self._reloads.run_check(done)

    def _bind(self, verdict: checker.Verdict) -> str:
        """Bind what the next program will need, and try its log files; why that can't be, or ""."""
        active, config = self._reloads.active, verdict.config
        if self.stopping or active is None or config is None:
            return "not now: the server starts, reloads or stops"
        try:
            listeners = bind_all(config.server.listen, verdict.endpoints, active.listeners, self._errors.info)
        except BindError as error:
            return str(error)
        self._fresh = dropped(listeners, active.listeners)
        try:
            targets, errors = open_targets(config)
        except OSError as error:
            self._close_fresh()
            return f"{error.filename}: {error.strerror}"
        close_targets((*targets.values(), errors))
        return ""

    def _close_fresh(self) -> None:
        for listener in self._fresh:
            listener.close()
        self._fresh = []

    def _end(self, *, now: bool, reply: Reply, text: str) -> None:
        def ended() -> Outcome | None:
            return Outcome(DONE, text, {"pid": os.getpid(), "run_dir": self._next_run_dir}) if self.over else None

        self._waits.add(ended, reply, _NEVER)
        if not self.stopping:
            self.stopping = True
            self._errors.notice(text.replace("stopped", "stopping"), now=now)
            if not self._restart:
                self._notifier.stopping(text)
            self._reloads.give_up()
            active = self._reloads.active
            delay = active.config.timeouts.stop_delay if active is not None else 0.0
            self._drain_at = time.monotonic() + delay
            if self._notifier.connected:
                self._extend_at = time.monotonic()
        elif now:
            self._errors.notice("stopping at once: requests are cut off")
        else:
            self._errors.info("stopping already")
        if now:
            self.give_up()

    def give_up(self) -> None:
        """End at once."""
        self.stopping = True
        self._drain_at = _NEVER
        self._close_listeners()
        for generation in list(self._crew.generations):
            self._crew.stop(generation)

    def tick(self, now: float) -> None:
        """Begin to drain when the delay is over."""
        if now >= self._drain_at:
            self._drain_at = _NEVER
            self._drain_all()
        if now >= self._extend_at:
            self._extend_at = now + _EXTEND_AGAIN
            self._notifier.extend_timeout(_EXTEND_US)

    def look(self) -> None:
        """Notice that it is over.  To be called behind whatever may have ended the last generation."""
        crew = self._crew
        if self.stopping and self._drain_at == _NEVER and not crew.generations and crew.launching.end(crew.strays):
            self.over = True

    def _close_listeners(self) -> None:
        if self._reloads.active is not None and not self._restart:
            for listener in self._reloads.active.listeners:
                listener.close()

    def _drain_all(self) -> None:
        self._close_listeners()
        active = self._reloads.active
        names = [] if active is None or self._restart else [listener.address.text for listener in active.listeners]
        for generation in list(self._crew.generations):
            self._crew.drain(generation, names if generation is active else ())
