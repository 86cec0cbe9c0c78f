"""Fixtures of the live tests: a folder, a daemon that is stopped and judged at the end, and connections to it."""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Callable, Iterator

import pytest

from httpd.system.limits import raise_nofile
from live.client import Client
from live.daemon import Daemon, Place
from live.handlers.talk import Open, Talk

Connect = Callable[[], Client]

MANY_DESCRIPTORS = 4000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if sys.platform != "linux":
        reason = pytest.mark.skip(reason="the harness waits by pidfd and reads /proc: Linux")
        for item in items:
            if "/live/" in str(item.path):
                item.add_marker(reason)


@pytest.fixture
def place() -> Iterator[Place]:
    """A folder of this test alone."""
    made = Place()
    yield made
    made.remove()


@pytest.fixture
def daemon(place: Place) -> Iterator[Daemon]:
    """A daemon of this test alone, not started yet."""
    made = Daemon(place)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def shared_place() -> Iterator[Place]:
    """A folder for the tests of one file."""
    made = Place()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def shared_daemon(shared_place: Place) -> Iterator[Daemon]:
    """A daemon for the tests of one file, not started yet: the file's `server` fixture does that."""
    made = Daemon(shared_place)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Opens connections to the file's `server`, or else to `daemon`; all are closed at the end."""
    opened: list[Client] = []

    def make() -> Client:
        name = "server" if "server" in request.fixturenames else "daemon"
        server: Daemon = request.getfixturevalue(name)
        opened.append(Client(("127.0.0.1", server.port)))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """Room for more connections in this process than a soft limit of 1,024 descriptors leaves."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if raise_nofile(MANY_DESCRIPTORS)[1] < MANY_DESCRIPTORS:
        pytest.skip(f"the hard limit on open files is {hard}, and this takes {MANY_DESCRIPTORS}")
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def talk(server: Daemon) -> Iterator[Open]:
    """A connection to the file's own `server`, as many as are asked for, closed at the end."""
    opened: list[Talk] = []

    def make() -> Talk:
        opened.append(Talk(server))
        return opened[-1]

    yield make
    for client in opened:
        client.close()
