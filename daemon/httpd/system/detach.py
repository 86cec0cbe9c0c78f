"""Becoming a daemon, and the run folder: one instance per folder, held by a lock and not by a pid file.

`httpd --daemon` answers like any other command: the process that was started waits for the daemon's word and
exits with its code.  Nothing may be opened before descriptors 0 to 2 are: a socket that gets number 2 would
receive the error messages.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import stat
import sys
import time
from pathlib import Path
from typing import NoReturn, TextIO, cast

from .signals import blocked_signals, reset_dispositions

_INTERNAL_ERROR = 70  # EX_SOFTWARE
_LONGEST_MESSAGE = 64 * 1024


def ensure_std_fds() -> None:
    """Open /dev/null on those of the descriptors 0, 1 and 2 that the starter has left closed."""
    for fd in range(3):
        try:
            os.fstat(fd)
        except OSError:
            # The lowest free number is taken, and all below are open.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    # Python leaves None where a descriptor was closed at its start.
    sys.stdin = sys.stdin or _stream(0, "r")
    sys.stdout = sys.stdout or _stream(1, "w")
    sys.stderr = sys.stderr or _stream(2, "w")


def null_stdio() -> None:
    """Point descriptors 0, 1 and 2 at /dev/null.

    Workers forked before the report hold the starter's terminal as well, so they call it too when they are
    ready.
    """
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # a closed terminal, a closed stream
            stream.flush()
    null = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    if null > 2:
        os.close(null)


class ReadyPipe:
    """The daemon's end of the pipe on which its starter waits."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def report(self, code: int, message: str) -> None:
        """Let the starter print `message` on stderr, if any, and exit with `code`.

        Only the first report counts.  After code 0 the daemon leaves the terminal (`null_stdio`); else stderr
        stays for what it has to say at its end.
        """
        if self._fd < 0:
            return
        data = json.dumps([code, message[:_LONGEST_MESSAGE]]).encode() + b"\n"
        with contextlib.suppress(BrokenPipeError):  # the starter was killed
            while data:
                data = data[os.write(self._fd, data) :]
        self.close()
        if code == 0:
            null_stdio()

    def close(self) -> None:
        """For children: as long as one holds the pipe, the starter can't see that the daemon has died."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def detach() -> ReadyPipe:
    """Go on as a daemon: no parent, no terminal, own session, working folder "/".

    Returns in the daemon only; the original process waits for the report and exits.  Relative paths must have
    been resolved, and no thread be running.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    reader, writer = os.pipe()
    with blocked_signals():
        first = os.fork()
        if first:
            # The starter only waits, and handlers installed for the daemon would keep it from being stopped.
            reset_dispositions()
            os.close(writer)
            _exit_as_told(first, reader)
    os.close(reader)
    pipe = ReadyPipe(writer)
    try:
        os.setsid()
        # A session leader would get a terminal by opening one; its child never does.
        if os.fork():
            os._exit(0)
        os.chdir("/")
    except OSError as error:
        pipe.report(_INTERNAL_ERROR, f"httpd: can't detach: {error.strerror}")
        os._exit(_INTERNAL_ERROR)
    return pipe


def _exit_as_told(first: int, reader: int) -> NoReturn:
    """Wait for the daemon's report, print its message, end with its code."""
    try:
        os.waitpid(first, 0)
        with open(reader, "rb") as pipe:
            code, message = json.loads(pipe.readline())
    except ValueError:  # the end of file came first
        code, message = _INTERNAL_ERROR, "httpd: the daemon ended before it was ready"
    if message:
        with contextlib.suppress(OSError):
            os.write(2, f"{message}\n".encode("utf-8", "replace"))
    os._exit(code)


def _stream(fd: int, mode: str) -> TextIO:
    return cast(TextIO, open(fd, mode, closefd=False, errors="backslashreplace"))


_LONGEST_SOCKET_PATH = 103  # bytes, where it is shortest (macOS)


class RunDirError(Exception):
    """A run folder that can't be used; the text names the path and the reason."""


class LockHeld(RunDirError):
    """Another instance runs.  `pid` and `since` are what it wrote into the lock file; None and "" if it is neither."""

    def __init__(self, path: Path, pid: int | None, since: str) -> None:
        who = f" with pid {pid}" if pid else ""
        super().__init__(f"{path}: another instance runs{who}{f' since {since}' if since else ''}")
        self.pid = pid


class RunDir:
    """The run folder: httpd.lock, httpd.pid and control.sock.  Making the object touches nothing.

    Only the lock decides whether an instance runs: it ends with its process.  The pid file is information for
    others.
    """

    __slots__ = ("_lock", "_pid", "control_path", "lock_path", "path", "pid_path")

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.lock_path = self.path / "httpd.lock"
        self.pid_path = self.path / "httpd.pid"
        self.control_path = self.path / "control.sock"
        self._lock = -1
        self._pid = 0

    def prepare(self) -> None:
        """Make the folder (0755 as root, else 0700) or check the one that is there.  Raises RunDirError.

        In a folder that others can write to or replace, they could offer a lock or a control socket of their
        own.
        """
        if len(os.fsencode(self.control_path)) > _LONGEST_SOCKET_PATH:
            raise RunDirError(f"{self.path}: too long for the path of a socket in it")
        mode = 0o755 if os.geteuid() == 0 else 0o700
        try:
            with contextlib.suppress(FileExistsError):
                self.path.mkdir(mode)
                self.path.chmod(mode)  # whatever the umask is
            status = self.path.lstat()
        except OSError as error:
            raise RunDirError(f"{self.path}: {error.strerror}") from error
        if stat.S_ISLNK(status.st_mode):
            raise RunDirError(f"{self.path}: is a symbolic link")
        if not stat.S_ISDIR(status.st_mode):
            raise RunDirError(f"{self.path}: is not a folder")
        user, mode = os.geteuid(), stat.S_IMODE(status.st_mode)
        if status.st_uid not in (0, user):
            raise RunDirError(f"{self.path}: belongs to uid {status.st_uid}, not to root or uid {user}")
        if mode & 0o022:
            raise RunDirError(f"{self.path}: others may write to it (mode {mode:04o})")

    def empty_folder(self) -> Path:
        """A folder below that nobody writes to, for processes that need to be somewhere.  Raises OSError."""
        folder = self.path / "empty"
        folder.mkdir(mode=0o755, exist_ok=True)
        return folder

    def lock(self) -> None:
        """Take the lock and write our pid into it, in the final process.  Raises LockHeld, RunDirError."""
        try:
            fd = self._locked_file()
        except OSError as error:
            raise RunDirError(f"{self.lock_path}: {error.strerror}") from error
        # Written before it is cut: a reader never finds the file empty, and reads the first line only.
        line = b"%d\n%b\n" % (os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S %z").encode())
        try:
            os.pwrite(fd, line, 0)
            os.ftruncate(fd, len(line))
        except OSError as error:
            os.close(fd)
            raise RunDirError(f"{self.lock_path}: {error.strerror}") from error
        self._lock = fd

    def keep_lock(self) -> int:
        """Hold the lock over an exec: its descriptor, for `adopt_lock`."""
        os.set_inheritable(self._lock, True)
        return self._lock

    def adopt_lock(self, fd: int) -> bool:
        """Go on with the lock of the program before in this process; False if it is not the one of this folder."""
        with contextlib.suppress(OSError):
            if os.path.samestat(os.fstat(fd), self.lock_path.lstat()):
                os.set_inheritable(fd, False)
                self._lock = fd
                return True
        with contextlib.suppress(OSError):
            os.close(fd)
        return False

    def close(self) -> None:
        """Close the lock file.  For every child at once: an orphan must not hold the lock.

        In the process that took it, and when no child holds it either, this gives the lock up.
        """
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def write_pid(self) -> None:
        """Write the pid file in one step, so that nobody reads it empty.  Raises RunDirError."""
        self._pid = os.getpid()
        new = self.path / f".httpd.pid.{self._pid}"
        try:
            new.unlink(missing_ok=True)
            new.write_text(f"{self._pid}\n")
            new.chmod(0o644)
            new.replace(self.pid_path)
        except OSError as error:
            with contextlib.suppress(OSError):
                new.unlink()
            raise RunDirError(f"{self.pid_path}: {error.strerror}") from error

    def remove_pid(self) -> None:
        """Remove the pid file if it holds what `write_pid` of this process wrote."""
        if self._pid == os.getpid() and _read_pid(self.pid_path) == self._pid:
            with contextlib.suppress(OSError):
                self.pid_path.unlink()

    def _locked_file(self) -> int:
        while True:
            fd = os.open(self.lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                os.close(fd)
                if isinstance(error, BlockingIOError):
                    raise LockHeld(self.path, _read_pid(self.lock_path), _read_since(self.lock_path)) from None
                raise
            # Somebody may have removed the file meanwhile: a lock that nobody else can find is none.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), self.lock_path.lstat()):
                    return fd
            os.close(fd)


def _read_pid(path: Path) -> int | None:
    """The number on the first line of a file, or None."""
    try:
        line, *_ = path.read_bytes()[:32].split(b"\n")
    except OSError:
        return None
    return int(line) if line.isdigit() else None


def _read_since(path: Path) -> str:
    """The second line of a lock file: when its owner took it; "" where there is none, or no time."""
    with contextlib.suppress(OSError, IndexError):
        line = path.read_bytes()[:64].split(b"\n")[1]
        if re.fullmatch(rb"[0-9 :+-]{10,30}", line):
            return line.decode()
    return ""
