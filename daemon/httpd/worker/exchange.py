"""One exchange without I/O on the socket: a parsed request in, a complete reply out.

    site (Host) -> method known? -> path -> mount -> Response -> preconditions and Range -> error page -> Reply

Rules:

- Everything that answers is a mount with an `answer` method; this module knows no kind of mount.
- An error that a client or the file system causes is a status; only a defect of this program is a traceback in the
  error log, and the client gets 500.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from typing import Protocol

from httpd.config import schema
from httpd.content import cache, pages, paths, types
from httpd.content.sites import Site
from httpd.logs.access_log import AccessLog
from httpd.logs.errors import ErrorLog
from httpd.protocol.messages import REASONS, Body, FieldList, FileBody, MultiBody, Request, Response
from httpd.protocol.narrow import file_of, narrow

# Methods of RFC 9110 and RFC 5789.  Another one is 501; one that a mount does not want is 405 (RFC 9110 15.5.6).
KNOWN_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"CONNECT", b"OPTIONS", b"TRACE", b"PATCH"))
_ALLOWED_EVERYWHERE = (b"Allow", b"GET, HEAD, OPTIONS")
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)
# Configured fields that speak of the content and not of the site: an error page must not be kept like a file.
_FOR_CONTENT = frozenset(
    ("cache-control", "expires", "vary", "content-language", "content-disposition", "content-encoding")
)
_ERROR_PAGE_LIMIT = 1024 * 1024  # bytes

Part = bytes | memoryview | FileBody


# With one of these an answer is not simply sent.
NARROWING = frozenset((b"range", b"if-match", b"if-none-match", b"if-modified-since", b"if-unmodified-since"))


class Mount(Protocol):
    """What every kind of mount offers."""

    prefix: bytes
    settings: schema.Settings
    log: AccessLog | None

    def answer(
        self, request: Request, path: bytes, wall: float, now: float
    ) -> tuple[Response, cache.Entry | None]: ...

    def load(self, path: bytes, wall: float, now: float) -> cache.Entry | None: ...


class RefusingMount(Mount, Protocol):
    """A mount in whose place the server answers now and then."""

    def refusal(self, status: int) -> Response: ...


@dataclass(slots=True)
class Reply:
    """What goes out: status, fields without those of the connection, the body in parts, and who logs it.

    `rest` is the rest of the head behind the preamble, if it has been made already.
    """

    status: int
    fields: FieldList
    parts: list[Part] = field(default_factory=list)
    length: int = 0
    close: bool = False
    log: AccessLog | None = None
    rest: bytes = b""


_Answer = tuple[Mount | None, Response, cache.Entry | None]


class Responder:
    """Answers requests with the sites of one worker."""

    def __init__(self, files: cache.FileCache, errors: ErrorLog) -> None:
        self._files = files
        self._errors = errors

    def known(self, site: Site[Mount], request: Request, now: float) -> cache.Entry | None:
        """The entry that may answer `request`, if its file has not changed."""
        entry = site.files.get(request.path)
        return entry if entry is not None and request.method in entry.methods and entry.fresh(now) else None

    def load(self, site: Site[Mount], raw: bytes, wall: float, now: float) -> cache.Entry | None:
        """A new entry for the path `raw`, as sent; None: `respond` knows more."""
        try:
            path = paths.normalize(paths.decode(raw))
        except paths.PathError:
            return None
        mount = site.route(path)
        entry = None if mount is None else mount.load(path, wall, now)
        if entry is not None:
            self._files.add(site.files, raw, entry)
        return entry

    def respond(
        self, site: Site[Mount], request: Request, wall: float, now: float, entry: cache.Entry | None = None
    ) -> Reply:
        """The reply to `request`.  `wall` is seconds since the epoch, `now` monotonic seconds.

        `entry` is what `known` said of it just now.
        """
        settings, log = site.settings, site.log
        response: Response | None = None
        made: cache.Entry | None = None
        try:
            if entry is not None:
                response = _from_entry(entry)
                settings, log = entry.settings, entry.log
            if response is None:
                mount, response, made = self._answer(site, request, wall, now)
                if mount is not None:
                    settings, log = mount.settings, mount.log
        except paths.PathError as error:
            response = Response(error.status, close=True)
        except OSError as error:
            response = self._failed(request, error)
        if not NARROWING.isdisjoint(request.fields):
            response, made = self._narrow(request, response, wall), None
        if response.status >= 400 and not response.length:
            self.add_page(response, settings)
        reply = self._reply(request, response, log)
        if made is not None:
            reply.rest = made.tail[: made.head]
        return reply

    def refuse(self, mount: RefusingMount, status: int, *, head_only: bool = False) -> Reply:
        """The server's own answer in the place of a mount's: 405, 500 or 503, with the mount's error page."""
        response = mount.refusal(status)
        self.add_page(response, mount.settings)
        return self._reply_to(response, mount.log, head_only=head_only)

    def _answer(self, site: Site[Mount], request: Request, wall: float, now: float) -> _Answer:
        if request.method not in KNOWN_METHODS:
            return None, Response(501), None
        if request.path == b"*":  # RFC 9110 9.3.7: the server as a whole
            return None, Response(200, [_ALLOWED_EVERYWHERE]), None
        if not request.path:  # CONNECT: what follows may be another protocol
            return None, Response(405, [_ALLOWED_EVERYWHERE], close=True), None
        path = paths.normalize(paths.decode(request.path))
        mount = site.route(path)
        if mount is None:
            return None, Response(404), None
        response, entry = mount.answer(request, path, wall, now)
        if entry is not None:
            self._files.add(site.files, request.path, entry)
        return mount, response, entry

    def _failed(self, request: Request, error: OSError) -> Response:
        status = 503 if error.errno in _NO_ROOM else 500
        log = self._errors.limited(f"answer {error.errno}", 10)
        log.error("cannot answer", target=request.target, error=str(error))
        return Response(status, [(b"Retry-After", b"1")] if status == 503 else [])

    def _narrow(self, request: Request, response: Response, wall: float) -> Response:
        boundary = os.urandom(12).hex().encode() if b"range" in request.fields else b""
        narrowed = narrow(request.fields, request.method, response, int(wall), boundary)
        fd = file_of(response.body)
        if fd is not None and file_of(narrowed.body) != fd:
            os.close(fd)
        return narrowed

    def add_page(self, response: Response, settings: schema.Settings) -> None:
        known = {name.lower() for name, _ in response.fields}
        response.fields += [
            (name.encode(), value.encode("latin-1")) for name, value in settings.headers.items()
            if name.lower() not in _FOR_CONTENT and name.lower().encode() not in known
        ]  # fmt: skip
        code = str(response.status)
        for key in (code, code[0] + "xx"):
            file = settings.error_pages.get(key)
            if file is None:
                continue
            try:
                response.body = _read_page(file)
            except OSError as error:
                self._errors.limited(file, 60).warning("cannot read error page", error=str(error))
                continue
            name = os.fsencode(os.path.basename(file))
            response.fields.append((b"Content-Type", types.media_type(name, settings.types, settings.charset)))
            return
        reason = REASONS.get(response.status, b"").decode()
        response.body = pages.error_page(response.status, reason, "")
        response.fields.append((b"Content-Type", b"text/html; charset=utf-8"))

    def _reply(self, request: Request, response: Response, log: AccessLog | None) -> Reply:
        return self._reply_to(response, log, head_only=request.method == b"HEAD")

    def _reply_to(self, response: Response, log: AccessLog | None, *, head_only: bool) -> Reply:
        reply = Reply(response.status, response.fields, close=response.close, log=log)
        body = response.body
        parts = body.parts if isinstance(body, MultiBody) else [body]
        reply.length = sum(len(part) if isinstance(part, bytes) else part.length for part in parts)
        if head_only or response.status in (204, 304):
            drop(body)
        else:
            reply.parts = [part for part in parts if part]
        return reply


def _from_entry(entry: cache.Entry) -> Response | None:
    """The whole file of a fresh cache entry; None when it changed in this very moment."""
    body: Body = entry.tail[entry.head :]
    if not entry.small:
        fd = entry.open()
        if fd < 0:
            return None
        body = FileBody(fd, 0, entry.body)
    return Response(200, list(entry.fields), body, entry.validators, ranges=True)


def refusal(status: int, head_only: bool, log: AccessLog | None) -> Reply:
    """The reply to something that is not a request: always the end of the connection."""
    page = pages.error_page(status, REASONS.get(status, b"").decode(), "")
    fields = [(b"Content-Type", b"text/html; charset=utf-8")]
    return Reply(status, fields, [] if head_only else [page], len(page), close=True, log=log)


def drop(body: Body) -> None:
    """Close the file behind a body that will not be sent."""
    fd = file_of(body)
    if fd is not None:
        os.close(fd)


def _read_page(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_ERROR_PAGE_LIMIT)
