"""A Python interpreter that has done the costly part already, and forks itself for every script.

Run by the script's own interpreter, whichever Python 3 that is, as text behind that of `warm_script.py`: nothing of
httpd is imported here, and the user need not be able to read httpd's files.  Descriptor 3 is the text, 4 a SEQPACKET
socket to the spawner, 5, if it is there, what stderr is once all modules are loaded.

    spawner -> here    JSON: {"modules", "cpu", "memory", "files"}; then of marshal, version 2, and with three
                       descriptors: (number, script, words, their kinds, folder, what is changed in the
                       environment and what is not in it, in turn marshalled), or (number, signal), or that
                       environment, a dictionary, or the length of the next one, where it is more than `_USUAL`
    here -> spawner    JSON: {"ready": files of all modules} or {"failed": why not}; then words:
                       pid NUMBER PID, errno NUMBER ERRNO, status NUMBER STATUS

Rules:

- A script gets a process of its own each time, in the state of an interpreter that has just been started for it.  This
  process itself never runs a line of a script, nor does it compile one: it might not survive that.
- What a fork can't do exactly as an exec, an exec does: what is no source text or does not compile, and a folder with a
  module that has the name of one that is loaded.
- What a child has compiled it leaves here for those behind it, as long as the file stays the same (`_Code`).
- Where a script was told to stop, what is left of its group is killed before its number is free for others.
- For Python 3.9 and later: no newer syntax, nothing newer of the standard library.
"""

from __future__ import annotations

import _socket as socket  # without socket's enumerations: they are pages of every script
import array
import contextlib
import importlib.machinery
import io
import json
import marshal
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from httpd.cgi.warm_script import Interpreter  # one text with this, where it is run

_DOOR = 4
_USUAL = 8192  # bytes of a message; a buffer for the longest would cost pages each time
_SCRIPTS = 100  # whose code is kept
_LONGEST = 1 << 22  # bytes of marshalled code that are kept
_AGE = 2.0  # seconds that a file must be old: an earlier change might have left its times as they are
_LOOK_SECONDS = 1.0  # between two looks whether kept code is out of date


class _Code:
    """The code of a script: compiled by a child, left in a file without a name, taken from there."""

    def __init__(self, file: bytes) -> None:
        self.file = file
        self.store = -1
        self.of: tuple[Any, ...] = ()  # marks of the file and its folder
        self.folder = ""
        self.said = ""  # warnings
        self.code: Any = None
        self.look_at = 0.0

    def is_current(self) -> bool:
        """Whether the script is what was compiled."""
        return self.code is not None and self.of == (_mark(self.file), _mark(self.folder))

    def offer(self) -> None:
        """Before a fork: see that the child has where to leave it."""
        if self.store < 0 and (self.code is None or time.monotonic() >= self.look_at):
            self.look_at = time.monotonic() + _LOOK_SECONDS
            if not self.is_current() and hasattr(os, "memfd_create"):
                with contextlib.suppress(OSError):
                    self.store = os.memfd_create("code")

    def leave(self, of: tuple[Any, ...], folder: str, said: str, code: Any) -> None:
        """In the child: leave what was compiled to the parent."""
        if self.store >= 0 and all(mark and max(mark[:2]) < (time.time() - _AGE) * 1e9 for mark in of):
            data = marshal.dumps((of, folder, said, code))
            if len(data) <= _LONGEST:
                with contextlib.suppress(OSError):
                    os.write(self.store, data)

    def forget(self) -> None:
        """In a child, where it is for others, or without one."""
        if self.store >= 0:
            os.close(self.store)
            self.store = -1

    def take(self) -> None:
        """In the parent, when a child has ended: take what it left."""
        with open(self.store, "rb") as store:
            self.store = -1
            store.seek(0)
            data = store.read()
        with contextlib.suppress(ValueError, EOFError, TypeError):  # it was killed meanwhile
            self.of, self.folder, self.said, self.code = marshal.loads(data)


class _Server:
    """The parent: its socket, and the scripts that run, by the spawner's number for them."""

    def __init__(self, interpreter: Interpreter) -> None:
        self.interpreter = interpreter
        self.door = socket.socket(fileno=_DOOR)
        os.set_inheritable(_DOOR, False)
        self.door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # a message has to fit in
        self.flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        self.room = socket.CMSG_SPACE(12)
        self.longest = _USUAL
        self.pids: dict[int, int] = {}
        self.running: dict[int, tuple[int, int, _Code]] = {}  # by pidfd: number, pid, and its code
        self.stopping: set[int] = set()  # pids
        self.codes: dict[bytes, _Code] = {}
        self.settings: Any = json.loads(self.door.recv(1 << 20) or "null")
        for name in self.settings["modules"] if self.settings else ():
            try:
                importlib.import_module(name)
            except BaseException as error:  # SystemExit too
                self.tell(json.dumps({"failed": f"{name}: {type(error).__name__}: {error}"}).encode("ascii"))
                os._exit(1)
        files = [sys.executable, *(getattr(module, "__dict__", {}).get("__file__") for module in sys.modules.values())]
        ready = [os.path.abspath(file) for file in files if isinstance(file, str) and file]
        self.poller = select.poll()
        self.poller.register(_DOOR, select.POLLIN)
        interpreter.settle()
        self.tell(json.dumps({"ready": ready}).encode("ascii"))

    def tell(self, message: bytes) -> None:
        with contextlib.suppress(OSError):  # nobody is there any more: the door will say so too
            self.door.send(message)

    def serve(self) -> tuple[Any, list[int], Any]:
        """Fork for every request; returns in a child, with what is to be run, its descriptors and its code."""
        listening = bool(self.settings)
        while listening or self.running:
            for fd, _ in self.poller.poll():
                if fd == _DOOR:
                    message, fds = self.receive()
                    if message is None:
                        listening = False
                        self.poller.unregister(_DOOR)
                    elif isinstance(message, int):
                        self.longest = message
                    elif isinstance(message, dict):
                        self.interpreter.expect(message)
                    elif len(message) == 2:
                        self.signal(*message)
                    elif code := self.fork(message, fds):
                        return message, fds, code
                else:
                    self.reap(fd)
        os._exit(0)

    def receive(self) -> tuple[Any, Any]:
        """A message, None at the end, and its descriptors."""
        try:
            data, extra, _, _ = self.door.recvmsg(self.longest, self.room, self.flags)
        except ConnectionError:  # it has left something unread
            return None, ()
        self.longest = _USUAL
        if not data:
            return None, ()
        fds = array.array("i")
        for _, _, raw in extra:
            fds.frombytes(raw)
        return marshal.loads(data), fds

    def fork(self, message: Any, fds: Any) -> Any:
        """Its code, in the child."""
        number, file = message[:2]
        code = self.codes.get(file)
        if code is None:
            if len(self.codes) >= _SCRIPTS:
                self.codes.clear()
            code = self.codes[file] = _Code(file)
        code.offer()
        pid = -1
        try:
            pid = os.fork()
            if not pid:
                return code
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            if pid > 0:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            code.forget()
            self.tell(b"errno %d %d" % (number, error.errno or 0))
        else:
            self.poller.register(pidfd, select.POLLIN)
            self.pids[number], self.running[pidfd] = pid, (number, pid, code)
            self.tell(b"pid %d %d" % (number, pid))
        for fd in fds:
            os.close(fd)
        return None

    def signal(self, number: int, what: int) -> None:
        pid = self.pids.get(number, 0)
        if pid:
            self.stopping.add(pid)
            for send_to in (os.killpg, os.kill):  # it may have no group yet, or have left it
                with contextlib.suppress(OSError):
                    send_to(pid, what)

    def reap(self, pidfd: int) -> None:
        number, pid, code = self.running.pop(pidfd)
        self.poller.unregister(pidfd)
        os.close(pidfd)
        if pid in self.stopping:
            self.stopping.discard(pid)
            with contextlib.suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        del self.pids[number]
        self.tell(b"status %d %d" % (number, status))
        if code.store >= 0:
            code.take()

    def close(self) -> None:
        """In a child: what is the parent's alone."""
        for fd in (self.door.detach(), *self.running):
            os.close(fd)
        for _, _, code in self.running.values():
            code.forget()


def _mark(path: bytes | str) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_mtime_ns, found.st_ctime_ns, found.st_size, found.st_ino, found.st_dev


def _compiled(file: str, kept: _Code, start: Interpreter) -> Any:
    """The script; None if it is for an exec: that says what is wrong, and knows of other kinds of files."""
    cache: dict[str, Any] = sys.path_importer_cache
    cache[file] = None
    if not kept.is_current() and not _compile(file, kept, start):
        return None
    if kept.said:
        sys.stderr.write(kept.said)
    if start.own_folder:
        sys.path.insert(0, kept.folder)
    return kept.code


def _compile(file: str, kept: _Code, start: Interpreter) -> bool:
    stderr, sys.stderr = sys.stderr, io.StringIO()  # warnings: an exec would say them again
    try:
        folder = os.path.dirname(os.path.realpath(file))
        of = (_mark(file), _mark(folder))
        if not os.path.isabs(file) or file.endswith(".pyc") or (start.own_folder and _shadows(folder, start.names)):
            return False
        with open(file, "rb") as source:
            text = source.read()
        code = compile(text, file, "exec", 0, True) if b"PK\5\6" not in text else None  # the end of an archive
        said = sys.stderr.getvalue()
    except Exception:
        return False
    finally:
        sys.stderr = stderr
    if code:
        kept.of, kept.folder, kept.said, kept.code = of, folder, said, code
        kept.leave(of, folder, said, code)
    return code is not None


def _shadows(folder: str, names: set[str]) -> bool:
    """Whether a module there would be found in place of one that is loaded."""
    found = names.intersection([entry.partition(".")[0] for entry in os.listdir(folder)])
    specs = [importlib.machinery.PathFinder.find_spec(name, [folder]) for name in found]
    return any(spec is not None and spec.loader is not None for spec in specs)  # no loader: a folder, but no package


def _run(start: Interpreter, server: _Server) -> None:
    """Serve; in a child, run the script."""
    message, fds, kept = server.serve()
    try:
        os.setpgid(0, 0)
        _, script, words, kinds, folder, environment = message
        start.become(fds, kinds, folder, marshal.loads(environment), server.settings)
        file = os.fsdecode(script)
        code = _compiled(file, kept, start)
        kept.forget()
        server.close()
        if code is None:
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, which would be passed on
                signal.signal(number, signal.SIG_DFL)
            os.execv(sys.executable or start.command[0], [*start.command, file, *words[1:]])
        sys.argv = list(map(os.fsdecode, words))
        if hasattr(sys, "orig_argv"):
            sys.orig_argv = [*start.command, *sys.argv]
        main = start.new_main(file)
    except Exception as error:
        os.write(2, f"the warm interpreter: {error}\n".encode("utf-8", "replace"))
        os._exit(127)
    try:
        exec(code, main)
    except BaseException as error:
        start.ran(code, error)
        if not start.ends_quickly():
            raise
    else:
        start.ran(code, None)


with contextlib.suppress(OSError):
    os.close(3)
_START = Interpreter()
_SERVER = _Server(_START)
_run(_START, _SERVER)
_START.finish()
