from __future__ import annotations

import os
import select
import socket
import sys
import threading
from collections.abc import Iterator

import pytest

from httpd.system import poller
from httpd.system.poller import HUP, IN, OUT, Poller, make_poller


@pytest.fixture(params=[False, True], ids=["native", "portable"])
def subject(request: pytest.FixtureRequest) -> Iterator[Poller]:
    made = make_poller(portable=request.param)
    yield made
    made.close()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


Pair = tuple[socket.socket, socket.socket]


def test_nothing_is_ready_at_once(subject: Poller, pair: Pair) -> None:
    subject.register(pair[0].fileno(), IN)
    assert subject.poll(0) == []


def test_readable_stays_reported_until_it_is_read(subject: Poller, pair: Pair) -> None:
    fd = pair[0].fileno()
    subject.register(fd, IN)
    pair[1].send(b"x")
    assert subject.poll(-1) == [(fd, IN)]
    assert subject.poll(-1) == [(fd, IN)]
    pair[0].recv(1)
    assert subject.poll(0) == []


@pytest.mark.parametrize("mask", [OUT, IN | OUT])
def test_writable(subject: Poller, pair: Pair, mask: int) -> None:
    fd = pair[0].fileno()
    subject.register(fd, mask)
    assert subject.poll(-1) == [(fd, OUT)]
    pair[1].send(b"x")
    assert subject.poll(-1) == [(fd, mask)]


@pytest.mark.parametrize("before", [0, IN, OUT, IN | OUT])
@pytest.mark.parametrize("after", [0, IN, OUT, IN | OUT])
def test_modify_replaces_the_mask(subject: Poller, pair: Pair, before: int, after: int) -> None:
    fd = pair[0].fileno()
    pair[1].send(b"x")
    subject.register(fd, before)
    subject.modify(fd, after)
    assert subject.poll(0) == ([(fd, after)] if after else [])
    subject.unregister(fd)
    assert subject.poll(0) == []


def test_a_hang_up_is_reported_to_who_reads(subject: Poller, pair: Pair) -> None:
    subject.register(pair[0].fileno(), IN)
    pair[1].close()
    [(fd, mask)] = subject.poll(-1)
    assert fd == pair[0].fileno()
    assert mask & IN


def test_epoll_tells_a_hang_up_without_being_asked(pair: Pair) -> None:
    if sys.platform != "linux":
        pytest.skip("needs epoll")
    subject = make_poller()
    subject.register(pair[0].fileno(), 0)
    pair[1].close()
    assert subject.poll(-1) == [(pair[0].fileno(), HUP)]
    subject.close()


def test_poll_for_ever_waits_for_the_event(subject: Poller, pair: Pair) -> None:
    subject.register(pair[0].fileno(), IN)
    waiting = threading.Event()

    def write_later() -> None:
        waiting.wait()
        pair[1].send(b"x")

    writer = threading.Thread(target=write_later)
    writer.start()
    waiting.set()
    assert subject.poll(-1) == [(pair[0].fileno(), IN)]
    writer.join()


def test_errors_are_the_same(subject: Poller, pair: Pair) -> None:
    fd = pair[0].fileno()
    with pytest.raises(FileNotFoundError):
        subject.modify(fd, IN)
    with pytest.raises(FileNotFoundError):
        subject.unregister(fd)
    subject.register(fd, IN)
    with pytest.raises(FileExistsError):
        subject.register(fd, OUT)


def test_unregistered_can_be_registered_again(subject: Poller, pair: Pair) -> None:
    fd = pair[0].fileno()
    for mask in (IN, 0, OUT | poller.EXCLUSIVE):
        subject.register(fd, mask)
        subject.unregister(fd)


def test_linux_gets_bare_epoll() -> None:
    if sys.platform != "linux":
        pytest.skip("needs epoll")
    subject = make_poller()
    assert type(subject) is select.epoll
    assert not os.get_inheritable(subject.fileno())
    subject.close()
