"""`SimpleHTTPRequestHandler`: files and listings of a folder, as http.server answers, with ranges.

    translate_path -> open -> folder? redirect, index page or list_directory -> guess_type -> 304, 206, 416 or 200

Rules:

- Statuses, messages, fields and their order are http.server's; so is the HTML of a listing.
- One `open` finds out what a path is; nothing is looked at twice, so nothing can change in between.
- Only files and folders are served: a FIFO would hold its thread until somebody writes to it.
- Symbolic links are followed and dotfiles served, as in http.server.  The daemon has rules for them.
"""

from __future__ import annotations

import email.utils
import html
import io
import os
import posixpath
import re
import stat
import sys
import time
import urllib.parse
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any

from httpd.protocol.dates import parse_date
from httpd.protocol.messages import FileBody, MultiBody, Response, Validators
from httpd.protocol.narrow import narrow
from httpd.server import mounted
from httpd.server.handler import BaseHTTPRequestHandler, __version__
from httpd.server.parts import Parts, ServedFile, Slice, part_of

_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK  # does nothing to files, and does not wait in a FIFO
_FOLDER = object()
# No escapes, no query, no dots or slashes that mean something: a path that stands for itself.
_plain_path = re.compile(r"(?:/[A-Za-z0-9_-][A-Za-z0-9_.-]*)+").fullmatch


def path_in(target: str) -> str:
    """The path of a target without a query: less a fragment, and of a whole URL what is behind its host."""
    path = target.split("#", 1)[0]
    if path[:1] != "/" and path[:8].lower().startswith(("http://", "https://")):
        path = "/" + path.split("://", 1)[1].partition("/")[2]
    return path


class SimpleHTTPRequestHandler(BaseHTTPRequestHandler):
    """GET and HEAD for the files below `directory`, the current one if None.

    `extra_response_headers`, a mapping or pairs, go out with each file and listing.
    """

    server_version = "SimpleHTTP/" + __version__
    index_pages = ("index.html", "index.htm")
    default_content_type = "application/octet-stream"
    extensions_map = _encodings_map_default = {  # noqa: RUF012
        ".gz": "application/gzip",
        ".Z": "application/octet-stream",
        ".bz2": "application/x-bzip2",
        ".xz": "application/x-xz",
    }

    def __init__(
        self, *args: Any, directory: Any = None,
        extra_response_headers: Mapping[str, str] | Iterable[tuple[str, str]] | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        if directory is None:
            directory = mounted.root_for(args[0] if args else kwargs.get("request"))
        self.directory: str = os.fspath(directory)
        extra = extra_response_headers or ()
        self.extra_response_headers = tuple(extra.items() if isinstance(extra, Mapping) else extra) if extra else ()
        super().__init__(*args, **kwargs)

    def do_GET(self) -> None:  # noqa: N802
        """Send a file."""
        file = self.send_head()
        if file:
            try:
                self.copyfile(file, self.wfile)
            finally:
                file.close()

    def do_HEAD(self) -> None:  # noqa: N802
        """Send its head."""
        file = self.send_head()
        if file:
            file.close()

    def send_head(self) -> Any:
        """The part that GET and HEAD share.

        Returns a file to copy to the client and to close, or None when everything is sent.
        """
        if self._exchange is not None and mounted.follows(self, SimpleHTTPRequestHandler):
            return mounted.send_head(self, SimpleHTTPRequestHandler)
        path = self.translate_path(self.path)
        file = _open(path)
        if file is _FOLDER:
            if not self.path.split("?", 1)[0].split("#", 1)[0].endswith("/"):
                return self._redirect_to_folder()
            index = self._find_index(path)
            if index is None:
                return self.list_directory(path)
            path, file = index
        kind = self.guess_type(path)
        if file is None:
            self.send_error(HTTPStatus.NOT_FOUND, "File not found")
            return None
        try:
            found = self._send_file_head(file, kind)
        except BaseException:
            file.close()
            raise
        if found is None:
            file.close()
        return found

    def _redirect_to_folder(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.path)
        except ValueError:  # "http://[": no URL
            self.send_error(HTTPStatus.NOT_FOUND, "File not found")
            return
        location = urllib.parse.urlunsplit(parts._replace(path=parts.path + "/"))
        self.send_response(HTTPStatus.MOVED_PERMANENTLY)
        # Browsers read "\" as "/", and so "/\host" as another host.
        self.send_header("Location", location.replace("\\", "%5C"))
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _find_index(self, folder: str) -> tuple[str, Any] | None:
        """The index page of a folder, and the file, which is None for one that may not be read."""
        for name in self.index_pages:
            path = os.path.join(folder, name)
            file = _open(path)
            if file is not _FOLDER and (file is not None or os.path.isfile(path)):
                return path, file
        return None

    def _send_file_head(self, file: ServedFile, kind: str) -> ServedFile | Slice | Parts | None:
        """304, 206, 416 or 200 for an open file; None when there is nothing to copy."""
        seen = file.stat
        given = self.headers.get
        since = given("If-Modified-Since")
        if since is not None and given("If-None-Match") is None and _unchanged(since, seen.st_mtime):
            self.send_response(HTTPStatus.NOT_MODIFIED)
            self.end_headers()
            return None
        if given("Range") is not None and self.command == "GET":
            part = self._narrow(file, kind, seen)
            if part.status != HTTPStatus.OK:
                return self._send_part_head(file, part, seen)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-type", kind)
        self.send_header("Content-Length", str(seen.st_size))
        self._end_file_head(seen)
        return file

    def _end_file_head(self, seen: os.stat_result) -> None:
        self.send_header("Last-Modified", self.date_time_string(seen.st_mtime))
        self.send_header("Accept-Ranges", "bytes")
        self._send_extra_headers()
        self.end_headers()

    def _send_extra_headers(self) -> None:
        for name, value in self.extra_response_headers:
            self.send_header(name, value)

    def _narrow(self, file: ServedFile, kind: str, seen: os.stat_result) -> Response:
        """What Range makes of a 200; If-Range counts, other preconditions are none of http.server's."""
        asked = {
            name.lower().encode(): value.strip().encode("latin-1", "replace")
            for name in ("Range", "If-Range")
            if (value := self.headers.get(name)) is not None
        }
        whole = Response(
            200, [(b"Content-type", kind.encode("latin-1", "replace"))], FileBody(file.fileno(), 0, seen.st_size),
            validators=Validators(modified=int(seen.st_mtime)), ranges=True,
        )  # fmt: skip
        return narrow(asked, b"GET", whole, int(time.time()), os.urandom(16).hex().encode())

    def _send_part_head(self, file: ServedFile, part: Response, seen: os.stat_result) -> Slice | Parts | None:
        if part.status == HTTPStatus.PARTIAL_CONTENT:
            self.send_response(part.status)
        else:
            self.send_response(part.status, "Range Not Satisfiable")
        for name, value in part.fields:
            self.send_header(name.decode("latin-1"), value.decode("latin-1"))
        self.send_header("Content-Length", str(part.length))
        if part.status != HTTPStatus.PARTIAL_CONTENT:
            self.end_headers()
            return None
        self._end_file_head(seen)
        assert isinstance(part.body, FileBody | MultiBody)
        return part_of(file, part.body)

    def list_directory(self, path: str) -> Any:
        """Send the head of a listing; returns what to copy, or None when there was an error."""
        try:
            with os.scandir(path) as scan:
                entries = sorted(scan, key=lambda entry: entry.name.lower())
        except OSError:
            self.send_error(HTTPStatus.NOT_FOUND, "No permission to list directory")
            return None
        encoding = sys.getfilesystemencoding()
        page = _listing(_unquote(self.path), entries, encoding).encode(encoding, "surrogateescape")
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-type", f"text/html; charset={encoding}")
        self.send_header("Content-Length", str(len(page)))
        self._send_extra_headers()
        self.end_headers()
        return io.BytesIO(page)

    def translate_path(self, path: str) -> str:
        """The file that a path in a URL names: below `directory`, whatever it says.

        Of a whole URL, as proxies are sent it, the path counts (RFC 9112 3.2.2).
        """
        if self._exchange is not None:
            path = mounted.below(self._exchange, path)
        if _plain_path(path) and os.path is posixpath and self.directory[-1:] not in ("", "/"):
            return self.directory + path
        path = path_in(path.split("?", 1)[0])
        slash = path.rstrip().endswith("/")
        if "%" in path:
            path = _unquote(path)
        names = [name for name in posixpath.normpath(path).split("/") if name and name not in (os.curdir, os.pardir)]
        found = self.directory
        if os.path is posixpath:
            found = posixpath.join(found, *names)
        else:
            for name in names:
                if not os.path.dirname(name):  # "c:\\..", which means something else than a name there, is left out
                    found = os.path.join(found, name)
        return found + "/" if slash else found

    def copyfile(self, source: Any, outputfile: Any) -> None:
        """Copy all of one file to another."""
        if isinstance(source, ServedFile | Slice) and source.send_to(outputfile):
            return
        import shutil

        shutil.copyfileobj(source, outputfile)

    def guess_type(self, path: Any) -> str:
        """The media type for a file's name: by `extensions_map`, mimetypes, or `default_content_type`."""
        path = os.fspath(path)
        extension = posixpath.splitext(path)[1]
        known = self.extensions_map
        if extension in known:
            return known[extension]
        folded = extension.lower()
        if folded in known:
            return known[folded]
        return _guess(path, extension, folded) or self.default_content_type


def _open(path: str) -> Any:
    """The file at `path`, _FOLDER, or None for what can't be served."""
    try:
        fd = os.open(path, _READ)
    except PermissionError:  # one may well go into a folder that can't be listed
        return _FOLDER if os.path.isdir(path) else None
    except (OSError, ValueError):  # ValueError: NUL, or no name at all in the file system's encoding
        return None
    file = ServedFile(fd, path, os.fstat(fd))
    mode = stat.S_IFMT(file.stat.st_mode)
    if mode == stat.S_IFREG:
        return file
    file.close()
    return _FOLDER if mode == stat.S_IFDIR else None


def _guess(path: str, extension: str, folded: str) -> str | None:
    """The type for a name as `mimetypes` has it, which other code may have added to."""
    import mimetypes

    usual = folded not in mimetypes.suffix_map and extension not in mimetypes.encodings_map
    if usual and mimetypes.inited:  # what guess_type would come to
        return mimetypes.types_map.get(extension) or mimetypes.types_map.get(folded)
    guess: str | None = getattr(mimetypes, "guess_file_type", mimetypes.guess_type)(path)[0]
    return guess


def _unchanged(since: str, mtime: float) -> bool:
    """Whether a file was not modified after If-Modified-Since, which http.server reads as mail's dates are read."""
    seconds = parse_date(since.encode("latin-1", "replace"), int(time.time()))
    if seconds is not None:
        return mtime // 1 <= seconds
    try:
        date = email.utils.parsedate_to_datetime(since)
    except (TypeError, IndexError, OverflowError, ValueError):
        return False
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return date.tzinfo is UTC and datetime.fromtimestamp(mtime, UTC).replace(microsecond=0) <= date


def _unquote(path: str) -> str:
    try:
        return urllib.parse.unquote(path, errors="surrogatepass")
    except UnicodeDecodeError:
        return urllib.parse.unquote(path)


def _listing(shown: str, entries: list[os.DirEntry[str]], encoding: str) -> str:
    """The HTML of http.server, which tests and scripts read."""
    title = f"Directory listing for {html.escape(shown, quote=False)}"
    lines = [
        "<!DOCTYPE HTML>", '<html lang="en">', "<head>", f'<meta charset="{encoding}">',
        "<style>", ":root { color-scheme: light dark; }", "</style>", f"<title>{title}</title>", "</head>",
        "<body>", f"<h1>{title}</h1>", "<hr>", "<ul>",
    ]  # fmt: skip
    for entry in entries:
        name, link = entry.name, entry.name
        if _is_folder(entry):
            name = link = entry.name + "/"
        if entry.is_symlink():
            name = entry.name + "@"
        href = urllib.parse.quote(link, errors="surrogatepass")
        lines.append(f'<li><a href="{href}">{html.escape(name, quote=False)}</a></li>')
    lines += ["</ul>", "<hr>", "</body>", "</html>", ""]
    return "\n".join(lines)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False
