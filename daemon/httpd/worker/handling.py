"""A connection whose requests handlers may answer (`[[vhost.handler]]`): from the head to the handler's thread.

    head -> mount? -> refused, or (100 Continue) -> body, in memory or in a temporary file -> thread

Rules:

- A handler is called when its whole request is there, so a slow upload holds no thread.
- The body of a request is read to its end before the handler sees any of it, and framing is ours: what a handler leaves
  unread never becomes the next request, nor the body of one.
- Plain requests (`protocol.plain`) for a path whose mount is known are handed over without being parsed again.
"""

from __future__ import annotations

import os
import re
from typing import Any

from httpd.content import paths
from httpd.content.sites import Site
from httpd.protocol.messages import ProtocolError, Request
from httpd.protocol.receiver import Phase
from httpd.server.exchange import Exchange
from httpd.system.poller import HUP, IN
from httpd.worker.answering import NEVER, AnsweringConnection
from httpd.worker.bodies import BodyStore, StreamBody, TunnelBody, head_of
from httpd.worker.calls import CallMount
from httpd.worker.exchange import Mount

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_KNOWN = 1024  # paths of which the mount is remembered


class HandlingConnection(AnsweringConnection):
    """The way to a handler.

    `_store` is the body that is collected for one.  `_decided` is who will answer the request whose body is being read:
    it was judged by its head, and another judgement behind the body might be for a mount that has not asked for it.
    """

    __slots__ = ("_decided", "_store")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._store: BodyStore | None = None
        self._decided: tuple[Request, CallMount | None] | None = None

    def _handler_for(self, request: Request) -> CallMount | None:
        site = self._tables.find(request.host)
        if not site.has_handlers:
            return None
        path = request.path
        if not path or path == b"*":
            return _for_connect(site) if not path else None
        if path in site.handlers:
            found = site.handlers[path]
        else:
            try:
                mount = site.route(paths.normalize(paths.decode(path)))
            except paths.PathError:
                return None
            found = mount if isinstance(mount, CallMount) else None
            if len(site.handlers) >= _KNOWN:
                site.handlers.clear()
            site.handlers[path] = found
        return found if isinstance(found, CallMount) and found.knows(request.method) else None

    # Bodies

    def _decline_body(self, request: Request) -> bool:
        mount = self._handler_for(request)
        self._decided = request, mount
        if mount is None:
            return super()._decline_body(request)
        if mount.refuses(request.method) or mount.full:
            self._close = True  # it would be read for nothing
            return True
        if mount.stream or (request.expect and mount.decides_expect):
            return True
        if request.expect:
            try:
                os.write(self._fd, _CONTINUE)
            except OSError:
                self._close = True
        self._store = BodyStore(self._context.limits.body_memory, request, alone=mount.body_alone)
        self._request = request
        self._phase = Phase.BODY
        self._since, self._moved = self._context.now, 0
        self.deadline = self._context.now + self._context.timeouts.body
        return False

    def _read_body(self, data: bytes, request: Request) -> bool:
        store = self._store
        if store is None:
            return super()._read_body(data, request)
        self._moved += len(data)
        self.deadline = self._context.now + self._context.timeouts.body
        receiver = self._general().receiver
        try:
            for piece in receiver.next_body(data):
                store.add(piece)
        except OSError as error:  # a full disk
            log = self._context.errors.limited("body", 10)
            log.error("a request's body can't be kept: 503", request=request.line, reason=error.strerror)
            raise ProtocolError(503, "no room for the body") from None
        return receiver.body is None

    def _drop_body(self) -> None:
        if self._store is not None:
            self._store.close()
            self._store = None

    def _let_go(self) -> None:
        super()._let_go()
        self._drop_body()

    # Handing over

    def _serve(self, request: Request) -> bool:
        decided, self._decided = self._decided, None
        mount = decided[1] if decided is not None and decided[0] is request else self._handler_for(request)
        over = super()._serve(request) if mount is None else self._serve_by(request, mount)
        if self._store is not None:  # nobody has taken the body: it must not be that of another request
            self._drop_body()
        return over

    def _serve_by(self, request: Request, mount: CallMount) -> bool:
        """Have `mount` answer; True as `_serve`."""
        context = self._context
        self._begin(request)
        if mount.refuses(request.method):
            return self._refuse_for(request, mount, 405)
        if mount.full:
            context.errors.limited(f"full {mount.key}", 10).warning(
                "all threads are busy and the queue is full: 503", mount=mount.key, requests=mount.active
            )
            return self._refuse_for(request, mount, 503)
        self._hand_over(self._exchange_for(request, mount), mount)
        return False

    def _exchange_for(self, request: Request, mount: CallMount) -> Exchange:
        if request.path in (b"", b"*"):
            target = request.target
        else:
            target = request.path if request.query is None else b"%b?%b" % (request.path, request.query)
        store, self._store = self._store, None
        file, start = None, 0
        if store is None:
            head, body = head_of(request, None), b""
        else:
            head, body, file, start = store.finish()
        dispatch = self._context.dispatch
        assert dispatch is not None
        exchange = Exchange(dispatch, mount, head + body, len(head), request.line, mount.path_for(target))
        exchange.command = request.method.decode("latin-1")
        exchange.minor = request.minor
        exchange.request = request
        if file is not None:
            exchange.read_file(file, start)
        elif store is None and request.length:
            self._stream(exchange, request)
        elif store is None and (b"upgrade" in request.fields or request.method == b"CONNECT"):
            exchange.read_by(TunnelBody(exchange))
        exchange.keep_alive = not self._close
        return exchange

    def _stream(self, exchange: Exchange, request: Request) -> None:
        """The handler reads the body itself."""
        exchange.expect = request.expect
        timeouts = self._context.timeouts
        body = StreamBody(exchange, self._fd, self._general().receiver, timeouts.body, timeouts.min_rate)
        exchange.read_by(body)

    def _begin(self, request: Request) -> None:
        """What has to be noted of every request."""
        context, tables = self._context, self._tables
        context.requests += 1
        site = tables.known.get(request.host) or tables.find(request.host)
        if context.draining or not request.keep_alive:
            self._close = True
        record = self._general().record
        record.begin(request, request.line, context.now)
        record.site = site
        tables.remember(request, site)

    def _expect(self, exchange: Exchange) -> None:
        """From now on the answer is another's business."""
        exchange.owner = self
        exchange.client_address = self._peer
        self._exchange = exchange
        self._fresh = False
        self._phase = Phase.HANDLER
        self._since = 0.0
        self.deadline = NEVER

    def _hand_over(self, exchange: Exchange, mount: CallMount) -> None:
        exchange.http11 = mount.http11
        exchange.listener = self._tables.number
        self._expect(exchange)
        dispatch = self._context.dispatch
        assert dispatch is not None
        dispatch.submit(exchange, mount)
        if exchange.body_at < 0:
            self._wait(HUP, self._on_busy)  # the handler reads
        elif self._mask != IN:
            self._wait(IN, self.on_input)

    def _hand_over_plain(self, plain: re.Match[bytes], mount: Any) -> bool:
        """The same for a plain request, without a parsed head.  False when that can't be done."""
        if not mount.plain or mount.methods or mount.full:
            return False
        data, line = plain.string, plain[1]
        context = self._context
        dispatch = context.dispatch
        assert dispatch is not None
        exchange = Exchange(dispatch, mount, data, len(data), line, mount.path_for(line[4:-9]))
        exchange.request = plain
        exchange.keep_alive = plain[6] is None
        self._close = not exchange.keep_alive
        context.requests += 1
        self._hand_over(exchange, mount)
        return True


def _for_connect(site: Site[Any]) -> CallMount | None:
    """CONNECT names no path: a handler for all of the site may know what to do."""
    mount: Mount | None = site.route(b"/")
    return mount if isinstance(mount, CallMount) and not mount.prefix else None


