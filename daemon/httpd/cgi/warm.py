"""A Python interpreter that has done the costly part already, and forks itself for every script.

Run by the script's own interpreter, whichever Python 3 that is, as text: nothing of httpd is imported here, and the
user need not be able to read httpd's files.  Descriptor 3 is this text, 4 a SEQPACKET socket to the spawner; text
travels as Latin-1, so that any bytes do.

    spawner -> here    first: {"modules", "cpu", "memory", "files"};  then {"run", "file", "argv", "env", "folder"} with
                       three descriptors, and {"kill", "signal"}
    here -> spawner    {"ready": files of all modules} or {"failed": why not};
                       {"run", "pid"} or {"run", "errno"};  {"run", "status"}

Rules:

- A script gets a process of its own each time, in the state of an interpreter that has just been started for it, and
  it ends as an interpreter ends.  This process itself never runs a line of a script.
- What a fork can't do exactly as an exec, an exec does: what is no source text or does not compile, and a folder with a
  module that has the name of one that is loaded.
- Where a script was told to stop, what is left of its group is killed before its number is free for others.
- For Python 3.8 and later: no newer syntax, nothing newer of the standard library.
- A fork pays for every page that is written to, if only to count a reference: few steps after it.
"""

from __future__ import annotations

import _thread
import array
import atexit
import contextlib
import gc
import importlib.machinery
import io
import itertools
import json
import linecache
import os
import resource
import select
import signal
import socket
import sys
import types
import warnings
import weakref
from typing import Any

_DOOR = 4
_SIGNAL: Any = sys.modules["_signal"]  # without the enums, which take long
_STREAMS = ("stdin", "stdout", "stderr")
_LIMITS = (("cpu", resource.RLIMIT_CPU, 1), ("memory", resource.RLIMIT_AS, 0), ("files", resource.RLIMIT_NOFILE, 0))


class _Interpreter:
    """What was found at the start, and is to be found so by every script; and how one ends."""

    def __init__(self) -> None:
        atexit.register(self.end)  # before all others, so it is called after all others
        self.code: int | None = None  # of an end of which nothing is to be told
        self.command: list[str] = getattr(sys, "orig_argv", [])[:-2]  # less -c and this text
        if not self.command:  # before 3.10
            with open("/proc/self/cmdline", "rb") as file:
                self.command = os.fsdecode(file.read()).split("\0")[:-3]
        streams: tuple[Any, ...] = (sys.stdin, sys.stdout, sys.stderr)
        self.streams = [(stream.encoding, stream.errors) for stream in streams]
        self.unbuffered, self.by_line = bool(streams[1].write_through), bool(streams[2].line_buffering)
        self.dunders = [name for name in globals() if name.startswith("__") and name != "__warningregistry__"]
        self.signals = {number: signal.getsignal(number) for number in signal.valid_signals()}
        self.environment = {name: value for name, value in os.environb.items() if name != b"LC_CTYPE"}  # see PEP 538
        self.own_folder = not (sys.flags.isolated or getattr(sys.flags, "safe_path", False))
        del sys.path[: self.own_folder]  # the current folder, because of -c

    def settle(self) -> None:
        """All modules are there: what they have done to this process is seen only by who uses them."""
        for number, handler in self.signals.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self.changes = {name: value for name, value in os.environb.items() if self.environment.get(name) != value}
        os.environb.clear()
        self.names = {name.partition(".")[0] for name in sys.modules} - set(sys.builtin_module_names)
        self.plain = all(map(_plain, sys.modules.values()))
        self.last = list(sys.modules)[-1]
        globals()["__name__"] = "httpd"  # with -W error a warning of threads (3.12) would cost us the number of a child
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"httpd\Z")
        linecache.clearcache()  # of -c, whose name is that of any exec()
        _flush()  # or every script would write it again
        gc.collect()
        getattr(gc, "freeze", gc.collect)()  # PyPy has none

    def ran(self, code: Any, error: BaseException | None) -> None:
        """As pyrun_simple_file() of pythonrun.c: flush, then tell of the exception."""
        _flush()
        value = getattr(error, "code", None)
        if error is not None and not isinstance(error, SystemExit):
            self.hook, sys.excepthook = sys.excepthook, lambda *args: self.show(code, *args)
        elif value is None or (isinstance(value, int) and abs(value) < 1 << 31):
            self.code = (value or 0) & 0xFF

    def show(self, code: Any, kind: Any, error: BaseException, trace: Any) -> None:
        """The traceback, from the script on."""
        while trace is not None and trace.tb_frame.f_code is not code:
            trace = trace.tb_next
        sys.excepthook, sys.last_traceback = self.hook, trace
        self.hook(kind, error.with_traceback(trace), trace)

    def end(self) -> None:
        """Called by atexit, last of all: end without taking apart what was loaded before the fork; it takes longest."""
        own = [*itertools.takewhile(lambda name: name != self.last, reversed(sys.modules)), "__main__"]
        if (
            self.code is None or not self.plain or sys.flags.dev_mode or sys.warnoptions or _thread._count()
            or not all(_plain(sys.modules.get(name)) for name in own) or not _flush()  # is tried again, and told
        ):  # fmt: skip
            return  # the interpreter takes everything apart
        try:
            atexit._clear()
            for number in self.signals:
                if callable(_SIGNAL.getsignal(number)):
                    _SIGNAL.signal(number, _SIGNAL.SIG_DFL)
            for name in _STREAMS:
                setattr(sys, name, getattr(sys, f"__{name}__", None))
            _take_apart(own)
            _flush()
        finally:
            os._exit(self.code)


def _plain(module: object) -> bool:
    """Whether it has no C code that might want to do something at the end, such as flush a FILE."""
    file = getattr(module, "__dict__", {}).get("__file__")
    return not isinstance(file, str) or not file.endswith(".so") or ("/lib-dynload/" in file and "_ctypes" not in file)


def _flush() -> bool:
    with contextlib.suppress(BaseException):
        sys.stderr.flush()
    try:
        if sys.stdout is not None and not sys.stdout.closed:
            sys.stdout.flush()
    except BaseException:
        return False
    return True


def _take_apart(own: list[str]) -> None:
    """Let go of a script's objects: files get flushed by that, and __del__ is called."""
    modules: dict[str, Any] = sys.modules
    gc.collect()  # this brings a file before its buffer, in the order in which they are finalized afterwards
    left = [weakref.ref(modules[name]) for name in own if isinstance(modules.get(name), types.ModuleType)]
    for name in own:
        modules[name] = None
    gc.collect()
    for names in [vars(module) for module in (there() for there in left) if module is not None]:
        for private in (True, False):
            for name in [name for name in names if (name[:1] == "_" != name[1:2]) is private]:
                names[name] = None if name != "__builtins__" else names[name]
    gc.collect()


class _Server:
    """The parent: its socket, and the scripts that run, by the spawner's number for them."""

    def __init__(self, interpreter: _Interpreter) -> None:
        self.door = socket.socket(fileno=_DOOR)
        self.door.set_inheritable(False)
        self.door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)  # a message has to fit in
        self.listening = True
        self.pids: dict[int, int] = {}
        self.stopping: set[int] = set()
        self.settings, _ = self.receive()
        for name in self.settings["modules"] if self.settings else ():
            try:
                importlib.import_module(name)
            except BaseException as error:  # SystemExit too
                self.tell(failed=f"{name}: {type(error).__name__}: {error}")
                os._exit(1)
        interpreter.settle()
        files = [sys.executable, *(getattr(module, "__dict__", {}).get("__file__") for module in sys.modules.values())]
        self.tell(ready=[os.path.abspath(file) for file in files if isinstance(file, str) and file])
        self.bell = os.pipe()
        os.set_blocking(self.bell[1], False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.bell[1], warn_on_full_buffer=False)

    def receive(self) -> tuple[Any, list[int]]:
        """A message, None at the end, and its descriptors."""
        data, fds = b"", array.array("i")
        flags = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
        with contextlib.suppress(ConnectionError):  # it has left something unread
            data, extra, _, _ = self.door.recvmsg(1 << 20, socket.CMSG_SPACE(12), flags)
            for _, _, raw in extra:
                fds.frombytes(raw)
        self.listening = bool(data)
        return (json.loads(data.decode("latin-1")) if data else None), list(fds)

    def tell(self, **message: Any) -> None:
        if self.listening:
            with contextlib.suppress(ConnectionError):  # the door will say so too
                self.door.send(json.dumps(message).encode("ascii"))

    def serve(self) -> tuple[Any, list[int]]:
        """Fork for every request; returns in a child, with what is to be run."""
        poller = select.poll()
        poller.register(self.bell[0], select.POLLIN)
        poller.register(_DOOR, select.POLLIN)
        while self.listening or self.pids:
            ready = [fd for fd, _ in poller.poll()]
            if self.bell[0] in ready:
                os.read(self.bell[0], 4096)
                self.reap()
            if _DOOR in ready:
                message, fds = self.receive()
                if message is None:
                    poller.unregister(_DOOR)
                elif "kill" in message:
                    self.signal(message["kill"], message["signal"])
                elif self.fork(message["run"], fds):
                    return message, fds
        os._exit(0)

    def fork(self, number: int, fds: list[int]) -> bool:
        """Whether this is the child."""
        try:
            pid = os.fork()
        except OSError as error:
            self.tell(run=number, errno=error.errno)
        else:
            if pid == 0:
                return True
            self.pids[number] = pid
            self.tell(run=number, pid=pid)
        for fd in fds:
            os.close(fd)
        return False

    def signal(self, number: int, what: int) -> None:
        if number in self.pids:
            self.stopping.add(number)
            try:
                os.killpg(self.pids[number], what)
            except ProcessLookupError:  # it has just been forked, and has no group yet
                os.kill(self.pids[number], what)

    def reap(self) -> None:
        for number, pid in list(self.pids.items()):
            if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
                if number in self.stopping:
                    self.stopping.discard(number)
                    with contextlib.suppress(OSError):
                        os.killpg(pid, signal.SIGKILL)
                self.tell(run=number, status=os.waitpid(self.pids.pop(number), 0)[1])


def _become(message: Any, fds: list[int], settings: Any, start: _Interpreter) -> list[str]:
    """In the child: what is so already when an interpreter is started; the words of its command."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)  # it is above 2
    os.chdir(message["folder"].encode("latin-1"))
    environment = {name.encode("latin-1"): value.encode("latin-1") for name, value in message["env"].items()}
    os.environb.update({**environment, **start.changes})
    for name, kind, more in _LIMITS:
        if settings[name]:
            there = resource.getrlimit(kind)[1]
            most = settings[name] + more if there == resource.RLIM_INFINITY else min(settings[name] + more, there)
            resource.setrlimit(kind, (min(settings[name], most), most))
    for number, name in enumerate(_STREAMS):  # as create_stdio() of pylifecycle.c
        bare = number > 0 and start.unbuffered
        buffer: Any = open(number, "wb" if number else "rb", 0 if bare else -1, closefd=False)  # noqa: SIM115 - it stays
        raw = buffer if bare else buffer.raw
        raw.name = f"<{name}>"
        by_line = (number == 2 and start.by_line) or (raw.isatty() and not start.unbuffered)
        stream: Any = io.TextIOWrapper(buffer, *start.streams[number], "\n", by_line, start.unbuffered)
        stream.mode = "w" if number else "r"
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    return [os.fsdecode(word.encode("latin-1")) for word in (message["file"], *message["argv"])]


def _compiled(file: str, start: _Interpreter) -> Any:
    """The script; None if it is for an exec: that says what is wrong, and knows of other kinds of files."""
    cache: dict[str, Any] = sys.path_importer_cache
    cache[file] = None
    stderr, sys.stderr = sys.stderr, io.StringIO()  # warnings: an exec would say them again
    try:
        folder = os.path.dirname(os.path.realpath(file))
        if not os.path.isabs(file) or file.endswith(".pyc") or (start.own_folder and _shadows(folder, start.names)):
            return None
        with open(file, "rb") as source:
            text = source.read()
        code = compile(text, file, "exec", 0, True) if b"PK\5\6" not in text else None  # the end of an archive
    except Exception:
        return None
    finally:
        said, sys.stderr = sys.stderr.getvalue(), stderr
    stderr.write(said if code else "")
    if start.own_folder:
        sys.path.insert(0, folder)
    return code


def _shadows(folder: str, names: set[str]) -> bool:
    """Whether a module there would be found in place of one that is loaded."""
    found = names.intersection([entry.partition(".")[0] for entry in os.listdir(folder)])
    specs = [importlib.machinery.PathFinder.find_spec(name, [folder]) for name in found]
    return any(spec is not None and spec.loader is not None for spec in specs)  # no loader: a folder, but no package


def _new_main(file: str, start: _Interpreter) -> dict[str, Any]:
    """A `__main__` with what this version of Python has in it."""
    known: dict[str, Any] = {"__name__": "__main__", "__builtins__": sys.modules["builtins"], "__annotations__": {}}
    known["__loader__"] = importlib.machinery.SourceFileLoader("__main__", file)
    sys.modules["__main__"] = types.ModuleType("__main__")
    main = vars(sys.modules["__main__"])
    main.update({name: known.get(name) for name in start.dunders}, __file__=file, __cached__=None)
    return main


def _run(start: _Interpreter) -> None:
    message, fds = (server := _Server(start)).serve()
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        _SIGNAL.signal(signal.SIGCHLD, _SIGNAL.SIG_DFL)
        for fd in (server.door.detach(), *server.bell):
            os.close(fd)
        file, *words = _become(message, fds, server.settings, start)
        code = _compiled(file, start)
        if code is None:
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, which would be passed on
                signal.signal(number, signal.SIG_DFL)
            os.execv(sys.executable or start.command[0], [*start.command, file, *words[1:]])
        sys.argv = words
        if hasattr(sys, "orig_argv"):
            sys.orig_argv = [*start.command, *words]
        main = _new_main(file, start)
    except Exception as error:
        os.write(2, f"the warm interpreter: {error}\n".encode("utf-8", "replace"))
        os._exit(127)
    try:
        exec(code, main)
    except BaseException as error:
        start.ran(code, error)
        raise
    start.ran(code, None)


with contextlib.suppress(OSError):
    os.close(3)
_run(_Interpreter())
