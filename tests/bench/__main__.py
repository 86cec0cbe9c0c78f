"""`make bench`: httpd, nginx and `python -m http.server` side by side, in one run, on one core.

How it measures, so that the ratios mean something:

- Every server has one worker, pinned to one core; the load generator (wrk) has another one.
- The servers take turns, round by round, in an order that changes; what is printed is the median of the rounds.
- Each runs with its defaults and writes its access log to a file.  nginx is not slowed down by anything: its error log
  is quiet, sendfile is on as in its shipped configuration, keep-alive is never cut off.
- Before anything is timed, every server's answer is compared with the file.

Needs wrk, nginx and taskset; says which is missing.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from load import Result, same_bytes, wrk
from servers import SERVERS, Server

# Heads that differ from request to request in path, cookie and user agent.
DIFFERING = """
local agents, n = {}, 0
for i = 1, 50 do
  agents[i] = "Mozilla/5.0 (X11; Linux x86_64; rv:" .. i .. ".0) Gecko/20100101 Firefox/" .. i .. ".0"
end
request = function()
  n = n + 1
  local fields = {
    ["Host"] = "localhost", ["User-Agent"] = agents[n % 50 + 1],
    ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
    ["Accept-Language"] = "en-GB,en;q=0.5", ["Accept-Encoding"] = "gzip, deflate, br",
    ["Cookie"] = "session=" .. string.format("%032x", n * 2654435761 % 4294967296) .. "; theme=dark",
    ["Referer"] = "http://localhost/page/" .. n,
  }
  return wrk.format("GET", "/f" .. (n % 8) .. ".html?v=" .. n, fields)
end
"""


MEASURES = (("1 KiB, identical heads", "/1k.html", ""), ("1 KiB, heads differ", "/", DIFFERING))


def main() -> int:
    """Measure and print the table; 2 when a program is missing."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=2, help="length of one measurement")
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    missing = [name for name in ("wrk", "nginx", "taskset") if shutil.which(name) is None]
    if missing:
        print(f"bench: not installed: {', '.join(missing)}", file=sys.stderr)
        return 2
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        print("bench: needs two cores, one for the servers and one for the load", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory(prefix="httpd-bench-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        site = make_site(folder)
        servers = [kind(folder, site, cores[0]) for kind in SERVERS]
        try:
            for server in servers:
                server.start()
                same_bytes(server.port, "/1k.html", site / "1k.html")
            for title, path, script in MEASURES:
                show(title, measure(servers, path, script, options, cores[1], folder))
        finally:
            for server in servers:
                server.stop()
    return 0


def make_site(folder: Path) -> Path:
    """The files to serve, old enough that nobody has a reason to doubt their times."""
    site = folder / "site"
    site.mkdir()
    content = b"".join(b"%063d\n" % line for line in range(16))
    for file in ("1k.html", *(f"f{number}.html" for number in range(8))):
        (site / file).write_bytes(content)
        os.utime(site / file, (1_700_000_000, 1_700_000_000))
    return site


def measure(
    servers: list[Server], path: str, script: str, options: argparse.Namespace, core: int, folder: Path
) -> dict[str, list[Result]]:
    """All servers, `rounds` times, taking turns."""
    lua = folder / "heads.lua"
    lua.write_text(script)
    results: dict[str, list[Result]] = {server.name: [] for server in servers}
    for server in servers:  # one second each to warm up, not counted
        wrk(server, path, script and str(lua), 1, options.connections, core)
    for turn in range(options.rounds):
        for offset in range(len(servers)):
            server = servers[(turn + offset) % len(servers)]
            result = wrk(server, path, script and str(lua), options.seconds, options.connections, core)
            results[server.name].append(result)
    return results


def show(title: str, results: dict[str, list[Result]]) -> None:
    """One table: medians, the spread, CPU time per request, and the ratio of httpd to each."""
    ours = statistics.median(result.rate for result in results["httpd"])
    print(f"\n{title}")
    print(f"{'':<14} {'requests/s':>11} {'lowest':>9} {'highest':>9} {'CPU us/req':>11} {'httpd is':>9}")
    for name, rounds in results.items():
        rates = [result.rate for result in rounds]
        cpu = statistics.median(result.cpu for result in rounds)
        middle = statistics.median(rates)
        failed = sum(result.errors for result in rounds)
        print(f"{name:<14} {middle:>11,.0f} {min(rates):>9,.0f} {max(rates):>9,.0f} {cpu:>11.1f} {ours / middle:>8.2f}x"
              + (f"  {failed} errors" if failed else ""))  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
