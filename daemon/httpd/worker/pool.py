"""The threads that handlers run in, and which of them runs the loop.

    quick handlers    in the thread that runs the loop, between two rounds of it: nothing has to be handed over
    all others        loop --> queue --> thread: handler --> finished --> loop

Rules:

- A handler of which the last runs were quick is taken to be quick.  If it is not, this time, the deputy notices within
  `TICK` that the loop stands still and goes on with the loop itself; the thread that led goes on with its handler, and
  is a thread like any other then.  So no handler can hold up the loop for longer, and hardly any request costs a switch
  between threads, which costs more than the rest of it.
- Who leads is decided by a token: the leader lays down its own before it calls a handler and takes it back behind it;
  if it is gone by then, so is the lead.  (`list.append`, `pop` and `remove` are atomic.)
- Of the other threads one at a time is better than many, which would take the interpreter from each other.  So a thread
  is woken only when none is awake, or those that are have been in one handler for long, or nothing was taken out of the
  queue for `_STUCK`.
- Threads are made when they are needed first, and kept.  With nothing to do all of them sleep, the deputy too.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from httpd.system.bell import Bell
from httpd.system.scheduling import be_prompt

TICK = 0.001  # seconds after which a leader that is still in the same handler is relieved, twice that at most
_STUCK = 0.001  # seconds in which nobody took anything out of the queue
_SURELY = 0.01  # seconds in one handler: it waits, or computes, and is not only waiting for the interpreter
_PATIENCE = 0.05  # seconds; the longest pause between two looks at a queue that does not move
_TURN = 0.004  # seconds of one round that quick handlers may have
_TICKS = 20  # without a quick handler, until the deputy lies down
_NEVER = float("inf")


class Job(Protocol):
    """One run of a handler."""

    since: float  # when it began, monotonic seconds; 0: not yet

    def run(self) -> None:
        """Called in a thread of the pool; never raises."""


class Worker:
    """One thread: what it runs, and the lock on which it sleeps."""

    __slots__ = ("asleep", "job", "lock", "thread")

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.lock.acquire()
        self.job: Any = None
        self.asleep = False
        self.thread: threading.Thread | None = None


class Pool:
    """At most `size` threads, and as many more as runs have left the count (`let_go`).

    `finished` holds the runs that are over, for the loop; `pushed` those of which it should look at what was written.
    `lead` is the loop: it returns False when it found itself relieved.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.bell = Bell()
        self.lead: Callable[[], bool] = _nobody_leads
        self.relieved: Callable[[], None] = lambda: None  # told when a deputy has taken the lead
        self.defect: Callable[[BaseException], None] = lambda error: None
        self.queue: deque[Any] = deque()
        self.finished: deque[Any] = deque()
        self.pushed: deque[Any] = deque()
        self.calls: deque[Callable[[], None]] = deque()  # for the loop to make
        self._threads: list[Worker] = []
        self._idle: list[Worker] = []
        self._pause = self._last_pause = _STUCK
        self._look_at = _NEVER
        self._first: Any = None  # of the queue, when it was last looked at
        self._released = 0  # runs that do not count any more
        self.leader = Worker()
        self.leader.thread = threading.current_thread()
        self._token: list[Worker] = []
        self._runs = 0  # quick ones
        self._deputy: Worker | None = None

    @property
    def running(self) -> list[Any]:
        """What runs now."""
        return [job for thread in (*self._threads, self.leader) if (job := thread.job) is not None]

    def thread_of(self, job: Any) -> int | None:
        """The identifier of the thread that runs `job`."""
        for thread in self._threads:
            if thread.job is job and thread.thread is not None:
                return thread.thread.ident
        return None

    # Quick handlers

    def run_quick(self, jobs: deque[Any], over: Callable[[Any], None]) -> bool:
        """Run all of `jobs` here, in the thread of the loop; `over` is told of each.  False: somebody else leads
        now."""
        token, me, clock = self._token, self.leader, time.monotonic
        until = clock() + _TURN
        while jobs:
            job = jobs.popleft()
            self._runs += 1
            job.since = clock()
            me.job = job
            token.append(me)
            if self._deputy is None or self._deputy.asleep:  # behind the token: it lies down only where there is none
                self._call_deputy(self._deputy)
            self._run(job)
            try:
                token.remove(me)
            except ValueError:
                me.job = None
                self.finished.append(job)
                self.bell.ring()
                return False
            me.job = None
            over(job)
            if job.since > until:
                break  # it is the turn of the sockets
        return True

    def _run(self, job: Any) -> None:
        try:
            job.run()
        except BaseException as error:  # it is not to happen; a thread, or the lead, must not be lost by it
            self.defect(error)

    def _call_deputy(self, deputy: Worker | None) -> None:
        if deputy is None:
            self._deputy = deputy = Worker()
            if not self._begin(deputy, self._stand_in):
                self._deputy = None
        else:
            deputy.asleep = False
            with contextlib.suppress(RuntimeError):  # it is up already
                deputy.lock.release()

    def _stand_in(self, me: Worker) -> None:
        """What the deputy does: look whether the leader gets on, and lead when it does not."""
        seen, quiet = -1, 0
        while True:
            if seen == self._runs and not self._token:
                quiet += 1
                if quiet >= _TICKS:
                    quiet = 0
                    me.asleep = True
                    if seen == self._runs and not self._token:
                        me.lock.acquire()
                    me.asleep = False
            else:
                quiet = 0
            if seen == self._runs and self._token:
                leader = self.leader
                self._threads.append(leader)  # it is busy, and one of many from now on
                try:
                    self._token.pop()
                except IndexError:
                    self._threads.remove(leader)  # it is back
                else:
                    break
            seen = self._runs
            time.sleep(TICK)
        self.leader, self._deputy = me, None
        self.relieved()
        self.lead_on()

    def lead_on(self) -> None:
        """Run the loop in this thread to its end; once relieved, be a thread like the others."""
        me = self.leader
        me.thread = threading.current_thread()
        be_prompt()
        over = self.lead()
        be_prompt(prompt=False)
        if not over:
            self._work(me)

    # All others

    def tend(self, now: float) -> float:
        """See to it that somebody works; returns how many seconds the loop may wait at most."""
        if not self.queue:
            self._pause, self._look_at, self._first = _STUCK, _NEVER, None
            return _NEVER if not (self.finished or self.pushed or self.calls) else 0.0
        try:
            first = self.queue[0]
        except IndexError:  # taken just now
            return 0.0
        if first is self._first and now >= self._look_at:
            self._wake_many(len(self.queue))
        elif self._nobody_gets_on(now):
            self._wake_many(1)
        if first is not self._first or now >= self._look_at:
            self._first, self._look_at = first, now + self._pause
        return max(0.0, self._look_at - now)

    def _wake_many(self, count: int) -> None:
        self._pause = _STUCK
        for _ in range(count):
            if not self._wake():
                self._pause = min(_PATIENCE, self._last_pause * 2)
                break
        self._last_pause = self._pause

    def _nobody_gets_on(self, now: float) -> bool:
        """Whether every thread that is awake has been in one handler for so long that it will not be over soon."""
        for thread in self._threads:
            if not thread.asleep:
                job = thread.job
                if job is None or not job.since or now - job.since < _SURELY:
                    return False
        return True

    def _wake(self) -> bool:
        """Wake a thread, or make one; False when as many are awake as may be."""
        if len(self._threads) - len(self._idle) >= self.size + self._released:
            return False
        if self._idle:
            thread = self._idle.pop()
            thread.asleep = False
            thread.lock.release()
            return True
        thread = Worker()
        self._threads.append(thread)
        if not self._begin(thread, self._work):
            self._threads.remove(thread)
            return False
        return True

    def _begin(self, thread: Worker, what: Callable[[Worker], None]) -> bool:
        def run() -> None:
            what(thread)  # no signal is blocked: programs that a handler starts would have it blocked as well

        thread.thread = threading.Thread(target=run, name="handler", daemon=True)
        try:
            thread.thread.start()
        except RuntimeError:  # the limit of processes: those that are there go on
            return False
        return True

    def let_go(self) -> None:
        """A run that will last does not count any more; the loop has checked that there may be one more of these."""
        self._released += 1

    def take_back(self) -> None:
        """Such a run is over: one thread more than there may be ends."""
        self._released -= 1

    def ring(self) -> None:
        """Have the loop look; from any thread."""
        self.bell.ring()

    def _work(self, me: Worker) -> None:
        """What a thread does: run handlers, for ever."""
        queue, finished, clock = self.queue, self.finished, time.monotonic
        while True:
            if len(self._threads) - len(self._idle) > self.size + self._released:  # a leader was relieved
                if self._may_leave(me):
                    return
                self._lie_down(me)
            try:
                job = queue.popleft()
            except IndexError:
                if len(self._threads) > self.size + self._released and self._may_leave(me):
                    return
                self._sleep(me)
                continue
            job.since = began = clock()
            me.job = job
            self._run(job)
            me.job = None
            finished.append(job)
            job = None  # what belongs to it must not wait for the next one
            if not queue or clock() - began > _STUCK:
                self.bell.ring()

    def _may_leave(self, me: Worker) -> bool:
        """One of too many: take this thread off the list, if it may end.  The main thread must not: others will."""
        if me.thread is threading.main_thread():
            return False
        self._threads.remove(me)
        return True

    def _sleep(self, me: Worker) -> None:
        """Wait for something to do."""
        me.asleep = True
        self._idle.append(me)
        if self.queue:  # it came while we lay down; nobody may have seen that
            try:
                self._idle.remove(me)
            except ValueError:
                pass  # somebody has, and wakes us
            else:
                me.asleep = False
                return
        me.lock.acquire()

    def _lie_down(self, me: Worker) -> None:
        """Wait for less to do, whatever is queued: enough others are awake."""
        me.asleep = True
        self._idle.append(me)
        me.lock.acquire()


def _nobody_leads() -> bool:
    """In the place of a loop that is not known yet."""
    raise AssertionError("the pool has no loop")
