"""What the kernel tells of processes, and what happens where it does not."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from httpd.system import usage as module
from httpd.system.usage import Usage, footprint, listen_overflows, out_of_memory_kills, usage

InChild = Callable[[Callable[[], Any]], Any]
NOBODY = 2**22 + 1  # above the largest pid that Linux gives

needs_schedstat = pytest.mark.skipif(not Path("/proc/self/schedstat").exists(), reason="this kernel does not tell")


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder in which /proc is looked for."""
    monkeypatch.setattr(module, "Path", lambda name: tmp_path / name.removeprefix("/"))
    (tmp_path / "proc/net").mkdir(parents=True)
    (tmp_path / "proc/5").mkdir()
    return tmp_path / "proc"


@needs_schedstat
def test_who_computes_runs() -> None:
    before = usage(os.getpid())
    assert before is not None
    until = time.process_time() + 0.05
    while time.process_time() < until:
        pass
    after = usage(os.getpid())
    assert after is not None
    assert after.ran - before.ran >= 0.02
    assert after.waited >= before.waited


@needs_schedstat
def test_it_is_of_the_main_thread(in_child: InChild) -> None:
    """A worker whose loop hangs while a thread of its log works on has not run."""

    def ran() -> float:
        before = usage(os.getpid())
        until = time.process_time() + 0.3

        def compute() -> None:
            while time.process_time() < until:
                pass

        thread = threading.Thread(target=compute)
        thread.start()
        thread.join()
        after = usage(os.getpid())
        assert before is not None
        assert after is not None
        return after.ran - before.ran

    assert in_child(ran) < 0.2


def test_nobody_uses_nothing() -> None:
    assert usage(NOBODY) is None
    assert footprint(NOBODY) == (0.0, 0)


def test_our_own_footprint() -> None:
    seconds, size = footprint(os.getpid())
    assert seconds > 0
    assert size > 2**20


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1500000000 250000000 77\n", Usage(1.5, 0.25)),
        ("0 0 0\n", Usage(0.0, 0.0)),
        ("1500000000 250000000\n", Usage(1.5, 0.25)),
        ("", None), ("1500000000\n", None), ("\xff", None),
    ],
)  # fmt: skip
def test_schedstat(files: Path, text: str, expected: Usage | None) -> None:
    (files / "5/schedstat").write_bytes(text.encode("latin-1"))
    assert usage(5) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nr_free_pages 1\noom_kill 12\nswap_ra 3\n", 12),
        ("oom_kill_other 9\noom_kill 12\n", 12),
        ("nr_free_pages 1\n", 0),  # before Linux 4.13
        ("oom_kill many\n", 0),
        ("", 0),
    ],
)
def test_out_of_memory_kills(files: Path, text: str, expected: int) -> None:
    (files / "vmstat").write_text(text)
    assert out_of_memory_kills() == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("TcpExt: SyncookiesSent ListenOverflows ListenDrops\nTcpExt: 1 42 43\nIpExt: A\nIpExt: 5\n", 42),
        ("IpExt: A\nIpExt: 5\nTcpExt: ListenOverflows\nTcpExt: 8\n", 8),
        ("IpExt: A\nIpExt: 5\n", 0),
        ("TcpExt: ListenOverflows\n", 0),
        ("TcpExt: ListenOverflows\nTcpExt: many\n", 0),
        ("", 0),
    ],
)
def test_listen_overflows(files: Path, text: str, expected: int) -> None:
    (files / "net/netstat").write_text(text)
    assert listen_overflows() == expected


def test_where_there_is_no_proc(files: Path) -> None:
    assert (out_of_memory_kills(), listen_overflows(), usage(5)) == (0, 0, None)


@pytest.mark.usefixtures("linux")
def test_a_queue_that_is_full_is_counted() -> None:
    """Of the network namespace, so others may count as well: at least one more."""
    before = listen_overflows()
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        clients = [socket.socket() for _ in range(8)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        until = time.monotonic() + 20
        while listen_overflows() == before and time.monotonic() < until:
            time.sleep(0.01)  # the kernel tries those again that found no room
        for client in clients:
            client.close()
    assert listen_overflows() > before
