"""The `httpd-ctl` command: one call to a running master, and its outcome as text or JSON.

Exit codes: 0 done, 1 refused (the old state stays), 2 usage, 3 not running, 4 no permission, 5 timed out (still in
progress), 6 rolled back after new workers had started.

Rules:

- It waits for the outcome unless told not to.
- It finds the server by its run folder, never by a pid; a configuration that no longer validates is no obstacle.
- What was done goes to stdout, what was not goes to stderr.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import json
import os
import select
import socket
import struct
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NoReturn, TextIO

from httpd import __version__
from httpd.config.errors import ConfigErrors
from httpd.config.run_dir import run_dir_of
from httpd.control.commands import COMMANDS, Command
from httpd.control.wire import (
    DONE,
    NO_PERMISSION,
    NOT_RUNNING,
    OUTCOME_LIMIT,
    REFUSED,
    TIMED_OUT,
    USAGE,
    Call,
    Outcome,
    WireError,
    decode_outcome,
    encode_call,
)  # fmt: skip
from httpd.worker import checker

_DEFAULT_CONFIG = "/etc/httpd/httpd.toml"
_LARGEST = 512 * 1024  # bytes of a test's body
_POLL = 0.05  # seconds between two looks for a server that restarts
_COME_BACK = 30.0  # seconds that the new program may take to serve


class _Parser(argparse.ArgumentParser):
    """With --json wrong usage is told as an object, too."""

    def error(self, message: str) -> NoReturn:
        if "--json" in sys.argv[1:]:
            write_line(json.dumps({"code": USAGE, "text": message}), sys.stdout)
        super().error(message)


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < 1e9:
        raise argparse.ArgumentTypeError("must be a number of seconds")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="httpd-ctl", description="Control a running httpd.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("-c", "--config", metavar="FILE", help=f"the server's configuration (default {_DEFAULT_CONFIG})")
    where.add_argument("--run-dir", metavar="DIR", help="the server's run folder, instead of its configuration")
    parser.add_argument("--json", action="store_true", help="print the outcome as one JSON object")
    parser.add_argument("--no-wait", action="store_true", help="do not wait for the outcome")
    parser.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="how long to wait, if not as usual")
    parser.add_argument("--version", action="version", version=f"httpd-ctl {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS.values():
        sub = commands.add_parser(command.name, help=command.help, description=command.help)
        if command.argument:
            sub.add_argument(command.argument, type=int, metavar="N")
        if command.flag:
            sub.add_argument(f"--{command.flag}", action="store_true", help=command.flag_help)
        sub.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="as before the command")
        for names, options in command.more:
            sub.add_argument(*names, **options)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(arguments)
    command = COMMANDS[options.command]
    outcome = _run(options, command)
    text = outcome.text
    if options.json:
        text = json.dumps({"code": outcome.code, "text": outcome.text, **outcome.data})
    if text:
        write_line(text, sys.stdout if outcome.code == DONE or options.json else sys.stderr)
    return outcome.code


def write_line(text: str, stream: TextIO) -> None:
    """Print; whoever has stopped reading, or has no room for it, does not change how the command ended."""
    try:
        try:
            print(text, file=stream, flush=True)
        except UnicodeEncodeError:  # a script's answer, in a locale that has no such letters
            print(text.encode("ascii", "backslashreplace").decode("ascii"), file=stream, flush=True)
    except OSError:
        # What is left in the buffer would fail once more at the exit of the interpreter.
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _run(options: argparse.Namespace, command: Command) -> Outcome:
    if command.name == "check" and options.config is not None:
        return _check(options.config)
    try:
        run_dir = Path(options.run_dir or run_dir_of(options.config or _DEFAULT_CONFIG))
    except ConfigErrors as errors:
        lines = [*(str(problem) for problem in errors.problems), "the server can be named by --run-dir instead"]
        return Outcome(USAGE, "\n".join(lines))
    given = {name: getattr(options, name) for name in (command.argument, command.flag) if name}
    if command.name == "cgi-test":
        try:
            given = {"url": options.url, "method": options.method, "data": _body(options.data)}
        except (OSError, ValueError) as error:
            return Outcome(USAGE, f"{options.data}: {getattr(error, 'strerror', None) or error}")
    seconds = options.timeout if options.timeout is not None else command.seconds
    until = time.monotonic() + seconds
    path = run_dir / "control.sock"
    outcome = _call(path, Call(command.name, given), until, wait=not options.no_wait)
    if command.name == "restart" and outcome.code == DONE and not options.no_wait:
        path = Path(str(outcome.data.get("run_dir", run_dir))) / "control.sock"
        return _await_restart(path, time.monotonic() + _COME_BACK)
    return outcome


def _body(name: str | None) -> str | None:
    """What a file holds, as it travels.  Raises OSError, ValueError."""
    if name is None:
        return None
    with open(sys.stdin.fileno() if name == "-" else name, "rb", closefd=name != "-") as file:
        data = file.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise ValueError(f"more than {_LARGEST} bytes, which is too much for a test")
    return base64.b64encode(data).decode("ascii")


def _check(path: str) -> Outcome:
    """The configuration test, here: it needs no server, and tests the file that was named."""
    verdict = checker.run(checker.from_file(path), imports=True)
    assert verdict is not None  # signals end this process
    if verdict.problems:
        return Outcome(REFUSED, "\n".join(verdict.problems), {"problems": list(verdict.problems)})
    return Outcome(DONE, f"{path}: good", {"problems": []})


def _call(path: Path, call: Call, until: float, *, wait: bool) -> Outcome:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        try:
            _connect(sock, path)
            sock.sendall(encode_call(call))
        except PermissionError:
            return Outcome(NO_PERMISSION, f"{path}: you may not control this server")
        except OSError as error:
            return Outcome(NOT_RUNNING, f"no server is running ({path}: {error.strerror})")
        if not wait:
            return Outcome(DONE, f"{call.command}: sent")
        try:
            with _process_of(sock) as ended:
                outcome = decode_outcome(_read_line(sock, until))
                if call.command == "stop" and outcome.code == DONE and ended is not None:
                    select.select([ended], [], [], max(0.0, until - time.monotonic()))  # its very last moment
                return outcome
        except TimeoutError:
            return Outcome(TIMED_OUT, f"{call.command}: still in progress")
        except (WireError, OSError):
            return Outcome(NOT_RUNNING, f"{call.command}: the server went away without an answer")


@contextlib.contextmanager
def _process_of(sock: socket.socket) -> Iterator[int | None]:
    """A descriptor that tells when the process at the other end has ended; None where there is none to be had."""
    ended = None
    if hasattr(socket, "SO_PEERCRED") and hasattr(os, "pidfd_open"):
        pid, _, _ = struct.unpack("iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        with contextlib.suppress(OSError):
            ended = os.pidfd_open(pid)
    try:
        yield ended
    finally:
        if ended is not None:
            os.close(ended)


def _connect(sock: socket.socket, path: Path) -> None:
    """Connect also where the path is longer than a socket address may be."""
    folder = os.open(path.parent, getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY)
    try:
        short = f"/proc/self/fd/{folder}/{path.name}"
        sock.connect(short if sys.platform == "linux" and len(os.fsencode(path)) > 100 else str(path))
    finally:
        os.close(folder)


def _read_line(sock: socket.socket, until: float) -> bytes:
    data = b""
    while not data.endswith(b"\n") and len(data) < OUTCOME_LIMIT:
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError
        sock.settimeout(left)
        more = sock.recv(65536)
        if not more:
            break
        data += more
    return data


def _await_restart(path: Path, until: float) -> Outcome:
    """The old program has said good-bye; wait for the new one to serve."""
    while time.monotonic() < until:
        outcome = _call(path, Call("status"), min(until, time.monotonic() + 1), wait=True)
        if outcome.code == DONE and outcome.data.get("state") in ("running", "degraded"):
            return Outcome(DONE, f"restarted, pid {outcome.data.get('pid')}", outcome.data)
        time.sleep(_POLL)
    return Outcome(NOT_RUNNING, "restart: the server did not come back; its error log tells why")
