"""The control socket inside the master's loop.

Rules:

- It never waits for a client: what a client sends and what it is sent are buffered and bounded, a client that says
  nothing is dropped after `SILENCE` seconds.
- Who may speak is asked of the kernel (peer credentials), besides the mode of the socket: root, the master's own user,
  and members of `control_group`.
- A client that is gone changes nothing of what it asked for.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path

from httpd.control.wire import (
    NO_PERMISSION,
    REFUSED,
    REQUEST_LIMIT,
    USAGE,
    Call,
    Outcome,
    WireError,
    decode_call,
    encode_outcome,
)
from httpd.system.poller import ERR, HUP, IN, OUT, Poller

SILENCE = 10.0  # seconds
PAUSE = 0.5  # seconds
LAST_CALLS = 0.05  # seconds
CLIENTS = 256  # at once; the next ones wait in the socket's queue
_SO_PEERGROUPS = 59  # Linux 4.13; not in Python's socket module


class Endpoint:
    """Listens on `path` and hands calls to `perform(call, reply)`."""

    def __init__(
        self,
        path: Path,
        group: int | None,
        poller: Poller,
        handlers: dict[int, Callable[[int], None]],
        perform: Callable[[Call, Callable[[Outcome], None]], None],
        refused: Callable[[int], None],
        inherited: int = -1,
    ) -> None:
        """`inherited`: the descriptor of the socket, when the program before in this process had it already."""
        self._path = path
        self._group = group
        self._poller = poller
        self._handlers = handlers
        self._perform = perform
        self._refused = refused
        self._clients: dict[int, _Client] = {}
        self._resume_at: float | None = None  # monotonic seconds; None while new clients are taken
        self._adopt(_inherit(path, group, inherited) or _listen(path, group))

    def _adopt(self, sock: socket.socket) -> None:
        self._sock = sock
        status = self._path.lstat()
        self._inode = (status.st_dev, status.st_ino)
        self._handlers[sock.fileno()] = self._on_connect
        self._resume()

    def _forsake(self) -> None:
        fd = self._sock.fileno()
        del self._handlers[fd]
        if self._resume_at is None:
            self._poller.unregister(fd)
        self._sock.close()

    def listen_again(self) -> None:
        """Make the socket anew where its path has vanished.  Raises OSError; then the old one stays."""
        sock = _listen(self._path, self._group)
        self._forsake()
        self._adopt(sock)

    def _on_connect(self, mask: int) -> None:
        try:
            sock, _ = self._sock.accept()
        except BlockingIOError:
            return
        except OSError:  # out of descriptors, most likely: a pause, or the loop would spin
            self._pause(time.monotonic() + PAUSE)
            return
        sock.setblocking(False)
        client = _Client(sock, time.monotonic() + SILENCE)
        fd = sock.fileno()
        self._clients[fd] = client
        self._handlers[fd] = lambda mask: self._on_client(client, mask)
        self._poller.register(fd, IN)
        if len(self._clients) >= CLIENTS:
            self._pause(float("inf"))

    def _on_client(self, client: _Client, mask: int) -> None:
        if client.output:
            self._send(client)
            return
        try:
            data = client.sock.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if client.called:
            # Nothing more is expected of it.  If it has only shut its sending side it still waits for the answer.
            if not data and mask & (HUP | ERR):
                self._drop(client)
            elif not data:
                self._poller.modify(client.sock.fileno(), 0)
            return
        if not data:
            self._drop(client)
            return
        client.input += data
        line, newline, _ = client.input.partition(b"\n")
        if newline:
            self._call(client, line)
        elif len(client.input) > REQUEST_LIMIT:
            self._answer(client, Outcome(USAGE, "request too long"))

    def _call(self, client: _Client, line: bytes) -> None:
        client.called = True
        client.deadline = float("inf")
        uid, groups = _credentials(client.sock)
        if uid not in (0, os.geteuid()) and self._group not in groups:
            self._refused(uid)
            self._answer(client, Outcome(NO_PERMISSION, "you may not control this server"))
            return
        try:
            call = decode_call(line)
        except WireError as error:
            self._answer(client, Outcome(USAGE, str(error)))
            return
        try:
            self._perform(call, lambda outcome: self._answer(client, outcome))
        except Exception:  # the loop logs it
            self._answer(client, Outcome(REFUSED, "a defect in the server: its error log tells more"))
            raise

    def _answer(self, client: _Client, outcome: Outcome) -> None:
        if client.gone:
            return
        client.output += encode_outcome(outcome)
        client.deadline = time.monotonic() + SILENCE
        self._send(client)

    def _send(self, client: _Client) -> None:
        try:
            sent = client.sock.send(client.output)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._drop(client)
            return
        client.output = client.output[sent:]
        if client.output:
            self._poller.modify(client.sock.fileno(), OUT)
        else:
            self._drop(client)

    def _drop(self, client: _Client) -> None:
        if not client.gone:
            client.gone = True
            fd = client.sock.fileno()
            del self._clients[fd], self._handlers[fd]
            self._poller.unregister(fd)
            client.sock.close()
            if self._resume_at == float("inf"):
                self._resume()

    def _pause(self, until: float) -> None:
        """Take no more clients until then; infinity: until one leaves."""
        self._resume_at = until
        self._poller.unregister(self._sock.fileno())

    def _resume(self) -> None:
        self._resume_at = None
        self._poller.register(self._sock.fileno(), IN)

    @property
    def deadline(self) -> float:
        """When `sweep` has something to do next (monotonic seconds)."""
        due = [client.deadline for client in self._clients.values()]
        return min(due if self._resume_at is None else [*due, self._resume_at], default=float("inf"))

    def sweep(self, now: float) -> None:
        """Drop clients that take too long, end a pause."""
        if self._resume_at is not None and now >= self._resume_at:
            self._resume()
        for client in list(self._clients.values()):
            if now >= client.deadline:
                self._drop(client)

    def close(self, *, keep: bool = False) -> int:
        """Stop listening; remove the socket if it is still this one.  Answers that are not out yet get a moment.

        With `keep` the socket stays, for the next program of this process, and its descriptor is returned.
        """
        self._hear_last_calls()
        for client in list(self._clients.values()):
            if client.output:
                with contextlib.suppress(OSError):
                    client.sock.settimeout(0.5)
                    client.sock.sendall(client.output)
            self._drop(client)
        kept = os.dup(self._sock.fileno()) if keep else -1
        self._forsake()
        if keep:
            return kept
        with contextlib.suppress(OSError):
            status = self._path.lstat()
            if (status.st_dev, status.st_ino) == self._inode:
                self._path.unlink()
        return kept


    def _hear_last_calls(self) -> None:
        """Who has just come is asking something: it gets a moment, and its answer."""
        until = time.monotonic() + LAST_CALLS
        while waiting := [client.sock for client in self._clients.values() if not client.called]:
            ready, _, _ = select.select(waiting, (), (), max(0.0, until - time.monotonic()))
            if not ready:
                return
            for sock in ready:
                self._on_client(self._clients[sock.fileno()], IN)


class _Client:
    __slots__ = ("called", "deadline", "gone", "input", "output", "sock")

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self.sock = sock
        self.deadline = deadline
        self.input = b""
        self.output = b""
        self.called = self.gone = False


def _permit(path: Path, group: int | None) -> None:
    if group is None:
        path.chmod(0o600)
    else:
        os.chown(path, -1, group)
        path.chmod(0o660)


def _inherit(path: Path, group: int | None, fd: int) -> socket.socket | None:
    """The socket behind `fd`, if it is there and still the one at `path`."""
    if fd < 0:
        return None
    sock = socket.socket(fileno=fd)
    sock.set_inheritable(False)
    if path.exists() and sock.getsockname() == str(path):
        _permit(path, group)
        return sock
    sock.close()
    return None


def _listen(path: Path, group: int | None) -> socket.socket:
    # The lock is held, so whatever stands in this place belongs to nobody.
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        sock.bind(str(path))
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(before)
    _permit(path, group)
    sock.listen(128)
    sock.setblocking(False)
    return sock


def _credentials(sock: socket.socket) -> tuple[int, set[int | None]]:
    """The peer's uid and groups; uid -1 where the kernel does not tell."""
    if sys.platform != "linux":
        return os.geteuid(), set()  # the mode of the socket alone decides
    try:
        _, uid, gid = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    except OSError:
        return -1, set()
    groups: set[int | None] = {gid}
    with contextlib.suppress(OSError):
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * 256)
        groups.update(struct.unpack(f"{len(raw) // 4}I", raw))
    return uid, groups
