"""Running a script for `CGIHTTPRequestHandler`, in the thread of its request.

    request -> meta-variables -> body to a file -> process -> head -> send_response ... -> body as it comes

Rules:

- What a script is told and what its output means is `httpd.cgi`'s business, as in the daemon; only the waiting is
  another: this blocks its own thread and nothing else.
- The process gets nothing of the server's environment but PATH, never runs as root, leads a group of its own, and is
  ended with all of it when it is silent for `cgi_timeout` or its client leaves.
- A script that gives no answer is 502 or 504, and the reason is logged by the handler's `log_error`.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import time
from typing import IO, Any

from httpd.cgi import meta
from httpd.cgi.answer import BadOutput, Head, HeadReader, is_nph
from httpd.cgi.process import explain
from httpd.cgi.stderr import Stderr
from httpd.protocol.messages import Request
from httpd.system import privileges

_READ = 64 * 1024  # bytes
_HEAD = 64 * 1024  # bytes that a script's head may have
_GRACE = 2.0  # seconds between TERM and KILL, and that output may stay open behind the script's end
_LOOK = 0.1  # seconds between two looks at whether it has ended
_REDIRECTS = 10


class _Failed(Exception):
    """There is no answer: `status`, and why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def run_script(handler: Any, script: str, file: str, rest: str, query: str) -> None:
    """Answer a request by the script `file`, whose path in the URL is `script`; `rest` and `query` follow that."""
    try:
        with tempfile.TemporaryFile(prefix="httpd-body-") as body:
            length = _read_body(handler, body)
            process = _start(handler, script, file, rest, query, body, length)
        with process:
            _Run(handler, script, process).answer()
    except _Failed as failed:
        handler.log_error("CGI script %s: %s", file, failed.reason)
        if getattr(handler, "_cgi_begun", False):
            handler.close_connection = True  # it is cut off: the client must not take it for whole
        else:
            handler.send_error(failed.status)


def _read_body(handler: Any, body: IO[bytes]) -> int | None:
    text = handler.headers.get("Content-Length")
    if text is None and handler.headers.get("Transfer-Encoding") is None:
        return None
    length = 0
    left = int(text) if text is not None and text.isdecimal() else sys.maxsize
    while left and (piece := handler.rfile.read(min(_READ, left))):
        body.write(piece)
        length += len(piece)
        left -= len(piece)
    if text is not None and left:
        raise _Failed(400, "the client sent less than it announced")
    body.seek(0)
    return length


def _request(handler: Any, query: str) -> Request:
    """What the handler has parsed, as `meta` wants it."""
    made = Request()
    made.method = handler.command.encode("latin-1")
    made.minor = 0 if handler.request_version == "HTTP/1.0" else 1
    made.fields = {}
    for name, value in handler.headers.items():
        key, data = name.lower().encode("latin-1"), value.strip().encode("latin-1", "replace")
        glue = b"; " if key == b"cookie" else b", "
        made.fields[key] = made.fields[key] + glue + data if key in made.fields else data
    path, mark, _ = handler.path.partition("?")
    made.path, made.query = path.encode("latin-1"), query.encode("latin-1") if mark else None
    made.host = made.fields.get(b"host", b"").rpartition(b"]")[2].partition(b":")[0]
    if made.fields.get(b"host", b"").startswith(b"["):
        made.host = made.fields[b"host"].partition(b"]")[0] + b"]"
    return made


def _facts(handler: Any, script: str, file: str, rest: str, length: int | None) -> meta.Facts:
    server = handler.server
    client = handler.client_address if isinstance(handler.client_address, tuple) else ("", 0)
    root = os.fsencode(handler.translate_path("/"))
    return meta.Facts(
        os.fsencode(script), os.fsencode(rest), os.fsencode(file), root,
        context_root=root, remote_addr=str(client[0]).encode(), remote_port=client[1],
        server_addr=_local(handler), server_name=str(getattr(server, "server_name", "")).encode(),
        server_port=int(getattr(server, "server_port", 0)), software=handler.version_string().encode("latin-1"),
        scheme=b"https" if hasattr(handler.connection, "getpeercert") else b"http", length=length,
    )  # fmt: skip


def _local(handler: Any) -> bytes:
    with contextlib.suppress(OSError, AttributeError):
        found = handler.connection.getsockname()
        return str(found[0]).encode() if isinstance(found, tuple) else b""
    return b""


def _start(handler: Any, script: str, file: str, rest: str, query: str, body: IO[bytes],
           length: int | None) -> subprocess.Popen[bytes]:  # fmt: skip
    request = _request(handler, query)
    environment = meta.variables(request, _facts(handler, script, file, rest, length))
    # As http.server has it: always there, and joined without blanks.
    environment[b"HTTP_ACCEPT"] = ",".join(handler.headers.get_all("Accept", ())).encode("latin-1", "replace")
    environment[b"PATH"] = os.environb.get(b"PATH", os.defpath.encode())
    command: list[bytes] = [os.fsencode(file), *meta.words(request.method, request.query)]
    if not handler.have_fork and handler.is_python(file):
        command[:0] = [os.fsencode(sys.executable), b"-u"]
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        try:
            nobody = privileges.script_identity("")
        except privileges.PrivilegeError as error:
            raise _Failed(500, f"it would run as root: {error}") from None
        who = {"user": nobody.uid, "group": nobody.gid, "extra_groups": []}
    try:
        return subprocess.Popen(
            command, stdin=body, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            cwd=os.path.dirname(file) or "/", start_new_session=True, **who,
        )  # fmt: skip
    except OSError as error:
        raise _Failed(500, explain(error, os.fsencode(file))) from None


class _Run:
    """One process, to the end of its answer."""

    def __init__(self, handler: Any, script: str, process: subprocess.Popen[bytes]) -> None:
        self._handler = handler
        self._script = script
        self._process = process
        self._stderr = Stderr()
        self._reader = HeadReader(_HEAD)
        self._nph = is_nph(script.rpartition("/")[2].encode("latin-1", "replace"))
        self._left: int | None = None  # bytes of the body that were promised
        self._local = b""
        handler._cgi_begun = False

    def answer(self) -> None:
        """Pass the answer on.  Raises _Failed."""
        try:
            self._pump()
        except _Failed:
            self._end()
            raise
        except OSError:  # the client is gone
            self._end()
            self._handler.close_connection = True
            return
        finally:
            for line in self._stderr.end():
                self._log(line)
        if self._local:
            self._end()
            self._redirect(self._local)
            return
        if not self._handler._cgi_begun:
            self._process.wait()
            how = f"; it begins with {self._reader.first_line}" if self._reader.begun else ""
            raise _Failed(502, f"its output ends within the head{how}" if how else "it wrote nothing")
        if self._left:
            raise _Failed(502, f"it sent {self._left} bytes less than its Content-Length")

    def _pump(self) -> None:
        out, err = self._process.stdout, self._process.stderr
        assert out is not None
        assert err is not None
        limit = self._handler.cgi_timeout
        until = None if limit is None else time.monotonic() + limit
        over_at: float | None = None
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            selector.register(err, selectors.EVENT_READ)
            while out in (key.fileobj for key in selector.get_map().values()) and not self._local:
                now = time.monotonic()
                if over_at is None and self._process.poll() is not None:
                    over_at = now + _GRACE
                if over_at is not None and now >= over_at:
                    return  # somebody whom it has left behind holds its output
                if until is not None and now >= until:
                    raise _Failed(504, f"it wrote nothing for {limit:g} s")
                for key, _ in selector.select(_LOOK):
                    data = os.read(key.fd, _READ)
                    if not data:
                        selector.unregister(key.fileobj)
                    elif key.fileobj is err:
                        for line in self._stderr.feed(data):
                            self._log(line)
                    else:
                        until = None if limit is None else time.monotonic() + limit
                        self._take(data)

    def _take(self, data: bytes) -> None:
        if self._nph:
            self._handler._cgi_begun = True
            self._handler.close_connection = True
            self._handler.wfile.write(data)
            return
        if self._reader.head is None:
            try:
                if not self._reader.feed(data):
                    return
            except BadOutput as error:
                raise _Failed(502, error.reason) from None
            assert self._reader.head is not None
            if self._reader.head.local:
                self._local = self._reader.head.local
                return
            self._send_head(self._reader.head)
            data = self._reader.rest
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if data and self._handler.command != "HEAD":
            self._handler.wfile.write(data)

    def _send_head(self, head: Head) -> None:
        handler = self._handler
        handler._cgi_begun = True
        handler.send_response(head.status, head.reason.decode("latin-1"))
        for name, value in head.fields:
            handler.send_header(name.decode("latin-1"), value.decode("latin-1"))
        if head.status in (204, 304):
            self._left = 0
        elif head.length is not None:
            handler.send_header("Content-Length", str(head.length))
            self._left = 0 if handler.command == "HEAD" else head.length
        else:
            handler.send_header("Connection", "close")
        handler.end_headers()
        handler.flush_headers()

    def _redirect(self, target: bytes) -> None:
        """A local redirect (RFC 3875 6.2.2)."""
        handler = self._handler
        handler._cgi_redirects = getattr(handler, "_cgi_redirects", 0) + 1
        if handler._cgi_redirects > _REDIRECTS:
            raise _Failed(502, f"more than {_REDIRECTS} local redirects in a row")
        handler.path = target.decode("latin-1")
        handler.command = "HEAD" if handler.command == "HEAD" else "GET"
        for name in ("Content-Length", "Content-Type", "Transfer-Encoding"):
            del handler.headers[name]
        getattr(handler, "do_" + handler.command)()

    def _log(self, line: str) -> None:
        self._handler.log_error("CGI script %s: stderr: %s", self._script, line)

    def _end(self) -> None:
        """End the process, and what it has started."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE)
                return
