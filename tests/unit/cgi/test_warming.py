"""Warm interpreters from the spawner's side: one that stands still gets nothing more, its successor does."""

from __future__ import annotations

import marshal
import os
import select
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from httpd.cgi import warming
from httpd.cgi.jobs import Job
from httpd.cgi.process import Launch
from httpd.cgi.warm_interpreters import WarmInterpreters
from httpd.config.schema import Cgi, Settings
from machine import descriptors

PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or sys.executable
PATIENCE = 20.0  # seconds, reached only by a failure
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="by pidfd")


class Host:
    """A spawner that notes what it is told."""

    def __init__(self) -> None:
        self.handlers: dict[int, Callable[[], None]] = {}
        self.told: list[tuple[str, Any]] = []
        self.notes: list[str] = []
        self.warm: Any = None

    def watch(self, fd: int, handler: Callable[[], None]) -> None:
        self.handlers[fd] = handler

    def forget(self, fd: int) -> None:
        self.handlers.pop(fd, None)

    def started(self, job: Job) -> None:
        self.told.append(("started", job))

    def ended(self, job: Job, how: str) -> None:
        self.told.append((how, job))

    def decline(self, job: Job, status: int, reason: str) -> None:
        job.close_fds()
        self.told.append((f"{status} {reason}", job))

    def delayed(self, job: Job) -> None:
        self.told.append(("delayed", job))

    def resume(self, job: Job, launch: Launch) -> None:
        self.warm.start(job, launch)

    def note(self, text: str) -> None:
        self.notes.append(text)

    def until(self, what: str, job: Job) -> None:
        """Hear until that was told of it."""
        self.hear_until(lambda: [told for told, of in self.told if of is job and told.startswith(what)])

    def until_closed(self, one: Any) -> None:
        """Hear until an interpreter has ended."""
        self.hear_until(lambda: one.closed)

    def hear_until(self, look: Callable[[], Any]) -> None:
        until = time.monotonic() + PATIENCE
        while not look():
            assert time.monotonic() < until, self.told
            for fd in select.select(list(self.handlers), [], [], PATIENCE)[0]:
                if fd in self.handlers:
                    self.handlers[fd]()


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host()
    mount = Cgi("/", "vhost[0].cgi[0]", Settings(), str(tmp_path), warm_python=True)
    made.warm = WarmInterpreters(mount, {b"PATH": b"/usr/bin:/bin"}, 1024, made)
    yield made
    for one in (*made.warm._known.values(), *made.warm._replaced):
        one.dismiss()
        if one.pid:
            os.kill(one.pid, signal.SIGKILL)
            os.waitpid(one.pid, 0)


@pytest.fixture
def begin(host: Host, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    script = tmp_path / "script.py"
    script.write_text(f"#!{PYTHON}\nprint(1)\n")
    script.chmod(0o755)
    file = os.fsencode(script)
    made: list[Job] = []

    def make(value: bytes = b"b") -> Job:
        nobody: Any = None
        fds = [os.open(os.devnull, os.O_RDWR) for _ in range(3)]
        made.append(Job(nobody, nobody, fds))
        launch = Launch(file, (file,), {b"A": value}, os.fsencode(tmp_path), *fds)
        assert host.warm.start(made[-1], launch)
        return made[-1]

    yield make
    for job in made:
        job.close_fds()


def interpreter(host: Host) -> Any:
    (found,) = host.warm._known.values()
    return found


@pytest.mark.parametrize("named", [(), ("json",)], ids=["default", "named"])
def test_it_has_loaded_what_is_named_or_what_is_usual(
    named: tuple[str, ...], host: Host, begin: Callable[[], Job]
) -> None:
    host.warm._mount = msgspec.structs.replace(host.warm._mount, warm_modules=named)
    host.until("exit status 0", begin())
    loaded = {Path(file).stem for file in interpreter(host)._files}
    assert {"encoder", "decoder"} <= loaded  # of json
    assert ("tempfile" in loaded, "subprocess" in loaded) == (not named, not named)


def test_long_messages(host: Host, begin: Callable[..., Job]) -> None:
    for size in (warming._USUAL, 100_000, 1):
        host.until("exit status 0", begin(size * b"b"))
    assert not host.notes


def test_what_the_first_client_has_sent_is_not_kept(host: Host, begin: Callable[..., Job], monkeypatch: Any) -> None:
    host.until("exit status 0", begin())
    told: list[object] = []
    one = interpreter(host)
    monkeypatch.setattr(one, "_tell", lambda what, fds=(): not told.append(what))
    sent = (b"HTTP_COOKIE", b"QUERY_STRING", b"REQUEST_URI", b"PATH_INFO", b"REMOTE_USER", b"CONTENT_LENGTH",
            b"AUTH_TYPE")  # fmt: skip
    secrets, names = dict.fromkeys(sent, b"secret"), {b"SCRIPT_NAME": b"/a", b"PATH": b"/bin"}
    one._expected = {}
    rare = {b"HTTP_X_RARE": b"1"}
    assert marshal.loads(one._environment({**secrets, **names, **rare})) == ({**secrets, **rare}, [])
    assert told == [{**dict.fromkeys(sent, b""), **names}]
    other = {b"SCRIPT_NAME": b"/b"}
    assert marshal.loads(one._environment({b"PATH": b"/bin", **other})) == (other, [*sent])
    assert len(told) == 1


def test_one_that_stands_still_gets_nothing_more(host: Host, begin: Callable[[], Job]) -> None:
    host.until("exit status 0", begin())
    stopped = interpreter(host)
    os.kill(stopped.pid, signal.SIGSTOP)
    given = begin()
    assert ("delayed", given) not in host.told
    stopped._unanswered = {number: since - warming._LATE for number, since in stopped._unanswered.items()}
    kept, forgotten = begin(), begin()
    host.warm.look(time.monotonic() + warming._LATE)
    assert {("delayed", job) for job in (given, kept, forgotten)} <= set(host.told)
    stopped.signal(forgotten, signal.SIGTERM)
    host.until("503 it was told to forget it", forgotten)
    host.warm.look(time.monotonic() + warming._HUNG)
    host.until("503 its warm interpreter", given)
    host.until("exit status 0", kept)
    assert interpreter(host) is not stopped
    assert host.notes == [f"its warm interpreter {PYTHON!r} has ended: it did not answer, and was killed"]


def test_one_that_goes_on_gets_what_has_waited(host: Host, begin: Callable[[], Job]) -> None:
    host.until("exit status 0", begin())
    stopped = interpreter(host)
    os.kill(stopped.pid, signal.SIGSTOP)
    given = begin()
    stopped._unanswered = {number: since - warming._LATE for number, since in stopped._unanswered.items()}
    kept = begin()
    os.kill(stopped.pid, signal.SIGCONT)
    for job in (given, kept):
        host.until("exit status 0", job)
    assert interpreter(host) is stopped
    assert not host.notes


def test_one_that_was_replaced_is_still_looked_at(host: Host, begin: Callable[[], Job]) -> None:
    host.until("exit status 0", begin())
    old = interpreter(host)
    os.kill(old.pid, signal.SIGSTOP)
    given = begin()
    old._files, old._look_at = {PYTHON: (0, 0, 0)}, 0.0  # as if it had changed
    host.until("exit status 0", begin())
    assert interpreter(host) is not old
    host.warm.look(time.monotonic() + warming._HUNG)
    host.until("503 its warm interpreter", given)
    host.until_closed(old)
    host.warm.look(time.monotonic())
    assert not host.warm._replaced


def test_one_that_was_replaced_and_does_not_end_is_killed(host: Host, begin: Callable[[], Job]) -> None:
    host.until("exit status 0", begin())
    old = interpreter(host)
    os.kill(old.pid, signal.SIGSTOP)
    old._files, old._look_at = {PYTHON: (0, 0, 0)}, 0.0
    host.until("exit status 0", begin())
    assert old.pid
    host.warm.look(time.monotonic() + warming._HUNG)
    host.until_closed(old)
    assert not old.pid


def test_what_does_not_fit_now_is_handed_over_later(host: Host, begin: Callable[[], Job]) -> None:
    """A burst while it gets ready is more than its socket holds."""
    jobs = [begin()]
    interpreter(host)._door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
    jobs += [begin() for _ in range(60)]
    for job in jobs:
        host.until("exit status 0", job)


def test_the_end_of_a_process_is_enough(host: Host, begin: Callable[[], Job], tmp_path: Path) -> None:
    """Its door may be held by a process that a module has started."""
    note = tmp_path / "holder"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, signal\nif not os.fork():\n"
        f"    open('{note}.new', 'w').write(str(os.getpid()))\n"
        f"    os.rename('{note}.new', '{note}')\n    signal.pause()\n"
    )
    host.warm._environment[b"PYTHONPATH"] = os.fsencode(tmp_path)
    job = begin()
    until = time.monotonic() + PATIENCE
    while not note.exists():
        assert time.monotonic() < until
        time.sleep(0.002)
    try:
        os.kill(interpreter(host).pid, signal.SIGKILL)
        host.until("50", job)
    finally:
        os.kill(int(note.read_text()), signal.SIGKILL)


def test_what_comes_before_the_news_of_an_end_is_for_the_successor(host: Host, begin: Callable[[], Job]) -> None:
    host.until("exit status 0", begin())
    old = interpreter(host)
    os.kill(old.pid, signal.SIGKILL)
    os.waitid(os.P_PID, old.pid, os.WEXITED | os.WNOWAIT)
    host.until("exit status 0", begin())
    assert interpreter(host) is not old


def test_an_interpreter_that_is_not_there_costs_no_descriptor(host: Host, tmp_path: Path) -> None:
    nobody: Any = None
    script = tmp_path / "script"
    script.write_text(f"#!{tmp_path}/python3\n")
    before = descriptors()
    for _ in range(3):
        with pytest.raises(FileNotFoundError):
            file = os.fsencode(script)
            host.warm.start(Job(nobody, nobody, []), Launch(file, (file,), {}, b"/", 0, 1, 2))
    assert descriptors() == before


def test_who_stood_still_itself_blames_nobody(host: Host, begin: Callable[[], Job]) -> None:
    job = begin()
    host.warm.postpone(1000.0)
    host.warm.look(time.monotonic() + 1000.0)
    host.until("exit status 0", job)
    assert not host.notes
