"""Signals: a clean start, a quiet moment around fork, and a way into the event loop.

The rules:

- A process inherits ignored signals and its mask from whoever started it, so nothing is assumed:
  `reset_dispositions` first.
- Handlers only note the signal; the work is done in the loop, which a byte on a pipe wakes.  The pipe is a
  bell, not a queue: full means "already ringing".
- Names are written as in kill(1): "TERM", not "SIGTERM".
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import NoReturn

# Ignored, as Python does at its start: a closed connection and a full file limit are to be error numbers, not
# the end.
_IGNORED = {signal.SIGPIPE, signal.SIGXFSZ}
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT}
# What a process is to die of, or that stops and continues it: a fault, a debugger, the shell's job control.
_MEANT = _FAULTS | {
    getattr(signal, name) for name in ("SIGTRAP", "SIGSYS", "SIGCHLD", "SIGCONT", "SIGTSTP", "SIGTTIN", "SIGTTOU",
                                       "SIGTERM", "SIGINT", "SIGQUIT")
}  # fmt: skip
_FIXED = {signal.SIGKILL, signal.SIGSTOP}
CHANGEABLE = sorted(signal.valid_signals() - _FIXED)  # all whose action is a process' own business
CONTROL = ("QUIT", "INT", "TERM", "HUP", "USR1", "USR2", "TTIN", "TTOU")  # what a master takes; the most urgent first


def reset_dispositions() -> None:
    """Undo what was inherited: each signal takes its default action, none is blocked, no bell is rung.

    SIGPIPE and SIGXFSZ are ignored.  SIGINT ends the process, without Python's KeyboardInterrupt.  An active
    faulthandler keeps its signals.  Also for a child after fork, which must not ring its parent's bell.  Main
    thread only.
    """
    _default_dispositions()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _default_dispositions() -> None:
    signal.set_wakeup_fd(-1)
    kept = _FIXED | (_FAULTS if faulthandler.is_enabled() else set())
    for number in signal.valid_signals() - kept:
        signal.signal(number, signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL)


def ignore_others() -> None:
    """Ignore what nobody has a reason to send, and what would end a server: SIGALRM, SIGIO, real-time signals ..."""
    for number in signal.valid_signals() - _FIXED - _MEANT:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, signal.SIG_IGN)


def keep_to_ourselves() -> None:
    """Go on ignoring what is ignored, but by handlers that do nothing: a program that is started from here has its own
    way with signals, and could not be interrupted otherwise.  Main thread only."""
    for number in signal.valid_signals() - _FIXED - _IGNORED:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, _nothing)


def _nothing(number: int, frame: FrameType | None) -> None:
    """A signal that is another's business."""


def ignore(names: Iterable[str]) -> None:
    """Ignore the signals of these names."""
    with blocked_signals():  # one that comes in between finds no handler when its turn is, of which Python complains
        for name in names:
            signal.signal(_number(name), signal.SIG_IGN)


@contextlib.contextmanager
def blocked_signals() -> Iterator[None]:
    """Hold all signals back meanwhile.  Around fork: else a handler of the parent may run in the child."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Wakeup:
    """Signals as events: `fd` becomes readable when an installed signal has come; `take` tells which.

    One instance per process, made in the main thread.  A child calls `reset_dispositions` and then `close`.
    """

    __slots__ = ("_names", "_pending", "_writer", "fd")

    def __init__(self) -> None:
        self.fd, self._writer = os.pipe()
        os.set_blocking(self.fd, False)
        os.set_blocking(self._writer, False)
        self._names: dict[int, str] = {}
        # A set, as one `add` can't be torn by a second handler that runs inside the first; `bits |= bit` can.
        self._pending: set[int] = set()
        signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)

    def install(self, names: Iterable[str]) -> None:
        """Catch the signals of these names.  Their order is the priority in which `take` returns them."""
        for name in names:
            number = _number(name)
            self._names[number] = name
            signal.signal(number, self._note)

    def take(self) -> list[str]:
        """Names of the signals since the last call, most important first; several of one kind count once."""
        # The bell first: a signal after this rings again, so none is left without a wake-up.
        with contextlib.suppress(BlockingIOError):
            while os.read(self.fd, 4096):
                pass
        pending, self._pending = self._pending, set()
        return [name for number, name in self._names.items() if number in pending]

    def give_back(self, names: Iterable[str]) -> None:
        """Have `take` return these again."""
        wanted = set(names)
        self._pending |= {number for number, name in self._names.items() if name in wanted}
        with contextlib.suppress(BlockingIOError):
            os.write(self._writer, b"\0")

    def close(self) -> None:
        signal.set_wakeup_fd(-1)
        os.close(self.fd)
        os.close(self._writer)

    def _note(self, number: int, _frame: FrameType | None) -> None:
        if number in self._pending:
            return  # and whoever did rings the bell: else each signal of a storm would go one call deeper
        self._pending.add(number)
        # The bell was rung before this ran, which is late when the main thread was busy: who heard it found nothing
        # then.
        with contextlib.suppress(OSError):
            os.write(self._writer, b"\0")


def end_by(name: str) -> NoReturn:
    """End this process as the signal of this name ends processes."""
    reset_dispositions()
    os.kill(os.getpid(), _number(name))
    os._exit(128 + _number(name))  # it was one that does not


def hold_back(wakeup: Wakeup) -> None:
    """Keep all signals, and those that were noted already, for the program that this process executes next."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for name in wakeup.take():
        os.kill(os.getpid(), _number(name))


def take_control() -> Wakeup:
    """For a master, before anything slow: from now on what it is told is noted, not lost and not deadly."""
    # What the program before in this process held back comes when there is somebody to note it.
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    _default_dispositions()
    wakeup = Wakeup()
    wakeup.install((*CONTROL, "CHLD"))
    ignore_others()
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    return wakeup


def _number(name: str) -> signal.Signals:
    return signal.Signals[f"SIG{name}"]
