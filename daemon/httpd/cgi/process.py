"""Starting a program: the only place that does (RFC 3875 7.2).

Rules:

- It gets three descriptors and no others: all that Python opens is closed on exec, and what was inherited the caller
  has closed long before.
- Signals: all at their defaults, none blocked; a Python parent ignores SIGPIPE, which a script must not.
- It leads a process group of its own, by which all that it starts can be ended.  The session is that of the process
  that starts it, which has no terminal: one for each script costs the kernel a scheduling group (sched_autogroup), made
  and torn down, a twentieth of a short run; and then a crowd of scripts would have as many shares of the processor.
- Without limits it is made by posix_spawn (vfork: no copy of the page tables); limits have to be set between fork and
  exec, which takes a full fork.
- The process that starts others has no threads and a current folder that is nobody's business, so it may change it.
"""

from __future__ import annotations

import math
import os
import re
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from httpd.config.schema import ScriptLimits
from httpd.system.signals import CHANGEABLE

_KILL_LATER = 1  # seconds of processor time between SIGXCPU and SIGKILL
Nofile = tuple[int, int, int]
_BLANKS = re.compile(rb"[ \t]+")


@dataclass(slots=True)
class Launch:
    """A program to be started."""

    file: bytes
    arguments: tuple[bytes, ...]
    environment: Mapping[bytes, bytes]
    folder: bytes
    stdin: int
    stdout: int
    stderr: int
    script: bytes = b""  # which of the arguments is the script, where another program runs it

    @property
    def descriptors(self) -> tuple[int, int, int]:
        return self.stdin, self.stdout, self.stderr


def start(launch: Launch, limits: ScriptLimits | None = None, nofile: Nofile | None = None) -> int:
    """Start it; returns the process' id, which is that of its group too.  Raises OSError: see `explain`.

    `nofile`: the soft limit on open files that it is to have where this process has another, that one, the hard one.
    """
    if limits is not None and (limits.cpu or limits.memory or limits.files):
        return _fork(launch, limits, nofile)
    os.chdir(launch.folder)
    if nofile is None:
        return _spawn(launch)
    soft, raised, hard = nofile
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    try:
        return _spawn(launch)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))


def _spawn(launch: Launch) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(launch.descriptors)]
    return os.posix_spawn(
        launch.file, launch.arguments, launch.environment, file_actions=actions, setpgroup=0, setsigmask=(),
        setsigdef=CHANGEABLE,
    )  # fmt: skip


def _fork(launch: Launch, limits: ScriptLimits, nofile: Nofile | None) -> int:
    reader, writer = os.pipe()
    try:
        pid = os.fork()
        if pid == 0:
            _become(launch, limits, nofile, writer)
        os.close(writer)
        writer = -1
        failure = os.read(reader, 16)
        if failure:
            os.waitpid(pid, 0)
            number = int(failure)
            raise OSError(number, os.strerror(number), launch.file)
        return pid
    finally:
        os.close(reader)
        if writer >= 0:
            os.close(writer)


def _become(launch: Launch, limits: ScriptLimits, nofile: Nofile | None, failure: int) -> NoReturn:
    """In the child: be the program, or tell the parent why not."""
    try:
        os.setpgid(0, 0)
        for number in CHANGEABLE:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        for target, fd in enumerate(launch.descriptors):
            os.dup2(fd, target)
        os.chdir(launch.folder)
        if nofile is not None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (nofile[0], nofile[2]))
        set_limits(limits)
        os.execve(launch.file, launch.arguments, launch.environment)
    except OSError as error:
        os.write(failure, b"%d" % (error.errno or 0))
    except BaseException:  # ValueError: a limit above the hard one
        os.write(failure, b"22")
    finally:
        os._exit(127)


def set_limits(limits: ScriptLimits) -> None:
    """Limit this process, and what it will start, for good."""
    if limits.cpu:
        seconds = math.ceil(limits.cpu)
        _set(resource.RLIMIT_CPU, seconds, seconds + _KILL_LATER)
    if limits.memory:
        _set(resource.RLIMIT_AS, limits.memory, limits.memory)
    if limits.files:
        _set(resource.RLIMIT_NOFILE, limits.files, limits.files)


def _set(kind: int, soft: int, hard: int) -> None:
    """Never above the hard limit that is there: it is the stricter one."""
    there = resource.getrlimit(kind)[1]
    if there != resource.RLIM_INFINITY:
        soft, hard = min(soft, there), min(hard, there)
    resource.setrlimit(kind, (soft, hard))


def explain(error: OSError, file: bytes) -> str:
    """Why a program could not be started, for the log: what the error number alone does not say."""
    code = error.errno or 0
    text = f"it can't be started: {os.strerror(code)} (errno {code})"
    if code == 8:  # ENOEXEC
        return f"{text}: neither a program of this machine, nor is its first line one of #!"
    if code in (2, 13, 20):  # ENOENT, EACCES, ENOTDIR of a file that is there: its interpreter
        interpreter = shebang(file)
        if interpreter:
            return f"{text}: look at the interpreter that its first line names, {os.fsdecode(interpreter[0])!a}"
    return text


def shebang(file: bytes) -> list[bytes]:
    """The interpreter of a script and its argument, by its first line; nothing for other programs."""
    try:
        with open(file, "rb") as script:
            line = script.read(256)
    except OSError:
        return []
    if not line.startswith(b"#!"):
        return []
    words = line[2:].split(b"\n", 1)[0].strip(b" \t")  # as the kernel does: a CR at the end is part of the name
    return _BLANKS.split(words, maxsplit=1) if words else []
