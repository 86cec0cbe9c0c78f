"""The configuration test, done in a child so that nothing which it meets can hang or hurt the master.

    read and parse as the caller -> who will the workers be -> become that user -> look at every folder -> report

Rules:

- The child reports one MessagePack message on a pipe and exits; no message means that it died.
- Files are read before privileges go (only root may be able to read them), folders are judged after: what counts is
  what the workers can reach.
- Host names in `listen` are looked up here: name services may take their time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import select
import signal
import socket
import time
import traceback
from collections.abc import Callable, Iterable

import msgspec

from httpd.config import schema
from httpd.config.environment import check_environment, check_machine, check_scripts
from httpd.config.errors import ConfigErrors
from httpd.config.load import Loaded, load
from httpd.logs.access import compile_format
from httpd.logs.targets import log_names
from httpd.system import privileges, signals
from httpd.system.descriptors import close_all_but
from httpd.worker import hosting

SECONDS = 30.0  # that a check may take
_FOR_MASTERS = ("HUP", "USR1", "USR2", "TTIN", "TTOU", "INT")
ENDING = frozenset(("QUIT", "INT", "TERM"))  # signals that end a start


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
    script_users: dict[str, privileges.Identity] = {}  # by the mount's key, when the master is root


TOO_SLOW = Verdict(problems=[f"the configuration check took more than {SECONDS:.0f} s"])

Source = Callable[[], Loaded]


def from_file(path: str) -> Source:
    """The source for `check`: a configuration file.  `path` is shown in messages as it is given here."""
    return lambda: load(path, compile_format)


def start(judge: Callable[[], Verdict]) -> tuple[int, int]:
    """Fork a child that calls `judge`; return its pid and the descriptor to read its report from."""
    reader, writer = os.pipe()
    with signals.blocked_signals():
        pid = os.fork()
        if pid == 0:
            code = 70
            try:
                signals.reset_dispositions()
                signals.ignore(_FOR_MASTERS)  # sent to the whole group they must not end this one
                close_all_but((writer,))
                report = memoryview(msgspec.msgpack.encode(judge()))
                while report:
                    report = report[os.write(writer, report) :]
                code = 0
            except BrokenPipeError:
                pass  # whoever asked has ended
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


def run(source: Source, wakeup: signals.Wakeup | None = None, *, imports: bool = False) -> Verdict | None:
    """Check and wait for the outcome, at most `SECONDS`.  None: `wakeup` was told to end meanwhile."""
    pid, reader = start(functools.partial(check, source, imports=imports))
    report = bytearray()
    until = time.monotonic() + SECONDS
    told: list[str] = []
    waiting = [reader] if wakeup is None else [reader, wakeup.fd]
    verdict: Verdict | None = None
    try:
        while verdict is None:
            ready, _, _ = select.select(waiting, (), (), max(0.0, until - time.monotonic()))
            if not ready:
                verdict = TOO_SLOW
            elif reader in ready:
                data = os.read(reader, 1 << 20)
                report += data
                verdict = None if data else finish(bytes(report))
            elif wakeup is not None:
                told += wakeup.take()
                if not ENDING.isdisjoint(told):
                    return None
    finally:
        os.close(reader)
        if wakeup is not None:
            wakeup.give_back(told)
        os.kill(pid, signal.SIGKILL)  # one that has reported is not there to be hurt any more
        if verdict is not TOO_SLOW:  # else it may hang in the kernel, and is left to init
            os.waitpid(pid, 0)
    return verdict


def check(source: Source, *, imports: bool = False) -> Verdict:
    """The check itself.  Gives up the caller's privileges: only for a process that exits afterwards.

    `imports`: load the handlers too, which runs their code.  At a start and a reload the first worker does so.
    """
    try:
        loaded = source()
    except ConfigErrors as errors:
        return Verdict(problems=[str(problem) for problem in errors.problems])
    problems = [str(problem) for problem in check_machine(loaded, os.geteuid())]
    if problems:
        return Verdict(problems=problems)
    config = loaded.config
    try:
        touch_logs([config])
        identity = _identity(config.server)
        script_users = _script_users(config)
        endpoints = {address.text: _resolve(address) for address in config.server.listen}
        if imports:
            hosting.preload(config)  # as the master does, whose user may read what the workers' may not
        problems = _script_problems(loaded, script_users)
        if identity is not None:
            privileges.drop(identity)
    except (privileges.PrivilegeError, OSError) as error:
        return Verdict(problems=[f"{config.path or 'httpd'}: {error}"])
    who = identity.user if identity is not None else str(os.geteuid())
    problems += [str(problem) for problem in check_environment(loaded, who=who)]
    problems = list(dict.fromkeys(problems))  # what is not there, several users do not find
    if not problems and imports:
        problems = _import_problems(config)
    if problems:
        return Verdict(problems=problems)
    return Verdict(config=config, identity=identity, endpoints=endpoints, script_users=script_users)


def _import_problems(config: schema.Config) -> list[str]:
    """What a worker would say of the handlers."""
    return [f"{config.path}: {line}" for line in hosting.try_mounts(config)]


def touch_logs(configs: Iterable[schema.Config]) -> Verdict:
    """Have the folders of log files answer here: the master will open them, and must not hang on a dead mount."""
    names = {name for config in configs for name in (*log_names(config), config.log.error) if name.startswith("/")}
    for folder in {os.path.dirname(name) for name in names}:
        with contextlib.suppress(OSError):  # what is wrong with them the opening will tell
            os.statvfs(folder)
    return Verdict()


def _identity(server: schema.Server) -> privileges.Identity | None:
    if os.geteuid() != 0:
        return None
    return privileges.identity(server.user or privileges.default_user(), server.group)


def _script_users(config: schema.Config) -> dict[str, privileges.Identity]:
    """Whom scripts run as, by their mount's key.  Raises PrivilegeError."""
    if os.geteuid() != 0:
        return {}
    mounts = (mount for vhost in config.vhosts for mount in vhost.mounts if isinstance(mount, schema.Cgi))
    return {mount.key: privileges.script_identity(mount.user, mount.group) for mount in mounts}


def _script_problems(loaded: Loaded, users: dict[str, privileges.Identity]) -> list[str]:
    """What keeps scripts' users from their scripts: each is asked in a process that has become that user."""
    if os.geteuid() != 0:
        keys = {mount.key for vhost in loaded.config.vhosts for mount in vhost.mounts}
        return [str(problem) for problem in check_scripts(loaded, keys, who=str(os.geteuid()))]
    problems: list[str] = []
    for identity in dict.fromkeys(users.values()):
        keys = {key for key, user in users.items() if user == identity}
        problems += _as_user(identity, lambda keys=keys, who=identity.user: [  # type: ignore[misc]  # bound at once
            str(problem) for problem in check_scripts(loaded, keys, who=who, switched=True)
        ])  # fmt: skip
    return problems


def _as_user(identity: privileges.Identity, ask: Callable[[], list[str]]) -> list[str]:
    """What `ask` answers in a child that has become `identity`."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            privileges.drop(identity)
            answer = ask()
        except privileges.PrivilegeError as error:
            answer = [f"httpd: {error}"]
        with open(writer, "wb") as pipe:
            pipe.write(msgspec.msgpack.encode(answer))
        os._exit(0)
    os.close(writer)
    with open(reader, "rb") as pipe:
        data = pipe.read()
    os.waitpid(pid, 0)
    return msgspec.msgpack.decode(data, type=list[str])


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
