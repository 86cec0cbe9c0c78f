"""The seam between a handler and the daemon's loop: what a handler gets for its `request` when a loop drives it.

A handler that the daemon runs is called as ever, `Handler(request, client_address, server)`.  `request` is an
`Exchange`: it looks like the client's socket, but the loop has read head and body already, and sends what is written.

Rules:

- The thread of a handler never touches the socket.  What it writes goes into a queue, which the loop empties; a thread
  waits only when more than `HIGH` bytes of it are queued.
- Who does ask for the socket itself (recv, send, fileno, detach, makefile) gets it: the loop lets go of it, and from
  then on it is a blocking socket of that thread.  Bytes that were read before come first.
- `asked_again`: the handler would have read another request; only then may the connection go on.
"""

from __future__ import annotations

import contextlib
import io
import os
import socket
import threading
from typing import Any, Protocol

from httpd.server.writer import ResponseWriter


class Driver(Protocol):
    """What the loop does for an exchange.  Called in the handler's thread."""

    def push(self, exchange: Exchange) -> None:
        """Something was written that should go out soon, or the exchange is over."""

    def take_over(self, exchange: Exchange) -> tuple[socket.socket, bytes]:
        """Let go of the socket when all that was written is out; returns it, blocking, and what was read from it.

        Raises OSError when too many were taken over, or the client is gone.
        """

    def ask_socket(self, exchange: Exchange, name: str, arguments: tuple[Any, ...]) -> Any:
        """What a method of the socket says that moves no bytes: getsockname, setsockopt, getsockopt."""

    def failed(self, exchange: Exchange, error: BaseException) -> None:
        """The handler has raised `error`."""


class Exchange:
    """One request, and the way to its answer.  Set up by the loop; `body` is what comes behind `head` in `rfile`."""

    # What most exchanges never change stands here: an attribute that is not set costs nothing.
    command = "GET"
    minor = 1
    keep_alive = True  # the client allows it
    expect = False  # the client waits for 100 (Continue)
    http11 = False  # speak HTTP/1.1 for a class that says HTTP/1.0
    client_address: Any = ("", 0)
    request: Any = None  # the parsed head, when there is one
    raw_line = b""
    parsed = False  # the head has been taken
    asked_again = False
    close_connection = True  # as the handler left it
    over = False  # the handler has returned, or closed its request
    broken = False  # the client is gone
    eager = False  # the loop does not wait for the handler to return
    failure: BaseException | None = None
    fault = 0  # the status for what the client has done wrong while the handler read from it
    settled = False  # the handler has finished in order
    since = 0.0  # when it began, monotonic seconds; 0: it waits for a thread
    holds = False  # there are descriptors to be closed (`let_go`)
    hooked = False  # a server object with hooks passes it on
    returned = False  # the call of the handler, or of those hooks, has returned
    room: threading.Event | None = None  # set when there is room in the queue again
    timeout: float | None = None
    _sock: TakenSocket | None = None
    # The loop's side of it.
    owner: Any = None
    listener = 0
    name = ""  # for the error log
    held = False  # the loop waits a moment for a body to go with the head
    flushed = False  # what was written goes out as it is
    released = False  # it does not count among the threads any more
    reported = False  # that it takes long was said
    ended = False  # it was seen to be over
    cut = False  # the answer is not whole

    def __init__(self, driver: Driver, mount: Any, data: bytes, head: int, line: bytes, path: str) -> None:
        """`data` is the request from its first byte on, of which `head` bytes are its head and the rest is all of the
        body; `line` is the request line without its end, `path` what the handler is to take for its path."""
        self._driver = driver
        self.mount = mount
        self.data = data
        self.head = self.body_at = head
        self.line = line
        self.path = path
        self.rfile: io.BufferedIOBase = io.BytesIO(data)
        self.wfile = ResponseWriter(self)

    # For the writer

    def push(self) -> None:
        """Have the loop look at what was written."""
        self._driver.push(self)

    def wait_for_room(self, high: int) -> None:
        """Wait until no more than `high` bytes are queued.  Raises ConnectionError when the client is gone."""
        room = self.room
        if room is None:
            room = self.room = threading.Event()
        while True:
            room.clear()  # first: what is set behind this is seen
            if self.broken or self.wfile.queued <= high:
                return
            self.push()
            room.wait()

    # For the handler

    @property
    def fields(self) -> bytes:
        """The field lines of the head, and the line feed in front of them."""
        return self.data[len(self.line) + 1 : self.head - 2]

    def failed(self, error: BaseException) -> None:
        """The handler raised: log it; the answer is 500 unless it has begun."""
        if self.failure is None:
            self.failure = error
            self._driver.failed(self, error)

    @property
    def taken_over(self) -> bool:
        """The socket is the handler's."""
        return self._sock is not None

    def end(self) -> None:
        """The exchange is over; called once or more often."""
        if self.holds:
            self.let_go()
        if not self.over:
            self.over = True
            self.push()

    def let_go(self) -> None:
        """Close what has a descriptor: a socket that was taken over, as a server does (`shutdown_request`); a body."""
        if self._sock is not None:
            with contextlib.suppress(OSError):
                self.wfile.finish()
                self.wfile.spill(self._sock)
                self._sock.shutdown(socket.SHUT_WR)
            with contextlib.suppress(OSError):  # the handler may have closed its descriptor
                self._sock.close()
        with contextlib.suppress(OSError):
            self.rfile.close()

    def takes_other(self, raw: bytes) -> bool:
        """Whether `raw` is not the request line as it came, but one that a handler has put in its place; rfile is
        behind the line that came then."""
        if not self.parsed:
            if raw is self.raw_line or raw[:-2] == self.line:
                return False
            if self.raw_line:  # who has not called our `handle_one_request` has read it
                self.rfile.readline()
            self.parsed = True
        return True

    def begin_body(self) -> None:
        """Move rfile behind the head."""
        self.parsed = True
        if self.body_at >= 0:
            self.rfile.seek(self.body_at)
        else:
            self.rfile.read(self.head)

    def read_by(self, raw: io.RawIOBase) -> None:
        """Have rfile read from `raw`, in which the head comes first."""
        self.rfile = io.BufferedReader(raw)
        self.body_at = -1
        self.holds = True

    def read_file(self, file: io.BufferedRandom, body_at: int) -> None:
        """Have rfile be a file with the head in front of the body."""
        self.rfile = file
        self.body_at = body_at
        self.holds = True

    def lose(self) -> None:
        """The client is gone; called by the loop."""
        self.broken = True
        if self.room is not None:
            self.room.set()

    @property
    def denied(self) -> bool:
        """A server's `verify_request` did not let it through."""
        return self.hooked and not self.settled and not self.wfile.status and self.failure is None

    def run(self) -> None:
        """Have the mount call the handler; for a thread of the pool."""
        self.mount.run(self)

    # The face of a socket

    family, type, proto = socket.AF_INET, socket.SOCK_STREAM, 0

    def close(self) -> None:
        self.end()

    def shutdown(self, how: int) -> None:
        if self._sock is not None:
            self._sock.shutdown(how)
        elif not self.settled:
            self.close_connection = True

    def settimeout(self, value: float | None) -> None:
        self.timeout = value
        if self._sock is not None:
            self._sock.settimeout(value)

    def gettimeout(self) -> float | None:
        return self.timeout

    def setblocking(self, flag: bool) -> None:
        self.settimeout(None if flag else 0.0)

    def getblocking(self) -> bool:
        return self.timeout != 0.0

    def getpeername(self) -> Any:
        return self.client_address

    def getsockname(self) -> Any:
        return self._ask("getsockname")

    def getsockopt(self, *arguments: Any) -> Any:
        return self._ask("getsockopt", *arguments)

    def setsockopt(self, *arguments: Any) -> None:
        self._ask("setsockopt", *arguments)

    def _ask(self, name: str, *arguments: Any) -> Any:
        if self._sock is not None:
            return getattr(self._sock, name)(*arguments)
        return self._driver.ask_socket(self, name, arguments)

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def taken(self) -> TakenSocket:
        """The client's socket itself."""
        sock = self._sock
        if sock is None:
            if self.over:
                raise OSError(9, "the request is closed")
            real, early = self._driver.take_over(self)
            if not self.parsed:  # nobody has looked at the head yet: it comes first
                early = self.rfile.read() + early
            sock = self._sock = TakenSocket(real, early)
            sock.settimeout(self.timeout)
            self.holds = True
        return sock

    def __getattr__(self, name: str) -> Any:
        # recv, send, fileno, makefile, detach ...: the socket's own.
        if name.startswith("__") or not hasattr(socket.socket, name):
            raise AttributeError(name)
        return getattr(self.taken(), name)


class TakenSocket(socket.socket):
    """A client's socket that a handler has taken over.  `early` was read before and comes first."""

    def __init__(self, real: socket.socket, early: bytes) -> None:
        super().__init__(real.family, real.type, real.proto, fileno=real.detach())
        self._early = memoryview(early)  # whose slices are no copies

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        early = self._early
        if not early:
            return super().recv(size, flags)
        if not flags & socket.MSG_PEEK:
            self._early = early[size:]
        return bytes(early[:size])

    def dup(self) -> socket.socket:  # type: ignore[override]
        """Another descriptor of the same socket."""
        return socket.socket(self.family, self.type, self.proto, fileno=os.dup(self.fileno()))

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        if not self._early:
            return super().recv_into(buffer, size, flags)
        view = memoryview(buffer).cast("B")
        data = self.recv(min(size or len(view), len(view)), flags)
        view[: len(data)] = data
        return len(data)

