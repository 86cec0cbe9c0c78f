"""The `httpd` command.

    arguments -> signals -> check (in a child) -> detach -> lock -> master -> exit code

Exit codes (after sysexits.h): 0 stopped as asked, 64 usage, 69 can't bind, another instance runs or no worker became
ready, 70 a defect, 77 no permission, 78 bad configuration.
"""

from __future__ import annotations

import argparse
import functools
import grp
import json
import os
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from httpd import __version__
from httpd.config import schema
from httpd.config.folder import folder_config
from httpd.config.load import Loaded
from httpd.config.script import script_config
from httpd.control.commands import nobody
from httpd.control.ctl import write_line
from httpd.master.listeners import Listener
from httpd.master.supervisor import Supervisor
from httpd.system import detach, privileges, signals, systemd, title
from httpd.worker import checker

EXIT_OK, EXIT_USAGE, EXIT_UNAVAILABLE, EXIT_DEFECT, EXIT_NO_PERMISSION, EXIT_CONFIG = 0, 64, 69, 70, 77, 78
_INHERITED = "HTTPD_INHERITED"  # what is handed over a restart, as JSON
_LOCK_SECONDS = 2.0  # a start waits so long for a master that is just going
_MOST_WORKERS = 64
_IN_USE_SECONDS = 2.0  # ... and for the addresses that its workers still hold


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(EXIT_USAGE, f"{self.prog}: {message}\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="httpd",
        description="Serve folders over HTTP: those of a configuration file, or one folder at once.",
        epilog="httpd run SCRIPT runs a script that makes its own HTTPServer. "
        "httpd-ctl controls a running server: status, reload, stop and more.",
    )
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="folder to serve; default: the current one")
    parser.add_argument("-c", "--config", metavar="FILE", help="serve by this configuration file")
    parser.add_argument("--check", action="store_true", help="test the configuration file and exit")
    parser.add_argument("-d", "--daemon", action="store_true", help="detach; return when the workers are ready")
    parser.add_argument("-l", "--listen", metavar="ADDR", action="append", default=[],
                        help="address for FOLDER: host:port, :port or unix:/path; default 127.0.0.1:8000")  # fmt: skip
    parser.add_argument("--cgi", action="store_true", help="run the programs in FOLDER/cgi-bin and FOLDER/htbin")
    parser.add_argument("--version", action="version", version=f"httpd {__version__}")
    return parser


@dataclass(slots=True)
class _Plan:
    """What to serve."""

    source: checker.Source
    again: checker.Source  # the same for a reload, when the current folder is another
    name: str  # for messages and the process title
    folder: str  # the folder that the command was given in


def _run_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="httpd run",
        description="Run a script that makes its own HTTPServer as a daemon, with workers, reload, limits and logs.",
    )
    parser.add_argument("--workers", type=_positive, default=1, metavar="N",
                        help="processes that run the script; what it keeps in memory is each one's own")  # fmt: skip
    parser.add_argument("-l", "--listen", metavar="ADDR", action="append", default=[],
                        help="listen here in place of the script's first address")  # fmt: skip
    parser.add_argument("--tls-cert", metavar="FILE", default="", help="speak TLS with this certificate chain (PEM)")
    parser.add_argument("--tls-key", metavar="FILE", default="", help="its key, where it is not in the same file")
    parser.add_argument("-d", "--daemon", action="store_true", help="detach; return when the workers are ready")
    parser.add_argument("script", metavar="SCRIPT", help="the script")
    parser.add_argument("arguments", metavar="ARGS", nargs=argparse.REMAINDER, help="its arguments")
    parser.set_defaults(config=None, folder=None, check=False, cgi=False)
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 to {_MOST_WORKERS}")
    return int(text)


def _plan(options: argparse.Namespace) -> _Plan:
    if hasattr(options, "script"):
        here = os.getcwd()
        if options.tls_key and not options.tls_cert:
            raise SystemExit(_complain("--tls-key needs --tls-cert", EXIT_USAGE))
        tls = (_whole(options.tls_cert), _whole(options.tls_key))
        listen = [_absolute(address) for address in options.listen]
        source = functools.partial(_script, options.script, options.arguments, listen, options.workers, tls, here)
        return _Plan(source, source, options.script, here)
    if options.config is not None:
        path = os.path.abspath(options.config)
        return _Plan(checker.from_file(options.config), checker.from_file(path), options.config, _here())
    folder = os.path.abspath(options.folder or ".")
    listen = [_absolute(address) for address in options.listen]
    source = functools.partial(_folder, folder, listen, options.cgi)
    return _Plan(source, source, folder, _here())


def _whole(name: str) -> str:
    return os.path.abspath(name) if name else ""


def _here() -> str:
    try:
        return os.getcwd()
    except OSError:  # it was removed; nothing that was named needs it
        return "/"


def _absolute(address: str) -> str:
    path = address.removeprefix("unix:")
    return address if path == address else f"unix:{os.path.abspath(path)}"


def _folder(folder: str, listen: Sequence[str], cgi: bool) -> Loaded:
    return Loaded(folder_config(folder, listen, cgi=cgi))


def _script(
    script: str, arguments: Sequence[str], listen: Sequence[str], workers: int, tls: tuple[str, str], folder: str
) -> Loaded:
    return Loaded(script_config(script, arguments, listen=listen, workers=workers, tls=tls, folder=folder))


def main(wakeup: signals.Wakeup, arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code.  `wakeup` has taken the signals already."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    parser = _parser()
    options = _run_parser().parse_args(given[1:]) if given[:1] == ["run"] else parser.parse_args(given)
    if options.config is not None and (options.folder or options.listen or options.cgi):
        parser.error("FOLDER, --listen and --cgi do not go with --config")
    if options.check and options.config is None:
        parser.error("--check needs --config FILE")
    environ = dict(os.environ)
    try:
        plan = _plan(options)
    except OSError as error:
        return _complain(f"the current folder can't be read: {error.strerror}", EXIT_CONFIG)
    verdict = checker.run(plan.source, wakeup, imports=options.check)
    if verdict is None:
        return _interrupted(options, wakeup)
    if verdict.problems or verdict.config is None:
        write_line("\n".join(verdict.problems), sys.stderr)
        return EXIT_CONFIG
    if options.check:
        write_line(f"{options.config}: good", sys.stdout)
        return EXIT_OK
    inherited = json.loads(os.environ.pop(_INHERITED, "{}"))
    handed, code = _serve(options, plan, verdict, verdict.config, wakeup, inherited)
    if handed:
        os.chdir(plan.folder)
        _execute_again(handed, environ, wakeup)
    return code


def _interrupted(options: argparse.Namespace, wakeup: signals.Wakeup) -> int:
    """Told to end before there was anything: a server has done so; a command ends as signals end commands."""
    if options.check:
        signals.end_by(next(name for name in wakeup.take() if name in checker.ENDING))
    return EXIT_OK


def _complain(message: str, code: int) -> int:
    write_line(f"httpd: {message}", sys.stderr)
    return code


def _serve(options: argparse.Namespace, plan: _Plan, verdict: checker.Verdict, config: schema.Config,
           wakeup: signals.Wakeup, inherited: dict[str, Any]) -> tuple[dict[str, object], int]:  # fmt: skip
    """Run the master; returns what to hand on, when a restart was asked for, and the exit code."""
    notifier = systemd.Notifier.from_environ(os.environ)
    again = bool(inherited)  # a restart of what has detached already
    if options.daemon and not again and "-" in (config.log.access, config.log.error):
        hint = ": name a file" if options.config else ""
        write_line(f'httpd: with --daemon a log that is "-" goes nowhere{hint}', sys.stderr)
    ready = detach.detach() if options.daemon and not again else None
    run_dir = detach.RunDir(config.server.run_dir)
    try:
        run_dir.prepare()
        if not run_dir.adopt_lock(inherited.get("lock", -1)):
            _lock(run_dir)
        killed = run_dir.pid_path.exists()  # the last master did not come to remove it
        run_dir.write_pid()
    except detach.RunDirError as error:
        notifier.close()
        code = _code_of(error)
        if ready is None:
            return {}, _complain(str(error), code)
        ready.report(code, f"httpd: {error}")
        return {}, code
    title.set_title(f"httpd: master {plan.name}")
    os.chdir("/")
    if os.geteuid() == 0:
        privileges.cut_bounding_set()

    def started(code: int, reason: str) -> None:
        if ready is not None:
            ready.report(code, f"httpd: {reason}" if code else "")
            if "-" in (config.log.access, config.log.error):
                supervisor.reopen(nobody)  # it is no longer the terminal
        elif not code and options.config is None and not again:
            _greet(plan.name, supervisor)

    supervisor = Supervisor(
        verdict, plan.again, run_dir, wakeup, notifier, started, _inherited(config, verdict, inherited),
        patience=_IN_USE_SECONDS if killed else 0.0, detached=options.daemon,
    )  # fmt: skip
    try:
        code, listeners = supervisor.run(_group_id(config.server.control_group), inherited.get("control", -1))
    finally:
        if not supervisor.ending.stays:
            run_dir.remove_pid()
        notifier.close()
    return _handed_on(supervisor, listeners) if listeners else {}, code


def _code_of(error: detach.RunDirError) -> int:
    if isinstance(error, detach.LockHeld):
        return EXIT_UNAVAILABLE
    return EXIT_NO_PERMISSION if isinstance(error.__cause__, PermissionError) else EXIT_CONFIG


def _lock(run_dir: detach.RunDir) -> None:
    until = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            run_dir.lock()
            return
        except detach.LockHeld as held:
            if (held.pid is not None and _alive(held.pid)) or time.monotonic() >= until:
                raise
            time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _group_id(name: str) -> int | None:
    return grp.getgrnam(name).gr_gid if name else None


def _greet(folder: str, supervisor: Supervisor) -> None:
    active = supervisor.reloads.active
    names = [] if active is None else active.listener_names
    scheme = "https" if active is not None and active.config.script and active.config.script.certificate else "http"
    urls = ", ".join(name if name.startswith("unix:") else f"{scheme}://{name}/" for name in names)
    write_line(f"Serving {folder} on {urls} (Ctrl-C stops)", sys.stderr)


# A restart: the same process, a new program, the same sockets


def _handed_on(supervisor: Supervisor, listeners: list[Listener]) -> dict[str, object]:
    """What the next program in this process gets: sockets, and in the same run folder the lock."""
    handed = []
    for listener in listeners:
        fds = [sock.fileno() for sock in listener.sockets]
        for fd in fds:
            os.set_inheritable(fd, True)
        handed.append({"text": listener.address.text, "fds": fds, "inode": listener.inode,
                       "path": listener.endpoints[0].path})  # fmt: skip
    found: dict[str, object] = {"listeners": handed}
    if supervisor.ending.stays:
        os.set_inheritable(supervisor.control, True)
        found.update(control=supervisor.control, lock=supervisor.run_dir.keep_lock())
    return found


def _execute_again(handed: dict[str, object], environ: dict[str, str], wakeup: signals.Wakeup) -> NoReturn:
    signals.hold_back(wakeup)
    environ[_INHERITED] = json.dumps(handed)
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)


def _inherited(config: schema.Config, verdict: checker.Verdict, inherited: dict[str, Any]) -> list[Listener]:
    """The listeners that the program before us in this process left open, those that are still wanted."""
    addresses = {address.text: address for address in config.server.listen}
    kept = []
    for item in inherited.get("listeners", ()):
        for fd in item["fds"]:
            os.set_inheritable(fd, False)
        sockets = [socket.socket(fileno=fd) for fd in item["fds"]]
        inode = tuple(item["inode"]) if item["inode"] else None
        address = addresses.get(item["text"])
        if address is not None:
            kept.append(Listener(address, tuple(verdict.endpoints[address.text]), sockets, inode))
        else:
            endpoints = (checker.Endpoint(int(sockets[0].family), path=item["path"]),)
            Listener(schema.Address(item["text"]), endpoints, sockets, inode).close()
    return kept
