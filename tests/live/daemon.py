"""The real daemon in a folder of its own, for live tests.

    place = Place()                     a folder that www-data can reach, with a `www` in it
    daemon = Daemon(place); daemon.start(config)        returns when workers are ready
    daemon.close()                      stops it, kills its whole group, and looks at what it logged

Rules:

- Whatever is logged at warning or above, and whatever else appears on stderr, must have been announced by `expect`.
- Waiting is always for an event (a datagram, a line, a process' end), with a deadline; nothing sleeps for a fixed time.
- A daemon never outlives its test, whatever happened.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import pwd
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

SOURCE = Path(__file__).resolve().parents[2] / "daemon"
PATIENCE = 20.0  # seconds until a test gives up waiting; nothing takes so long on a machine that is not overloaded
HTTPD = [sys.executable, "-m", "httpd"]
HTTPD_CTL = [sys.executable, "-c", "from httpd.control.ctl import main; raise SystemExit(main())"]

# Compiled once for all the daemons of a run, whatever the caller thinks of writing bytecode; outside the tree.
_BYTECODE = tempfile.mkdtemp(prefix="httpd-live-bytecode-")
atexit.register(shutil.rmtree, _BYTECODE, ignore_errors=True)

T = TypeVar("T")

_ENTRY = re.compile(r"\S+ \[(\w+)\] [^:]*: (.*)")


def environment(more: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a program under test: this tree's httpd."""
    environ = {**os.environ, "PYTHONPATH": str(SOURCE), "PYTHONPYCACHEPREFIX": _BYTECODE, **(more or {})}
    environ.pop("PYTHONDONTWRITEBYTECODE", None)
    return environ


def eventually(look: Callable[[], T], what: str, seconds: float = PATIENCE) -> T:
    """What `look` returns as soon as it is true.  For things that tell nobody when they happen."""
    until = time.monotonic() + seconds
    pause = 0.002
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"not within {seconds:.0f} s: {what}")
        time.sleep(pause)
        pause = min(0.05, pause * 1.5)


class Place:
    """A folder below the system's temporary one that every user can enter."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="httpd-live-"))
        self.path.chmod(0o755)
        self.www = self.path / "www"
        self.www.mkdir(mode=0o755)

    def write(self, name: str | bytes, data: bytes = b"", mode: int = 0o644) -> Path:
        """A file below the folder; missing folders are made."""
        path = self.path / os.fsdecode(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
        return path

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)


class Lines:
    """Collects the lines of a pipe in a thread.  `ended` is set when nobody holds its other end any more."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._collect, daemon=True)
        self._thread.start()

    def _collect(self) -> None:
        with open(self._fd, "rb", buffering=0) as pipe:
            rest = b""
            while data := pipe.read(65536):
                *lines, rest = (rest + data).split(b"\n")
                with self._changed:
                    self._lines += [line.decode("utf-8", "replace") for line in lines]
                    self._changed.notify_all()
            with self._changed:
                if rest:
                    self._lines.append(rest.decode("utf-8", "replace"))
                self._changed.notify_all()
        self.ended.set()

    def all(self) -> list[str]:
        with self._changed:
            return list(self._lines)

    def find(self, pattern: str) -> list[str]:
        """All lines so far in which `pattern` (a regular expression) is found."""
        return [line for line in self.all() if re.search(pattern, line)]

    def wait(self, pattern: str, count: int = 1, seconds: float = PATIENCE) -> str:
        """The `count`-th line in which `pattern` is found, now or as soon as it comes."""
        with self._changed:
            if self._changed.wait_for(lambda: len(self._found(pattern)) >= count, seconds):
                return self._found(pattern)[count - 1]
            seen = "\n".join(self._lines)
            raise AssertionError(f"no line {pattern!r} ({count}) within {seconds:.0f} s, but\n{seen}")

    def _found(self, pattern: str) -> list[str]:
        return [line for line in self._lines if re.search(pattern, line)]


class StartFailed(Exception):
    """The daemon ended before it was ready: `code` is its exit code, `text` what it said."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"exit code {code}: {text}")
        self.code = code
        self.text = text


class Daemon:
    """One server.  `port` is that of its first TCP listener."""

    def __init__(self, place: Place) -> None:
        self.place = place
        self.file = place.path / "httpd.toml"
        self.run_dir = place.path / "run"
        self.error_log: Path | None = None  # where log.error points, if not to stderr
        self.process: subprocess.Popen[bytes] | None = None
        self.stderr: Lines | None = None
        self.stdout: Lines | None = None
        self.notified: list[str] = []
        self.port = 0
        self._notify: socket.socket | None = None
        self._expected: list[str] = []
        self._groups: set[int] = set()

    # Starting

    def configure(self, text: str, server: str = "", log: str = "", listen: str = '["127.0.0.1:0"]') -> None:
        """Write the file: `server` and `log` are lines of these tables, `text` is the rest."""
        if "user" not in server and os.geteuid() == 0:
            server += f'\nuser = "{worker_user()}"\n'
        if "workers" not in server:
            server += "\nworkers = 2\n"
        if "access" not in log:
            log += '\naccess = "access.log"\n'
        if "probation" not in text:  # seconds that nearly all tests would wait for nothing
            quick = 'probation = "50ms"'
            if "[timeouts]" in text:
                text = text.replace("[timeouts]", f"[timeouts]\n{quick}")
            else:
                text = f"[timeouts]\n{quick}\n{text}"
        found = re.search(r'^error = "([^"]+)"', log, re.MULTILINE)
        self.error_log = self.place.path / found[1] if found and found[1] != "-" else None
        self.file.write_text(f'[server]\nlisten = {listen}\nrun_dir = "run"\n{server}\n[log]\n{log}\n{text}\n')

    def spawn(self, *arguments: str, environ: dict[str, str] | None = None, cwd: Path | None = None,
              before: Callable[[], None] | None = None, notify: bool = True) -> subprocess.Popen[bytes]:  # fmt: skip
        """Start the command without waiting for anything."""
        path = self.place.path / "notify"
        env = environment({"PYTHONWARNINGS": "error", **(environ or {})})
        env.pop("NOTIFY_SOCKET", None)
        if notify:
            if self._notify is None:
                self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._notify.bind(str(path))
            env["NOTIFY_SOCKET"] = str(path)
        out, err = os.pipe(), os.pipe()
        self.process = subprocess.Popen(
            [*HTTPD, *(arguments or ("-c", str(self.file)))], stdin=subprocess.DEVNULL, stdout=out[1], stderr=err[1],
            env=env, cwd=cwd or self.place.path, start_new_session=True, preexec_fn=before,  # noqa: PLW1509 - one system call
        )  # fmt: skip
        os.close(out[1])
        os.close(err[1])
        self.stdout, self.stderr = Lines(out[0]), Lines(err[0])
        self._groups.add(self.process.pid)
        return self.process

    def start(self, *arguments: str, **options: Any) -> Daemon:
        """Start and return when it serves; raises StartFailed with what it said instead."""
        process = self.spawn(*arguments, **options)
        assert self.stderr is not None
        try:
            self.wait_notified("READY=1")
        except ProcessLookupError:
            code = process.wait(PATIENCE)
            self.stderr.ended.wait(PATIENCE)
            raise StartFailed(code, "\n".join(self.stderr.all())) from None
        self.port = next((int(name.rpartition(":")[2]) for name in self.listeners() if name[:5] != "unix:"), 0)
        return self

    def wait_notified(self, assignment: str, count: int = 1) -> str:
        """The `count`-th datagram with `assignment`.  Raises ProcessLookupError when the daemon ends before."""
        assert self._notify is not None
        assert self.process is not None
        pidfd = os.pidfd_open(self.process.pid)
        try:
            poll = select.poll()
            poll.register(self._notify, select.POLLIN)
            poll.register(pidfd, select.POLLIN)
            until = time.monotonic() + PATIENCE
            while len(found := [text for text in self.notified if assignment in text.split("\n")]) < count:
                events = dict(poll.poll(max(0, until - time.monotonic()) * 1000))
                if self._notify.fileno() in events:
                    self.notified.append(self._notify.recv(4096).decode())
                elif events:
                    raise ProcessLookupError(self.process.pid)
                else:
                    raise AssertionError(f"no {assignment} within {PATIENCE:.0f} s, but {self.notified}")
            return found[count - 1]
        finally:
            os.close(pidfd)

    # Talking to it

    def call(self, command: str, **arguments: object) -> dict[str, Any]:
        """A command over the control socket: {code, text, data}."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(self.run_dir / "control.sock"))
            sock.settimeout(PATIENCE)
            sock.sendall(json.dumps({"command": command, "arguments": arguments}).encode() + b"\n")
            with sock.makefile("rb") as answer:
                found: dict[str, Any] = json.loads(answer.readline())
                return found

    def reload(self) -> dict[str, Any]:
        """Reload; it has to work."""
        outcome = self.call("reload")
        assert outcome["code"] == 0, outcome
        return outcome

    def status(self) -> dict[str, Any]:
        data: dict[str, Any] = self.call("status")["data"]
        return data

    def listeners(self) -> list[str]:
        found: list[str] = self.status()["listeners"]
        return found

    def workers(self, state: str = "serving") -> list[int]:
        """Process ids of the workers in a state."""
        return [worker["pid"] for worker in self.status()["workers"] if worker["state"] == state]

    def ctl(self, *arguments: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """The `httpd-ctl` command, as users run it."""
        env = environment({"PYTHONWARNINGS": "error", **(environ or {})})
        return subprocess.run(
            [*HTTPD_CTL, "-c", str(self.file), *arguments], capture_output=True, text=True, env=env, timeout=60,
            check=False,
        )  # fmt: skip

    def signal(self, name: str) -> None:
        assert self.process is not None
        self.process.send_signal(getattr(signal, f"SIG{name}"))

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def access_lines(self, count: int, name: str = "access.log") -> list[str]:
        """The lines of an access log, when it has at least `count`."""
        path = self.place.path / name
        if count:
            eventually(lambda: path.exists() and path.read_bytes().count(b"\n") >= count, f"{count} lines in {name}")
        return path.read_text("latin-1").splitlines() if path.exists() else []

    def log_lines(self) -> list[str]:
        """What was logged so far, wherever to."""
        lines = self.stderr.all() if self.stderr is not None else []
        if self.error_log is not None and self.error_log.exists():
            lines += self.error_log.read_text("utf-8", "replace").splitlines()
        return lines

    # Ending

    def expect(self, *patterns: str) -> None:
        """Regular expressions for lines at warning and above, or foreign lines, that are right to appear."""
        self._expected += patterns

    def wait(self) -> int:
        """The exit code, once it ends by itself."""
        assert self.process is not None
        return self.process.wait(PATIENCE)

    def adopt(self, pid: int) -> None:
        """Have the group of another process (a daemon that detached itself) killed at the end, too."""
        self._groups.add(os.getpgid(pid))

    def kill(self) -> None:
        """SIGKILL for all that is left of it."""
        for group in self._groups:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(group, signal.SIGKILL)
        if self.process is not None:
            self.process.wait(PATIENCE)

    def close(self) -> None:
        """Stop it at once if it still runs, make sure that nothing of it is left, and judge what it logged."""
        code = None
        try:
            if self.process is not None and self.process.poll() is None:
                self.signal("QUIT")
                code = self.process.wait(PATIENCE)
        finally:
            self.kill()
            if self._notify is not None:
                self._notify.close()
        if self.stderr is not None and self.stdout is not None:
            assert self.stderr.ended.wait(PATIENCE), "a process outside the daemon's group holds its stderr"
            assert self.stdout.ended.wait(PATIENCE), "a process outside the daemon's group holds its stdout"
        unexpected = self.unexpected()
        assert not unexpected, "logged, and not expected:\n" + "\n".join(unexpected)
        assert code in (None, 0), f"exit code {code} after QUIT"

    def unexpected(self) -> list[str]:
        """Lines at warning and above, and lines that are no entries at all, that nobody expects."""
        found = []
        for line in self.log_lines():
            entry = _ENTRY.match(line)
            quiet = entry is not None and entry[1] in ("debug", "info", "notice")
            if not quiet and not any(re.search(pattern, line) for pattern in self._expected):
                found.append(line)
        return found


def worker_user() -> str:
    """The account that workers of a root daemon run as."""
    accounts = {account.pw_name for account in pwd.getpwall()}
    return next((name for name in ("httpd", "www-data", "http") if name in accounts), "nobody")


def run_httpd(*arguments: str, cwd: Path, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The `httpd` command, for those uses of it that end by themselves."""
    env = environment({"PYTHONWARNINGS": "error", **(environ or {})})
    return subprocess.run(
        [*HTTPD, *arguments], capture_output=True, text=True, cwd=cwd, env=env, timeout=PATIENCE, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def open_files(pid: int) -> Sequence[str]:
    """What the descriptors of a process are, by /proc; [] for one that is gone."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                found.append(os.readlink(entry))
    return found
