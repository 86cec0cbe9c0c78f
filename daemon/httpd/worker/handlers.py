"""A handler mount: what a configuration says of a class that was written for http.server.

    load (once per worker, after the fork) -> one server object for each listener -> `calls.CallMount.run`

Rules:

- What is named may be any callable: class, `functools.partial`, lambda, factory.
- The server objects are the documented ones, made without a socket of their own (`server.adopted`).
- A directory's class is asked only where it differs from `SimpleHTTPRequestHandler` as it is here; the loop answers for
  one that does not.
"""

from __future__ import annotations

import functools
import socketserver
from collections.abc import Callable
from typing import Any

from httpd.config import schema
from httpd.content.cache import Entry
from httpd.content.sites import prefix_of
from httpd.content.static import DirectoryMount
from httpd.logs.access_log import AccessLog
from httpd.protocol.messages import Request, Response
from httpd.server.adopted import takes_hooks
from httpd.server.handler import BaseHTTPRequestHandler
from httpd.server.simple import SimpleHTTPRequestHandler
from httpd.worker.calls import CallMount
from httpd.worker.imports import LoadError, describe, load

DEFAULT_SERVER = "http.server:ThreadingHTTPServer"


class HandlerMount(CallMount):
    """A `[[vhost.handler]]`, or the class of a `[[vhost.directory]]`."""

    def __init__(
        self, mount: schema.Handler | schema.Directory, log: AccessLog | None, host: ServerHost, threads: int,
        queue: int, files: DirectoryMount | None, page: Callable[..., None],
    ) -> None:  # fmt: skip
        """Load what the mount names.  `page(response, settings)` adds an error page.  Raises LoadError."""
        super().__init__(mount.key, prefix_of(mount.path), mount.settings, log)
        self.directory = files
        self._page = page
        options: dict[str, Any] = {}
        limit = 0
        if isinstance(mount, schema.Directory):
            named, server = mount.handler, DEFAULT_SERVER
            self.extra_fields = []  # the directory's answers have them
            self.http11 = True
        else:
            named, server, options, limit = mount.target, mount.server, dict(mount.options), mount.threads
            self.http11, self.stream = mount.http11, mount.stream
            self._strip = mount.strip_prefix and bool(self.prefix)
        self.kind = load(f"{mount.key}.{'class' if files is None else 'handler'}", named)
        kind = load(f"{mount.key}.server", server)
        if not (isinstance(kind, type) and issubclass(kind, socketserver.TCPServer)):
            raise LoadError(f"{mount.key}.server", f"{server!r} is no class of TCP servers")
        self.limit = (limit or threads) if issubclass(kind, socketserver.ThreadingMixIn) else 1
        self.queue = queue
        self.decides_expect = overrides(self.kind, "handle_expect_100")
        self.direct = not takes_hooks(kind)
        self.stock = files is not None and is_stock(self.kind)
        self._call = functools.partial(self.kind, **options) if options else self.kind
        self.servers = host.make_servers(f"{mount.key}.server", kind, self._call)

    def answer(self, request: Request, path: bytes, wall: float, now: float) -> tuple[Response, Entry | None]:
        """Asked only when the handler does not know the method: a directory does."""
        if self.directory is not None:
            found: tuple[Response, Entry | None] = self.directory.answer(request, path, wall, now)
            return found
        return self.refusal(405), None

    def knows(self, method: bytes) -> bool:
        """Whether it is the handler that has to answer: always, but for a directory's methods that the class lacks."""
        if self.directory is None or not isinstance(self.kind, type) or hasattr(self.kind, "__getattr__"):
            return True
        return hasattr(self.kind, "do_" + method.decode("latin-1"))

    def refuses(self, method: bytes) -> bool:
        """Whether the configuration does not let this method through."""
        if self.directory is not None:
            return method in (b"GET", b"HEAD", b"OPTIONS") and method not in self.directory.methods
        return super().refuses(method)

    def refusal(self, status: int) -> Response:
        if status == 405 and self.directory is not None:
            return Response(405, [(b"Allow", b", ".join(self.directory.methods))])
        return super().refusal(status)

    def add_page(self, response: Response) -> None:
        """Give an error answer of the directory its page."""
        self._page(response, self.settings)


class ServerHost:
    """Drives the server objects of mounts: they adopt the worker's listeners, and nobody may serve or stop by them."""

    def __init__(self, addresses: list[tuple[Any, ...]], refused: Callable[[str], None]) -> None:
        """`addresses` are those of the worker's listeners; `refused(what)` is told what a handler was not let do."""
        self._addresses = addresses
        self._refused = refused
        self._adopting: tuple[Any, ...] | None = None
        self._adopted: list[socketserver.TCPServer] = []

    def make_servers(self, key: str, kind: type, target: Callable[..., Any]) -> list[Any]:
        """One server object for each listener.  Raises LoadError."""
        made = []
        for address in self._addresses:
            self._adopting = address
            try:
                made.append(kind(address, target))
            except Exception as error:
                raise LoadError(key, describe(error)) from None
            finally:
                self._adopting = None
        return made

    def bind(self, server: socketserver.TCPServer) -> None:
        if self._adopting is None:
            raise PermissionError(1, "a handler of the daemon can't listen: name the address in server.listen")
        server.socket.close()
        server.server_address = self._adopting
        self._adopted.append(server)

    def serve_forever(self, server: socketserver.TCPServer, poll_interval: float) -> None:
        self._refused("serve_forever")

    def handle_request(self, server: socketserver.TCPServer) -> None:
        self._refused("handle_request")

    def shutdown(self, server: socketserver.TCPServer) -> None:
        self._refused("shutdown")

    def close(self, server: socketserver.TCPServer) -> None:
        if self._adopting is None and any(known is server for known in self._adopted):
            self._refused("server_close")
        else:  # a constructor calls it that has failed, as where a handler tried to listen; nobody serves by this one
            server.socket.close()


_STOCK = {
    kind: {**vars(kind), "extensions_map": dict(getattr(kind, "extensions_map", {}))}
    for kind in SimpleHTTPRequestHandler.__mro__[:-1]
}
_SAY_NOTHING = frozenset(("__module__", "__doc__", "__qualname__", "__firstlineno__", "__static_attributes__"))


def is_stock(kind: Any) -> bool:
    """Whether the loop may answer in place of a class: `SimpleHTTPRequestHandler`, or one that changes nothing of it,
    while nobody has patched it either."""
    if not isinstance(kind, type) or not issubclass(kind, SimpleHTTPRequestHandler):
        return False
    for known in kind.__mro__[:-1]:
        if known not in _STOCK:
            if not _SAY_NOTHING.issuperset(vars(known)):
                return False
            continue
        now, stock = vars(known), _STOCK[known]
        if any(now.get(name) is not value for name, value in stock.items() if name != "extensions_map"):
            return False
        if now.keys() - stock.keys() or getattr(known, "extensions_map", {}) != stock["extensions_map"]:
            return False
    return True


def overrides(kind: Any, name: str) -> bool:
    """Whether `kind`, or what it is a partial of, has its own idea of a method of BaseHTTPRequestHandler."""
    while isinstance(kind, functools.partial):
        kind = kind.func
    stock = getattr(BaseHTTPRequestHandler, name)
    return isinstance(kind, type) and getattr(kind, name, stock) is not stock
