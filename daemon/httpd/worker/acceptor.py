"""Takes new connections from one shared listener.

Rules:

- Every worker waits on the same socket with EPOLLEXCLUSIVE, takes one connection, and puts its own registration at the
  end of the kernel's queue again; so the next connection goes to another worker that is waiting.  Who has more than
  others leaves connections to them (`worker.shares`).
- A worker only ever closes its copy of a listener.  `shutdown` would stop it for everybody.
- Out of descriptors or memory: stop listening for a moment instead of spinning, say so once, go on by itself.
"""

from __future__ import annotations

import errno
import os
import socket

from httpd.config import schema
from httpd.content.sites import SiteTable
from httpd.system.poller import EXCLUSIVE, IN
from httpd.worker.context import Context
from httpd.worker.exchange import Mount
from httpd.worker.plain import PlainConnection
from httpd.worker.shares import YIELD, Share

PAUSE = 0.25  # seconds
_NEVER = float("inf")
_EXHAUSTED = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_ALONE = 16  # connections taken at once by a worker that shares with nobody


class Acceptor:
    """One listener in one worker.  `share` says what other workers take from it."""

    def __init__(self, context: Context, sock: socket.socket, address: schema.Address, tables: SiteTable[Mount],
                 share: Share) -> None:  # fmt: skip
        self.address = address
        self.sock = sock
        self._context = context
        self.tables = tables
        self._fd = sock.fileno()
        self._share = share
        self._listening = False
        self._resume_at = _NEVER
        self.port = address.port if address.kind == "unix" else sock.getsockname()[1]

    def successor(self, sock: socket.socket) -> Acceptor:
        """The same for another socket of the same address."""
        return Acceptor(self._context, sock, self.address, self.tables, self._share)

    def start(self) -> None:
        """Begin to wait for connections, if it does not do so already."""
        if self._listening:
            return
        self._end_pause()
        self._context.poller.register(self._fd, IN | EXCLUSIVE)
        self._context.handlers[self._fd] = self._on_ready
        self._listening = True

    def _stop(self) -> None:
        if self._listening:
            self._listening = False
            self._context.forget(self._fd)

    def _on_ready(self, mask: int) -> None:
        context = self._context
        count = len(context.connections)
        alone = self._share.alone(count)
        if not alone and self._share.others_turn(count, context.now):
            self._rest(YIELD)
            return
        room = context.limits.connections - count
        for _ in range(min(_ALONE if alone else 1, room)):
            if not self._take():
                break
        if self._listening:
            if len(context.connections) >= context.limits.connections:
                self.rest_for("connection limit reached")
            elif not alone:
                self.look_again()

    def _take(self) -> bool:
        """Accept one connection; False when there is none or it can't be taken."""
        context = self._context
        try:
            # What `accept` of `socket.socket` is made of; the rest of it would wrap the descriptor in an object.
            fd, peer = self.sock._accept()  # type: ignore[attr-defined]
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno in _EXHAUSTED:
                self.rest_for(str(error))
                return False
            if error.errno == errno.EINVAL:  # it does not listen any more, and would say so again and again
                self.rest_for("somebody has shut it down")
                self._context.listener_lost()
                return False
            return True  # that one client is gone: ECONNABORTED, EPROTO, ENETDOWN ...
        context.accepted += 1
        os.set_blocking(fd, False)
        client, address = (peer[0].encode(), peer) if isinstance(peer, tuple) else (b"unix:", ("", 0))
        self._begin(PlainConnection(context, fd, client, self.port, self.tables, address))
        return True

    def _begin(self, connection: PlainConnection) -> None:
        try:
            connection.on_input()
        except Exception:
            connection.close()  # the loop knows whose event it was, which is ours
            raise

    def look_again(self) -> None:
        """Have the poller say whether there is a connection, whoever was told of it before."""
        if self._listening:
            self._stop()
            try:
                self.start()
            except OSError as error:  # no room to register with the poller
                self.rest_for(str(error))

    def _rest(self, seconds: float) -> None:
        """Stop waiting for connections for so long."""
        self._stop()
        if self._resume_at == _NEVER:
            self._context.paused += 1
        self._resume_at = self._context.now + seconds

    def rest_for(self, reason: str) -> None:
        """Do not accept for a moment, and say why."""
        self._rest(PAUSE)
        self._context.errors.limited(f"accept {reason}", 10).warning(
            "not accepting for a moment", listener=self.address.text, reason=reason,
            connections=len(self._context.connections),
        )  # fmt: skip

    @property
    def due(self) -> float:
        """When a pause ends (monotonic seconds); infinity when there is none."""
        return self._resume_at

    def resume(self, now: float) -> None:
        """End a pause that is over and has room again."""
        if now < self._resume_at:
            return
        if len(self._context.connections) >= self._context.limits.connections:
            self._resume_at = now + PAUSE
        else:
            self._end_pause()
            self.start()

    def _end_pause(self) -> None:
        if self._resume_at < _NEVER:
            self._resume_at = _NEVER
            self._context.paused -= 1

    def pause(self) -> None:
        """Accept nothing until `start`."""
        self._stop()
        self._end_pause()

    def close(self, *, empty_queue: bool) -> None:
        """Give up the listener, first taking what waits in its queue if nobody else will."""
        self._stop()
        if empty_queue:
            while len(self._context.connections) < self._context.limits.connections and self._take():
                pass
        self._end_pause()
        self.sock.close()
