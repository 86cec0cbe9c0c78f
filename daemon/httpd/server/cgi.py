"""`CGIHTTPRequestHandler`: which requests are for scripts, and whether there is a script to run.

The class is gone from Python 3.15; this one stays.  Running a script is another module's business: `run_cgi`.
"""

from __future__ import annotations

import os
import urllib.parse
from http import HTTPStatus
from typing import Any

from httpd.content import paths
from httpd.server import mounted
from httpd.server.simple import SimpleHTTPRequestHandler, path_in

nobody: int | None = None


class CGIHTTPRequestHandler(SimpleHTTPRequestHandler):
    """Serves files, and runs the scripts in `cgi_directories`.  POST is for scripts only."""

    cgi_directories = ["/cgi-bin", "/htbin"]  # noqa: RUF012 - appended to at run time by some
    have_fork = hasattr(os, "fork")
    rbufsize = 0
    cgi_timeout: float | None = 60.0  # seconds that a script may write nothing; None: as long as it likes

    cgi_info: tuple[str, str]
    _cgi_begun = False  # there is something of the answer
    _cgi_redirects = 0  # local ones, that this answer comes of

    def do_POST(self) -> None:  # noqa: N802
        """Run a script."""
        found = self._is_for_script()
        if found:
            self.run_cgi()
        elif found is not None:
            self.send_error(HTTPStatus.NOT_IMPLEMENTED, "Can only POST to CGI scripts")

    def send_head(self) -> Any:
        """Run a script, or go on as with any file."""
        found = self._is_for_script()
        if found:
            return self.run_cgi()
        if found is None:
            return None
        if type(self).is_cgi is CGIHTTPRequestHandler.is_cgi and self._leads_to_scripts():
            self.send_error(HTTPStatus.NOT_FOUND, "File not found")
            return None
        return SimpleHTTPRequestHandler.send_head(self)

    def _leads_to_scripts(self) -> bool:
        """Whether a path that is no script's means a file among them all the same: their source is never sent."""
        file = self.translate_path(self.path)
        if any(file.startswith(self._file_of(folder) + "/") for folder in self.cgi_directories):
            return True
        if self._exchange is None or self._exchange.mount.directory is None:
            return False
        try:
            path = mounted.decoded_below(self._exchange, self.path)
        except paths.PathError:  # which will be the answer
            return False
        return any(path.startswith(folder + "/") for folder in self.cgi_directories)

    def _is_for_script(self) -> bool | None:
        """`is_cgi`; None if that can't be said: an error was sent."""
        try:
            return self.is_cgi()
        except IndexError:
            self.send_error(HTTPStatus.BAD_REQUEST, "The path climbs above the root")
            return None

    def is_cgi(self) -> bool:
        """Whether the path leads into one of `cgi_directories`; if so, sets `cgi_info` to (directory, rest).

        Raises IndexError for a path that climbs above the root.
        """
        path, mark, query = self.path.partition("?")
        path = _url_collapse_path(path_in(path) + mark + query)
        end = path.find("/", 1)
        while end > 0:
            if path[:end] in self.cgi_directories:
                self.cgi_info = path[:end], path[end + 1 :]
                return True
            end = path.find("/", end + 1)
        return False

    def is_executable(self, path: str) -> bool:
        """Whether a file may be executed."""
        return executable(path)

    def is_python(self, path: str) -> bool:
        """Whether a name is that of a Python script."""
        return os.path.splitext(path)[1].lower() in (".py", ".pyw")

    def run_cgi(self) -> None:
        """Find the script that `cgi_info` means, and run it."""
        script, rest, query = self._find_script()
        file = self._file_of(script)
        # With !a, as a status line has no room for what is not latin-1.
        if not os.path.exists(file):
            self.send_error(HTTPStatus.NOT_FOUND, f"No such CGI script ({script!a})")
        elif not os.path.isfile(file):
            self.send_error(HTTPStatus.FORBIDDEN, f"CGI script is not a plain file ({script!a})")
        elif (self.have_fork or not self.is_python(script)) and not self.is_executable(file):
            self.send_error(HTTPStatus.FORBIDDEN, f"CGI script is not executable ({script!a})")
        else:
            from httpd.server.run_cgi import run_script  # of no use to those who serve files

            run_script(self, script, file, rest, query)

    def _file_of(self, path: str) -> str:
        """The file of a path that is decoded already: what `translate_path` would decode again is escaped from it."""
        return self.translate_path(path.replace("%", "%25").replace("?", "%3F").replace("#", "%23"))

    def _find_script(self) -> tuple[str, str, str]:
        """The path of the script in the URL, what follows it (PATH_INFO), and the query."""
        directory, rest = self.cgi_info
        path, query = self._parted(directory + "/" + rest)
        rest = path[len(directory) + 1 :]
        end = path.find("/", len(directory) + 1)
        while end >= 0 and os.path.isdir(self._file_of(path[:end])):
            directory, rest = path[:end], path[end + 1 :]
            end = path.find("/", end + 1)
        name, slash, info = rest.partition("/")
        return directory + "/" + name, slash + info, query

    def _parted(self, path: str) -> tuple[str, str]:
        """The path and the query of what `is_cgi` has found, where a "?" may also come of a %3F in the path."""
        query = self.path.partition("?")[2]
        if query and path.endswith("?" + query):
            return path.removesuffix("?" + query), query
        if "%3f" in self.path.lower():
            return path, ""
        path, _, query = path.partition("?")  # an `is_cgi` of a subclass may have found anything
        return path, query


def _url_collapse_path(path: str) -> str:
    """A URL path, decoded (to a name of the file system's), without empty and dot segments; the query stays.

    It always begins with "/", and the last segment, which may be empty, is set off by one more.  Raises IndexError for
    a path that climbs above the root.
    """
    path, _, query = path.partition("?")
    *parents, last = urllib.parse.unquote(path, errors="surrogateescape").split("/")
    kept: list[str] = []
    for segment in (*parents, last):
        if segment == "..":
            kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    tail = kept.pop() if last not in ("", ".", "..") else ""
    if query:
        tail += "?" + query
    return "/" + "/".join(kept) + "/" + tail


def nobody_uid() -> int:
    """The number of the user nobody, -1 where there are no users."""
    global nobody  # noqa: PLW0603 - http.server has it there
    if nobody:
        return nobody
    try:
        import pwd
    except ImportError:
        return -1
    try:
        nobody = pwd.getpwnam("nobody").pw_uid
    except KeyError:
        nobody = 1 + max(entry.pw_uid for entry in pwd.getpwall())
    return nobody


def executable(path: str) -> bool:
    """Whether a file may be executed."""
    return os.access(path, os.X_OK)
