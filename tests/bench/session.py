"""One run: its options, folder and cores, the servers that are up, and what has been measured so far."""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cgi_servers import CGI_SERVERS
from handler_servers import HANDLER_SERVERS
from library_servers import LIBRARY_SERVERS, Library
from load import Client, Load, LoadFailed, Result, wrong
from python_servers import Aiohttp, Granian, Starlette, WhiteNoise
from servers import SOURCE, Httpd, HttpServer, Lighttpd, Nginx, NginxTuned, Server

_FILE_SERVERS: tuple[type[Server], ...] = (
    Httpd, Nginx, NginxTuned, Lighttpd, HttpServer, WhiteNoise, Aiohttp, Starlette, Granian,
)  # fmt: skip
SERVERS: dict[str, type[Server]] = {
    kind.name: kind for kind in (*_FILE_SERVERS, *HANDLER_SERVERS, *LIBRARY_SERVERS, *CGI_SERVERS)
}  # fmt: skip


class NotMeasured(Exception):
    """Why a measure can't be taken."""


@dataclass(slots=True)
class Session:
    """What the measures share."""

    options: argparse.Namespace
    folder: Path
    site: Path
    server_core: int
    client_core: int
    results: dict[str, dict[str, list[Result]]] = field(default_factory=dict)
    _running: dict[str, Server] = field(default_factory=dict)
    _skipped: set[str] = field(default_factory=set)
    _own: list[Server] = field(default_factory=list)

    def client(self, connections: int = 0) -> Client:
        """A client on its core, or anywhere with a number of connections of its own."""
        core = None if connections else self.client_core
        return Client(self.folder, core, connections or self.options.connections)

    def server(self, name: str) -> Server | None:
        """A server that takes part in this run, started when first asked for; None when it doesn't or can't."""
        if name not in self.options.peers or name in self._skipped:
            return None
        if name not in self._running:
            missing = SERVERS[name].missing()
            if missing:
                self.say(f"{name} is left out: {missing} is not installed")
                self._skipped.add(name)
                return None
            core = self.server_core if SERVERS[name].pinned else None
            self._running[name] = server = SERVERS[name](self.folder, self.site, core)
            server.start()
        return self._running[name]

    def own_httpd(
        self, pinned: bool = True, workers: int = 1, source: Path = SOURCE, settings: Mapping[str, str] | None = None
    ) -> Httpd:
        """An httpd for one measure alone, not started yet; it ends with the run at the latest."""
        core = self.server_core if pinned else None
        server = Httpd(self.folder, self.site, core, workers=workers, source=source, settings=settings)
        self._own.append(server)
        return server

    def own(self, server: Server) -> Server:
        """A server for one measure alone, not started yet; it ends with the run at the latest."""
        self._own.append(server)
        return server

    def rounds(
        self, name: str, load: Load, peers: tuple[str, ...], connections: int = 0
    ) -> dict[str, list[Result]]:  # fmt: skip
        """All servers, round by round, in an order that moves on by one each time.  `connections`: other than those of
        the options, from a client that is not pinned."""
        client = self.client(connections)
        servers = [server for peer in peers if (server := self.server(peer)) and self._good(load, server)]
        results: dict[str, list[Result]] = {server.name: [] for server in servers}

        def measure(server: Server, seconds: int) -> None:
            if server.name in results:
                try:
                    results[server.name].append(client.run(load, server, seconds))
                except LoadFailed as reason:
                    self.say(f"{server.name} is left out of this measure: {reason}")
                    del results[server.name]

        for server in servers:
            measure(server, 1)  # to warm up
        for warm in results.values():
            warm.clear()
        for turn in range(self.options.rounds):
            self.say(f"{name}: round {turn + 1} of {self.options.rounds}", passing=True)
            for offset in range(len(servers)):
                server = servers[(turn + offset) % len(servers)]
                if turn < server.most_rounds:
                    measure(server, self.options.seconds)
        self.results[name] = results
        return results

    def _good(self, load: Load, server: Server) -> bool:
        problem = server.ended() or wrong(load, server)
        if problem and isinstance(server, Httpd | Library):
            raise SystemExit(f"bench: httpd: {problem}\n{server.said()}")
        if problem:
            self.say(f"{server.name} is left out of this measure: {problem}")
        return not problem

    def maximum(self, name: str, load: Load, peers: tuple[str, ...]) -> dict[str, float]:
        """The most requests per second of some servers: from this run's measure `name`, else measured now."""
        results = self.results.get(name) or self.rounds(name, load, peers)
        return {peer: statistics.median(result.rate for result in results[peer]) for peer in peers if results.get(peer)}

    def say(self, text: str, passing: bool = False) -> None:
        """Tell whoever waits, on stderr: the tables alone go to stdout."""
        if not passing or sys.stderr.isatty():
            print(f"\r\033[K{text}" if passing else f"bench: {text}", end="" if passing else "\n", file=sys.stderr)
            sys.stderr.flush()

    def stop(self) -> None:
        """End every server of this run."""
        for server in (*self._running.values(), *self._own):
            server.stop()
        self._running.clear()
        self._own.clear()
