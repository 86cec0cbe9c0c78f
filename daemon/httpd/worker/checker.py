"""The configuration test, done in a child so that nothing which it meets can hang or hurt the master.

    read and parse as the caller -> who will the workers be -> become that user -> look at every folder -> report

Rules:

- The child reports one MessagePack message on a pipe and exits; no message means that it died.
- Files are read before privileges go (only root may be able to read them), folders are judged after: what counts is
  what the workers can reach.
- Host names in `listen` are looked up here: name services may take their time.
"""

from __future__ import annotations

import os
import socket
import traceback
from collections.abc import Callable

import msgspec

from httpd.config import schema
from httpd.config.environment import check_environment, check_machine
from httpd.config.errors import ConfigErrors
from httpd.config.load import Loaded, load
from httpd.logs.access import compile_format
from httpd.system import privileges, signals
from httpd.system.descriptors import close_all_but


class Endpoint(msgspec.Struct, frozen=True):
    """What to bind: `host` and `port` for an IP family, `path` for a unix socket."""

    family: int
    host: str = ""
    port: int = 0
    path: str = ""


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a check found out.  `problems` are lines for people; with none, the rest is filled in."""

    problems: list[str] = []
    config: schema.Config | None = None
    identity: privileges.Identity | None = None  # None: workers stay who the master is
    endpoints: dict[str, list[Endpoint]] = {}  # by the address's text


Source = Callable[[], Loaded]


def from_file(path: str) -> Source:
    """The source for `check`: a configuration file.  `path` is shown in messages as it is given here."""
    return lambda: load(path, compile_format)


def start(source: Source) -> tuple[int, int]:
    """Fork the checking child; return its pid and the descriptor to read its report from."""
    reader, writer = os.pipe()
    with signals.blocked_signals():
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                signals.reset_dispositions()
                close_all_but((writer,))
                report = memoryview(msgspec.msgpack.encode(check(source)))
                while report:
                    report = report[os.write(writer, report) :]
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
    os.close(writer)
    return pid, reader


def finish(report: bytes) -> Verdict:
    """What the child reported."""
    try:
        return msgspec.msgpack.decode(report, type=Verdict)
    except msgspec.DecodeError:  # it was killed before it could say anything, or in the middle
        return Verdict(problems=["the configuration check died"])


def run(source: Source) -> Verdict:
    """Check and wait for the outcome."""
    pid, reader = start(source)
    with open(reader, "rb") as pipe:
        report = pipe.read()
    os.waitpid(pid, 0)
    return finish(report)


def check(source: Source) -> Verdict:
    """The check itself.  Gives up the caller's privileges: only for a process that exits afterwards."""
    try:
        loaded = source()
    except ConfigErrors as errors:
        return Verdict(problems=[str(problem) for problem in errors.problems])
    problems = [str(problem) for problem in check_machine(loaded, os.geteuid())]
    if problems:
        return Verdict(problems=problems)
    config = loaded.config
    try:
        identity = _identity(config.server)
        endpoints = {address.text: _resolve(address) for address in config.server.listen}
        if identity is not None:
            privileges.drop(identity)
    except (privileges.PrivilegeError, OSError) as error:
        return Verdict(problems=[f"{config.path or 'httpd'}: {error}"])
    who = identity.user if identity is not None else str(os.geteuid())
    problems = [str(problem) for problem in check_environment(loaded, who=who)]
    if problems:
        return Verdict(problems=problems)
    return Verdict(config=config, identity=identity, endpoints=endpoints)


def _identity(server: schema.Server) -> privileges.Identity | None:
    if os.geteuid() != 0:
        return None
    return privileges.identity(server.user or privileges.default_user(), server.group)


def _resolve(address: schema.Address) -> list[Endpoint]:
    if address.kind == "unix":
        return [Endpoint(socket.AF_UNIX, path=address.path)]
    if not address.host:
        return [Endpoint(socket.AF_INET6, "::", address.port), Endpoint(socket.AF_INET, "0.0.0.0", address.port)]
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise OSError(f"server.listen {address.text!r}: {error.strerror}") from None
    return [Endpoint(int(family), str(where[0]), address.port) for family, _, _, _, where in dict.fromkeys(found)]
