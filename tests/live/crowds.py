"""Crowds of slow clients: what each kind sends, and a crowd that is moved on by one byte at a time.

A crowd never waits for the server while it is held; only `finish` does, and shows that all of it was held until then.
Behind it: the crowd that only keeps its connections open.
"""

from __future__ import annotations

import select
from dataclasses import dataclass

from live.client import Client, request

LARGE = 30_000_000  # bytes: more than the kernel's buffers take, so whoever does not read is waited for

_DRIP = 20  # bytes of a body that come one by one
_POST = request("/a", f"Content-Length: {_DRIP}", method="POST")
_CHUNKED = request("/a", "Transfer-Encoding: chunked", method="POST")
_CHUNKS = b"1\r\nx\r\n1;a=b\r\nx\r\n0\r\nA: b\r\n\r\n"
_ASK = b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be slow.

    `opening` is sent at once, `drops` byte by byte, `ending` completes the request, which is answered by `status`; 0 is
    for those that never read their answer.  `idle` reads a first answer and then says nothing; `reads` takes a byte of
    its answer at a time; `shut` says at once that nothing else will come.
    """

    name: str
    opening: bytes = b""
    drops: bytes = b""
    ending: bytes = b""
    status: int = 200
    idle: bool = False
    reads: bool = False
    shut: bool = False


KINDS = (
    Kind("silent", ending=_ASK),
    Kind("silent behind an answer", _ASK, ending=_ASK, idle=True),
    Kind("silent in a head", _ASK[:9], ending=_ASK[9:]),
    Kind("silent in a body", _POST + b"x", ending=b"x" * (_DRIP - 1), status=405),
    Kind("a head byte by byte", drops=_ASK),
    Kind("empty lines and a head byte by byte", drops=b"\r\n" * 2 + _ASK),
    Kind("a body byte by byte", _POST, b"x" * _DRIP, status=405),
    Kind("a chunked body byte by byte", _CHUNKED, _CHUNKS, status=405),
    Kind("does not read", request("/large"), status=0),
    Kind("does not read its pipeline", request("/large") * 100, status=0),
    Kind("reads byte by byte", request("/large"), status=0, reads=True),
    Kind("half closed, reads byte by byte", request("/large"), status=0, reads=True, shut=True),
)

# Not the shortest request there is: what a connection remembers of it counts.
_BROWSER = request(
    "/a", "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", "Accept-Language: en-GB,en;q=0.5",
    "Accept-Encoding: gzip, deflate, br", 'If-None-Match: "x"', "Cookie: session=0123456789abcdef0123456789abcdef",
)  # fmt: skip
_BATCH = 100  # connections at once: well within the listener's queue

STEPS = max(len(kind.drops) for kind in KINDS) - 1  # steps until the last byte of the longest is all that is missing


class Crowd:
    """`count` clients of one kind."""

    def __init__(self, address: tuple[str, int], kind: Kind, count: int) -> None:
        self.kind = kind
        self.clients: list[Client] = []
        self._poll = select.poll()
        self._dropped = 0  # bytes of the kind's `drops` that each has sent
        try:
            for _ in range(count):
                self._join(Client(address, receive_buffer=0 if kind.status else 4096))
        except BaseException:
            self.reset()
            raise

    def _join(self, client: Client) -> None:
        self.clients.append(client)
        client.send(self.kind.opening)
        if self.kind.idle:
            assert client.read().status == 200
        if self.kind.shut:
            client.shut()
        self._poll.register(client.sock, select.POLLIN if self.kind.status else 0)

    def step(self) -> None:
        """One byte more, sent or read, of each; but never the last one that an answer waits for."""
        drop = self.kind.drops[self._dropped : self._dropped + 1] if self._dropped < len(self.kind.drops) - 1 else b""
        self._dropped += len(drop)
        for client in self.clients:
            if drop:
                client.send(drop)
            if self.kind.reads:
                assert client.sock.recv(1), f"{self.kind.name}: closed"

    def held(self) -> bool:
        """Whether none was answered, closed or reset since the crowd came together."""
        return not self._poll.poll(0)

    def finish(self) -> list[int]:
        """Have all complete their requests; the statuses that they get, nothing for those that never read."""
        if not self.kind.status:
            return []
        for client in self.clients:
            client.send(self.kind.drops[self._dropped :] + self.kind.ending)
        return [client.read().status for client in self.clients]

    def reset(self) -> None:
        """Go, without a word."""
        for client in self.clients:
            client.reset()
        self.clients = []


def gather(address: tuple[str, int], count: int) -> list[Client]:
    """So many connections, each of which has been answered once and is idle."""
    crowd: list[Client] = []
    try:
        while len(crowd) < count:
            batch: list[Client] = []
            for _ in range(_BATCH):
                batch.append(Client(address))
                crowd.append(batch[-1])
            ask_each(batch)
    except BaseException:
        leave(crowd)
        raise
    return crowd


def ask_each(crowd: list[Client]) -> None:
    """One request more on each connection; each has to be answered."""
    for start in range(0, len(crowd), _BATCH):
        batch = crowd[start : start + _BATCH]
        for client in batch:
            client.send(_BROWSER)
        assert {client.read().status for client in batch} == {200}


def leave(crowd: list[Client]) -> None:
    """All connections end at once."""
    for client in crowd:
        client.reset()
