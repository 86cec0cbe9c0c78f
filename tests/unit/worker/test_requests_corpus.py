"""The cases of tests/corpus/requests against the sans-IO layers: bytes in, bytes out, no socket and no loop.

What is put together here is what `worker.connection` puts together around its socket: `Receiver` (framing), `Responder`
(routing, files, preconditions, ranges), `Preambles` (heads).  Files are those of the same site that the live test asks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from corpus.requests import site
from corpus.requests.cases import Case, load
from corpus.requests.judge import Way, converse
from httpd.config import schema
from httpd.config.load import load as load_config
from httpd.content.cache import FileCache
from httpd.content.sites import SiteTable, build
from httpd.content.static import DirectoryMount, RedirectMount
from httpd.logs.errors import ErrorLog
from httpd.protocol.messages import FileBody, HeadLimits, ProtocolError, Request
from httpd.protocol.receiver import ON_END_OF_INPUT, Receiver
from httpd.protocol.writer import CLOSE, KEEP_ALIVE, OPEN, Preambles, rest_of_head
from httpd.worker.exchange import Mount, Reply, Responder, refusal
from live.client import Client

CASES = load()


class Stack:
    """What all connections of a worker share."""

    def __init__(self, config: schema.Config, wall: float) -> None:
        self.wall = wall
        limits = config.limits
        self.limits = limits
        self.head_limits = HeadLimits(limits.request_line, limits.head, limits.fields, limits.body)
        self.preambles = Preambles()
        self.preambles.at(int(wall))
        self.logged: list[bytes] = []
        self.responder = Responder(FileCache(limits.file_cache), ErrorLog(self.logged.append, "info", "test"))
        kinds: dict[type[schema.Mount], Any] = {schema.Directory: DirectoryMount, schema.Redirect: RedirectMount}
        tables: dict[str, SiteTable[Mount]] = build(config, kinds, lambda _: None)
        self.table = next(iter(tables.values()))


class Exchange(Client):
    """A connection without a socket.  Reading is the client's; what there is to read was made by `send`."""

    def __init__(self, stack: Stack) -> None:
        self._rest = b""
        self._stack = stack
        self._receiver = Receiver(stack.head_limits)
        self._request: Request | None = None
        self._taken = 0  # bytes of the current body
        self._out = b""
        self._closed = False

    def send(self, data: bytes) -> Exchange:
        if self._closed:
            return self
        try:
            while not self._closed:
                request = self._next(data)
                if request is not None:
                    self._answer(request)
                elif not self._receiver.pending or self._receiver.body is None:
                    break
                data = b""
        except ProtocolError as error:
            self._refuse(error)
        return self

    def _next(self, data: bytes) -> Request | None:
        """The request that can be answered now."""
        receiver = self._receiver
        if receiver.body is None:
            request = receiver.next_request(data)
            if request is None or not request.length or self._declined(request):
                return request
            self._request, self._taken = request, 0
            data = b""
        self._taken += len(data) + len(receiver.pending)
        receiver.next_body(data)
        if receiver.body is None or self._taken > self._stack.limits.body_memory:
            return self._request
        return None

    def _declined(self, request: Request) -> bool:
        return request.expect or request.length > self._stack.limits.body_memory

    def _answer(self, request: Request) -> None:
        stack = self._stack
        site = stack.table.find(request.host)
        reply = stack.responder.respond(site, request, stack.wall, 1.0, stack.responder.known(site, request, 1.0))
        close = reply.close or not request.keep_alive or self._receiver.body is not None
        self._write(reply, CLOSE if close else OPEN if request.minor else KEEP_ALIVE)

    def _refuse(self, error: ProtocolError) -> None:
        head = self._receiver.body is None and self._receiver.pending.lstrip(b"\r\n").startswith(b"HEAD ")
        self._write(refusal(error.status, head, None), CLOSE)

    def _write(self, reply: Reply, persistence: int) -> None:
        head = self._stack.preambles.get(reply.status, persistence)
        self._out += head + rest_of_head(reply.status, reply.fields, reply.length)
        descriptors = set()
        for part in reply.parts:
            if isinstance(part, FileBody):
                self._out += os.pread(part.fd, part.length, part.offset)
                descriptors.add(part.fd)
            else:
                self._out += part
        for descriptor in descriptors:
            os.close(descriptor)
        self._closed = persistence == CLOSE

    def shut(self) -> Exchange:
        status = ON_END_OF_INPUT[self._receiver.phase]
        if status is not None and not self._closed:
            self._refuse(ProtocolError(status, "the client stopped sending"))
        self._closed = True
        return self

    def _more(self) -> bytes:
        if not self._out and not self._closed:
            raise AssertionError("the server waits for more")
        data, self._out = self._out, b""
        return data


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> schema.Config:
    folder = tmp_path_factory.mktemp("site")
    site.build(folder)
    path = Path(folder, "httpd.toml")
    path.write_text('[server]\nlisten = ["127.0.0.1:0"]\n' + site.LIMITS + site.SITES)
    return load_config(str(path), euid=0, environ={}).config


@pytest.fixture(scope="module")
def warm(config: schema.Config) -> Iterator[Stack]:
    """A minute after the files were written: they are kept in the cache."""
    stack = Stack(config, time.time() + 60)
    yield stack
    assert stack.logged == []


@pytest.fixture(scope="module")
def cold(config: schema.Config) -> Iterator[Stack]:
    """Right now: files are too young for the cache."""
    stack = Stack(config, time.time())
    yield stack
    assert stack.logged == []


def test_the_corpus_is_there() -> None:
    assert len(CASES) > 1000


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_answered_as_the_rfcs_say(warm: Stack, cold: Stack, case: Case) -> None:
    for way, stack in [(Way.WHOLE, cold), *((way, warm) for way in Way)]:
        try:
            converse(case, way, Exchange(stack))
        except AssertionError as error:
            error.add_note(way.value)
            raise
