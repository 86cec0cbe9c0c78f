"""The control socket inside the master's loop, driven by hand: what is ready is handled, nothing is waited for."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from httpd.control import endpoint as module
from httpd.control.endpoint import CLIENTS, SILENCE, Endpoint
from httpd.control.wire import DONE, NO_PERMISSION, REQUEST_LIMIT, USAGE, Call, Outcome, decode_outcome, encode_call
from httpd.system.poller import make_poller

Answer = Callable[[Outcome], None]
PATH = Path("control.sock")  # relative: a socket's path may not be long


class Master:
    """The master's loop as far as an endpoint needs it.  `calls` are answered by hand, or at once by `outcome`."""

    def __init__(self, group: int | None = None) -> None:
        self.poller = make_poller()
        self.handlers: dict[int, Callable[[int], None]] = {}
        self.calls: list[tuple[Call, Answer]] = []
        self.refused: list[int] = []
        self.outcome: Outcome | None = Outcome(DONE, "done")
        self.endpoint = Endpoint(PATH, group, self.poller, self.handlers, self.perform, self.refused.append)

    def perform(self, call: Call, reply: Answer) -> None:
        self.calls.append((call, reply))
        if self.outcome is not None:
            reply(self.outcome)

    def turn(self) -> None:
        """Handle events until there are none."""
        for _ in range(10_000):
            events = self.poller.poll(0)
            if not events:
                return
            for fd, mask in events:
                if fd in self.handlers:
                    self.handlers[fd](mask)
        pytest.fail("the loop spins")


@pytest.fixture
def master(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Master]:
    monkeypatch.chdir(tmp_path)
    master = Master()
    yield master
    if master.endpoint._sock.fileno() >= 0:
        master.endpoint.close()
    assert master.handlers == {}
    master.poller.close()


@contextlib.contextmanager
def connected() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(5)
        sock.connect(str(PATH))
        yield sock


def read(sock: socket.socket) -> bytes:
    """All up to the end."""
    data = b""
    while more := sock.recv(65536):
        data += more
    return data


def at_end(sock: socket.socket) -> bool:
    return sock.recv(1) == b""


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_call_and_its_outcome(master: Master, step: int) -> None:
    line = encode_call(Call("workers", {"count": 2}))
    with connected() as sock:
        for at in range(0, len(line), step):
            sock.sendall(line[at : at + step])
            master.turn()
        assert decode_outcome(read(sock)) == Outcome(DONE, "done")
    assert [call for call, _ in master.calls] == [Call("workers", {"count": 2})]
    assert len(master.handlers) == 1


def test_an_outcome_may_come_late(master: Master) -> None:
    master.outcome = None
    with connected() as sock, connected() as other:
        sock.sendall(encode_call(Call("reload")))
        other.sendall(encode_call(Call("stop")))
        master.turn()
        master.endpoint.sweep(time.monotonic() + 1000)  # who waits for an outcome is not silent
        assert master.endpoint.deadline == float("inf")
        replies = {call.command: reply for call, reply in master.calls}
        replies["stop"](Outcome(DONE, "stopped"))
        replies["reload"](Outcome(1, "refused", {"a": 1}))
        assert decode_outcome(read(sock)) == Outcome(1, "refused", {"a": 1})
        assert decode_outcome(read(other)) == Outcome(DONE, "stopped")


def test_a_client_that_is_gone_changes_nothing(master: Master) -> None:
    master.outcome = None
    with connected() as sock:
        sock.sendall(encode_call(Call("reload")))
        master.turn()
    master.turn()
    call, reply = master.calls[0]
    assert call == Call("reload")
    reply(Outcome(DONE))
    assert len(master.handlers) == 1


def test_a_client_that_leaves_before_it_is_read_is_heard_all_the_same(master: Master) -> None:
    with connected() as sock:
        sock.sendall(encode_call(Call("stop")))
    master.turn()
    assert [call for call, _ in master.calls] == [Call("stop")]
    assert len(master.handlers) == 1


def test_one_call_for_each_connection(master: Master) -> None:
    master.outcome = None
    with connected() as sock:
        sock.sendall(encode_call(Call("status")) + encode_call(Call("stop")))
        master.turn()
        sock.sendall(encode_call(Call("stop")) * 100)
        master.turn()
        assert [call for call, _ in master.calls] == [Call("status")]
        master.calls[0][1](Outcome(DONE))
        assert decode_outcome(read(sock)) == Outcome(DONE)


def test_a_client_that_shuts_its_sending_side_gets_its_answer(master: Master) -> None:
    master.outcome = None
    with connected() as sock:
        sock.sendall(encode_call(Call("status")))
        sock.shutdown(socket.SHUT_WR)
        master.turn()
        master.turn()
        master.calls[0][1](Outcome(DONE))
        assert decode_outcome(read(sock)) == Outcome(DONE)


@pytest.mark.parametrize("line", [b"\n", b"status\n", b"[]\n", b'{"command": 1}\n', b"\xff\n", b"[" * 16000 + b"\n"])
def test_not_a_call(master: Master, line: bytes) -> None:
    with connected() as sock:
        sock.sendall(line)
        master.turn()
        outcome = decode_outcome(read(sock))
    assert outcome.code == USAGE
    assert outcome.text
    assert master.calls == []


def feed(sock: socket.socket, data: bytes, master: Master) -> None:
    """Send more than the kernel holds, with a master that reads meanwhile."""
    for start in range(0, len(data), 64 * 1024):
        sock.sendall(data[start : start + 64 * 1024])
        master.turn()


def test_too_long(master: Master) -> None:
    with connected() as sock:
        feed(sock, b"x" * REQUEST_LIMIT, master)
        sock.sendall(b"x")
        master.turn()
        assert decode_outcome(read(sock)) == Outcome(USAGE, "request too long")


def test_the_longest_call(master: Master) -> None:
    line = encode_call(Call("x", {"a": ""}))
    with connected() as sock:
        feed(sock, encode_call(Call("x", {"a": "b" * (REQUEST_LIMIT - len(line))})), master)
        assert decode_outcome(read(sock)).code == DONE


def test_silence(master: Master) -> None:
    began = time.monotonic()
    with connected() as silent, connected() as half:
        half.sendall(b'{"command"')
        master.turn()
        due = master.endpoint.deadline
        assert began + SILENCE <= due <= time.monotonic() + SILENCE
        master.endpoint.sweep(due - 0.001)
        assert len(master.handlers) == 3
        half.sendall(b":")  # a byte now and then buys no time
        master.turn()
        master.endpoint.sweep(time.monotonic() + SILENCE)
        assert at_end(silent)
        assert at_end(half)
    assert master.endpoint.deadline == float("inf")


def test_a_large_outcome_to_a_slow_reader(master: Master) -> None:
    text = "x" * 2_000_000
    master.outcome = Outcome(DONE, text)
    data = b""
    with connected() as sock:
        sock.sendall(encode_call(Call("status")))
        master.turn()
        assert master.endpoint.deadline < float("inf")
        while more := sock.recv(65536):
            data += more
            master.turn()
    assert decode_outcome(data) == master.outcome


def test_a_reader_who_does_not_read(master: Master) -> None:
    master.outcome = Outcome(DONE, "x" * 2_000_000)
    with connected() as sock:
        sock.sendall(encode_call(Call("status")))
        master.turn()
        assert len(master.handlers) == 2
        master.endpoint.sweep(time.monotonic() + SILENCE)
        assert len(master.handlers) == 1
        assert not read(sock).endswith(b"\n")


def test_a_reader_who_leaves_in_the_middle(master: Master) -> None:
    master.outcome = Outcome(DONE, "x" * 2_000_000)
    with connected() as sock:
        sock.sendall(encode_call(Call("status")))
        master.turn()
    master.turn()
    assert len(master.handlers) == 1


def test_more_clients_than_there_is_room_for(master: Master) -> None:
    """The next ones wait; they are neither turned away nor forgotten."""
    with contextlib.ExitStack() as stack:
        crowd = []
        for _ in range(CLIENTS):
            crowd.append(stack.enter_context(connected()))
            master.turn()
        late = stack.enter_context(connected())
        late.sendall(encode_call(Call("status")))
        master.turn()
        assert master.calls == []
        crowd[0].close()
        master.turn()
        assert decode_outcome(read(late)) == Outcome(DONE, "done")


def test_close_delivers_what_was_answered(master: Master) -> None:
    master.outcome = Outcome(DONE, "x" * 500_000)  # more than a socket holds
    with connected() as sock, connected() as silent, ThreadPoolExecutor() as pool:
        sock.sendall(encode_call(Call("stop")))
        master.turn()
        assert len(master.handlers) == 3
        data = pool.submit(read, sock)
        master.endpoint.close()
        assert decode_outcome(data.result()) == master.outcome
        assert at_end(silent)
    assert not PATH.exists()


# The socket in the file system


def test_mode(master: Master) -> None:
    assert stat.S_IMODE(PATH.lstat().st_mode) == 0o600
    assert PATH.lstat().st_uid == os.geteuid()


def test_mode_with_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    master = Master(os.getegid())
    assert stat.S_IMODE(PATH.lstat().st_mode) == 0o660
    assert PATH.lstat().st_gid == os.getegid()
    master.endpoint.close()
    master.poller.close()


def test_the_umask_is_put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o027)
    try:
        master = Master()
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    master.endpoint.close()
    master.poller.close()


def test_what_a_dead_master_left_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(PATH))
    master = Master()
    with connected() as sock:
        sock.sendall(encode_call(Call("status")))
        master.turn()
        assert decode_outcome(read(sock)).code == DONE
    master.endpoint.close()
    master.poller.close()


def test_close_leaves_the_socket_of_a_successor(master: Master) -> None:
    PATH.rename("old.sock")
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind(str(PATH))
        master.endpoint.close()
        assert PATH.exists()


def test_close_when_the_socket_is_gone(master: Master) -> None:
    PATH.unlink()
    master.endpoint.close()
    assert not PATH.exists()


# Who may speak


@pytest.mark.parametrize(
    ("uid", "groups", "group", "allowed"),
    [
        (0, set(), None, True),
        (os.geteuid(), set(), None, True),
        (54321, {54321}, None, False),
        (54321, {54321}, 77, False),
        (54321, {54321, 77}, 77, True),
        (-1, set(), None, False),
        (-1, set(), 77, False),
    ],
)
def test_permission(master: Master, monkeypatch: pytest.MonkeyPatch, uid: int, groups: set[int], group: int | None,
                    allowed: bool) -> None:  # fmt: skip
    monkeypatch.setattr(module, "_credentials", lambda sock: (uid, groups))
    monkeypatch.setattr(master.endpoint, "_group", group)
    with connected() as sock:
        sock.sendall(encode_call(Call("stop")))
        master.turn()
        outcome = decode_outcome(read(sock))
    assert outcome.code == (DONE if allowed else NO_PERMISSION)
    assert len(master.calls) == allowed
    assert master.refused == ([] if allowed else [uid])


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the mode of the socket decides")
def test_the_kernel_tells_who_the_peer_is() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        uid, groups = module._credentials(ours)
    assert uid == os.geteuid()
    assert groups == {os.getegid(), *os.getgroups()}
