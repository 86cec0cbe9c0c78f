"""Running a script for `CGIHTTPRequestHandler`, in the thread of its request.

    request -> meta-variables -> body to a file -> process -> head -> send_response ... -> body as it comes

Rules:

- What a script is told and what its output means is `httpd.cgi`'s business, as in the daemon; only the waiting is
  another: this blocks its own thread and nothing else.
- The process gets nothing of the server's environment but PATH, never runs as root, leads a group of its own, and is
  ended with all of it when it is silent for `cgi_timeout` or its client leaves.  To close its output is to be silent.
- A script that gives no answer is 502 or 504, and the reason is logged by the handler's `log_error`; behind a part of
  one the connection is reset.  Behind the whole of one it has its time, whatever it writes.
- A client can write anything: what no program can be told is 400, and nothing that it sends is a traceback.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import sys
import time
from typing import IO, Any

from httpd.cgi import meta
from httpd.cgi.answer import BadOutput, Chunks, Head, HeadReader, is_nph
from httpd.cgi.process import explain
from httpd.cgi.stderr import Stderr
from httpd.protocol.messages import Request
from httpd.server import run_process
from httpd.server.run_ends import Failed, body_file, cut_off, read_body
from httpd.system import privileges

_READ = 64 * 1024  # bytes
_HEAD = 64 * 1024  # bytes that a script's head may have
_GRACE = 2.0  # seconds that output may stay open behind the script's end
_SOON, _LOOK = 0.0005, 0.1  # seconds between two looks at whether it has ended: behind its output, and at most
_REDIRECTS = 10
_BEHIND = 1024 * 1024  # bytes that are dropped behind an answer
_STATUS_LINE = re.compile(rb"HTTP/[0-9]\.[0-9] ([1-9][0-9]{2})(?![0-9])")
_STATUS_END = 13  # bytes of one that say the status


def run_script(handler: Any, script: str, file: str, rest: str, query: str) -> None:
    """Answer a request by the script `file`, whose path in the URL is `script`; `rest` and `query` follow that."""
    handler._cgi_begun = False  # of this answer: a handler may give several
    try:
        with body_file() as body:
            length = read_body(handler, body)
            process = _start(handler, script, file, rest, query, body, length)
        with run_process.held(process):
            _Run(handler, script, process).answer()
    except Failed as failed:
        handler.log_error("CGI script %s: %s", file, failed.reason)
        if handler._cgi_begun:
            cut_off(handler, failed)
        else:
            handler.send_error(failed.status)


def _raw(text: str) -> bytes:
    """What came as latin-1, as it came; a handler may have put any text in its place."""
    try:
        return text.encode("latin-1")
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogatepass")


def _native(text: str) -> bytes:
    """A decoded path, as the names of files are; one that can't be a name here is told as the client wrote it."""
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "surrogateescape")


def _request(handler: Any, query: str) -> Request:
    """What the handler has parsed, as `meta` wants it."""
    made = Request()
    made.method = _raw(handler.command)
    made.minor = 0 if handler.request_version in ("HTTP/1.0", "HTTP/0.9") else 1
    made.fields = {}
    for name, value in handler.headers.items():
        key, data = _raw(name.lower()), value.strip().encode("latin-1", "replace")
        glue = b"; " if key == b"cookie" else b", "
        made.fields[key] = made.fields[key] + glue + data if key in made.fields else data
    path, mark, _ = handler.path.partition("?")
    made.path, made.query = _raw(path), _raw(query) if mark else None
    made.host = made.fields.get(b"host", b"").rpartition(b"]")[2].partition(b":")[0]
    if made.fields.get(b"host", b"").startswith(b"["):
        made.host = made.fields[b"host"].partition(b"]")[0] + b"]"
    return made


def _facts(handler: Any, script: str, file: str, rest: str, length: int | None) -> meta.Facts:
    server = handler.server
    client = handler.client_address if isinstance(handler.client_address, tuple) else ("", 0)
    root = os.fsencode(handler.translate_path("/"))
    return meta.Facts(
        _native(script), _native(rest), os.fsencode(file), root,
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
           length: int | None) -> run_process.Process:  # fmt: skip
    request = _request(handler, query)
    environment = meta.variables(request, _facts(handler, script, file, rest, length))
    # As http.server has it: always there, and joined without blanks.
    environment[b"HTTP_ACCEPT"] = ",".join(handler.headers.get_all("Accept", ())).encode("latin-1", "replace")
    environment[b"PATH"] = os.environb.get(b"PATH", os.defpath.encode())
    if any(b"\0" in value for value in environment.values()):
        raise Failed(400, "the request has NUL in it")
    command: list[bytes] = [os.fsencode(file), *meta.words(request.method, request.query)]
    if not handler.have_fork and handler.is_python(file):
        command[:0] = [os.fsencode(sys.executable), b"-u"]
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        try:
            nobody = privileges.script_identity("")
        except privileges.PrivilegeError as error:
            raise Failed(500, f"it would run as root: {error}") from None
        who = {"user": nobody.uid, "group": nobody.gid, "extra_groups": []}
    try:
        return run_process.start(command, environment, os.path.dirname(file) or "/", body, who)
    except OSError as error:
        raise Failed(500, explain(error, os.fsencode(file))) from None
    except run_process.Ending as error:
        raise Failed(503, str(error)) from None


class _Run:
    """One process, to the end of its answer."""

    def __init__(self, handler: Any, script: str, process: run_process.Process) -> None:
        self._handler = handler
        self._script = script
        self._process = process
        assert process.stdout is not None
        self._out = process.stdout  # closed when it is
        self._stderr = Stderr()
        self._reader = HeadReader(_HEAD)
        self._nph = is_nph(script.rpartition("/")[2].encode("latin-1", "replace"))
        self._beginning: bytes | None = b""  # of an answer that says its status by itself; None: it is logged
        self._left: int | None = None  # bytes of the body that were promised
        self._chunks: Chunks | None = None
        self._complete = False  # the client has all of the answer
        self._behind = 0  # bytes that came behind it
        self._local = b""
        self._until: float | None = None  # when it was silent for too long
        self._over_at: float | None = None  # when nobody waits any more for those whom it has left behind

    def answer(self) -> None:
        """Pass the answer on.  Raises Failed."""
        try:
            self._pump()
        except OSError:  # the client is gone
            run_process.end(self._process)
            self._handler.close_connection = True
            return
        finally:
            for line in self._stderr.end():
                self._log(line)
            if self._nph and self._handler._cgi_begun:
                self._log_status(b"", is_all=True)
        if self._local:
            run_process.end(self._process)
            self._redirect(self._local)
            return
        if not self._handler._cgi_begun:
            how = f"; it begins with {self._reader.first_line}" if self._reader.begun else ""
            raise Failed(502, f"its output ends within the head{how}" if how else "it wrote nothing")
        if self._left:
            raise Failed(502, f"it sent {self._left} bytes less than its Content-Length")
        if self._chunks is not None and not self._chunks.done and not self._complete:
            raise Failed(502, "its last chunk did not come")

    def _pump(self) -> None:
        out, err = self._out, self._process.stderr
        assert err is not None
        self._rewind()
        with selectors.DefaultSelector() as selector:
            selector.register(out, selectors.EVENT_READ)
            selector.register(err, selectors.EVENT_READ)
            pause = _LOOK
            while not self._local and not self._is_over():
                for key, _ in selector.select(pause):
                    pipe: Any = key.fileobj
                    data = os.read(key.fd, _READ)
                    if not data:
                        selector.unregister(pipe)
                        pipe.close()
                        pause = _SOON  # most end with it
                    elif pipe is err:
                        self._complain(data)
                    elif self._complete:  # dropped; one that goes on for too long gets SIGPIPE
                        self._behind += len(data)
                        if self._behind > _BEHIND:
                            selector.unregister(pipe)
                            pipe.close()
                    else:
                        self._rewind()
                        self._take(data)
                pause = min(2 * pause, _LOOK)
            if not err.closed and any(key.fileobj is err for key, _ in selector.select(0)):
                self._complain(os.read(err.fileno(), _READ))  # its last words

    def _rewind(self) -> None:
        """It has written something, or has begun."""
        limit = self._handler.cgi_timeout
        self._until = None if limit is None else time.monotonic() + limit

    def _is_over(self) -> bool:
        """Whether nothing more is to be waited for.  Raises Failed when it was silent for too long."""
        now = time.monotonic()
        if self._over_at is None and run_process.has_ended(self._process):
            self._over_at = now + _GRACE
        if self._over_at is not None and (self._out.closed or now >= self._over_at):
            return True  # whoever still holds its output was left behind by it
        if self._until is None or now < self._until:
            return False
        limit = self._handler.cgi_timeout
        if not self._out.closed and not self._complete:
            raise Failed(504, f"it wrote nothing for {limit:g} s")
        what = "it closed its output" if self._out.closed else "its answer is over"
        self._handler.log_error("CGI script %s: %s, but it did not end in %g s", self._script, what, limit)
        run_process.end(self._process)
        return True

    def _take(self, data: bytes) -> None:
        if self._nph:
            self._handler._cgi_begun = True
            self._handler.close_connection = True
            self._log_status(data)
            self._handler.wfile.write(data)
            return
        if self._reader.head is None:
            try:
                if not self._reader.feed(data):
                    return
            except BadOutput as error:
                raise Failed(502, error.reason) from None
            assert self._reader.head is not None
            if self._reader.head.local:
                self._local = self._reader.head.local
                return
            self._send_head(self._reader.head)
            data = self._reader.rest
        if self._chunks is not None:
            try:
                data = self._chunks.feed(data)
            except BadOutput as error:
                raise Failed(502, error.reason) from None
        if self._left is not None:
            data = data[: self._left]
            self._left -= len(data)
        if data and self._handler.command != "HEAD":
            self._handler.wfile.write(data)
        last = self._chunks is not None and self._chunks.done
        self._complete = self._left == 0 or last or self._handler.command == "HEAD"

    def _send_head(self, head: Head) -> None:
        handler = self._handler
        self._chunks = Chunks() if head.chunked else None
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
        if handler._cgi_redirects >= _REDIRECTS:
            raise Failed(502, f"more than {_REDIRECTS} local redirects in a row")
        handler.path = target.decode("latin-1")
        handler.command = "HEAD" if handler.command == "HEAD" else "GET"
        for name in ("Content-Length", "Content-Type", "Transfer-Encoding"):
            del handler.headers[name]
        handler._cgi_redirects += 1
        try:
            getattr(handler, "do_" + handler.command)()
        finally:
            handler._cgi_redirects -= 1

    def _log_status(self, data: bytes, *, is_all: bool = False) -> None:
        """Log the request, as `send_response` does, once the status is there."""
        if self._beginning is None:
            return
        self._beginning = (self._beginning + data)[:_STATUS_END]
        if is_all or len(self._beginning) == _STATUS_END:
            found = _STATUS_LINE.match(self._beginning)
            self._handler.log_request("-" if found is None else int(found[1]))
            self._beginning = None

    def _complain(self, data: bytes) -> None:
        for line in self._stderr.feed(data):
            self._log(line)

    def _log(self, line: str) -> None:
        self._handler.log_error("CGI script %s: stderr: %s", self._script, line)
