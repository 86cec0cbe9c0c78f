# ruff: noqa: E501 - a probe is one line of the table
"""A script by a warm interpreter and the same by an exec: output, errors and exit status are compared.

The program under test is started as `httpd.cgi.warming` starts it, by each Python that is found.
"""

from __future__ import annotations

import array
import ast
import contextlib
import errno
import json
import marshal
import os
import pwd
import re
import selectors
import shutil
import signal
import socket
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from httpd.cgi.warming import _USUAL as USUAL

PROGRAM = Path(__file__).parents[3] / "daemon" / "httpd" / "cgi"
PARTS = [(PROGRAM / name).read_bytes() for name in ("warm_script.py", "warm.py")]
SOURCE = b"\0".join(PARTS)
BOOT = b"for text in open(3, 'rb').read().split(b'\\0'): exec(compile(text, 'httpd', 'exec'))"
MODULES = ("contextlib", "csv", "json", "logging", "random", "re", "subprocess", "tempfile", "traceback", "warnings")
LIMIT = 30.0  # seconds, reached only by a failure
VERSIONS = ("3.11", "3.12", "3.13")
OLDEST = "3.9"
SIGNALS = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "QUERY_STRING": "a=b&c=é"}

Result = tuple[bytes, bytes, int]


def found(version: str) -> str | None:
    if os.path.exists(f"/usr/bin/python{version}"):
        return f"/usr/bin/python{version}"
    with contextlib.suppress(OSError):
        folders = Path(pwd.getpwuid(os.getuid()).pw_dir, ".pyenv/versions").glob(f"{version}.*/bin")
        for folder in folders:
            return str(folder / f"python{version}")
    return shutil.which(f"python{version}")


def pump(given: dict[int, bytes], wanted: list[int], until: Callable[[list[bytes]], bool] | None = None) -> list[bytes]:
    """Write and close, read to the end: all at once, within the limit; `until`: no longer than that."""
    output = dict.fromkeys(wanted, b"")
    end = time.monotonic() + LIMIT
    with selectors.DefaultSelector() as selector:
        for fd in wanted:
            selector.register(fd, selectors.EVENT_READ)
        for fd, data in given.items():
            with contextlib.suppress(BrokenPipeError):
                assert os.write(fd, data) == len(data)  # less than a pipe holds
            os.close(fd)
        while selector.get_map() and not (until and until(list(output.values()))):
            ready = selector.select(end - time.monotonic())
            assert ready, f"nothing more comes after {output}"
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                output[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
    return list(output.values())


class Run:
    """A script that runs; its status comes by way of `Warm`."""

    def __init__(self, number: int, stdin: int, stdout: int, stderr: int) -> None:
        self.number, self.stdin, self.stdout, self.stderr = number, stdin, stdout, stderr
        self.pid = 0
        self.status: int | None = None

    def input(self) -> int:
        """Its standard input, for who closes it."""
        fd, self.stdin = self.stdin, -1
        return fd

    def close(self) -> None:
        for fd in (self.stdin, self.stdout, self.stderr):
            if fd >= 0:
                os.close(fd)


class Warm:
    """The spawner's side."""

    def __init__(self, *command: str, environment: dict[str, str] = ENVIRONMENT, modules: tuple[str, ...] = MODULES,
                 **limits: int) -> None:  # fmt: skip
        self.command = command
        self.environment = environment
        self.expected: dict[bytes, bytes] = {}
        self.runs: dict[int, Run] = {}
        for name in os.listdir("/proc/self/fd"):  # as in the spawner, nothing is inherited
            with contextlib.suppress(OSError):
                os.set_inheritable(int(name), int(name) < 3)
        self.door, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.door.settimeout(LIMIT)
        source, writer = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        with open(writer, "wb") as pipe:
            pipe.write(SOURCE)
        self.stderr, stderr = os.pipe()
        high = (os.dup(source), os.dup(theirs.fileno()))
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, null, 1), (os.POSIX_SPAWN_DUP2, stderr, 2),
                   (os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4)]  # fmt: skip
        self.pid = os.posix_spawn(
            command[0], [*command, "-c", BOOT.decode()], {**environment, "LD_BIND_NOW": "1"}, file_actions=actions,
            setsid=True, setsigmask=(), setsigdef=SIGNALS,
        )  # fmt: skip
        for fd in (source, null, stderr, *high):
            os.close(fd)
        theirs.close()
        self.door.send(json.dumps({"modules": modules, "cpu": 0, "memory": 0, "files": 0, **limits}).encode())
        first = self.door.recv(1 << 20)
        self.first = json.loads(first) if first else None

    def send(self, message: object, fds: tuple[int, ...] = ()) -> None:
        extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        data = marshal.dumps(message, 2)
        if len(data) > USUAL:
            self.door.send(marshal.dumps(len(data), 2))
        self.door.sendmsg([data], extra)

    def receive(self) -> tuple[str, int, int]:
        what, number, value = self.door.recv(1 << 20).decode().split()
        return what, int(number), int(value)

    def start(self, script: Path, *words: str | bytes, folder: Path | None = None, environment: Any = None) -> Run:
        ends = [os.pipe() for _ in range(3)]
        run = Run(len(self.runs) + 1, ends[0][1], ends[1][0], ends[2][0])
        theirs = (ends[0][0], ends[1][1], ends[2][1])
        self.runs[run.number] = run

        variables = {os.fsencode(name): os.fsencode(value) for name, value in (environment or self.environment).items()}
        if not self.expected:
            self.expected = variables
            self.send(variables)
        differs = {name: value for name, value in variables.items() if self.expected.get(name) != value}
        what = (
            run.number, os.fsencode(script), [os.fsencode(word) for word in (script, *words)], b"ppp",
            os.fsencode(folder or script.parent), marshal.dumps((differs, list(self.expected.keys() - variables)), 2),
        )  # fmt: skip
        self.send(what, fds=theirs)
        for fd in theirs:
            os.close(fd)
        return run

    def wait(self, wanted: Run) -> int:
        while wanted.status is None:
            what, number, value = self.receive()
            assert what in ("pid", "status")
            setattr(self.runs[number], what, value)
        return os.waitstatus_to_exitcode(wanted.status)

    def run(self, script: Path, *words: str | bytes, stdin: bytes = b"", **more: Any) -> Result:
        run = self.start(script, *words, **more)
        try:
            stdout, stderr = pump({run.input(): stdin}, [run.stdout, run.stderr])
            return stdout, stderr, self.wait(run)
        finally:
            run.close()

    def ended(self) -> int:
        """Let it go, and wait for its end, which `stderr` shows."""
        self.door.close()
        said, *_ = pump({}, [self.stderr])
        assert said == b""
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def close(self) -> None:
        self.door.close()
        os.close(self.stderr)
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def executed(command: tuple[str, ...], script: Path, *words: str | bytes, stdin: bytes = b"",
             environment: dict[str, str] = ENVIRONMENT, folder: Path | None = None) -> Result:  # fmt: skip
    done = subprocess.run(
        [*command, script, *words], input=stdin, capture_output=True, env=environment, cwd=folder or script.parent,
        process_group=0, timeout=LIMIT, check=False,
    )  # fmt: skip
    return done.stdout, done.stderr, done.returncode


@pytest.fixture(scope="module", params=VERSIONS)
def python(request: pytest.FixtureRequest) -> str:
    path = found(request.param)
    if path is None:
        pytest.skip(f"there is no Python {request.param}")
    if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip(f"{path} does not run")
    return path


@pytest.fixture(scope="module")
def shared(python: str) -> Iterator[Warm]:
    warm = Warm(python)
    yield warm
    warm.close()


@pytest.fixture(scope="module")
def current() -> str:
    """The one Python for what does not differ between them."""
    return next(path for path in map(found, reversed(VERSIONS)) if path)


@pytest.fixture
def started(current: str) -> Iterator[Callable[..., Warm]]:
    warms: list[Warm] = []

    def start(*options: str, **more: Any) -> Warm:
        warms.append(Warm(current, *options, **more))
        return warms[-1]

    yield start
    for warm in warms:
        warm.close()


def write(folder: Path, source: str | bytes, name: str = "probe.py") -> Path:
    path = folder / name
    path.write_bytes(source if isinstance(source, bytes) else source.encode())
    return path


def same(warm: Warm, script: Path, *words: str | bytes, **more: Any) -> Result:
    with ThreadPoolExecutor() as pool:
        other = pool.submit(executed, warm.command, script, *words, environment=warm.environment, **more)
        by_fork = warm.run(script, *words, **more)
        by_exec = other.result()
    assert plain(by_fork) == plain(by_exec)
    return by_exec


def plain(result: Result) -> Result:
    """Without addresses."""
    output, errors, status = result
    return re.sub(rb" at 0x[0-9a-f]+", b"", output), re.sub(rb" at 0x[0-9a-f]+", b"", errors), status


STATE = """
import sys
names = {name: value for name, value in globals().items()}
import builtins, os, resource, signal
for name, value in names.items():
    if name == "__loader__":
        value = (type(value), vars(value))
    print(name, type(value), ascii(value) if name != "__builtins__" else value is builtins)
main = sys.modules["__main__"]
import __main__
print(main is __main__, vars(main) is globals(), type(main), main)
print(ascii(sys.argv), ascii(getattr(sys, "orig_argv", None)), ascii(sys.path), sys.flags, sys.warnoptions, sys._xoptions)
print(sys.executable, sys.prefix, sys.getrecursionlimit(), sys.dont_write_bytecode, sys.getfilesystemencoding())
print([hasattr(sys, name) for name in ("last_type", "last_value", "last_traceback", "ps1")], sys.exc_info())
print(sys.excepthook is sys.__excepthook__, sys.meta_path, sys.path_hooks[0], sys.path_importer_cache[__file__])
print(os.getcwd(), list(os.environ.items()) == list(os.environ.copy().items()), ascii(dict(os.environ)))
print(list(os.environ), os.environ is os.environ, flush=True)
mask = os.umask(0)
print(mask, os.getpgid(0) == os.getpid() != os.getsid(0), os.getuid(), os.getgid(), os.getgroups())
print([(number, signal.getsignal(number)) for number in signal.valid_signals()], signal.pthread_sigmask(signal.SIG_BLOCK, ()))
for line in open("/proc/self/status"):
    if line.startswith(("SigB", "SigI", "SigC", "SigP", "Shd")):
        print(line[:6], hex(int(line[7:], 16) & ~(3 << 31)))  # posix_spawn of glibc ignores two that are its own
    elif line.startswith("Threads"):
        print(line)
print(signal.set_wakeup_fd(-1), signal.getitimer(signal.ITIMER_REAL))
print([resource.getrlimit(getattr(resource, name)) for name in sorted(dir(resource)) if name.startswith("RLIMIT_")])
def there(fd):
    try:
        return os.fstat(fd) and True
    except OSError:
        return False
print([fd for fd in range(1024) if there(fd)], [os.get_inheritable(fd) for fd in range(3)])
"""
STREAMS = """
import sys
for name in ("stdin", "stdout", "stderr"):
    stream = getattr(sys, name)
    raw = getattr(stream.buffer, "raw", stream.buffer)
    print(name, stream, stream.name, stream.mode, stream.encoding, stream.errors, stream.line_buffering)
    print(stream.write_through, stream.newlines, type(stream), type(stream.buffer), raw, raw.closefd, raw.mode, raw.name)
    print(stream is getattr(sys, f"__{name}__"), stream.fileno(), stream.isatty(), stream.seekable(), vars(stream))
print(ascii(sys.stdin.readline()), ascii(sys.stdin.read()))
sys.stderr.write("é\\udcff\\n")
print("out 1"); print("err 1", file=sys.stderr); print("out 2")
print("\\xe9")
print("\\udcff")
"""

PROBES: dict[str, str | bytes] = {
    "nothing": "",
    "state": STATE,
    "main thread": "import os, threading\nmain = threading.main_thread()\n"
    "print(main.ident == threading.get_ident(), main.native_id == os.getpid(), threading.enumerate() == [main])",
    "streams": STREAMS,
    "future": "import sys\nprint(1 / 2)\ndef f(a: int) -> 'x': pass\nprint(f.__annotations__)\nx: int = 1\nprint(__annotations__)",
    "no future is inherited": "def f(a: undefined): pass",
    "docstring": "'about'\nprint(__doc__, __name__, __file__, __package__, __spec__)",
    "if main": "if __name__ == '__main__':\n    print('main')",
    "c environment": "import subprocess, sys\nsys.stdout.flush()\nsubprocess.run(['/usr/bin/env'])",
    # Ends.
    **{
        f"exit {code}": f"import sys\nprint('a')\ndef f():\n    sys.exit({code})\nf()"
        for code in ("None", "0", "3", "-1", "300", "1 << 40", "'text'", "(1, 2)")
    },
    "exit of an exit": "class Mine(SystemExit):\n    code = 9\nraise Mine(4)",
    "exit of a handler": "import sys\ntry:\n    1 / 0\nexcept Exception:\n    sys.exit(5)",
    "exception": "def f():\n    print('before')\n    return 1 / 0\n\nf()\n",
    "exception by exec": "exec('1/0')",
    "chain": "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b') from e",
    "context": "try:\n    {}['a']\nexcept KeyError as e:\n    raise ValueError('b')",
    "of a class": "class E(Exception):\n    def __str__(self): return 'näh'\nraise E",
    "bare class": "raise KeyboardInterrupt",
    "interrupted": "import os, signal\nprint('a')\nos.kill(os.getpid(), signal.SIGINT)\nimport time; time.sleep(30)",
    "terminated": "import os, signal\nos.kill(os.getpid(), signal.SIGTERM)\nimport time; time.sleep(30)",
    "pipe": "import os\nos.close(0)\na, b = os.pipe()\nos.close(a)\nos.write(b, b'1')",
    "generator exit": "raise GeneratorExit",
    "_exit": "import os\nprint('lost')\nos._exit(7)",
    "abort": "import os\nos.abort()",
    "output before the traceback": "import os, sys\nos.dup2(1, 2)\nprint('first')\n1 / 0",
    "syntax": "print('never')\nif True print('b')\n",
    "indentation": "if 1:\nprint('b')\n",
    "not utf-8": b"# nothing\nprint('\xe9')\n",
    "latin-1": b"# -*- coding: latin-1 -*-\nprint(ascii('\xe9'))\n",
    "no such coding": b"# coding: nothing\nprint(1)\n",
    "mark of order": b"\xef\xbb\xbfprint(1)\n",
    "null": b"print(1)\n\0\n",
    "crlf": b"print('''a\r\nb''')\r\nprint(2)\r",
    "syntax in an import": "import ast\nast.parse('a b')",
    "excepthook": "import sys\ndef hook(*args):\n    print(args[0], args[1], args[2].tb_frame.f_code.co_name,"
    " args[2].tb_next, sys.last_traceback is args[2], sys.excepthook is hook)\nsys.excepthook = hook\n1 / 0",
    "excepthook exits": "import sys\nsys.excepthook = lambda *args: sys.exit(9)\n1 / 0",
    "atexit": "import atexit, sys\natexit.register(print, 1)\natexit.register(print, 2)\nprint(3)",
    "atexit fails": "import atexit\ndef f(): 1 / 0\natexit.register(f)\natexit.register(print, 2)",
    "atexit of an exit": "import atexit, sys\natexit.register(print, 1)\nsys.exit(4)",
    "thread": "import threading\ne = threading.Event()\ndef f():\n    e.wait()\n    threading.main_thread().join()\n"
    "    print('late')\nthreading.Thread(target=f).start()\n"
    "print('main', threading.current_thread() is threading.main_thread())\ne.set()",
    "thread fails": "import threading\ndef f(): 1 / 0\nt = threading.Thread(target=f, name='T'); t.start(); t.join()",
    "daemon": "import threading, time\nthreading.Thread(target=time.sleep, args=(30,), daemon=True).start()\nprint(1)",
    "full": "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\nprint(1)",
    "full, exit": "import os, sys\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\nprint(1)\nsys.exit(3)",
    "full, by atexit": "import os, atexit\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)\natexit.register(print, 1)",
    "closed": "import os, sys\nprint(1)\nsys.stdout.close()",
    "closed below": "import os, sys\nprint(1)\nos.close(1)",
    "no streams": "import sys\nsys.stdout = sys.stderr = None",
    "others' streams": "import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.buffer, 'latin-1')\nprint('\\xe9')",
    "detached": "import sys, io\nsys.stdout = io.TextIOWrapper(sys.stdout.detach(), 'utf-16')\nprint('\\xe9')",
    "codec": "import sys, codecs\nsys.stdout = codecs.getwriter('utf-8')(sys.stdout.buffer)\nsys.stdout.write('\\xe9')",
    "bytes": "import sys\nsys.stdout.buffer.write(b'1')\nprint(2)",
    "unflushed": "import os\nf = os.fdopen(os.dup(1), 'w')\nf.write('late')\n",
    "unflushed, in use": "import os, atexit, sys\nf = os.fdopen(os.dup(1), 'w')\nf.write('late')\ndef g(): f\n"
    "atexit.register(g)\nimport signal\nsignal.signal(signal.SIGTERM, lambda *a: g())\nsys.exit(3)",
    "unflushed, in a module": "import other\nother.f.write('late')",
    "del": "import sys\nclass A:\n    def __init__(self, n): self.n = n\n    def __del__(self): print('del', self.n)\n"
    "a = A(1)\na.a = a\nb = A(2)\ndef f(): return b\nsys.exit(2)",
    "generator": "def g():\n    try:\n        yield 1\n    finally:\n        print('closed')\na = g()\nnext(a)",
    "finalize": "import weakref\nclass A: pass\na = A()\nweakref.finalize(a, print, 'gone')",
    "temporary": "import tempfile\nt = tempfile.TemporaryDirectory()\nf = tempfile.NamedTemporaryFile()\nprint(1)",
    "c output": "import ctypes\nctypes.CDLL(None).puts(b'by C')\n",
    "handlers": "import logging, sys\nlogging.basicConfig(stream=sys.stdout)\nlogging.warning('a')\nlogging.getLogger('b').error('c')",
    "last resort": "import logging\nlogging.warning('a')",
    "fork": "import os\nprint('twice', flush=True)\nif os.fork():\n    print(os.wait()[1])\nelse:\n    print('child')",
    "fork exits": "import os, sys\nif os.fork():\n    sys.exit(os.wait()[1] >> 8)\nsys.exit(3)",
    # Modules and sources.
    "pickle": "import pickle\nclass A:\n    x = 1\na = A()\na.b = 2\nb = pickle.loads(pickle.dumps(a))\nprint(type(b), b.b, type(b) is A)",
    "multiprocessing fork": "import multiprocessing\ndef f(x): return x * x\nif __name__ == '__main__':\n"
    "    with multiprocessing.get_context('fork').Pool(2) as p: print(p.map(f, range(4)))",
    "multiprocessing spawn": "import multiprocessing\ndef f(q): q.put((__name__, __file__))\nif __name__ == '__main__':\n"
    "    c = multiprocessing.get_context('spawn')\n    q = c.SimpleQueue()\n    p = c.Process(target=f, args=(q,))\n"
    "    p.start()\n    print(q.get())\n    p.join()\n    print(p.exitcode)",
    "asyncio": "import asyncio\nasync def f():\n    await asyncio.sleep(0)\n    p = await asyncio.create_subprocess_exec('true')\n"
    "    return await p.wait()\nprint(asyncio.run(f()))",
    "subprocess": "import subprocess, sys\nprint(subprocess.run(['sh', '-c', 'echo a; exit 3'], stdout=-1))",
    "inspect": "import inspect, linecache\ndef f():\n    return 1  # here\nprint(inspect.getsource(f), linecache.getline(__file__, 1))",
    "traceback": "import traceback\ndef f(): raise ValueError(1)\ntry:\n    f()\nexcept ValueError:\n    traceback.print_exc()",
    "neighbour": "import other\nprint(other.__file__, other.__name__)",
    "neighbour fails": "import fails",
    "no module": "import nothing_of_the_kind",
    "relative import": "from . import other",
    "resources": "import sys\nprint(__builtins__.__name__, __loader__.get_filename(), __loader__.get_data(__file__)[:6])",
    # Warnings.
    "deprecation": "import warnings\nwarnings.warn('a', DeprecationWarning)\ndef f():\n    warnings.warn('b', DeprecationWarning)\nf()\nf()",
    "deprecation of a module": "import other\nother.warn()",
    "pending": "import warnings\nwarnings.warn('a', PendingDeprecationWarning)\nwarnings.warn('b', ResourceWarning)",
    "escape": "print('\\d')\nprint(1 is 1)\n",
    "escape and syntax": "print('\\d')\nif True print(1)\n",
}  # fmt: skip
NEIGHBOURS = {
    "other.py": "import os, warnings\nf = os.fdopen(os.dup(1), 'w')\ndef warn(): warnings.warn('c', DeprecationWarning)\n",
    "fails.py": "def f(): 1 / 0\nf()\n",
}


@pytest.mark.parametrize("probe", PROBES)
def test_like_an_exec(shared: Warm, probe: str, tmp_path: Path) -> None:
    for name, text in NEIGHBOURS.items():
        write(tmp_path, text, name)
    script = write(tmp_path, PROBES[probe], "próbe.py")
    same(shared, script, "a b", b"\xff\xe9", "-u", stdin=b"a\r\nb\rc\xe9\n")


@pytest.mark.parametrize(
    "options",
    ["-u", "-I", "-E", "-S", "-OO", "-Werror", "-W always", "-X utf8", "-X dev", "-uIB", "-P"],
)
@pytest.mark.parametrize("probe", ["state", "streams", "escape", "exception", "exit 3", "deprecation"])
def test_options(current: str, options: str, probe: str, tmp_path: Path, cache: dict[str, Warm]) -> None:
    if options not in cache:
        cache[options] = Warm(current, *options.split())
    same(cache[options], write(tmp_path, PROBES[probe]), stdin=b"a")


@pytest.fixture(scope="module")
def cache() -> Iterator[dict[str, Warm]]:
    warms: dict[str, Warm] = {}
    yield warms
    for warm in warms.values():
        warm.close()


@pytest.mark.parametrize(
    "more",
    [
        {"LANG": "C"},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "latin-1:replace"},
        {"PYTHONUNBUFFERED": "1"},
        {"PYTHONWARNINGS": "error"},
        {"PYTHONPATH": "/nowhere:/tmp", "PYTHONSAFEPATH": "1"},
        {"PYTHONHASHSEED": "0", "PYTHONOPTIMIZE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        {"PYTHONDEVMODE": "1"},
    ],
    ids=str,
)
def test_environments(started: Callable[..., Warm], more: dict[str, str], tmp_path: Path) -> None:
    warm = started(environment={**ENVIRONMENT, **more})
    for probe in (STATE, STREAMS, PROBES["c environment"]):
        same(warm, write(tmp_path, probe), "ä", stdin=b"a\xe9")


def test_the_oldest_python(tmp_path: Path) -> None:
    path = found(OLDEST)
    if path is None:
        pytest.skip(f"there is no Python {OLDEST}")
    warm = Warm(path)
    try:
        for probe in ("state", "streams", "exit 300", "exception", "chain", "syntax", "full", "unflushed, in use", "thread",
                      "deprecation", "atexit fails", "bare class", "multiprocessing spawn", "neighbour fails"):  # fmt: skip
            for name, text in NEIGHBOURS.items():
                write(tmp_path, text, name)
            same(warm, write(tmp_path, PROBES[probe]), "a b", b"\xff\xe9", "-u", stdin=b"a\r\nb\rc\xe9\n")
    finally:
        warm.close()


def test_symlink(shared: Warm, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    write(tmp_path / "a", "where = 'a'", "other.py")
    (tmp_path / "b" / "probe.py").symlink_to(write(tmp_path / "a", "import other, sys\nprint(__file__, sys.path, other)"))
    same(shared, tmp_path / "b" / "probe.py", folder=tmp_path)


def test_other_kinds_of_files(shared: Warm, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "probe.zip", "w") as archive:
        archive.writestr("__main__.py", "import sys, inner\nprint(__file__, sys.argv, sys.path[0], __spec__.name)")
        archive.writestr("inner.py", "")
    same(shared, tmp_path / "probe.zip", "a")
    (tmp_path / "folder").mkdir()
    write(tmp_path / "folder", "print(__file__)", "__main__.py")
    same(shared, tmp_path / "folder", "a", folder=tmp_path)
    script = write(tmp_path, "print(__file__, __loader__)")
    compiling = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[1] + 'c')"
    subprocess.run([shared.command[0], "-c", compiling, script], check=True)
    same(shared, tmp_path / "probe.pyc")


@pytest.mark.parametrize("source", ["", STATE])
def test_a_script_that_vanished(shared: Warm, source: str, tmp_path: Path) -> None:
    assert same(shared, tmp_path / "none.py")[2] == 2
    script = write(tmp_path, source)
    script.unlink()
    script.symlink_to("nowhere.py")
    assert same(shared, script)[2] == 2


@pytest.mark.parametrize("name", ["json.py", "json/__init__.py", "csv.py"])
def test_a_module_of_the_folder_goes_first(shared: Warm, name: str, tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    write(tmp_path, "mine = True", name)
    script = write(tmp_path, "import json, csv, sys\nprint(hasattr(json, 'mine'), hasattr(csv, 'mine'), sys.argv)")
    assert b"True" in same(shared, script, "a")[0]


def test_a_folder_without_package_does_not(started: Callable[..., Warm], tmp_path: Path) -> None:
    (tmp_path / "json").mkdir()
    script = write(tmp_path, "import sys, json\nprint('csv' in sys.modules, json.dumps)")
    assert started(modules=("csv", "json")).run(script)[0].startswith(b"True")  # so by the fork


def test_a_fresh_process_each_time(started: Callable[..., Warm], tmp_path: Path) -> None:
    warm = started()
    script = write(tmp_path, "import json, os, random\nprint(hasattr(json, 'seen'), os.environ.get('SEEN'), random.random())"
                             "\njson.seen = 1\nos.environ['SEEN'] = '1'\nos.chdir('/')\nos.umask(0)")  # fmt: skip
    outputs = [warm.run(script)[0].split() for _ in range(3)]
    assert [words[:2] for words in outputs] == [[b"False", b"None"]] * 3
    assert len({words[2] for words in outputs}) == 3


def test_each_has_its_own_variables_alone(started: Callable[..., Warm], tmp_path: Path) -> None:
    first = {**ENVIRONMENT, "HTTP_COOKIE": "first", "SCRIPT_NAME": "/a", "CONTENT_LENGTH": "", "EMPTY": ""}
    second = {"QUERY_STRING": "", "HTTP_COOKIE": "second", "SCRIPT_NAME": "/b", "NEW": "1", "LANG": "C.UTF-8"}
    warm = started()
    script = write(tmp_path, "import os\nprint(sorted(os.environ.items()), sorted(os.environb), flush=True)\n"
                             "os.system('env | LC_ALL=C sort | grep -Ev \'^(_|PWD|SHLVL|OLDPWD|LC_CTYPE)=\'')")  # fmt: skip
    for environment in (first, second, {}, first, {**second, "HTTP_COOKIE": ""}):
        given = environment or {"LANG": "C.UTF-8"}
        assert warm.run(script, environment=given) == executed(warm.command, script, environment=given)


def test_long_messages(started: Callable[..., Warm], tmp_path: Path) -> None:
    assert b"\n_USUAL = %d " % USUAL in SOURCE
    warm = started()
    script = write(tmp_path, "import os, sys\nprint(len(os.environ['LONG']), sum(map(len, sys.argv[1:])))")
    for size in (1, USUAL - 300, USUAL, 100_000, 2):
        long = {**ENVIRONMENT, "LONG": size * "x"}
        assert warm.run(script, size * "y", environment=long) == (b"%d %d\n" % (size, size), b"", 0)


def test_a_script_is_compiled_again_when_it_has_changed(started: Callable[..., Warm], tmp_path: Path) -> None:
    (tmp_path / "hooks").mkdir()
    write(tmp_path / "hooks", "import os, sys\nsys.addaudithook(lambda event, args: event == 'compile' and args[1] and"
                              " args[1].endswith('probe.py') and os.write(2, b'compiled\\n'))\n",
          "sitecustomize.py")  # fmt: skip
    warm = started(environment={**ENVIRONMENT, "PYTHONPATH": str(tmp_path / "hooks")})

    def settled(script: Path) -> bytes:
        """It is compiled at first, and not any more once that is sure to be what is there."""
        compiled = executed(warm.command, script, environment=warm.environment)
        assert warm.run(script) == compiled
        expected = (compiled[0], compiled[1].replace(b"compiled\n", b""), 0)
        assert expected != compiled
        until = time.monotonic() + LIMIT
        while (result := warm.run(script)) != expected:
            assert result == compiled and time.monotonic() < until
        return result[0]

    script = write(tmp_path, "print(1)")
    assert settled(script) == b"1\n"
    times = script.stat()
    script.write_text("print(2)")  # no longer, no shorter, and the times say the same
    os.utime(script, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert settled(script) == b"2\n"
    write(tmp_path, "dumps = 'mine'", "json.py")
    script.write_text("import json\nprint(json.dumps)")
    assert warm.run(script)[0] == b"mine\n"
    (tmp_path / "json.py").unlink()
    script.write_text("print(1 is 1)")
    assert settled(script) == b"True\n"  # with a warning, each time


def test_what_a_module_does_is_kept_from_scripts(started: Callable[..., Warm], tmp_path: Path) -> None:
    write(tmp_path, "import os, signal\nos.environ['SET'] = 'by it'\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
                    "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\nprint('said')\n"
                    "import threading, time\nthreading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n",
          "mine.py")  # fmt: skip
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    warm = started("-S", "-Werror", modules=("mine",), environment=environment)
    (tmp_path / "cgi").mkdir()  # not beside that module, for which there would be an exec
    script = write(tmp_path / "cgi", "import os, signal, threading\nprint(os.environ['SET'], signal.getsignal(signal.SIGTERM).name,"
                                     " signal.pthread_sigmask(signal.SIG_BLOCK, ()), threading.active_count())")  # fmt: skip
    assert warm.run(script) == (b"by it SIG_DFL set() 1\n", b"", 0)
    assert str(tmp_path / "mine.py") in warm.first["ready"]
    assert all(os.path.isabs(file) for file in warm.first["ready"])
    assert warm.first["ready"][0].startswith(os.path.dirname(warm.command[0]))


# What a module may keep, and open, when it is loaded; `say` writes by that, and `end` is how the script ends.
KEEPS = {
    "stdout": "OUT = sys.stdout",
    "its buffer": "BUFFER = sys.stdout.buffer\nclass OUT:\n    write = staticmethod(lambda text: BUFFER.write(text.encode()))",
    "stderr": "OUT = sys.stderr",
    "a default": "def OUT(): pass\nOUT.write = lambda text, file=sys.stdout: file.write(text)",
    "a handler": "import logging\nlogging.basicConfig(level=logging.INFO, stream=sys.stdout, format='%(message)s')\n"
                 "def OUT(): pass\nOUT.write = lambda text: logging.info(text.rstrip())",
    "a wrapping": "import io\nOUT = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')",
    "a wrapping in its place": "import io\nOUT = sys.stdout = io.TextIOWrapper(sys.stdout.buffer, encoding='utf-8')",
    "what it took apart": "import io\nOUT = sys.stdout = io.TextIOWrapper(sys.stdout.detach(), encoding='utf-8')",
    "a file of its own": "OUT = open(1, 'w', closefd=False)",
    "one to which it has written": "OUT = open(1, 'w', closefd=False)\nOUT.write('')\nLOG = open(os.devnull, 'w')\nLOG.write('x')",
    "the lowest": "import codecs\nOUT = codecs.getwriter('utf-8')(os.fdopen(os.dup(1), 'wb'))\nOUT.stream.close()\n"
                  "OUT = open(1, 'w', 1, closefd=False)",
}  # fmt: skip


@pytest.mark.parametrize("end", ["", "sys.exit(3)", "1 / 0", "import atexit; atexit.register(sys.stderr.write, 'registered')"])
@pytest.mark.parametrize("kept", KEEPS.values(), ids=list(KEEPS))
def test_what_a_module_writes_by_what_it_kept(
    started: Callable[..., Warm], tmp_path: Path, kept: str, end: str
) -> None:
    """As if the script had loaded it: nothing is lost, nothing is written twice."""
    write(tmp_path, f"import os, sys\nIN = sys.stdin\n{kept}\n", "keeps.py")
    (tmp_path / "cgi").mkdir()  # not beside that module, for which there would be an exec
    script = write(tmp_path / "cgi", f"import sys, keeps\nkeeps.OUT.write('said: ')\nkeeps.OUT.write(keeps.IN.read() + '\\n')\n{end}")
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    warm = started(modules=("keeps",), environment=environment)
    assert "ready" in warm.first
    for _ in range(2):
        found = warm.run(script, stdin=b"read")
        assert plain(found) == plain(executed(warm.command, script, stdin=b"read", environment=environment))
        assert b"said" in found[0] + found[1]


def test_what_a_module_has_written_before_the_fork_is_written_once(
    started: Callable[..., Warm], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    write(tmp_path, f"LOG = open({str(log)!r}, 'w')\nLOG.write('loaded\\n')", "keeps.py")
    (tmp_path / "cgi").mkdir()
    warm = started(modules=("keeps",), environment={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)})
    script = write(tmp_path / "cgi", "import keeps\nkeeps.LOG.write('run\\n')")
    for _ in range(3):
        assert warm.run(script) == (b"", b"", 0)
    assert log.read_text() == "loaded\nrun\nrun\nrun\n"


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("1 / 0", "mine: ZeroDivisionError: division by zero"),
        ("import nothing_of_the_kind", "mine: ModuleNotFoundError: No module named 'nothing_of_the_kind'"),
        ("import sys; sys.exit(3)", "mine: SystemExit: 3"),
    ],
)
def test_a_module_that_fails(started: Callable[..., Warm], source: str, message: str, tmp_path: Path) -> None:
    write(tmp_path, source, "mine.py")
    warm = started(modules=("json", "mine"), environment={"PYTHONPATH": str(tmp_path)})
    assert warm.first == {"failed": message}
    assert warm.door.recv(1) == b""
    assert warm.ended() == 1


def test_limits(started: Callable[..., Warm], tmp_path: Path) -> None:
    warm = started(cpu=7, memory=1 << 30, files=99)
    script = write(tmp_path, "from resource import *\nfor kind in RLIMIT_CPU, RLIMIT_AS, RLIMIT_NOFILE: print(*getrlimit(kind))")
    assert warm.run(script) == (b"7 8\n1073741824 1073741824\n99 99\n", b"", 0)
    hard = started(cpu=7, files=1 << 40).run(script)  # not above what there is
    assert hard[1:] == (b"", 0)


def test_the_limit_of_time_ends_it(started: Callable[..., Warm], tmp_path: Path) -> None:
    assert started(cpu=1).run(write(tmp_path, "while True: pass"))[2] == -signal.SIGXCPU


def test_several_at_once(started: Callable[..., Warm], tmp_path: Path) -> None:
    warm = started()
    script = write(tmp_path, "import sys\nprint('up', flush=True)\nprint(sys.stdin.read())")
    runs = [warm.start(script) for _ in range(4)]
    for run in runs:
        assert pump({}, [run.stdout], lambda output: output == [b"up\n"]) == [b"up\n"]
    for number, run in reversed(list(enumerate(runs))):
        assert pump({run.input(): b"%d" % number}, [run.stdout, run.stderr]) == [b"%d\n" % number, b""]
        assert warm.wait(run) == 0
        assert [other.status for other in runs[:number]] == [None] * number
        run.close()


# A leader with a child in its group that ignores what the leader is told.
FAMILY = """
import os, signal, sys
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("up", flush=True)
    while True:
        signal.pause()
sys.stdin.read()
"""


def test_what_is_left_of_a_run_that_was_told_to_stop_is_killed(started: Callable[..., Warm], tmp_path: Path) -> None:
    warm = started()
    run = warm.start(write(tmp_path, FAMILY))
    pump({}, [run.stdout], lambda output: output == [b"up\n"])
    warm.send((run.number, int(signal.SIGTERM)))
    assert pump({}, [run.stdout]) == [b""]  # the child held it open
    assert warm.wait(run) == -signal.SIGTERM
    warm.send((run.number, int(signal.SIGTERM)))  # nobody's number any more
    run.close()
    assert warm.run(write(tmp_path, "print(1)"))[0] == b"1\n"


def test_what_is_left_of_another_is_not(started: Callable[..., Warm], tmp_path: Path) -> None:
    warm = started()
    run = warm.start(write(tmp_path, FAMILY))
    pump({}, [run.stdout], lambda output: output == [b"up\n"])
    os.close(run.input())
    assert warm.wait(run) == 0
    os.killpg(run.pid, 0)
    os.killpg(run.pid, signal.SIGKILL)
    assert pump({}, [run.stdout]) == [b""]
    run.close()


def test_a_stop_as_early_as_can_be(started: Callable[..., Warm], tmp_path: Path) -> None:
    warm = started()
    script = write(tmp_path, "import signal\nsignal.pause()")
    for _ in range(20):
        run = warm.start(script)
        warm.send((run.number, int(signal.SIGTERM)))
        assert warm.wait(run) == -signal.SIGTERM
        run.close()


def test_it_ends_with_its_spawner(started: Callable[..., Warm]) -> None:
    assert started().ended() == 0


def test_it_ends_with_its_last_script(started: Callable[..., Warm], tmp_path: Path) -> None:
    warm = started()
    run = warm.start(write(tmp_path, "import sys\nprint('up', flush=True)\nprint(sys.stdin.read())"))
    pump({}, [run.stdout], lambda output: output == [b"up\n"])
    warm.door.close()  # with the news of the pid unread
    assert os.waitpid(warm.pid, os.WNOHANG) == (0, 0)
    assert pump({run.input(): b"end"}, [run.stdout]) == [b"end\n"]
    assert warm.ended() == 0
    run.close()


def test_a_folder_that_is_not_there(started: Callable[..., Warm], tmp_path: Path) -> None:
    output, errors, status = started().run(write(tmp_path, ""), folder=tmp_path / "none")
    assert (output, status) == (b"", 127)
    assert errors.startswith(b"the warm interpreter: [Errno 2]")


def test_no_more_processes(started: Callable[..., Warm], tmp_path: Path) -> None:
    if os.getuid() == 0:
        pytest.skip("root has no limit of processes")
    warm = started()
    import resource

    resource.prlimit(warm.pid, resource.RLIMIT_NPROC, (1, 1))
    run = warm.start(write(tmp_path, ""))
    assert warm.receive() == ("errno", run.number, 11)
    run.close()


def test_it_fits_into_a_pipe() -> None:
    assert len(SOURCE) <= 60 * 1024


def test_its_syntax_is_that_of_the_oldest_python() -> None:
    for part in PARTS:
        ast.parse(part, feature_version=(3, 9))


def test_no_more_descriptors(started: Callable[..., Warm], tmp_path: Path) -> None:
    """Scripts that can't be watched are not run; the others go on, and so does what comes behind."""
    import resource

    warm = started()
    before = len(os.listdir(f"/proc/{warm.pid}/fd"))
    waits = warm.start(write(tmp_path, "input()"))
    assert warm.receive()[0] == "pid"
    limits = resource.prlimit(warm.pid, resource.RLIMIT_NOFILE)
    until = time.monotonic() + LIMIT
    while len(used := set(os.listdir(f"/proc/{warm.pid}/fd"))) > before + 2:  # what watches it, what its code comes by
        assert time.monotonic() < until
    free = [number for number in range(100) if str(number) not in used]
    resource.prlimit(warm.pid, resource.RLIMIT_NOFILE, (free[2] + 1, limits[1]))  # as many as a message brings
    refused = warm.start(write(tmp_path, "print(1)", "other.py"))
    assert warm.receive() == ("errno", refused.number, errno.EMFILE)
    refused.close()
    resource.prlimit(warm.pid, resource.RLIMIT_NOFILE, limits)
    assert warm.run(tmp_path / "other.py") == (b"1\n", b"", 0)
    os.write(waits.stdin, b"\n")
    assert warm.wait(waits) == 0
    waits.close()
