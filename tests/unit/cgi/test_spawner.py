"""A spawner, spoken to by workers that were taken over: refused, told, and alive, with the descriptors it had."""

from __future__ import annotations

import contextlib
import os
import random
import re
import sys
from collections.abc import Iterator

import msgspec
import pytest

from httpd.cgi.messages import MAX_MESSAGE, Admit, Declined, Ended, Ping, Run, Started, Stop
from unit.cgi.fake_worker import ENVIRONMENT, End, Master, Pipes, door

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

_encode = msgspec.msgpack.Encoder().encode
_RUN = _encode(Run(1, b"plain", [], ENVIRONMENT))


@pytest.fixture(scope="module")
def master() -> Iterator[Master]:
    made = Master()
    yield made
    made.end()


@pytest.fixture
def spawner(master: Master) -> Iterator[End]:
    (master.folder / "gate").unlink(missing_ok=True)
    made = door(master.worker(1))
    works(made)
    yield made
    made.close()


def works(spawner: End) -> None:
    pipes = Pipes()
    pipes.run(spawner, 1_000_000, b"plain")
    assert pipes.output().endswith(b"\n\nplain\n")
    assert spawner.until(lambda message: isinstance(message, Ended)).number == 1_000_000


def descriptors(master: Master) -> int:
    """How many the one spawner has."""
    with open(f"/proc/{master.process.pid}/task/{master.process.pid}/children") as file:
        (pid,) = file.read().split()
    return len(os.listdir(f"/proc/{pid}/fd"))


@contextlib.contextmanager
def unharmed(master: Master, spawner: End) -> Iterator[None]:
    """It has what it had, runs scripts, and none was run outside of its folder."""
    before = descriptors(master)
    yield
    works(spawner)
    assert descriptors(master) == before
    assert not list((master.folder / "marks").iterdir())


@pytest.mark.parametrize(
    "relative",
    [
        b"../outside", b"./../outside", b"sub/../../outside", b"/bin/ls", b"//bin/ls", b"", b".", b"..", b"plain/",
        b"plain/..", b"plain/../../outside", b"missing", b"plain\0", b"\0", b"../cgi/plain", b"x" * 300, b"a/" * 3000,
        b"link", b"up/outside", b"/", b"\xff\xfe",
    ],
)  # fmt: skip
def test_what_is_no_script_of_the_mount(master: Master, spawner: End, relative: bytes) -> None:
    for name, target in (("link", "../outside"), ("up", "..")):
        if not (master.folder / "cgi" / name).is_symlink():
            (master.folder / "cgi" / name).symlink_to(target)
    with unharmed(master, spawner):
        pipes = Pipes()
        pipes.run(spawner, 5, relative)
        message, _ = spawner.hear()
        assert isinstance(message, Declined), message
        assert (message.number, message.status in (403, 404, 500)) == (5, True)
        assert pipes.output() == b""


@pytest.mark.parametrize(
    "name",
    [
        b"LD_PRELOAD", b"LD_LIBRARY_PATH", b"PATH", b"HTTP_PROXY", b"BASH_ENV", b"ENV", b"PYTHONPATH", b"PERL5OPT",
        b"", b"HTTP_", b"HTTP_X=Y", b"HTTP_X\n", b"HTTP_\0", b"http_x", b"REQUEST_METHOD\0", b"HTTP_PROXY\n",
        b"HERE", b"=",
    ],
)  # fmt: skip
def test_variables_that_are_none_of_a_request(master: Master, spawner: End, name: bytes) -> None:
    with unharmed(master, spawner):
        pipes = Pipes()
        pipes.run(spawner, 5, b"plain", {**ENVIRONMENT, name: b"x"})
        message, _ = spawner.hear()
        assert isinstance(message, Declined), message
        assert (message.number, message.status) == (5, 500)
        assert "a worker would have set variables that are none of a request" in message.reason
        assert pipes.output() == b""


@pytest.mark.parametrize(
    ("words", "value"), [([], b"a\0b"), ([b"a\0b"], b""), ([], b"x" * 140_000), ([b"x" * 140_000], b"")]
)
def test_values_that_no_program_can_be_given(master: Master, spawner: End, words: list[bytes], value: bytes) -> None:
    with unharmed(master, spawner):
        pipes = Pipes()
        spawner.say(Run(5, b"plain", words, {**ENVIRONMENT, b"HTTP_X": value}), pipes.theirs)
        pipes.release()
        message, _ = spawner.hear()
        assert isinstance(message, Declined), message
        assert (message.number, message.status) == (5, 500)
        assert pipes.output() == b""


@pytest.mark.parametrize("count", [0, 1, 2, 4, 5, 253])
def test_the_number_of_descriptors(master: Master, spawner: End, count: int) -> None:
    with unharmed(master, spawner), open(os.devnull) as file:
        spawner.raw(_RUN, [file.fileno()] * count)
        message, _ = spawner.hear()
        assert isinstance(message, Declined), message
        assert message.alarm


@pytest.mark.parametrize(
    "data",
    [
        b"\0", b"garbage", b"\xff" * 1000, b"\x90" * 5000, _RUN[:-1], _RUN + b"x",
        random.Random(1).randbytes(60_000),
        _RUN + b"\0" * MAX_MESSAGE, _encode({"is": "run", "number": 1}), _encode({"is": "run", "relative": 5}),
        _encode(Run(1, b"plain", [], {b"HTTP_X": b"x" * MAX_MESSAGE})), _encode(Ping()),
        _encode(Admit(1, 1)), _encode({"is": "stop", "number": "1"}),
        b"\x81\xa2is\xa2\xff\xfe", _encode({"is": "x" * (MAX_MESSAGE - 100)}),  # what is quoted in the complaint
    ],
)  # fmt: skip
@pytest.mark.parametrize("count", [0, 1, 3, 253])
def test_garbage(master: Master, spawner: End, data: bytes, count: int) -> None:
    with unharmed(master, spawner):
        with open(os.devnull) as file:
            spawner.raw(data, [file.fileno()] * count)
        message, _ = spawner.hear()
        assert isinstance(message, Declined), message
        assert message.alarm
        assert message.number == 0


def test_a_number_that_is_taken(master: Master, spawner: End) -> None:
    with unharmed(master, spawner):
        first, second = Pipes(), Pipes()
        first.run(spawner, 5, b"waits")
        assert first.line()
        second.run(spawner, 5, b"plain")
        assert second.output() == b""
        assert spawner.until(lambda message: isinstance(message, Declined)).alarm
        (master.folder / "gate").touch()
        assert first.output() == b"waited\n"
        assert spawner.until(lambda message: isinstance(message, Ended)).number == 5


def test_who_does_not_read_is_told_all_the_same(master: Master, spawner: End) -> None:
    """More than the socket holds: to everything there is an answer, once the worker reads again."""
    count = 3000
    for _ in range(count):
        spawner.say(Ping())  # which is not a worker's to say
    assert {type(spawner.hear()[0]) for _ in range(count)} == {Declined}
    works(spawner)


def test_nobody_stops_what_is_another_s(master: Master, spawner: End) -> None:
    with unharmed(master, spawner):
        other, pipes = door(master.worker(1)), Pipes()
        pipes.run(spawner, 5, b"waits")
        assert pipes.line()
        for number in (5, 6, 0, -1, 2**63):
            other.say(Stop(number))
        works(other)
        other.close()
        (master.folder / "gate").touch()
        assert pipes.output() == b"waited\n"
        assert spawner.until(lambda message: isinstance(message, Ended)).how == "exit status 0"


def test_what_runs_is_stopped_when_its_worker_goes(master: Master, spawner: End) -> None:
    with unharmed(master, spawner):
        other, pipes = door(master.worker(1)), Pipes()
        pipes.run(other, 5, b"waits")
        assert re.fullmatch(rb"[0-9]+\n", pipes.line())
        assert isinstance(other.until(lambda message: isinstance(message, Started)), Started)
        other.close()
        assert pipes.output() == b""
