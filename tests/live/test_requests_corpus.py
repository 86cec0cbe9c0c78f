"""The cases of tests/corpus/requests against a running worker, each in three ways."""

from __future__ import annotations

import socket

import pytest

from corpus.requests import site
from corpus.requests.cases import Case, load
from corpus.requests.judge import Way, converse
from live.client import Client
from live.daemon import Daemon, Place


class Talker(Client):
    """A client that may be refused before it has said all: it reads the answer all the same.

    `dawdles`: it sends byte by byte, maybe for longer than the server lingers; then a reset is an end like others.
    """

    def __init__(self, port: int, *, dawdles: bool) -> None:
        super().__init__(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._dawdles = dawdles
        self._refused = False

    def send(self, data: bytes) -> Talker:
        if not self._refused:
            try:
                super().send(data)
            except (BrokenPipeError, ConnectionResetError):
                self._refused = True
        return self

    def _more(self) -> bytes:
        try:
            return super()._more()
        except ConnectionResetError:
            if not self._dawdles:
                raise
            return b""


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    site.build(shared_place.path, shared_place.write)
    shared_daemon.configure(site.LIMITS + site.SITES, server="workers = 1")
    return shared_daemon.start()


@pytest.mark.parametrize("case", load(), ids=lambda case: case.id)
def test_answered_as_the_rfcs_say(server: Daemon, case: Case) -> None:
    for way in Way:
        with Talker(server.port, dawdles=way is Way.SINGLE) as talk:
            try:
                converse(case, way, talk)
            except AssertionError as error:
                error.add_note(way.value)
                raise
