"""The warm interpreters of one mount: one for each interpreter with its options (`cgi.pythons`), and its successors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from httpd.cgi.process import Launch
from httpd.cgi.pythons import command_of
from httpd.cgi.warming import Host, Interpreter
from httpd.config import schema

_NEVER = float("inf")


class WarmInterpreters:
    """See the head of this file."""

    def __init__(self, mount: schema.Cgi, environment: Mapping[bytes, bytes], nofile: int, host: Host) -> None:
        """`nofile` is the soft limit on open files that scripts have."""
        self._mount = mount
        self._environment = environment
        self._nofile = nofile
        self._host = host
        self._known: dict[tuple[bytes, ...], Interpreter] = {}
        self._replaced: list[Interpreter] = []  # that have scripts yet

    def start(self, job: Any, launch: Launch) -> bool:
        """Have a run done; False: it is not for a warm interpreter.  Raises OSError."""
        command, script = command_of(launch)
        if not command:
            return False
        found = self._known.get(command)
        if found is None or found.stale():
            if found is not None:
                found.dismiss()
                self._replaced.append(self._known.pop(command))
            found = Interpreter(command, self._mount, self._environment, self._nofile, self._host)
            self._known[command] = found
        job.warm = found
        found.run(job, launch, script)
        return True

    def postpone(self, seconds: float) -> None:
        """The spawner stood still for so long, and has not heard what they have said meanwhile."""
        for one in (*self._known.values(), *self._replaced):
            one.postpone(seconds)

    def kill(self) -> None:
        """The spawner ends: one that stands still would not notice."""
        for one in (*self._known.values(), *self._replaced):
            one.kill()

    @property
    def due(self) -> float:
        """When to look, monotonic seconds."""
        return min((one.due for one in (*self._known.values(), *self._replaced)), default=_NEVER)

    def look(self, now: float) -> None:
        """See to those that do not answer."""
        self._replaced = [one for one in self._replaced if not one.closed]
        for one in (*self._known.values(), *self._replaced):
            if now >= one.due:
                one.look(now)
