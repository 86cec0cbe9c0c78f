"""A client that sends what it is told, byte for byte, and reads one response exactly by its framing (RFC 9112 6.3).

It asserts the framing and nothing more; what a response should hold is for the test to say.
"""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

PATIENCE = 20.0

_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([0-9]{3}) ([\t -~]*)\Z")
_FIELD_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+): ?([\t -~\x80-\xff]*)\Z")


class CleanClose(Exception):
    """The connection was closed in order, before any byte of a response."""


@dataclass(slots=True)
class Answer:
    """One response as it came."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    body: bytes

    def get(self, name: str) -> str | None:
        """The one value of a field; None when it is not there."""
        values = [value for key, value in self.fields if key.lower() == name.lower()]
        assert len(values) < 2, f"{name} came {len(values)} times"
        return values[0] if values else None

    def __getitem__(self, name: str) -> str:
        value = self.get(name)
        assert value is not None, f"no {name} in {self.fields}"
        return value

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    @property
    def closes(self) -> bool:
        return self.get("Connection") == "close"


class Client:
    """One connection.  `address` is (host, port), or the path of a unix socket."""

    def __init__(self, address: tuple[str, int] | str, receive_buffer: int = 0) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.settimeout(PATIENCE)
        try:
            self.sock.connect(address)
        except OSError:
            self.sock.close()
            raise
        self._rest = b""

    def send(self, data: bytes) -> Client:
        self.sock.sendall(data)
        return self

    def get(self, target: str | bytes, *fields: str, method: str = "GET") -> Answer:
        """Send a request without a body and read its response."""
        self.send(request(target, *fields, method=method))
        return self.read(method)

    def read(self, method: str = "GET") -> Answer:
        """The next final response; interim ones (1xx) are passed over."""
        while True:
            answer = self._read_one(method)
            if answer.status >= 200:
                return answer

    def read_interim(self) -> Answer:
        """The next response, whatever it is."""
        return self._read_one("GET")

    def _read_one(self, method: str) -> Answer:
        head = self._until(b"\r\n\r\n")
        first, *lines = head[:-4].split(b"\r\n")
        start = _STATUS_LINE.match(first)
        assert start is not None, f"no status line: {first!r}"
        fields = []
        for line in lines:
            found = _FIELD_LINE.match(line)
            assert found is not None, f"no field line: {line!r}"
            fields.append((found[1].decode(), found[2].decode("latin-1")))
        answer = Answer(int(start[1]), start[2].decode(), fields, b"")
        if method != "HEAD" and answer.status not in (204, 304) and answer.status >= 200:
            assert "Transfer-Encoding" not in answer
            length = answer.get("Content-Length")
            answer.body = self.rest() if length is None else self._exactly(int(length))
        return answer

    def _more(self) -> bytes:
        return self.sock.recv(1 << 18)

    def _until(self, mark: bytes) -> bytes:
        while (end := self._rest.find(mark)) < 0:
            data = self._more()
            if not data:
                if not self._rest:
                    raise CleanClose
                raise AssertionError(f"closed in the middle of a head: {self._rest[:200]!r}")
            self._rest += data
        end += len(mark)
        found, self._rest = self._rest[:end], self._rest[end:]
        return found

    def _exactly(self, size: int) -> bytes:
        parts, have = [self._rest], len(self._rest)
        while have < size:
            data = self._more()
            assert data, f"closed after {have} of {size} bytes"
            parts.append(data)
            have += len(data)
        whole = b"".join(parts)
        self._rest = whole[size:]
        return whole[:size]

    def rest(self) -> bytes:
        """All that still comes, up to an orderly close."""
        parts, self._rest = [self._rest], b""
        while data := self._more():
            parts.append(data)
        return b"".join(parts)

    def closed(self) -> bool:
        """Wait for the server's close; True if it is in order and nothing came before it."""
        return self.rest() == b""

    def shut(self) -> Client:
        """No more from this side."""
        self.sock.shutdown(socket.SHUT_WR)
        return self

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        """Close by RST: the server learns that nobody is there, whatever was on its way."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def request(
    target: str | bytes, *fields: str, method: str = "GET", host: str = "localhost", body: bytes = b""
) -> bytes:
    """The bytes of a request; `fields` are whole lines without CRLF."""
    raw = target if isinstance(target, bytes) else target.encode("ascii")
    lines = [method.encode() + b" " + raw + b" HTTP/1.1", b"Host: " + host.encode()]
    lines += [field.encode("latin-1") for field in fields]
    if body:
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@contextmanager
def connections(address: tuple[str, int] | str, count: int) -> Iterator[list[Client]]:
    """Many at once."""
    opened: list[Client] = []
    try:
        for _ in range(count):
            opened.append(Client(address))  # noqa: PERF401 - what is open when one fails has to be closed
        yield opened
    finally:
        for client in opened:
            client.close()
