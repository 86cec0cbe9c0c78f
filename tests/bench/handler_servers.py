"""Servers of one handler, the hello of apps/: httpd with it mounted, and what runs such code elsewhere.

Each peer has one worker and is set up as its manual does for production.  All log each request: httpd and gunicorn to a
file of their own, uvicorn, granian and http.server to stdout or stderr, which is a file as well.
"""

from __future__ import annotations

import sys
from pathlib import Path

from python_servers import PythonServer
from servers import Httpd, Server

_APPS = Path(__file__).parent / "apps"
_HANDLERS = {"/": "Hello", "/burn": "Burn"}


class HandlerHttpd(Httpd):
    """httpd with handler classes: /burn computes, /static has the files, everything else is the hello."""

    name = "httpd-handler"
    module = "hello_handler"

    def vhost(self) -> str:
        mounts = [f'  [[vhost.directory]]\n  path = "/static"\n  root = "{self.site}"\n']
        for path, kind in _HANDLERS.items():
            mounts.append(
                f'  [[vhost.handler]]\n  path = "{path}"\n  class = "{self.module}:{kind}"\n'
                f'  pythonpath = ["{_APPS}"]\n'
            )
        return "".join(mounts)


class DefaultSwitchHttpd(HandlerHttpd):
    """The same at Python's own switch interval."""

    name = "httpd-switch"
    module = "hello_default_switch"


class UvicornH11(PythonServer):
    """asyncio's own loop, and the parser that is pure Python."""

    name = "uvicorn-h11"
    program, needs = "uvicorn", "uvicorn"
    parser = "h11"

    def command(self) -> list[str]:
        return self.run(
            "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", "--loop", "asyncio", "--http",
            self.parser, "--access-log", "--lifespan", "off", "--app-dir", str(_APPS), "hello_apps:asgi",
        )  # fmt: skip


class UvicornHttptools(UvicornH11):
    """The same with the parser in C, which uvicorn takes by itself where it is installed."""

    name = "uvicorn-httptools"
    needs = "httptools"
    parser = "httptools"


class Gunicorn(PythonServer):
    """As many threads as a worker of httpd has."""

    name = "gunicorn"
    program, needs = "gunicorn", "gunicorn"

    def command(self) -> list[str]:
        return self.run(
            "--bind", f"127.0.0.1:{self.port}", "--workers", "1", "--worker-class", "gthread", "--threads", "16",
            "--keep-alive", "65", "--access-logfile", str(self.access_log), "--chdir", str(_APPS), "hello_apps:wsgi",
        )  # fmt: skip


class GranianWsgi(PythonServer):
    """Its default: a thread for each request that waits, as far as half its backlog."""

    name = "granian-wsgi"
    program, needs = "granian", "granian"
    options: tuple[str, ...] = ()

    def command(self) -> list[str]:
        return self.run(
            "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", "--access-log",
            *self.options, "--working-dir", str(_APPS), "hello_apps:wsgi",
        )  # fmt: skip


class GranianWsgiOne(GranianWsgi):
    """One thread for the application: no two that want the interpreter."""

    name = "granian-wsgi-1"
    options = ("--blocking-threads", "1")


class HelloServer(Server):
    """The same class in the standard library's ThreadingHTTPServer.  It sends head and body apart: on a connection that
    is kept, the body waits until the client has acknowledged the head (Nagle's algorithm, delayed ACK).  So its
    throughput is that of a timer, and only its CPU time compares."""

    name = "http.server-hello"
    version_command = (sys.executable, "--version")
    most_rounds = 3

    def command(self) -> list[str]:
        return [sys.executable, str(_APPS / "hello_handler.py"), str(self.port)]


HANDLER_SERVERS: tuple[type[Server], ...] = (
    HandlerHttpd, DefaultSwitchHttpd, UvicornH11, UvicornHttptools, Gunicorn, GranianWsgi, GranianWsgiOne, HelloServer,
)  # fmt: skip
