"""The load: what is asked for, whether a server answers it right, and wrk on a core of its own.

Rules:

- A server's answers are compared with the files before it is timed: nobody is timed for doing something else.
- A client at its limit says nothing about a server's throughput, so what the client's core was busy is measured too.
  The server's CPU time per request then still does.
"""

from __future__ import annotations

import contextlib
import re
import resource
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

import heads
from servers import Server

_CHECKED = 50  # requests of a list that are compared with the files


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for: one path with more fields, or a list of requests.

    `part` is what of the file is expected, None for all.  `size` is that of an answer that takes long, 0 for others:
    those are counted by the bytes that came, as many are under way when the time is over.  `body` is what is expected
    where it is no file, `post` what is sent along.
    """

    path: str = ""
    fields: tuple[str, ...] = ()
    replay: Callable[[str], list[bytes]] | None = None
    status: int = 200
    part: tuple[int, int] | None = None
    size: int = 0
    body: bytes | None = None
    post: bytes = b""

    def requests(self, server: Server) -> list[bytes]:
        """The requests as sent, for looking at the answers."""
        if self.replay is not None:
            return self.replay(server.prefix)
        method, length = ("POST", [f"Content-Length: {len(self.post)}"]) if self.post else ("GET", [])
        lines = [f"{method} {server.prefix}{self.path} HTTP/1.1", "Host: localhost", *self.all_fields(server), *length]
        return [("\r\n".join(lines) + "\r\n\r\n").encode() + self.post]

    def all_fields(self, server: Server) -> list[str]:
        """The header fields; with the validators that this server has given out, when 304 is wanted."""
        if self.status != 304:
            return list(self.fields)
        given, _ = exchange(server.port, f"GET {self.path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        etag, date = given.getheader("ETag"), given.getheader("Last-Modified")
        conditions = ((f"If-None-Match: {etag}", etag), (f"If-Modified-Since: {date}", date))
        return [*self.fields, *(field for field, value in conditions if value)]


@dataclass(frozen=True, slots=True)
class Result:
    """One measurement.  `cpu` is microseconds of the workers per request, shares are of one core."""

    rate: float
    cpu: float
    requests: int
    errors: int
    server_share: float
    client_share: float
    logged: float  # bytes of access log per request


class LoadFailed(Exception):
    """Why a measurement has no result."""


def exchange(port: int, request: bytes) -> tuple[HTTPResponse, bytes]:
    """Send one request on a connection of its own; returns the response and its body."""
    with socket.create_connection(("127.0.0.1", port), 10) as sock:
        sock.sendall(request)
        response = HTTPResponse(sock, method="GET")
        response.begin()
        return response, response.read()


def wrong(load: Load, server: Server) -> str:
    """What is wrong with a server's answers; empty when they are right."""
    for request in load.requests(server)[:_CHECKED]:
        target = request.split(b" ", 2)[1].decode().partition("?")[0]
        try:
            response, body = exchange(server.port, request)
        except (OSError, HTTPException) as error:
            return f"{target}: {error!r}"
        file = load.body or (server.site / target.removeprefix(f"{server.prefix}/")).read_bytes()
        if response.status != load.status:
            return f"{target}: answers {response.status} and not {load.status}"
        if body != (b"" if load.status == 304 else file[slice(*(load.part or (None,)))]):
            return f"{target}: the body is not the file's"
    return ""


class Client:
    """wrk with `connections` keep-alive connections, on `core` or, for None, where the scheduler puts it."""

    def __init__(self, folder: Path, core: int | None, connections: int) -> None:
        self._folder = folder / "client"
        self._core = core
        self.connections = connections
        self._prepared: dict[tuple[int, Load], tuple[list[str], list[str]]] = {}

    def run(self, load: Load, server: Server, seconds: float) -> Result:
        """Measure once."""
        options, arguments = self._prepare(load, server)
        pin = [] if self._core is None else ["taskset", "-c", str(self._core)]
        url = f"http://127.0.0.1:{server.port}{server.prefix}{load.path}"
        command = [*pin, "wrk", "-t1", f"-c{self.connections}", f"-d{max(1, round(seconds))}s", *options, url]
        server.forget_log()
        with spent(server) as cost:
            done = subprocess.run([*command, *arguments], capture_output=True, text=True, check=False)
        if done.returncode:
            raise LoadFailed(f"wrk: {(done.stderr or done.stdout).strip()}; {server.ended() or 'it still runs'}")
        bad = int(_number(r"Non-2xx or 3xx responses: (\d+)", done.stdout))
        bad += sum(int(count) for count in re.findall(r"(?:connect|read|write|timeout) (\d+)", done.stdout))
        requests, rate = _answers(done.stdout, load.size)
        each = max(1, requests)
        return Result(
            rate, cost.server / each * 1e6, round(requests), bad,
            cost.server / cost.wall, cost.client / cost.wall, server.forget_log() / each,
        )  # fmt: skip

    def _prepare(self, load: Load, server: Server) -> tuple[list[str], list[str]]:
        """wrk's options and arguments for a load on a server, made once."""
        key = (server.port, load)
        if key not in self._prepared:
            if load.replay is None:
                fields = [part for field in load.all_fields(server) for part in ("-H", field)]
                script = heads.write_post(self._folder / str(len(self._prepared)), load.post) if load.post else []
                self._prepared[key] = [*script, *fields], []
            else:
                folder = self._folder / f"{load.replay.__name__}{server.prefix}"
                replay, requests = heads.write(folder, load.replay(server.prefix))
                self._prepared[key] = ["-s", replay], ["--", requests]
        return self._prepared[key]


@dataclass(slots=True)
class Cost:
    """CPU seconds of a server's workers and of the client, and seconds that went by."""

    server: float = 0.0
    client: float = 0.0
    wall: float = 0.0


@contextlib.contextmanager
def spent(server: Server) -> Iterator[Cost]:
    """What the block costs a server and the client that is run in it to its end."""
    cost = Cost(-server.cpu_seconds(), -_children(), -time.monotonic())
    yield cost
    cost.server += server.cpu_seconds()
    cost.client += _children()
    cost.wall += time.monotonic()


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _answers(output: str, size: int) -> tuple[float, float]:
    """Answers in all and per second, from what wrk printed."""
    if not size:
        return _number(r"(\d+) requests in", output), _number(r"Requests/sec:\s+([\d.]+)", output)
    found = re.findall(r"([\d.]+)([KMGT]?)B(?: read$|$)", output, re.MULTILINE)  # in all, then per second
    total, rate = (float(number) * 1024.0 ** " KMGT".index(unit or " ") / size for number, unit in found)
    return total, rate


def _number(pattern: str, text: str) -> float:
    found = re.search(pattern, text)
    return float(found[1]) if found else 0.0
