"""One client connection on the worker's loop, the general way: when to read, what to send, when to stop.

    IDLE -> HEAD -> (BODY) -> ANSWER -> IDLE      with keep-alive
                                 |
                                 +-> LINGER -> closed

Rules:

- A connection costs a descriptor, never a thread.
- While an answer is on its way nothing is read: the client's next requests wait in the kernel (back-pressure).
- Requests are answered in their order, one after the other; a body is read to its end, or the connection is closed
  behind the answer, so that an unread body never becomes a request.
- Plain requests are answered in `worker.plain`; what the general way needs beside the socket
  (`_Talk`) is made when it is first taken.
"""

from __future__ import annotations

import os
import time
from typing import Any

from httpd.content.cache import Entry
from httpd.content.sites import SiteTable
from httpd.logs.access_log import AccessLog
from httpd.protocol.conditional import evaluate
from httpd.protocol.messages import FieldList, FileBody, ProtocolError, Request
from httpd.protocol.receiver import ON_END_OF_INPUT, ON_TIMEOUT, Phase, Receiver
from httpd.protocol.writer import CLOSE, KEEP_ALIVE, OPEN, rest_of_head
from httpd.system.pending import input_pending
from httpd.system.poller import IN, OUT
from httpd.worker.context import Context
from httpd.worker.exchange import NARROWING, Mount, Reply, refusal
from httpd.worker.peer import Peer
from httpd.worker.record import Record
from httpd.worker.sender import Sender

_TURN = 0.005  # seconds that a round may have lasted when one more pipelined request is begun in it



class _Talk:
    """What the general way needs beside the socket."""

    __slots__ = ("receiver", "record", "sender")

    def __init__(self, receiver: Receiver, record: Record, sender: Sender) -> None:
        self.receiver = receiver
        self.record = record
        self.sender = sender


class Connection(Peer):
    """A client that speaks HTTP, from accept to close.  `on_input` is for who extends it."""

    __slots__ = ("_client", "_close", "_log", "_peer", "_port", "_request", "_tables", "_talk")

    def __init__(
        self, context: Context, fd: int, client: bytes, port: int, tables: SiteTable[Mount], peer: Any = ("", 0)
    ) -> None:
        """`client` is the client's address for logs, `peer` as `accept` gives it, `port` the one that it came to."""
        super().__init__(context, fd)
        self._client = client
        self._peer = peer
        self._port = port
        self._tables = tables
        self._talk: _Talk | None = None
        self._close = False  # this answer is the last
        self._request: Request | None = None  # whose body is being read
        self._log: AccessLog | None = None

    # Reading

    def on_input(self, mask: int = 0) -> None:
        """The socket has something to read, or its end, or an error.  `mask` is what the poller saw, 0: nothing yet."""
        raise NotImplementedError

    def _general(self) -> _Talk:
        talk = self._talk
        if talk is None:
            record = Record(self._client, self._port)
            talk = self._talk = _Talk(Receiver(self._context.head_limits), record, Sender(self._fd))
        return talk

    def _pump(self, data: bytes) -> None:
        """Answer all that has been received, one request after the other."""
        receiver = self._general().receiver
        try:
            while True:
                if receiver.body is None:
                    request = receiver.next_request(data)
                    if request is None:
                        break
                    ready = not request.length or self._decline_body(request)
                else:
                    request = self._request
                    assert request is not None
                    ready = self._read_body(data, request)
                if ready and not self._serve(request):
                    return
                if not receiver.pending:
                    break
                data = b""
                if time.monotonic() - self._context.now > _TURN:
                    self._wait(OUT, self._on_turn)  # a socket with room is writable, so the next round comes here again
                    self.deadline = self._context.now + self._context.timeouts.write
                    return
        except ProtocolError as error:
            self._refuse(error)
            return
        if receiver.pending and self._phase is not Phase.HEAD and receiver.phase is Phase.HEAD:
            self._phase = Phase.HEAD
            self.deadline = self._context.now + self._context.timeouts.head
        if self._mask != IN:
            self._wait(IN, self.on_input)

    def _on_turn(self, mask: int) -> None:
        """Go on with pipelined requests behind the others' turn."""
        self._wait(OUT, self._on_output)  # where an answer that does not go out at once will look
        self.deadline = self._context.now + self._context.idle_seconds
        self._pump(b"")

    def _decline_body(self, request: Request) -> bool:
        """Whether to answer now although a body was announced.

        A small one is read first, so that a broken one is seen.  With Expect: 100-continue the final status is the
        answer (RFC 9110 10.1.1); whether the body then still comes can't be known, so the connection ends.
        """
        if request.expect or request.length > self._context.limits.body_memory:
            self._close = True
            return True
        self._request = request
        self._phase = Phase.BODY
        self._since, self._moved = self._context.now, 0
        self.deadline = self._context.now + self._context.timeouts.body
        return False

    def _read_body(self, data: bytes, request: Request) -> bool:
        """Take in body bytes; True when it is time to answer."""
        context = self._context
        self._moved += len(data)
        self.deadline = context.now + context.timeouts.body
        receiver = self._general().receiver
        receiver.next_body(data)
        if receiver.body is None:
            return True
        if self._moved > context.limits.body_memory:  # chunked, and more than anybody here wants
            self._close = True
            return True
        return False

    def _end_of_input(self) -> None:
        phase = Phase.IDLE if self._talk is None else self._talk.receiver.phase
        status = ON_END_OF_INPUT[phase]
        if status is None:
            self.close()
        else:
            self._refuse(ProtocolError(status, "the client stopped sending"))

    # Answering

    def _serve(self, request: Request) -> bool:
        """Answer one request.  True when the answer is out and the connection may go on to the next."""
        context = self._context
        now = context.now
        context.requests += 1
        tables = self._tables
        site = tables.known.get(request.host) or tables.find(request.host)
        if context.draining or not request.keep_alive:
            self._close = True
        record = self._general().record
        record.begin(request, request.line, now)
        record.site = site
        tables.remember(request, site)
        entry = context.responder.known(site, request, now)
        if entry is not None and not request.length:
            entry.used = True
            if NARROWING.isdisjoint(request.fields):
                if entry.small:
                    return self._send_entry(request, entry, 200)
                if (fd := entry.open()) >= 0:
                    return self._send_file(request, entry, fd)
            elif b"range" not in request.fields and (
                evaluate(request.fields, request.method, entry.validators, int(context.wall)) == 304
            ):
                return self._send_entry(request, entry, 304)
        return self._send_reply(request, context.responder.respond(site, request, context.wall, now, entry))

    def _send_entry(self, request: Request, entry: Entry, status: int) -> bool:
        """A head made beforehand and a body in memory."""
        rest, body = (entry.tail, entry.body) if status == 200 else (entry.unchanged[0], 0)
        if body and request.method == b"HEAD":
            rest, body = rest[: entry.head], 0
        preamble = self._preamble(request, status)
        self._note(status, body, len(preamble) + len(rest), entry.fields, entry.log)
        return self._sent(self._general().sender.start(preamble, [rest]))

    def _send_file(self, request: Request, entry: Entry, fd: int) -> bool:
        """The same for a file that is too large for the cache."""
        body = 0 if request.method == b"HEAD" else entry.body
        head = self._preamble(request, 200) + entry.tail
        self._note(200, body, len(head) + body, entry.fields, entry.log)
        if not body:
            os.close(fd)
        return self._sent(self._general().sender.start(head, [FileBody(fd, 0, body)] if body else [], self._turn()))

    def _send_reply(self, request: Request | None, reply: Reply) -> bool:
        if reply.close:
            self._close = True
        rest = reply.rest or rest_of_head(reply.status, reply.fields, reply.length)
        head = self._preamble(request, reply.status) + rest
        body = reply.length if reply.parts else 0  # HEAD, 304: a length without a body
        self._note(reply.status, body, len(head) + body, reply.fields, reply.log)
        return self._sent(self._general().sender.start(head, reply.parts, self._turn()))

    def _preamble(self, request: Request | None, status: int) -> bytes:
        persistence = CLOSE if self._close else OPEN if request is None or request.minor else KEEP_ALIVE
        return self._context.preambles.get(status, persistence)

    def _note(self, status: int, body: int, size: int, fields: FieldList, log: AccessLog | None) -> None:
        """Note an answer of `size` bytes, `body` of them behind its head, that is about to be sent."""
        record = self._general().record
        record.status, record.sent, record.wire, record.response = status, body, size, fields
        self._log = log
        self._phase = Phase.ANSWER
        self._since = 0.0

    def _sent(self, moved: int) -> bool:
        """Look at how far sending came.  True when the answer is out and the connection may go on."""
        context = self._context
        if moved < 0:
            self._finish_record(complete=False)
            self.close()
            return False
        if self._general().sender.left:
            if self._since:
                self._moved += moved
            else:
                self._measure_output()
            if self._mask != OUT:
                self._wait(OUT, self._on_output)
            self.deadline = context.now + context.timeouts.write
            return False
        self._stop_measuring()
        self._finish_record(complete=True)
        if self._close:
            self._part()
            return False
        self._general().record.end()
        self._request = None
        self._fresh = False
        self._phase = Phase.IDLE
        self.deadline = context.now + context.idle_seconds
        return True

    def _on_output(self, mask: int) -> None:
        talk = self._general()
        if self._sent(talk.sender.go_on(self._turn())):
            if talk.receiver.pending:
                self._pump(b"")
            else:
                self._wait(IN, self.on_input)

    def _finish_record(self, *, complete: bool) -> None:
        log = self._log
        if log is None:
            return
        talk = self._general()
        record = talk.record
        record.keepalive = not self._close
        if not complete:
            record.wire -= talk.sender.left
            record.sent = max(0, record.sent - talk.sender.left)
        if log.needs_clock:
            record.duration = time.monotonic() - record.started
        log.add(record, self._context.wall)

    # Ending

    def _refuse(self, error: ProtocolError) -> None:
        """Answer what broke the protocol or ran out of time, and end the connection."""
        context, talk = self._context, self._general()
        record = talk.record
        raw = talk.receiver.pending.lstrip(b"\r\n")
        request = self._request if talk.receiver.phase is Phase.BODY else None
        line = raw[: context.limits.request_line].split(b"\n", 1)[0].rstrip(b"\r") if request is None else request.line
        record.begin(request, line, context.now)
        record.site = None
        context.errors.debug("refused", client=record.client, status=error.status, reason=error.reason)
        self._close = True
        self._send_reply(None, refusal(error.status, line.startswith(b"HEAD "), context.log))

    def _part(self) -> None:
        """Close behind the last answer, lingering if the client may still be sending."""
        receiver = None if self._talk is None else self._talk.receiver
        if (receiver is not None and (receiver.pending or receiver.body)) or input_pending(self._fd):
            self._linger()
        else:
            self.close()

    def _expire(self) -> None:
        status = ON_TIMEOUT[self._phase]
        if status is not None:
            self._refuse(ProtocolError(status, "the client was too slow"))
        elif self._phase is Phase.IDLE:
            self._linger()
        elif self._phase is Phase.ANSWER:
            self._finish_record(complete=False)
            self._reset()
        else:
            self.close()

    def cut(self) -> None:
        """Close in the middle of whatever there is; an answer on its way is logged as far as it came."""
        if self._phase is Phase.ANSWER:
            self._finish_record(complete=False)
        self.close()

    def _let_go(self) -> None:
        if self._talk is not None:
            self._talk.sender.abandon()
