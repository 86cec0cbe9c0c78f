"""What the tests of handlers share: modules in the daemon's folder, gates, and a client that reads every framing."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from live.client import Client
from live.daemon import PATIENCE, Daemon, Place, eventually

_HERE = Path(__file__).parent
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([0-9]{3}) ?([^\r\n]*)\r\n")


def install(place: Place, *names: str) -> None:
    """Put modules of this folder where the workers' user finds them, and make a folder for gates."""
    for name in names:
        place.write(f"app/{name}.py", (_HERE / f"{name}.py").read_bytes())
    (place.path / "app").chmod(0o755)
    (place.path / "gates").mkdir(exist_ok=True)
    (place.path / "gates").chmod(0o777)


def open_gate(place: Place, name: str) -> None:
    """Let handlers that wait for this gate go on, now and later."""
    (place.path / "gates" / name).touch()


def close_gate(place: Place, name: str) -> None:
    (place.path / "gates" / name).unlink(missing_ok=True)


def entered(daemon: Daemon, name: str, count: int = 1) -> None:
    """Wait until `count` handlers have come to a gate."""
    assert daemon.stderr is not None
    daemon.stderr.wait(f"stderr: at {re.escape(name)}$", count)


def entries(daemon: Daemon, pattern: str, count: int = 1) -> list[str]:
    """The entries of the error log in which `pattern` is found, each with its further lines; waits for `count`."""
    assert daemon.stderr is not None
    log = daemon.stderr

    def found() -> list[str]:
        whole: list[str] = []
        for line in log.all():
            if line.startswith("\t") and whole:
                whole[-1] += "\n" + line
            else:
                whole.append(line)
        return [entry for entry in whole if re.search(pattern, entry)]

    eventually(lambda: len(found()) >= count, f"{count} entries {pattern!r} in\n" + "\n".join(log.all()))
    return found()


@dataclass(slots=True)
class Reply:
    """One answer as it came: `minor` of its version, field lines, `body` without its framing, and how it was framed."""

    minor: int
    status: int
    reason: str
    lines: list[bytes]
    body: bytes = b""
    framing: str = ""  # "none", "length", "chunked", "close"

    def values(self, name: str) -> list[str]:
        wanted = name.lower().encode()
        pairs = (line.partition(b":") for line in self.lines)
        return [value.strip().decode("latin-1") for known, _, value in pairs if known.lower() == wanted]

    def __getitem__(self, name: str) -> str:
        (value,) = self.values(name)
        return value

    def __contains__(self, name: str) -> bool:
        return bool(self.values(name))

    @property
    def text(self) -> str:
        return self.body.decode()


class Talk(Client):
    """A client that takes HTTP/1.0 and chunked bodies as well, and tells how an answer was framed."""

    def __init__(self, server: Daemon, receive_buffer: int = 0) -> None:
        super().__init__(("127.0.0.1", server.port), receive_buffer)

    def ask(self, target: str, *fields: str, method: str = "GET", body: bytes = b"", version: int = 1) -> Reply:
        """Send a request and read its answer."""
        lines = [f"{method} {target} HTTP/1.{version}", "Host: localhost", *fields]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body)
        return self.reply(method)

    def reply(self, method: str = "GET") -> Reply:
        """The next final answer."""
        while True:
            found = self.head()
            if found.status >= 200 or found.status == 101:
                return self.with_body(found, method)

    def head(self) -> Reply:
        """The next head, whatever it says."""
        raw = self._until(b"\r\n\r\n")
        start = _STATUS_LINE.match(raw)
        assert start is not None, f"no status line: {raw!r}"
        lines = raw[start.end() : -2].split(b"\r\n")[:-1]
        assert all(re.match(rb"[!-9;-~]+:", line) for line in lines), raw
        return Reply(int(start[1]), int(start[2]), start[3].decode(), lines)

    def with_body(self, found: Reply, method: str = "GET") -> Reply:
        length = found.values("Content-Length")
        coding = found.values("Transfer-Encoding")
        assert not (length and coding), "two framings at once"
        if method == "HEAD" or found.status in (101, 204, 304):
            found.framing = "none"
        elif coding == ["chunked"]:
            found.framing, found.body = "chunked", b"".join(self.chunks())
        elif length:
            found.framing, found.body = "length", self._exactly(int(length[0]))
        else:
            found.framing, found.body = "close", self.rest()
        return found

    def chunks(self) -> list[bytes]:
        found = []
        while True:
            size = int(self._until(b"\r\n")[:-2], 16)
            data = self._exactly(size + 2)
            assert data[-2:] == b"\r\n"
            if not size:
                return found
            found.append(data[:-2])

    def upto(self, mark: bytes) -> bytes:
        """All that comes up to and with `mark`."""
        return self._until(mark)

    def exactly(self, size: int) -> bytes:
        return self._exactly(size)

    def was_cut(self) -> bool:
        """Wait for the end: True if the connection was reset, False if it was closed in order."""
        try:
            self.rest()
        except ConnectionResetError:
            return True
        return False


Open = Callable[[], Talk]


def shut_and_read(talk: Talk) -> bytes:
    """End this side, and read all that comes."""
    talk.sock.shutdown(socket.SHUT_WR)
    talk.sock.settimeout(PATIENCE)
    return talk.rest()
