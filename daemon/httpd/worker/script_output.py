"""The descriptor that a script's output is read from: when it is read, and how much at once.

Rules:

- Most scripts write little and are over within a moment.  So for `_WAIT` seconds nothing is read, and the poller tells
  only when the script's end is closed; then all is there, for one read.  A script that writes more than a pipe holds
  waits that long, once; where a poller can't tell an end without its output, output is read as it comes.
- While the client has to take some of the answer first, nothing is read.
- What comes behind the answer is dropped, so that a script need not fail by it; not without end.
"""

from __future__ import annotations

import os
from typing import Protocol

from httpd.system.descriptors import lent_pipe
from httpd.system.poller import END, HUP, IN
from httpd.worker.context import Context

_READ = 64 * 1024  # bytes of one read; what a pipe holds
_TURN = 256 * 1024  # bytes that are taken in one round
_BEHIND = 1024 * 1024  # bytes that are dropped behind an answer; then the output is closed
_MOST = 1024 * 1024  # bytes that a pipe can be made to hold, by default
_WAIT = 0.003  # seconds


class Taker(Protocol):
    """The run."""

    def take(self, data: bytes) -> bool: ...

    def took_some(self) -> None: ...

    def output_ended(self) -> None: ...


class ScriptOutput:
    """Of one run; `child_fd` is the script's end."""

    __slots__ = ("_behind", "_context", "_fd", "_mask", "_taker", "child_fd", "paused", "read_at")

    def __init__(self, context: Context, taker: Taker) -> None:
        self._context = context
        self._taker = taker
        self._fd, self.child_fd = lent_pipe()
        self.paused = False
        self._behind = -1  # bytes that may come behind the answer; -1: it is not over
        self.read_at = context.now + _WAIT  # when to read on, if its end is not closed by then; monotonic seconds
        self._mask = END
        context.watch(self._fd, END, 0, self.read)

    @property
    def open(self) -> bool:
        """Whether more may come."""
        return self._fd >= 0

    @property
    def waits(self) -> bool:
        """Whether nothing is read yet."""
        return self._mask != IN and self._fd >= 0

    def attend(self) -> None:
        """Read as it comes, from now on."""
        if self.waits:
            self._context.watch(self._fd, IN, self._mask, self.read)
            self._mask = IN

    def read(self, mask: int = 0) -> None:
        """Take what is there."""
        taken = 0
        while self._fd >= 0 and taken < _TURN:
            try:
                data = os.read(self._fd, _READ)
            except BlockingIOError:
                break
            if self._behind >= 0:
                self._behind -= len(data)
                if self._behind < 0:
                    data = b""  # who goes on gets SIGPIPE
            elif data:
                taken += len(data)
                if not self._taker.take(data):
                    return
            if not data or (mask & HUP and len(data) < _READ):  # nobody is left who could write more
                self.close()
                self._taker.output_ended()
                return
        if taken:
            self._taker.took_some()

    def read_all(self) -> None:
        """Take what is there, as much as a pipe may be made to hold."""
        for _ in range(_MOST // _TURN):
            if not self.paused:
                self.read()

    def drop(self) -> None:
        """The answer is over: nobody wants any more."""
        self._behind = _BEHIND

    def pause(self) -> None:
        """The client has to take some of the answer first."""
        if self._fd >= 0 and not self.paused:
            self.paused, self._mask = True, IN
            self._context.forget(self._fd)

    def resume(self) -> bool:
        """It has taken enough.  False: there is nothing to go on with."""
        if not self.paused or self._fd < 0:
            return False
        self.paused = False
        self._context.watch(self._fd, IN, 0, self.read)
        return True

    def close(self) -> None:
        """Let go of it."""
        if self._fd >= 0:
            if not self.paused:
                self._context.forget(self._fd)
            os.close(self._fd)
            self._fd, self.paused = -1, False
