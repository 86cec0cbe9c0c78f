"""Mounts of one worker: those that the loop answers by itself, and those for which it has to host a user's code.

Rules:

- Nothing of what follows happens in a worker without handlers: no thread, no import of http.server, no other switch
  interval.  Scripts (`[[vhost.cgi]]`) are no handlers: they run elsewhere, and the loop moves their bytes.
- A user's code is loaded after the fork, so that a reload runs what stands in the files then.
- What it prints goes to the error log, line by line; the access log has the requests already.
"""

from __future__ import annotations

import importlib
import io
import socket
import sys
import threading
from collections.abc import Callable
from typing import Any

from httpd.config import schema
from httpd.content.sites import build
from httpd.content.static import DirectoryMount, RedirectMount
from httpd.logs.access_log import AccessLog
from httpd.logs.errors import ErrorLog
from httpd.system import signals
from httpd.system.poller import make_poller
from httpd.worker.context import Context
from httpd.worker.exchange import Mount
from httpd.worker.imports import LoadError, extend_path

_NEEDED = (
    "httpd.server", "httpd.server.command", "httpd.server.run_cgi", "httpd.system.tls", "httpd.worker.handlers",
    "httpd.worker.dispatch", "httpd.worker.script", "runpy", "importlib.util", "pkgutil", "mimetypes", "shutil",
    "email.parser", "encodings.idna", "json", "urllib.request",
)  # fmt: skip

MakeMount = Callable[[Any, AccessLog | None], Mount]


class Hosting:
    """Makes the mounts, and what their handlers need, when the first of them is met."""

    def __init__(self, context: Context, config: schema.Config,
                 listeners: list[tuple[schema.Address, list[socket.socket]]],
                 scripts: Callable[[], object] = lambda: None) -> None:  # fmt: skip
        """`scripts` is called when there are some to be run."""
        self._context = context
        self._scripts = scripts
        self._config = config
        self._listeners = listeners
        self._host: Any = None
        self.problems: list[str] = []
        self._reasons: set[str] = set()
        self.kinds: dict[type[schema.Mount], MakeMount] = {
            schema.Directory: self._directory,
            schema.Redirect: RedirectMount,
            schema.Cgi: self._cgi,
            schema.Handler: self._handler,
        }

    def check(self) -> None:
        """Raises LoadError with every problem that making the mounts has met."""
        if self.problems:
            raise LoadError("", "\n".join(self.problems))

    def _directory(self, mount: schema.Directory, log: AccessLog | None) -> Mount:
        made = DirectoryMount(mount, log)
        if made.obstacle:  # it was there when the configuration was checked; one site must not stop the others
            self._context.errors.error("folder is gone: its requests fail", mount=mount.key, root=mount.root,
                                       reason=made.obstacle)  # fmt: skip
        return self._handler(mount, log, made) if mount.handler else made

    def _cgi(self, mount: schema.Cgi, log: AccessLog | None) -> Mount:
        from httpd.worker.script_mount import ScriptMount

        self._scripts()
        return ScriptMount(mount, log, self._context.errors)

    def _handler(
        self, mount: schema.Handler | schema.Directory, log: AccessLog | None, files: DirectoryMount | None = None
    ) -> Mount:
        from httpd.worker.handlers import HandlerMount

        server = self._config.server
        try:
            made = HandlerMount(mount, log, self._begin(), server.threads, self._config.limits.queue, files,
                                self._context.responder.add_page)  # fmt: skip
        except LoadError as error:
            if error.reason not in self._reasons:  # a module that is broken is so for all that name it
                self._reasons.add(error.reason)
                self.problems.append(str(error))
            return files or RedirectMount(schema.Redirect(mount.path, mount.key, mount.settings, "/"), log)
        return files if files is not None and made.stock else made

    def _begin(self) -> Any:
        """Get ready for the first handler."""
        if self._host is None:
            from httpd.server import adopted
            from httpd.worker.dispatch import Dispatch
            from httpd.worker.handlers import ServerHost

            host_user_code(self._context.errors)
            config, errors = self._config, self._context.errors
            self._context.dispatch = Dispatch(self._context, config.server.threads, config.timeouts.handler)
            addresses = [address_of(address, sockets) for address, sockets in self._listeners]
            self._host = ServerHost(addresses, lambda what: errors.limited(f"refused {what}", 10).warning(
                f"a handler called {what}(): refused, the server belongs to all sites"))  # fmt: skip
            adopted.install(self._host)
            for vhost in config.vhosts:
                for mount in vhost.mounts:
                    extend_path(getattr(mount, "pythonpath", ()))
        return self._host


def try_mounts(config: schema.Config) -> list[str]:
    """What is wrong with the handlers of a configuration; for a process that ends afterwards."""
    errors = ErrorLog(lambda line: None, "error", "check")
    context = Context(config, make_poller(), errors, lambda: None)
    listeners: list[tuple[schema.Address, list[socket.socket]]] = [(address, []) for address in config.server.listen]
    hosting = Hosting(context, config, listeners)
    build(config, hosting.kinds, lambda settings: None)
    return hosting.problems


def address_of(address: schema.Address, sockets: list[socket.socket]) -> tuple[Any, ...]:
    """The address of a listener as a server object has it: a pair at least."""
    if not sockets:
        return (address.host, address.port)
    name = sockets[0].getsockname()
    return name if isinstance(name, tuple) else (name, 0)


def hosts_code(config: schema.Config) -> bool:
    """Whether workers by this configuration run code of its users."""
    return config.script is not None or any(
        isinstance(mount, schema.Handler) or (isinstance(mount, schema.Directory) and mount.handler)
        for vhost in config.vhosts for mount in vhost.mounts
    )  # fmt: skip


def preload(config: schema.Config) -> None:
    """Import what workers will need for their users' code, before the fork: they share it, and their user may not be
    able to read it where Python is installed for root alone.  None of the users' own code is imported."""
    if hosts_code(config):
        for name in _NEEDED:
            importlib.import_module(name)


def host_user_code(errors: ErrorLog, *, own_stderr: bool = False) -> None:
    """Set this process up for code that others wrote.  `own_stderr`: it writes to stderr as it likes."""
    signals.keep_to_ourselves()
    sys.dont_write_bytecode = True  # see `worker.imports`
    if not own_stderr:
        sys.stderr = LogStream(errors)
    threading.excepthook = lambda given: errors.error(
        "a thread of a handler raised", thread=given.thread.name if given.thread else "-", exception=given.exc_value
    )
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


class LogStream(io.TextIOBase):
    """`sys.stderr` of a worker: each line is an entry of the error log."""

    def __init__(self, errors: ErrorLog) -> None:
        super().__init__()
        self._errors = errors
        self._lock = threading.Lock()
        self._rest = ""

    def write(self, text: str, /) -> int:
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            if line.strip():
                self._errors.info(f"stderr: {line.rstrip()}")
        return len(text)

    def flush(self) -> None:
        with self._lock:
            rest, self._rest = self._rest, ""
        if rest.strip():
            self._errors.info(f"stderr: {rest.rstrip()}")

    def writable(self) -> bool:
        return True

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"
