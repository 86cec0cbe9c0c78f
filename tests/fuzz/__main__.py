"""`make fuzz`: the seeded mutator and the property tests in turns, until the time is over or something fails.

make fuzz MINUTES=10 SEED=7 JOBS=2            JOBS: processes of the mutator
make fuzz ARGS="--inputs 10000000"            the mutator alone, that many inputs
make fuzz SEED=7 ARGS="--batch 12"            one batch again, as a failure names it

The inputs follow from the seed and the corpora alone.  Exit code 1: something failed, and has been shown.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import platform
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from importlib.metadata import version
from pathlib import Path

from fuzz import batch
from fuzz.peers import PEERS
from fuzz.seeds import load
from httpd import __version__

HERE = Path(__file__).parent
_FIRST_TURN = 20.0  # seconds; the next ones are as long as the property tests took

_PROGRESS = 1_000_000  # inputs

_Plan = Iterator[tuple[int, int]]  # number and size of each batch
_Result = tuple[Counter[str], batch.Failure | None]


def main() -> int:
    """Run what the arguments ask for; 1 when something failed."""
    parser = argparse.ArgumentParser(
        prog="make fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--inputs", type=int)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--seed", default="")
    parser.add_argument("--jobs", type=int, default=1)
    options = parser.parse_args()
    run = Run(options.seed or str(time.time_ns()), options.jobs)
    run.introduce()
    if options.batch is not None:
        good = run.mutate(iter([(options.batch, batch.SIZE)]))
    elif options.inputs is not None:
        starts = range(0, options.inputs, batch.SIZE)
        good = run.mutate((start // batch.SIZE, min(batch.SIZE, options.inputs - start)) for start in starts)
    else:
        good = run.turns(time.monotonic() + 60 * options.minutes)
    run.report()
    return 0 if good else 1


class Run:
    """One call of `make fuzz`: what it is to do, and what it has counted so far."""

    def __init__(self, seed: str, jobs: int) -> None:
        self._seed = seed
        self._jobs = jobs
        self._seeds = load()
        self._numbers = itertools.count()
        self._tally: Counter[str] = Counter()
        self._mutating = 0.0  # seconds

    def introduce(self) -> None:
        """Say what this run depends on."""
        peers = ", ".join(f"{name} {version(name)}" for name in PEERS) or "no peer is installed"
        print(f"seed {self._seed}, {len(self._seeds)} wires, {self._jobs} process(es);", end=" ")
        print(f"httpd {__version__}, Python {platform.python_version()}, {peers}", flush=True)

    def turns(self, deadline: float) -> bool:
        """The mutator and the property tests, each for about as long as the other."""
        turn = _FIRST_TURN
        for number in itertools.count():
            if not self.mutate(self._until(min(time.monotonic() + turn, deadline))):
                return False
            if time.monotonic() >= deadline:
                return True
            began = time.monotonic()
            if not self._properties(number):
                return False
            turn = time.monotonic() - began
        raise AssertionError("count() does not end")

    def _until(self, end: float) -> _Plan:
        while time.monotonic() < end:
            yield next(self._numbers), batch.SIZE

    def _properties(self, number: int) -> bool:
        command = [
            sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-q", "--hypothesis-profile=fuzz",
            f"--hypothesis-seed={self._seed}{number}", f"--ignore={HERE / 'test_mutator.py'}", str(HERE),
        ]  # fmt: skip
        return subprocess.run(command, check=False).returncode == 0

    def mutate(self, plan: _Plan) -> bool:
        """The batches of `plan`, up to the first failure."""
        began = time.monotonic()
        failure = None
        for tally, failure in self._results(plan):
            self._tally += tally
            if self._tally["inputs"] % _PROGRESS == 0:
                print(f"{self._tally['inputs']:,} inputs", flush=True)
            if failure is not None:
                break
        self._mutating += time.monotonic() - began
        if failure is not None:
            self._show(failure)
        return failure is None

    def _results(self, plan: _Plan) -> Iterator[_Result]:
        if self._jobs == 1:
            yield from (batch.run(self._seed, number, size, self._seeds, PEERS) for number, size in plan)
            return
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self._jobs, mp_context=context) as pool:
            running: set[Future[_Result]] = set()
            for number, size in plan:
                running.add(pool.submit(batch.run, self._seed, number, size, self._seeds, PEERS))
                if len(running) > self._jobs:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (future.result() for future in done)
            yield from (future.result() for future in running)

    def _show(self, failure: batch.Failure) -> None:
        print(f"\nFAILED  {failure.kind}")
        print(f"again   make fuzz SEED={self._seed} ARGS='--batch {failure.batch}'  (input {failure.position})")
        print(f"smaller {failure.smaller!r}")
        print(f"input   {failure.wire!r}")
        print(f"detail  {failure.detail}", flush=True)

    def report(self) -> None:
        """Print what was counted."""
        inputs = self._tally.pop("inputs", 0)
        rate = inputs / self._mutating if self._mutating else 0.0
        print(f"\n{inputs:,} inputs by the mutator in {self._mutating:,.0f} s, {rate:,.0f} a second")
        for name, count in sorted(self._tally.items()):
            print(f"{count:>12,}  {name}")


if __name__ == "__main__":
    sys.exit(main())
