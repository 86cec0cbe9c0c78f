"""The table of what a running master can be told: each command once, with the signal that means the same.

Rules:

- A signal and its command can't drift apart: both are found in here, and both end in the same call on the master.
- `run` returns at once; the outcome comes later through `reply`, once.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from httpd.control.wire import USAGE, Call, Outcome

Reply = Callable[[Outcome], None]


def nobody(outcome: Outcome) -> None:
    """The reply to a signal: there is nobody to tell; the log says it."""


class Master(Protocol):
    """What the commands need of the master."""

    def status(self, reply: Reply) -> None: ...

    def reload(self, reply: Reply) -> None: ...

    def reload_for_good(self, reply: Reply) -> None: ...

    def hang_up(self, reply: Reply) -> None: ...

    def stop(self, *, now: bool, reply: Reply) -> None: ...

    def interrupt(self, reply: Reply) -> None: ...

    def restart(self, reply: Reply) -> None: ...

    def check(self, reply: Reply) -> None: ...

    def reopen(self, reply: Reply) -> None: ...

    def set_workers(self, count: int, reply: Reply) -> None: ...

    def cgi_test(self, url: str, method: str, data: bytes, reply: Reply) -> None: ...

    def change_workers(self, by: int, reply: Reply) -> None: ...

    def upgrade(self, reply: Reply) -> None: ...


Run = Callable[[Master, dict[str, object], Reply], None]


@dataclass(slots=True, frozen=True)
class Command:
    """`argument` names the number that the command takes on the line, `flag` its option, `more` what else it takes, as
    argparse wants it; `seconds` bounds the wait."""

    name: str
    help: str
    run: Run
    argument: str = ""
    flag: str = ""
    flag_help: str = ""
    more: tuple[tuple[tuple[str, ...], dict[str, Any]], ...] = ()
    seconds: float = 60.0


def _workers(master: Master, arguments: dict[str, object], reply: Reply) -> None:
    count = arguments.get("count")
    if isinstance(count, int) and not isinstance(count, bool):
        master.set_workers(count, reply)
    else:
        reply(Outcome(USAGE, "workers needs a number"))


def _cgi_test(master: Master, arguments: dict[str, object], reply: Reply) -> None:
    url, method, data = (arguments.get(name) for name in ("url", "method", "data"))
    method = method or ("POST" if data is not None else "GET")
    if not isinstance(url, str) or not isinstance(method, str) or not method.isascii() or not method.isalnum():
        reply(Outcome(USAGE, "cgi-test needs a URL, and a method that is a word"))
        return
    try:
        body = base64.b64decode(data, validate=True) if isinstance(data, str) else b""
    except ValueError:
        reply(Outcome(USAGE, "data is not base64"))
        return
    master.cgi_test(url, method, body, reply)


def _reload(master: Master, arguments: dict[str, object], reply: Reply) -> None:
    if arguments.get("settled") is True:
        master.reload_for_good(reply)
    else:
        master.reload(reply)


COMMANDS: dict[str, Command] = {
    command.name: command
    for command in (
        Command("status", "show what runs", lambda master, _, reply: master.status(reply), seconds=10),
        Command("reload", "take over the changed configuration, or say why not",
                _reload, flag="settled",
                flag_help="wait until it can't be rolled back any more: timeouts.probation longer", seconds=120),
        Command("stop", "finish the requests and end",
                lambda master, given, reply: master.stop(now=given.get("now") is True, reply=reply),
                flag="now", flag_help="at once, cutting requests off", seconds=600),
        Command("restart", "stop and start again in the same process",
                lambda master, _, reply: master.restart(reply), seconds=600),
        Command("check", "test the configuration, also without a running server",
                lambda master, _, reply: master.check(reply)),
        Command("reopen", "write to new log files from now on", lambda master, _, reply: master.reopen(reply)),
        Command("cgi-test", "run a script once, and show its answer, its stderr and its time", _cgi_test, more=(
            (("url",), {"metavar": "URL", "help": "http://example.org/cgi-bin/script?query, or the path alone"}),
            (("-X", "--method"), {"metavar": "METHOD", "help": "default: GET, with --data POST"}),
            (("--data",), {"metavar": "FILE", "help": "the body; - is stdin"}),
        ), seconds=300),
        Command("workers", "have so many workers", _workers, argument="count", seconds=120),
    )
}  # fmt: skip

# In order of priority: what ends the server comes first.
SIGNALS: dict[str, Run] = {
    "QUIT": lambda master, _, reply: master.stop(now=True, reply=reply),
    "INT": lambda master, _, reply: master.interrupt(reply),
    "TERM": lambda master, _, reply: master.stop(now=False, reply=reply),
    "HUP": lambda master, _, reply: master.hang_up(reply),
    "USR1": COMMANDS["reopen"].run,
    "USR2": lambda master, _, reply: master.upgrade(reply),
    "TTIN": lambda master, _, reply: master.change_workers(1, reply),
    "TTOU": lambda master, _, reply: master.change_workers(-1, reply),
}


def perform(master: Master, call: Call, reply: Reply) -> None:
    """Carry out a call that came over the control socket."""
    command = COMMANDS.get(call.command)
    if command is None:
        reply(Outcome(USAGE, f"unknown command {call.command!r}"))
    else:
        command.run(master, call.arguments, reply)
