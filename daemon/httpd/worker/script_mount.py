"""A mount of scripts (`[[vhost.cgi]]`) in a worker: what its connections and its site ask of it.

Rules:

- What is no script is answered here like any file: found, not found, a folder without its slash.  A file whose name is
  that of a script is never sent, whatever happens to it between two looks.
- Scripts run elsewhere; see `worker.runs`.
"""

from __future__ import annotations

import os

import msgspec

from httpd.cgi.lookup import Elsewhere, Found, Lookup
from httpd.cgi.stderr import Allowance
from httpd.config import schema
from httpd.content import paths
from httpd.content.cache import Entry
from httpd.content.static import DirectoryMount, moved
from httpd.logs.access_log import AccessLog
from httpd.logs.errors import ErrorLog
from httpd.protocol.messages import Request, Response
from httpd.worker.calls import CallMount

RETRY_AFTER = b"2"  # seconds
_KEPT = 1.0  # seconds
_PATHS = 1000


class ScriptMount(CallMount):
    """One in each worker."""

    noun = "a script"
    body_alone = True

    def __init__(self, mount: schema.Cgi, log: AccessLog | None, errors: ErrorLog | None = None) -> None:
        """`errors` is told why a path is forbidden."""
        self._errors = errors
        self.lookup = Lookup(mount)
        super().__init__(mount.key, self.lookup.prefix, mount.settings, log)
        self.plain = False
        self.mount = mount
        self.allowance = Allowance()
        self._known: dict[bytes, tuple[Found, float]] = {}  # by path as sent, and until when
        self.files = self._files(log) if self.lookup.mixed else None

    def _files(self, log: AccessLog | None) -> DirectoryMount:
        mount = self.mount
        names = tuple(name for name in mount.settings.index if not self.lookup.is_script(os.fsencode(name)))
        settings = msgspec.structs.replace(mount.settings, index=names)
        return DirectoryMount(schema.Directory(mount.path, mount.key, settings, mount.root), log)

    @property
    def full(self) -> bool:
        """How many may run is counted where they run."""
        return False

    def script_for(self, request: Request, now: float) -> Found | None:
        """The script that a request is for at `now` (monotonic seconds); None: `answer` knows what it is.

        One that was found is so for `_KEPT` seconds: whether it is still there is looked at where it is run.
        """
        known = self._known.get(request.path)
        if known is not None and now < known[1]:
            return known[0]
        try:
            found = self.lookup.find(paths.normalize(paths.decode(request.path)))
        except (OSError, paths.PathError):
            return None
        if not isinstance(found, Found):
            return None
        if len(self._known) >= _PATHS:
            self._known.clear()
        self._known[request.path] = (found, now + _KEPT)
        return found

    def answer(self, request: Request, path: bytes, wall: float, now: float) -> tuple[Response, Entry | None]:
        """The answer for what is no script."""
        if self.refuses(request.method):
            return self.refusal(405), None
        try:
            found = self.lookup.find(path)
        except FileNotFoundError:
            return Response(404), None
        except PermissionError as error:
            self._explain(request, error)
            return Response(403), None
        if found is Elsewhere.SLASH:
            location = paths.quote(path) + b"/"
            if request.query is not None:
                location += b"?" + request.query
            return moved(301, location, ()), None
        if self.files is None or self._names_script(path):
            return Response(404), None
        return self.files.answer(request, path, wall, now)

    def _explain(self, request: Request, error: PermissionError) -> None:
        if self._errors is not None:
            text = error.strerror  # of the system; otherwise it is the lookup that says why
            reason = f"the workers' user may not look at it: {text}" if text else str(error)
            self._errors.limited(f"forbidden {self.key}", 1).notice(
                "no script is run", mount=self.key, request=request.line, status=403, reason=reason
            )

    def load(self, path: bytes, wall: float, now: float) -> Entry | None:
        """An entry for the cache, of a file beside the scripts."""
        if self.files is None or self.refuses(b"GET") or self._names_script(path):
            return None
        return self.files.load(path, wall, now)

    def _names_script(self, path: bytes) -> bool:
        return self.lookup.is_script(path[len(self.prefix) :].rpartition(b"/")[2])

    def refusal(self, status: int) -> Response:
        if status == 503:
            return Response(503, [(b"Retry-After", RETRY_AFTER)])
        return super().refusal(status)
