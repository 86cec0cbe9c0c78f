"""The servers that are compared: how each is started on one core with its defaults, and what its worker costs."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil

_START_SECONDS = 10.0


class Server:
    """One server, one worker, one core."""

    name = ""

    def __init__(self, folder: Path, site: Path, core: int) -> None:
        self.folder = folder / self.name
        self.folder.mkdir()
        self.site = site
        self.core = core
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """How to start it in the foreground."""
        raise NotImplementedError

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        with (self.folder / "output").open("wb") as output:
            command = ["taskset", "-c", str(self.core), *self.command()]
            self._process = subprocess.Popen(command, stdout=output, stderr=output, cwd=self.site)
        until = time.monotonic() + _START_SECONDS
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            if self._process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"bench: {self.name} did not start: {(self.folder / 'output').read_text()}")
            time.sleep(0.02)

    def cpu_seconds(self) -> float:
        """CPU time of the process and its children so far."""
        assert self._process is not None
        top = psutil.Process(self._process.pid)
        times = [process.cpu_times() for process in (top, *top.children(recursive=True))]
        return float(sum(spent.user + spent.system for spent in times))

    def stop(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
            self._process.kill()
            self._process.wait()


class Httpd(Server):
    name = "httpd"

    def command(self) -> list[str]:
        config = self.folder / "httpd.toml"
        config.write_text(
            f'[server]\nlisten = ["127.0.0.1:{self.port}"]\nworkers = 1\nrun_dir = "{self.folder / "run"}"\n'
            f'[log]\naccess = "{self.folder / "access.log"}"\n[[vhost]]\nroot = "{self.site}"\n'
        )
        return [sys.executable, "-m", "httpd", "-c", str(config)]


class Nginx(Server):
    name = "nginx"

    def command(self) -> list[str]:
        temp = " ".join(
            f"{kind}_temp_path {self.folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        config = self.folder / "nginx.conf"
        config.write_text(
            f"worker_processes 1; pid {self.folder}/pid; error_log {self.folder}/error.log; daemon off;\n"
            "events { worker_connections 1024; }\n"
            "http { types { text/html html; } sendfile on; keepalive_requests 1000000000; keepalive_timeout 65;\n"
            f"access_log {self.folder}/access.log combined; {temp}\n"
            f"server {{ listen 127.0.0.1:{self.port}; root {self.site}; }} }}\n"
        )
        return ["nginx", "-c", str(config), "-e", str(self.folder / "error.log")]


class HttpServer(Server):
    name = "http.server"

    def command(self) -> list[str]:
        return [sys.executable, "-m", "http.server", str(self.port), "--bind", "127.0.0.1"]


SERVERS: tuple[type[Server], ...] = (Httpd, Nginx, HttpServer)


def free_port() -> int:
    """A port that nobody listens on just now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
