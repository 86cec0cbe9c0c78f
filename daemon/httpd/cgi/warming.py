"""The spawner's side of a warm interpreter (`warm_python`): what it runs, whether it answers and is up to date.

    run --> waits until it is ready, or answers again --> handed over --(pid)--> runs --(status)--> over
              +--> it ends: another one is started

Rules:

- It is run by that very interpreter, so versions, paths and packages are those of an exec.
- When the interpreter or a module that it has loaded changes on disk, it is let go when its scripts have ended, and
  another is started; this is looked at once in `_LOOK_SECONDS`.
- A script whose interpreter can't be warmed up is answered by 500 and the reason in the log, not run in another way.
- An interpreter that does not answer gets nothing more.  It is killed at last, and with it what it runs: nobody else
  could tell how that ends.  What it was not given is run by its successor.
"""

from __future__ import annotations

import array
import json
import marshal
import math
import os
import signal
import socket
import stat
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from httpd.cgi.jobs import signal_group
from httpd.cgi.process import Launch
from httpd.cgi.warm_process import WarmProcess
from httpd.config import schema
from httpd.system.children import ExitStatus

# What scripts import, where the configuration does not say it.  Every page of what is loaded costs at each fork and at
# each end of a script: about a tenth of a short run, by all of these.
_COMMON = (
    "collections.abc", "contextlib", "csv", "datetime", "functools", "hashlib", "html", "http.cookies", "io",
    "itertools", "json", "logging", "pathlib", "random", "re", "shutil", "string", "subprocess", "tempfile",
    "textwrap", "time", "traceback", "types", "typing", "urllib.parse",
)  # fmt: skip
_LOOK_SECONDS = 1.0
_LATE = 0.5  # seconds without an answer behind which it gets nothing more, and whoever waits is told
_HUNG = 10.0  # ... behind which it is killed
_HANGS_AT_START = 60.0  # ... of one that gets ready
_USUAL = 8192  # bytes of a message to it; the length of a longer one is told before
_NEWS = 256  # bytes
# Variables of which a client has a say: what one has sent is not kept for the scripts of others.
_SENT = (b"AUTH_", b"CONTENT_", b"HTTP_", b"PATH_", b"QUERY_", b"REMOTE_", b"REQUEST_URI", b"SERVER_NAME")
# Fields that most clients send.  Others of the first client are not expected: the next ones would have to undo them.
_FIELDS = {b"HTTP_ACCEPT", b"HTTP_ACCEPT_ENCODING", b"HTTP_ACCEPT_LANGUAGE", b"HTTP_COOKIE", b"HTTP_HOST",
           b"HTTP_REFERER", b"HTTP_USER_AGENT"}  # fmt: skip
_KINDS = {stat.S_IFIFO: 112, stat.S_IFCHR: 99}  # p and c; others are ?
_NEVER = float("inf")


class Host(Protocol):
    """The spawner."""

    def watch(self, fd: int, handler: Callable[[], None]) -> None: ...

    def forget(self, fd: int) -> None: ...

    def started(self, job: Any) -> None: ...

    def ended(self, job: Any, how: str) -> None: ...

    def decline(self, job: Any, status: int, reason: str) -> None: ...

    def delayed(self, job: Any) -> None: ...

    def resume(self, job: Any, launch: Launch) -> None: ...

    def note(self, text: str) -> None: ...


class Interpreter:
    """One warm interpreter, from its start to the end of its last script."""

    def __init__(self, command: tuple[bytes, ...], mount: schema.Cgi, environment: Mapping[bytes, bytes], nofile: int,
                 host: Host) -> None:  # fmt: skip
        """Starts it.  Raises OSError."""
        self._command = command
        self._name = os.fsdecode(b" ".join(command))
        self._host = host
        self._ready = False
        self._dismissed = False
        self._failure = ""
        self._gone = False
        self._waiting: dict[Any, tuple[Launch, bytes]] = {}  # what it has not been given yet, by job
        self._jobs: dict[int, Any] = {}
        self._numbers = 0
        self._numbered: dict[Any, int] = {}
        self._expected: dict[bytes, bytes] = {}  # variables that it has in place for all
        self._files: dict[str, tuple[int, int, int]] = {}
        self._look_at = 0.0
        self._unanswered: dict[int, float] = {}  # runs of which it has not said a word, and since when
        self._started = time.monotonic()
        self.due = self._started + _HANGS_AT_START  # when to look
        self._process = WarmProcess(command, environment, nofile)
        self._door = self._process.door
        if self._process.pidfd is not None:
            host.watch(self._process.pidfd, self._on_end)
        limits = mount.limits
        settings = {"modules": mount.warm_modules or _COMMON, "cpu": math.ceil(limits.cpu), "memory": limits.memory,
                    "files": limits.files}  # fmt: skip
        self._send(json.dumps(settings).encode())
        self._door.setblocking(False)
        host.watch(self._door.fileno(), self._on_door)

    def _on_end(self) -> None:
        """Its process has ended.  A process that it has left may hold the door."""
        self._process.reap(self._host.forget)
        while not self.pid and self._hear():
            pass
        if not self.pid and self._door.fileno() >= 0:
            self._died()

    def postpone(self, seconds: float) -> None:
        """See `WarmInterpreters.postpone`."""
        self._started += seconds
        self._unanswered = {number: since + seconds for number, since in self._unanswered.items()}

    def stale(self) -> bool:
        """Whether it does not run any more, or what it has loaded has changed."""
        now = time.monotonic()
        if self._dismissed or not self._ready or now < self._look_at:
            return self._dismissed
        self._look_at = now + _LOOK_SECONDS
        return any(_mark(file) != mark for file, mark in self._files.items())

    @property
    def pid(self) -> int:
        """Its process; 0: it has ended."""
        return self._process.pid if self._process.pidfd is not None else 0

    @property
    def closed(self) -> bool:
        """Whether it has ended."""
        return self._door.fileno() < 0 and not self.pid

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def dismiss(self) -> None:
        """No more scripts; it ends with its last."""
        self._dismissed = True
        if not self._jobs and not self._waiting:
            self._close()

    # Runs

    def run(self, job: Any, launch: Launch, script: bytes) -> None:
        """Have a script run."""
        if self._ready and not self._is_late(time.monotonic()) and self._hand_over(job, launch, script):
            return
        self._waiting[job] = launch, script
        self._host.delayed(job)

    def _is_late(self, now: float) -> bool:
        """Whether it has not said a word for a while, of what it was given."""
        return bool(self._unanswered) and now - next(iter(self._unanswered.values())) >= _LATE

    def _hand_over(self, job: Any, launch: Launch, script: bytes) -> bool:
        """False: there is no room, or it has ended; it is heard of in either case."""
        number = self._numbers + 1
        words = launch.arguments[launch.arguments.index(script) :]
        kinds = bytes(_KINDS.get(stat.S_IFMT(os.fstat(fd).st_mode), 63) for fd in job.fds)
        environment = self._environment(launch.environment)
        run = (number, script, list(words), kinds, launch.folder, environment)
        if environment is None or not self._tell(run, job.fds):
            if self._unanswered or self._gone or not self.pid:
                return False
            self._host.decline(job, 503, "it is too much for the warm interpreter")
            return True
        self._numbers = number
        self._numbered[job], self._jobs[number] = number, job
        now = time.monotonic()
        self._unanswered[number] = now
        self.due = min(self.due, now + _LATE)
        return True

    def _environment(self, wanted: Mapping[bytes, bytes]) -> bytes | None:
        """In what it differs from what is in place, which is like the first script's; None: there is no room."""
        if not self._expected:
            usual = {name: value for name, value in wanted.items() if not name.startswith(b"HTTP_") or name in _FIELDS}
            expected = {name: b"" if name.startswith(_SENT) else value for name, value in usual.items()}
            if not self._tell(expected):
                return None
            self._expected = expected
        there = self._expected
        changes = {name: value for name, value in wanted.items() if there.get(name) != value}
        return marshal.dumps((changes, [name for name in there if name not in wanted]), 2)

    def _hand_over_all(self) -> None:
        while self._waiting:
            job, (launch, script) = next(iter(self._waiting.items()))
            if not self._hand_over(job, launch, script):
                return
            self._waiting.pop(job, None)
        self._close_if_done()

    def look(self, now: float) -> None:
        """See whether it answers; kill it, where it has not for long, or does not end."""
        if self._door.fileno() < 0:
            self._process.kill()
            self.due = _NEVER
            return
        oldest = next(iter(self._unanswered.values()), now)
        if now - oldest >= _HUNG or (not self._ready and now - self._started >= _HANGS_AT_START):
            self._failure = "it did not answer, and was killed"
            self._process.kill()
        for number, since in self._unanswered.items():
            if _LATE <= now - since < _HUNG:
                self._host.delayed(self._jobs[number])
        if not self._ready:
            self.due = max(self._started + _HANGS_AT_START, now + _LATE)
        else:
            self.due = now + _LATE if self._unanswered else _NEVER

    def signal(self, job: Any, number: int) -> None:
        """Send a signal to the group of a script."""
        if self._waiting.pop(job, None) is not None:
            self._close_if_done()
            self._host.decline(job, 503, "it was told to forget it")
        elif job in self._numbered:
            self._tell((self._numbered[job], int(number)))

    def _over(self, job: Any) -> None:
        number = self._numbered.pop(job)
        self._jobs.pop(number, None)
        self._unanswered.pop(number, None)
        self._close_if_done()

    def _close_if_done(self) -> None:
        if self._dismissed and not self._jobs and not self._waiting:
            self._close()

    # What it says

    def _tell(self, what: Any, fds: list[int] | tuple[int, ...] = ()) -> bool:
        message = marshal.dumps(what, 2)
        return (len(message) <= _USUAL or self._tell(len(message))) and self._send(message, fds)

    def _send(self, message: bytes, fds: list[int] | tuple[int, ...] = ()) -> bool:
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._door.sendmsg([message], extra)
        except OSError as error:
            self._gone = isinstance(error, ConnectionError)  # its end will be told
            return False
        return True

    def _on_door(self) -> None:
        self._hear()

    def _hear(self) -> bool:
        """Take what it says; False: there is nothing more for now."""
        try:
            data = self._door.recv(_NEWS if self._ready else 1 << 20)
        except ConnectionResetError:  # it has left something unread; what it has said comes behind this
            return True
        except OSError:
            return False
        if not data:
            self._died()
            return False
        if data.startswith(b"{"):
            self._on_first(json.loads(data))
        else:
            what, number, value = data.split()
            self._on_news(what, int(number), int(value))
        return True

    def _on_first(self, message: dict[str, Any]) -> None:
        self._failure = message.get("failed", "").encode("utf-8", "backslashreplace").decode()
        if "ready" in message:
            self._ready, self.due = True, _NEVER
            self._process.close_said()
            self._look_at = time.monotonic() + _LOOK_SECONDS
            self._files = {file: _mark(file) for file in [os.fsdecode(self._command[0]), *message["ready"]]}
            self._hand_over_all()

    def _on_news(self, what: bytes, number: int, value: int) -> None:
        job = self._jobs.get(number)
        if job is None:
            return
        if what == b"pid":
            job.pid = value
            self._unanswered.pop(number, None)
            self._host.started(job)
        else:
            self._over(job)
            if what == b"errno":
                self._host.decline(job, 503, f"no process to be had: {os.strerror(value)}")
            else:
                self._host.ended(job, _how(value).text)
        if self._waiting and not self._is_late(time.monotonic()):
            self._hand_over_all()

    def _died(self) -> None:
        failure = self._failure or self._process.last_words()
        reason = f"its warm interpreter {self._name!r} has ended" + (f": {failure}" if failure else "")
        if self._ready or not self._waiting:  # else who waits for it is told
            self._host.note(reason)
        self._dismissed = True
        self._close()
        for job in list(self._jobs.values()):
            self._over(job)
            if job.pid:
                signal_group(job.pid, signal.SIGKILL)
                self._host.ended(job, reason)
            else:
                self._host.decline(job, 503 if self._ready else 500, reason)  # the next one may serve it
        waiting, self._waiting = self._waiting, {}
        for job, (launch, _) in waiting.items():
            if self._ready:
                self._host.resume(job, launch)
            else:
                self._host.decline(job, 500, reason)

    def _close(self) -> None:
        if self._door.fileno() >= 0:
            self._host.forget(self._door.fileno())
            self._door.close()
        self.due = time.monotonic() + _HUNG if self.pid else _NEVER
        self._process.close_said()


def _mark(file: str) -> tuple[int, int, int]:
    try:
        found = os.stat(file)
    except OSError:
        return (0, 0, 0)
    return (found.st_ino, found.st_size, found.st_mtime_ns)


def _how(status: int) -> ExitStatus:
    if os.WIFSIGNALED(status):
        return ExitStatus(signal=os.WTERMSIG(status), core=os.WCOREDUMP(status))
    return ExitStatus(code=os.WEXITSTATUS(status))
