"""The servers written for the machine, and httpd: how each is started on one core, and what its worker costs.

Rules:

- One worker; the access log goes to a file; otherwise the server's defaults.  Nothing slows a peer down: no limit on
  requests per connection that it lets one lift, error logs quiet, sendfile on as in nginx's shipped configuration.
- What a server costs is utime + stime of its worker processes, with all their threads, and not of its master.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

SOURCE = Path(__file__).resolve().parents[2] / "daemon"
_START_SECONDS = 20.0


class Server:
    """One server in a folder of its own.  `core` None leaves it to the scheduler."""

    name = ""
    version_command: tuple[str, ...] = ()
    prefix = ""  # what its paths begin with
    most_rounds = sys.maxsize
    pinned = True  # to one core

    def __init__(self, folder: Path, site: Path, core: int | None) -> None:
        self.folder = folder / f"{self.name}-{len(list(folder.iterdir()))}"
        self.folder.mkdir()
        self.site = site
        self.core = core
        self.port = free_port()
        self.access_log = self.folder / "access.log"
        self.output = self.folder / "output"
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def missing(cls) -> str:
        """What isn't installed; empty when it can be started."""
        program = cls.version_command[0]
        return "" if shutil.which(program) else program

    def command(self) -> list[str]:
        """How to start it in the foreground."""
        raise NotImplementedError

    def environment(self) -> dict[str, str]:
        """Its environment; nothing of it lands in the home of whoever measures."""
        return {**os.environ, "HOME": str(self.folder), "BENCH_SITE": str(self.site)}

    def spawn(self) -> float:
        """Start it; returns when that was, in seconds of the monotonic clock."""
        pin = [] if self.core is None else ["taskset", "-c", str(self.core)]
        command, environment = [*pin, *self.command()], self.environment()
        with self.output.open("ab") as output:
            began = time.monotonic()
            self._process = subprocess.Popen(
                command, stdout=output, stderr=output, cwd=self.folder, env=environment, start_new_session=True
            )
        return began

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        until = self.spawn() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            self.still_starting(until)
            time.sleep(0.02)

    def still_starting(self, until: float) -> None:
        """End the run when the server has ended or it is too late, with what it said."""
        if self.ended() or time.monotonic() > until:
            raise SystemExit(f"bench: {self.name} did not start: {self.ended() or 'it took too long'}")

    def ended(self) -> str:
        """How it ended and what it said last; empty while it runs."""
        assert self._process is not None
        code = self._process.poll()
        return "" if code is None else f"it ended with {code}: {self.said()}"

    def said(self) -> str:
        """The end of what it wrote to stdout and stderr."""
        return self.output.read_text(errors="replace")[-2000:]

    @property
    def pid(self) -> int:
        """The process that was started."""
        assert self._process is not None
        return self._process.pid

    def workers(self) -> list[psutil.Process]:
        """The processes that answer: its children, or itself when it has none."""
        top = psutil.Process(self.pid)
        return top.children(recursive=True) or [top]

    def cpu_seconds(self) -> float:
        """CPU time of its workers so far."""
        times = [process.cpu_times() for process in self.workers()]
        return float(sum(spent.user + spent.system for spent in times))

    def forget_log(self) -> int:
        """Empty its access log, so that the disk has no part in the next measurement; returns the bytes it had."""
        size = 0
        for log in (self.access_log, self.output):
            with contextlib.suppress(FileNotFoundError):
                size += log.stat().st_size
                os.truncate(log, 0)
        return size

    def stop(self) -> None:
        """End it and whatever it started."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None


class Httpd(Server):
    name = "httpd"
    version_command = (sys.executable, "-m", "httpd", "--version")

    def __init__(
        self, folder: Path, site: Path, core: int | None, workers: int = 1, source: Path = SOURCE,
        settings: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(folder, site, core)
        self._count = workers
        self._source = source
        self._settings = dict(settings or {})
        self.run_dir = self.folder / "run"

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(self._source), **self._settings}

    def command(self) -> list[str]:
        config = self.folder / "httpd.toml"
        config.write_text(
            f'[server]\nlisten = ["127.0.0.1:{self.port}"]\nworkers = {self._count}\nrun_dir = "{self.run_dir}"\n'
            f'[log]\naccess = "{self.access_log}"\n[[vhost]]\n{self.vhost()}'
        )
        return [sys.executable, "-m", "httpd", "-c", str(config)]

    def vhost(self) -> str:
        """What its one vhost serves, in TOML."""
        return f'root = "{self.site}"\n'

    def call(self, command: str) -> dict[str, Any]:
        """The data of a command's outcome, asked for without a program in between (docs/control.md); it has to work."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.connect(str(self.run_dir / "control.sock"))
            sock.sendall(json.dumps({"command": command, "arguments": {}}).encode() + b"\n")
            with sock.makefile("rb") as answer:
                found = json.loads(answer.readline())
        assert found["code"] == 0, found
        data: dict[str, Any] = found["data"]
        return data

    def status(self) -> dict[str, Any]:
        """What `httpd-ctl status --json` says (docs/control.md)."""
        call = "from httpd.control.ctl import main; raise SystemExit(main())"
        done = subprocess.run(
            [sys.executable, "-c", call, "--run-dir", str(self.run_dir), "--json", "status"],
            env=self.environment(), capture_output=True, check=True,
        )  # fmt: skip
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found


class Nginx(Server):
    name = "nginx"
    version_command = ("nginx", "-v")
    log = "combined"
    more = ""

    def command(self) -> list[str]:
        temp = " ".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = self.folder / "nginx.conf"
        config.write_text(
            f"worker_processes 1; pid {self.folder}/pid; error_log {self.folder}/error.log; daemon off;\n"
            "events { worker_connections 1024; }\n"
            "http { types { text/html html; } sendfile on; keepalive_requests 1000000000; keepalive_timeout 65;\n"
            f"{self.more}\naccess_log {self.access_log} {self.log}; {temp}\n"
            f"server {{ listen 127.0.0.1:{self.port}; root {self.site}; }} }}\n"
        )
        return ["nginx", "-c", str(config), "-e", str(self.folder / "error.log")]


class NginxTuned(Nginx):
    """As those set it up who want speed: it may serve a file that changed up to half a minute ago."""

    name = "nginx-tuned"
    log = "combined buffer=64k flush=1s"
    more = (
        "tcp_nopush on; open_file_cache max=20000 inactive=60s; open_file_cache_valid 30s; open_file_cache_min_uses 1;"
    )


class Lighttpd(Server):
    name = "lighttpd"
    version_command = ("lighttpd", "-v")

    def command(self) -> list[str]:
        config = self.folder / "lighttpd.conf"
        config.write_text(
            'server.modules = ("mod_accesslog")\n'
            f'server.document-root = "{self.site}"\nserver.bind = "127.0.0.1"\nserver.port = {self.port}\n'
            f'accesslog.filename = "{self.access_log}"\nserver.errorlog = "{self.folder}/error.log"\n'
            'mimetype.assign = (".html" => "text/html", "" => "application/octet-stream")\n'
            "server.max-keep-alive-requests = 65535\n"
        )
        return ["lighttpd", "-D", "-f", str(config)]


class HttpServer(Server):
    """Speaks HTTP/1.0 unless told otherwise, so each request has its own connection.  It logs to stderr."""

    name = "http.server"
    version_command = (sys.executable, "--version")
    module = "http.server"
    options: tuple[str, ...] = ()

    def command(self) -> list[str]:
        where = ["--bind", "127.0.0.1", "--directory", str(self.site)]
        return [sys.executable, "-m", self.module, str(self.port), *where, *self.options]


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
