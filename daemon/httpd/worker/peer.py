"""One client's socket on the worker's loop: waiting for it, ending it, and how long to be patient.

Rules:

- Between events nothing of a connection runs.  `deadline` is looked at by the loop's sweep, so keeping a deadline is
  one assignment.
- A socket is a descriptor here.  A socket object costs a system call and memory, and is made for those few calls that
  `os` does not have.
- The poller hears of a socket only when it has to be waited for, and again only when what is waited for changes.
- Every close that may meet unread input lingers: SHUT_WR, read until the client ends or is silent for `LINGER` seconds,
  close.  A plain close would answer with RST and could destroy a response that is already in the client's buffers
  (RFC 9112 9.6).  Who sends on and on is read for `timeouts.body`, no longer.
- The kernel would take up to 4 MB of an answer for a client that does not read.  That makes large answers cheap, so a
  few may have it; in a crowd it would be the memory of the machine, so there each gets little (TCP_NOTSENT_LOWAT).
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable

from httpd.protocol.receiver import Phase
from httpd.system.descriptors import reset_at_close
from httpd.system.pending import output_queued
from httpd.system.poller import IN
from httpd.worker.context import Context
from httpd.worker.sender import TURN

RECV = 16 * 1024  # bytes asked for by one read
LINGER = 2.0  # seconds without input
_CROWD = 64  # answers on their way
_UNSENT = 128 * 1024  # bytes of each further one that are sent in a round, and that the kernel may hold unsent
_NOTSENT_LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)


class Peer:
    """What is the same for every connection, whatever is spoken on it."""

    __slots__ = (
        "_context", "_fd", "_fresh", "_mask", "_moved", "_phase", "_queued", "_since", "_sock", "_taken", "deadline",
    )  # fmt: skip

    def __init__(self, context: Context, fd: int) -> None:
        self._context = context
        self._fd = fd
        self._sock: socket.socket | None = None
        self._phase = Phase.IDLE
        self._fresh = True  # it has not had an answer yet
        self._mask = 0  # what the poller waits for
        self._moved = 0  # bytes since `_since`, for min_rate
        self._since = 0.0  # monotonic seconds; 0 while no rate is measured
        self._queued = 0  # bytes in the kernel's send buffer at `_since`
        self._taken = 0  # bytes that the client had taken since then when it was last looked at
        self.deadline = context.now + context.timeouts.head
        context.connections[fd] = self

    def _socket(self) -> socket.socket:
        if self._sock is None:
            # Family and type are of no use to what it is made for; without them they would be asked for.
            self._sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=self._fd)
            self._sock.setblocking(False)
        return self._sock

    def _wait(self, mask: int, handler: Callable[[int], None]) -> None:
        self._context.watch(self._fd, mask, self._mask, handler)
        self._mask = mask

    def _linger(self) -> None:
        try:
            self._socket().shutdown(socket.SHUT_WR)
        except OSError:
            self.close()
            return
        self._phase = Phase.LINGER
        self._since = self._context.now
        self.deadline = self._context.now + LINGER
        self._wait(IN, self._on_linger)

    def _on_linger(self, mask: int) -> None:
        try:
            if os.read(self._fd, RECV):
                self.deadline = self._context.now + LINGER
            else:
                self.close()
        except BlockingIOError:
            pass
        except OSError:
            self.close()

    def close(self) -> None:
        """Let go of the socket."""
        context = self._context
        if context.connections.pop(self._fd, None) is None:
            return
        self._let_go()
        if self._phase is Phase.ANSWER:
            self._stop_measuring()
        if self._mask:
            context.forget(self._fd)
        if self._sock is None:
            with contextlib.suppress(ConnectionResetError):  # BSD says so of a peer that is gone
                os.close(self._fd)
        else:
            self._sock.close()

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._fd

    def cut(self) -> None:
        """Close in the middle of whatever there is."""
        raise NotImplementedError

    def answer(self, plain: re.Match[bytes]) -> None:
        """Answer a plain request that was read in this round."""
        raise NotImplementedError

    def _let_go(self) -> None:
        """Release what an answer that will not be finished holds."""
        raise NotImplementedError

    def _reset(self) -> None:
        """Close by RST: else the kernel would keep what the client does not take for as long as the client likes."""
        with contextlib.suppress(OSError):  # some systems refuse it when the peer is gone
            reset_at_close(self._socket())
        self.close()

    def sweep(self, now: float) -> None:
        """Look at the deadline and at the rate; called about once a second."""
        if self._since and self._phase is Phase.ANSWER:
            self._look_at_output(now)
        if now >= self.deadline or (self._since and self._too_slow(now)):
            self._expire()

    def postpone(self, seconds: float) -> None:
        """This process did not run for so long: the client is not to blame."""
        self.deadline += seconds
        if self._since:
            self._since += seconds

    @property
    def busy(self) -> bool:
        """Whether the client has begun a request, or waits for the rest of an answer."""
        return self._phase in (Phase.HEAD, Phase.BODY, Phase.HANDLER, Phase.ANSWER)

    def _measure_output(self) -> None:
        """Begin to measure how fast the client takes an answer."""
        context = self._context
        self._since, self._moved, self._taken = context.now, 0, 0
        self._queued = output_queued(self._fd)
        context.sending += 1
        if context.sending > _CROWD and _NOTSENT_LOWAT is not None:
            with contextlib.suppress(OSError):  # a unix socket
                self._socket().setsockopt(socket.IPPROTO_TCP, _NOTSENT_LOWAT, _UNSENT)

    def _turn(self) -> int:
        """How many bytes of an answer may be sent in one round."""
        return TURN if self._context.sending < _CROWD else _UNSENT

    def _stop_measuring(self) -> None:
        if self._since:
            self._since = 0.0
            self._context.sending -= 1

    def _look_at_output(self, now: float) -> None:
        """What counts is what the client took, not what the kernel did: its buffer may hold megabytes."""
        taken = self._moved + self._queued - output_queued(self._fd)
        if taken > self._taken:
            self._taken = taken
            self.deadline = now + self._context.timeouts.write

    def _expire(self) -> None:
        raise NotImplementedError

    def _too_slow(self, now: float) -> bool:
        timeouts = self._context.timeouts
        if self._phase is Phase.LINGER:
            return now - self._since > timeouts.body
        grace, moved = (
            (timeouts.body, self._moved) if self._phase is Phase.BODY else (timeouts.write, self._taken)
        )
        age = now - self._since
        return age > grace and moved < timeouts.min_rate * age

    def drain(self, *, fresh: bool) -> None:
        """The next request will be the last.  An idle connection gets a moment for one that is on its way.

        Who has never had an answer may not ask again elsewhere, and keeps its time, unless `fresh` ones are meant too.
        """
        if self._phase is Phase.IDLE and (fresh or not self._fresh):
            self.deadline = min(self.deadline, self._context.now + self._context.idle_seconds)
