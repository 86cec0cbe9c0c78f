"""The clients of `live.load`: a program that asks one server again and again, and judges each answer byte for byte.

stdin is a line with a length, a pickled dict of so many bytes with the fields of an `Order`, and then commands: "look"
is answered with one line of JSON on stdout, and the end of stdin means that every client finishes what it has asked for
and goes; the last line on stdout is then the whole report.

What is lost: the server refused (`refused`), closed a fresh connection without a byte (`closed`), reset before the
whole answer was there (`reset`), closed inside of an answer (`short`), sent another status (`status`), other fields or
bytes (`wrong`), or nothing for too long (`timeout`).  Not lost, but asked again: what was sent on a connection that had
served before and was closed in order without a byte of an answer (RFC 9110 9.2.2, RFC 9112 9.3.1), what was pipelined
behind an answer with `Connection: close` (RFC 9112 9.6), and what a client that did not get to run in time sent on a
connection that was given up for its silence (RFC 9112 9.5).

It is a process of its own, with one poller and nothing but the standard library, so that neither the test nor the load
wait for each other.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import json
import os
import pickle
import random
import re
import select
import socket
import sys
import time
from collections.abc import Generator
from dataclasses import dataclass

_HEAD_LIMIT = 65536
_STATUS_LINE = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\Z")
_FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*([^\r\n]*?)[ \t]*\Z")
_SWEEP = 0.1  # seconds between two looks at who has waited for too long
_LATE = 0.9  # seconds between connecting and sending, from which on a client is to blame
_LARGE = 500_000  # bytes from which on a file is for the clients that download


@dataclass(frozen=True, slots=True)
class Order:
    """What to do.  `rate` is requests per second of all clients together, `patience` seconds without a byte."""

    address: tuple[str, int]
    files: dict[str, bytes]
    clients: int
    rate: float
    patience: float
    seed: int
    kinds: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kind:
    """A way to be a client.  `share` of 50 are of it; `requests` on one connection; `together` are sent at once."""

    name: str
    share: int
    requests: tuple[int, int]
    together: int = 1
    close: bool = False
    piece: int = 1 << 18  # bytes read at once
    pause: float = 0.0  # seconds between two pieces
    receive_buffer: int = 0
    large: bool = False


KINDS = (
    Kind("keep-alive", 20, (2, 60)),
    Kind("one-shot", 14, (1, 1), close=True),
    Kind("pipelined", 8, (2, 20), together=2),
    Kind("slow", 5, (1, 8), piece=700, pause=0.004),
    Kind("large", 3, (1, 3), receive_buffer=32768, large=True),
)

# What a client waits for: its socket (poll mask, seconds), or for 0 the time alone.  It is told whether it came.
Wait = tuple[int, float]
Steps = Generator[Wait, bool, "int"]


class LostError(Exception):
    """An answer that did not come as it should."""

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


class ClosedError(Exception):
    """Closed in order where an answer could have begun."""


class Connection:
    """One connection and what has been read from it."""

    def __init__(self, kind: Kind, patience: float) -> None:
        self._kind = kind
        self._patience = patience
        self.rest = bytearray()
        self.answers = 0
        self.opened = time.monotonic()
        self.port = 0
        self.sock = socket.socket()
        self.sock.setblocking(False)
        if kind.receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, kind.receive_buffer)

    def connect(self, address: tuple[str, int]) -> Steps:
        code = self.sock.connect_ex(address)
        with contextlib.suppress(OSError):
            self.port = self.sock.getsockname()[1]
        if code == errno.EINPROGRESS:
            if not (yield select.EPOLLOUT, self._patience):
                raise LostError("timeout", "connecting")
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise LostError("refused", os.strerror(code))
        return 0

    def send(self, data: bytes) -> Steps:
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                if not (yield select.EPOLLOUT, self._patience):
                    raise LostError("timeout", "sending") from None
            except BrokenPipeError:
                return 0  # closed before; what was received before that is read first, and tells how it was closed
            except ConnectionResetError:
                raise LostError("reset", "while sending") from None
        return 0

    def _more(self) -> Steps:
        """Read a piece; the number of its bytes."""
        if self._kind.pause:
            yield 0, self._kind.pause
        while True:
            try:
                data = self.sock.recv(self._kind.piece)
            except BlockingIOError:
                if not (yield select.EPOLLIN, self._patience):
                    raise LostError("timeout", f"behind {len(self.rest)} bytes") from None
                continue
            except OSError as error:
                raise LostError("reset", f"behind {len(self.rest)} bytes: {error.strerror}") from None
            self.rest += data
            return len(data)

    def read(self, body: bytes) -> Steps:
        """Read one answer, which has to be 200 with `body`; 1 when the connection goes on."""
        while (end := self.rest.find(b"\r\n\r\n")) < 0:
            if len(self.rest) > _HEAD_LIMIT:
                raise LostError("wrong", "an endless head")
            if not (yield from self._more()):
                if not self.rest:
                    raise ClosedError
                raise LostError("short", f"closed inside of a head: {bytes(self.rest[:200])!r}")
        goes_on = _judge(bytes(self.rest[:end]), len(body))
        del self.rest[: end + 4]
        while len(self.rest) < len(body):
            if not (yield from self._more()):
                raise LostError("short", f"closed behind {len(self.rest)} of {len(body)} bytes")
        if not self.rest.startswith(body):
            at = next(at for at, (is_, should) in enumerate(zip(self.rest, body, strict=False)) if is_ != should)
            raise LostError("wrong", f"at byte {at}: {bytes(self.rest[at : at + 40])!r}")
        del self.rest[: len(body)]
        self.answers += 1
        return goes_on


def _judge(head: bytes, size: int) -> bool:
    """Whether the connection goes on behind a head that is as it should be."""
    first, *lines = head.split(b"\r\n")
    start = _STATUS_LINE.match(first)
    if start is None:
        raise LostError("wrong", f"no status line: {first[:200]!r}")
    fields: dict[bytes, bytes] = {}
    for line in lines:
        found = _FIELD_LINE.match(line)
        if found is None or found[1].lower() in fields:
            raise LostError("wrong", f"no field line, or it came twice: {line[:200]!r}")
        fields[found[1].lower()] = found[2]
    if start[1] != b"200":
        raise LostError("status", first.decode("latin-1"))
    if fields.get(b"content-length") != b"%d" % size or b"transfer-encoding" in fields:
        raise LostError("wrong", f"not framed by the length {size}: {head[:400]!r}")
    return fields.get(b"connection", b"").lower() != b"close"


class Client:
    """Asks until it is told to end.  `think` is the mean of its pauses, in seconds."""

    def __init__(self, crowd: Crowd, number: int, kind: Kind, think: float) -> None:
        self._crowd = crowd
        self._kind = kind
        self._think = think
        self._random = random.Random(f"{crowd.order.seed} {number}")
        large = {path for path, body in crowd.order.files.items() if len(body) >= _LARGE}
        self._paths = sorted(large if kind.large else set(crowd.order.files) - large)
        self.connection: Connection | None = None
        self._asked: list[str] = []  # what is still to be answered
        self._path = ""  # what is being answered

    @property
    def idle(self) -> bool:
        """Nothing to do for it: there is no file that it would ask for."""
        return not self._paths

    def run(self) -> Steps:
        yield 0, self._random.uniform(0, self._think)
        while self._asked or not self._crowd.ending:
            connection = self.connection = Connection(self._kind, self._crowd.order.patience)
            try:
                yield from connection.connect(self._crowd.order.address)
                self._crowd.connections += 1
                yield from self._talk(connection)
            except LostError as lost:
                self._crowd.lost.append({
                    "kind": lost.kind, "client": self._kind.name, "port": connection.port, "opened": connection.opened,
                    "when": time.monotonic(), "path": self._path, "detail": lost.detail,
                    "answers": connection.answers,
                })  # fmt: skip
                self._asked.clear()
            finally:
                self.connection = None
                self._crowd.close(connection)
            if not self._asked:
                yield 0, self._pause()
        return 0

    def _pause(self) -> float:
        return 0.0 if self._crowd.ending else self._random.uniform(0.5, 1.5) * self._think

    def _talk(self, connection: Connection) -> Steps:
        """Requests on one connection, those first which another one left behind."""
        left = self._random.randint(*self._kind.requests)
        while self._asked or (left > 0 and not self._crowd.ending):
            if not self._asked:
                self._asked = self._random.choices(self._paths, k=self._kind.together)
            left -= len(self._asked)
            if not (yield from self._ask(connection)):
                return 0
            if left > 0:
                yield 0, self._pause()
        return 0

    def _ask(self, connection: Connection) -> Steps:
        """Send what is to be asked and read the answers; 1 when the connection goes on."""
        crowd = self._crowd
        fresh = connection.answers == 0 and time.monotonic() - connection.opened < _LATE
        yield from connection.send(b"".join(_request(path, close=self._kind.close) for path in self._asked))
        goes_on = 1
        while self._asked and goes_on:
            try:
                self._path = self._asked[0]
                goes_on = yield from connection.read(crowd.order.files[self._path])
            except ClosedError:
                if fresh and connection.answers == 0:  # that is, not between two that were sent together
                    raise LostError("closed", "a fresh connection, without a byte") from None
                goes_on = 0
                break
            del self._asked[0]
            crowd.answers += 1
        if not self._asked and connection.rest:
            raise LostError("wrong", f"more behind the answer: {bytes(connection.rest[:200])!r}")
        crowd.retried += len(self._asked)
        return goes_on


def _request(path: str, *, close: bool) -> bytes:
    more = "Connection: close\r\n" if close else ""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


class Crowd:
    """All clients, and the loop that runs them."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.answers = self.connections = self.retried = 0
        self.lost: list[dict[str, object]] = []
        self.ending = False
        self._epoll = select.epoll()
        self._waiting: dict[int, tuple[Client, float]] = {}  # descriptor of the socket: who waits for it, until when
        self._pausing: list[tuple[float, int, Client]] = []
        self._numbers = itertools.count()
        self._next_sweep = 0.0
        self._steps: dict[Client, Steps] = {}
        self._commands = b""

    def run(self) -> None:
        kinds = [kind for kind in KINDS if not self.order.kinds or kind.name in self.order.kinds]
        pattern = sorted(
            ((turn + 0.5) / kind.share, kind.name, kind) for kind in kinds for turn in range(kind.share)
        )  # fmt: skip
        for number in range(self.order.clients):
            kind = pattern[number % len(pattern)][2]
            # Those that send two at once pause twice as long, and those that download more so.
            think = self.order.clients / self.order.rate * (10 if kind.large else kind.together)
            client = Client(self, number, kind, think)
            if not client.idle:
                self._steps[client] = client.run()
                self._step(client, came=False, first=True)
        self._epoll.register(0, select.EPOLLIN)
        while self._steps:
            self._round()
        print(json.dumps(self._figures() | {"lost": self.lost}), flush=True)

    def _round(self) -> None:
        now = time.monotonic()
        while self._pausing and (self.ending or self._pausing[0][0] <= now):
            self._step(heapq.heappop(self._pausing)[2], came=False)
        if now >= self._next_sweep:
            self._next_sweep = now + _SWEEP
            for client in [client for client, until in self._waiting.values() if now >= until]:
                self._step(client, came=False)
        seconds = self._next_sweep - time.monotonic()
        if self._pausing:
            seconds = min(seconds, self._pausing[0][0] - time.monotonic())
        for fd, _ in self._epoll.poll(max(0.0, seconds)) if self._steps else ():
            if fd == 0:
                self._obey()
            elif fd in self._waiting:
                self._step(self._waiting[fd][0], came=True)

    def _step(self, client: Client, *, came: bool, first: bool = False) -> None:
        if client.connection is not None:
            self._forget(client.connection)
        try:
            mask, seconds = next(self._steps[client]) if first else self._steps[client].send(came)
        except StopIteration:
            del self._steps[client]
            return
        until = time.monotonic() + seconds
        if mask:
            assert client.connection is not None
            self._waiting[client.connection.sock.fileno()] = client, until
            self._epoll.register(client.connection.sock, mask)
        else:
            heapq.heappush(self._pausing, (until, next(self._numbers), client))

    def _forget(self, connection: Connection) -> None:
        if self._waiting.pop(connection.sock.fileno(), None) is not None:
            self._epoll.unregister(connection.sock)

    def close(self, connection: Connection) -> None:
        self._forget(connection)
        connection.sock.close()

    def _obey(self) -> None:
        data = os.read(0, 4096)
        if not data:
            self._epoll.unregister(0)
            self.ending = True  # those that pause go on at once
        *lines, self._commands = (self._commands + data).split(b"\n")
        for _ in lines:
            print(json.dumps(self._figures() | {"lost": len(self.lost)}), flush=True)

    def _figures(self) -> dict[str, object]:
        return {"answers": self.answers, "connections": self.connections, "retried": self.retried}


def _order() -> Order:
    """What stdin begins with.  Read without a buffer, which would swallow the commands behind it."""
    with open(0, "rb", buffering=0, closefd=False) as stdin:
        size = int(stdin.readline())
        data = bytearray()
        while len(data) < size:
            data += stdin.read(size - len(data)) or sys.exit("the order is cut off")
    return Order(**pickle.loads(data))


if __name__ == "__main__":
    Crowd(_order()).run()
