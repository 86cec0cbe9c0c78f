"""Sending answers: heads, bytes and stretches of files, on a socket that takes a little at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from httpd.protocol.messages import FileBody
from httpd.worker.exchange import Part
from httpd.worker.sender import FAILED, GATHER, Sender
from machine import descriptors

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"
BIG = bytes(range(256)) * 8192  # 2 MiB: more than a socket holds
MakeFile = Callable[[bytes], int]


class Line:
    """A sender and the other end of its socket."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.far.setblocking(False)
        self.sender = Sender(self.near.fileno())
        self.got = bytearray()

    def take(self) -> None:
        """Receive what there is."""
        while True:
            try:
                data = self.far.recv(1 << 20)
            except BlockingIOError:
                return
            if not data:
                return
            self.got += data

    def finish(self) -> int:
        """Send and receive until all is out; returns how much was sent."""
        total = 0
        while self.sender.left:
            self.take()
            sent = self.sender.go_on()
            if sent == FAILED:
                return FAILED
            total += sent
        self.take()
        return total

    def close(self) -> None:
        self.near.close()
        self.far.close()


@pytest.fixture
def line() -> Iterator[Line]:
    before = descriptors()
    line = Line()
    yield line
    line.close()
    assert descriptors() == before, "descriptors left open"


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """An open file; the sender has to close it."""

    def make(content: bytes) -> int:
        (tmp_path / "file").write_bytes(content)
        return os.open(tmp_path / "file", os.O_RDONLY)

    return make


def size(parts: list[Part]) -> int:
    return sum(len(part) if isinstance(part, bytes) else part.length for part in parts)


def start(line: Line, *parts: Part) -> int:
    given = list(parts)
    total = len(HEAD) + size(given)
    sent = line.sender.start(HEAD, given)
    assert sent == FAILED or sent + line.sender.left == total
    return sent


@pytest.mark.parametrize("parts", [[], [b"hello"], [b"he", b"llo"]])
def test_small(line: Line, parts: list[Part]) -> None:
    sent = line.sender.start(HEAD, parts)
    line.take()
    assert line.got == HEAD + b"".join(part for part in parts if isinstance(part, bytes))
    assert (sent, line.sender.left) == (len(line.got), 0)


@pytest.mark.parametrize(("parts", "calls"), [([b"hello"], 1), ([], 1), ([b"x" * GATHER], 1), ([b"a", b"b"], 2)])
def test_a_head_and_a_body_leave_in_one_call(
    line: Line, parts: list[Part], calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    for name in ("write", "writev"):
        original = getattr(os, name)
        monkeypatch.setattr(os, name, lambda *given, original=original: made.append("") or original(*given))
    line.sender.start(HEAD, parts)
    assert len(made) == calls
    line.take()
    assert line.got == HEAD + b"".join(part for part in parts if isinstance(part, bytes))


@pytest.mark.parametrize("sent", [0, 1, len(HEAD) - 1, len(HEAD), len(HEAD) + 3, len(HEAD) + 9])
def test_adopt(line: Line, sent: int) -> None:
    """Somebody else has sent the beginning."""
    rest = b"0123456789"
    line.near.send((HEAD + rest)[:sent])
    moved = line.sender.adopt(HEAD, rest, sent)
    assert line.sender.left == len(HEAD + rest) - moved
    line.finish()
    assert line.got == HEAD + rest


def test_adopt_what_is_out_or_failed(line: Line) -> None:
    assert line.sender.adopt(HEAD, b"rest", len(HEAD) + 4) == len(HEAD) + 4
    assert line.sender.left == 0
    assert line.sender.go_on() == 0
    assert line.sender.adopt(HEAD, b"rest", FAILED) == FAILED
    assert line.sender.left == len(HEAD) + 4
    line.sender.abandon()


def test_large_bytes(line: Line) -> None:
    start(line, BIG)
    assert line.sender.left
    line.finish()
    assert line.got == HEAD + BIG


def test_a_file(line: Line, make_file: MakeFile) -> None:
    start(line, FileBody(make_file(b"0123456789"), 2, 5))
    assert line.finish() == 0
    assert line.got == HEAD + b"23456"


def test_a_large_file(line: Line, make_file: MakeFile) -> None:
    start(line, FileBody(make_file(BIG), 1, len(BIG) - 2))
    assert line.sender.left
    line.finish()
    assert line.got == HEAD + BIG[1:-1]


def test_many_parts_of_one_file(line: Line, make_file: MakeFile) -> None:
    """A multipart/byteranges body: the file is closed once, when its last part is out."""
    fd = make_file(BIG)
    start(line, b"--a\r\n", FileBody(fd, 5, 100_000), b"\r\n--a\r\n", FileBody(fd, 0, 900_000), b"\r\n--a--\r\n")
    line.finish()
    assert line.got == HEAD + b"--a\r\n" + BIG[5:100_005] + b"\r\n--a\r\n" + BIG[:900_000] + b"\r\n--a--\r\n"
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_one_answer_after_the_other(line: Line, make_file: MakeFile) -> None:
    for number in range(20):
        start(line, b"%d" % number, FileBody(make_file(b"file"), 0, 4))
        line.finish()
    assert bytes(line.got) == b"".join(HEAD + b"%dfile" % number for number in range(20))


def test_a_full_socket(line: Line) -> None:
    while True:
        try:
            line.near.send(b"x" * 100_000)
        except BlockingIOError:
            break
    assert start(line, b"hello") == 0
    assert line.sender.go_on() == 0
    line.take()
    line.got.clear()
    line.finish()
    assert line.got == HEAD + b"hello"


@pytest.mark.parametrize("parts", [[], [b"hello"], [BIG]])
def test_the_peer_is_gone(line: Line, parts: list[Part] | None) -> None:
    line.far.close()
    assert line.sender.start(HEAD, parts) == FAILED
    line.sender.abandon()


def test_the_peer_is_gone_before_a_file(line: Line, make_file: MakeFile) -> None:
    fd = make_file(BIG)
    line.far.close()
    assert start(line, FileBody(fd, 0, 10)) == FAILED
    line.sender.abandon()
    line.sender.abandon()


def test_the_peer_goes_in_the_middle(line: Line, make_file: MakeFile) -> None:
    start(line, FileBody(make_file(BIG), 0, len(BIG)))
    line.far.close()
    assert line.sender.go_on() == FAILED
    line.sender.abandon()


def test_a_file_that_was_cut_off(line: Line, make_file: MakeFile, tmp_path: Path) -> None:
    """The length that was promised can't be kept: the connection must end, not wait."""
    fd = make_file(BIG)
    start(line, FileBody(fd, 0, len(BIG)))
    os.truncate(tmp_path / "file", 1000)
    assert line.finish() == FAILED
    line.sender.abandon()


def test_a_file_that_is_too_short_from_the_start(line: Line, make_file: MakeFile) -> None:
    assert start(line, FileBody(make_file(b"short"), 0, 10)) == FAILED
    line.take()
    assert line.got == HEAD + b"short"
    line.sender.abandon()


def test_abandon_closes_every_file_once(line: Line, make_file: MakeFile) -> None:
    fd = make_file(BIG)
    start(line, FileBody(fd, 0, len(BIG)), b"x", FileBody(fd, 0, 10))
    line.sender.abandon()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)
    reused = os.open(os.devnull, os.O_RDONLY)
    line.sender.abandon()
    os.fstat(reused)
    os.close(reused)
