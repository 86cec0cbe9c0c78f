from __future__ import annotations

import faulthandler
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from httpd.system import signals

InChild = Callable[[Callable[[], Any]], Any]


def readable(fd: int) -> bool:
    return bool(select.select([fd], [], [], 0)[0])


def test_reset_undoes_what_was_inherited(in_child: InChild) -> None:
    def outcome() -> dict[str, str]:
        faulthandler.disable()
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGSEGV, signal.SIGRTMIN):
            signal.signal(number, signal.SIG_IGN)
        for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda number, frame: None)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
        signals.reset_dispositions()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == set()
        numbers = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
        return {str(int(number)): str(signal.getsignal(number)) for number in numbers}

    found = in_child(outcome)
    ignored = {str(int(signal.SIGPIPE)), str(int(signal.SIGXFSZ))}
    assert {number for number, action in found.items() if action == str(signal.SIG_IGN)} == ignored
    assert {action for number, action in found.items() if number not in ignored} == {str(signal.SIG_DFL)}


@pytest.mark.usefixtures("linux")
def test_reset_after_a_careless_starter() -> None:
    """What the kernel shows of a process that was started with everything ignored and blocked."""
    code = (
        "import httpd.system.signals as s; s.reset_dispositions()\n"
        "print(*[l.split()[1] for l in open('/proc/self/status') if l[:6] in ('SigBlk', 'SigIgn')])"
    )

    def careless() -> None:
        for number in (signal.SIGCHLD, signal.SIGHUP, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})

    environ = {**os.environ, "PYTHONPATH": str(Path(signals.__file__).parents[2])}
    command = [sys.executable, "-c", code]
    shown = subprocess.check_output(command, env=environ, preexec_fn=careless, text=True)
    blocked, ignored = (int(word, 16) for word in shown.split())
    # 32 and 33 belong to the C library, which lets nobody set them; below GNU make they come ignored.
    ignored &= ~(1 << 32 - 1 | 1 << 33 - 1)
    assert blocked == 0
    assert ignored == 1 << signal.SIGPIPE - 1 | 1 << signal.SIGXFSZ - 1


def test_reset_keeps_an_active_faulthandler() -> None:
    """A crash still prints its stack."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        with open(writer, "w") as output:
            faulthandler.enable(output)
            signals.reset_dispositions()
            os.kill(os.getpid(), signal.SIGABRT)
        os._exit(0)
    os.close(writer)
    with open(reader) as output:
        assert "Fatal Python error: Aborted" in output.read()
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGABRT


def test_a_reset_child_does_not_ring_its_parents_bell(in_child: InChild) -> None:
    def outcome() -> list[Any]:
        wakeup = signals.Wakeup()
        wakeup.install(["USR1"])
        with signals.blocked_signals():
            pid = os.fork()
            if pid == 0:
                signals.reset_dispositions()
                signals.ignore(["USR1"])
                signal.signal(signal.SIGUSR2, lambda number, frame: os._exit(0))
                os.kill(os.getpid(), signal.SIGUSR1)
                os.kill(os.getpid(), signal.SIGUSR2)
                os._exit(1)
        return [os.waitpid(pid, 0)[1], readable(wakeup.fd)]

    assert in_child(outcome) == [0, False]


def test_blocked_signals_come_afterwards(in_child: InChild) -> None:
    def outcome() -> list[str]:
        seen: list[str] = []
        signal.signal(signal.SIGUSR1, lambda number, frame: seen.append("signal"))
        signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGUSR2})
        with signals.blocked_signals():
            os.kill(os.getpid(), signal.SIGUSR1)
            seen.append("inside")
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {signal.SIGUSR2}
        seen.append("after")
        return seen

    assert in_child(outcome) == ["inside", "signal", "after"]


def test_blocked_signals_are_restored_after_an_error() -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with pytest.raises(OSError, match="no fork"), signals.blocked_signals():
        raise OSError("no fork")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before


def test_wakeup_rings_and_names_in_order_of_priority(in_child: InChild) -> None:
    def outcome() -> list[Any]:
        wakeup = signals.Wakeup()
        wakeup.install(["TERM", "HUP"])
        wakeup.install(["CHLD"])
        quiet = [readable(wakeup.fd), wakeup.take()]
        for name in ("CHLD", "HUP", "HUP", "TERM"):
            os.kill(os.getpid(), getattr(signal, f"SIG{name}"))
        rung = readable(wakeup.fd)
        return [*quiet, rung, wakeup.take(), readable(wakeup.fd), wakeup.take()]

    assert in_child(outcome) == [False, [], True, ["TERM", "HUP", "CHLD"], False, []]


def test_wakeup_survives_a_storm(in_child: InChild) -> None:
    """More signals than the pipe holds: no warning, none of the kinds lost."""

    def outcome() -> list[Any]:
        complaints: list[Any] = []
        sys.unraisablehook = complaints.append
        wakeup = signals.Wakeup()
        wakeup.install(["TERM", "HUP"])
        for _ in range(70_000):
            os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        return [wakeup.take(), readable(wakeup.fd), len(complaints)]

    assert in_child(outcome) == [["TERM", "HUP"], False, 0]


def test_wakeup_ends_a_wait(in_child: InChild) -> None:
    def outcome() -> list[str]:
        wakeup = signals.Wakeup()
        wakeup.install(["ALRM"])
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        select.select([wakeup.fd], [], [])
        return wakeup.take()

    assert in_child(outcome) == ["ALRM"]


def test_wakeup_descriptors(in_child: InChild) -> None:
    def outcome() -> list[Any]:
        wakeup = signals.Wakeup()
        flags = [os.get_inheritable(wakeup.fd), os.get_blocking(wakeup.fd), os.get_blocking(wakeup._writer)]
        wakeup.close()
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(wakeup.fd)
        return [flags, signal.set_wakeup_fd(-1)]

    assert in_child(outcome) == [[False] * 3, -1]


def test_ignored_signals_are_ignored(in_child: InChild) -> None:
    def outcome() -> str:
        signals.ignore(["HUP", "WINCH"])
        os.kill(os.getpid(), signal.SIGHUP)
        return "alive"

    assert in_child(outcome) == "alive"
