"""`httpd-ctl cgi-test`, as the master sees it: a worker is asked, and its report is passed on as text.

Rules: what the worker reports comes from a process that is not trusted: it is checked, bounded, and shown escaped.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping

from httpd.config.errors import one_line
from httpd.control.commands import Reply
from httpd.control.wire import DONE, REFUSED, Outcome
from httpd.master.children import Child, State
from httpd.master.generations import Generation
from httpd.master.launching import scripts_of
from httpd.system import pairs
from httpd.system.descriptors import lend

_SECONDS = 290.0  # that a test may take; less than httpd-ctl waits, so that it is told
_NEVER = float("inf")


class Probing:
    """The tests that are under way."""

    def __init__(self) -> None:
        self._numbers = 0
        self._asked: dict[int, tuple[Child, Reply, float]] = {}

    def ask(self, generation: Generation | None, url: str, method: str, data: bytes, reply: Reply) -> None:
        """Have a worker run the script for `url`."""
        if generation is None or not scripts_of(generation.config):
            reply(Outcome(REFUSED, "there is no [[vhost.cgi]] in the configuration that is in force"))
            return
        child = next((child for child in generation.children if child.state is State.SERVING), None)
        if child is None:
            reply(Outcome(REFUSED, "no worker serves just now"))
            return
        self._numbers += 1
        message = {"do": "cgi-test", "ask": self._numbers, "url": url, "method": method}
        try:
            sent = _send(child, message, data)
        except ValueError:
            reply(Outcome(REFUSED, "the URL is too long"))
        except OSError as error:  # no room for a file, no descriptors
            reply(Outcome(REFUSED, f"the worker can't be asked: {error.strerror}"))
        else:
            if sent:
                self._asked[self._numbers] = (child, reply, time.monotonic() + _SECONDS)
            else:
                reply(Outcome(REFUSED, "the worker does not listen"))

    @property
    def deadline(self) -> float:
        """When `tick` has something to do (monotonic seconds)."""
        return min((until for _, _, until in self._asked.values()), default=_NEVER)

    def tick(self, now: float) -> None:
        """Answer those whose worker is gone, or takes for ever."""
        for number, (child, reply, until) in list(self._asked.items()):
            if now >= until or child.state is State.GONE:
                del self._asked[number]
                why = "is gone" if child.state is State.GONE else f"gave no report within {_SECONDS:g} s"
                reply(Outcome(REFUSED, f"the worker that was to run the script {why}"))

    def heed(self, child: Child, message: Mapping[str, object]) -> None:
        """A worker's report."""
        number = message.get("ask")
        if number is None:  # the worker could not read what it was asked
            for known in [known for known, waiting in self._asked.items() if waiting[0] is child]:
                self.heed(child, {**message, "ask": known})
            return
        found = self._asked.get(number) if isinstance(number, int) else None
        if found is None or found[0] is not child:
            return
        del self._asked[number]  # type: ignore[arg-type]  # it was found by it
        refusal, report = message.get("refusal"), message.get("report")
        if isinstance(report, dict):
            failed = bool(report.get("failure"))
            found[1](Outcome(REFUSED if failed else DONE, text_of(report), {"report": report}))
        else:
            found[1](Outcome(REFUSED, _shown(str(refusal))))


def _send(child: Child, message: dict[str, object], data: bytes) -> bool:
    """Send `message` with `data` as a file.  Raises OSError, and ValueError for one that is too long."""
    with tempfile.TemporaryFile(prefix="httpd-test-") as file:
        file.write(data)
        file.flush()
        file.seek(0)
        return pairs.send(child.channel, message, [lend(file.fileno())])


def text_of(report: Mapping[str, object]) -> str:
    """A report for people."""
    seconds, pid, cut = report.get("seconds"), report.get("pid"), report.get("cut")
    target = report.get("local_redirect")
    lines = [
        f"script   {_shown(report.get('script'))}",
        f"status   {f'that of {_shown(target)}: a local redirect' if target else _shown(report.get('status'))}",
        f"time     {seconds if isinstance(seconds, int | float) else '?'} s",
        f"process  {_shown(report.get('ended'))}{f' (pid {_shown(pid)})' if pid else ''}",
    ]
    if report.get("failure"):
        lines.append(f"failure  {_shown(report['failure'])}")
    if cut:
        names = ", ".join(_shown(name) for name in cut) if isinstance(cut, list) else _shown(cut)
        lines.append(f"cut      {names}: there is more than is shown")
    fields = report.get("fields")
    listed = fields if isinstance(fields, list) else []
    pairs_of = [pair for pair in listed if isinstance(pair, list) and len(pair) == 2]
    lines += [f"field    {_shown(name)}: {_shown(value)}" for name, value in pairs_of]
    for name in ("stderr", "output", "body"):
        text = report.get(name)
        if isinstance(text, str) and text:
            size = f" ({_shown(report.get('size'))} bytes)" if name == "body" else ""
            lines += [f"{name}{size}", *("    " + _shown(line) for line in text.splitlines())]
    return "\n".join(lines)


def _shown(value: object) -> str:
    """Text of an untrusted process, as a terminal can bear it."""
    return one_line(str(value))
