"""One run of a script, from its request to the last byte of its answer and the last line of its stderr.

    WAITING --> ASKED --(QUEUED)--> RUNNING --> output over, process over --> OVER
       +-----------+----------------+--> failed: 503, 504, 502 ... or the answer is cut off

Rules:

- Output is passed on as it comes.  An answer that is complete within a moment leaves as a whole, with its length.
- A client that takes its time makes the script wait, not this process: past so many bytes nothing more is read, and
  the script's time does not run.
- The answer is over with the script's output, or with all that its client gets (Content-Length, HEAD, 204), a moment
  behind the script's end where somebody else holds the output.  Behind it a script has `timeout`, whatever it does.
- Whoever waits for a run that will give no answer is told why in the error log: the first line, the last words, how the
  process ended.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from httpd.cgi.lookup import Found
from httpd.worker.run_faces import AHEAD, Host, Sink, State
from httpd.worker.script_answer import ScriptAnswer, hand_back
from httpd.worker.script_mount import ScriptMount
from httpd.worker.script_output import ScriptOutput
from httpd.worker.script_stderr import ScriptStderr
from httpd.worker.script_stdin import Progress

_LINGER = 2.0  # seconds that output, or stderr, may stay open behind the script's end
_HEARD = 4.0  # ... that a spawner has to tell of the end of what it was told to stop, and the launcher to judge it
_AT_ONCE = 1.0  # ... behind an answer within which its process' end may have cut it
_NEVER = float("inf")


class ScriptRun:
    """See the head of this file.  `sink` is who gets the answer."""

    def __init__(self, scripts: Host, mount: ScriptMount, found: Found, sink: Sink,
                 environment: dict[bytes, bytes], words: list[bytes], stdin: int) -> None:  # fmt: skip
        """`stdin` is taken over, unless it is `scripts.null`.  Raises OSError; `stdin` is the caller's then."""
        self.scripts = scripts
        self.mount = mount
        self.found = found
        self.environment = environment
        self.words = words
        self.number = 0
        self.door: Any = None  # where it was given to
        self.deadline = _NEVER
        self.word_by = _NEVER  # when its spawner must have said something of it
        self.asked_at = _NEVER
        self.state = State.WAITING
        self.pid = 0
        self.on_over: Callable[[], None] | None = None  # called when all is known of it
        self._answer = ScriptAnswer(self, sink, scripts.context.limits.head)
        self._started = self._answered_at = 0.0
        self._ended: str | None = None
        self._orphan = False
        self._stopped = False
        self._linger_until = _NEVER
        self._given_up = False  # its process goes on, but no answer is to be expected
        self._id = self._waits_for = ""
        self._stdin = Progress(stdin if stdin != scripts.null else -1)
        try:
            self.output = ScriptOutput(scripts.context, self)
            self.stderr = ScriptStderr(self)
        except OSError:  # out of descriptors: all of these are to be given back
            self._stdin.close()
            if hasattr(self, "output"):
                os.close(self.output.child_fd)
                self.output.close()
            raise
        self.child_fds: tuple[int, ...] = (stdin, self.output.child_fd, self.stderr.child_fd)

    def close_child_fds(self) -> None:
        """The script's ends are on their way to it."""
        for fd in self.child_fds:
            if fd != self.scripts.null:
                os.close(fd)
        self.child_fds = ()

    # What its spawner says

    def queued(self, *, ready: bool) -> None:
        self._heard()
        self._waits_for = "its turn" if ready else "its warm interpreter"
        if self.state in AHEAD:
            self.state = State.QUEUED
            self.deadline = self.asked_at + self.mount.mount.timeout

    def started(self, pid: int) -> None:
        self.pid = pid
        self._heard()
        self.stderr.log()
        if self.state in AHEAD:
            self._begin_to_run()

    def _heard(self) -> None:
        if not self._stopped and (self.state is not State.ANSWERED or self.output.open):  # else the end is to be told
            self.word_by = _NEVER

    def declined(self, status: int, reason: str) -> None:
        self._ended = "it was not run"
        self.fail(status, reason)

    def ended(self, pid: int, how: str) -> None:
        self.started(pid)
        self._ended = how
        self._linger_until = self.scripts.context.now + _LINGER
        late = self._answer.whole or self.scripts.context.now > (self._answered_at or _NEVER) + _AT_ONCE
        if self._answer.begun and not late and not self._stopped and not how.startswith("exit status"):
            self.scripts.context.errors.warning("script has ended behind the beginning of its answer",
                                                script=self.found.file, pid=pid, ended=how)  # fmt: skip
        if self._answer.sink is None:
            self.settle()
        elif not self.output.open:
            self._without_answer()
        else:
            self.output.read()  # it is all there, most likely

    def orphaned(self) -> None:
        """Its spawner is gone: it goes on, and nobody can tell how it ends, or end it."""
        self.door = None
        self._orphan = True
        if self.state in AHEAD:  # it may run and nobody has told: if it does not, its output has ended
            self._begin_to_run()
        if self._answer.sink is None:
            self.settle()
        elif not self.output.open:
            self._without_answer()

    @property
    def gone(self) -> bool:
        """Nothing more will be heard of the process."""
        return self._ended is not None or self._orphan

    def _stop(self) -> None:
        self.deadline = _NEVER
        if not self._stopped and not self.gone and self.state is not State.OVER:
            self._stopped = True
            self.word_by = self.scripts.context.now + _HEARD
            self.scripts.stop(self)

    # Output

    def take(self, data: bytes) -> bool:
        """Some output.  False: no more of it is wanted."""
        if self.state in AHEAD:
            self._begin_to_run()
        return self._answer.sink is None or self._answer.take(data)

    def took_some(self) -> None:
        """Output was taken, and there is none for the moment."""
        self._progress()
        if self._answer.sink is not None and self._answer.has_head:
            self._answer.hold_or_send()

    def _begin_to_run(self) -> None:
        self.state = State.RUNNING
        self._started = self._started or self.scripts.context.now
        self._progress()

    def set(self) -> None:
        """The client has taken much of what waited for it."""
        if self.output.resume():
            self._progress()

    def output_ended(self) -> None:
        """There will be no more."""
        if self._answer.sink is None:
            if not self.gone and not self._stopped:  # now its end is to be told
                self.word_by = min(self.word_by, self.scripts.context.now + _LINGER)
            self.settle()
            return
        if not self._answer.has_head:
            if self.gone or self._given_up:
                self._without_answer()
            else:
                self._linger_until = self.scripts.context.now + _LINGER  # how it ended is part of what is logged
            return
        if self._answer.finish():
            self.answered()

    def _without_answer(self) -> None:
        if self._answer.beginning:
            self.fail(502, f"its output ends within the head; it begins with {self._answer.beginning}")
        elif self._orphan and not self.pid:
            self.fail(503, "its spawner has ended")
        else:
            self.fail(502, "it wrote nothing")

    def answered(self) -> None:
        """The answer is whole, or what there is of it."""
        sink, self._answer.sink = self._answer.sink, None
        assert sink is not None
        self.output.drop()
        self.settle()
        hand_back(sink)

    def redirect(self, target: bytes) -> None:
        """The answer is that of another path."""
        sink, self._answer.sink = self._answer.sink, None
        assert sink is not None
        self.output.close()
        self.settle()
        sink.over = sink.ended = True
        sink.owner.redirect(sink, target)

    def fail(self, status: int, reason: str) -> None:
        """There will be no answer: say why, end the script, and tell the client."""
        sent = self._answer.sent
        sink, self._answer.sink = self._answer.sink, None
        self.stderr.read()
        if sink is not None:
            sink.name = self.id
            known: Any = {"pid": self.pid, "ended": self.pid and self._ended, "stderr": self.stderr.tail}
            reason += ", behind the beginning of its answer" if sent else ""
            errors = self.scripts.context.errors
            log = errors.limited((self.mount.key, reason), 1) if status == 503 else errors
            log.error(f"script failed: {reason}", script=self.found.file, request=sink.line, status=sent or status,
                      id=self.id, **{name: value for name, value in known.items() if value})  # fmt: skip
        self._stop()
        self.output.close()
        self.settle()
        if sink is not None:
            sink.fault = status
            sink.failure = RuntimeError(reason)
            hand_back(sink)

    def lost(self) -> None:
        """The client is gone."""
        if self._answer.sink is not None:
            self._answer.sink = None
            self._stop()
            self.output.close()
            self.settle()

    @property
    def id(self) -> str:
        """The name of the request, for the error log and the client."""
        self._id = self._id or self.scripts.new_id()
        return self._id

    @property
    def how_ended(self) -> str:
        """How its process ended, for people."""
        return self._ended or ""

    # Time and end

    def _progress(self) -> None:
        if self.state in (State.RUNNING, State.ANSWERED):
            self.deadline = self.scripts.context.now + self.mount.mount.timeout

    def postpone(self, seconds: float) -> None:
        """This process stood still for so long, and saw nothing of what others did meanwhile."""
        for name in ("deadline", "word_by", "asked_at", "_linger_until"):
            setattr(self, name, getattr(self, name) + seconds)
        self._started += seconds if self._started else 0.0

    def look(self, now: float) -> None:
        """Called ten times a second."""
        self.stderr.watch()
        if now >= self._linger_until and not self.output.paused:
            self._stop_lingering()
            return
        if self.output.paused or self._stdin.moved():
            self._progress()
        if self.word_by < _NEVER and not self.gone and self.state not in AHEAD:
            if now >= self.word_by:
                self.word_by, self.deadline = _NEVER, max(self.deadline, now + _HEARD)
                self.scripts.silent(self)
            return  # what its process does is not known
        longest = self.mount.mount.max_time
        if self.state in (State.RUNNING, State.ANSWERED) and longest and now - self._started >= longest:
            self._too_long(f"it ran for more than max_time ({longest:g} s)")
        elif now >= self.deadline and self._linger_until == _NEVER:  # else it is over, or about to be told
            self._expire()

    def _expire(self) -> None:
        self.deadline = _NEVER
        if self.state is State.QUEUED:
            self.fail(503, f"it waited for {self._waits_for} for longer than timeout")
        elif self.state in (State.WAITING, State.ASKED):
            self.scripts.silent(self)
            self.fail(503, "the launcher does not answer" if self.door is None else "its spawner does not answer")
        else:
            known = "it neither wrote nor read" if self._answer.sink is not None else "its end was not told"
            self._too_long(f"{known} for timeout ({self.mount.mount.timeout:g} s)")

    def _too_long(self, reason: str) -> None:
        if self._answer.sink is not None:
            if not self._answer.has_head and self._answer.beginning:
                reason += f", and was within the head; it begins with {self._answer.beginning}"
            self.fail(504, reason)
        elif not self.gone and not self._stopped:
            self.scripts.context.errors.warning(f"script ended behind its answer: {reason}", script=self.found.file,
                                                pid=self.pid)  # fmt: skip
            self._stop()

    def _stop_lingering(self) -> None:
        """Somebody whom the script has left behind holds its output, or its stderr."""
        self._linger_until = _NEVER
        if self.output.open and self._answer.sink is not None:
            self.output.read_all()
            if self.output.paused:  # the client takes its time, and whoever holds the output may be gone by then
                self._linger_until = self.scripts.context.now + _LINGER
                return
        if self.output.open and self._answer.sink is not None:
            self.scripts.context.errors.notice(
                "script has ended, but a process that it left behind holds its output: the answer ends here",
                script=self.found.file, pid=self.pid,
            )  # fmt: skip
        self.output.close()
        if self._answer.sink is not None:
            self._given_up = True
            self.output_ended()
        self.settle()
        self.stderr.close()
        self.settle()

    def settle(self) -> None:
        """The answer is over: see whether all else is, too."""
        if self._answer.sink is not None or self.state is State.OVER:
            return
        if self.gone:
            self.stderr.read()
        self._stdin.close()
        # ASKED: it may run by now, and what it does at TERM may be to write to stderr.
        never = self.state in (State.WAITING, State.QUEUED)
        if never or (self.gone and (not self.stderr.open or not self.pid)):
            self.state = State.OVER
            self.output.close()
            self.stderr.close()
            self.close_child_fds()
            self.scripts.over(self)
            if self.on_over is not None:
                self.on_over()
        else:
            if self.state in AHEAD:
                self.deadline = _NEVER  # it was for the first word of the spawner
            soon = self.scripts.context.now + _LINGER
            if self.state is not State.ANSWERED:
                self._answered_at = self.scripts.context.now
                self.word_by = self.word_by if self._stopped or self.output.open else min(self.word_by, soon)
            self.state = State.ANSWERED
            self._linger_until = min(self._linger_until, soon if self.gone else _NEVER)
