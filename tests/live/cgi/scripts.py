"""What the tests of scripts share: shell scripts, the marks that they set, and the processes that come of them.

A script's query is the name of its mark.  `install` makes the folders: `cgi` for the scripts, `marks` for what they
write, `gates` for what they wait for; the last two are everybody's, as scripts run as another user where we are root.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from live.daemon import Daemon, Place, eventually

HEAD = r"printf 'Content-Type: text/plain\n\n'"
MARK = 'echo $$ > "$MARKS/$QUERY_STRING.new"; mv "$MARKS/$QUERY_STRING.new" "$MARKS/$QUERY_STRING"'
GATE = 'while [ ! -e "$GATES/$QUERY_STRING" ]; do sleep 0.02; done'
# By name.  What a test is about in one line; `waits` and `plain` are for all.
SCRIPTS = {
    "plain": f"{HEAD}; echo plain",
    "marks": f"{MARK}; {HEAD}; echo marked",
    "waits": f"{MARK}; {GATE}; {HEAD}; echo waited",
    "begins": f"{HEAD}; echo begun; {MARK}; {GATE}; echo ended",
    "stubborn": f"trap '' TERM; sleep 1000 & {MARK}; while :; do sleep 1000; done",
    "obedient": f'trap \'echo term > "$MARKS/$QUERY_STRING.term"; exit 0\' TERM; {MARK}; while :; do sleep 0.05; done',
    # The same without a word to stderr, which nobody reads any more when a server ends.
    "tidy": 'exec 2> /dev/null; trap \'echo term > "$MARKS/$QUERY_STRING.term"; exit 0\' TERM; '
            f"{MARK}; while :; do sleep 0.05; done",
    "echo": f"{HEAD}; cat",
    "counts": f'{MARK}; {HEAD}; echo "$CONTENT_LENGTH $(wc -c)"',
    "unread": f"{HEAD}; echo unread",
}  # fmt: skip


def install(place: Place, scripts: dict[str, str]) -> None:
    """Make the folders, with scripts by name; a text that does not begin with #! is one for the shell."""
    for name, text in scripts.items():
        write(place, name, text)
    (place.path / "cgi").chmod(0o755)
    for name in ("marks", "gates"):
        (place.path / name).mkdir(exist_ok=True)
        (place.path / name).chmod(0o777)


def write(place: Place, name: str, text: str, mode: int = 0o755) -> Path:
    whole = text if text.startswith("#!") else f"#!/bin/sh\n{text}\n"
    return place.write(f"cgi/{name}", whole.encode("latin-1"), mode)


def mount(place: Place, path: str, lines: str = "") -> str:
    """A mount of the folder of scripts."""
    env = f'MARKS = "{place.path}/marks", GATES = "{place.path}/gates"'
    return f'\n[[vhost.cgi]]\npath = "{path}"\nroot = "cgi"\nenv = {{ {env} }}\n{lines}\n'


def open_gate(place: Place, name: str) -> None:
    (place.path / "gates" / name).touch()


def marked(place: Place, name: str) -> bool:
    return (place.path / "marks" / name).exists()


def pid_of(place: Place, name: str) -> int:
    """The process that has set a mark, when it has."""
    path = place.path / "marks" / name
    eventually(path.exists, f"the mark {name}")
    return int(path.read_text())


# Processes


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name: state, parent, group, session ...; [] for one that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _processes() -> dict[int, list[str]]:
    found = {int(name): _stat(int(name)) for name in os.listdir("/proc") if name.isdigit()}
    return {pid: fields for pid, fields in found.items() if fields and fields[0] not in "ZX"}


def group(pid: int) -> list[int]:
    """What is left of a process group."""
    return [one for one, fields in _processes().items() if int(fields[2]) == pid]


def alive(pid: int) -> bool:
    fields = _stat(pid)
    return bool(fields) and fields[0] not in "ZX"


def gone(pids: Iterable[int]) -> None:
    """Wait until nothing is left of these groups."""
    for pid in pids:
        eventually(lambda pid=pid: not group(pid), f"all of the group {pid} is gone")  # type: ignore[misc]


def titled(server: Daemon, title: str) -> list[int]:
    """The descendants of the master with such a title."""
    known = _processes()
    family = {server.pid}
    while more := {pid for pid, fields in known.items() if int(fields[1]) in family} - family:
        family |= more
    return sorted(pid for pid in family if _title(pid).startswith(title))


def _title(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode("latin-1")
    except OSError:
        return ""


def launcher(server: Daemon, other_than: int = 0) -> int:
    """The launcher; `other_than`: wait for one that is not this."""

    def look() -> list[int]:
        found = [pid for pid in titled(server, "httpd: launcher") if pid != other_than]
        return found if len(found) == 1 else []  # a spawner has that title at its very beginning

    (pid,) = eventually(look, "a launcher")
    return pid
