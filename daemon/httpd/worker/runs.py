"""One run of a script, from its request to the last byte of its answer and the last line of its stderr.

    WAITING --> ASKED --(QUEUED)--> RUNNING --> output over, process over --> OVER
       +-----------+----------------+--> failed: 503, 504, 502 ... or the answer is cut off

Rules:

- Output is passed on as it comes.  An answer that is complete within a moment leaves as a whole, with its length.
- A client that takes its time makes the script wait, not this process: past so many bytes nothing more is read, and
  the script's time does not run.
- The answer is over with the script's output.  Where somebody else holds that open behind the script's end, it is over
  a moment later.
- Whoever waits for a run that will give no answer is told why in the error log: the first line, the last words, how the
  process ended.
"""

from __future__ import annotations

import enum
import os
from typing import TYPE_CHECKING, Any

from httpd.cgi.answer import BadOutput, Head, HeadReader, is_nph
from httpd.cgi.lookup import Found
from httpd.cgi.stderr import Stderr
from httpd.protocol.writer import OPEN
from httpd.server.heads import BadAnswer
from httpd.system.poller import IN

if TYPE_CHECKING:
    from httpd.worker.doors import Scripts, Spawning
    from httpd.worker.script_mount import ScriptMount
    from httpd.worker.scripting import ScriptExchange

_READ = 64 * 1024  # bytes of one read; what a pipe holds
_TURN = 256 * 1024  # bytes of output that are taken in one round
_ROOM = 256 * 1024  # bytes that wait for the client above which the script waits
_HOLD = 0.003  # seconds that the beginning of an answer is held for the rest of it
_HELD = 128 * 1024  # bytes above which it is not
_LINGER = 2.0  # seconds that output, or stderr, may stay open behind the script's end
_NEVER = float("inf")


class State(enum.Enum):
    WAITING = "waiting"  # for a spawner
    ASKED = "asked"
    QUEUED = "queued"
    RUNNING = "running"
    ANSWERED = "answered"  # the process, or its stderr, is still there
    OVER = "over"


_AHEAD = (State.WAITING, State.ASKED, State.QUEUED)


class ScriptRun:
    """See the head of this file.  `sink` is who gets the answer."""

    def __init__(self, scripts: Scripts, mount: ScriptMount, found: Found, sink: ScriptExchange,
                 environment: dict[bytes, bytes], words: list[bytes], stdin: int) -> None:  # fmt: skip
        """`stdin` is taken over, unless it is `scripts.null`."""
        self.scripts = scripts
        self.mount = mount
        self.found = found
        self.environment = environment
        self.words = words
        self.number = 0
        self.door: Spawning | None = None
        self.deadline = _NEVER
        self.hold_until = _NEVER
        self.state = State.WAITING
        self.pid = 0
        self._sink: ScriptExchange | None = sink
        self._nph = is_nph(found.name.rpartition(b"/")[2])
        self._reader = HeadReader(scripts.context.limits.head)
        self._head: Head | None = None
        self._begun = False  # the answer has left, in part at least
        self._pieces: list[bytes] = []
        self._output = 0
        self._stderr = Stderr()
        self._started = 0.0
        self._ended: str | None = None
        self._orphan = False
        self._stopped = False
        self._id = "-"
        self._linger_until = _NEVER
        self._consumed = -1
        self._paused = False
        self._stdin_progress = os.dup(stdin) if stdin != scripts.null and not _is_pipe(stdin) else -1
        self._out, out = os.pipe()
        self._err, err = os.pipe()
        os.set_blocking(self._out, False)
        os.set_blocking(self._err, False)
        self._watching_err = False
        self.child_fds: tuple[int, ...] = (stdin, out, err)
        scripts.context.watch(self._out, IN, 0, self._on_output)

    def close_child_fds(self) -> None:
        """The script's ends are on their way to it."""
        for fd in self.child_fds:
            if fd != self.scripts.null:
                os.close(fd)
        self.child_fds = ()

    # What its spawner says

    def queued(self) -> None:
        self.state = State.QUEUED
        self.deadline = self.scripts.context.now + self.mount.mount.timeout

    def started(self, pid: int) -> None:
        self.pid = pid
        self._started = self.scripts.context.now
        if self.state is not State.ANSWERED:
            self.state = State.RUNNING
        self._progress()

    def declined(self, status: int, reason: str) -> None:
        self._ended = "it was not run"
        self.fail(status, reason)

    def ended(self, pid: int, how: str) -> None:
        self.pid = pid
        if self.state in _AHEAD:
            self.state = State.RUNNING
        self._ended = how
        self._linger_until = self.scripts.context.now + _LINGER
        if self._sink is None:
            self._finish_stderr()
        elif self._out < 0:
            self._without_answer()
        else:
            self._on_output(0)  # it is all there, most likely

    def orphaned(self) -> None:
        """Its spawner is gone: it goes on, and nobody can tell how it ends, or end it."""
        self.door = None
        if self.state in _AHEAD:
            self.fail(503, "its spawner has ended")
            return
        self._orphan = True
        if self._sink is None:
            self._finish_stderr()
        elif self._out < 0:
            self._without_answer()

    @property
    def _gone(self) -> bool:
        """Nothing more will be heard of the process."""
        return self._ended is not None or self._orphan

    def _stop(self) -> None:
        self.deadline = _NEVER
        if not self._stopped and not self._gone and self.state is not State.OVER:
            self._stopped = True
            self.scripts.stop(self)

    # Output

    def _on_output(self, mask: int) -> None:
        taken = 0
        while self._out >= 0 and taken < _TURN:
            try:
                data = os.read(self._out, _READ)
            except BlockingIOError:
                break
            if not data:
                self._close_output()
                self._end_of_output()
                return
            taken += len(data)
            if self._sink is not None and not self._take(data):
                return
        if taken:
            self._progress()
            if self._sink is not None and self._head_is_there:
                self._hold_or_send()

    def _take(self, data: bytes) -> bool:
        """Take a piece of output; False: there will be no more."""
        if self._nph:
            return self._write(data)
        if self._head is None:
            try:
                if not self._reader.feed(data):
                    return True
            except BadOutput as error:
                self.fail(502, error.reason)
                return False
            self._head, data = self._reader.head, self._reader.rest
            assert self._head is not None
            if self._head.local:
                self._redirect(self._head.local)
                return False
        self._output += len(data)
        limit = self.mount.mount.limits.output
        if limit and self._output > limit:
            self.fail(502, f"its output is more than limits.output ({limit} bytes)")
            return False
        return self._write(data) if self._begun else self._keep(data)

    @property
    def _head_is_there(self) -> bool:
        return self._nph or self._head is not None

    def _keep(self, data: bytes) -> bool:
        if data:
            self._pieces.append(data)
        return True

    def _hold_or_send(self) -> None:
        if not self._begun and not self._nph and self._output < _HELD:
            if self.hold_until == _NEVER:
                self.hold_until = self.scripts.context.now + _HOLD
                self.scripts.held.append(self)
            if self.scripts.context.now < self.hold_until:
                return
        self.release()

    @property
    def holds(self) -> bool:
        """Whether there is something to be released."""
        return self._sink is not None and not self._begun and self._head_is_there

    def release(self) -> None:
        """Send what is there."""
        sink = self._sink
        if sink is None or (not self._begun and not self._begin(None)):
            return
        sink.owner.forward(sink)
        if self._sink is sink and sink.wfile.queued > _ROOM and self._out >= 0 and not self._paused:
            self._paused = True
            sink.room = self  # type: ignore[assignment]  # `set` is all that is asked of it
            self.scripts.context.forget(self._out)

    def set(self) -> None:
        """The client has taken much of what waited for it."""
        if self._paused and self._out >= 0:
            self._paused = False
            self.scripts.context.watch(self._out, IN, 0, self._on_output)
            self._progress()

    def _begin(self, length: int | None) -> bool:
        """Send the head, and what there is of the body; `length`: the whole body's, where it is known."""
        self._begun = True
        if self._nph:
            return True
        head = self._head
        assert head is not None
        announced = head.length if head.length is not None else length
        lines = head.lines()
        if announced is not None:
            lines += b"Content-Length: %d\r\n" % announced
        preamble = self.scripts.context.preambles.get(head.status, OPEN)
        start, _, rest = preamble.partition(b"\r\n")
        status_line = b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)
        pieces, self._pieces = self._pieces, []
        return self._write(b"%b%b%b\r\n%b" % (status_line, rest, lines, b"".join(pieces)))

    def _write(self, data: bytes) -> bool:
        assert self._sink is not None
        if self._nph:
            self._begun = True
        try:
            if data:
                self._sink.wfile.write(data)
        except BadAnswer as error:
            self.fail(502, f"no HTTP answer, as a script of this name has to write: {error}")
            return False
        except OSError:
            return False
        return True

    def _end_of_output(self) -> None:
        if self._sink is None:
            self._finish_stderr()
            return
        head = self._head
        if head is None and not self._nph:
            if self._gone:
                self._without_answer()
            else:
                self._linger_until = self.scripts.context.now + _LINGER  # how it ended is part of what is logged
            return
        sink = self._sink
        if not self._begun:
            assert head is not None
            bodiless = sink.command == "HEAD" or head.status in (204, 304)
            if head.length is not None and self._output < head.length and not bodiless:
                self.fail(502, f"it promised {head.length} bytes and sent {self._output}")
                return
            if not self._begin(None if bodiless else self._output):
                return
        self._answered()

    def _without_answer(self) -> None:
        if self._reader.begun:
            self.fail(502, f"its output ends within the head; it begins with {self._reader.first_line}")
        else:
            self.fail(502, "it wrote nothing")

    def _answered(self) -> None:
        """The answer is whole, or what there is of it."""
        sink, self._sink = self._sink, None
        assert sink is not None
        self._read_stderr()
        self._settle()
        sink.close_connection = False
        sink.over = sink.ended = True
        sink.owner.answered(sink)

    def _redirect(self, target: bytes) -> None:
        sink, self._sink = self._sink, None
        assert sink is not None
        self._close_output()
        self._settle()
        sink.over = sink.ended = True
        sink.owner.redirect(sink, target)

    def fail(self, status: int, reason: str) -> None:
        """There will be no answer: say why, end the script, and tell the client."""
        sink, self._sink = self._sink, None
        self._read_stderr()
        name = ""
        if sink is not None:
            name = sink.name = sink.name or self.scripts.new_id()
            known: dict[str, Any] = {"pid": self.pid} if self.pid else {}
            if self._ended and self.pid:
                known["ended"] = self._ended
            if self._stderr.last_words:
                known["stderr"] = self._stderr.last_words
            errors = self.scripts.context.errors
            log = errors.limited(f"scripts {self.mount.key}", 1) if status == 503 else errors
            log.error(f"script failed: {reason}", script=self.found.file, request=sink.line, status=status, id=name,
                      **known)  # fmt: skip
        self._stop()
        self._close_output()
        self._settle()
        if sink is not None:
            sink.fault = status
            sink.failure = RuntimeError(reason)
            sink.close_connection = False
            sink.over = sink.ended = True
            sink.owner.answered(sink)

    def lost(self) -> None:
        """The client is gone."""
        if self._sink is not None:
            self._sink = None
            self._stop()
            self._close_output()
            self._settle()

    def _close_output(self) -> None:
        if self._out >= 0:
            if not self._paused:
                self.scripts.context.forget(self._out)
            os.close(self._out)
            self._out = -1

    # Stderr

    def _read_stderr(self) -> bool:
        """Log what is there; False: it is closed."""
        if self._err < 0:
            return False
        taken = 0
        while taken < _TURN:
            try:
                data = os.read(self._err, _READ)
            except BlockingIOError:
                return True
            if not data:
                self._log_stderr(self._stderr.end())
                self._close_stderr()
                return False
            taken += len(data)
            self._log_stderr(self._stderr.feed(data))
        return True

    def _on_stderr(self, mask: int) -> None:
        if not self._read_stderr():
            self._settle()

    def _close_stderr(self) -> None:
        if self._err >= 0:
            if self._watching_err:
                self.scripts.context.forget(self._err)
            os.close(self._err)
            self._err = -1

    def _log_stderr(self, lines: list[str]) -> None:
        if not lines:
            return
        allowance, log, now = self.mount.allowance, self.scripts.context.errors, self.scripts.context.now
        sink = self._sink
        if sink is not None and not sink.name:
            sink.name = self.scripts.new_id()
        self._id = self._id if sink is None else sink.name
        for line in lines:
            if allowance.take(now):
                dropped = allowance.settle()
                if dropped:
                    log.warning("lines of scripts' stderr were not logged: too many", mount=self.mount.key, lines=dropped)
                log.info(f"stderr: {line}", script=self.found.file, pid=self.pid, id=self._id)

    def _finish_stderr(self) -> None:
        self._read_stderr()
        self._settle()

    # Time and end

    def _progress(self) -> None:
        if self.state in (State.RUNNING, State.ANSWERED):
            self.deadline = self.scripts.context.now + self.mount.mount.timeout

    def look(self, now: float) -> None:
        """Called ten times a second."""
        if not self._watching_err and self._err >= 0:
            self._watching_err = True
            self.scripts.context.watch(self._err, IN, 0, self._on_stderr)
        if now >= self._linger_until:
            self._stop_lingering()
            return
        if self.state is State.RUNNING and self._stdin_progress >= 0:
            self._look_at_stdin()
        if self._paused:
            self._progress()
        longest = self.mount.mount.max_time
        if self.state in (State.RUNNING, State.ANSWERED) and longest and now - self._started >= longest:
            self._too_long(f"it ran for more than max_time ({longest:g} s)")
        elif now >= self.deadline:
            self._expire()

    def _expire(self) -> None:
        self.deadline = _NEVER
        if self.state is State.QUEUED:
            self.fail(503, "it waited for its turn for longer than timeout")
        elif self.state in (State.WAITING, State.ASKED):
            self.scripts.silent(self)
            self.fail(503, "the launcher does not answer" if self.door is None else "its spawner does not answer")
        else:
            self._too_long(f"it neither wrote nor read for timeout ({self.mount.mount.timeout:g} s)")

    def _too_long(self, reason: str) -> None:
        if self._sink is not None:
            self.fail(504, reason)
        elif not self._gone and not self._stopped:
            self.scripts.context.errors.warning(f"script ended behind its answer: {reason}", script=self.found.file,
                                                pid=self.pid)  # fmt: skip
            self._stop()

    def _look_at_stdin(self) -> None:
        at = os.lseek(self._stdin_progress, 0, os.SEEK_CUR)
        if at != self._consumed:
            self._consumed = at
            self._progress()

    def _stop_lingering(self) -> None:
        """Somebody whom the script has left behind holds its output, or its stderr."""
        self._linger_until = _NEVER
        if self._out >= 0 and self._sink is not None:
            self.scripts.context.errors.notice(
                "script has ended, but a process that it left behind holds its output: the answer ends here",
                script=self.found.file, pid=self.pid,
            )  # fmt: skip
        self._close_output()
        if self._sink is not None:
            self._ended = self._ended or "its end is not known"
            self._end_of_output()
        self._read_stderr()
        self._close_stderr()
        self._settle()

    def _settle(self) -> None:
        """The answer is over: see whether all else is, too."""
        if self._sink is not None or self.state is State.OVER:
            return
        if self._stdin_progress >= 0:
            os.close(self._stdin_progress)
            self._stdin_progress = -1
        if self.state in _AHEAD or (self._gone and (self._err < 0 or not self.pid)):
            self.state = State.OVER
            self._close_output()
            self._close_stderr()
            self.close_child_fds()
            self.scripts.over(self)
        else:
            self.state = State.ANSWERED
            self._linger_until = min(
                self._linger_until, self.scripts.context.now + _LINGER if self._gone else _NEVER
            )


def _is_pipe(fd: int) -> bool:
    try:
        os.lseek(fd, 0, os.SEEK_CUR)
    except OSError:
        return True
    return False

