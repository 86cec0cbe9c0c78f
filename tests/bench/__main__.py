"""`make bench`: httpd beside other servers, all in one run, and every figure that this project aims at.

How it measures, so that the ratios mean something:

- Every server has one worker, pinned to one core; the load generator (wrk) has another one, with 32 connections.
  Measures that say otherwise (scripts: two workers) have all cores for all.
- The servers take turns, round by round, in an order that changes.  Ratios are the median of the rounds' ratios.
- Before anything is timed, the answers are compared with the files.
- Access logs are on and emptied between two measurements.

A server that is not installed is left out by name.  measures.py is the table of what is measured and aimed at.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import syscalls
from cgi_servers import ApacheCgi
from files import make_site
from measures import MEASURES
from python_servers import PythonServer
from servers import Lighttpd, Nginx
from session import SERVERS, Session
from targets import Verdict

_PROGRAMS = ("taskset", "wrk", "h2load")


def main() -> int:
    """Measure and print; 2 when something is missing or misspelt."""
    options = _options()
    if options.list:
        _list()
        return 0
    missing = [name for name in _PROGRAMS if shutil.which(name) is None]
    if missing:
        print(f"bench: not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("bench: needs two cores, one for the servers and one for the load", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no server outlives the run
    PythonServer.packages = options.packages
    with tempfile.TemporaryDirectory(prefix="httpd-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        session = Session(options, folder, make_site(folder), cores[0], cores[-1])
        try:
            if options.profile:
                syscalls.run(session)
            else:
                _run(session)
        finally:
            session.stop()
    return 0


def _options() -> argparse.Namespace:
    names = [measure.name for measure in MEASURES]
    parser = argparse.ArgumentParser(prog="make bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--list", action="store_true", help="name the measures, their targets and the servers")
    parser.add_argument("--only", type=_chosen(names), metavar="MEASURE,...", default=names)
    parser.add_argument("--peers", type=_chosen(SERVERS), metavar="SERVER,...", default=list(SERVERS))
    parser.add_argument("--rounds", type=_at_least_one, default=5)
    parser.add_argument("--seconds", type=_at_least_one, default=2, help="length of one measurement")
    parser.add_argument("--connections", type=_at_least_one, default=32)
    parser.add_argument("--idle-seconds", type=_at_least_one, default=60)
    parser.add_argument("--packages", type=Path, metavar="FOLDER", default=PythonServer.packages,
                        help="environment of the other Python servers")  # fmt: skip
    parser.add_argument("--profile", action="store_true", help="count the worker's system calls instead")
    return parser.parse_args()


def _chosen(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Reads a list of names, separated by commas."""

    def read(text: str) -> list[str]:
        unknown = set(text.split(",")) - set(names)
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: not among {', '.join(names)}")
        return text.split(",")

    return read


def _at_least_one(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1")
    return int(text)


def _list() -> None:
    for measure in MEASURES:
        print(f"{measure.name:<17} {measure.title}")
        for target in measure.targets:
            print(f"{'':<17}   {'goal' if target.goal else 'target'}: {target}")
    print(f"servers: {', '.join(SERVERS)}")


def _run(session: Session) -> None:
    """Every chosen measure, each with its verdicts, and all verdicts once more at the end."""
    began = time.monotonic()
    print(f"{time.strftime('%Y-%m-%d %H:%M')}, {_machine()}")
    print(f"{session.options.rounds} rounds of {session.options.seconds} s, {session.options.connections} connections")
    verdicts: list[Verdict] = []
    for measure in MEASURES:
        if measure.name in session.options.only:
            print(f"\n{measure.title} ({measure.name})")
            found = measure.run(session)
            session.say("", passing=True)
            print("\n".join(f"  {verdict}" for verdict in found), flush=True)
            verdicts += found
    print(f"\nall targets, after {time.monotonic() - began:.0f} s")
    print("\n".join(f"{verdict.measure:<17} {verdict}" for verdict in verdicts))


def _machine() -> str:
    """What the figures depend on: processor, kernel, and the versions of what was compared."""
    with contextlib.suppress(OSError):
        found = re.search(r"^model name\s*:\s*(.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        processor = found[1] if found else platform.machine()
    versions = []
    for kind in (Nginx, Lighttpd, ApacheCgi):
        if not kind.missing():
            done = subprocess.run(kind.version_command, capture_output=True, text=True, check=False)
            versions += re.findall(r"(?:nginx|lighttpd|Apache)/[\d.]+", done.stdout + done.stderr)[:1]
    return ", ".join([f"{os.cpu_count()} x {processor}", f"Linux {platform.release()}",
                      f"Python {platform.python_version()}", *versions])  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
