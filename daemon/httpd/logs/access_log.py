"""One access log as a worker sees it: lines are collected, and handed on in one piece every few milliseconds.

Two ways to note an exchange, kept in one order:

- `add`: a line is formatted at once from an `Entry`.
- `plain`, for a plain request (`protocol.plain`) that was answered in a few steps: the pieces of its line are noted as
  they are.  Many lines are then joined, and looked at for bytes that have to be escaped (CWE-117), in one go.

Rules: both are on the hot path and do nothing else.  Both give the same bytes; a test holds them side by side.
"""

from __future__ import annotations

from collections.abc import Callable

from httpd.logs.access import AccessFormat, Entry
from httpd.logs.escape import SAFE, escape
from httpd.logs.stamp import Stamp

# Lines in pieces: client, stamp, request line, figures; in "combined" also Referer, between, User-Agent, end.
_FIGURES = {"common": b'" %d %b\n', "combined": b'" %d %b "'}
_MANY = 4096  # pieces, and
_MUCH = 256 * 1024  # bytes: handed on at once, so that a sink can write them while more is made
_WIDTH = {"common": 4, "combined": 8}
_SENT_BY_CLIENTS = {"common": (2,), "combined": (2, 4, 6)}
_QUOTES = {"common": b'""\n', "combined": b'""""""\n'}  # what is left of a line without its harmless bytes


class AccessLog:
    """Collects lines for one target.  `dirty` is the loop's list of logs that have lines to hand on.

    `in_pieces`: the format has a `plain` way.
    """

    __slots__ = (
        "_dirty", "_form", "_full", "_known", "_lines", "_pieces", "_since", "_size", "_stamp", "_stamps", "_until",
        "_write", "in_pieces", "needs_clock",
    )  # fmt: skip

    def __init__(self, form: AccessFormat, write: Callable[[bytes], None], dirty: list[AccessLog]) -> None:
        self._form = form
        self._write = write
        self._dirty = dirty
        self._lines: list[bytes] = []
        self._pieces: list[bytes] = []
        self._size = 0  # of the lines
        self._known = False  # stands in `dirty`
        self._stamps = Stamp()
        self._stamp, self._since, self._until = b"", 0.0, 0.0
        self._full = form.name == "combined"
        self.in_pieces = form.name in _WIDTH
        self.needs_clock = form.needs_clock

    def add(self, entry: Entry, wall: float) -> None:
        """Note one finished exchange.  `wall` is seconds since the epoch."""
        if self._pieces:
            self._join()
        if not self._known:
            self._known = True
            self._dirty.append(self)
        self._keep(self._form.format(entry, wall))

    def figures(self, status: int, size: int | None) -> bytes:
        """What `plain` wants to be given for a status and a body of `size` bytes; None: a template for sizes."""
        template = _FIGURES.get(self._form.name)
        if template is None:
            return b""
        return template % (status, b"%d" if size is None else b"%d" % size if size else b"-")

    def plain(
        self, client: bytes, line: bytes, figures: bytes, referer: bytes | None, agent: bytes | None, wall: float
    ) -> None:
        """Note a plain request; `figures` are those of its answer."""
        pieces = self._pieces
        if not self._known:
            self._known = True
            self._dirty.append(self)
        elif len(pieces) >= _MANY:
            self._join()
        if not self._since <= wall < self._until:
            self._since, self._until = int(wall), int(wall) + 1
            self._stamp = b' - - %b "' % self._stamps.clf(wall)
        if self._full:
            pieces += (client, self._stamp, line, figures, referer or b"-", b'" "', agent or b"-", b'"\n')
        else:
            pieces += (client, self._stamp, line, figures)

    def _join(self) -> None:
        pieces, name = self._pieces, self._form.name
        text = b"".join(pieces)
        width = _WIDTH[name]
        if text.translate(None, SAFE) != _QUOTES[name] * (len(pieces) // width):
            for offset in _SENT_BY_CLIENTS[name]:
                pieces[offset::width] = [escape(piece) for piece in pieces[offset::width]]
            text = b"".join(pieces)
        pieces.clear()
        self._keep(text)

    def _keep(self, text: bytes) -> None:
        self._lines.append(text)
        self._size += len(text)
        if self._size >= _MUCH:
            self._pass_on()

    def _pass_on(self) -> None:
        self._write(b"".join(self._lines))
        self._lines.clear()
        self._size = 0

    def hand_on(self) -> None:
        """Give what was collected to the sink."""
        if self._pieces:
            self._join()
        if self._lines:
            self._pass_on()
        self._known = False
