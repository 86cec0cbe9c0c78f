"""A client connection that answers plain requests (`protocol.plain`) in a few steps, and all others the general way.

The hot path of the server.  What a request for a file in memory costs: read, stat (one serves all requests that the
poller reported together), write; one match of the head, two look-ups, one join, one note for the log.

Rules:

- Only files that are in the cache, or can be put there, are answered here, with the same bytes and the same log line
  as the general way gives; a test holds the two side by side.
- Two steps: all requests that a round brings are read, then they are answered.  So one look at a file, taken in the
  second step, is later than every one of them was received, and serves them all.
- Who can't be answered here, for whatever reason, has lost nothing: not a byte was sent, nothing was counted.
"""

from __future__ import annotations

import os
import re

from httpd.content.cache import Entry
from httpd.protocol.head import parse, parse_loose
from httpd.protocol.messages import FileBody
from httpd.protocol.writer import CLOSE, OPEN
from httpd.system.poller import IN
from httpd.worker.peer import RECV
from httpd.worker.scripting import ScriptingConnection
from httpd.worker.sender import FAILED, GATHER

_read, _write, _writev = os.read, os.write, os.writev  # looked up once


class PlainConnection(ScriptingConnection):
    """From accept to close."""

    __slots__ = ()

    def on_input(self, mask: int = 0) -> None:
        """The socket has something to read, or its end, or an error.  `mask` is what the poller saw, 0: nothing yet."""
        if self._exchange is not None:
            self._on_busy(mask)
            return
        try:
            data = _read(self._fd, RECV)
        except BlockingIOError:
            self._wait(IN, self.on_input)
            return
        except OSError:
            self.close()
            return
        talk = self._talk
        if talk is None or not (talk.receiver.pending or talk.receiver.body):
            # Nothing is left of what came before.
            context = self._context
            if len(data) <= context.head_limits.quick and not context.draining:
                plain = context.plain(data)
                if plain is not None:
                    context.asked.append((self, plain))
                    return
        if data:
            self._pump(data)
        else:
            self._end_of_input()

    def answer(self, plain: re.Match[bytes]) -> None:
        """Answer what `on_input` has put down in `Context.asked`."""
        if not self._serve_plain(plain):
            self._pump(plain.string)

    def _serve_plain(self, plain: re.Match[bytes]) -> bool:  # noqa: C901 - the hot path: calls are what costs
        """Answer a plain request in a few steps; False when that can't be done."""
        context = self._context
        line, path, agent, referer, host, close, tag, since, span = plain.groups()
        site = self._tables.by_field.get(host)
        if site is None:
            return False
        if (mount := site.handlers.get(path)) is not None:
            return self._hand_over_plain(plain, mount)
        if (entry := site.files.get(path)) is not None and not entry.plain:
            return False
        if entry is None or not (entry.round == context.round or entry.fresh(context.now, context.round)):
            entry = context.responder.load(site, path, context.wall, context.now)
        if entry is None or not entry.plain:
            return False
        entry.used = True
        rest: bytes | memoryview
        status, rest, first, length, figures = 200, entry.tail, 0, entry.body, entry.figures
        if not (tag is since is span is None):
            narrowed = entry.narrowed(tag, since, span)
            if narrowed is None:
                return False
            status, rest, first, length, figures = narrowed
        persistence, preambles = CLOSE if close else OPEN, context.preambles
        head = preambles.made.get(status * 4 + persistence) or preambles.get(status, persistence)
        if length and not entry.small:
            return self._serve_file(plain, entry, head + rest, status, first, length, figures)
        if status == 206:
            head, rest = head + rest, memoryview(entry.tail)[entry.head + first : entry.head + first + length]
        size = len(head) + len(rest)
        try:
            sent = _write(self._fd, head + rest) if size < GATHER else _writev(self._fd, (head, rest))
        except BlockingIOError:
            sent = 0
        except OSError:
            sent = FAILED
        context.requests += 1
        if sent == size:
            log = entry.log
            if log is not None:
                log.plain(self._client, line, figures, referer, agent, context.wall)
            self._go_on(close)
        else:
            moved = self._general().sender.adopt(head, rest, sent)
            self._go_on_sending(plain.string, entry, status, length, size, moved)
        return True

    def _serve_file(
        self, plain: re.Match[bytes], entry: Entry, head: bytes, status: int, first: int, length: int, figures: bytes
    ) -> bool:
        """The same for a file that is not in memory."""
        fd = entry.open()
        if fd < 0:
            return False
        context, sender, log = self._context, self._general().sender, entry.log
        context.requests += 1
        moved = sender.start(head, [FileBody(fd, first, length)], self._turn())
        if sender.left:
            self._go_on_sending(plain.string, entry, status, length, len(head) + length, moved)
            return True
        if log is not None:
            line, _, agent, referer, _, _, _, _, _ = plain.groups()
            log.plain(self._client, line, figures, referer, agent, context.wall)
        self._go_on(plain[6])
        return True

    def _go_on(self, close: bytes | None) -> None:
        """Behind the answer to a plain request."""
        self._fresh = False
        self.deadline = self._context.now + self._context.idle_seconds
        if close:
            self._part()
        elif self._mask != IN:
            self._wait(IN, self.on_input)

    def _go_on_sending(self, data: bytes, entry: Entry, status: int, body: int, size: int, moved: int) -> None:
        """The answer to a plain request did not go out at once: from here on it is like any other."""
        limits = self._context.head_limits
        request = parse(data, limits) or parse_loose(data, limits)
        self._close = not request.keep_alive
        record = self._general().record
        record.begin(request, request.line, self._context.now)
        record.site = self._tables.find(request.host)
        self._note(status, body, size, entry.fields, entry.log)
        if self._sent(moved) and self._mask != IN:
            self._wait(IN, self.on_input)
