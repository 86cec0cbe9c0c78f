"""make soak: random faults under load, for minutes: nothing is lost, and nothing stays behind.

    make soak MINUTES=10 SEED=7

The seed decides which faults come, in which order, with which parameters and pauses; the same seed repeats them.  Each
is printed with its time.  Meanwhile the clients of `live.load` ask, and judge every answer byte for byte.  What was in
the hands of a worker that was killed here is forgiven; anything else that is lost is a failure.

At the end, when all has settled on the first configuration again, the master has as many descriptors, children, shared
mappings and threads as in the beginning, no more memory than a bound, and no file that was not there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from httpd.system.limits import private_memory
from live.client import Client, request
from live.daemon import Daemon, Place, eventually, open_files
from live.load import Load, client_ports_of, halt

_FILES = {"/a": b"the a", "/b": b"b" * 3000, "/piped/c": bytes(range(256)) * 200, "/small/d": b"d" * 500,
          "/large": bytes(range(256)) * 8000}  # fmt: skip
_WORKERS = 3
_PATIENCE = 60.0  # seconds: when all workers were killed again and again, the pauses before new ones are long
_MEMORY = 2 << 20  # bytes that the master may have more in the end than after the first faults
_LONGEST_PAUSE = 1.5  # seconds between two faults
_ROTATIONS = 5  # files that are kept
_SMALL = "64k"  # size of a file system that gets full

_TIMEOUTS = 'heartbeat = "3s"\nstart = "20s"\ndrain = "20s"\nhead = "5s"\n'
_EXPECTED = (
    "worker ended", "rolled back", "reload refused", "aborting worker", "killing worker", "where worker", r"^\t",
    "told to end", "log lines", "worker count not changed", "worker waits for a processor", "worker died before",
    "not accepting for a moment",
)  # fmt: skip


class Soak:
    """The server under test, what is held against it, and what was wrong."""

    def __init__(self, daemon: Daemon, place: Place) -> None:
        self.daemon = daemon
        self.place = place
        self.problems: list[str] = []
        self.small: Path | None = None  # a file system that can be filled
        self.clients: list[Client] = []
        self.began = time.monotonic()
        self.done: list[tuple[float, str]] = []
        self.files: set[str] = set()  # at the last look
        self._pipe = -1

    def prepare(self) -> None:
        for path, body in _FILES.items():
            self.place.write(f"www{path}", body)
        os.mkfifo(self.place.path / "pipe", 0o600)
        self._pipe = os.open(self.place.path / "pipe", os.O_RDWR | os.O_NONBLOCK)
        (self.place.path / "small").mkdir()
        (self.place.path / "tmp").mkdir(mode=0o777)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={_SMALL}", "tmpfs", str(self.place.path / "small")]
        if _PRIVATE in os.environ and subprocess.run(mount, check=False, capture_output=True).returncode == 0:
            self.small = self.place.path / "small"
        self.configure()
        self.daemon.expect(*_EXPECTED)
        self.daemon.start(environ={"TMPDIR": str(self.place.path / "tmp")})
        # The first of everything makes what stays: caches, the pipes of a reload.
        self.daemon.reload()
        self.daemon.call("reopen")
        self.settle()

    def configure(self, workers: int = _WORKERS, probation: str = "300ms", more: str = "", listen: str = "") -> None:
        """Write a configuration; that of the beginning by default."""
        mounts = "".join(
            f'[[vhost.directory]]\npath = "/{name}/"\nroot = "www/{name}"\naccess_log = "{log}"\n'
            for name, log in (("piped", "pipe"), ("small", "small/access.log"))
        )
        # The second listener is a new one in each reload that changes something.
        self.daemon.configure(
            f'{more}\n[timeouts]\nprobation = "{probation}"\n{_TIMEOUTS}[[vhost]]\nroot = "www"\n{mounts}',
            server=f"workers = {workers}\nmax_workers = 8", listen=f'["127.0.0.1:0"{listen}]',
        )  # fmt: skip

    def settle(self) -> None:
        """Wait until the workers of one generation serve and nothing else is going on."""

        def quiet() -> bool:
            status = self.daemon.status()
            pids = {worker["pid"] for worker in status["workers"]}
            states = {(worker["state"], worker["generation"]) for worker in status["workers"]}
            return (
                states == {("serving", status["generation"])} and len(pids) == status["wanted_workers"]
                and _children(self.daemon.pid) == pids
            )  # fmt: skip

        try:
            eventually(quiet, "only the workers of one generation, all serving", _PATIENCE)
        except AssertionError as error:
            children = {pid: _state(pid) for pid in _children(self.daemon.pid)}
            raise AssertionError(f"{error}: {self.daemon.status()['workers']}, children {children}") from None

    def worker(self, chance: random.Random) -> int:
        """One that serves; which one is decided by its place, not by its number."""
        found: list[int] = eventually(self.daemon.workers, "a worker serves", _PATIENCE)
        return found[chance.randrange(1 << 20) % len(found)]

    def drain_pipe(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while os.read(self._pipe, 1 << 16):
                pass

    def leave(self, *, reset: bool) -> None:
        """Let go of the clients that were held."""
        for client in self.clients:
            if reset:
                client.reset()
            else:
                client.close()
        self.clients.clear()

    def call(self, command: str, allowed: tuple[int, ...] = (0,), **arguments: object) -> str:
        """A command whose outcome has to be one of these; returns a description of it."""
        outcome = self.daemon.call(command, **arguments)
        if outcome["code"] not in allowed:
            self.problems.append(f"{command} {arguments}: {outcome}")
        return f"{command} {arguments or ''} -> {outcome['code']}"

    def footprint(self) -> dict[str, int]:
        """What the server holds."""
        pid = self.daemon.pid
        self.files = {str(path) for path in self.place.path.rglob("*") if not path.name.startswith("access.log")}
        workers = self.daemon.workers()
        return {
            "master: descriptors": _descriptors(pid),
            "master: children": len(_children(pid)),
            "master: threads": len(os.listdir(f"/proc/{pid}/task")),
            "master: shared mappings": Path(f"/proc/{pid}/maps").read_text().count(" rw-s "),
            "workers: most descriptors": max(_descriptors(worker) for worker in workers),
            "workers: most threads": max(len(os.listdir(f"/proc/{worker}/task")) for worker in workers),
            "files": len(self.files),
        }


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def _descriptors(pid: int) -> int:
    """How many are open; an idle master has its listeners twice, to be told of the first connection."""
    found = open_files(pid)
    return len([name for name in found if not name.startswith("socket:")]) + len(
        {name for name in found if name.startswith("socket:")}
    )


def _state(pid: int) -> str:
    """Its name and its state."""
    try:
        name, _, rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        return f"{name.partition('(')[2]} {rest.split()[0]}"
    except OSError:
        return "gone"


# The faults.  Each returns what it did.

Fault = Callable[[Soak, Load, random.Random], str]


def _kill(soak: Soak, load: Load, chance: random.Random) -> str:
    name = chance.choice(("SIGKILL", "SIGKILL", "SIGSEGV", "SIGABRT", "SIGBUS"))
    pid = soak.worker(chance)
    load.kill(pid, getattr(signal, name))
    return f"{name} to worker {pid}"


def _crash_on_probation(soak: Soak, load: Load, chance: random.Random) -> str:
    soak.configure(probation="30s", workers=chance.randint(1, 4))
    text = soak.call("reload", (0, 1))
    pid = soak.worker(chance)
    load.kill(pid, signal.SIGSEGV)
    eventually(lambda: not Path(f"/proc/{pid}").exists(), "it is gone", _PATIENCE)
    return f"{text}, SIGSEGV to {pid}: generation {soak.daemon.status()['generation']} serves"


def _pause_worker(soak: Soak, load: Load, chance: random.Random) -> str:
    pid, seconds = soak.worker(chance), chance.uniform(0.05, 1.2)
    os.kill(pid, signal.SIGSTOP)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    return f"worker {pid} stopped for {seconds:.2f} s"


def _hang_worker(soak: Soak, load: Load, chance: random.Random) -> str:
    pid = soak.worker(chance)
    halt(pid)
    load.forgive(client_ports_of(pid))
    eventually(lambda: not Path(f"/proc/{pid}").exists(), f"worker {pid} is given up", _PATIENCE)
    return f"worker {pid} stopped until it was given up"


def _term_worker(soak: Soak, load: Load, chance: random.Random) -> str:
    pid = soak.worker(chance)
    os.kill(pid, signal.SIGTERM)
    return f"SIGTERM to worker {pid}"


def _stop(soak: Soak, load: Load, chance: random.Random) -> str:
    """Everything or the master alone stands still for a moment."""
    whole, seconds = chance.random() < 0.5, chance.uniform(0.05, 2.5)
    send = os.killpg if whole else os.kill
    send(soak.daemon.pid, signal.SIGSTOP)
    time.sleep(seconds)
    send(soak.daemon.pid, signal.SIGCONT)
    return f"{'everything' if whole else 'the master'} stopped for {seconds:.2f} s"


def _reload(soak: Soak, load: Load, chance: random.Random) -> str:
    if chance.random() < 0.3:
        return soak.call("reload")
    listen = chance.choice(("", ', "127.0.0.2:0"', f', "unix:{soak.place.path}/x.sock"'))
    probation = chance.choice(("0s", "50ms", "300ms", "2s"))
    soak.configure(workers=chance.randint(1, 5), probation=probation, listen=listen,
                   more='[[vhost]]\nnames = ["more"]\nroot = "www"\n' if chance.random() < 0.5 else "")  # fmt: skip
    return f"{soak.call('reload')} (probation {probation})"


def _bad_reload(soak: Soak, load: Load, chance: random.Random) -> str:
    if chance.random() < 0.5:
        soak.configure(more=chance.choice(("[broken", "[limits]\nbodyy = 1", '[[vhost]]\nroot = "nowhere"\n')))
        text = soak.call("reload", (1,))
    else:
        with socket.create_server(("127.0.0.1", 0)) as other:
            soak.configure(listen=f', "127.0.0.1:{other.getsockname()[1]}"')
            text = soak.call("reload", (1,))
    soak.configure()
    return f"a bad {text}"


def _storm(soak: Soak, load: Load, chance: random.Random) -> str:
    count = chance.randint(20, 500)
    for _ in range(count):
        soak.daemon.signal("HUP")
    return f"{count} x HUP"


def _rotate(soak: Soak, load: Load, chance: random.Random) -> str:
    log = soak.place.path / "access.log"
    for number in range(_ROTATIONS, 1, -1):
        with contextlib.suppress(FileNotFoundError):
            log.with_name(f"access.log.{number - 1}").rename(log.with_name(f"access.log.{number}"))
    with contextlib.suppress(FileNotFoundError):
        log.rename(log.with_name("access.log.1"))
    return soak.call("reopen")


def _workers(soak: Soak, load: Load, chance: random.Random) -> str:
    if chance.random() < 0.5:
        names = chance.choices(("TTIN", "TTOU"), k=chance.randint(1, 4))
        for name in names:
            soak.daemon.signal(name)
        return " ".join(names)
    return soak.call("workers", (0, 1), count=chance.randint(1, 6))


def _slow_clients(soak: Soak, load: Load, chance: random.Random) -> str:
    """Half requests, and downloads that nobody reads: until some later fault lets go of them."""
    for _ in range(chance.randint(1, 20)):
        client = Client(("127.0.0.1", soak.daemon.port), receive_buffer=4096)
        whole = request("/large")
        client.send(whole[: chance.choice((1, 20, len(whole)))])
        soak.clients.append(client)
    return f"{len(soak.clients)} slow clients"


def _leaving_clients(soak: Soak, load: Load, chance: random.Random) -> str:
    count, reset = len(soak.clients), chance.random() < 0.7
    soak.leave(reset=reset)
    for _ in range(30):
        Client(("127.0.0.1", soak.daemon.port)).send(request("/large")).reset()
    return f"{count} slow clients go by {'RST' if reset else 'FIN'}, and 30 others by RST"


def _restart(soak: Soak, load: Load, chance: random.Random) -> str:
    soak.configure()
    soak.leave(reset=True)  # a restart waits for them
    done = soak.daemon.ctl("restart")  # it waits until the new master serves
    if done.returncode not in (0, 1):
        soak.problems.append(f"restart: {done.returncode} {done.stdout} {done.stderr}")
    return f"restart -> {done.returncode} {(done.stdout + done.stderr).strip()}"


def _full_log(soak: Soak, load: Load, chance: random.Random) -> str:
    """Nobody reads the pipe, or the file system is full, for a moment."""
    seconds = chance.uniform(0.1, 2.0)
    if soak.small is None or chance.random() < 0.5:
        with contextlib.suppress(BlockingIOError):
            while os.write(soak._pipe, b"x" * 4096):
                pass
        time.sleep(seconds)
        soak.drain_pipe()
        return f"nobody read a log for {seconds:.2f} s"
    with contextlib.suppress(OSError):
        (soak.small / "ballast").write_bytes(b"x" * (1 << 20))
    time.sleep(seconds)
    (soak.small / "ballast").unlink()
    for log in soak.small.glob("access.log*"):
        os.truncate(log, 0)
    return f"the disk of a log was full for {seconds:.2f} s"


_FAULTS: tuple[Fault, ...] = (
    _kill, _kill, _crash_on_probation, _pause_worker, _hang_worker, _term_worker, _stop, _reload, _reload, _reload,
    _bad_reload, _storm, _rotate, _workers, _slow_clients, _leaving_clients, _restart, _full_log,
)  # fmt: skip


def faults(seed: str) -> Iterator[tuple[Fault, random.Random, float]]:
    """Which fault, the chance that decides its parameters, and the seconds before it: without an end."""
    chance = random.Random(seed)
    while True:
        fault = chance.choice(_FAULTS)
        yield fault, random.Random(f"{seed} {chance.random()}"), chance.random() ** 2 * _LONGEST_PAUSE


def run(soak: Soak, load: Load, minutes: float, seed: str) -> None:
    """Faults until the time is over."""
    until = soak.began + 60 * minutes
    for fault, chance, pause in faults(seed):
        time.sleep(pause)
        if time.monotonic() > until:
            return
        at = time.monotonic()
        try:
            text = fault(soak, load, chance)
        except ProcessLookupError:
            text = "the worker had gone by itself"
        soak.drain_pipe()
        soak.done.append((at, text))
        lost = load.now()["lost"]
        print(f"{at - soak.began:8.2f} s  {fault.__name__[1:]:20} {text}  [{time.monotonic() - at:.2f} s, {lost} gone]",
              flush=True)  # fmt: skip


def judge(soak: Soak, load: Load, before: dict[str, int], memory: int) -> None:
    """Everything ends; what is left, and what was lost."""
    soak.leave(reset=True)
    report, files = load.stop(), soak.files
    soak.drain_pipe()
    soak.configure()
    soak.call("reload", settled=True)
    soak.settle()
    print(f"\n{len(soak.done)} faults; {report}\n\n{'':28}{'before':>10}{'after':>10}")
    for loss in report.lost:
        earlier = (f"{text} (at {at - soak.began:.2f} s)" for at, text in reversed(soak.done) if at <= loss.when)
        last = next(earlier, "nothing")
        soak.problems.append(f"lost {loss.when - soak.began:.2f} s after the start, behind {last}: {loss}")
    with contextlib.suppress(AssertionError):  # said below
        eventually(lambda: _same(before, soak.footprint()), "as in the beginning")
    after = soak.footprint()
    for name, number in before.items():
        print(f"{name:28}{number:>10}{after[name]:>10}")
        if after[name] > number:
            soak.problems.append(f"{name}: {number} before, {after[name]} after")
    soak.problems += [f"a file that was not there: {path}" for path in soak.files - files]
    grown = private_memory(soak.daemon.pid)
    print(f"{'master: KiB of its own':28}{memory // 1024:>10}{grown // 1024:>10}")
    if grown > memory + _MEMORY:
        soak.problems.append(f"memory of the master: {memory} bytes before, {grown} after")
    soak.problems += [f"logged: {line}" for line in soak.daemon.unexpected()]


def _same(before: dict[str, int], after: dict[str, int]) -> bool:
    return all(after[name] <= number for name, number in before.items())


_PRIVATE = "HTTPD_SOAK_PRIVATE"


def _alone() -> None:
    """Root gets a mount namespace of its own, for a small file system that goes with it."""
    if os.geteuid() == 0 and _PRIVATE not in os.environ and shutil.which("unshare"):
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run(["unshare", "-m", "true"], check=True, capture_output=True)
            os.environ[_PRIVATE] = "1"
            os.execvp("unshare", ["unshare", "-m", sys.executable, *sys.argv])


def main() -> int:
    """Run it; 1 when something was wrong."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=1)
    parser.add_argument("--seed", default="", help="repeats the faults of that seed; another one each time by default")
    options = parser.parse_args()
    _alone()
    seed = options.seed or secrets.token_hex(4)
    print(f"soak: seed {seed}, {options.minutes:g} minutes")
    place = Place()
    soak = Soak(Daemon(place), place)
    try:
        soak.prepare()
        before, memory = soak.footprint(), private_memory(soak.daemon.pid)
        with Load(soak.daemon.port, _FILES, rate=400, patience=_PATIENCE) as load:
            run(soak, load, options.minutes, seed)
            judge(soak, load, before, memory)
    finally:
        soak.leave(reset=True)
        soak.daemon.expect("")
        soak.daemon.close()
        place.remove()
    for problem in soak.problems:
        print(f"soak: {problem}", file=sys.stderr)
    print(f"soak: seed {seed}: {'failed' if soak.problems else 'nothing lost, nothing left'}")
    return 1 if soak.problems else 0


if __name__ == "__main__":
    sys.exit(main())
