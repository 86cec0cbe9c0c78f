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
_WIDTH = {"common": 4, "combined": 8}
_SENT_BY_CLIENTS = {"common": (2,), "combined": (2, 4, 6)}
_QUOTES = {"common": b'""\n', "combined": b'""""""\n'}  # what is left of a line without its harmless bytes


class AccessLog:
    """Collects lines for one target.  `dirty` is the loop's list of logs that have lines to hand on.

    `in_pieces`: the format has a `plain` way.
    """

    __slots__ = (
        "_dirty", "_form", "_full", "_lines", "_pieces", "_since", "_stamp", "_stamps", "_until", "_write", "in_pieces",
        "needs_clock",
    )  # fmt: skip

    def __init__(self, form: AccessFormat, write: Callable[[bytes], None], dirty: list[AccessLog]) -> None:
        self._form = form
        self._write = write
        self._dirty = dirty
        self._lines: list[bytes] = []
        self._pieces: list[bytes] = []
        self._stamps = Stamp()
        self._stamp, self._since, self._until = b"", 0.0, 0.0
        self._full = form.name == "combined"
        self.in_pieces = form.name in _WIDTH
        self.needs_clock = form.needs_clock

    def add(self, entry: Entry, wall: float) -> None:
        """Note one finished exchange.  `wall` is seconds since the epoch."""
        if self._pieces:
            self._join()
        elif not self._lines:
            self._dirty.append(self)
        self._lines.append(self._form.format(entry, wall))

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
        if not pieces and not self._lines:
            self._dirty.append(self)
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
        self._lines.append(text)
        pieces.clear()

    def hand_on(self) -> None:
        """Give what was collected to the sink."""
        if self._pieces:
            self._join()
        self._write(b"".join(self._lines))
        self._lines.clear()
