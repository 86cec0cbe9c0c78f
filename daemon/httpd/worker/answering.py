"""What comes back from a handler, on its way to the client.

    HANDLER --over, all in memory--> one write --> IDLE        what nearly all answers are
       ^ |
       | +--more than fits, or the handler goes on--> ANSWER (waits for room) --+--> IDLE, or closed
       +------------------------------------------------------------------------+

Rules:

- The loop alone touches the socket, unless a handler has taken it (`hand_out`): then it is none of the loop's any more.
- An answer that can't be completed is cut off by a reset: the client must not take it for whole.
- Who leaves while a handler runs costs nobody anything: the handler learns of it when it writes.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any

from httpd.protocol.head import parse, parse_loose
from httpd.protocol.messages import FileBody, Request
from httpd.protocol.receiver import Phase
from httpd.server.exchange import Exchange
from httpd.server.writer import ResponseWriter
from httpd.system.poller import ERR, HUP, IN, OUT
from httpd.worker.connection import Connection
from httpd.worker.exchange import RefusingMount

NEVER = float("inf")
_ROOM = 256 * 1024  # bytes that may still be queued when a handler's thread goes on
_AT_ONCE = 128 * 1024  # bytes of an answer that are joined
_LEFT = 499  # what the log says of a client that left before there was an answer; nginx says so too

Given = Callable[[int, bytes], None]


class AnsweringConnection(Connection):
    """The way back.  `_exchange` is what a handler is busy with."""

    __slots__ = ("_exchange", "_giving")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._exchange: Exchange | None = None
        self._giving: Given | None = None  # the socket is wanted, when all is sent

    # The handler has ended

    def answered(self, exchange: Exchange) -> None:
        """The handler has ended."""
        if exchange is not self._exchange:
            discard(exchange.wfile)
            return
        writer = exchange.wfile
        if exchange.taken_over:
            self._log_handler(exchange, complete=True)
            self._exchange = None
            return
        waits = self._talk is not None and self._talk.sender.left > 0  # some of it, for a socket that was full
        begun = waits or writer.taken or writer.flushed  # a quick handler fails before the loop has seen its flush()
        if not begun and (exchange.failure is not None or not writer.status):
            self._answer_instead(exchange)
            return
        whole = self._judge(exchange)
        if whole and not waits and not writer.taken and self._answer_at_once(exchange):
            return
        if writer.queue:
            self.forward(exchange)
        elif not waits:
            self._complete(exchange)

    def _judge(self, exchange: Exchange) -> bool:
        """Whether the answer is whole; decides about the connection, too."""
        writer, errors = exchange.wfile, self._context.errors
        key = exchange.mount.key
        whole = exchange.failure is None and writer.finish()
        wants_close = exchange.close_connection and not exchange.asked_again
        self._close = not (whole and writer.keep_alive) or wants_close or self._close
        if wants_close:
            writer.announce_close()
        if self._talk is not None and self._talk.receiver.body is not None:
            self._close = True  # the rest of a body that the handler was to read
        if writer.dropped:
            errors.limited(f"long {key}", 60).warning(
                f"{exchange.mount.noun} wrote more than its Content-Length", mount=key, request=exchange.line,
                bytes=writer.dropped,
            )  # fmt: skip
        if not whole:
            exchange.cut = True
            if exchange.failure is None:
                errors.limited(f"short {key}", 60).warning(
                    f"{exchange.mount.noun} wrote less than its Content-Length", mount=key, request=exchange.line
                )
        return whole

    def _answer_at_once(self, exchange: Exchange) -> bool:
        """The whole answer is in memory: one write, one line for the log.  False when that can't be done."""
        writer = exchange.wfile
        queue = writer.queue
        if writer.put > _AT_ONCE:
            return False
        try:
            data = b"".join(queue)  # type: ignore[arg-type]
        except TypeError:  # there is a file in it
            return False
        try:
            sent = os.write(self._fd, data)
        except BlockingIOError:
            return False
        except OSError:
            self._lose(exchange)
            return True
        writer.taken += sent
        queue.clear()
        if sent < len(data):
            queue.append(data[sent:])
            return False
        plain = exchange.request
        if type(plain) is not re.Match:
            self._complete(exchange)
            return True
        self._exchange = None
        log = exchange.mount.log
        if log is not None:
            figures = exchange.mount.figures(writer.status, writer.sent)
            log.plain(self._client, plain[1], figures, plain[4], plain[3], self._context.wall)
        writer.release()
        self._ready_for_next()
        return True

    def _answer_instead(self, exchange: Exchange) -> None:
        """Nothing has been sent, and what the handler wrote is no answer."""
        discard(exchange.wfile)
        self._exchange = None
        if exchange.denied:  # `verify_request` said no: socketserver closes without a word
            self.close()
            return
        self._settle_record(exchange)
        if self._talk is not None and self._talk.receiver.body is not None:
            self._close = True
        mount = exchange.mount
        if exchange.failure is None and not exchange.fault:
            self._context.errors.limited(f"silent {mount.key}", 60).warning(
                f"{mount.noun} sent no answer: 500", mount=mount.key, request=exchange.line
            )
        request = self._general().record.request
        assert request is not None
        if self._refuse_for(request, mount, exchange.fault or 500, exchange.name):
            self._ready_for_next()

    def _refuse_for(self, request: Request, mount: RefusingMount, status: int, name: str = "") -> bool:
        """Answer in the place of a mount; True as `_serve`.  `name`: what the error log calls the request."""
        reply = self._context.responder.refuse(mount, status, head_only=request.method == b"HEAD")
        if name:
            reply.fields = [*reply.fields, (b"X-Request-Id", name.encode())]
        return self._send_reply(request, reply)

    def _complete(self, exchange: Exchange) -> None:
        """All is sent: log it, and go on or end."""
        self._log_handler(exchange, complete=not exchange.cut)
        self._exchange = None
        exchange.wfile.release()
        self._general().record.end()
        self._request = None
        if exchange.cut:
            self._reset()
        else:
            self._ready_for_next()

    def _ready_for_next(self) -> None:
        if self._close:
            self._part()
            return
        self._phase = Phase.IDLE
        self.deadline = self._context.now + self._context.idle_seconds
        if self._talk is not None and self._talk.receiver.pending:
            self._wait(OUT, self._on_turn)  # pipelined requests behind the others' turn
        elif self._mask != IN:
            self._wait(IN, self.on_input)

    # The handler goes on

    def forward(self, exchange: Exchange) -> None:
        """Send what the handler has written so far."""
        if exchange is not self._exchange:
            discard(exchange.wfile)
            return
        if exchange.taken_over:
            return  # the handler's thread writes by itself
        self._settle_record(exchange)
        sender, writer = self._general().sender, exchange.wfile
        waiting = sender.left
        while writer.queue:
            sender.add(writer.queue.popleft())
        if not waiting:  # else the poller tells when there is room
            self._flow(exchange, sender.go_on(self._turn()))

    def _flow(self, exchange: Exchange, moved: int) -> None:
        """Behind an attempt to send: wait for room, let the handler go on, or end."""
        sender, writer = self._general().sender, exchange.wfile
        if moved < 0:
            self._lose(exchange)
            return
        writer.taken += moved
        if exchange.room is not None and writer.queued <= _ROOM:
            exchange.room.set()
        if sender.left:
            if self._since:
                self._moved += moved
            else:
                self._measure_output()
            self._phase = Phase.ANSWER
            self._wait(OUT, self._on_room)
            self.deadline = self._context.now + self._context.timeouts.write
            return
        self._stop_measuring()
        self._phase = Phase.HANDLER
        self.deadline = NEVER
        if self._mask == OUT:
            self._wait(HUP, self._on_busy)
        if exchange.ended:
            self._complete(exchange)
        elif self._giving is not None:
            self._give()

    def _on_room(self, mask: int) -> None:
        exchange = self._exchange
        assert exchange is not None
        sender = self._general().sender
        while exchange.wfile.queue:
            sender.add(exchange.wfile.queue.popleft())
        self._flow(exchange, sender.go_on(self._turn()))

    def _on_busy(self, mask: int) -> None:
        """Something happens on the socket while a handler runs."""
        if mask & (HUP | ERR) and self._exchange is not None:
            self._lose(self._exchange)
        elif self._mask == IN:
            self._wait(HUP, self._on_busy)  # what the client sends next waits in the kernel

    # The handler takes the socket

    def hand_out(self, exchange: Exchange, given: Given) -> None:
        """Let go of the socket once what was written is out: `given(descriptor, what was read)`; -1: it is gone."""
        if exchange is not self._exchange:
            given(-1, b"")
            return
        self._settle_record(exchange)
        self._giving = given
        if exchange.wfile.queue:
            self.forward(exchange)
        elif not self._general().sender.left:
            self._give()

    def _give(self) -> None:
        given, self._giving = self._giving, None
        assert given is not None
        context = self._context
        del context.connections[self._fd]
        if self._mask:
            context.forget(self._fd)
            self._mask = 0
        if self._sock is not None:
            self._sock.detach()
        given(self._fd, self._general().receiver.pending)

    # Ends

    def _lose(self, exchange: Exchange) -> None:
        """The client is gone."""
        self._log_handler(exchange, complete=False)
        self.close()

    def _let_go(self) -> None:
        super()._let_go()
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.lose()
        if self._giving is not None:
            self._giving(-1, b"")
            self._giving = None

    def _expire(self) -> None:
        if self._exchange is not None:
            self._log_handler(self._exchange, complete=False)
            self._reset()
        else:
            super()._expire()

    def drain(self, *, fresh: bool) -> None:
        """The next request will be the last; where a handler has not begun its answer yet, this one is."""
        super().drain(fresh=fresh)
        if self._exchange is not None:
            self._exchange.keep_alive = False

    def cut(self) -> None:
        """Close in the middle of whatever there is; an answer on its way is logged as far as it came."""
        if self._exchange is not None:
            self._log_handler(self._exchange, complete=False)
            self.close()
        else:
            super().cut()

    # Records

    def _settle_record(self, exchange: Exchange) -> None:
        """A plain request becomes one like any other."""
        plain = exchange.request
        if type(plain) is not re.Match:
            return
        limits = self._context.head_limits
        request = parse(plain.string, limits) or parse_loose(plain.string, limits)
        exchange.request = request
        record = self._general().record
        record.begin(request, request.line, self._context.now)
        record.site = self._tables.find(request.host)

    def _log_handler(self, exchange: Exchange, *, complete: bool) -> None:
        log = exchange.mount.log
        if log is None:
            return
        self._settle_record(exchange)
        writer, record = exchange.wfile, self._general().record
        unsent = 0 if complete else writer.queued
        record.status = writer.status or (101 if exchange.taken_over else _LEFT)
        record.sent, record.wire = max(0, writer.sent - unsent), writer.taken
        record.response = writer.head
        record.keepalive = not self._close
        if log.needs_clock:
            record.duration = time.monotonic() - record.started
        log.add(record, self._context.wall)


def discard(writer: ResponseWriter) -> None:
    """Nobody will send what was written."""
    while writer.queue:
        part = writer.queue.popleft()
        if isinstance(part, FileBody):
            os.close(part.fd)


