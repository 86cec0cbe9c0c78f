"""httpd.logs.outlets: pieces of whole lines, errors half-way, and daemons that come and go."""

import errno
import os
import resource
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.logs import outlets
from httpd.logs.outlets import DatagramOutlet, DescriptorOutlet, LinesLostError, chunks, make_outlet
from httpd.logs.targets import Kind, Target

from .conftest import append

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Writes past `size` fail with EFBIG, after a part of them was written: a disk that gets full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


CHUNKS = [
    (b"", 4, []),
    (b"ab\n", 4, [b"ab\n"]),
    (b"a\nb\n", 4, [b"a\nb\n"]),
    (b"a\nb\nc\n", 4, [b"a\nb\n", b"c\n"]),
    (b"abcdef\ng\n", 4, [b"abcdef\n", b"g\n"]),
    (b"a\nbcdefg\nh\n", 4, [b"a\n", b"bcdefg\n", b"h\n"]),
    (b"abcdef", 4, [b"abcdef"]),
]


@pytest.mark.parametrize(("data", "limit", "pieces"), CHUNKS)
def test_chunks(data: bytes, limit: int, pieces: list[bytes]) -> None:
    assert list(chunks(data, limit)) == pieces


@given(st.lists(st.integers(0, 12)), st.integers(1, 20))
def test_chunks_lose_nothing_and_split_no_line(lengths: list[int], limit: int) -> None:
    data = b"".join(b"x" * length + b"\n" for length in lengths)
    pieces = list(chunks(data, limit))
    assert b"".join(pieces) == data
    for piece in pieces:
        assert piece.endswith(b"\n")
        assert len(piece) <= limit or piece.count(b"\n") == 1


def record_writes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the system calls that follow."""
    sizes: list[int] = []
    real = os.write

    def write(fd: int, data: bytes) -> int:
        sizes.append(len(data))
        return real(fd, data)

    monkeypatch.setattr(outlets.os, "write", write)
    return sizes


def test_a_file_gets_a_batch_in_one_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outlet = DescriptorOutlet(append(tmp_path / "log"))
    data = b"x" * 99 + b"\n"
    sizes = record_writes(monkeypatch)
    outlet.write(data * 1000)
    monkeypatch.undo()
    assert sizes == [100_000]
    assert (tmp_path / "log").read_bytes() == data * 1000
    outlet.close()


def test_a_pipe_gets_pieces_that_are_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    outlet = DescriptorOutlet(writer)
    data = b"".join(b"%0100d\n" % number for number in range(200))
    sizes = record_writes(monkeypatch)
    outlet.write(data)
    monkeypatch.undo()
    assert len(sizes) > 1 and all(size <= select.PIPE_BUF and size % 101 == 0 for size in sizes)
    assert os.read(reader, len(data)) == data
    outlet.close()
    os.close(reader)


def test_short_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outlet = DescriptorOutlet(append(tmp_path / "log"))
    real = os.write
    monkeypatch.setattr(outlets.os, "write", lambda fd, data: real(fd, data[:7]))
    outlet.write(b"first line\nsecond line\n")
    monkeypatch.undo()
    assert (tmp_path / "log").read_bytes() == b"first line\nsecond line\n"
    outlet.close()


def test_a_pipe_that_somebody_made_non_blocking_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    outlet = DescriptorOutlet(writer)
    filler = 0
    while True:
        try:
            filler += os.write(writer, b"x" * 4096)
        except BlockingIOError:
            break
    real = select.poll

    class Poll:
        """Makes room when the outlet has found none and starts to wait."""

        def __init__(self) -> None:
            self.poll_object = real()
            self.register = self.poll_object.register

        def poll(self) -> object:
            os.read(reader, filler)
            return self.poll_object.poll()

    monkeypatch.setattr(outlets.select, "poll", Poll)
    outlet.write(b"line\n")
    monkeypatch.undo()
    assert os.read(reader, 100) == b"line\n"
    outlet.close()
    os.close(reader)


def test_a_full_disk_costs_lines_but_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    outlet = DescriptorOutlet(append(path))
    lines = b"aaaa\nbbbb\ncccc\n"
    with largest_file(8):
        with pytest.raises(LinesLostError) as caught:
            outlet.write(lines)
        assert (caught.value.lines, caught.value.cause.errno) == (2, errno.EFBIG)
        with pytest.raises(LinesLostError) as caught:
            outlet.write(b"dddd\n")
        assert caught.value.lines == 1
    outlet.write(b"eeee\n")
    outlet.write(b"ffff\n")
    assert path.read_bytes() == b"aaaa\nbbb\neeee\nffff\n"
    outlet.close()


def test_an_error_at_the_end_of_a_line_needs_no_repair(tmp_path: Path) -> None:
    path = tmp_path / "log"
    outlet = DescriptorOutlet(append(path))
    with largest_file(5), pytest.raises(LinesLostError):
        outlet.write(b"aaaa\nbbbb\n")
    outlet.write(b"cccc\n")
    assert path.read_bytes() == b"aaaa\ncccc\n"
    outlet.close()


@needs_full
def test_a_full_device() -> None:
    outlet = DescriptorOutlet(os.open(FULL, os.O_WRONLY))
    with pytest.raises(LinesLostError) as caught:
        outlet.write(b"a\nb\n")
    assert (caught.value.lines, caught.value.cause.errno) == (2, errno.ENOSPC)
    outlet.close()


def test_a_dead_reader() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    outlet = DescriptorOutlet(writer)
    with pytest.raises(LinesLostError) as caught:
        outlet.write(b"a\nb\nc\n")
    assert (caught.value.lines, caught.value.cause.errno) == (3, errno.EPIPE)
    outlet.close()


def test_reopen_closes_the_old_file_and_forgets_its_torn_line(tmp_path: Path) -> None:
    old = append(tmp_path / "old")
    outlet = DescriptorOutlet(old)
    with largest_file(3), pytest.raises(LinesLostError):
        outlet.write(b"aaaa\n")
    outlet.reopen(append(tmp_path / "new"))
    outlet.write(b"bbbb\n")
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(old)
    assert (tmp_path / "old").read_bytes() == b"aaa"
    assert (tmp_path / "new").read_bytes() == b"bbbb\n"
    outlet.close()


def test_a_stream_socket_gets_everything() -> None:
    ours, theirs = socket.socketpair()
    outlet = DescriptorOutlet(theirs.detach())
    outlet.write(b"line\n" * 100)
    outlet.close()
    with ours, ours.makefile("rb") as stream:
        assert stream.read() == b"line\n" * 100


@contextmanager
def daemon(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(path))
        listener.setblocking(False)
        yield listener


def frame(line: bytes) -> bytes:
    return b"<" + line + b">"


def test_one_datagram_per_line(tmp_path: Path) -> None:
    outlet = DatagramOutlet(str(tmp_path / "log"), frame)
    with daemon(tmp_path / "log") as listener:
        outlet.write(b"first\r\nsecond\n")
        assert [listener.recv(100), listener.recv(100)] == [b"<first\r>", b"<second>"]
        with pytest.raises(BlockingIOError):
            listener.recv(100)
    outlet.close()


def test_a_daemon_that_was_restarted_is_found_again(tmp_path: Path) -> None:
    outlet = DatagramOutlet(str(tmp_path / "log"), frame)
    with daemon(tmp_path / "log") as listener:
        outlet.write(b"1\n")
        assert listener.recv(100) == b"<1>"
    with pytest.raises(LinesLostError) as caught:
        outlet.write(b"2\n3\n")
    assert (caught.value.lines, caught.value.cause.errno) == (2, errno.ECONNREFUSED)
    for number in (b"4", b"5"):
        with daemon(tmp_path / "log") as listener:
            outlet.write(number + b"\n")
            assert listener.recv(100) == b"<%b>" % number
    outlet.close()


def test_a_daemon_that_was_never_there(tmp_path: Path) -> None:
    outlet = DatagramOutlet(str(tmp_path / "log"), frame)
    with pytest.raises(LinesLostError) as caught:
        outlet.write(b"1\n")
    assert (caught.value.lines, caught.value.cause.errno) == (1, errno.ENOENT)
    outlet.close()


def test_a_line_that_is_too_long_for_a_datagram_costs_only_itself(tmp_path: Path) -> None:
    outlet = DatagramOutlet(str(tmp_path / "log"), frame)
    with daemon(tmp_path / "log") as listener:
        with pytest.raises(LinesLostError) as caught:
            outlet.write(b"a\n" + b"x" * 10_000_000 + b"\nb\n")
        assert (caught.value.lines, caught.value.cause.errno) == (1, errno.EMSGSIZE)
        assert [listener.recv(100), listener.recv(100)] == [b"<a>", b"<b>"]
    outlet.close()


def test_reopen_connects_again(tmp_path: Path) -> None:
    outlet = DatagramOutlet(str(tmp_path / "log"), frame)
    reader, passed = os.pipe()
    with daemon(tmp_path / "log") as old:
        outlet.write(b"1\n")
        with daemon(tmp_path / "log") as new:
            outlet.reopen(passed)
            outlet.write(b"2\n")
            assert (old.recv(100), new.recv(100)) == (b"<1>", b"<2>")
    assert os.read(reader, 1) == b""  # end of file: what was passed is closed
    os.close(reader)
    outlet.reopen(-1)
    outlet.close()


@pytest.mark.parametrize(
    ("kind", "constant", "make"),
    [
        (Kind.SYSLOG, "SYSLOG_PATH", lambda: b"<30>httpd[%d]: a line" % os.getpid()),
        (Kind.JOURNAL, "JOURNAL_PATH", lambda: b"MESSAGE=a line\nPRIORITY=6\nSYSLOG_IDENTIFIER=httpd\n"),
    ],
)
def test_syslog_and_journal(
    kind: Kind, constant: str, make: Callable[[], bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outlets, constant, str(tmp_path / "log"))
    outlet = make_outlet(Target(kind.value, kind))
    with daemon(tmp_path / "log") as listener:
        outlet.write(b"a line\n")
        assert listener.recv(1000) == make()
    outlet.close()


def test_a_log_that_is_off_has_no_outlet() -> None:
    with pytest.raises(ValueError, match="off"):
        make_outlet(Target("", Kind.NONE))
