"""httpd.logs.stderr: the master never waits for its log, and leaves the shared descriptor as it is."""

import fcntl
import os
import resource
import select
import socket
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from httpd.logs import stderr
from httpd.logs.stderr import PENDING_LIMIT, NonBlockingWriter

Pair = tuple[int, int]  # the end to read, the end to write


def make_pipe() -> Pair:
    return os.pipe()


def make_socket() -> Pair:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def make_terminal() -> Pair:
    master, slave = os.openpty()
    tty.setraw(slave)
    return master, slave


@pytest.fixture
def no_proc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Opening /proc/self/fd/N fails, as on macOS."""
    real = os.open

    def refuse(path: str, flags: int) -> int:
        if path.startswith("/proc/self/fd/"):
            raise FileNotFoundError(path)
        return real(path, flags)

    monkeypatch.setattr(stderr.os, "open", refuse)
    yield


def flags(fd: int) -> int:
    return fcntl.fcntl(fd, fcntl.F_GETFL)


def read_some(fd: int) -> bytes:
    """What can be read without waiting."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    data = b""
    while any(events & select.POLLIN for _, events in poll.poll(0)):
        piece = os.read(fd, 65536)
        if not piece:
            break
        data += piece
    return data


def finish(writer: NonBlockingWriter, reader: int) -> bytes:
    """Reads until nothing is pending, and the rest."""
    data = b""
    while writer.pending:
        data += read_some(reader)
        writer.flush()
    return data + read_some(reader)


def fill_and_check(pair: Pair) -> None:
    """Writes until lines are dropped, reads everything, and goes on."""
    reader, fd = pair
    before = flags(fd)
    writer = NonBlockingWriter(fd)
    total = 0
    while not writer.dropped and total < 100_000:
        writer.write(b"%099d\n" % total)
        total += 1
    assert writer.dropped == 1
    assert PENDING_LIMIT - 100 < writer.pending <= PENDING_LIMIT
    assert flags(fd) == before
    data = finish(writer, reader)
    writer.write(b"%099d\n" % total)
    data += finish(writer, reader)
    assert [int(line) for line in data.splitlines()] == [*range(total - 1), total]
    assert writer.pending == 0
    assert flags(fd) == before
    writer.close()
    os.fstat(fd)
    os.close(fd)
    os.close(reader)


@pytest.mark.parametrize("make", [make_pipe, make_socket, make_terminal])
def test_nobody_reads(make: Callable[[], Pair]) -> None:
    fill_and_check(make())


@pytest.mark.usefixtures("no_proc")
def test_nobody_reads_a_pipe_that_cannot_be_opened_again() -> None:
    fill_and_check(make_pipe())


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_a_pipe_gets_a_description_of_its_own() -> None:
    reader, fd = os.pipe()
    writer = NonBlockingWriter(fd)
    assert flags(writer.fileno()) & os.O_NONBLOCK
    assert not flags(fd) & os.O_NONBLOCK
    assert not os.get_inheritable(writer.fileno())
    writer.close()
    for end in (reader, fd):
        os.close(end)


def test_a_waiting_loop_is_told_by_fileno() -> None:
    reader, fd = os.pipe()
    writer = NonBlockingWriter(fd)
    for _ in range(1000):
        writer.write(b"x" * 99 + b"\n")
    assert writer.pending
    poll = select.poll()
    poll.register(writer.fileno(), select.POLLOUT)
    assert not poll.poll(0)
    read_some(reader)
    assert poll.poll(0)
    writer.flush()
    assert not writer.pending
    writer.close()
    for end in (reader, fd):
        os.close(end)


def test_a_pipe_gets_pieces_that_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, fd = os.pipe()
    writer = NonBlockingWriter(fd)
    sizes: list[int] = []
    real = os.write

    def write(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return real(fd, data)

    monkeypatch.setattr(stderr.os, "write", write)
    writer.write((b"x" * 99 + b"\n") * 100)
    monkeypatch.undo()
    assert len(sizes) > 1 and all(size <= select.PIPE_BUF and size % 100 == 0 for size in sizes)
    assert read_some(reader) == (b"x" * 99 + b"\n") * 100
    writer.close()
    for end in (reader, fd):
        os.close(end)


@pytest.mark.parametrize("make", [make_pipe, make_socket])
def test_a_dead_reader_costs_lines_and_nothing_else(make: Callable[[], Pair]) -> None:
    reader, fd = make()
    writer = NonBlockingWriter(fd)
    os.close(reader)
    writer.write(b"a\nb\n")
    writer.write(b"c\n")
    assert (writer.dropped, writer.pending) == (3, 0)
    writer.close()
    os.close(fd)


def test_a_pipe_that_has_lost_its_reader_before() -> None:
    reader, fd = os.pipe()
    os.close(reader)
    writer = NonBlockingWriter(fd)
    writer.write(b"a\n")
    assert writer.dropped == 1
    writer.close()
    os.close(fd)


def test_a_file(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as file:
        writer = NonBlockingWriter(file.fileno())
        writer.write(b"first\n")
        writer.write(b"second\n")
        assert not flags(file.fileno()) & os.O_NONBLOCK
        assert (tmp_path / "log").read_bytes() == b"first\nsecond\n"
        writer.close()


def test_a_full_disk_costs_lines_but_the_next_one_is_whole(tmp_path: Path) -> None:
    with (tmp_path / "log").open("ab") as file:
        writer = NonBlockingWriter(file.fileno())
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
        try:
            writer.write(b"aaaa\nbbbb\ncccc\n")
            dropped = [writer.dropped]
            writer.write(b"dddd\n")
            dropped.append(writer.dropped)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        writer.write(b"eeee\n")
        writer.write(b"ffff\n")
        assert dropped == [2, 3]
        assert (tmp_path / "log").read_bytes() == b"aaaa\nbbb\neeee\nffff\n"
        writer.close()


def test_reopen_goes_on_with_another_file(tmp_path: Path) -> None:
    reader, fd = os.pipe()
    writer = NonBlockingWriter(fd)
    for _ in range(1000):
        writer.write(b"x" * 99 + b"\n")
    os.close(fd)
    with (tmp_path / "log").open("ab") as file:
        writer.reopen(file.fileno())
    assert writer.pending == 0
    writer.write(b"line\n")
    assert (tmp_path / "log").read_bytes() == b"line\n"
    written = read_some(reader)
    assert written.count(b"\n") + writer.dropped == 1000
    assert os.read(reader, 1) == b""  # end of file: the old copy is closed
    writer.close()
    os.close(reader)


def test_a_descriptor_that_is_not_open() -> None:
    reader, fd = os.pipe()
    os.close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        NonBlockingWriter(fd)
    os.close(reader)
