"""Server objects that somebody else drives: `socketserver.TCPServer` in a worker of the daemon.

    install(host)       once in a worker, before any user's module is imported
    server_bind, server_activate, server_close, get_request, serve_forever, handle_request, shutdown: asked of `host`

Rules:

- The classes stay what they are, and so does code that derives from them: only the methods of `TCPServer` itself that
  reach for the operating system go elsewhere, so overrides and calls of `super()` work as they always did.
- `http.server` becomes this package, for who imports it from now on.
- UDP and unix-domain servers of socketserver are none of ours, and neither is a server that was made before.
"""

from __future__ import annotations

import http
import socketserver
import sys
import threading
from typing import Any, Protocol

from httpd.server.exchange import Exchange

_KEPT = ("server_bind", "server_activate", "server_close", "get_request", "serve_forever", "handle_request", "shutdown",
         "fileno")  # fmt: skip
_original = {name: getattr(socketserver.TCPServer, name) for name in _KEPT}
_original_threading = socketserver.ThreadingMixIn.process_request
_original_handle_error = socketserver.BaseServer.handle_error
_STOCK = (socketserver.BaseServer, socketserver.TCPServer, socketserver.ThreadingMixIn)
HOOKS = ("get_request", "verify_request", "process_request", "process_request_thread", "finish_request",
         "shutdown_request", "close_request")  # fmt: skip
_current = threading.local()


class Host(Protocol):
    """Who drives the servers of this process.  `server_bind` and the others are called with the server."""

    def bind(self, server: socketserver.TCPServer) -> None:
        """Give it a socket: set `socket` and `server_address`."""

    def serve_forever(self, server: socketserver.TCPServer, poll_interval: float) -> None: ...

    def handle_request(self, server: socketserver.TCPServer) -> None: ...

    def shutdown(self, server: socketserver.TCPServer) -> None: ...

    def close(self, server: socketserver.TCPServer) -> None: ...


def install(host: Host) -> None:
    """Have `host` drive every TCP server that is made in this process, and have `http.server` mean `httpd.server`."""
    import httpd.server

    sys.modules["http.server"] = httpd.server
    http.server = httpd.server  # type: ignore[attr-defined]

    def mine(server: Any) -> bool:
        return not isinstance(server, socketserver.UDPServer) and server.address_family != _UNIX

    def route(name: str, ours: Any) -> None:
        theirs = _original[name]

        def method(self: Any, *arguments: Any, **options: Any) -> Any:
            return ours(self, *arguments, **options) if mine(self) else theirs(self, *arguments, **options)

        setattr(socketserver.TCPServer, name, method)

    route("server_bind", host.bind)
    route("server_activate", lambda server: None)
    route("server_close", host.close)
    route("get_request", _get_request)
    route("serve_forever", lambda server, poll_interval=0.5: host.serve_forever(server, poll_interval))
    route("handle_request", host.handle_request)
    route("shutdown", host.shutdown)
    setattr(socketserver.ThreadingMixIn, "process_request", _process_request)  # noqa: B010 - types differ on purpose
    setattr(socketserver.BaseServer, "handle_error", _handle_error)  # noqa: B010


_UNIX = getattr(socketserver.socket, "AF_UNIX", None)  # type: ignore[attr-defined]


def original(name: str) -> Any:
    """A method of `TCPServer` as the standard library has it."""
    return _original[name]


def _get_request(server: Any) -> tuple[Any, Any]:
    exchange = getattr(_current, "exchange", None)
    if exchange is None:
        return _original["get_request"](server)  # type: ignore[no-any-return]
    return exchange, exchange.client_address


def _process_request(server: Any, request: Any, client_address: Any) -> None:
    """`ThreadingMixIn`'s: an exchange has a thread of its own already."""
    if type(request) is Exchange:
        server.process_request_thread(request, client_address)
    else:
        _original_threading(server, request, client_address)


def _handle_error(server: Any, request: Any, client_address: Any) -> None:
    """`BaseServer`'s: the traceback of what a handler raised goes to the error log, with the request it was for."""
    error = sys.exception()
    if type(request) is Exchange and error is not None:
        request.failed(error)
    else:
        _original_handle_error(server, request, client_address)


def offer(server: socketserver.BaseServer, exchange: Exchange) -> None:
    """Have `server` take `exchange` as it takes a connection: get_request, verify_request, process_request ..."""
    _current.exchange = exchange
    try:
        server._handle_request_noblock()  # type: ignore[attr-defined]
    finally:
        _current.exchange = None


def takes_hooks(kind: type[socketserver.BaseServer]) -> bool:
    """Whether a server class has a say in how a connection reaches its handler; else the handler is called at once."""
    return any(overrides(kind, name) for name in HOOKS)


def overrides(kind: type, name: str) -> bool:
    """Whether a server class has its own idea of a method of socketserver's classes."""
    owner = next((known for known in kind.__mro__ if name in vars(known)), None)
    return owner is not None and owner not in _STOCK and not owner.__module__.startswith("httpd.server")
