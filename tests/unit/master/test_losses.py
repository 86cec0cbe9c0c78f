"""Why workers were lost: who is believed, and what is remembered."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from httpd.master import losses as module
from httpd.master.children import Child, State
from httpd.master.losses import End, Losses
from httpd.system.children import ExitStatus

MakeChild = Callable[..., Child]
KILLED = ExitStatus(signal=signal.SIGKILL)


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many processes the kernel has killed for want of memory; the last is now."""
    counts = [7]
    monkeypatch.setattr(module, "out_of_memory_kills", lambda: counts[-1])
    return counts


CASES = [
    # why it failed, as was found out; its state; how the process ended; what becomes of it
    ("", State.SERVING, ExitStatus(3), End("exit status 3", True, crashed=True)),
    ("", State.SERVING, ExitStatus(0), End("exit status 0", True, crashed=True)),  # nobody had told it to
    ("", State.STARTING, ExitStatus(signal=signal.SIGSEGV), End("killed by SIGSEGV", True, crashed=True)),
    ("", State.STANDBY, ExitStatus(1), End("exit status 1", True, crashed=True)),
    (
        "", State.SERVING, ExitStatus(signal=signal.SIGSEGV, core=True),
        End("killed by SIGSEGV (core dumped)", True, crashed=True),
    ),
    ("", State.SERVING, ExitStatus(), End("ended, exit status unknown", True, crashed=True)),
    # Who was told to go is not lost, however it goes.
    ("", State.DRAINING, ExitStatus(0), End("exit status 0", False)),
    ("", State.DRAINING, ExitStatus(signal=signal.SIGSEGV), End("killed by SIGSEGV", False)),
    ("", State.STOPPING, ExitStatus(1), End("exit status 1", False)),
    ("", State.KILLED, KILLED, End("killed by SIGKILL", False)),
    # What was found out counts more than what its end looks like: that may be our doing.
    ("ImportError: x", State.STOPPING, ExitStatus(70), End("ImportError: x", True, crashed=True)),
    ("hangs: no sign", State.ABORTED, ExitStatus(signal=signal.SIGABRT), End("hangs: no sign", True, crashed=True)),
    ("hangs: no sign", State.KILLED, KILLED, End("hangs: no sign", True, crashed=True)),
    # SIGKILL comes from outside.
    ("", State.SERVING, KILLED, End("killed by SIGKILL", True, by_hand=True)),
    ("", State.STANDBY, KILLED, End("killed by SIGKILL", True, by_hand=True)),
    ("", State.STARTING, KILLED, End("killed by SIGKILL", True)),  # whether it was well nobody knows
    ("", State.DRAINING, KILLED, End("killed by SIGKILL", False)),
]  # fmt: skip


@pytest.mark.parametrize(("failure", "was", "status", "expected"), CASES)
def test_ends(make_child: MakeChild, kills: list[int], failure: str, was: State, status: ExitStatus,
              expected: End) -> None:  # fmt: skip
    assert Losses().judge(make_child(failure=failure), was, status) == expected


def test_out_of_memory(make_child: MakeChild, kills: list[int]) -> None:
    """The kernel only counts: what was counted once explains no second death."""
    losses = Losses()
    child = make_child()
    kills.append(8)
    text = "killed by SIGKILL (oom_kill +1: the kernel is out of memory)"
    assert losses.judge(child, State.SERVING, KILLED) == End(text, True)
    assert losses.judge(child, State.SERVING, KILLED) == End("killed by SIGKILL", True, by_hand=True)
    kills.append(11)
    assert "oom_kill +3" in losses.judge(child, State.DRAINING, KILLED).reason


def test_what_we_killed_is_not_blamed_on_the_kernel(make_child: MakeChild, kills: list[int]) -> None:
    losses = Losses()
    kills.append(9)
    assert losses.judge(make_child(), State.KILLED, KILLED).reason == "killed by SIGKILL"
    assert "oom_kill +2" in losses.judge(make_child(), State.SERVING, KILLED).reason


def test_a_counter_that_goes_back(make_child: MakeChild, kills: list[int]) -> None:
    losses = Losses()
    kills.append(0)
    assert losses.judge(make_child(), State.SERVING, KILLED).reason == "killed by SIGKILL"


def test_all_are_counted_and_the_last_remembered(make_child: MakeChild) -> None:
    losses, before = Losses(), time.time()
    for number in range(50):
        losses.note(make_child(number, slot=number % 4, generation=9), f"reason {number}")
    assert losses.count == 50
    assert [loss.pid for loss in losses.last] == list(range(30, 50))
    last = losses.last[-1]
    assert (last.generation, last.slot, last.pid, last.reason) == (9, 1, 49, "reason 49")
    assert before <= last.at <= time.time()
