"""One server of a script (`httpd run`), and how its connections reach its handler.

    on the loop       requests are read by the loop, its handler is called in the pool (`dispatch`)
    in threads        connections are accepted here and given to a thread each, as in the library

Rules:

- The loop serves HTTP handlers on plain listeners; everything else needs the connection itself.
- A server without ThreadingMixIn gets one request at a time.
- `handle_request` runs the handler in the thread that called it: what it leaves on the server is there then.
"""

from __future__ import annotations

import contextlib
import os
import queue
import select
import socketserver
import threading
import time
from typing import Any

from httpd.config import schema
from httpd.content.sites import Site, SiteTable
from httpd.logs.access_log import AccessLog
from httpd.server import adopted
from httpd.server.handler import BaseHTTPRequestHandler
from httpd.worker.acceptor import Acceptor
from httpd.worker.calls import CallMount
from httpd.worker.context import Context
from httpd.worker.dispatch import Dispatch
from httpd.worker.listening import Inbox, ScriptListener, make_twin
from httpd.worker.shares import Share

_HANDSHAKE = 10.0  # seconds


class ScriptMount(CallMount):
    """All that one server of the script answers."""

    def __init__(self, server: Any, log: AccessLog | None, threads: int, waiting: int) -> None:
        super().__init__("script", b"", schema.Settings(), log)
        self.inbox: Inbox | None = None  # type: ignore[assignment]
        self.servers = [server]
        self.limit = threads if isinstance(server, socketserver.ThreadingMixIn) else 1
        self.queue = waiting
        kind = type(server)
        self.direct = not adopted.takes_hooks(kind) and vars(server).keys().isdisjoint(adopted.HOOKS)
        self._call = self._handle

    def _handle(self, *arguments: Any) -> None:
        self.servers[0].RequestHandlerClass(*arguments)  # looked up each time: the script may have changed it


class Serving:
    """Serves one server object.  `on_loop(call)` has the loop make a call and waits for it."""

    def __init__(
        self, server: Any, listeners: list[tuple[schema.Address, ScriptListener]], context: Context, dispatch: Dispatch,
        share: Share, acceptors: list[Acceptor], log: AccessLog | None, config: schema.Config,
    ) -> None:  # fmt: skip
        self.server = server
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None  # that serves for ever
        self._listeners = listeners
        self._context = context
        self._dispatch = dispatch
        self._share = share
        self._acceptors = acceptors
        self._mine: list[Acceptor] = []
        self._twins: list[Any] = []  # in threads: the server, for its other listeners
        self._one = contextlib.nullcontext() if isinstance(server, socketserver.ThreadingMixIn) else threading.Lock()
        self._done = threading.Event()
        self._done.set()
        self._accepting = threading.Event()
        self._accepting.set()
        self._active = 0  # connections in threads
        self._changed = threading.Condition()
        self._mount = ScriptMount(server, log, config.server.threads, config.limits.queue)
        vhost = schema.Vhost(key="script", settings=schema.Settings())
        self._tables: SiteTable[Any] = SiteTable([Site(vhost, [self._mount], log)])

    @property
    def threaded(self) -> bool:
        """Whether the server has to have the connections themselves."""
        server = self.server
        kind = getattr(server, "RequestHandlerClass", None)
        return (
            type(server.socket) is not ScriptListener
            or "get_request" in vars(server)
            or adopted.overrides(type(server), "get_request")
            or (isinstance(kind, type) and not issubclass(kind, BaseHTTPRequestHandler))
        )

    @property
    def polled(self) -> int:
        """The descriptor to wait for before `handle_request`; -1: that of the listener."""
        return -1 if self._mount.inbox is None else self._mount.inbox.fd

    def speak_tls(self, certificate: str, key: str) -> None:
        """Wrap the listener, if the script has not done so."""
        if type(self.server.socket) is ScriptListener:
            from httpd.system import tls

            context = tls.server_context(certificate, key or None, None, ["http/1.1"])
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    def begin(self, *, forever: bool) -> None:
        """Accept connections from now on."""
        self.stop.clear()
        if self.threaded:
            if hasattr(self.server.socket, "do_handshake_on_connect"):
                self.server.socket.do_handshake_on_connect = False  # between two accepts it would hold up all others
            self._twins = self._twins or [make_twin(self.server, sock) for _, sock in self._listeners[1:]]
            for server in (self.server, *self._twins):
                os.set_blocking(server.socket.fileno(), False)  # other workers accept from it, too
            return
        self._dispatch.on_loop(lambda: self._start(forever=forever))

    def _start(self, *, forever: bool) -> None:
        mount, dispatch = self._mount, self._dispatch
        if not forever:
            mount.inbox = mount.inbox or Inbox(dispatch)
        elif mount.inbox is not None:
            dispatch.pool.queue += mount.inbox.close()
            dispatch.look_at = self._context.now
            mount.inbox = None
        if not self._mine:
            self._mine = [
                Acceptor(self._context, sock.duplicate(), address, self._tables, self._share)
                for address, sock in self._listeners
            ]
            self._acceptors += self._mine
        if not self._context.draining:
            for acceptor in self._mine:
                acceptor.start()
            self._share.alone(len(self._context.connections))

    def wait(self, poll_interval: float) -> None:
        """What `serve_forever` does meanwhile: nothing, or `service_actions` every `poll_interval` seconds."""
        self.thread = threading.current_thread()
        self._done.clear()
        try:
            if self.threaded:
                self._serve_threads(poll_interval)
                return
            server = self.server
            acts = "service_actions" in vars(server) or (
                type(server).service_actions is not socketserver.BaseServer.service_actions
            )
            while not self.stop.wait(poll_interval if acts else None):
                server.service_actions()
        finally:
            self.thread = None
            self._done.set()

    def handle_one(self) -> None:
        """Run the handler of the next request here."""
        if self.threaded:
            adopted.original("handle_request")(self.server)
            return
        inbox = self._mount.inbox
        assert inbox is not None
        timeout = self.server.timeout
        try:
            exchange = inbox.get(timeout=timeout)
        except queue.Empty:
            self.server.handle_timeout()
            return
        exchange.since = time.monotonic()
        exchange.eager = True  # the loop does not see it running
        exchange.run()
        self._dispatch.pool.finished.append(exchange)
        self._dispatch.pool.ring()

    def shut_down(self) -> None:
        """Have `wait` return, and wait for it if this is not one of the threads that it would wait for."""
        if self._mine:
            self._dispatch.on_loop(self._give_up)
        self.stop.set()  # last: the script may serve again at once
        me = threading.current_thread()
        if me is not self.thread and me.name != "handler":
            self._done.wait()

    def _give_up(self) -> None:
        for acceptor in self._mine:
            if acceptor in self._acceptors:
                self._acceptors.remove(acceptor)
            acceptor.close(empty_queue=False)
        self._mine = []

    def hang_up(self) -> None:
        """Nobody calls `handle_request` any more."""
        if self._mount.inbox is not None:
            self._dispatch.on_loop(self._mount.inbox.hang_up)

    def close(self) -> None:
        """The server listens no more."""
        self.hang_up()
        for twin in self._twins:
            twin.socket.close()
        self._twins = []

    # In threads

    def _serve_threads(self, poll_interval: float) -> None:
        """The library's way, with this worker's share of the connections."""
        server = self.server
        finish = server.finish_request

        def counted(request: Any, client_address: Any) -> None:
            with self._changed:
                self._active += 1
            try:
                if self._shake_hands(request, client_address):
                    with self._one:
                        finish(request, client_address)
            finally:
                with self._changed:
                    self._active -= 1
                    self._changed.notify_all()

        server.finish_request = counted
        threading.Thread(target=self._shut_when_stopped, name="shutdown", daemon=True).start()
        more = [threading.Thread(target=self._accept, args=(twin, poll_interval), name="accept", daemon=True)
                for twin in self._twins]  # fmt: skip
        for thread in more:
            thread.start()
        try:
            while not self.stop.is_set():
                self._accepting.wait()
                if not self.stop.is_set():
                    adopted.original("serve_forever")(server, poll_interval)
        finally:
            self.stop.set()
            self._accepting.set()
            for thread in more:
                thread.join()
            with contextlib.suppress(AttributeError):
                del server.finish_request

    def _accept(self, twin: Any, poll_interval: float) -> None:
        """What `serve_forever` does, for another listener."""
        poller = select.poll()
        poller.register(twin.socket, select.POLLIN)
        while not self.stop.is_set():
            self._accepting.wait()
            if poller.poll(poll_interval * 1000) and self._accepting.is_set() and not self.stop.is_set():
                twin._handle_request_noblock()

    def _shake_hands(self, request: Any, client_address: Any) -> bool:
        """Whether the client speaks TLS, where the listener does; it has `_HANDSHAKE` seconds."""
        if getattr(request, "do_handshake_on_connect", True):
            return True
        before = request.gettimeout()
        try:
            request.settimeout(_HANDSHAKE)
            request.do_handshake()
            request.settimeout(before)
        except OSError as error:
            reason = getattr(error, "reason", None) or error.strerror or str(error)
            self._context.errors.info("TLS handshake failed", client=str(client_address[0]), reason=reason)
            return False
        return True

    def _shut_when_stopped(self) -> None:
        self.stop.wait()
        self._accepting.set()
        adopted.original("shutdown")(self.server)

    def stand_by(self) -> None:
        """Accept nothing until `resume`; what has its connections in threads has to be told."""
        if self.threaded and self.thread is not None:
            self._accepting.clear()
            # What `shutdown` does, without waiting for it on the loop.
            self.server._BaseServer__shutdown_request = True

    def resume(self) -> None:
        """Accept again."""
        self._accepting.set()

    def finish(self, until: float) -> None:
        """Stop accepting, and wait for connections in threads until `until` (monotonic seconds)."""
        if self.threaded:
            self.stop.set()
            with self._changed:
                while self._active and (left := until - time.monotonic()) > 0:
                    self._changed.wait(left)
