"""The master: one loop over signals, children, the control socket, and whatever transition is under way.

Rules:

- Single-threaded, and nothing in the loop can block: no DNS, no TOML, no site folder, no write to a log that is full,
  no client that does not read.
- It sleeps without a time-out when nothing is due.
- One transition at a time.  Reloads that are asked for meanwhile collapse into one; a stop goes before everything.
- Once it serves it never ends because workers crash.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from httpd.control.commands import SIGNALS, Reply, nobody, perform
from httpd.control.endpoint import Endpoint
from httpd.control.wire import DONE, REFUSED, Outcome
from httpd.logs.errors import ErrorLog
from httpd.logs.stderr import NonBlockingWriter
from httpd.master import report
from httpd.master.crew import Crew
from httpd.master.ending import Ending
from httpd.master.generations import Generation, Stage, handed_over, log_failure
from httpd.master.launching import Launching
from httpd.master.listeners import Listener
from httpd.master.reloads import Reloads
from httpd.master.reopening import Reopening
from httpd.master.resizing import Resizing
from httpd.master.spawning import Spawner
from httpd.master.transition import Failure
from httpd.master.waits import Waits
from httpd.system import signals
from httpd.system.detach import RunDir, RunDirError
from httpd.system.poller import IN, Poller, make_poller
from httpd.system.systemd import Notifier
from httpd.worker import checker

EXIT_OK, EXIT_UNAVAILABLE, EXIT_DEFECT, EXIT_NO_PERMISSION = 0, 69, 70, 77
_FLUSH_AGAIN = 0.2  # seconds until a full error log is tried again
_TELL_AGAIN = 2.0  # seconds until it is tried again to say that lines were lost
_LONGEST_SLEEP = 5.0  # seconds while anything is due: so it is known how long the loop stood still, give or take that
_STALL = 1.0  # seconds; who is late by more did not run
_LOOK_SECONDS = 2.0  # between two looks for the paths of unix sockets
_DEFECTS, _DEFECTS_SECONDS = 3, 10.0  # so many in such a time are too many
_NEVER = float("inf")
_START_AGAIN = 0.05  # seconds until an address that is in use is tried again


class Supervisor:
    """Runs one server from its first verdict to its exit code."""

    def __init__(
        self,
        verdict: checker.Verdict,
        source: checker.Source,
        run_dir: RunDir,
        wakeup: signals.Wakeup,
        notifier: Notifier,
        started: Callable[[int, str], None],
        kept: list[Listener],
        *,
        patience: float,
        detached: bool,
    ) -> None:
        """`started(code, reason)` is called once, when workers are ready or the start has failed.

        `kept` are listeners inherited from before a restart.  `patience`: seconds to go on trying when an address is in
        use, as workers of a master that was killed may just be leaving it.  `detached`: there is no terminal.
        """
        assert verdict.config is not None
        self.run_dir = run_dir
        self._verdict = verdict
        self._wakeup = wakeup
        self._notifier = notifier
        self._started = started
        self._kept = kept
        self._writer = NonBlockingWriter(2)
        self.errors = ErrorLog(self._writer.write, verdict.config.log.level, f"master pid {os.getpid()}")
        self._poller: Poller = make_poller()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self.crew = self._make_crew(detached=detached)
        self.reloads = Reloads(
            self.crew, self._poller, self._handlers, source, notifier, self.errors, self._activated
        )
        self.crew.observer = self.reloads
        self._since, self._born = time.time(), time.monotonic()
        self._waits = Waits()
        self._reopening = Reopening(self.crew, self.errors, self._poller, self._handlers, self._waits, self._reopened)
        self._resizing = Resizing(self.crew, self.reloads, self.errors, self._waits)
        self._start_until = time.monotonic() + patience
        self._start_again = _NEVER
        self.ending = Ending(self.crew, self.reloads, self._waits, notifier, self.errors, str(run_dir.path))
        self.crew.on_finished = self.ending.script_ended
        self._tell_lost_at = 0.0  # monotonic seconds
        self._next_look = _NEVER  # for paths of unix sockets
        self._defects: deque[float] = deque(maxlen=_DEFECTS)  # when they happened (monotonic seconds)
        self._code = EXIT_OK
        self._endpoint: Endpoint | None = None
        self.control = -1

    def _make_crew(self, *, detached: bool) -> Crew:
        # Held by its descriptor: workers can be started also when somebody has cleaned the run folder away.
        folder = os.open(self.run_dir.empty_folder(), os.O_RDONLY | os.O_DIRECTORY)
        launching = Launching(self._poller, self._handlers, self.errors, self._close_in_child)
        spawner = Spawner(folder, self._close_in_child, launching, detached=detached)
        return Crew(self._poller, self._handlers, self.errors, spawner, launching)

    def _close_in_child(self) -> None:
        self._wakeup.close()

    # The loop

    def run(self, control_group: int | None, control: int = -1) -> tuple[int, list[Listener]]:
        """Serve; return the exit code, and the listeners to hand on when it is a restart that was asked for.

        `control`: the control socket of the program before in this process.  Behind a restart in the same run folder
        `self.control` is the one for the next.
        """
        self._endpoint = Endpoint(
            self.run_dir.control_path, control_group, self._poller, self._handlers,
            lambda call, reply: perform(self, call, reply),
            lambda uid: self.errors.warning("control refused", uid=uid), control,
        )  # fmt: skip
        self._handlers[self._wakeup.fd] = self._on_signal
        self._poller.register(self._wakeup.fd, IN)
        self.crew.reap_all()
        self.reloads.start(self._verdict, self._kept, self._on_start)
        now = time.monotonic()
        self._guarded(self._tick, now)  # nothing may ever happen if the start has failed already
        while not self.ending.over:
            timeout = self._timeout()
            events = self._poller.poll(timeout)
            before, now = now, time.monotonic()
            if now - before > timeout + _STALL and timeout >= 0:
                self._forgive(now - before, now)  # it stood still from the beginning of the wait, most likely
            for fd, mask in events:
                handler = self._handlers.get(fd)
                if handler is not None:
                    self._guarded(handler, mask)
            self._guarded(self._tick, now)
        self.control = self._endpoint.close(keep=self.ending.stays)
        self._writer.flush()
        return self._code or self.ending.code, self.ending.handed_on

    def _guarded(self, action: Callable[[Any], None], argument: int | float) -> None:
        """A defect costs what was being done, not the service; when there is no end of them it ends in order."""
        try:
            action(argument)
        except Exception as error:
            self.errors.error("defect in the master", exception=error)
            now = time.monotonic()
            self._defects.append(now)
            if len(self._defects) < _DEFECTS or now - self._defects[0] > _DEFECTS_SECONDS:
                return
            if self._code == EXIT_DEFECT:  # it can't even end in order; the workers do so by themselves
                self.ending.over = True
            self._code = EXIT_DEFECT
            self._defects.clear()
            self.errors.error("too many defects: the server ends, to be started anew")
            self.ending.stop(now=False, reply=nobody)

    def _forgive(self, seconds: float, now: float) -> None:
        self.errors.notice("stalled: what was due meanwhile is put off", seconds=f"{seconds:.1f}")
        self.crew.forgive(seconds, now)
        self.reloads.forgive(seconds)

    def _timeout(self) -> float:
        assert self._endpoint is not None
        due = [self.crew.deadline(), self._endpoint.deadline, self.ending.due, self._start_again,
               self.reloads.deadline, self._waits.deadline, self._next_look,
               self._reopening.deadline]  # fmt: skip
        now = time.monotonic()
        if self._writer.pending:
            due.append(now + _FLUSH_AGAIN)
        elif self._writer.dropped:
            due.append(self._tell_lost_at)
        first = min(due)
        return -1 if first == _NEVER else min(_LONGEST_SLEEP, max(0.0, first - now))

    def _tick(self, now: float) -> None:
        assert self._endpoint is not None
        self._flush_log(now)
        self._endpoint.sweep(now)
        self.reloads.expire(now)
        self._reopening.expire(now)
        if now >= self._start_again:
            self._start_again = _NEVER
            self.reloads.start(self._verdict, self._kept, self._on_start)
        if now >= self._next_look:
            self._next_look = now + _LOOK_SECONDS
            if self.reloads.active is not None and not self.ending.stopping:
                self.crew.restore_paths(self.reloads.active)
        self.crew.tick(now)
        self.ending.tick(now)
        self._bury_generations()  # behind all that may leave one without workers: nothing else would wake us for it
        self.ending.look()
        self._waits.answer(now)

    def _flush_log(self, now: float) -> None:
        writer = self._writer
        writer.flush()
        if not writer.dropped or writer.pending or now < self._tell_lost_at:
            return
        lost, writer.dropped = writer.dropped, 0
        self.errors.warning("log lines were lost", lines=lost)
        if writer.dropped:  # this one too: the disk is still full
            writer.dropped = lost
            self._tell_lost_at = now + _TELL_AGAIN

    def _bury_generations(self) -> None:
        for generation in list(self.crew.generations):
            if generation.stage is Stage.DRAINING and not any(generation.children):
                generation.stage = Stage.GONE
                generation.end()
                self.crew.launching.drop(generation)
                self.crew.generations.remove(generation)
                self.errors.info("generation gone", generation=generation.number)

    def _on_signal(self, mask: int) -> None:
        for name in self._wakeup.take():
            if name == "CHLD":
                self.crew.reap_all()
            else:
                self.errors.info("signal", name=name)
                SIGNALS[name](self, {}, nobody)

    # Start and reload

    def _on_start(self, failure: Failure | None) -> None:
        active = self.reloads.active
        if failure is None and active is not None:
            self.errors.notice("serving", listeners=", ".join(active.listener_names), workers=len(active.slots))
            self._notifier.ready(report.status_line(active, {}))
            self._started(EXIT_OK, "")
            return
        now = time.monotonic()
        if failure is not None and failure.in_use and now < self._start_until and not self.ending.stopping:
            self._start_again = now + _START_AGAIN
            return
        reason = "" if failure is None else failure.reason
        if not self.ending.stopping:  # else it was told to end before it was up, and does so
            self._code = EXIT_NO_PERMISSION if failure is not None and failure.permission else EXIT_UNAVAILABLE
            self.errors.error("cannot start", reason=reason)
            log_failure(self._verdict.config, self._writer, lambda: self.errors.error("cannot start", reason=reason))
            self.ending.stopping = True
            self.reloads.give_up()
        self._started(self._code, reason)
        for generation in list(self.crew.generations):
            self.crew.stop(generation)

    def _activated(self, generation: Generation) -> None:
        self._writer.reopen(generation.errors.fd)
        self.errors.set_level(generation.config.log.level)
        has_paths = any(listener.inode for listener in generation.listeners)
        self._next_look = time.monotonic() + _LOOK_SECONDS if has_paths else _NEVER

    def reload(self, reply: Reply) -> None:
        """Take over the changed configuration, or say why not."""
        self._restore_run_dir()
        self.reloads.reload(self._behind(reply))

    def reload_for_good(self, reply: Reply) -> None:
        """The same, and wait until it can't be rolled back any more."""
        self._restore_run_dir()
        self.reloads.reload_for_good(self._behind(reply))

    def _behind(self, reply: Reply) -> Reply:  # who is told of a change, and of one back, meets nobody from before it
        return self._waits.behind(reply, lambda: handed_over(self.crew.generations))

    def hang_up(self, reply: Reply) -> None:
        """HUP: a reload; but of a folder that is served the terminal is gone, and with it who wanted the server."""
        active = self.reloads.active
        if active is not None and not active.config.path and active.config.script is None:
            self.stop(now=False, reply=reply)
        else:
            self.reload(reply)

    def _restore_run_dir(self) -> None:
        """Somebody has cleaned the run folder away: make it again, so that httpd-ctl finds the server."""
        if self.run_dir.control_path.exists() or self._endpoint is None or self.ending.stopping:
            return
        try:
            self.run_dir.prepare()
            self.run_dir.close()
            self.run_dir.lock()
            self.run_dir.write_pid()
            self._endpoint.listen_again()
        except (RunDirError, OSError) as error:
            self.errors.error("the run folder is gone and can't be made again", reason=str(error))
        else:
            self.errors.warning("the run folder was gone: made again", folder=str(self.run_dir.path))

    def check(self, reply: Reply) -> None:
        """The configuration test alone."""
        self.reloads.check(reply)

    # Commands

    def status(self, reply: Reply) -> None:
        """What runs."""
        data = report.status(self.reloads.active, self.crew.generations, self.reloads.last,
                             self.crew.losses, self._since, time.monotonic() - self._born,
                             stopping=self.ending.stopping, launcher=self.crew.launching.figures)  # fmt: skip
        reply(Outcome(DONE, report.status_text(data), data))

    def reopen(self, reply: Reply) -> None:
        """New log files for every worker of every generation, and for the master."""
        self._reopening.ask(reply)

    def _reopened(self) -> None:
        if self.reloads.active is not None:
            self._writer.reopen(self.reloads.active.errors.fd)

    def cgi_test(self, url: str, method: str, data: bytes, reply: Reply) -> None:
        """Have a worker run a script once."""
        self.crew.probing.ask(self.reloads.active, url, method, data, reply)

    def change_workers(self, by: int, reply: Reply) -> None:
        """TTIN, TTOU."""
        self._resizing.change(by, reply, stopping=self.ending.stopping)

    def set_workers(self, count: int, reply: Reply) -> None:
        """Have `count` workers in the active generation."""
        self._resizing.set(count, reply, stopping=self.ending.stopping)

    def upgrade(self, reply: Reply) -> None:
        """USR2."""
        self.errors.warning("upgrade is not available in this version")
        reply(Outcome(REFUSED, "upgrade is not available in this version"))

    # The end

    def interrupt(self, reply: Reply) -> None:
        """INT: the first is a graceful stop, the second stops now."""
        self._start_again = _NEVER
        self.ending.interrupt(reply)

    def stop(self, *, now: bool, reply: Reply) -> None:
        """End: after the requests, or at once."""
        self._start_again = _NEVER
        self.ending.stop(now=now, reply=reply)

    def restart(self, reply: Reply) -> None:
        """Check, stop, and start again in this process."""
        self.ending.restart(reply)
