"""Servers of one handler, the hello of apps/: httpd with it mounted, and what runs such code elsewhere.

Each peer has one worker and is set up as its manual does for production; uvicorn with asyncio's own loop, both with the
parser of pure Python and with that of C.  All log: httpd, gunicorn to a file; uvicorn, granian and http.server to
stdout or stderr, which is a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from python_servers import PythonServer
from servers import Httpd, HttpServer, Server

APPS = Path(__file__).parent / "apps"


class HandlerHttpd(Httpd):
    """httpd with a handler class for everything but /static/, which are the files; `module` has the class."""

    name = "httpd-handler"
    module = "hello_handler"

    def command(self) -> list[str]:
        command = super().command()
        config = Path(command[-1])
        mounts = "".join(
            f'  [[vhost.handler]]\n  path = "{path}"\n  class = "{self.module}:{kind}"\n  pythonpath = ["{APPS}"]\n'
            for path, kind in (("/", "Hello"), ("/burn", "Burn")) if hasattr_of(self.module, kind)
        )  # fmt: skip
        text = config.read_text().replace(
            f'[[vhost]]\nroot = "{self.site}"\n',
            f'[[vhost]]\n  [[vhost.directory]]\n  path = "/static"\n  root = "{self.site}"\n{mounts}',
        )
        config.write_text(text)
        return command


def hasattr_of(module: str, name: str) -> bool:
    """Whether the module of apps/ has it; none of them is imported here."""
    return name == "Hello" or module == "hello_handler"


class DefaultSwitchHttpd(HandlerHttpd):
    """The same at Python's own switch interval."""

    name = "httpd-switch"
    module = "hello_default_switch"


class UvicornH11(PythonServer):
    name = "uvicorn-h11"
    program, needs = "uvicorn", "uvicorn"
    parser = "h11"

    def command(self) -> list[str]:
        return self.run(
            "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", "--loop", "asyncio", "--http",
            self.parser, "--lifespan", "off", "--app-dir", str(APPS), "hello_apps:asgi",
        )  # fmt: skip


class UvicornHttptools(UvicornH11):
    name = "uvicorn-c"
    needs = "httptools"
    parser = "httptools"


class Gunicorn(PythonServer):
    name = "gunicorn"
    program, needs = "gunicorn", "gunicorn"

    def command(self) -> list[str]:
        return self.run(
            "--bind", f"127.0.0.1:{self.port}", "--workers", "1", "--worker-class", "gthread", "--threads", "16",
            "--keep-alive", "65", "--access-logfile", str(self.access_log), "--chdir", str(APPS), "hello_apps:wsgi",
        )  # fmt: skip


class GranianWsgi(PythonServer):
    name = "granian-wsgi"
    program, needs = "granian", "granian"

    def command(self) -> list[str]:
        return self.run(
            "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", "--access-log",
            "--working-dir", str(APPS), "hello_apps:wsgi",
        )  # fmt: skip


class HttpServerHello(Server):
    """The same class, in the standard library."""

    name = "http.server-11"
    version_command = (sys.executable, "--version")
    most_rounds = 3

    def command(self) -> list[str]:
        return [sys.executable, str(APPS / "hello_handler.py"), str(self.port)]


class Library(HttpServer):
    """`python -m httpd.server` in the place of `python -m http.server`."""

    name = "httpd.server"
    module = "httpd.server"
    protocol = "HTTP/1.0"

    def environment(self) -> dict[str, str]:
        from servers import SOURCE

        return {**super().environment(), "PYTHONPATH": str(SOURCE)}

    def command(self) -> list[str]:
        where = ["--bind", "127.0.0.1", "--directory", str(self.site), "--protocol", self.protocol]
        return [sys.executable, "-m", self.module, str(self.port), *where]


class Library11(Library):
    name = "httpd.server-11"
    protocol = "HTTP/1.1"


class Stock(Library):
    name = "http.server-f10"
    module = "http.server"


class Stock11(Library11):
    name = "http.server-f11"
    module = "http.server"
