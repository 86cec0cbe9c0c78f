"""Where a script listens (`httpd run`): addresses that it asks for, its listening sockets, and requests that wait until
it calls `handle_request`.

A script may poll its listening socket, and call `handle_request` when somebody has come.  The loop has accepted the
connection by then, so it is another descriptor that the script polls: `Inbox.fd`, in the place of the socket's.
"""

from __future__ import annotations

import contextlib
import operator
import os
import queue
import socket
import socketserver
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from httpd.server.exchange import Exchange
from httpd.worker.dispatch import Dispatch


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """An address that the script has asked for: the `ordinal`-th.  `both`: IPv6 and IPv4."""

    ordinal: int
    host: str
    port: int
    both: bool


def wanted(server: socketserver.TCPServer) -> tuple[str, int, bool]:
    """The numeric address that a server is to be bound to, and whether it is for IPv6 and IPv4.  Raises what
    `socket.bind` raises."""
    host, port = server.server_address[:2]
    if not 0 <= operator.index(port) <= 65535:
        raise OverflowError("bind(): port must be 0-65535.")
    family = server.address_family
    name = host if isinstance(host, str) else bytes(host).decode("latin-1")
    found = socket.getaddrinfo(name or None, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4]
    both = family == socket.AF_INET6 and not server.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    return str(found[0]), int(found[1]), both


class ScriptListener(socket.socket):
    """A script's listening socket.  It stays non-blocking, whatever the script says: its workers share it.

    `polled` is asked for the descriptor that a script may wait for; -1 is the socket's own.
    """

    polled: Callable[[], int] | None = None

    def settimeout(self, value: float | None, /) -> None:
        """Not done."""

    def setblocking(self, flag: bool, /) -> None:
        """Not done."""

    def fileno(self) -> int:
        """What to wait for before a call of `handle_request`."""
        found = -1 if self.polled is None else self.polled()
        return super().fileno() if found < 0 else found

    def duplicate(self) -> socket.socket:
        """Another descriptor of the same socket.  Not `dup()`, which would make it blocking for all who share it."""
        return socket.socket(fileno=os.dup(super().fileno()))


class Inbox:
    """Requests that wait for `handle_request`, and a descriptor, `fd`, that is readable while there are any.

    All but `get` is for the loop.
    """

    def __init__(self, dispatch: Dispatch) -> None:
        self._dispatch = dispatch
        self._queue: queue.SimpleQueue[Exchange] = queue.SimpleQueue()
        self.fd, self._bell = os.pipe()  # a byte for each request

    def put(self, exchange: Exchange) -> None:
        if self.fd < 0:
            self._refuse(exchange)
        else:
            self._queue.put(exchange)
            os.write(self._bell, b"\n")

    def get(self, timeout: float | None) -> Exchange:
        """The next one.  Raises queue.Empty after `timeout` seconds."""
        found = self._queue.get(timeout=timeout)
        os.read(self.fd, 1)
        return found

    def close(self) -> list[Exchange]:
        """Take out all that is in it, and nothing any more."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._queue.get_nowait())
        if self.fd >= 0:
            os.close(self.fd)
            os.close(self._bell)
            self.fd = -1
        return found

    def hang_up(self) -> None:
        """Nobody will call `handle_request` any more: close the connections of those who wait, or still come."""
        for exchange in self.close():
            self._refuse(exchange)

    def _refuse(self, exchange: Exchange) -> None:
        exchange.hooked = exchange.returned = exchange.over = True  # as if `verify_request` had said no
        self._dispatch.pool.finished.append(exchange)
        self._dispatch.pool.ring()


def make_twin(server: Any, listener: socket.socket) -> Any:
    """The same server, state and all, with another listening socket, which speaks TLS if the first does."""
    if type(server.socket) is not ScriptListener and hasattr(server.socket, "context"):
        listener = server.socket.context.wrap_socket(listener, server_side=True, do_handshake_on_connect=False)
    kind: Any = type(server)
    names = {"socket": property(lambda self: listener), "_poller": property(lambda self: None)}
    twin: Any = object.__new__(type(kind.__name__, (kind,), names))
    twin.__dict__ = server.__dict__
    return twin
