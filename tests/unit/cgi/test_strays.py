"""What scripts leave behind, from the side of their spawner, in processes that play the parts."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.cgi.strays import Strays

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="there are no subreapers")

PATIENCE = 20.0  # seconds, reached only by a failure
NEVER = float("inf")


def child(play: Callable[[], Any]) -> int:
    """A process that does nothing else."""
    pid = os.fork()
    if pid == 0:
        try:
            play()
        finally:
            os._exit(1)
    return pid


def wait() -> None:
    while True:
        signal.pause()


def until(look: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < end
        time.sleep(0.002)
    return found


def leave_one() -> int:
    """As a script does: its child is nobody's, and so this process'."""
    reader, writer = os.pipe()

    def script() -> None:
        os.write(writer, b"%d" % child(wait))
        os._exit(0)

    os.waitpid(child(script), 0)
    pid = int(os.read(reader, 100))
    os.close(reader)
    os.close(writer)
    return pid


class Parts:
    """A master and a launcher, and a spawner that does what it is asked to."""

    def __init__(self) -> None:
        self._asks, asked = os.pipe()
        answers, self._answers = os.pipe()
        self.master = child(wait)
        self._pidfd = os.pidfd_open(self.master)
        self.launcher = child(self._be_launcher)
        self._to, self._from = asked, answers
        self.spawner = int(self.ask("i"))

    def _be_launcher(self) -> None:
        child(self._be_spawner)
        wait()

    def _be_spawner(self) -> None:
        strays, left = Strays(self._pidfd), 0
        while True:
            match os.read(self._asks, 1):
                case b"r":
                    strays.ran(1.0)
                    answer: object = strays.due
                case b"l":
                    left = answer = leave_one()
                case b"k":
                    os.kill(left, signal.SIGKILL)
                    answer = os.waitid(os.P_PID, left, os.WEXITED | os.WNOWAIT) is not None
                case b"?":
                    answer = strays.look(10.0, set())
                case b"!":
                    answer = strays.look(10.0, {left})
                case b"d":
                    answer = strays.detain(10.0, set())
                case b"p":
                    answer = os.getppid()
                case b"i":
                    answer = os.getpid()
                case _:
                    answer = strays.due
            os.write(self._answers, f"{answer}\n".encode())

    def ask(self, what: str) -> str:
        os.write(self._to, what.encode())
        assert select.select([self._from], [], [], PATIENCE)[0]
        return os.read(self._from, 1000).decode().strip()

    def end(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@pytest.fixture
def parts() -> Iterator[Parts]:
    made = Parts()
    yield made
    with contextlib.suppress(ProcessLookupError):
        os.kill(made.spawner, signal.SIGKILL)
    for fd in (made._to, made._from, made._asks, made._answers, made._pidfd):
        os.close(fd)


def test_one_is_found_behind_a_run(parts: Parts) -> None:
    assert parts.ask("e") == "inf"
    assert parts.ask("r") == "2.0"
    assert parts.ask("?") == "False"
    assert parts.ask("e") == "inf"
    parts.ask("l")
    assert parts.ask("?") == "True"
    assert parts.ask("!") == "False"
    assert parts.ask("?") == "True"
    assert parts.ask("e") == "15.0"
    assert parts.ask("k") == "True"
    assert parts.ask("?") == "False"
    assert parts.ask("e") == "inf"
    for pid in (parts.launcher, parts.master):
        parts.end(pid)


def test_it_stays_for_them_only_without_the_launcher_and_with_the_master(parts: Parts) -> None:
    launcher = parts.ask("p")
    pid = int(parts.ask("l"))
    assert parts.ask("d") == "False"
    parts.end(parts.launcher)
    until(lambda: parts.ask("p") != launcher)
    assert parts.ask("d") == "True"
    assert os.path.exists(f"/proc/{pid}")
    parts.end(parts.master)
    assert parts.ask("d") == "False"
    assert not os.path.exists(f"/proc/{pid}")
