"""httpd.logs.sink: writing never waits, order is kept, and what is lost is counted and told once."""

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from httpd.logs import sink as sink_module
from httpd.logs.sink import QUEUE_LIMIT, Sink
from httpd.logs.targets import Kind, Target

from .conftest import PATIENCE, Reader, append

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="this system has no /dev/full")

MakeSink = Callable[..., Sink]


def drain(sink: Sink) -> None:
    assert sink.flush(time.monotonic() + PATIENCE)


class Told:
    """What a sink told its owner."""

    def __init__(self) -> None:
        self.recovered: list[int] = []
        self.failures: list[OSError] = []
        self.names: set[str] = set()

    def on_recover(self, lines: int) -> None:
        self.recovered.append(lines)
        self.names.add(threading.current_thread().name)

    def on_failure(self, cause: OSError) -> None:
        self.failures.append(cause)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture
def make_sink(told: Told) -> Iterator[MakeSink]:
    made: list[Sink] = []

    def make(fd: int, limit: int = QUEUE_LIMIT) -> Sink:
        target = Target("-", Kind.DESCRIPTOR, fd)
        made.append(Sink(target, on_recover=told.on_recover, on_failure=told.on_failure, limit=limit))
        return made[-1]

    yield make
    for sink in made:
        sink.close()


def log_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "log"]


def wait_for_threads_to_end() -> None:
    for thread in log_threads():
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_lines_arrive_in_order(tmp_path: Path, make_sink: MakeSink, told: Told) -> None:
    sink = make_sink(append(tmp_path / "log"))
    lines = [b"line %d\n" % number for number in range(1000)]
    for line in lines:
        sink.write(line)
    drain(sink)
    assert (tmp_path / "log").read_bytes() == b"".join(lines)
    assert (sink.dropped, told.recovered, told.failures) == (0, [], [])


def test_the_thread_starts_with_the_first_write(tmp_path: Path, make_sink: MakeSink) -> None:
    wait_for_threads_to_end()
    sink = make_sink(append(tmp_path / "log"))
    drain(sink)
    assert log_threads() == []
    sink.write(b"line\n")
    assert [thread.daemon for thread in log_threads()] == [True]
    sink.write(b"line\n")
    assert len(log_threads()) == 1


def test_the_thread_writes_without_being_asked_and_wakes_up_again(make_sink: MakeSink) -> None:
    reader, writer = os.pipe()
    sink = make_sink(writer)
    for number in range(3):
        sink.write(b"line %d\n" % number)
        assert os.read(reader, 100) == b"line %d\n" % number
    os.close(reader)


def test_lines_of_a_burst_are_collected(make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sink_module, "COLLECT", PATIENCE)
    reader, writer = os.pipe()
    sink = make_sink(writer)
    for number in range(100):
        sink.write(b"%03d\n" % number)
    drain(sink)  # ends the collecting
    assert os.read(reader, 1000) == b"".join(b"%03d\n" % number for number in range(100))
    os.close(reader)


def test_more_than_a_batch_is_written_in_order(tmp_path: Path, make_sink: MakeSink) -> None:
    sink = make_sink(append(tmp_path / "log"))
    pieces = [bytes([65 + number % 26]) * 99_999 + b"\n" for number in range(30)]
    for piece in pieces:
        sink.write(piece)
    drain(sink)
    assert (tmp_path / "log").read_bytes() == b"".join(pieces)


def test_a_stopped_reader_stops_nobody(make_sink: MakeSink, told: Told) -> None:
    reader, writer = os.pipe()
    sink = make_sink(writer, limit=256 * 1024)
    for number in range(20_000):
        sink.write(b"%099d\n" % number)
    assert not sink.flush(time.monotonic())
    dropped = sink.dropped
    assert dropped > 15_000
    assert told.recovered == []
    reading = Reader(reader)
    drain(sink)
    assert told.recovered == [dropped]
    assert told.names == {"log"}
    sink.write(b"%099d\n" % 99_999)
    drain(sink)
    sink.close()
    numbers = [int(line) for line in reading.result().splitlines()]
    assert numbers == sorted(numbers)
    assert len(numbers) == 20_001 - dropped
    assert numbers[0] == 0 and numbers[-1] == 99_999
    assert told.recovered == [dropped]
    assert told.failures == []


def read_exactly(fd: int, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += os.read(fd, size - len(data))
    return data


def test_an_outage_is_over_when_all_is_written(make_sink: MakeSink, told: Told) -> None:
    reader, writer = os.pipe()
    piece = b"x" * 299_999 + b"\n"  # more than a pipe holds, and a batch of its own
    sink = make_sink(writer, limit=2 * len(piece))
    for _ in range(3):
        sink.write(piece)
    read_exactly(reader, len(piece) + 1)
    assert (sink.dropped, told.recovered) == (1, [])
    read_exactly(reader, len(piece) - 1)
    drain(sink)
    assert told.recovered == [1]
    os.close(reader)


def test_of_a_piece_that_does_not_fit_whole_lines_are_kept(tmp_path: Path, make_sink: MakeSink) -> None:
    sink = make_sink(append(tmp_path / "log"), limit=12)
    sink.write(b"aaaa\nbbbb\ncccc\n")
    drain(sink)
    assert sink.dropped == 1
    sink.write(b"more than there is room for\n")
    sink.write(b"dddd\neeee\n")
    drain(sink)
    assert sink.dropped == 2
    assert (tmp_path / "log").read_bytes() == b"aaaa\nbbbb\ndddd\neeee\n"


@needs_full
def test_a_full_disk_is_told_once_and_its_end_too(tmp_path: Path, make_sink: MakeSink, told: Told) -> None:
    sink = make_sink(os.open(FULL, os.O_WRONLY))
    for _ in range(2):
        sink.write(b"lost\nlost\n")
        drain(sink)
    assert (sink.dropped, told.recovered, len(told.failures)) == (4, [], 1)
    assert isinstance(told.failures[0], OSError)
    sink.reopen(append(tmp_path / "log"), lambda: None)
    for _ in range(2):
        sink.write(b"kept\n")
        drain(sink)
    assert (tmp_path / "log").read_bytes() == b"kept\nkept\n"
    assert (sink.dropped, told.recovered, len(told.failures)) == (4, [4], 1)
    sink.reopen(os.open(FULL, os.O_WRONLY), lambda: None)
    sink.write(b"lost\n")
    drain(sink)
    assert (sink.dropped, told.recovered, len(told.failures)) == (5, [4], 2)


def test_callbacks_may_write_to_the_sink(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sink: Sink

    def on_recover(lines: int) -> None:
        sink.write(b"%d lost\n" % lines)

    sink = Sink(Target("-", Kind.DESCRIPTOR, writer), on_recover=on_recover)
    sink.write(b"lost\n")
    drain(sink)
    sink.reopen(append(tmp_path / "log"), lambda: None)
    sink.write(b"kept\n")
    drain(sink)
    assert (tmp_path / "log").read_bytes() == b"kept\n1 lost\n"
    sink.close()


def test_reopen_before_the_first_line(tmp_path: Path, make_sink: MakeSink) -> None:
    sink = make_sink(append(tmp_path / "old"))
    done = threading.Event()
    sink.reopen(append(tmp_path / "new"), done.set)
    assert done.wait(PATIENCE)
    sink.write(b"line\n")
    drain(sink)
    assert (tmp_path / "old").read_bytes() == b""
    assert (tmp_path / "new").read_bytes() == b"line\n"


def test_reopen_keeps_the_order(tmp_path: Path, make_sink: MakeSink) -> None:
    old = append(tmp_path / "0")
    sink = make_sink(old)
    # Opened first: a later open could get the number of the old descriptor once that is closed.
    fresh = {number: append(tmp_path / str(number)) for number in (1, 2, 3)}
    done = [threading.Event() for _ in range(4)]
    closed: list[bool] = []

    def note(number: int) -> None:
        if number == 1:
            closed.append(not os.path.exists(f"/dev/fd/{old}"))
        done[number].set()

    for number in range(4):
        if number:
            sink.reopen(fresh[number], lambda number=number: note(number))
        for _ in range(500):
            sink.write(b"line %d\n" % number)
    for number in (1, 2, 3):
        assert done[number].wait(PATIENCE)
        assert (tmp_path / str(number - 1)).read_bytes() == b"line %d\n" % (number - 1) * 500
    drain(sink)
    assert (tmp_path / "3").read_bytes() == b"line 3\n" * 500
    assert closed == [True]


def test_reopen_waits_for_lines_that_cannot_be_written_yet(tmp_path: Path, make_sink: MakeSink) -> None:
    reader, writer = os.pipe()
    sink = make_sink(writer)
    done = threading.Event()
    sink.write(b"x" * 99_999 + b"\n")
    sink.reopen(append(tmp_path / "new"), done.set)
    sink.write(b"after\n")
    assert not sink.flush(time.monotonic())
    assert not done.is_set()
    assert Reader(reader).result() == b"x" * 99_999 + b"\n"  # ends because the old descriptor is closed
    assert done.wait(PATIENCE)
    drain(sink)
    assert (tmp_path / "new").read_bytes() == b"after\n"


def test_signals_are_left_to_the_main_thread(tmp_path: Path, make_sink: MakeSink) -> None:
    sink = make_sink(append(tmp_path / "log"))
    sink.write(b"line\n")
    blocked: list[signal.Signals | int] = []
    new = append(tmp_path / "log")
    sink.reopen(new, lambda: blocked.extend(signal.pthread_sigmask(signal.SIG_BLOCK, ())))
    drain(sink)
    assert {signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD} <= set(blocked)


def test_close_writes_what_is_queued_and_takes_no_more(make_sink: MakeSink) -> None:
    reader, writer = os.pipe()
    sink = make_sink(writer)
    sink.write(b"line\n" * 50_000)
    sink.close()
    sink.write(b"late\nlate\n")
    assert sink.dropped == 2
    assert Reader(reader).result() == b"line\n" * 50_000  # ends because the target is closed
    wait_for_threads_to_end()


def test_close_without_a_line_closes_the_target_and_needs_no_thread(make_sink: MakeSink) -> None:
    wait_for_threads_to_end()
    reader, writer = os.pipe()
    sink = make_sink(writer)
    sink.close()
    assert log_threads() == []
    sink.close()
    assert os.read(reader, 1) == b""
    os.close(reader)


def test_no_thread_to_be_had_is_not_the_callers_problem(
    tmp_path: Path, make_sink: MakeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sink = make_sink(append(tmp_path / "log"))
    monkeypatch.setattr(threading.Thread, "start", refuse)
    sink.write(b"first\n")
    monkeypatch.undo()
    sink.write(b"second\n")
    drain(sink)
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\n"


def test_writes_of_several_threads(tmp_path: Path, make_sink: MakeSink) -> None:
    sink = make_sink(append(tmp_path / "log"))

    def write(name: int) -> None:
        for number in range(500):
            sink.write(b"%d %d\n" % (name, number))

    threads = [threading.Thread(target=write, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    drain(sink)
    lines = (tmp_path / "log").read_bytes().splitlines()
    for name in range(4):
        expected = [b"%d %d" % (name, number) for number in range(500)]
        assert [line for line in lines if line.startswith(b"%d " % name)] == expected


def test_a_log_that_is_off_is_refused(told: Told) -> None:
    with pytest.raises(ValueError, match="off"):
        Sink(Target("", Kind.NONE), on_recover=told.on_recover)


def test_what_waits_is_counted(make_sink: MakeSink) -> None:
    reader, writer = os.pipe()
    sink = make_sink(writer)
    sink.write(b"x" * 299_999 + b"\n")  # more than a pipe holds
    sink.write(b"a\nb\n")
    assert not sink.flush(time.monotonic() + 0.05)
    assert sink.unwritten() in (2, 3)
    data = b""
    while not data.endswith(b"a\nb\n"):
        data += os.read(reader, 1 << 20)
    drain(sink)
    assert sink.unwritten() == 0
    os.close(reader)
