"""`httpd-ctl cgi-test`: one run of a script without a client, and a report of it.

    message from the master -> a request -> its mount and script -> run -> status, fields, body, stderr, time

Rules:

- The run is like any other: the same mount, spawner, user and limits; `concurrency` counts it, the error log has it.
- Local redirects are shown, not followed.
- A report is bounded: it travels in one message.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from urllib.parse import quote, urlsplit

from httpd.cgi.lookup import Found
from httpd.config.schema import Address
from httpd.content.sites import SiteTable
from httpd.protocol.head import parse_loose
from httpd.protocol.messages import FileBody, HeadLimits, ProtocolError, Request
from httpd.worker.answering import fields_of
from httpd.worker.doors import Scripts
from httpd.worker.exchange import Mount
from httpd.worker.runs import ScriptRun
from httpd.worker.script_mount import ScriptMount
from httpd.worker.scripting import ScriptExchange, environment_for

_BODY = 8 * 1024  # bytes of an answer that are shown
_FIELDS = 100
_VALUE = 500  # characters of one value
_SAFE = "/%?&=+:@!$'()*,;~[]"

Report = dict[str, object]


class Probe:
    """One test; `done` is called with its report, once."""

    def __init__(self, scripts: Scripts, done: Callable[[Report], None]) -> None:
        self._scripts = scripts
        self._done = done
        self._began = time.monotonic()
        self._answered_at = 0.0
        self._body = b""
        self._size = 0
        self._local = b""
        self._exchange: ScriptExchange | None = None
        self._run: ScriptRun | None = None

    def begin(self, tables: Iterable[tuple[Address, int, SiteTable[Mount]]], url: str, method: str, body: int) -> str:
        """Run the script for `url`; `body` is a descriptor, taken over.  Returns why not, or ""."""
        try:
            limits = self._scripts.context.head_limits
            request, table, port = _request(tables, url, method, os.fstat(body).st_size, limits)
        except (ValueError, ProtocolError) as error:
            os.close(body)
            return str(error)
        mount = table.find(request.host).route(request.path)
        found = mount.script_for(request, self._scripts.context.now) if isinstance(mount, ScriptMount) else None
        if not isinstance(mount, ScriptMount) or not isinstance(found, Found):
            os.close(body)
            key = getattr(mount, "key", None) or getattr(getattr(mount, "mount", None), "key", "no mount")
            return f"{url} is answered by {key}, and is no script there: it is missing, a folder, or a file"
        exchange = self._exchange = ScriptExchange(self._scripts, mount, request)
        exchange.owner, exchange.keep_alive = self, False
        length = os.fstat(body).st_size or None
        environment, words = environment_for(request, mount, found, length, (b"127.0.0.1", 0), ("127.0.0.1", port))
        self._run = exchange.run = ScriptRun(self._scripts, mount, found, exchange, environment, words, body)
        self._run.on_over = self._over
        self._scripts.begin(self._run)
        return ""

    # In the place of a connection

    def forward(self, exchange: ScriptExchange) -> None:
        """Take what the script has written."""
        writer = exchange.wfile
        while writer.queue:
            part = writer.queue.popleft()
            assert not isinstance(part, FileBody)
            writer.taken += len(part)
            if part is writer.head:
                continue
            self._size += len(part)
            self._body = (self._body + part)[:_BODY]

    def answered(self, exchange: ScriptExchange) -> None:
        """The answer is there."""
        self._answered_at = time.monotonic()
        self.forward(exchange)

    def redirect(self, exchange: ScriptExchange, target: bytes) -> None:
        """A local redirect."""
        self._local = target
        self._answered_at = time.monotonic()

    def _over(self) -> None:
        exchange, run = self._exchange, self._run
        assert exchange is not None
        assert run is not None
        fields = [
            (name.decode("latin-1"), value.decode("latin-1")[:_VALUE]) for name, value in fields_of(exchange.wfile.head)
        ]
        self._done({
            "script": os.fsdecode(run.found.file), "status": exchange.fault or exchange.wfile.status,
            "failure": str(exchange.failure or ""), "fields": fields[:_FIELDS],
            "local_redirect": self._local.decode("latin-1")[:_VALUE],
            "body": self._body.decode("utf-8", "backslashreplace"), "size": self._size,
            "stderr": run.stderr.last_words, "ended": run.how_ended, "pid": run.pid,
            "seconds": round(self._answered_at - self._began, 4),
        })  # fmt: skip


def _request(tables: Iterable[tuple[Address, int, SiteTable[Mount]]], url: str, method: str, length: int,
             limits: HeadLimits) -> tuple[Request, SiteTable[Mount], int]:  # fmt: skip
    """The request for a URL, and the sites of its listener.  Raises ValueError, ProtocolError."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https", "") or not parts.path.startswith("/"):
        raise ValueError(f"{url!r} is no URL: http://example.org/cgi-bin/script, or its path alone")
    target = quote(parts.path, safe=_SAFE) + (f"?{quote(parts.query, safe=_SAFE)}" if parts.query else "")
    known = list(tables)
    fitting = [item for item in known if parts.port is None or item[1] == parts.port]
    if not fitting:
        raise ValueError(f"the server does not listen on port {parts.port}")
    address, port, table = fitting[0]
    host = parts.netloc.rpartition("@")[2] or address.host or "localhost"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "User-Agent: httpd-ctl", "Accept: */*"]
    if length or method in ("POST", "PUT"):
        lines += [f"Content-Length: {length}", "Content-Type: application/x-www-form-urlencoded"]
    request = parse_loose("\r\n".join([*lines, "", ""]).encode("utf-8"), limits)
    return request, table, port
