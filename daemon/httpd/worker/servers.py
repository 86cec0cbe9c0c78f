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
import socket
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
from httpd.worker.shares import Share


class ScriptListener(socket.socket):
    """A script's listening socket.  It stays non-blocking, whatever the script says: its workers share it."""

    def settimeout(self, value: float | None, /) -> None:
        """Not done."""

    def setblocking(self, flag: bool, /) -> None:
        """Not done."""


class ScriptMount(CallMount):
    """All that one server of the script answers."""

    def __init__(self, server: Any, log: AccessLog | None, threads: int, waiting: int) -> None:
        super().__init__("script", b"", schema.Settings(), log)
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

    def speak_tls(self, certificate: str, key: str) -> None:
        """Wrap the listener, if the script has not done so."""
        if type(self.server.socket) is ScriptListener:
            from httpd.system import tls

            context = tls.server_context(certificate, key or None, None, ["http/1.1"])
            self.server.socket = context.wrap_socket(
                self.server.socket, server_side=True, do_handshake_on_connect=False
            )

    def begin(self, *, forever: bool) -> None:
        """Accept connections from now on."""
        self.stop.clear()
        if self.threaded:
            os.set_blocking(self.server.socket.fileno(), False)  # others accept from it, too
            return
        self._mount.inbox = None if forever else self._mount.inbox or queue.SimpleQueue()
        self._dispatch.on_loop(self._start)

    def _start(self) -> None:
        if not self._mine:
            self._mine = [
                # Not `sock.dup()`, which would make the socket blocking again, for all who share it.
                Acceptor(self._context, socket.socket(fileno=os.dup(sock.fileno())), address, self._tables, self._share)
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
        exchange.run()
        self._dispatch.pool.finished.append(exchange)
        self._dispatch.pool.ring()

    def shut_down(self) -> None:
        """Have `wait` return, and wait for it if this is not one of the threads that it would wait for."""
        self.stop.set()
        if self._mine:
            self._dispatch.on_loop(self._give_up)
        me = threading.current_thread()
        if me is not self.thread and me.name != "handler":
            self._done.wait()

    def _give_up(self) -> None:
        for acceptor in self._mine:
            if acceptor in self._acceptors:
                self._acceptors.remove(acceptor)
            acceptor.close(empty_queue=False)
        self._mine = []

    # In threads

    def _serve_threads(self, poll_interval: float) -> None:
        """The library's way, with this worker's share of the connections."""
        server = self.server
        finish = server.finish_request

        def counted(request: Any, client_address: Any) -> None:
            with self._changed:
                self._active += 1
            try:
                finish(request, client_address)
            finally:
                with self._changed:
                    self._active -= 1
                    self._changed.notify_all()

        server.finish_request = counted
        threading.Thread(target=self._shut_when_stopped, name="shutdown", daemon=True).start()
        try:
            while not self.stop.is_set():
                self._accepting.wait()
                if not self.stop.is_set():
                    adopted.original("serve_forever")(server, poll_interval)
        finally:
            self.stop.set()
            with contextlib.suppress(AttributeError):
                del server.finish_request

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
