"""`httpd run` for tests: a script in the daemon's folder, its run folder, and a client.

    with running(daemon) as script:
        script.write("serve.py", text)
        script.start("serve.py", "argument", options=["--workers", "2"])
        script.get("/")
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import pwd
import re
import shutil
import ssl
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from httpd.config.script import script_config
from live.daemon import HTTPD_CTL, PATIENCE, Daemon, environment

_HERE = Path(__file__).parent
_GREETING = "^Serving .* (Ctrl-C stops)$".replace("(", r"\(").replace(")", r"\)")
READ_FROM_TERMINAL = r'^127\.0\.0\.1 - - \[[^]]*\] '  # a line of `log_message`


@dataclass(slots=True)
class Said:
    """An answer."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Script:
    """A script under `daemon`.  `folder` is the one it stands and runs in."""

    def __init__(self, daemon: Daemon) -> None:
        self.daemon = daemon
        self.folder = daemon.place.path / "app"
        self.folder.mkdir(mode=0o755)
        self.environ = {} if os.geteuid() == 0 else {"XDG_RUNTIME_DIR": str(daemon.place.path)}
        self.write("says.py", (_HERE / "says.py").read_text())
        daemon.expect(_GREETING, "^told: ")

    def write(self, name: str, text: str) -> Path:
        """A file that the workers' user can read."""
        return self.daemon.place.write(f"app/{name}", textwrap.dedent(text).encode())

    def at(self, name: str, *arguments: str, listen: Sequence[str] = ()) -> None:
        """Where the daemon of a script has its control socket."""
        config = script_config(name, arguments, listen=listen, folder=str(self.folder),
                               environ={**os.environ, **self.environ})  # fmt: skip
        self.daemon.run_dir = Path(config.server.run_dir)

    def start(self, name: str, *arguments: str, options: Sequence[str] = (), **more: Any) -> Daemon:
        """Run it; returns when it serves.  Raises StartFailed."""
        listen = [options[number + 1] for number, option in enumerate(options) if option == "--listen"]
        self.at(name, *arguments, listen=listen)
        more["environ"] = {**self.environ, **more.get("environ", {})}
        more.setdefault("cwd", self.folder)
        return self.daemon.start("run", *options, name, *arguments, **more)

    def get(self, target: str = "/", method: str = "GET", body: bytes | None = None, *, port: int = 0,
            context: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> Said:  # fmt: skip
        """One request on a connection of its own."""
        kind: Any = http.client.HTTPConnection
        if context is not None:
            kind = functools.partial(http.client.HTTPSConnection, context=context)
        connection = kind(host, port or self.daemon.port, timeout=PATIENCE)
        try:
            connection.request(method, target, body)
            answer = connection.getresponse()
            return Said(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    def json(self, target: str = "/", **options: Any) -> Any:
        """What it says with 200."""
        found = self.get(target, **options)
        assert found.status == 200, found
        return found.json

    def wait(self, pattern: str, count: int = 1) -> str:
        """A line that the script or the daemon has written to stderr."""
        assert self.daemon.stderr is not None
        return self.daemon.stderr.wait(pattern, count)

    def told(self, pattern: str, count: int = 1) -> str:
        return self.wait(f"^told: {pattern}$", count)

    def ports(self) -> list[int]:
        """Of all listeners, in the order of the script."""
        return [int(name.rpartition(":")[2]) for name in self.daemon.listeners()]

    def ctl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """httpd-ctl, as users run it."""
        return subprocess.run(
            [*HTTPD_CTL, "--run-dir", str(self.daemon.run_dir), *arguments], capture_output=True, text=True,
            env=environment({"PYTHONWARNINGS": "error", **self.environ}), timeout=60, check=False,
        )  # fmt: skip

    def tracebacks(self) -> None:
        """Let tracebacks come, and nothing be said of the lines in them."""
        self.daemon.expect("^\t")


@contextmanager
def running(daemon: Daemon) -> Iterator[Script]:
    """A script, and behind it nothing in the system's run folder."""
    script = Script(daemon)
    try:
        yield script
    finally:
        try:
            daemon.close()
        finally:
            daemon.stderr = None  # it has been judged
        if os.geteuid() == 0 and re.fullmatch(r"/run/httpd-[0-9a-f]{12}", str(daemon.run_dir)):
            shutil.rmtree(daemon.run_dir, ignore_errors=True)


# What workers can import


@functools.cache
def why_not(module: str) -> str:
    """Why the workers' user can't import a module; "" where it can."""
    options: dict[str, Any] = {}
    if os.geteuid() == 0:
        account = pwd.getpwnam("nobody")
        options = {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
    # A child that has left root behind it, as a worker has: the interpreter was there before.
    code = f"import {module}"
    try:
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", timeout=60,
                              check=False, env={"PATH": os.environ.get("PATH", "")}, **options)  # fmt: skip
    except PermissionError:
        return f"workers' user may not run {sys.executable}"
    if done.returncode == 0:
        return ""
    return (done.stderr.strip().splitlines() or ["it failed"])[-1]


@functools.cache
def why_unreadable(path: Path) -> str:
    """Why the workers' user can't read a file; "" where it can."""
    if os.geteuid() != 0:
        return ""
    done = subprocess.run(["cat", path], user="nobody", extra_groups=[], check=False, capture_output=True, text=True)
    return done.stderr.strip()


def needs(module: str) -> pytest.MarkDecorator:
    """Skips where workers can't import a module, by its name or because their user may not read the library."""
    reason = why_not(module)
    return pytest.mark.skipif(bool(reason), reason=f"workers can't import {module}: {reason}")


# TLS


def make_certificate(folder: Path) -> tuple[Path, Path, ssl.SSLContext]:
    """Files of a certificate for 127.0.0.1 and its key, and a client's context that trusts it."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
               "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
               "-keyout", str(key), "-out", str(certificate)]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except FileNotFoundError:
        pytest.skip("no openssl here, to make a certificate with")
    for path in (certificate, key):
        path.chmod(0o644)
    return certificate, key, ssl.create_default_context(cafile=str(certificate))
