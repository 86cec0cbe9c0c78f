"""The static servers that Python programs are deployed with, from an environment of their own.

Each is set up as its own manual does for production, with one worker: uvloop where it can have it, gunicorn's thread
worker with the threads a small machine gets.  Their access logs are on; uvicorn and granian write theirs to stdout.
"""

from __future__ import annotations

import sys
from pathlib import Path

from servers import Server

_APPS = Path(__file__).parent / "apps"


class PythonServer(Server):
    """A server from the environment `packages`."""

    packages = Path(sys.prefix) / "bench"
    program = ""
    needs = ""  # the import that shows that it is installed
    most_rounds = 3  # they are far from their targets: more rounds would only take time

    @classmethod
    def missing(cls) -> str:
        there = any(cls.packages.glob(f"lib/python*/site-packages/{cls.needs}"))
        return "" if there and (cls.packages / "bin" / cls.program).exists() else f"{cls.needs} in {cls.packages}"

    def run(self, *arguments: str) -> list[str]:
        """The program of the environment, with arguments."""
        return [str(self.packages / "bin" / self.program), *arguments]


class WhiteNoise(PythonServer):
    name = "whitenoise"
    program, needs = "gunicorn", "whitenoise"

    def command(self) -> list[str]:
        return self.run(
            "--bind", f"127.0.0.1:{self.port}", "--workers", "1", "--worker-class", "gthread", "--threads", "4",
            "--keep-alive", "65", "--access-logfile", str(self.access_log), "--chdir", str(_APPS),
            "whitenoise_app:application",
        )  # fmt: skip


class Aiohttp(PythonServer):
    name = "aiohttp"
    program, needs = "python", "aiohttp"

    def command(self) -> list[str]:
        return self.run(str(_APPS / "aiohttp_app.py"), str(self.port), str(self.access_log))


class Starlette(PythonServer):
    name = "starlette"
    program, needs = "uvicorn", "starlette"

    def command(self) -> list[str]:
        return self.run(
            "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", "--app-dir", str(_APPS),
            "starlette_app:application",
        )  # fmt: skip


class Granian(PythonServer):
    name = "granian"
    program, needs = "granian", "granian"
    prefix = "/static"

    def command(self) -> list[str]:
        return self.run(
            "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1", "--access-log",
            "--static-path-route", self.prefix, "--static-path-mount", str(self.site), "--working-dir", str(_APPS),
            "granian_app:application",
        )  # fmt: skip
