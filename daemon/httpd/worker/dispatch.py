"""The loop's side of all handlers of a worker: who may run, what comes back, what takes long.

Rules:

- Everything here happens on the loop, but for the methods of `server.exchange.Driver`, which handlers' threads call:
  they put something into a deque of the pool and ring.
- Who writes a whole answer and returns at once is sent for once, when it has returned.  Who takes longer than `_YOUNG`
  has sent what it has written by then, and from then on whatever it writes.
- A handler that streams on and on, or has taken the socket, does not count among the threads any more; of these there
  may be `limits.detached`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import socket
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from types import FrameType
from typing import Any, Protocol

from httpd.logs.errors import ErrorLog
from httpd.server.exchange import Exchange
from httpd.worker import calls
from httpd.worker.calls import CallMount
from httpd.worker.context import Context
from httpd.worker.pool import Pool

_YOUNG = 0.005  # seconds that a handler may take before what it has written is looked at
_JOIN = 0.002  # seconds that a head waits for its body
_LASTS = 1.0  # seconds after which an answer that is still being written is a stream
_QUICK = 0.0005  # seconds; a handler that takes no longer may run in the loop's own thread
_SLOW = 0.003  # seconds; one that takes longer must not
_PROVED = 4  # runs behind which a handler is taken to be quick
_DEMOTED = 50  # runs that one which was slow has to prove itself
# Seconds that a thread keeps the interpreter while others wait for it, when handlers run in threads of their own: those
# that compute would hold up the loop for 5 ms each time that it wants it back.
SWITCH_INTERVAL = 0.0001
_NEVER = float("inf")


class Talker(Protocol):
    """A connection, as far as its exchange goes."""

    def forward(self, exchange: Exchange) -> None:
        """Send what the handler has written."""

    def answered(self, exchange: Exchange) -> None:
        """The exchange is over."""

    def hand_out(self, exchange: Exchange, given: Callable[[int, bytes], None]) -> None:
        """Let go of the socket, once what was written is out: `given(descriptor, what was read)`; -1 when it is
        gone."""

    def fileno(self) -> int: ...


class Dispatch:
    """One per worker that has handlers."""

    def __init__(self, context: Context, threads: int, seconds: float) -> None:
        """`threads`: of the pool; `seconds`: a handler that takes longer is reported, 0 is never."""
        self.pool = Pool(threads)
        self.bell = self.pool.bell
        self.pool.relieved = self._contend
        self._contended = False  # the interpreter is: threads give it up sooner
        self._interval = sys.getswitchinterval()  # what it is otherwise
        self.pool.defect = lambda error: context.errors.error("defect in the run of a handler", exception=error)
        self.active = 0  # exchanges whose handlers have not ended
        self.detached = 0  # those that do not count among the threads
        self.look_at = _NEVER
        self.quick: deque[Exchange] = deque()
        self._context = context
        self._errors: ErrorLog = context.errors
        self._limit = context.limits.detached
        self._seconds = seconds
        self._ids = itertools.count(1)
        self.closed = False  # the loop is over

    def lead(self, loop: Callable[[], bool]) -> None:
        """Run the loop in this thread, and in others when this one is held up; does not return."""
        self.pool.lead = loop
        self.pool.lead_on()

    # From the loop

    def submit(self, exchange: Exchange, mount: CallMount) -> None:
        """Have a handler run, now or when it is its turn."""
        self.active += 1
        mount.active += 1
        if mount.active - mount.released > mount.limit:
            mount.waiting.append(exchange)
        else:
            self._start(exchange)

    def _start(self, exchange: Exchange) -> None:
        if exchange.mount.inbox is not None:
            exchange.mount.inbox.put(exchange)
            return
        if exchange.mount.score >= _PROVED and exchange.body_at >= 0:
            self.quick.append(exchange)
            return
        self.pool.queue.append(exchange)
        if not self._contended:
            self._contend()
        if self.look_at == _NEVER:
            self.look_at = self._context.now + _YOUNG

    def _contend(self) -> None:
        self._contended = True
        sys.setswitchinterval(SWITCH_INTERVAL)

    def tend(self, now: float) -> float:
        """Called before the loop waits; returns how many seconds it may wait at most."""
        return 0.0 if self.quick else min(self.pool.tend(now), max(0.0, self.look_at - now))

    def run_quick(self) -> bool:
        """Run the handlers that are quick, in this thread; False: it does not lead any more, and has to leave the
        loop."""
        return not self.quick or self.pool.run_quick(self.quick, self._quick_over)

    def _quick_over(self, exchange: Exchange) -> None:
        elapsed = time.monotonic() - exchange.since
        if elapsed > _QUICK:
            exchange.mount.score -= 1 if elapsed < _SLOW else _DEMOTED
        if exchange.over:
            self._over(exchange)

    def collect(self) -> None:
        """Take what the threads have put down."""
        pool = self.pool
        while pool.finished:
            exchange = pool.finished.popleft()
            assert isinstance(exchange, Exchange)
            mount = exchange.mount
            elapsed = time.monotonic() - exchange.since
            if elapsed > _SLOW:
                mount.score = -_DEMOTED
            elif mount.score < _PROVED:
                mount.score += 1
            if exchange.over:
                self._over(exchange)
        while pool.pushed:
            exchange = pool.pushed.popleft()
            assert isinstance(exchange, Exchange)
            self._pushed(exchange)
        self.make_calls()

    def _over(self, exchange: Exchange) -> None:
        if exchange.ended:
            return
        exchange.ended = True
        self.active -= 1
        mount: CallMount = exchange.mount
        if exchange.released:
            self.detached -= 1
            self.pool.take_back()
            mount.released -= mount.limit > 1
        mount.active -= 1
        self._next(mount)
        exchange.owner.answered(exchange)

    def _pushed(self, exchange: Exchange) -> None:
        if exchange.over:
            if exchange.returned:  # else it is found among the finished in a moment
                self._over(exchange)
            return
        writer = exchange.wfile
        if not writer.queue:
            return
        if writer.sent or exchange.held or exchange.flushed:
            exchange.held = False
            exchange.owner.forward(exchange)
        elif not exchange.held:  # a head alone: the body is most likely being written now
            exchange.held = True
            self.look_at = min(self.look_at, self._context.now + _JOIN)

    def look(self, now: float) -> None:
        """Some have been running for a while: send what they have written, and do not wait for them any more."""
        self.look_at = _NEVER
        for exchange in self.pool.running:
            if not isinstance(exchange, Exchange) or exchange.over:
                continue
            if exchange.held:
                exchange.flushed = True
                self._pushed(exchange)
                exchange.flushed = False
            elif not exchange.eager:
                if now - exchange.since >= _YOUNG:
                    exchange.eager = True
                    self._pushed(exchange)
                else:
                    self.look_at = now + _YOUNG
        if self.pool.queue and self.look_at == _NEVER:
            self.look_at = now + _YOUNG

    def oversee(self, now: float) -> None:
        """Called about once a second: report who takes long, let go of streams."""
        if self._contended and not self.pool.running and not self.pool.queue:
            self._contended = False
            sys.setswitchinterval(self._interval)
        for exchange in self.pool.running:
            if not isinstance(exchange, Exchange) or not exchange.since:
                continue
            age = now - exchange.since
            if age > _LASTS and not exchange.released and (exchange.wfile.taken or exchange.taken_over):
                self._release(exchange)
            if self._seconds and age > self._seconds and not exchange.reported:
                exchange.reported = True
                self._report(exchange, age)

    def _release(self, exchange: Exchange) -> bool:
        if self.detached >= self._limit:
            log = self._errors.limited("detached", 10)
            log.warning("limits.detached is reached: streams hold threads of the pool", detached=self.detached)
            return False
        exchange.released = True
        self.detached += 1
        self.pool.let_go()
        mount: CallMount = exchange.mount
        mount.released += mount.limit > 1  # one at a time is a promise
        self._next(mount)
        return True

    def _next(self, mount: CallMount) -> None:
        """Let the next one run that waits for its turn, if it is."""
        if mount.waiting and mount.active - mount.released - len(mount.waiting) < mount.limit:
            self._start(mount.waiting.popleft())

    def _report(self, exchange: Exchange, age: float) -> None:
        ident = self.pool.thread_of(exchange)
        frame = sys._current_frames().get(ident or 0)
        stack = _stack(frame) if frame is not None else "(it has just ended)"
        self._errors.warning(f"a handler takes long; it stands at\n{stack}", request=exchange.line,
                             mount=exchange.mount.key, seconds=f"{age:.1f}")  # fmt: skip

    # From the threads

    def push(self, exchange: Exchange) -> None:
        self.pool.pushed.append(exchange)
        self.pool.ring()

    def take_over(self, exchange: Exchange) -> tuple[socket.socket, bytes]:
        found: list[tuple[int, bytes]] = []

        def call(done: Callable[[], None]) -> None:
            def given(fd: int, early: bytes) -> None:
                found.append((fd, early))
                done()

            if not exchange.released and not self._release(exchange):
                given(-2, b"")
            else:
                exchange.owner.hand_out(exchange, given)

        self._call_loop(call)
        fd, early = found[0]
        if fd == -2:
            raise OSError(errno.ENOBUFS, "limits.detached sockets are taken over already")
        if fd < 0:
            raise BrokenPipeError(32, "the client is gone")
        sock = socket.socket(fileno=fd)
        sock.setblocking(True)
        return sock, early

    def ask_socket(self, exchange: Exchange, name: str, arguments: tuple[Any, ...]) -> Any:
        found: list[int] = []

        def call(done: Callable[[], None]) -> None:
            gone = exchange.broken or exchange.over
            found.append(-1 if gone else os.dup(exchange.owner.fileno()))
            done()

        self._call_loop(call)
        if found[0] < 0:
            raise OSError(9, os.strerror(9))
        with socket.socket(fileno=found[0]) as same:
            return getattr(same, name)(*arguments)

    def on_loop(self, call: Callable[[], None]) -> None:
        """Have the loop make a call, and wait until it has; make it here when the loop is over."""
        if self.closed:
            call()
            return

        def made(done: Callable[[], None]) -> None:
            try:
                call()
            finally:
                done()

        self._call_loop(made)

    def _call_loop(self, call: Callable[[Callable[[], None]], None]) -> None:
        """Have the loop make a call, and wait until that says that it is done."""
        done = threading.Event()
        failures: list[BaseException] = []

        def made() -> None:
            try:
                call(done.set)
            except BaseException as error:
                failures.append(error)
                done.set()

        self.pool.calls.append(made)
        if self.closed:
            self.make_calls()
        else:
            self.pool.ring()
        done.wait()
        if failures:
            raise failures[0]

    def make_calls(self) -> None:
        """Make the calls that threads have asked for."""
        while self.pool.calls:
            with contextlib.suppress(IndexError):  # behind the loop's end several threads may do so
                self.pool.calls.popleft()()

    def close(self) -> None:
        """The loop is over: from now on who wants a call made makes it."""
        self.closed = True
        self.make_calls()

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        left = isinstance(error, ConnectionError) and (exchange.broken or exchange.taken_over)
        if left or (exchange.fault and isinstance(error, ConnectionError | TimeoutError)):
            self._errors.debug("the client left, or failed to send its body", request=exchange.line, error=str(error))
            return
        exchange.name = f"{os.getpid():x}-{next(self._ids):x}"
        self._errors.error("a handler raised", request=exchange.line, id=exchange.name,
                           mount=exchange.mount.key, exception=error)  # fmt: skip


def _stack(frame: FrameType) -> str:
    """Where a handler stands, from where it was called."""
    found = traceback.extract_stack(frame)
    ours = [number for number, entry in enumerate(found) if entry.filename == calls.__file__]
    return "".join(traceback.format_list(found[ours[-1] + 1 :] if ours else found))
