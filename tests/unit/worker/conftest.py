"""What the tests of the worker share: requests, and mounts that answer what a test says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from httpd.config.schema import Settings, Vhost
from httpd.content.cache import Entry
from httpd.content.sites import Site
from httpd.logs.access_log import AccessLog
from httpd.protocol.head import parse, parse_loose
from httpd.protocol.messages import HeadLimits, Request, Response

Answer = Callable[[Request, bytes], Response]
MakeRequest = Callable[..., Request]


class Scripted:
    """A mount: `answers` by path, else 200 with the path as its body.  `asked` notes the paths."""

    def __init__(self, prefix: bytes = b"", settings: Settings | None = None, log: AccessLog | None = None) -> None:
        self.prefix = prefix
        self.settings = settings or Settings()
        self.log = log
        self.answers: dict[bytes, Callable[[], Response]] = {}
        self.entries: dict[bytes, Entry] = {}
        self.asked: list[bytes] = []

    def answer(self, request: Request, path: bytes, wall: float, now: float) -> tuple[Response, Entry | None]:
        self.asked.append(path)
        make = self.answers.get(path)
        return make() if make is not None else Response(200, body=path), self.entries.get(path)

    def load(self, path: bytes, wall: float, now: float) -> None:
        """Everything goes the general way."""


@pytest.fixture
def mount() -> Scripted:
    return Scripted()


@pytest.fixture
def make_site() -> Callable[..., Site[Any]]:
    """A site of some mounts."""

    def make(*mounts: Any, log: AccessLog | None = None, **settings: Any) -> Site[Any]:
        return Site(Vhost(key="k", settings=Settings(**settings)), mounts, log)

    return make


@pytest.fixture
def make_request() -> MakeRequest:
    """A parsed request; keyword arguments are fields, "_" stands for "-"."""

    def make(method: str = "GET", target: str = "/", **fields: str) -> Request:
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
        wire = f"{method} {target} HTTP/1.1\r\nHost: a\r\n{lines}\r\n".encode("latin-1")
        return parse(wire, HeadLimits()) or parse_loose(wire, HeadLimits())

    return make
