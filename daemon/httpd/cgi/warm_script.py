"""What a script finds in a process that was forked off a warm interpreter, and how that process ends.

The first part of the text of which `warm.py` is the second; there it says where that is run.

Rules:

- A fork pays for every page that is written to, if only to count a reference.  So whatever can be done before the fork
  is done there, and few steps after it.
- What modules have done to the process before the fork is seen only by who uses them.
- They may have kept the streams that they found: so these are what a script has.  What they have opened is flushed at
  the end, and before the fork, or each script would write what was in its buffer.
- It ends as an interpreter ends, but for taking apart what was loaded before the fork, which takes longest.
"""

from __future__ import annotations

import _thread
import atexit
import contextlib
import gc
import importlib.machinery
import io
import itertools
import os
import resource
import signal
import sys
import types
import warnings
import weakref

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing itself would be pages of every script
    from typing import Any

_SIGNAL: Any = sys.modules["_signal"]  # without the enums, which take long
_LOG = 5  # a descriptor
_STREAMS = ("stdin", "stdout", "stderr")
_WRITERS = (io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom, io.BufferedRWPair)
_LIMITS = (("cpu", resource.RLIMIT_CPU, 1), ("memory", resource.RLIMIT_AS, 0), ("files", resource.RLIMIT_NOFILE, 0))
# Modules whose functions for a fork do nothing where no lock is held and there is no other thread; but they go through
# all that they know, which costs more than the fork itself.  (That of `random` is made up for below.)
_IDLE_AT_FORK = {"logging", "random", "threading"}


class Interpreter:
    """What was found at the start, and is to be found so by every script; and how one ends."""

    def __init__(self) -> None:
        atexit.register(self.end)  # before all others, so it is called after all others
        self.code: int | None = None  # of an end of which nothing is to be told
        self.command: list[str] = getattr(sys, "orig_argv", [])[:-2]  # less -c and this text
        if not self.command:  # before 3.10
            with open("/proc/self/cmdline", "rb") as file:
                self.command = os.fsdecode(file.read()).split("\0")[:-3]
        streams: tuple[Any, ...] = (sys.stdin, sys.stdout, sys.stderr)
        self.encodings = [(stream.encoding, stream.errors) for stream in streams]
        self.unbuffered, self.by_line = bool(streams[1].write_through), bool(streams[2].line_buffering)
        self.no_input, *self.streams = self._on_pipes()
        self._install_all()
        known: dict[str, Any] = {"__name__": "__main__", "__builtins__": sys.modules["builtins"], "__annotations__": {}}
        dunders = [name for name in globals() if name.startswith("__") and name != "__warningregistry__"]
        self.main = {name: known.get(name) for name in dunders}
        self.signals = {int(number): signal.getsignal(number) for number in signal.valid_signals()}
        self.environment = {name: value for name, value in os.environb.items() if name != b"LC_CTYPE"}  # see PEP 538
        self.own_folder = not (sys.flags.isolated or getattr(sys.flags, "safe_path", False))
        del sys.path[: self.own_folder]  # the current folder, because of -c
        self.log = _LOG
        try:
            os.set_inheritable(_LOG, False)
        except OSError:
            self.log = -1
        self.at_fork: list[dict[str, Any]] = []
        self.register_at_fork: Any = os.register_at_fork
        os.register_at_fork = self._register_at_fork

    def _register_at_fork(self, **functions: Any) -> None:
        """In the place of os.register_at_fork() while modules are loaded."""
        if {getattr(function, "__module__", "") for function in functions.values()} <= _IDLE_AT_FORK:
            self.at_fork.append(functions)
        else:
            self.register_at_fork(**functions)

    def settle(self) -> None:
        """All modules are there."""
        os.register_at_fork = self.register_at_fork
        if self.log >= 0:  # so far stderr was for who asks why there was no start
            os.dup2(self.log, 2)
            os.close(self.log)
        if _thread._count():  # a module has started threads
            for functions in self.at_fork:
                self.register_at_fork(**functions)
            self.at_fork.clear()
        for number, handler in self.signals.items():
            if handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self.changes = {name: value for name, value in os.environb.items() if self.environment.get(name) != value}
        os.environb.clear()
        self.names = {name.partition(".")[0] for name in sys.modules} - set(sys.builtin_module_names)
        self.plain = all(map(_plain, sys.modules.values())) and not (sys.flags.dev_mode or sys.warnoptions)
        self.last = list(sys.modules)[-1]
        self.callbacks = atexit._ncallbacks()
        self.idle_at_exit = self.callbacks == 1 + ("logging" in sys.modules)  # `end`, and what flushes its handlers
        globals()["__name__"] = "httpd"  # with -W error a warning of threads (3.12) would cost us the number of a child
        warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"httpd\Z")
        if "linecache" in sys.modules:
            sys.modules["linecache"].clearcache()  # of -c, whose name is that of any exec()
        self.theirs = [getattr(sys, name) for name in _STREAMS]  # they might close the buffer on their way
        ours = [id(one) for stream in self.streams for one in (stream, getattr(stream, "buffer", None))]
        writers = [one for one in gc.get_objects() if issubclass(type(one), _WRITERS) and id(one) not in ours]
        self.writers = [weakref.ref(one) for one in writers]
        self._flush_theirs()
        _flush()
        self._install_all()
        gc.collect()
        gc.freeze()

    # Its streams

    def _on_pipes(self) -> list[Any]:
        """Those that a script has, made where descriptors are of their kind: nothing to be read, and pipes."""
        kept = [os.dup(number) for number in range(3)]
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        made = [self._stream(0)]
        ends = os.pipe()
        for number in range(3):
            os.dup2(ends[number > 0], number)
            made.append(self._stream(number))
        for number, fd in enumerate(kept):
            os.dup2(fd, number)
        for fd in (*kept, *ends):
            os.close(fd)
        return made

    def _install_all(self) -> None:
        """Have these, and others in the place of those that were closed, or taken apart."""
        for number, stream in enumerate(self.streams):
            try:
                usable = not stream.closed
            except ValueError:
                usable = False
            if not usable:
                self.streams[number] = self._on_pipes()[number + 1]
            self._install(number, self.streams[number])

    def _flush_theirs(self) -> None:
        """What modules have opened before the fork."""
        for writer in [there() for there in self.writers]:
            if writer is not None:
                with contextlib.suppress(Exception):  # it is closed, or was detached
                    writer.flush()

    def _stream(self, number: int) -> Any:
        """As create_stdio() of pylifecycle.c."""
        bare = number > 0 and self.unbuffered
        buffer: Any = open(number, "wb" if number else "rb", 0 if bare else -1, closefd=False)  # noqa: SIM115 - it stays
        raw = buffer if bare else buffer.raw
        raw.name = f"<{_STREAMS[number]}>"
        by_line = (number == 2 and self.by_line) or (raw.isatty() and not self.unbuffered)
        stream: Any = io.TextIOWrapper(buffer, *self.encodings[number], "\n", by_line, self.unbuffered)
        stream.mode = "w" if number else "r"
        return stream

    def _install(self, number: int, stream: Any) -> None:
        setattr(sys, _STREAMS[number], stream)
        setattr(sys, f"__{_STREAMS[number]}__", stream)

    def expect(self, environment: dict[bytes, bytes]) -> None:
        """Have in place what is the same for most scripts, and names that all have: a variable that is there is changed
        in fewer pages than a new one takes."""
        os.environb.clear()
        os.environb.update(environment)
        os.environb.update(self.changes)

    # In the process of a script

    def become(self, fds: list[int], kinds: bytes, folder: bytes, environment: tuple[Any, Any],
               limits: dict[str, int]) -> None:  # fmt: skip
        """What is so already when an interpreter is started; `kinds` of descriptors: p is a pipe, c a device; of
        `environment` the variables that differ from those in place, and names of those that are not wanted."""
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
            os.close(fd)  # it is above 2
        if kinds != b"ppp":
            for number, kind in enumerate(kinds):
                if kind != 112:  # p
                    self._install(number, self.no_input if not number and kind == 99 else self._stream(number))
        os.chdir(folder)
        self._set_environment(*environment)
        for functions in self.at_fork:
            self.register_at_fork(**functions)
        if "threading" in sys.modules and hasattr(_thread, "get_native_id"):
            sys.modules["threading"].main_thread()._set_native_id()
        if self.at_fork and "random" in sys.modules:
            generator: Any = sys.modules["random"]._inst
            base: Any = super(type(generator), generator)
            base.seed()
            generator.gauss_next = None
        for limit, kind, more in _LIMITS:
            if limits[limit]:
                there = resource.getrlimit(kind)[1]
                most = limits[limit] + more if there == resource.RLIM_INFINITY else min(limits[limit] + more, there)
                resource.setrlimit(kind, (min(limits[limit], most), most))

    def _set_environment(self, changes: dict[bytes, bytes], gone: list[bytes]) -> None:
        changes.update(self.changes)
        known = os.environb._data  # type: ignore[attr-defined]  # without os.environ's checks
        for name in gone:
            del known[name]
            os.unsetenv(name)
        for name, value in changes.items():
            known[name] = value
            os.putenv(name, value)

    def new_main(self, file: str) -> dict[str, Any]:
        """A `__main__` with what this version of Python has in it."""
        sys.modules["__main__"] = types.ModuleType("__main__")  # not before the fork: nothing of that is collected
        main = vars(sys.modules["__main__"])
        self.main["__loader__"] = importlib.machinery.SourceFileLoader("__main__", file)
        main.update(self.main, __file__=file, __cached__=None)
        return main

    # Its end

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

    def ends_quickly(self) -> bool:
        """Whether an interpreter would do nothing before what is registered with atexit, and that is as it was."""
        return self.code is not None and self.plain and not _thread._count() and atexit._ncallbacks() == self.callbacks

    def finish(self) -> None:
        """End, if that can be done quickly."""
        if self.ends_quickly():
            if self.idle_at_exit and not getattr(sys.modules.get("logging"), "_handlerList", None):
                self.end()
            else:
                atexit._run_exitfuncs()

    def end(self) -> None:
        """Called by atexit, last of all."""
        own = [*itertools.takewhile(lambda name: name != self.last, reversed(sys.modules)), "__main__"]
        if (
            self.code is None or not self.plain or _thread._count()
            or not all(_plain(sys.modules.get(name)) for name in own) or not _flush()  # is tried again, and told
        ):  # fmt: skip
            self._flush_theirs()
            return  # the interpreter takes everything apart
        try:
            atexit._clear()
            for number in self.signals:
                if callable(_SIGNAL.getsignal(number)):
                    _SIGNAL.signal(number, _SIGNAL.SIG_DFL)
            for name in _STREAMS:
                setattr(sys, name, getattr(sys, f"__{name}__", None))
            _take_apart(own)
            self._flush_theirs()
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
