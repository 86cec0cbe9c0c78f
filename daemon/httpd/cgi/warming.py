"""The spawner's side of warm interpreters (`warm_python`): what they run, whether they answer and are up to date.

Rules:

- There is one for each interpreter with its options (`cgi.pythons`).
- It is run by that very interpreter, so versions, paths and packages are those of an exec.
- When the interpreter or a module that it has loaded changes on disk, it is let go when its scripts have ended, and
  another is started; this is looked at once in `_LOOK_SECONDS`.
- A script whose interpreter can't be warmed up is answered by 500 and the reason in the log, not run in another way.
- An interpreter that does not answer is killed, and with it what it runs: nobody else could tell how that ends.
"""

from __future__ import annotations

import array
import contextlib
import fcntl
import json
import marshal
import math
import os
import resource
import signal
import socket
import stat
import tempfile
import time
from collections.abc import Callable, Mapping
from importlib import resources
from typing import Any, Protocol

from httpd.cgi.jobs import signal_group
from httpd.cgi.process import Launch
from httpd.cgi.pythons import command_of
from httpd.config import schema
from httpd.system import children
from httpd.system.children import ExitStatus
from httpd.system.signals import CHANGEABLE

# What most scripts import; a script that does not has paid nothing for it.
_COMMON = (
    "collections.abc", "contextlib", "csv", "datetime", "functools", "hashlib", "html", "http.cookies", "io",
    "itertools", "json", "logging", "pathlib", "random", "re", "shutil", "string", "subprocess", "tempfile",
    "textwrap", "time", "traceback", "types", "typing", "urllib.parse",
)  # fmt: skip
# Before its user can't read it any more.
_SOURCE = b"\0".join(resources.files("httpd.cgi").joinpath(name).read_bytes() for name in ("warm_script.py", "warm.py"))
_LOOK_SECONDS = 1.0
_LATE = 1.0  # seconds without an answer behind which whoever waits is told
_HUNG = 10.0  # ... behind which it is killed
_HANGS_AT_START = 60.0  # ... of one that gets ready
_SAID = 4096  # bytes of what it wrote to stderr before it was ready, that are looked at
_KINDS = {stat.S_IFIFO: 112, stat.S_IFCHR: 99}  # p and c; others are ?
_NEVER = float("inf")
_BOOT = b"import os\nfor text in os.read(3, 65536).split(b'\\0'): exec(compile(text, 'httpd', 'exec'))"


class Host(Protocol):
    """The spawner."""

    def watch(self, fd: int, handler: Callable[[], None]) -> None: ...

    def forget(self, fd: int) -> None: ...

    def started(self, job: Any) -> None: ...

    def ended(self, job: Any, how: str) -> None: ...

    def decline(self, job: Any, status: int, reason: str) -> None: ...

    def delayed(self, job: Any) -> None: ...


class WarmInterpreters:
    """Those of one mount."""

    def __init__(self, mount: schema.Cgi, environment: Mapping[bytes, bytes], nofile: int, host: Host) -> None:
        """`nofile` is the soft limit on open files that scripts have."""
        self._mount = mount
        self._environment = environment
        self._nofile = nofile
        self._host = host
        self._known: dict[tuple[bytes, ...], Interpreter] = {}

    def start(self, job: Any, launch: Launch) -> bool:
        """Have a run done; False: it is not for a warm interpreter.  Raises OSError."""
        command, script = command_of(launch)
        if not command:
            return False
        found = self._known.get(command)
        if found is None or found.stale():
            if found is not None:
                found.dismiss()
            found = Interpreter(command, self._mount, self._environment, self._nofile, self._host)
            self._known[command] = found
        job.warm = found
        found.run(job, launch, script)
        return True

    @property
    def due(self) -> float:
        """When to look, monotonic seconds."""
        return min((known.due for known in self._known.values()), default=_NEVER)

    def look(self, now: float) -> None:
        """See to those that do not answer."""
        for known in list(self._known.values()):
            if now >= known.due:
                known.look(now)


class Interpreter:
    """One warm interpreter, from its start to the end of its last script."""

    def __init__(self, command: tuple[bytes, ...], mount: schema.Cgi, environment: Mapping[bytes, bytes], nofile: int,
                 host: Host) -> None:  # fmt: skip
        """Starts it.  Raises OSError."""
        self._command = command
        self._host = host
        self._ready = False
        self._dismissed = False
        self._failure = ""
        self._waiting: list[tuple[Any, bytes]] = []
        self._jobs: dict[int, Any] = {}
        self._numbers = 0
        self._numbered: dict[Any, int] = {}
        self._files: dict[str, tuple[int, int, int]] = {}
        self._look_at = 0.0
        self._unanswered: dict[int, float] = {}  # runs of which it has not said a word, and since when
        self._said = _file_without_name()
        self._started = time.monotonic()
        self.due = self._started + _HANGS_AT_START  # when to look
        self._door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # a large environment
        with theirs:
            self._pid = self._spawn(theirs, environment, nofile)
        self._pidfd = children.watch(self._pid)
        if self._pidfd is not None:
            host.watch(self._pidfd, self._reap)
        limits = mount.limits
        settings = {"modules": [*_COMMON, *mount.warm_modules], "cpu": math.ceil(limits.cpu), "memory": limits.memory,
                    "files": limits.files}  # fmt: skip
        self._send(json.dumps(settings).encode())
        self._door.setblocking(False)
        host.watch(self._door.fileno(), self._on_door)

    def _spawn(self, theirs: socket.socket, environment: Mapping[bytes, bytes], nofile: int) -> int:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with contextlib.ExitStack() as stack:
            source, writer = os.pipe()
            stack.callback(os.close, source)
            with open(writer, "wb", buffering=0) as pipe:
                pipe.write(_SOURCE)  # less than a pipe holds
            null = os.open(os.devnull, os.O_RDWR)
            stack.callback(os.close, null)
            # Some may have the number that another is to get: by way of numbers that are nobody's.
            high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 10) for fd in (source, theirs.fileno(), self._said, 2)]
            for fd in high:
                stack.callback(os.close, fd)
            resource.setrlimit(resource.RLIMIT_NOFILE, (nofile, hard))
            stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
            os.chdir("/")
            pairs = ((null, 0), (null, 1), (high[2], 2), (high[0], 3), (high[1], 4), (high[3], 5))
            return os.posix_spawn(
                self._command[0], [*self._command, b"-c", _BOOT], environment, setsid=True, setsigmask=(),
                file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for fd, number in pairs],
                setsigdef=CHANGEABLE,
            )  # fmt: skip

    def _reap(self) -> None:
        if self._pidfd is not None and children.reap(self._pid, self._pidfd) is not None:
            self._host.forget(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def stale(self) -> bool:
        """Whether it does not run any more, or what it has loaded has changed."""
        now = time.monotonic()
        if self._dismissed or not self._ready or now < self._look_at:
            return self._dismissed
        self._look_at = now + _LOOK_SECONDS
        return any(_mark(file) != mark for file, mark in self._files.items())

    def dismiss(self) -> None:
        """No more scripts; it ends with its last."""
        self._dismissed = True
        if not self._jobs and not self._waiting:
            self._close()

    def run(self, job: Any, launch: Launch, script: bytes) -> None:
        """Have a script run."""
        self._numbers += 1
        self._numbered[job] = self._numbers
        words = launch.arguments[launch.arguments.index(script) :]
        environment = marshal.dumps(dict(launch.environment), 2)
        kinds = bytes(_KINDS.get(stat.S_IFMT(os.fstat(fd).st_mode), 63) for fd in job.fds)
        message = marshal.dumps((self._numbers, script, list(words), kinds, launch.folder, environment), 2)
        self._jobs[self._numbers] = job
        if self._ready:
            self._hand_over(job, message)
        else:
            self._waiting.append((job, message))
            self._host.delayed(job)

    def _hand_over(self, job: Any, message: bytes) -> None:
        if not self._send(message, job.fds):
            self._over(job)
            self._host.decline(job, 503, "the warm interpreter takes no more")
            return
        self._unanswered[self._numbered[job]] = time.monotonic()
        self.due = min(self.due, time.monotonic() + _LATE)

    def look(self, now: float) -> None:
        """See whether it answers; kill it, where it has not for long."""
        oldest = next(iter(self._unanswered.values()), now)
        if now - oldest >= _HUNG or (not self._ready and now - self._started >= _HANGS_AT_START):
            self._failure = "it did not answer, and was killed"
            if self._pidfd is not None:
                children.kill(self._pid, self._pidfd, signal.SIGKILL)
        for number, since in self._unanswered.items():
            if _LATE <= now - since < _HUNG:
                self._host.delayed(self._jobs[number])
        if not self._ready:
            self.due = self._started + _HANGS_AT_START
        else:
            self.due = now + _LATE if self._unanswered else _NEVER

    def signal(self, job: Any, number: int) -> None:
        """Send a signal to the group of a script."""
        waiting = [pair for pair in self._waiting if pair[0] is job]
        if waiting:
            self._waiting.remove(waiting[0])
            self._over(job)
            self._host.ended(job, "ended before it began")
        elif job in self._numbered:
            self._send(marshal.dumps((self._numbered[job], int(number)), 2))

    def _over(self, job: Any) -> None:
        number = self._numbered.pop(job)
        self._jobs.pop(number, None)
        self._unanswered.pop(number, None)
        if self._dismissed and not self._jobs and not self._waiting:
            self._close()

    def _send(self, message: bytes, fds: list[int] | tuple[int, ...] = ()) -> bool:
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self._door.sendmsg([message], extra)
        except OSError:
            return False
        return True

    def _on_door(self) -> None:
        try:
            data = self._door.recv(1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._died()
            return
        if data.startswith(b"{"):
            self._on_first(json.loads(data))
        else:
            what, number, value = data.split()
            self._on_news(what, int(number), int(value))

    def _on_first(self, message: dict[str, Any]) -> None:
        self._failure = message.get("failed", "")
        if "ready" in message:
            self._ready, self.due = True, _NEVER
            self._close_said()
            self._look_at = time.monotonic() + _LOOK_SECONDS
            self._files = {file: _mark(file) for file in [os.fsdecode(self._command[0]), *message["ready"]]}
            waiting, self._waiting = self._waiting, []
            for job, wanted in waiting:
                self._hand_over(job, wanted)

    def _on_news(self, what: bytes, number: int, value: int) -> None:
        job = self._jobs.get(number)
        if job is None:
            return
        if what == b"pid":
            job.pid = value
            self._unanswered.pop(number, None)
            self._host.started(job)
            return
        self._over(job)
        if what == b"errno":
            self._host.decline(job, 503, f"no process to be had: {os.strerror(value)}")
        else:
            self._host.ended(job, _how(value).text)

    def _died(self) -> None:
        self._dismissed = True
        jobs = list(self._jobs.values())
        name = os.fsdecode(b" ".join(self._command))
        failure = self._failure or (_last_line(self._said) if self._said >= 0 else "")
        reason = f"its warm interpreter {name!r} has ended" + (f": {failure}" if failure else "")
        self._close()
        for job in jobs:
            self._over(job)
            if job.pid:
                signal_group(job.pid, signal.SIGKILL)
                self._host.ended(job, reason)
            else:
                self._host.decline(job, 503 if self._ready else 500, reason)  # the next one may serve it

    def _close(self) -> None:
        if self._door.fileno() >= 0:
            self._host.forget(self._door.fileno())
            self._door.close()
        self.due = _NEVER
        self._close_said()

    def _close_said(self) -> None:
        if self._said >= 0:
            os.close(self._said)
            self._said = -1


def _file_without_name() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stderr")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _last_line(fd: int) -> str:
    size = os.fstat(fd).st_size
    lines = os.pread(fd, _SAID, max(0, size - _SAID)).decode("utf-8", "replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


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
