from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from httpd.system import detach
from httpd.system.detach import LockHeld, RunDir, RunDirError

InChild = Callable[[Callable[[], Any]], Any]
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(detach.__file__).parents[2]), "PYTHONUNBUFFERED": ""}


def start(code: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a program that has imported the module; it ends when all that hold its stderr have closed it."""
    head = "import json, os, signal, sys\nfrom httpd.system import detach\n"
    command = [sys.executable, "-W", "error", "-c", head + code]
    return subprocess.run(command, env=ENVIRON, capture_output=True, text=True, timeout=60, check=False, **options)


def test_the_starter_returns_when_the_daemon_is_ready(tmp_path: Path) -> None:
    """The daemon lives on in a session without terminal, and holds none of the starter's pipes."""
    facts, stop = tmp_path / "facts", tmp_path / "stop"
    os.mkfifo(facts)
    os.mkfifo(stop)
    done = start(
        "starter = os.getpid()\n"
        "print('once')\n"
        "pipe = detach.detach()\n"
        "pipe.report(0, '')\n"
        "pipe.report(9, 'ignored')\n"
        "links = [os.readlink(f'/dev/fd/{fd}') for fd in range(3)]\n"
        "own = [os.getpid(), starter, os.getsid(0), os.getcwd(), links]\n"
        f"open({str(facts)!r}, 'w').write(json.dumps(own))\n"
        f"open({str(stop)!r}).read()\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n", "")
    pid, starter, session, folder, links = json.loads(facts.read_text())
    stop.write_text("")
    assert pid != starter
    assert session not in (pid, os.getsid(0)), "a session leader could get a terminal"
    assert folder == "/"
    assert links == ["/dev/null"] * 3


def test_a_failed_start_is_the_starters_exit_code_and_message() -> None:
    done = start(
        "pipe = detach.detach()\n"
        "print('details', file=sys.stderr)\n"
        "pipe.report(78, 'httpd.toml:3: bad\\n  größer')\n"
        "print('more', file=sys.stderr)\n"
    )
    assert done.returncode == 78
    assert done.stdout == ""
    assert sorted(done.stderr.splitlines()) == ["  größer", "details", "httpd.toml:3: bad", "more"]


@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)"])
def test_a_daemon_that_dies_before_it_is_ready(end: str) -> None:
    done = start(f"print('said before')\npipe = detach.detach()\n{end}")
    assert done.returncode == 70
    assert done.stdout == "said before\n"
    assert done.stderr == "httpd: the daemon ended before it was ready\n"


def test_a_worker_that_holds_the_pipe_does_not_hold_up_the_report(tmp_path: Path) -> None:
    """The starter must not wait for the end of the file."""
    stop = tmp_path / "stop"
    os.mkfifo(stop)
    done = start(
        "pipe = detach.detach()\n"
        "if os.fork() == 0:\n"
        "    detach.null_stdio()\n"
        f"    open({str(stop)!r}).read()\n"
        "    os._exit(0)\n"
        "pipe.report(69, 'busy')\n"
    )
    stop.write_text("")
    assert (done.returncode, done.stderr) == (69, "busy\n")


def test_a_worker_that_closed_the_pipe_does_not_hide_the_daemons_death() -> None:
    done = start(
        "pipe = detach.detach()\n"
        "held, hold = os.pipe()\n"
        "gone, going = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    pipe.close()\n"
        "    detach.null_stdio()\n"
        "    os.close(going)\n"
        "    signal.alarm(30)\n"
        "    signal.pause()\n"
        "os.close(going)\n"
        "os.read(gone, 1)\n"
        "os._exit(3)\n"
    )
    assert done.returncode == 70


def test_the_report_survives_a_killed_starter(tmp_path: Path) -> None:
    facts = tmp_path / "facts"
    os.mkfifo(facts)
    start(
        "starter = os.getpid()\n"
        "pipe = detach.detach()\n"
        "os.kill(starter, signal.SIGKILL)\n"
        "pipe.report(0, 'x' * 100_000)\n"
        f"open({str(facts)!r}, 'w').write('alive')\n",
        stdin=subprocess.DEVNULL,
    )
    assert facts.read_text() == "alive"


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_starter_that_waits_can_be_stopped(tmp_path: Path, name: str) -> None:
    """Also when the daemon's handlers were installed before; the daemon lives on."""
    facts = tmp_path / "facts"
    os.mkfifo(facts)
    done = start(
        "from httpd.system import signals\n"
        "signals.Wakeup().install(['INT', 'TERM'])\n"
        "starter = os.getpid()\n"
        "pipe = detach.detach()\n"
        f"os.kill(starter, signal.{name})\n"
        "detach.null_stdio()\n"
        "handled = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL\n"
        f"open({str(facts)!r}, 'w').write(f'alive {{handled}}')\n"
    )
    assert (done.returncode, done.stderr) == (-getattr(signal, name), "")
    assert facts.read_text() == "alive True"


@pytest.mark.parametrize("closed", ["", "0<&-", "1>&-", "0<&- 1>&- 2>&-"])
def test_std_fds_are_never_free(tmp_path: Path, closed: str) -> None:
    facts = tmp_path / "facts"
    code = (
        "import os, socket, sys\n"
        "from httpd.system import detach\n"
        "detach.ensure_std_fds()\n"
        "left, right = socket.socketpair()\n"
        "print('out', flush=True)\n"
        "print('err', file=sys.stderr, flush=True)\n"
        "sys.stdin.read()\n"
        "flags = [os.get_inheritable(fd) for fd in range(3)]\n"
        f"open({str(facts)!r}, 'w').write(f'{{min(left.fileno(), right.fileno()) > 2}} {{flags}}')\n"
    )
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", code]
    done = subprocess.run(command, env=ENVIRON, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert facts.read_text() == "True [True, True, True]"
    assert done.stdout == ("" if "1>" in closed else "out\n")
    assert done.stderr == ("" if "2>" in closed else "err\n")


@pytest.fixture
def run_dir(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "run")
    made.prepare()
    return made


def test_paths(tmp_path: Path) -> None:
    run_dir = RunDir(str(tmp_path))
    names = ["httpd.lock", "httpd.pid", "control.sock"]
    assert [run_dir.lock_path, run_dir.pid_path, run_dir.control_path] == [tmp_path / name for name in names]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_folder_is_made_with_its_mode(in_child: InChild, tmp_path: Path, umask: int) -> None:
    path = tmp_path / "run"

    def made() -> int:
        os.umask(umask)
        RunDir(path).prepare()
        RunDir(path).prepare()
        return path.stat().st_mode & 0o7777

    assert in_child(made) == (0o755 if os.geteuid() == 0 else 0o700)


def test_the_folder_of_an_ordinary_user(in_child: InChild, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    def made() -> int:
        os.chdir(tmp_path)
        if os.geteuid() == 0:
            os.setresuid(54321, 54321, 54321)
        RunDir("run").prepare()
        return os.stat("run").st_mode & 0o7777

    assert in_child(made) == 0o700


def symlink(path: Path) -> None:
    path.with_name("target").mkdir()
    path.symlink_to("target")


def dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def group_writable(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


def world_writable(path: Path) -> None:
    path.mkdir()
    path.chmod(0o1777)


def strangers(path: Path) -> None:
    path.mkdir()
    if os.geteuid() != 0:
        pytest.skip("needs root: gives a folder away")
    os.chown(path, 54321, -1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (symlink, "is a symbolic link"),
        (dangling, "is a symbolic link"),
        (group_writable, r"others may write to it \(mode 0770\)"),
        (world_writable, r"others may write to it \(mode 1777\)"),
        (strangers, "belongs to uid 54321"),
        (Path.touch, "is not a folder"),
    ],
)
def test_an_unsafe_folder_is_refused(tmp_path: Path, make: Callable[[Path], None], said: str) -> None:
    make(tmp_path / "run")
    with pytest.raises(RunDirError, match=f"run: {said}"):
        RunDir(tmp_path / "run").prepare()


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match="No such file or directory"):
        RunDir(tmp_path / "a" / "run").prepare()


def test_the_lock_names_its_holder(run_dir: RunDir) -> None:
    run_dir.lock_path.write_text("99999999999999\nold")
    run_dir.lock()
    pid, since, *rest = run_dir.lock_path.read_text().split("\n")
    assert (pid, rest) == (str(os.getpid()), [""])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d{4}", since)
    said = re.escape(f"another instance runs with pid {os.getpid()} since {since}")
    with pytest.raises(LockHeld, match=f"{said}$") as caught:
        RunDir(run_dir.path).lock()
    assert caught.value.pid == os.getpid()
    run_dir.close()
    other = RunDir(run_dir.path)
    other.lock()
    other.close()


def test_a_failed_attempt_leaves_the_holders_pid(run_dir: RunDir, in_child: InChild) -> None:
    run_dir.lock()

    def outcome() -> list[Any]:
        run_dir.close()
        with pytest.raises(LockHeld) as caught:
            RunDir(run_dir.path).lock()
        return [caught.value.pid, run_dir.lock_path.read_text()]

    assert in_child(outcome) == [os.getpid(), run_dir.lock_path.read_text()], "closing in a child must not unlock"
    run_dir.close()


def test_the_lock_ends_with_its_process(run_dir: RunDir, in_child: InChild) -> None:
    in_child(run_dir.lock)
    run_dir.lock()
    run_dir.close()


@pytest.mark.parametrize("text", ["garbage\n", "", "\n", "garbage\ngarbage\n", "\n2026-11-22\x1b[31m\n", "\n0\n"])
def test_a_holder_without_a_readable_pid(run_dir: RunDir, text: str) -> None:
    run_dir.lock()
    run_dir.lock_path.write_text(text)
    with pytest.raises(LockHeld, match=r"another instance runs$") as caught:
        RunDir(run_dir.path).lock()
    assert caught.value.pid is None
    run_dir.close()


def test_a_lock_on_a_removed_file_does_not_count(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is replaced between open and flock."""
    real = fcntl.flock
    calls: list[int] = []

    def flock(fd: int, operation: int) -> None:
        if not calls:
            run_dir.lock_path.unlink()
        calls.append(fd)
        real(fd, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    run_dir.lock()
    assert len(calls) == 2
    with pytest.raises(LockHeld):
        RunDir(run_dir.path).lock()
    run_dir.close()


def test_the_lock_file_is_closed_on_exec(run_dir: RunDir) -> None:
    run_dir.lock()
    assert not os.get_inheritable(run_dir._lock)
    run_dir.close()


def test_lock_errors_are_told(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir.lock_path.symlink_to("elsewhere")
    with pytest.raises(RunDirError, match=r"httpd\.lock: "):
        run_dir.lock()
    run_dir.lock_path.unlink()

    def flock(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    before = os.listdir("/dev/fd")
    with pytest.raises(RunDirError, match="No locks available"):
        run_dir.lock()
    assert os.listdir("/dev/fd") == before


@pytest.mark.parametrize("before", [None, "", "1\n", "garbage", "our own"])
def test_the_pid_file_is_written_whatever_it_was(run_dir: RunDir, before: str | None) -> None:
    if before is not None:
        run_dir.pid_path.write_text(f"{os.getpid()}\n" if before == "our own" else before)
    run_dir.write_pid()
    assert run_dir.pid_path.read_text() == f"{os.getpid()}\n"
    assert [path.name for path in run_dir.path.iterdir()] == ["httpd.pid"]
    run_dir.remove_pid()
    assert not run_dir.pid_path.exists()
    run_dir.remove_pid()


def test_the_pid_file_is_for_everybody(run_dir: RunDir, in_child: InChild) -> None:
    def mode() -> int:
        os.umask(0o077)
        run_dir.write_pid()
        return run_dir.pid_path.stat().st_mode & 0o777

    assert in_child(mode) == 0o644


def test_the_pid_file_is_never_seen_half_written(run_dir: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    run_dir.pid_path.write_text("1\n")
    seen = []
    real = Path.replace

    def replace(self: Path, target: Path) -> Path:
        seen.append((run_dir.pid_path.read_text(), self.read_text(), self.parent))
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    run_dir.write_pid()
    assert seen == [("1\n", f"{os.getpid()}\n", run_dir.path)]


def test_a_pid_file_that_is_a_folder(run_dir: RunDir) -> None:
    run_dir.pid_path.mkdir()
    with pytest.raises(RunDirError, match=r"httpd\.pid: Is a directory"):
        run_dir.write_pid()
    assert [path.name for path in run_dir.path.iterdir()] == ["httpd.pid"]
    run_dir.remove_pid()


@pytest.mark.parametrize("text", ["1\n", "garbage", ""])
def test_a_pid_file_of_somebody_else_stays(run_dir: RunDir, text: str) -> None:
    run_dir.write_pid()
    run_dir.pid_path.write_text(text)
    run_dir.remove_pid()
    assert run_dir.pid_path.read_text() == text


def test_children_leave_the_pid_file_alone(run_dir: RunDir, in_child: InChild) -> None:
    run_dir.write_pid()
    in_child(run_dir.remove_pid)
    assert run_dir.pid_path.exists()


def test_an_earlier_instance_left_our_pid(run_dir: RunDir) -> None:
    """Containers: the last one had the same pid.  Not written by us, so not removed; the lock decides."""
    run_dir.pid_path.write_text(f"{os.getpid()}\n")
    run_dir.remove_pid()
    assert run_dir.pid_path.exists()
    run_dir.lock()
    run_dir.close()
