"""`httpd-ctl cgi-test`: one run of a script without a client, and a report of it.

    message from the master -> a request -> its mount and script -> run -> status, fields, body, stderr, time

Rules:

- The run is like any other: the same way to its script, spawner, user and limits; `concurrency` counts it, the error
  log has it.
- Local redirects are shown, not followed.
- There is one report, when both the answer and the run are over; who has answered and runs on is waited for a moment.
- A report is bounded: it travels in one message, and says what of it was cut.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, urlsplit

from httpd.cgi import meta
from httpd.cgi.lookup import Elsewhere, Found
from httpd.config.schema import Address
from httpd.content import paths
from httpd.content.sites import SiteTable
from httpd.protocol.head import parse_loose
from httpd.protocol.messages import FileBody, HeadLimits, ProtocolError, Request
from httpd.system.pairs import MAX_MESSAGE
from httpd.worker.doors import Scripts
from httpd.worker.exchange import Mount
from httpd.worker.record import fields_of
from httpd.worker.run_faces import State
from httpd.worker.runs import ScriptRun
from httpd.worker.script_mount import ScriptMount
from httpd.worker.scripting import ScriptExchange, facts_for

_BODY = 8 * 1024  # bytes of an answer that are shown
_FIELDS = 100
_VALUE = 500  # characters of one value
_TEXT = 2000  # characters of what has no bound of its own
_MOST = MAX_MESSAGE - 1024  # bytes of a report; the rest is for what it travels in
_PATIENCE = 10.0  # seconds that a run may last behind its answer: to end it by force takes less
_SAFE = "/%?&=+:@!$'()*,;~[]"

Report = dict[str, object]
Tables = Iterable[tuple[Address, int, SiteTable[Mount]]]


class Probe:
    """One test; `done` is called with its report, once."""

    def __init__(self, scripts: Scripts, done: Callable[[Report], None]) -> None:
        self._scripts = scripts
        self._done: Callable[[Report], None] | None = done
        self._began = time.monotonic()
        self._answered_at = 0.0
        self._body = b""
        self._local = b""
        self._status = 0
        self._failure = ""
        self._exchange: ScriptExchange | None = None
        self._run: _ProbeRun | None = None

    def begin(self, tables: Tables, url: str, method: str, body: int) -> str:
        """Run the script for `url`; `body` is a descriptor, taken over.  Returns why not, or ""."""
        scripts = self._scripts
        try:
            length = os.fstat(body).st_size
            request, table, port = _request(tables, url, method, length, scripts.context.head_limits)
            mount, found = _script(table, request, scripts.context.now)
            self._prepare(request, mount, found, port, body, length)
        except (OSError, ValueError, ProtocolError) as error:
            os.close(body)
            reason = f"it can't be run: {error.strerror}" if isinstance(error, OSError) else str(error)
            return f"{url[:_VALUE]}: {reason}"
        if not length:
            os.close(body)
        assert self._run is not None
        scripts.begin(self._run)
        return ""

    def _prepare(self, request: Request, mount: ScriptMount, found: Found, port: int, body: int, length: int) -> None:
        """Make the run.  Raises OSError; `body` is the caller's then, and where there is none."""
        exchange = self._exchange = ScriptExchange(self._scripts, mount, request)
        exchange.owner, exchange.keep_alive, exchange.minor = self, False, 0  # its body is not to be chunked
        known = length if b"content-length" in request.fields else None
        facts = facts_for(mount, found, (b"127.0.0.1", 0), ("127.0.0.1", port))
        facts.length = known
        environment, words = meta.variables(request, facts), meta.words(request.method, request.query)
        stdin = body if length else self._scripts.null
        self._run = exchange.run = _ProbeRun(self._scripts, mount, found, exchange, environment, words, stdin)
        self._run.on_over = self._run.on_look = self.look

    # In the place of a connection

    def forward(self, exchange: ScriptExchange) -> None:
        """Take what the script has written."""
        writer = exchange.wfile
        while writer.queue:
            part = writer.queue.popleft()
            assert not isinstance(part, FileBody)
            writer.taken += len(part)
            if part is writer.head:
                self._body = b""  # before it there were interim answers
            elif len(self._body) < _BODY:
                self._body = (self._body + part)[:_BODY]

    def answered(self, exchange: ScriptExchange) -> None:
        """The answer is over: whole, cut off, or none.  A connection judges in the same way."""
        writer = exchange.wfile
        reason = str(exchange.failure or "")
        if not writer.taken and (reason or not writer.status):
            writer.queue.clear()
            writer.head = b""
            self._status, self._failure = exchange.fault or 500, reason or "it sent no answer"
        else:
            self.forward(exchange)
            self._status = writer.status
            if reason or not writer.finish():
                self._failure = f"the answer is cut off: {reason or 'it wrote less than its Content-Length'}"
        self._answer_over()

    def redirect(self, exchange: ScriptExchange, target: bytes) -> None:
        """A local redirect."""
        self._local = target
        self._answer_over()

    def _answer_over(self) -> None:
        self._answered_at = time.monotonic()
        self.look()

    # The report

    def look(self) -> None:
        """Report, if it is time to."""
        run, done = self._run, self._done
        assert run is not None
        if done is None or not self._answered_at:
            return
        if run.state is State.OVER or time.monotonic() - self._answered_at >= _PATIENCE:
            self._done = None
            done(self._report(run))

    def _report(self, run: _ProbeRun) -> Report:
        assert self._exchange is not None
        writer = self._exchange.wfile
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in fields_of(writer.head)]
        shown = [(name[:_VALUE], value[:_VALUE]) for name, value in fields[:_FIELDS]]
        size = writer.sent if writer.head else 0
        output = b"" if writer.head or self._local else run.written  # of a script whose answer is none
        lacking = {"body": size > len(self._body), "fields": shown != fields, "stderr": run.stderr.has_more,
                   "output": bool(output) and run.size > len(output)}  # fmt: skip
        cut = [name for name, lacks in lacking.items() if lacks]
        return _fitting({
            "script": os.fsdecode(run.found.file)[:_TEXT], "status": self._status, "failure": self._failure[:_TEXT],
            "fields": shown, "local_redirect": self._local.decode("latin-1")[:_VALUE],
            "body": self._body.decode("utf-8", "backslashreplace"), "size": size, "cut": cut,
            "output": output.decode("utf-8", "backslashreplace"),
            "stderr": run.stderr.last_words, "ended": _end_of(run), "pid": run.pid,
            "seconds": round(self._answered_at - self._began, 4),
        })  # fmt: skip


class _ProbeRun(ScriptRun):
    """A run that tells when it is looked at, and keeps the beginning of what its script writes."""

    on_look: Callable[[], None]
    written = b""
    size = 0  # of all that was written

    def take(self, data: bytes) -> bool:
        self.size += len(data)
        if len(self.written) < _BODY:
            self.written = (self.written + data)[:_BODY]
        return super().take(data)

    def look(self, now: float) -> None:
        super().look(now)
        self.on_look()


def _end_of(run: ScriptRun) -> str:
    if run.how_ended:
        return run.how_ended
    if not run.pid:
        return "it was not run"
    return "its end is not known" if run.gone else "it still runs"


def _fitting(report: dict[str, Any]) -> Report:
    """`report` with less of what is long, until a message can carry it: JSON takes six bytes for a control character.

    All else that is in it is bounded, and fits.
    """
    while len(json.dumps(report, separators=(",", ":"))) > _MOST:
        longest = max(("body", "stderr", "fields", "output"), key=lambda name: len(json.dumps(report[name])))
        value = report[longest]
        less = len(value) * 3 // 4
        report[longest] = value[len(value) - less :] if longest == "stderr" else value[:less]
        if longest not in report["cut"]:
            report["cut"].append(longest)
    return report


# From a URL to a script


def _request(
    tables: Tables, url: str, method: str, length: int, limits: HeadLimits
) -> tuple[Request, SiteTable[Mount], int]:
    """The request for a URL, and the sites of its listener.  Raises ValueError, ProtocolError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "") or not parts.path.startswith("/"):
        raise ValueError("this is no URL: http://example.org/cgi-bin/script, or its path alone")
    target = quote(parts.path, safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    known = list(tables)
    fitting = [item for item in known if parts.port is None or item[1] == parts.port]
    if not fitting:
        raise ValueError(f"the server does not listen on port {parts.port}")
    address, port, table = fitting[0]
    host = parts.netloc.rpartition("@")[2] or _host(address, port)
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "User-Agent: httpd-ctl", "Accept: */*"]
    if length or method in ("POST", "PUT"):
        lines += [f"Content-Length: {length}", "Content-Type: application/x-www-form-urlencoded"]
    request = parse_loose("\r\n".join([*lines, "", ""]).encode("utf-8"), limits)
    return request, table, port


def _host(address: Address, port: int) -> str:
    """What a client of this listener would say."""
    host = f"[{address.host}]" if ":" in address.host else address.host or "localhost"
    return host if port in (0, 80) else f"{host}:{port}"


def _script(table: SiteTable[Mount], request: Request, now: float) -> tuple[ScriptMount, Found]:
    """The script that would answer.  Raises ValueError: what does instead, and with what status where that is clear."""
    path = paths.normalize(paths.decode(request.path))
    mount = table.find(request.host).route(path)
    if mount is None:
        raise ValueError("no mount answers for it (404)")
    if not isinstance(mount, ScriptMount):
        key = getattr(mount, "key", None) or getattr(getattr(mount, "mount", None), "key", "another mount")
        raise ValueError(f"{key} answers for it, and runs no scripts")
    found = mount.script_for(request, now)
    if found is None:
        raise ValueError(f"it is no script of {mount.key}: {_instead(mount, path)}")
    if mount.refuses(request.method):
        raise ValueError(f"{request.method.decode()} is not among the methods of {mount.key} (405)")
    return mount, found


def _instead(mount: ScriptMount, path: bytes) -> str:
    """What a path is that is no script."""
    try:
        found = mount.lookup.find(path)
        if found is Elsewhere.SLASH:
            return "it is a folder, and its script answers with a slash at the end (301)"
        relative = path[len(mount.lookup.prefix) :].strip(b"/")
        folder = stat.S_ISDIR(mount.lookup.root().look(relative).st_mode)
        return f"it is a {'folder' if folder else 'file'}, which is answered as a directory's are"
    except FileNotFoundError as error:
        return f"{_missing(mount, error)} (404)"
    except PermissionError as error:
        return "the server may not enter its folder (403)" if error.errno else "it is a folder (403)"
    except OSError as error:
        return f"it can't be looked at: {error.strerror}"


def _missing(mount: ScriptMount, error: FileNotFoundError) -> str:
    """Why a path is taken for missing; the file system was asked where there is an errno."""
    if not error.errno:
        hidden = paths.has_dotfile(error.args[0])
        return "a name in it begins with a dot (dotfiles)" if hidden else "more follows behind a file that is no script"
    name = os.path.join(os.fsencode(mount.mount.folder), error.filename)
    shown = ascii(os.fsdecode(error.filename))
    if os.path.islink(name):
        where = "is a link that" if os.path.exists(name) else "is a link that leads nowhere, or that"
        return f'{shown} {where} symlinks = "{mount.settings.symlinks}" does not let pass'
    return f"{shown} is neither a file nor a folder" if os.path.exists(name) else f"there is no {shown}"
