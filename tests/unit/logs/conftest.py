"""One finished request as the formats see it, the local time zone as a choice of the test, and files to log to."""

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

PATIENCE = 60.0  # seconds until a test gives up; nothing waits as long as this when the code is right
USER_AGENT = b"Mozilla/5.0 (X11; Linux x86_64)"


@dataclass(slots=True)
class Request:
    client: bytes = b"192.0.2.7"
    request_line: bytes = b"GET /a%20b?x=1 HTTP/1.1"
    method: bytes = b"GET"
    target: bytes = b"/a%20b?x=1"
    version: bytes = b"HTTP/1.1"
    fields: Mapping[bytes, bytes] = field(
        default_factory=lambda: {b"referer": b"http://example.org/", b"user-agent": USER_AGENT}
    )
    host: bytes = b"example.org:8080"
    vhost: bytes = b"example.org"
    port: int = 8080
    user: bytes = b"-"
    status: int = 200
    sent: int = 1024
    wire: int = 1200
    duration: float = 0.0123456
    keepalive: bool = True
    response_fields: Sequence[tuple[bytes, bytes]] = ((b"Content-Type", b"text/html"), (b"Vary", b"A"), (b"vary", b"B"))


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets TZ (POSIX form, so that no zone files are needed)."""

    def choose(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield choose
    monkeypatch.undo()
    time.tzset()


def append(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC)


class Reader(threading.Thread):
    """Reads a pipe to its end."""

    def __init__(self, fd: int) -> None:
        super().__init__(daemon=True)
        self._fd = fd
        self.data = b""
        self.start()

    def run(self) -> None:
        with open(self._fd, "rb") as stream:
            self.data = stream.read()

    def result(self) -> bytes:
        self.join(PATIENCE)
        assert not self.is_alive()
        return self.data
