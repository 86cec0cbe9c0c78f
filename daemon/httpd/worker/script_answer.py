"""What a script writes to stdout, on its way to becoming an answer: head, body, how it is framed, when it leaves.

Rules:

- A first piece is held for a moment, so that an answer which is complete by then leaves as a whole, with its length.
- What the script promises is held against what it writes (`server.writer`, which frames every answer).
- Past `_ROOM` bytes that the client has not taken, nothing more is read: the script waits.
"""

from __future__ import annotations

from httpd.cgi.answer import BadOutput, Chunks, Head, HeadReader, is_nph
from httpd.protocol.writer import OPEN
from httpd.server.heads import BadAnswer
from httpd.worker.run_faces import Run, Sink

_ROOM = 256 * 1024  # bytes that wait for the client above which the script waits
_HOLD = 0.003  # seconds that the beginning of an answer is held for the rest of it
_HELD = 128 * 1024  # bytes above which it is not
_SHOWN = 200  # bytes of a bad answer that are shown
_NEVER = float("inf")


class ScriptAnswer:
    """The answer of one run; `sink` is who gets it, None when nobody does any more."""

    def __init__(self, run: Run, sink: Sink, limit: int) -> None:
        """`limit`: bytes that the head may have."""
        self._run = run
        self.sink: Sink | None = sink
        self.hold_until = _NEVER
        self.begun = False  # it has left, in part at least
        self.whole = False  # its client has all of it, and the script may go on
        self.reader = HeadReader(limit)
        self._nph = is_nph(run.found.file.rpartition(b"/")[2])
        self._head: Head | None = None
        self._chunks: Chunks | None = None
        self._pieces: list[bytes] = []
        self._output = 0
        self._first = b""  # of one whose answer is not ours

    @property
    def has_head(self) -> bool:
        """Whether its head is complete."""
        if self._nph:
            return self.sink is not None and bool(self.sink.wfile.status)
        return self._head is not None

    @property
    def beginning(self) -> str:
        """What the output begins with, to be shown; "" where there is none."""
        if self._nph:
            return ascii(self._first.split(b"\n", 1)[0].decode("latin-1")) if self._first else ""
        return self.reader.first_line if self.reader.begun else ""

    @property
    def sent(self) -> int:
        """The status that is on its way to the client; 0: none is, another one can be sent yet."""
        writer = self.sink.wfile if self.sink is not None else None
        return writer.status if writer is not None and writer.begun else 0

    @property
    def holds(self) -> bool:
        """Whether there is something to be released."""
        return self.sink is not None and not self.begun and self.has_head

    def take(self, data: bytes) -> bool:
        """Take a piece of output; False: there will be no more."""
        if self._nph:
            self._first = self._first or data[:_SHOWN]
        elif self._head is None:
            try:
                if not self.reader.feed(data):
                    return True
            except BadOutput as error:
                self._run.fail(502, error.reason)
                return False
            self._head, data = self.reader.head, self.reader.rest
            assert self._head is not None
            if self._head.local:
                self._run.redirect(self._head.local)
                return False
            if self._head.chunked:
                self._chunks = Chunks()
        if self._chunks is not None:
            try:
                data = self._chunks.feed(data)
            except BadOutput as error:
                self._run.fail(502, error.reason)
                return False
        self._output += len(data)
        limit = self._run.mount.mount.limits.output
        if limit and self._output > limit:
            self._run.fail(502, f"its output is more than limits.output ({limit} bytes)")
            return False
        if self.begun or self._nph:
            return self._write(data)
        if data:
            self._pieces.append(data)
        return True

    def hold_or_send(self) -> None:
        """Behind some output: send it, or wait a moment for more."""
        scripts = self._run.scripts
        if not self.begun and not self._nph and self._output < _HELD:
            if self.hold_until == _NEVER:
                self.hold_until = scripts.context.now + _HOLD
                scripts.held.append(self)
            if scripts.context.now < self.hold_until:
                return
        self.release()

    def release(self) -> None:
        """Send what is there."""
        sink = self.sink
        over = self._chunks is not None and self._chunks.done
        if sink is None or (not self.begun and not (self.finish() if over else self._begin(None))):
            return
        sink.owner.forward(sink)
        if self.sink is not sink:
            return
        if over or sink.wfile.complete:
            self.whole = True
            self._run.answered()
        elif sink.wfile.queued > _ROOM:
            sink.room = self._run  # of which `set` is asked
            self._run.output.pause()

    def finish(self) -> bool:
        """The output, which has a head, is over; False: it is no answer, and was refused."""
        head, sink = self._head, self.sink
        assert sink is not None
        if head is None:
            return self.begun or self._begin(None)
        bodiless = sink.command == "HEAD" or head.status in (204, 205, 304)
        if not bodiless:
            if head.length is not None and self._output < head.length:
                self._run.fail(502, f"it promised {head.length} bytes and sent {self._output}")
                return False
            if self._chunks is not None and not self._chunks.done:
                self._run.fail(502, "its last chunk did not come")
                return False
        return self.begun or self._begin(None if bodiless else self._output)

    def _begin(self, length: int | None) -> bool:
        """Send the head, and what there is of the body; `length`: the whole body's, where it is known."""
        self.begun = True
        if self._nph:
            return True
        head = self._head
        assert head is not None
        announced = head.length if head.length is not None else length
        if head.status == 205:  # RFC 9110 15.3.6: it has no content, and says so
            self._pieces, announced = [], 0
        lines = head.lines()
        if announced is not None:
            lines += b"Content-Length: %d\r\n" % announced
        _, _, rest = self._run.scripts.context.preambles.get(head.status, OPEN).partition(b"\r\n")
        status_line = b"HTTP/1.1 %d %b\r\n" % (head.status, head.reason)
        pieces, self._pieces = self._pieces, []
        return self._write(b"%b%b%b\r\n%b" % (status_line, rest, lines, b"".join(pieces)))

    def _write(self, data: bytes) -> bool:
        assert self.sink is not None
        if self._nph:
            self.begun = True
        try:
            if data:
                self.sink.wfile.write(data)
        except BadAnswer as error:
            self._run.fail(502, f"no HTTP answer, as a script of this name has to write: {error}")
            return False
        except OSError:
            return False
        return True


def hand_back(sink: Sink) -> None:
    """Tell who waits that the answer is over."""
    sink.close_connection = False
    sink.over = sink.ended = True
    sink.owner.answered(sink)
