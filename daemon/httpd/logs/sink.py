"""A queue between the worker's loop and a log: writing never waits.

Rules:
- `write` appends to a bounded queue; what does not fit is dropped and counted.  A daemon thread writes.
- The thread starts with the first write.  It does not survive a fork, so nothing may be written before that.
- The thread wakes up only when there is something, collects for a moment, and sleeps for ever when idle.
- Order is kept: `reopen` takes effect after everything that was queued before it.
- Callbacks run in the writer thread, without a lock held, and must not raise.

Stops: a log pipe that nobody reads, a full disk or a dead syslog daemon would otherwise stop every request.
"""

from __future__ import annotations

import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from httpd.logs.outlets import LinesLostError, make_outlet
from httpd.logs.targets import Target

QUEUE_LIMIT = 4 * 1024 * 1024  # bytes, with those that the thread is writing
BATCH = 256 * 1024  # bytes for one write of the thread, unless a single piece is larger
COLLECT = 0.01  # seconds; who collects by itself gives 0


@dataclass(slots=True, frozen=True)
class _Swap:
    fd: int
    done: Callable[[], None]


def _ignore(cause: OSError) -> None:
    """Nobody asked to hear of failures."""


class Sink:
    """Never blocking; safe to use from several threads of one process.

    `on_recover(lines)` is called once after an outage: lines were lost, and all that was queued since is
    written.  `on_failure(cause)` is called once per outage, with the first error.  Raises ValueError for a
    target that is off.
    """

    __slots__ = (
        "_busy",
        "_closing",
        "_collect",
        "_drained",
        "_dropped",
        "_failing",
        "_hurry",
        "_idle",
        "_limit",
        "_lost",
        "_on_failure",
        "_on_recover",
        "_outlet",
        "_queue",
        "_ready",
        "_size",
        "_thread",
    )

    def __init__(
        self,
        target: Target,
        *,
        on_recover: Callable[[int], None],
        on_failure: Callable[[OSError], None] = _ignore,
        limit: int = QUEUE_LIMIT,
        collect: float = COLLECT,
    ) -> None:
        self._outlet = make_outlet(target)
        self._on_recover = on_recover
        self._on_failure = on_failure
        self._limit = limit
        self._collect = collect
        self._queue: deque[bytes | _Swap] = deque()
        self._size = 0  # bytes not yet written
        self._lost = 0  # lines since the last recovery
        self._dropped = 0  # lines in all
        self._failing = False  # on_failure was called and no write has succeeded since
        lock = threading.Lock()
        self._ready = threading.Condition(lock)  # for the thread: there is something to do
        self._drained = threading.Condition(lock)  # for flush: there is nothing left
        self._thread: threading.Thread | None = None
        self._idle = False  # the thread waits for something to do
        self._busy = False  # the thread holds something that it has taken
        self._hurry = False  # somebody waits: do not collect
        self._closing = False

    @property
    def dropped(self) -> int:
        """Lines lost since the start."""
        return self._dropped

    def write(self, data: bytes) -> None:
        """Queue whole lines.  Never blocks, never raises."""
        with self._ready:
            if self._closing:
                self._count(data.count(b"\n"))
                return
            if self._size + len(data) > self._limit:
                fits = data.rfind(b"\n", 0, max(0, self._limit - self._size)) + 1
                self._count(data.count(b"\n", fits))
                if not fits:
                    return
                data = data[:fits]
            self._queue.append(data)
            self._size += len(data)
            self._wake()

    def reopen(self, fd: int, done: Callable[[], None]) -> None:
        """After everything queued before this call: go on with `fd`, close the old descriptor, call `done`.

        The sink owns `fd` from now on.
        """
        with self._ready:
            self._queue.append(_Swap(fd, done))
            self._hurry = True
            self._wake()
            self._ready.notify()

    def flush(self, deadline: float) -> bool:
        """Wait until everything is written, at most until `deadline` (monotonic).  False: it was not."""
        with self._ready:
            while self._queue or self._busy:
                left = deadline - time.monotonic()
                if left <= 0:
                    return False
                self._hurry = True
                self._wake()
                self._ready.notify()
                self._drained.wait(left)
            return True

    def unwritten(self) -> int:
        """How many lines wait, at least: what the thread has in hand is not counted."""
        with self._ready:
            return sum(piece.count(b"\n") for piece in self._queue if isinstance(piece, bytes))

    def close(self) -> None:
        """Take no more lines.  The thread writes what is queued, closes the target, ends.  Does not wait."""
        with self._ready:
            if self._closing:
                return
            self._closing = True
            if self._thread is None and not self._queue:
                self._outlet.close()
                return
            self._wake()
            self._ready.notify()

    def _count(self, lines: int) -> None:
        self._lost += lines
        self._dropped += lines

    def _wake(self) -> None:
        """Make sure that the thread sees the queue.  While it collects or writes it will look by itself."""
        if self._thread is None:
            self._start()
        elif self._idle:
            self._ready.notify()

    def _start(self) -> None:
        thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread = thread
        try:
            thread.start()
        except RuntimeError:
            # No room for another thread just now; the lines stay queued and the next call tries again.
            self._thread = None

    def _run(self) -> None:
        # Signals are for the main thread: taken here, they would not interrupt what it waits for.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        while (work := self._take()) is not None:
            if isinstance(work, _Swap):
                self._outlet.reopen(work.fd)
                work.done()
            else:
                self._write_out(work)
            self._finish()
        self._outlet.close()

    def _take(self) -> bytes | _Swap | None:
        """The next batch or swap; None when the sink is closed and empty."""
        with self._ready:
            while not self._queue:
                if self._closing:
                    return None
                self._idle = True
                self._ready.wait()
                self._idle = False
            if self._collect and not self._hurry and not self._closing and self._size < BATCH:
                self._ready.wait(self._collect)
            self._busy = True
            first = self._queue.popleft()
            if isinstance(first, _Swap):
                return first
            batch = [first]
            size = len(first)
            while self._queue and size < BATCH:
                piece = self._queue[0]
                if isinstance(piece, _Swap):
                    break
                batch.append(piece)
                size += len(piece)
                self._queue.popleft()
            return b"".join(batch)

    def _write_out(self, batch: bytes) -> None:
        failure: LinesLostError | None = None
        try:
            self._outlet.write(batch)
        except LinesLostError as problem:
            failure = problem
        recovered = 0
        with self._ready:
            self._size -= len(batch)
            if failure is not None:
                self._count(failure.lines)
            elif not self._queue:
                recovered, self._lost = self._lost, 0
        if failure is not None and not self._failing:
            self._on_failure(failure.cause)
        self._failing = failure is not None
        if recovered:
            self._on_recover(recovered)

    def _finish(self) -> None:
        with self._ready:
            self._busy = False
            if not self._queue:
                self._hurry = False
                self._drained.notify_all()
