"""The servers of http.server: socketserver's, with what a server that is met by real clients needs.

    accept -> verify_request -> process_request -> (a thread) -> finish_request -> Handler(request, address, server)

Rules:

- The calls and their order are socketserver's; every method may be overridden.
- Nothing asks a name server: `server_name` is the name that was given (http.server looks the address up, which takes
  half a minute where nobody answers).
- What clients do is no reason for a traceback: leaving in the middle, or failing to speak TLS.
- A TLS handshake is the client's business and takes as long as it likes: it runs where the handler runs, never between
  two accepts.
- A ^C ends `serve_forever` wherever it comes between accept and the start of a connection's thread.
"""

from __future__ import annotations

# `weakref.finalize` imports it with the first connection, and a ^C within an import can fall into the weakref callback
# of its lock, which swallows it.
import atexit  # noqa: F401
import contextlib
import select
import socket
import socketserver
import sys
import weakref
from typing import Any

from httpd.server.exchange import Exchange
from httpd.server.reader import BadBody
from httpd.server.threads import Crew
from httpd.system import tls

_QUEUE = 5  # http.server's request_queue_size
_LONG_QUEUE = 1024  # where nobody has set it: with 5, who comes in a crowd waits a second for the next SYN
_AT_ONCE = 64  # connections that are accepted before `service_actions` gets its turn
_HANDSHAKE = 10.0  # seconds
_get_request = socketserver.TCPServer.get_request  # not there any more where the daemon drives the servers
_LEFT = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError)


class HTTPServer(socketserver.TCPServer):
    """One connection after the other.  `server_name` and `server_port` are set when it is bound."""

    allow_reuse_address = True
    allow_reuse_port = False
    request_queue_size = _QUEUE

    server_name: str
    server_port: int

    def server_bind(self) -> None:
        """Bind, and set `server_name` and `server_port`."""
        given = self.server_address[0]
        socketserver.TCPServer.server_bind(self)
        self.server_name = _name_of(given)
        self.server_port = self.server_address[1]

    def server_activate(self) -> None:
        """Listen."""
        if self.request_queue_size != _QUEUE:
            super().server_activate()
            return
        self.request_queue_size = _LONG_QUEUE
        try:
            super().server_activate()
        finally:
            self.request_queue_size = _QUEUE

    def get_request(self) -> Any:
        """Accept a connection."""
        listener = self.socket
        if type(listener) is not socket.socket or socketserver.TCPServer.get_request is not _get_request:
            return super().get_request()
        fd, address = listener._accept()  # type: ignore[attr-defined]
        request = socket.socket(self.address_family, self.socket_type, listener.proto, fileno=fd)
        if listener.gettimeout() and socket.getdefaulttimeout() is None:
            request.setblocking(True)
        return request, address

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the traceback of what a handler raised; not of a client that is gone."""
        error = sys.exc_info()[1]
        if isinstance(error, BadBody):
            _say(f"Bad request body from {_address(client_address)}: {error}")
        elif not (isinstance(error, _LEFT) and _is_gone(request)):
            super().handle_error(request, client_address)


class ThreadingHTTPServer(socketserver.ThreadingMixIn, HTTPServer):
    """A thread for each connection that is open.  Threads are used again."""

    daemon_threads = True
    _crew: Crew | None = None
    _poller: Any = None  # while `serve_forever` runs

    def serve_forever(self, poll_interval: float = 0.5) -> None:
        """Serve until `shutdown`."""
        poller: Any = select.poll()
        if socketserver.TCPServer.get_request is not _get_request:
            poller = None  # somebody else drives it
        with contextlib.suppress(ValueError, OSError, AttributeError):  # no socket
            poller.register(self.fileno(), select.POLLIN)
            self._poller = poller
        try:
            super().serve_forever(poll_interval)
        finally:
            self._poller = None

    def _handle_request_noblock(self) -> None:
        super()._handle_request_noblock()  # type: ignore[misc]
        if self._poller is not None:
            for _ in range(_AT_ONCE):
                if self._BaseServer__shutdown_request or not self._poller.poll(0):  # type: ignore[attr-defined]
                    break
                super()._handle_request_noblock()  # type: ignore[misc]

    def process_request(self, request: Any, client_address: Any) -> None:
        """Have a thread go on with it."""
        if type(request) is Exchange:  # a thread of the daemon's has it already
            self.process_request_thread(request, client_address)  # type: ignore[arg-type]
            return
        try:
            self._give_to_thread(request, client_address)
        except RuntimeError as error:
            # `Thread.start` waits for its thread, and a ^C just when that wait has let go of its lock comes out as
            # "release unlocked lock", which socketserver would take for one connection's failure.
            if isinstance(error.__context__, KeyboardInterrupt):
                raise error.__context__ from None
            raise

    def _give_to_thread(self, request: Any, client_address: Any) -> None:
        if not self.daemon_threads:  # server_close waits for them, or the interpreter does
            super().process_request(request, client_address)
            return
        crew = self._crew
        if crew is None:
            crew = self._crew = Crew()
            weakref.finalize(self, crew.dismiss).atexit = False
        crew.run(self.process_request_thread, request, client_address)

    def server_close(self) -> None:
        """Close the listening socket; with `daemon_threads` false, wait for the connections."""
        super().server_close()
        crew, self._crew = self._crew, None
        if crew is not None:
            crew.dismiss()


class HTTPSServer(HTTPServer):
    """The same over TLS, with the certificate (and its chain) and key in PEM files.

    `alpn_protocols` is what is agreed upon by ALPN, HTTP/1.1 if None.
    """

    def __init__(
        self, server_address: Any, RequestHandlerClass: Any, bind_and_activate: bool = True, *,  # noqa: N803
        certfile: Any, keyfile: Any = None, password: Any = None, alpn_protocols: Any = None,
    ) -> None:  # fmt: skip
        """Raises RuntimeError without the ssl module, `tls.TLSError` for files that are no good."""
        self.ssl = tls.module()
        self.certfile = certfile
        self.keyfile = keyfile
        self.password = password
        self.alpn_protocols = ["http/1.1"] if alpn_protocols is None else alpn_protocols
        super().__init__(server_address, RequestHandlerClass, bind_and_activate)

    def server_activate(self) -> None:
        """Listen, and speak TLS."""
        super().server_activate()
        self.socket = self._create_context().wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def _create_context(self) -> Any:
        return tls.server_context(self.certfile, self.keyfile, self.password, self.alpn_protocols)

    def finish_request(self, request: Any, client_address: Any) -> None:
        """Shake hands, then call the handler."""
        if hasattr(request, "do_handshake"):
            before = request.gettimeout()
            request.settimeout(_HANDSHAKE if before is None else before)
            request.do_handshake()
            request.settimeout(before)
        super().finish_request(request, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """One line for a handshake that failed."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError) and hasattr(request, "version") and request.version() is None:
            reason = getattr(error, "reason", None) or error.strerror or error
            _say(f"TLS handshake with {_address(client_address)} failed: {reason}")
        else:
            super().handle_error(request, client_address)


class ThreadingHTTPSServer(ThreadingHTTPServer, HTTPSServer):
    """A thread for each connection that is open, over TLS."""


class _DualStack:
    """Of a server whose address_family is AF_INET6: reached by IPv4 as well."""

    socket: socket.socket

    def server_bind(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # AF_INET, or a system that can't
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        super().server_bind()  # type: ignore[misc]


class HTTPDualStackServer(_DualStack, ThreadingHTTPServer):
    """IPv6 and IPv4 on one socket, where `address_family` is AF_INET6."""


class HTTPSDualStackServer(_DualStack, ThreadingHTTPSServer):
    """IPv6 and IPv4 on one socket, over TLS."""


def _name_of(host: Any) -> str:
    if isinstance(host, bytes | bytearray):
        host = host.decode("latin-1")
    return socket.gethostname() if host in ("", "0.0.0.0", "::", None) else str(host)


def _is_gone(request: Any) -> bool:
    """Whether the client has hung up.  A handler's own connections, to other servers, break as well."""
    if type(request) is Exchange:  # the daemon knows, and to ask for its socket would take it over
        return False
    try:
        number = request.fileno()
    except (OSError, AttributeError):
        return True
    if type(number) is not int or number < 0:
        return True
    poller = select.poll()
    poller.register(number, getattr(select, "POLLRDHUP", 0))
    return bool(poller.poll(0))


def _address(client_address: Any) -> str:
    return str(client_address[0]) if isinstance(client_address, tuple) else str(client_address)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
