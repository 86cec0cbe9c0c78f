"""Starting programs (RFC 3875 7.2): what they inherit, what limits them, and why they do not start."""

from __future__ import annotations

import errno
import json
import os
import resource
import signal
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from httpd.cgi.process import Launch, explain, shebang, start
from httpd.config.schema import ScriptLimits
from machine import descriptors

PYTHON = os.fsencode(os.path.realpath(sys.executable))
# A limit that changes nothing has the program started by the other of two ways.
WAYS = [pytest.param(None, id="spawn"), pytest.param(ScriptLimits(files=200), id="fork")]
PROBE = """
import json, os, resource, signal, sys
blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
status = dict(line.split(":", 1) for line in open("/proc/self/status")) if sys.platform == "linux" else {}
print(json.dumps({
    "pid": os.getpid(), "ppid": os.getppid(), "pgid": os.getpgid(0), "sid": os.getsid(0), "cwd": os.getcwd(),
    "arguments": sys.argv[1:], "blocked": blocked, "ignored": status.get("SigIgn", "0").strip(),
    "environment": dict(os.environ), "fds": sorted(int(name) for name in os.listdir("/dev/fd")),
    "limits": {name: resource.getrlimit(getattr(resource, name))
               for name in ("RLIMIT_CPU", "RLIMIT_AS", "RLIMIT_NOFILE")},
    "stdin": sys.stdin.read(),
}))
print("to stderr", file=sys.stderr)
"""
Result = tuple[bytes, bytes, int]


class Runner:
    """Starts a program in a folder of its own, and waits for its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, file: bytes, arguments: Sequence[bytes], limits: ScriptLimits | None = None, *,
                 stdin: bytes = b"", environment: dict[bytes, bytes] | None = None) -> Result:  # fmt: skip
        with open(self.folder / "stdin", "w+b") as given, open(self.folder / "out", "w+b") as out, \
                open(self.folder / "err", "w+b") as err:  # fmt: skip
            given.write(stdin)
            given.seek(0)
            launch = Launch(file, (file, *arguments), environment or {}, os.fsencode(self.folder), given.fileno(),
                            out.fileno(), err.fileno())  # fmt: skip
            here = os.getcwd()
            try:
                pid = start(launch, limits)
            finally:
                os.chdir(here)
            _, status = os.waitpid(pid, 0)
            out.seek(0)
            err.seek(0)
            return out.read(), err.read(), os.waitstatus_to_exitcode(status)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Runner]:
    before = descriptors()
    yield Runner(tmp_path)
    assert descriptors() == before, "descriptors left open"


@pytest.fixture
def probe(run: Runner) -> Callable[..., dict[str, Any]]:
    def look(limits: ScriptLimits | None, *arguments: bytes, **fields: Any) -> dict[str, Any]:
        out, err, code = run(PYTHON, (b"-I", b"-S", b"-c", PROBE.encode(), *arguments), limits, **fields)
        assert (err, code) == (b"to stderr\n", 0)
        found: dict[str, Any] = json.loads(out)
        return found

    return look


Probe = Callable[..., dict[str, Any]]


@pytest.mark.parametrize("limits", WAYS)
def test_it_leads_a_group_of_its_own(probe: Probe, limits: ScriptLimits | None) -> None:
    found = probe(limits)
    assert found["pid"] == found["pgid"]
    assert found["sid"] == os.getsid(0)
    assert found["ppid"] == os.getpid()


@pytest.mark.parametrize("limits", WAYS)
def test_folder_arguments_environment_and_input(run: Runner, probe: Probe, limits: ScriptLimits | None) -> None:
    """It gets these and nothing of its parent's."""
    found = probe(limits, b"a", b"", b"b c", stdin=b"hello", environment={b"A": b"b", b"LC_ALL": b"C.UTF-8"})
    assert found["cwd"] == os.path.realpath(run.folder)
    assert found["arguments"] == ["a", "", "b c"]
    assert found["environment"] == {"A": "b", "LC_ALL": "C.UTF-8"}
    assert found["stdin"] == "hello"


@pytest.mark.parametrize("limits", WAYS)
def test_signals_are_at_their_defaults(probe: Probe, limits: ScriptLimits | None) -> None:
    """Python ignores SIGPIPE and SIGXFSZ, and a daemon blocks and ignores more."""
    numbers = (signal.SIGHUP, signal.SIGUSR1, signal.SIGINT, signal.SIGTTOU)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGTERM, signal.SIGRTMIN))
    try:
        found = probe(limits)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
    assert found["blocked"] == []
    # Those of the C library (32, 33) are its own business; two the interpreter of the probe ignores by itself.
    ignored = {number for number in signal.valid_signals() if int(found["ignored"], 16) >> (number - 1) & 1}
    assert ignored == {signal.SIGPIPE, signal.SIGXFSZ}


@pytest.mark.parametrize("limits", WAYS)
def test_sigpipe_ends_it(run: Runner, limits: ScriptLimits | None) -> None:
    """What no Python program shows: a shell ends when nobody reads any more."""
    script = run.folder / "script"
    script.write_text("#!/bin/sh\nkill -PIPE $$\necho lived\n")
    script.chmod(0o755)
    assert run(os.fsencode(script), (), limits) == (b"", b"", -signal.SIGPIPE)


@pytest.mark.parametrize("limits", WAYS)
def test_it_has_three_descriptors(probe: Probe, limits: ScriptLimits | None) -> None:
    """And those that whoever runs the tests has left open for all: a spawner has closed them long before."""
    ends = os.pipe()
    left = {fd for fd in range(1024) if inherited(fd)}
    assert not left & {*ends}
    try:
        found = probe(limits)
    finally:
        for fd in ends:
            os.close(fd)
    listing = min(set(range(100)) - {0, 1, 2} - left)  # the folder that was listed
    assert set(found["fds"]) == {0, 1, 2, listing} | left


@pytest.mark.parametrize("limits", WAYS)
def test_a_script_by_its_first_line(run: Runner, limits: ScriptLimits | None) -> None:
    script = run.folder / "script"
    script.write_text('#!/bin/sh\necho "$0 $1"\nexit 7\n')
    script.chmod(0o755)
    assert run(os.fsencode(script), (b"a",), limits) == (os.fsencode(script) + b" a\n", b"", 7)


def inherited(fd: int) -> bool:
    """Whether every program that is started here gets it."""
    try:
        return os.get_inheritable(fd)
    except OSError:
        return False


# Limits


@pytest.mark.parametrize("limits", [None, ScriptLimits(cpu=100)])
def test_a_soft_limit_of_its_own_on_open_files(limits: ScriptLimits | None) -> None:
    """It has less than who starts it, who may have more open than that."""
    before, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    reader, writer = os.pipe()
    raised = max(before, 200) if hard == resource.RLIM_INFINITY else min(max(before, 200), hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
    many = [os.dup(reader) for _ in range(60)]
    try:
        launch = Launch(b"/bin/sh", (b"sh", b"-c", b"ulimit -Sn"), {}, b"/", reader, writer, writer)
        pid = start(launch, limits, (50, raised, hard))
        assert os.waitpid(pid, 0)[1] == 0
        assert os.read(reader, 100) == b"50\n"
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (raised, hard)
    finally:
        for fd in (reader, writer, *many):
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, (before, hard))


def test_limits(probe: Probe) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    files = 100 if hard == resource.RLIM_INFINITY else min(100, hard)
    found = probe(ScriptLimits(cpu=1.2, memory=1 << 30, files=files))["limits"]
    assert found == {"RLIMIT_CPU": [2, 3], "RLIMIT_AS": [1 << 30, 1 << 30], "RLIMIT_NOFILE": [files, files]}


@pytest.mark.parametrize(
    "limits", [ScriptLimits(cpu=5), ScriptLimits(memory=1 << 30), ScriptLimits(files=50)],
    ids=["cpu", "memory", "files"],
)
def test_what_has_no_limit_stays_as_it_was(probe: Probe, limits: ScriptLimits) -> None:
    found = probe(limits)["limits"]
    given = {"RLIMIT_CPU": limits.cpu, "RLIMIT_AS": limits.memory, "RLIMIT_NOFILE": limits.files}
    for name, value in given.items():
        if not value:
            assert found[name] == list(resource.getrlimit(getattr(resource, name)))


def test_a_limit_of_output_alone_needs_no_fork(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is held by who reads the output."""
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    probe(ScriptLimits(output=1))


def test_a_limit_above_the_hard_one_is_the_hard_one(run: Runner) -> None:
    """It is not an error: the stricter of the two holds."""
    code = (
        "import os, resource, sys\n"
        "from httpd.cgi.process import Launch, start\n"
        "from httpd.config.schema import ScriptLimits\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (50, 60))\n"
        "launch = Launch(b'/bin/sh', (b'sh', b'-c', b'ulimit -n; ulimit -Hn'), {}, b'/', 0, 1, 2)\n"
        "_, status = os.waitpid(start(launch, ScriptLimits(files=1000)), 0)\n"
        "sys.exit(os.waitstatus_to_exitcode(status))\n"
    )
    if os.geteuid() == 0:  # for whom no limit is a hard one
        code = code.replace("launch =", "os.setgid(65534); os.setuid(65534)\nlaunch =")
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = run(os.fsencode(sys.executable), (b"-c", code.encode()), environment={b"PYTHONPATH": os.fsencode(path)})
    assert done == (b"60\n60\n", b"", 0)


def test_processor_time(run: Runner) -> None:
    out, _, code = run(b"/bin/sh", (b"-c", b"while :; do :; done"), ScriptLimits(cpu=1))
    assert (out, code) == (b"", -signal.SIGXCPU)


def test_memory(run: Runner) -> None:
    code = b"try: bytearray(1 << 30)\nexcept MemoryError: print('no')"
    assert run(PYTHON, (b"-I", b"-S", b"-c", code), ScriptLimits(memory=256 << 20)) == (b"no\n", b"", 0)


# What does not start


def failure(run: Runner, file: bytes, limits: ScriptLimits | None) -> OSError:
    with pytest.raises(OSError) as caught:
        run(file, (), limits)
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # nothing of it is left to be waited for
    return caught.value


def write(path: Path, content: bytes, mode: int = 0o755) -> bytes:
    path.write_bytes(content)
    path.chmod(mode)
    return os.fsencode(path)


CASES = [
    (b"#!/nowhere/python3\n", 0o755, errno.ENOENT,
     "No such file or directory (errno 2): look at the interpreter that its first line names, '/nowhere/python3'"),
    (b"#!/bin/sh\r\n", 0o755, errno.ENOENT,
     "No such file or directory (errno 2): look at the interpreter that its first line names, '/bin/sh\\r'"),
    (b"#!/etc/passwd\n", 0o755, errno.EACCES,
     "Permission denied (errno 13): look at the interpreter that its first line names, '/etc/passwd'"),
    (b"#!/etc/passwd/x -a\n", 0o755, errno.ENOTDIR,
     "Not a directory (errno 20): look at the interpreter that its first line names, '/etc/passwd/x'"),
    (b"echo no first line\n", 0o755, errno.ENOEXEC,
     "Exec format error (errno 8): neither a program of this machine, nor is its first line one of #!"),
    (b"\x7fELF nonsense", 0o755, errno.ENOEXEC,
     "Exec format error (errno 8): neither a program of this machine, nor is its first line one of #!"),
    (b"", 0o755, errno.ENOEXEC,
     "Exec format error (errno 8): neither a program of this machine, nor is its first line one of #!"),
    (b"no script", 0o644, errno.EACCES, "Permission denied (errno 13)"),
]  # fmt: skip


@pytest.mark.parametrize("limits", WAYS)
@pytest.mark.parametrize(("content", "mode", "code", "text"), CASES, ids=[repr(case[0][:20]) for case in CASES])
@pytest.mark.skipif(sys.platform != "linux", reason="error numbers of Linux")
def test_why_it_does_not_start(run: Runner, limits: ScriptLimits | None, content: bytes, mode: int, code: int,
                               text: str) -> None:  # fmt: skip
    file = write(run.folder / "script", content, mode)
    error = failure(run, file, limits)
    assert error.errno == code
    assert explain(error, file) == f"it can't be started: {text}"


@pytest.mark.parametrize("limits", WAYS)
def test_a_file_that_is_gone(run: Runner, limits: ScriptLimits | None) -> None:
    file = os.fsencode(run.folder / "gone")
    error = failure(run, file, limits)
    assert explain(error, file) == "it can't be started: No such file or directory (errno 2)"


@pytest.mark.parametrize("limits", WAYS)
def test_an_environment_that_is_too_large(run: Runner, limits: ScriptLimits | None) -> None:
    with pytest.raises(OSError, match="Argument list too long") as caught:
        run(b"/bin/true", (), limits, environment={b"A": b"x" * (4 << 20)})
    assert caught.value.errno == errno.E2BIG


@pytest.mark.parametrize("limits", WAYS)
def test_a_folder_that_is_gone(tmp_path: Path, limits: ScriptLimits | None) -> None:
    launch = Launch(b"/bin/true", (b"true",), {}, os.fsencode(tmp_path / "gone"), 0, 1, 2)
    with pytest.raises(FileNotFoundError):
        start(launch, limits)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b"#!/bin/sh\n", [b"/bin/sh"]), (b"#! /usr/bin/env  python3 -u\n", [b"/usr/bin/env", b"python3 -u"]),
        (b"#!/bin/sh", [b"/bin/sh"]), (b"#!\n", []), (b"#! \t\n", []), (b"#!/bin/sh\r\n", [b"/bin/sh\r"]),
        (b"#!\t/bin/sh\t-e x \n", [b"/bin/sh", b"-e x"]), (b"", []), (b" #!/bin/sh\n", []), (b"\x7fELF", []),
        (b"#!/b\xff\n", [b"/b\xff"]), (b"#!" + b"x" * 1000, [b"x" * 254]),
    ],
)  # fmt: skip
def test_first_lines(tmp_path: Path, line: bytes, found: list[bytes]) -> None:
    assert shebang(write(tmp_path / "script", line)) == found


def test_the_first_line_of_what_can_not_be_read(tmp_path: Path) -> None:
    assert shebang(os.fsencode(tmp_path / "gone")) == []
    assert shebang(os.fsencode(tmp_path)) == []
    assert stat.S_ISDIR(tmp_path.stat().st_mode)
