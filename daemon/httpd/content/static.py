"""A directory mount: path in, `Response` out.  `DirectoryMount.answer` reads from top to bottom:

    method -> dotfiles -> open inside the root -> folder (slash, index, listing) or file -> Response with validators

Rules:

- Preconditions and Range are nobody's business here: a file is a 200 with validators, `protocol.narrow` does the rest.
- The type of a file never depends on the machine, its ETag (mtime and size) never on the host that serves it.
- An error is a Response with a status and no body; whoever sends it adds the page.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from httpd.config import schema
from httpd.content import cache, listing, pages, paths, types
from httpd.content.files import Opened, Root
from httpd.content.sites import prefix_of
from httpd.logs.access_log import AccessLog
from httpd.protocol.dates import format_date
from httpd.protocol.messages import FileBody, Request, Response, Validators
from httpd.protocol.writer import rest_of_head

METHODS = (b"GET", b"HEAD", b"OPTIONS")
_HTML = (b"Content-Type", b"text/html; charset=utf-8")


class DirectoryMount:
    """Serves the files below one folder.  One object per mount and worker."""

    def __init__(self, mount: schema.Directory, log: AccessLog | None) -> None:
        self.mount = mount
        self.log = log
        self.settings = settings = mount.settings
        self.prefix = prefix_of(mount.path)
        self.methods = tuple(m for m in METHODS if not settings.methods or m.decode() in settings.methods)
        self.headers = [(name.encode(), value.encode("latin-1")) for name, value in settings.headers.items()]
        self._index = [name.encode("utf-8", "surrogateescape") for name in settings.index]
        self._path = os.fsencode(mount.root)
        self._entered: Root | None = None
        self.obstacle = ""  # why the folder can't be entered, if so
        try:
            self._root()
        except OSError as error:
            self.obstacle = error.strerror or str(error)

    def answer(self, request: Request, path: bytes, wall: float, now: float) -> tuple[Response, cache.Entry | None]:
        """The response for a normalized `path`, and an entry for the cache where one may be kept.

        `wall` is seconds since the epoch, `now` monotonic seconds.
        """
        if request.method not in self.methods:
            return Response(405, [(b"Allow", b", ".join(self.methods))]), None
        if not self.settings.dotfiles and paths.has_dotfile(path):
            return Response(404), None
        if request.method == b"OPTIONS":
            return Response(200, [(b"Allow", b", ".join(self.methods)), *self.headers]), None
        relative = path[len(self.prefix) :].lstrip(b"/")
        try:
            opened = self._root().open(relative)
            if opened.kind == "directory":
                return self._folder(request, path, relative, opened, wall, now)
        except OSError as error:
            return Response(_status(error)), None
        return self._file(relative, opened, wall, now)

    def load(self, path: bytes, wall: float, now: float) -> cache.Entry | None:
        """An entry for a normalized `path`, if it is a file that may be kept and sent; else `answer` knows why not."""
        if not self.settings.dotfiles and paths.has_dotfile(path):
            return None
        relative = path[len(self.prefix) :].lstrip(b"/")
        try:
            opened = self._root().open(relative)
            if opened.kind == "directory":
                os.close(opened.fd)
                return None
            response, entry = self._file(relative, opened, wall, now)
        except OSError:
            return None
        if isinstance(response.body, FileBody):
            os.close(response.body.fd)
        return entry

    def _root(self) -> Root:
        """The folder; one that is missing is looked for at every request: it may come back, and others must serve."""
        if self._entered is None:
            self._entered = Root(self._path, self.settings.symlinks)
        return self._entered

    def _folder(self, request: Request, path: bytes, relative: bytes, folder: Opened, wall: float, now: float
                ) -> tuple[Response, cache.Entry | None]:  # fmt: skip
        try:
            if not path.endswith(b"/"):
                location = paths.quote(path) + b"/"
                if request.query is not None:
                    location += b"?" + request.query
                return moved(301, location, self.headers), None
            for position, name in enumerate(self._index):
                try:
                    opened = self._root().open(relative + name)
                except OSError as error:
                    if _status(error) == 404:
                        continue
                    raise
                if opened.kind == "file":
                    response, entry = self._file(relative + name, opened, wall, now)
                    # A later index name is right only while the earlier ones are missing: not known without a look.
                    return response, entry if position == 0 else None
                os.close(opened.fd)
            if not self.settings.listing:
                return Response(403), None
            found = listing.entries(folder.fd, dotfiles=self.settings.dotfiles, root=self._root(), relative=relative)
            page = pages.listing_page(path, found)
            return Response(200, [_HTML, *self.headers], page, Validators()), None
        finally:
            os.close(folder.fd)

    def _file(self, relative: bytes, opened: Opened, wall: float, now: float) -> tuple[Response, cache.Entry | None]:
        stat = opened.stat
        modified = max(0, min(int(stat.st_mtime), int(wall)))  # RFC 9110 8.8.2.1: never later than the Date
        validators = Validators(b'"%x-%x"' % (stat.st_mtime_ns, stat.st_size), modified)
        fields = self._fields(relative, validators)
        response = Response(200, fields, validators=validators, ranges=True)
        if stat.st_size > cache.SMALL:
            response.body = FileBody(opened.fd, 0, stat.st_size)
        else:
            try:
                response.body = _read(opened.fd, stat.st_size)
            finally:
                os.close(opened.fd)
        if not cache.settled(stat, wall) or response.length != stat.st_size:
            return response, None
        return response, self._entry(relative, stat, response, now)

    def _fields(self, relative: bytes, validators: Validators) -> list[tuple[bytes, bytes]]:
        settings = self.settings
        assert validators.modified is not None
        return [
            (b"Content-Type", types.media_type(relative.rpartition(b"/")[2], settings.types, settings.charset)),
            (b"Last-Modified", format_date(validators.modified)),
            (b"ETag", validators.etag),
            (b"Accept-Ranges", b"bytes"),
            *self.headers,
        ]

    def _entry(self, relative: bytes, stat: os.stat_result, response: Response, now: float) -> cache.Entry:
        entry = cache.Entry(self._path + b"/" + relative, stat, now)
        entry.fields = response.fields
        entry.settings, entry.log = self.settings, self.log
        entry.root, entry.relative = self._root(), relative
        entry.methods = tuple(method for method in self.methods if method in (b"GET", b"HEAD"))
        assert response.validators is not None
        entry.validators = response.validators
        entry.tail = rest_of_head(200, response.fields, stat.st_size)
        entry.head = len(entry.tail)
        entry.plain = b"GET" in entry.methods and (self.log is None or self.log.in_pieces)
        entry.figures = entry.figures_for(200, stat.st_size)
        if isinstance(response.body, bytes):
            entry.small = True
            entry.tail += response.body
        return entry


class RedirectMount:
    """Sends a path and everything below it elsewhere, keeping the rest of the path and the query."""

    def __init__(self, mount: schema.Redirect, log: AccessLog | None) -> None:
        self.mount = mount
        self.log = log
        self.settings = mount.settings
        self.prefix = prefix_of(mount.path)
        self.headers = [(name.encode(), value.encode("latin-1")) for name, value in mount.settings.headers.items()]

    def load(self, path: bytes, wall: float, now: float) -> None:
        """There is nothing to keep."""

    def answer(self, request: Request, path: bytes, wall: float, now: float) -> tuple[Response, None]:
        """The redirect for a normalized `path`."""
        methods = self.settings.methods
        if methods and request.method.decode() not in methods:
            return Response(405, [(b"Allow", ", ".join(methods).encode())]), None
        rest = path[len(self.prefix) :]
        location = paths.join_redirect(self.mount.to, rest, request.query)
        return moved(self.mount.status, location, self.headers), None


def moved(status: int, location: bytes, headers: Sequence[tuple[bytes, bytes]]) -> Response:
    """A redirect with the short page that RFC 9110 15.4 asks for."""
    return Response(status, [(b"Location", location), _HTML, *headers], pages.redirect_page(location))


def _status(error: OSError) -> int:
    if isinstance(error, PermissionError):
        return 403
    if isinstance(error, FileNotFoundError):
        return 404
    raise error


def _read(fd: int, size: int) -> bytes:
    """The whole of a small file; less when it shrank meanwhile, never more than `size`."""
    data = os.read(fd, size) if size else b""
    while 0 < len(data) < size and (more := os.read(fd, size - len(data))):
        data += more
    return data
