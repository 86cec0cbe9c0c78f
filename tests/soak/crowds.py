"""make crowds: how long well-behaved clients wait while others do their worst, and what that leaves behind.

    for ten thousand idle connections, then for every kind of slow crowd (200 of each), then for all of them, then for
    every greedy client:  a good client in a process of its own asks all the time; its waits are printed

Fails when one wait is longer than a second, when the worker is another one, or when descriptors or memory have grown.
Not part of the test suite: what it says depends on the machine.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import multiprocessing.connection
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from httpd.system.limits import raise_nofile
from live.client import Client, request
from live.crowds import KINDS, LARGE, Crowd, Kind, ask_each, gather, leave
from live.daemon import Daemon, Place, eventually
from live.footprint import descriptors, memory

LONGEST = 1.0  # seconds that nobody who behaves may have to wait
EACH = 200
IDLE = 10_000
IDLE_MEMORY = 24 * 1024 * 1024  # bytes
GROWTH = 1024 * 1024  # bytes from the end of the second turn to that of the last
_PAUSE = 0.01  # seconds between two bytes of a crowd, and between two requests of the good client
_HUGE = 1 << 40  # bytes of a sparse file: nobody comes to its end
_GREEDY = 4  # processes of one kind
_CONFIG = f"""
[[vhost]]
root = "www"
listing = true
[timeouts]
head = "300s"
body = "300s"
write = "300s"
keepalive = "300s"
[limits]
connections = {IDLE + 500}
detached = 1
"""

Address = tuple[str, int]
_SPAWN = multiprocessing.get_context("spawn")


# Greedy clients: each runs in a process of its own until that is ended.


def read_fast(address: Address) -> None:
    """Take an endless file as fast as it comes."""
    buffer = bytearray(1 << 20)
    with Client(address) as client:
        client.send(request("/huge"))
        while client.sock.recv_into(buffer):
            pass


def pipeline(address: Address) -> None:
    """Ask for costly answers, many in one packet, and take them all."""
    with Client(address) as client:
        while True:
            client.send(request("/folder/") * 300)
            for _ in range(300):
                client.read()


def upload(address: Address) -> None:
    """Insist on sending 200 MB that nobody wants before reading the answer."""
    block = b"u" * 1_000_000
    while True:
        with Client(address) as client:
            client.send(request("/a", "Content-Length: 200000000", method="POST"))
            for _ in range(200):
                client.send(block)
            assert client.read().status == 405


def send_drops_of_chunks(address: Address) -> None:
    """Chunks of one byte, as many as one connection may send, again and again."""
    while True:
        with Client(address) as client:
            client.send(request("/a", "Transfer-Encoding: chunked", method="POST"))
            client.send(b"1\r\nx\r\n" * 8000 + b"0\r\n\r\n")
            assert client.read().status == 405


def come_and_go(address: Address) -> None:
    """Connect, ask and reset, as often as the machine can."""
    while True:
        for data in (b"", b"GET /a HT", request("/a"), request("/large")):
            client = Client(address)
            client.send(data)
            client.reset()


GREEDY = (read_fast, pipeline, upload, send_drops_of_chunks, come_and_go)


# The good client


def _ask_until_told(address: Address, told: multiprocessing.connection.Connection) -> None:
    """Ask on a kept connection and on new ones, in turns; send back the waits in seconds."""
    waits: list[float] = []
    with Client(address) as kept:
        told.send("ready")
        while not told.poll(_PAUSE):
            began = time.monotonic()
            assert kept.get("/a").body == b"the a"
            waits.append(time.monotonic() - began)
            began = time.monotonic()
            with Client(address) as fresh:
                assert fresh.get("/a").body == b"the a"
            waits.append(time.monotonic() - began)
    told.send(waits)


# Who does their worst, as long as the block runs.


@contextmanager
def _processes(work: Callable[[Address], None], address: Address, count: int) -> Iterator[None]:
    running = [_SPAWN.Process(target=work, args=(address,)) for _ in range(count)]
    for process in running:
        process.start()
    try:
        yield
        assert all(process.is_alive() for process in running), f"{work.__name__} was not served"
    finally:
        for process in running:
            process.terminate()
            process.join()


@contextmanager
def _crowds(address: Address, kinds: Sequence[Kind]) -> Iterator[list[Crowd]]:
    crowds: list[Crowd] = []
    try:
        for kind in kinds:
            crowds.append(Crowd(address, kind, EACH))  # noqa: PERF401 - those that are open have to be closed
        yield crowds
        assert all(crowd.held() for crowd in crowds), f"answered or dropped: {[kind.name for kind in kinds]}"
    finally:
        for crowd in crowds:
            crowd.reset()


@contextmanager
def _idle(address: Address) -> Iterator[list[Client]]:
    crowd = gather(address, IDLE)
    try:
        yield crowd
    finally:
        leave(crowd)


class Soak:
    """One daemon with one worker; what good clients waited in it, and what it holds after each trial."""

    def __init__(self, daemon: Daemon, seconds: float) -> None:
        self._daemon = daemon
        self._seconds = seconds
        self.address = ("127.0.0.1", daemon.port)
        self._known = Client(self.address)  # keeps its connection through all of it
        self._known.get("/a")
        self._before = descriptors(daemon)
        self.problems: list[str] = []

    def measure(self, passes: Callable[[], None]) -> list[float]:
        """Run `passes` over and over for a while, as the good client asks; its waits in seconds, the longest last."""
        mine, its = multiprocessing.Pipe()
        good = _SPAWN.Process(target=_ask_until_told, args=(self.address, its))
        good.start()
        its.close()  # so that the end of a good client that failed is seen
        try:
            assert mine.recv() == "ready"
            until = time.monotonic() + self._seconds
            while time.monotonic() < until and good.is_alive():
                passes()
            mine.send("enough")
            waits: list[float] = sorted(mine.recv())
        except (EOFError, OSError):
            raise AssertionError("the good client was not served") from None
        finally:
            good.join()
        return waits

    def report(self, name: str, waits: list[float]) -> None:
        """Print the waits, and what the worker holds when those who did their worst are gone."""
        worst = waits[-1]
        if worst > LONGEST:
            self.problems.append(f"{name}: somebody waited {worst:.2f} s")
        with contextlib.suppress(AssertionError):
            eventually(lambda: descriptors(self._daemon) == self._before, "all are gone")
        found, size = descriptors(self._daemon), memory(self._daemon)
        if found != self._before:
            self.problems.append(f"{name}: descriptors by process were {self._before}, and are {found}")
        median, high = waits[len(waits) // 2], waits[len(waits) * 99 // 100]
        figures = "".join(f"{wait * 1e3:10.2f}" for wait in (median, high, worst))
        print(f"{name:42}{len(waits):8}{figures}{sum(found.values()):7}{size // 1024:10}", flush=True)

    def slow(self, kinds: Sequence[Kind], name: str) -> None:
        """Crowds that are held, a byte of each at a time."""
        with _crowds(self.address, kinds) as crowds:

            def step() -> None:
                for crowd in crowds:
                    crowd.step()
                time.sleep(_PAUSE)

            waits = self.measure(step)
        self.report(name, waits)

    def greedy(self, work: Callable[[Address], None]) -> None:
        """Some processes that take all they can get."""
        with _processes(work, self.address, _GREEDY):
            waits = self.measure(lambda: time.sleep(_PAUSE))
        self.report(work.__name__, waits)

    def idle(self) -> None:
        """Ten thousand connections, and requests on each."""
        before = memory(self._daemon)
        with _idle(self.address) as crowd:
            taken = memory(self._daemon) - before
            waits = self.measure(lambda: ask_each(crowd))
        self.report(f"{IDLE} idle connections: {taken // 1024} KiB", waits)
        if taken > IDLE_MEMORY:
            self.problems.append(f"{IDLE} idle connections took {taken} bytes, and {IDLE_MEMORY} is the most")

    def turn(self) -> int:
        """Everything once; the memory that the worker has at the end."""
        self.idle()  # first: its memory is that of a worker that has not been crowded before
        for kind in KINDS:
            self.slow((kind,), kind.name)
        self.slow(KINDS, f"all of these: {EACH * len(KINDS)}")
        for work in GREEDY:
            self.greedy(work)
        return memory(self._daemon)

    def close(self) -> None:
        """The connection that lasted has to work to the end."""
        assert self._known.get("/a").status == 200
        self._known.close()


def soak(daemon: Daemon, minutes: float, seconds: float) -> list[str]:
    """Turns until the time is over, three at least; what was wrong."""
    until = time.monotonic() + 60 * minutes
    trials = Soak(daemon, seconds)
    sizes: list[int] = []
    print(f"{'':42}{'asked':>8}{'median ms':>10}{'p99 ms':>10}{'worst ms':>10}{'fds':>7}{'USS KiB':>10}")
    while time.monotonic() < until or len(sizes) < 3:
        sizes.append(trials.turn())
        print(f"turn {len(sizes)}: {sizes[-1] / 1024:.0f} KiB")
    if sizes[-1] - sizes[1] > GROWTH:
        trials.problems.append(f"memory at the end of each turn: {sizes}")
    trials.close()
    return trials.problems


def main() -> int:
    """Run it; 1 when something was wrong, 2 when it can't be run here."""
    parser = argparse.ArgumentParser(prog="make crowds", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1, help="three turns are made in any case")
    parser.add_argument("--seconds", type=float, default=2, help="length of one trial")
    options = parser.parse_args()
    needed = IDLE + 2000
    if raise_nofile(needed)[1] < needed:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        print(f"crowds: needs {needed} open files, and the hard limit is {hard}", file=sys.stderr)
        return 2
    place = Place()
    daemon = Daemon(place)
    try:
        place.write("www/a", b"the a")
        for name, size in (("large", LARGE), ("huge", _HUGE)):
            with place.write(f"www/{name}").open("r+b") as file:
                file.truncate(size)
        for number in range(200):
            place.write(f"www/folder/{number}")
        daemon.configure(_CONFIG, server="workers = 1")
        daemon.start()
        problems = soak(daemon, options.minutes, options.seconds)
    finally:
        daemon.close()
        place.remove()
    for problem in problems:
        print(f"crowds: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
