"""httpd.logs.sink in several processes that share one file or one pipe: no line is mixed with another."""

import os
import subprocess
import sys
from pathlib import Path

import httpd.logs

from .conftest import PATIENCE, Reader, append

WORKER = """
import sys, time
from httpd.logs.sink import Sink
from httpd.logs.targets import Kind, Target
fd, letter, length, count = int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3]), int(sys.argv[4])
sink = Sink(Target("", Kind.DESCRIPTOR, fd), on_recover=lambda lines: None)
for _ in range(count):
    sink.write(letter * length + b"\\n")
    if not sink.flush(time.monotonic() + 60):
        sys.exit("not written")
if sink.dropped:
    sys.exit("lines lost")
"""


def run_workers(fd: int, length: int, count: int) -> list[subprocess.Popen[bytes]]:
    source = str(Path(httpd.logs.__file__).parents[2])
    arguments = [str(fd), "", str(length), str(count)]
    workers = []
    for letter in "abcd":
        arguments[1] = letter
        command = [sys.executable, "-c", WORKER, *arguments]
        workers.append(subprocess.Popen(command, pass_fds=[fd], env={**os.environ, "PYTHONPATH": source}))
    return workers


def check_lines(data: bytes, length: int, count: int) -> None:
    lines = data.splitlines()
    assert sorted(set(lines)) == [letter.encode() * length for letter in "abcd"]
    assert len(lines) == 4 * count


def test_long_lines_of_several_workers_do_not_mix_in_a_file(tmp_path: Path) -> None:
    fd = append(tmp_path / "log")
    for worker in run_workers(fd, 20_000, 200):
        assert worker.wait(PATIENCE) == 0
    os.close(fd)
    check_lines((tmp_path / "log").read_bytes(), 20_000, 200)


def test_lines_of_several_workers_do_not_mix_in_a_pipe() -> None:
    reader, writer = os.pipe()
    workers = run_workers(writer, 300, 2000)
    os.close(writer)
    reading = Reader(reader)
    for worker in workers:
        assert worker.wait(PATIENCE) == 0
    check_lines(reading.result(), 300, 2000)
