"""The event loop of a worker.

    poll -> handlers of what is ready -> answers to plain requests -> (sweep deadlines)
         -> (report: log lines to the logs, figures to the scoreboard)

Rules:

- One round never waits for anything but the poller.
- Time is read once per round: everything in a round happens "now".
- Deadlines are coarse: every `tick` all connections are looked at.  With nothing open there is no tick: an idle worker
  sleeps until something happens.
- Time in which this process did not run counts for no deadline: clients could not know.
- What others want to know of a round is told at most `_REPORT` seconds later, for all rounds since: under load a round
  is a few requests, and telling costs as much as one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container

from httpd.worker.acceptor import Acceptor
from httpd.worker.context import Context, Dispatching
from httpd.worker.scoreboard import Presence

_DRAIN_IDLE = 1.0  # seconds an idle connection is kept while draining, for a request that may be on its way
_FINEST, _COARSEST = 0.05, 1.0  # seconds between two sweeps
_REPORT = 0.01  # seconds
_ROUSE_AGAIN = 0.1  # seconds
_STALL = 1.0  # seconds; who was late by more did not run: a stopped process, a frozen machine
_NEVER = float("inf")


class Loop:
    """Runs until `stop`, or while draining until the last connection is gone.

    `report` tells the worker's figures; `rouse` tells the master that somebody is awake.
    """

    def __init__(
        self, context: Context, acceptors: list[Acceptor], report: Callable[[], None], presence: Presence,
        rouse: Callable[[], None],
    ) -> None:  # fmt: skip
        self._context = context
        self._presence = presence
        self._rouse = rouse
        self._next_rouse = 0.0
        self._acceptors = acceptors
        self._report_figures = report
        self._next_report = _NEVER
        self._stopped = False
        self._leaving = False  # it ends with its last connection
        timeouts = context.timeouts
        shortest = min(timeouts.head, timeouts.body, timeouts.write, timeouts.keepalive)
        self._tick = max(_FINEST, min(_COARSEST, shortest / 4))
        self._next_sweep = 0.0
        self._drain_ends = _NEVER

    def run(self) -> bool:
        """The loop itself.  False: this thread was relieved in the middle of a handler, and another one runs it."""
        context = self._context
        poll, handlers, forgotten = context.poller.poll, context.handlers, context.forgotten
        self._tell_time()
        while not self._stopped:
            timeout = self._timeout()
            events = poll(timeout)
            now = self._begin_round(timeout)
            forgotten.clear()
            for fd, mask in events:
                handler = handlers.get(fd)
                if handler is not None and fd not in forgotten:
                    try:
                        handler(mask)
                    except Exception as error:
                        self._defect(fd, error)
            if context.asked:
                self._answer()
            if context.dispatch is not None and not self._attend(context.dispatch, now):
                return False
            self._look_around(now, busy=bool(events))
            if self._leaving and self._has_left(now):
                break
        return True

    def _look_around(self, now: float, *, busy: bool) -> None:
        """What is due at the end of a round; `busy`: something happened in it."""
        if self._context.paused:
            self._resume(now)
        if self._context.scripts is not None:
            try:
                busy = self._context.scripts.look(now) or busy
            except Exception as error:
                self._context.errors.error("defect while looking after scripts", exception=error)
        if now >= self._next_sweep:
            self._sweep(now)
        if busy and self._next_report == _NEVER:
            self._next_report = now + _REPORT
        elif now >= self._next_report:
            self.report()

    def _begin_round(self, timeout: float) -> float:
        """Look at the clocks; `timeout` is how long the poller was to wait at most."""
        context = self._context
        now = time.monotonic()
        if self._presence.awake() and now >= self._next_rouse:
            self._next_rouse = now + _ROUSE_AGAIN
            self._rouse()
        if now - context.now > timeout + _STALL and timeout >= 0.0:
            self._stalled(now - context.now)
        context.round += 1
        context.now = now
        wall = context.wall = time.time()
        if int(wall) != context.preambles.second:
            context.preambles.at(int(wall))
        return now

    def _attend(self, dispatch: Dispatching, now: float) -> bool:
        """Handlers: what they have to say, those that take long, those that are quick.  False: see `run`."""
        try:
            dispatch.collect()
            if now >= dispatch.look_at:
                dispatch.look(now)
            return dispatch.run_quick()
        except Exception as error:
            self._context.errors.error("defect while serving a handler", exception=error)
            return True

    def _has_left(self, now: float) -> bool:
        dispatch = self._context.dispatch
        scripts = self._context.scripts
        idle = not (self._context.connections or (dispatch and dispatch.active) or (scripts and scripts.active))
        return idle or now >= self._drain_ends

    def _answer(self) -> None:
        """Answer the plain requests of this round: all were read before the first file is looked at."""
        asked = self._context.asked
        for connection, plain in asked:
            try:
                connection.answer(plain)
            except Exception as error:
                self._defect(connection.fileno(), error)
        asked.clear()

    def _stalled(self, seconds: float) -> None:
        self._context.errors.notice("stalled", seconds=f"{seconds:.1f}")
        for connection in self._context.connections.values():
            connection.postpone(seconds)
        if self._context.scripts is not None:
            self._context.scripts.postpone(seconds)
        self._drain_ends += seconds

    def _tell_time(self) -> None:
        self._context.now = time.monotonic()
        self._context.wall = time.time()
        self._context.preambles.at(int(self._context.wall))

    def _timeout(self) -> float:
        context = self._context
        until = self._next_report
        if context.connections and self._next_sweep < until:
            until = self._next_sweep
        for acceptor in self._acceptors if context.paused else ():
            until = min(until, acceptor.due)
        if context.dispatch is not None:
            until = min(until, context.now + context.dispatch.tend(context.now))
        if context.scripts is not None:
            until = min(until, context.now + context.scripts.tend(context.now))
        self._presence.asleep()
        return -1 if until == _NEVER else max(0.0, until - context.now)

    def _resume(self, now: float) -> None:
        for acceptor in self._acceptors:
            try:
                acceptor.resume(now)
            except OSError as error:  # no room to register with the poller
                acceptor.rest_for(str(error))

    def _sweep(self, now: float) -> None:
        self._next_sweep = now + self._tick
        context = self._context
        open_before = len(context.connections)
        for fd, connection in list(context.connections.items()):
            try:
                connection.sweep(now)
            except Exception as error:
                self._defect(fd, error)
        if context.dispatch is not None:
            context.dispatch.oversee(now)
        if context.dirty or len(context.connections) != open_before:
            self._next_report = now

    def report(self) -> None:
        """Tell others what happened since they were last told."""
        self._next_report = _NEVER
        self.hand_on_logs()
        self._report_figures()

    def hand_on_logs(self) -> None:
        """Give the lines that were collected to the logs."""
        dirty = self._context.dirty
        if dirty:
            for log in dirty:
                log.hand_on()
            dirty.clear()

    def _defect(self, fd: int, error: Exception) -> None:
        self._context.errors.error("defect while serving a connection", exception=error)
        connection = self._context.connections.get(fd)
        if connection is not None:
            connection.close()

    def _last_answers(self, *, fresh: bool) -> None:
        context = self._context
        context.draining = True
        context.idle_seconds = min(context.timeouts.keepalive, _DRAIN_IDLE)
        for connection in list(context.connections.values()):
            connection.drain(fresh=fresh)
        self._next_sweep = 0.0

    def stand_by(self, keep: Container[str]) -> None:
        """Answer what is open, for the last time; accept on no listener whose address is not in `keep`; do not end."""
        self._last_answers(fresh=False)
        for acceptor in self._acceptors:
            if acceptor.address.text not in keep:
                acceptor.pause()

    def resume(self) -> None:
        """Behind `stand_by`: serve as before.  The caller starts the acceptors."""
        self._context.draining = False
        self._context.idle_seconds = self._context.timeouts.keepalive

    def drain(self, seconds: float, emptied: Callable[[Acceptor], bool]) -> None:
        """Stop accepting, let requests finish for at most `seconds`, then end.  Again: within fewer seconds.

        `emptied` says for a listener whether its queue has to be emptied, because nobody else will accept from it.
        """
        self._drain_ends = min(self._drain_ends, self._context.now + seconds)
        if self._leaving:
            return
        self._leaving = True
        self._context.draining = True
        for acceptor in self._acceptors:
            acceptor.close(empty_queue=emptied(acceptor))
        self._acceptors.clear()
        self._last_answers(fresh=True)

    def stop(self) -> None:
        """End after this round."""
        self._stopped = True

    def close_all(self) -> int:
        """Cut what is still open.  Returns how many of them were in the middle of something."""
        open_still = list(self._context.connections.values())
        busy = sum(connection.busy for connection in open_still)
        for connection in open_still:
            connection.cut()
        self.hand_on_logs()
        return busy
