"""A mount whose requests are answered by calling a handler: what does not depend on where the handler comes from.

Rules:

- The handler is called as `socketserver` calls it, `Handler(request, client_address, server)`, by way of the server's
  hooks where it has any.
- Whatever it raises ends its request and nothing else, SystemExit included.
- `active` and `waiting` belong to the loop, `run` to a thread.
"""

from __future__ import annotations

import os
import traceback
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from httpd.config import schema
from httpd.content import paths
from httpd.content.cache import Entry
from httpd.logs.access_log import AccessLog
from httpd.protocol.messages import Request, Response
from httpd.server.adopted import offer
from httpd.server.exchange import Exchange

_FIGURES = 1024  # statuses and sizes of which the log's words are remembered


class CallMount:
    """One in each worker.

    `limit` exchanges may run at once, `queue` more may wait.  `inbox`: run them not in the pool but where somebody
    takes them out of it.
    """

    runs_code = True
    noun = "a handler"  # what messages call it
    directory: Any = None
    decides_expect = False
    body_alone = False  # it wants the body without the head in front

    def __init__(self, key: str, prefix: bytes, settings: schema.Settings, log: AccessLog | None) -> None:
        self.key = key
        self.prefix = prefix
        self.settings = settings
        self.log = log
        self.plain = log is None or log.in_pieces
        self.methods = frozenset(method.encode() for method in settings.methods)
        self.extra_fields = [
            (name.lower().encode(), f"{name}: {value}\r\n".encode("latin-1"))
            for name, value in settings.headers.items()
        ]
        self.http11 = self.stream = False
        self.limit = self.queue = 1
        self.active = 0
        self.released = 0  # of them, those that do not count: streams, sockets that were taken over
        self.score = 0  # `dispatch`: how quick it has been
        self.waiting: deque[Exchange] = deque()
        self.inbox: SimpleQueue[Exchange] | None = None
        self.direct = True
        self.servers: list[Any] = []
        self._pid = os.getpid()
        self._strip = False  # `path_for` leaves the prefix out
        self._call: Callable[..., Any] = _nothing
        self._figures: dict[tuple[int, int], bytes] = {}

    # What a site asks of a mount

    def load(self, path: bytes, wall: float, now: float) -> Entry | None:
        """Nothing of a handler is kept."""
        return None

    def answer(self, request: Request, path: bytes, wall: float, now: float) -> tuple[Response, Entry | None]:
        """Never asked: `worker.handling` routes to handlers by itself."""
        return self.refusal(405), None

    def refusal(self, status: int) -> Response:
        """What the server itself answers: 405, 500, 503."""
        fields: list[tuple[bytes, bytes]] = []
        if status == 405:
            fields = [(b"Allow", b", ".join(sorted(self.methods)))]
        elif status == 503:
            fields = [(b"Retry-After", b"1")]
        return Response(status, fields)

    def knows(self, method: bytes) -> bool:
        """Whether it is the handler that has to answer a method."""
        return True

    def refuses(self, method: bytes) -> bool:
        """Whether the configuration does not let this method through."""
        return bool(self.methods) and method not in self.methods

    @property
    def full(self) -> bool:
        """Whether no more requests can wait."""
        return self.active - self.released >= self.limit + self.queue

    def figures(self, status: int, size: int) -> bytes:
        """What the access log says of an answer (`AccessLog.plain`)."""
        found = self._figures.get((status, size))
        if found is None:
            assert self.log is not None
            if len(self._figures) >= _FIGURES:
                self._figures.clear()
            found = self._figures[status, size] = self.log.figures(status, size)
        return found

    def path_for(self, target: bytes) -> str:
        """`self.path` for a request target in origin-form."""
        if target[:2] == b"//":
            target = b"/" + target.lstrip(b"/")  # gh-87389: a Location made of it would name another host
        return self._stripped(target) if self._strip else target.decode("latin-1")

    def _stripped(self, target: bytes) -> str:
        path, mark, query = target.partition(b"?")
        size = len(self.prefix)
        if path[:size] == self.prefix and path[size : size + 1] in (b"", b"/") and b"/." not in path:
            rest = path[size:]
        else:  # the same path in other words, as "/%61pp/x" or "/app/../app/x"
            rest = paths.quote(paths.normalize(paths.decode(path))[size:])
        return (b"/" + rest.lstrip(b"/") + mark + query).decode("latin-1")

    def with_extra_fields(self, head: bytes, folded: bytes) -> bytes:
        """A head with the configured fields that the handler has not set."""
        more = b"".join(line for name, line in self.extra_fields if b"\r\n%b:" % name not in folded)
        return head[:-2] + more + b"\r\n"

    # In a thread

    def run(self, exchange: Exchange) -> None:
        """Call the handler, and see to it that it is over then, unless the server object has passed it on."""
        server = self.servers[exchange.listener]
        try:
            if exchange.broken:
                pass  # the client did not wait for its turn
            elif self.direct:
                self._call(exchange, exchange.client_address, server)
            else:
                exchange.hooked = True
                offer(server, exchange)
                exchange.returned = True
                if os.getpid() != self._pid:
                    os._exit(0)
                if not exchange.over:  # in the hands of a thread of the server's own
                    exchange.eager = True
                    exchange.push()
                return
        except BaseException as error:
            self._failed(exchange, server, error)
        if exchange.holds:
            exchange.let_go()
        exchange.returned = exchange.over = True
        if os.getpid() != self._pid:  # the handler has forked, and this is the child
            os._exit(0 if exchange.failure is None else 1)

    def _failed(self, exchange: Exchange, server: Any, error: BaseException) -> None:
        if os.getpid() != self._pid:
            exchange.failure = error
            if not isinstance(error, SystemExit):
                traceback.print_exception(error)
        elif not isinstance(error, Exception):  # sys.exit() in a handler: no reason to end a server
            exchange.failed(error)
        else:
            try:
                server.handle_error(exchange, exchange.client_address)
            except BaseException as another:
                exchange.failed(another)
        if exchange.failure is None:
            exchange.failure = error  # whoever overrides handle_error may keep quiet about it


def _nothing(*_: object) -> None:
    """In the place of a handler that is not known yet."""
