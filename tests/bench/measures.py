"""The measures and their targets, as a table.

A measure is `Throughput`, all servers in turn under a load, or `Figures`, a function that returns what to print and
the figures that limits are about.
"""

from __future__ import annotations

import os
import shutil
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import burning
import cgi_servers
import cgi_static
import footprint
import heads
import latency
import scaling
import supervision
from load import Load, Result
from session import NotMeasured, Session
from targets import Limit, Ratio, Verdict, by_cpu, by_throughput, client_bound, disturbed, judge_limit, judge_ratio

_ALL = ("httpd", "nginx", "nginx-tuned", "lighttpd", "http.server", "whitenoise", "aiohttp", "starlette", "granian")
_UVICORN = ("uvicorn-h11", "uvicorn-httptools")
_GRANIAN = ("granian-wsgi", "granian-wsgi-1")
_HANDLERS = ("httpd-handler", *_UVICORN, "gunicorn", *_GRANIAN, "http.server-hello")
_HELLO = Load(replay=heads.browsers, body=b"Hello, world!\n")
_CGI = ("httpd-cgi", "lighttpd-cgi", "apache-cgi")
_CGI_HELLO = Load("/cgi-bin/hello", body=b"Hello, world!\n")
_NATIVE = ("httpd", "nginx", "nginx-tuned", "lighttpd")
_PURE_PYTHON = ("whitenoise", "aiohttp", "starlette")
_LEAST_LOGGED = 40  # bytes per request: no format of these servers is shorter


@dataclass(frozen=True, slots=True)
class Throughput:
    """Requests per second and CPU time per request under a load."""

    name: str
    title: str
    load: Load
    targets: tuple[Ratio, ...]
    peers: tuple[str, ...] = _NATIVE
    ours: str = "httpd"
    connections: int = 0  # others than those of the options; the client has all cores then
    needs: tuple[str, ...] = ()  # programs, or root

    def run(self, session: Session) -> list[Verdict]:
        """Measure and print; returns the verdicts."""
        if missing := [what for what in self.needs if not _there(what)]:
            print(f"not measured: needs {', '.join(missing)}")
            return [judge_ratio(self.name, target, {}, self.ours) for target in self.targets]
        results = session.rounds(self.name, self.load, self.peers, self.connections)
        print("\n".join(table(results, self.ours)))
        return [judge_ratio(self.name, target, results, self.ours) for target in self.targets]


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures with limits."""

    name: str
    title: str
    take: Callable[[Session], tuple[list[str], dict[str, float]]]
    targets: tuple[Limit, ...]

    def run(self, session: Session) -> list[Verdict]:
        """Measure and print; returns the verdicts."""
        try:
            lines, figures = self.take(session)
        except NotMeasured as reason:
            lines, figures = [f"not measured: {reason}"], {}
        print("\n".join(lines))
        return [judge_limit(self.name, target, figures) for target in self.targets]


Measure = Throughput | Figures

_SMALL: tuple[Ratio, ...] = (
    Ratio(1.25, ("nginx",)),
    Ratio(1.0, ("nginx-tuned",), goal=True),
    Ratio(1.0, ("lighttpd",), goal=True),
    Ratio(10.0, _PURE_PYTHON),
    Ratio(3.0, ("granian",)),
)
_AS_NGINX: tuple[Ratio, ...] = (Ratio(1.0, ("nginx",)),)

MEASURES: tuple[Measure, ...] = (
    Throughput("same", "1 KiB, identical heads", Load("/1k.html"), _SMALL, _ALL),
    Throughput("differ", "1 KiB, heads that differ", Load(replay=heads.browsers), _SMALL, _ALL),
    Throughput("zipf", "10,000 files of 4 KiB, zipf", Load(replay=heads.zipf), _AS_NGINX),
    Throughput("304", "304 answers", Load("/1k.html", status=304), _AS_NGINX),
    Throughput("100k", "100 KiB", Load("/100k.bin"), _AS_NGINX),
    Throughput(
        "206", "206, 64 KiB out of 100 KiB",
        Load("/100k.bin", ("Range: bytes=16384-81919",), status=206, part=(16384, 81920)), _AS_NGINX,
    ),
    Throughput(
        "206-large", "206, 100 KiB out of 10 MiB",
        Load("/10m.bin", ("Range: bytes=1000000-1102399",), status=206, part=(1_000_000, 1_102_400)), _AS_NGINX,
    ),
    Throughput("10m", "10 MiB", Load("/10m.bin", size=10 << 20), (Ratio(0.95, ("nginx",)),)),
    Throughput(
        "close", "1 KiB, Connection: close", Load("/1k.html", ("Connection: close",)),
        (Ratio(0.7, ("nginx",)), Ratio(1.0, ("nginx",), goal=True)),
    ),
    Throughput(
        "handler", "a handler class: hello, heads that differ", _HELLO,
        (Ratio(1.3, _UVICORN), Ratio(5.0, ("gunicorn",)), Ratio(1.0, _GRANIAN, goal=True)), _HANDLERS,
        "httpd-handler",
    ),
    Throughput(
        "switch", "the same, and at Python's own switch interval", _HELLO, (Ratio(0.9, ("httpd-switch",)),),
        ("httpd-handler", "httpd-switch"), "httpd-handler",
    ),
    Throughput(
        "library", "python -m httpd.server, a connection per request", Load("/1k.html"),
        (Ratio(3.0, ("http.server",)),), ("httpd.server", "http.server"), "httpd.server",
    ),
    Throughput(  # http.server sends twice for an answer and waits for the ACK in between: its CPU time tells more
        "library-1.1", "python -m httpd.server --protocol HTTP/1.1, keep-alive", Load("/1k.html"),
        (Ratio(3.0, ("http.server-1.1",)),), ("httpd.server-1.1", "http.server-1.1"), "httpd.server-1.1",
    ),
    Throughput(
        "cgi", "a script: hello in C, two workers, 4 connections, all cores for all", _CGI_HELLO,
        (Ratio(1.0, ("lighttpd-cgi",)), Ratio(2.0, ("apache-cgi",))), _CGI, "httpd-cgi", connections=4, needs=("cc",),
    ),
    Throughput(
        "cgi-python", "a script in Python, POST of 4 KiB, the same way; httpd's is warm", cgi_servers.FORM,
        (Ratio(8.0, _CGI[1:]),), _CGI, "httpd-cgi", connections=4,
    ),
    Figures(
        "cgi-static", "a file while 200 clients wait for scripts", cgi_static.beside_waiting,
        (Limit("p99 over that without scripts", 2.0, "x"),),
    ),
    Throughput(
        "cgi-user", "the hello as another user, and by a server that is that user", _CGI_HELLO,
        (Ratio(0.9, ("httpd-cgi-same",)),), ("httpd-cgi", "httpd-cgi-same"), "httpd-cgi", connections=4,
        needs=("cc", "root", "setpriv"),
    ),
    Figures(
        "burning", "files beside four handlers that compute", burning.beside_burning,
        (Limit("p99 beside burning handlers", 10, "ms"),),
    ),
    Figures("p99", "latency at a fixed rate", latency.at_half_load, (Limit("p99 over nginx's", 1.5, "x"),)),
    Figures(
        "two-workers", "two workers on two cores", scaling.two_workers,
        (Limit("CPU per request over one worker's", 1.05, "x"), Limit("the busier worker's share", 55, "%")),
    ),
    Figures("memory", "a worker's private memory", footprint.memory, (Limit("USS", 10, "MiB"),)),
    Figures(
        "idle-connections", "10,000 idle keep-alive connections", footprint.idle_connections,
        (Limit("more USS", 24, "MiB"),),
    ),
    Figures(
        "reload", "a reload", supervision.reload,
        (Limit("reload with 2 workers", 0.5, "s"), Limit("reload with 8 workers", 1.0, "s")),
    ),
    Figures("recovery", "kill -9 of a worker", supervision.recovery, (Limit("kill to full strength", 0.5, "s"),)),
    Figures("start", "start to first answer", footprint.start, (Limit("compiled start", 0.4, "s"),)),
    Figures(
        "idle", "an idle daemon", footprint.idle,
        (Limit("wake-ups of the master", 0, ""), Limit("wake-ups of a worker", 1, "per s")),
    ),
)  # fmt: skip


def _there(what: str) -> bool:
    return os.geteuid() == 0 if what == "root" else shutil.which(what) is not None


def table(results: dict[str, list[Result]], ours_is: str = "httpd") -> Iterator[str]:
    """The lines of one measure: medians and spread, CPU time, how busy the cores were, and httpd's ratio to each."""
    yield (f"{'':<17} {'requests/s':>10} {'lowest':>9} {'highest':>9} {'CPU us/req':>10} {'server':>7} {'client':>7}"
           f" {'httpd is':>9} {'by CPU':>7}")  # fmt: skip
    for name, rounds in results.items():
        rates = [result.rate for result in rounds]
        cpu, server, client, logged = (
            statistics.median(getattr(result, figure) for result in rounds)
            for figure in ("cpu", "server_share", "client_share", "logged")
        )
        line = (f"{name:<17} {statistics.median(rates):>10,.0f} {min(rates):>9,.0f} {max(rates):>9,.0f} {cpu:>10.1f}"
                f" {server:>7.0%} {client:>7.0%}")  # fmt: skip
        if name != ours_is and ours_is in results:
            ours = results[ours_is]
            line += f" {by_throughput(ours, rounds):>8.2f}x {by_cpu(ours, rounds):>6.2f}x"
        yield line + _remarks(rounds, logged)


def _remarks(rounds: list[Result], logged: float) -> str:
    """What a reader must know about a row."""
    failed = sum(result.errors for result in rounds)
    remarks = [f"{failed} errors"] if failed else []
    if client_bound(rounds):
        remarks.append("client at its limit")
    if disturbed(rounds):
        remarks.append("neither core is busy")
    if logged < _LEAST_LOGGED:
        remarks.append("logs less than a line per request")
    return f"  ({'; '.join(remarks)})" if remarks else ""
