"""Collecting lines: both ways to note an exchange give the same bytes, in order, and not too much is held."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from httpd.logs.access import compile_format
from httpd.logs.access_log import _MANY, _MUCH, AccessLog

WALL = 1_700_000_000.5


@dataclass
class Exchange:
    """An `Entry` as far as these formats look."""

    request_line: bytes
    fields: dict[bytes, bytes] = field(default_factory=dict)
    status: int = 200
    sent: int = 0
    client: bytes = b"192.0.2.1"
    user: bytes = b"-"


class Sunk:
    """A log, and what it has handed on."""

    def __init__(self, form: str) -> None:
        self.pieces: list[bytes] = []
        self.dirty: list[AccessLog] = []
        self.log = AccessLog(compile_format(form), self.pieces.append, self.dirty)

    def plain(self, exchange: Exchange) -> None:
        log = self.log
        figures = log.figures(exchange.status, exchange.sent)
        fields = exchange.fields
        log.plain(
            exchange.client, exchange.request_line, figures, fields.get(b"referer"), fields.get(b"user-agent"), WALL
        )

    def text(self) -> bytes:
        for log in self.dirty:
            log.hand_on()
        self.dirty.clear()
        return b"".join(self.pieces)


EXCHANGES = [
    Exchange(b"GET / HTTP/1.1"),
    Exchange(b"GET /a HTTP/1.1", {b"referer": b"http://b/", b"user-agent": b"c d"}, 206, 7),
    Exchange(b'GET /"x HTTP/1.1', {b"referer": b'"\\', b"user-agent": b"\x80\x1b[0m"}, 304),
    Exchange(b"GET /z HTTP/1.1", {b"user-agent": b'""'}, 200, 1),
]


@pytest.mark.parametrize("form", ["common", "combined"])
@pytest.mark.parametrize("mixed", [False, True])
def test_both_ways_give_the_same_lines(form: str, mixed: bool) -> None:
    general, other = Sunk(form), Sunk(form)
    for number, exchange in enumerate(EXCHANGES * 3):
        general.log.add(exchange, WALL)  # type: ignore[arg-type]
        if mixed and number % 3 == 0:
            other.log.add(exchange, WALL)  # type: ignore[arg-type]
        else:
            other.plain(exchange)
    assert other.text() == general.text()
    assert general.text().count(b"\n") == 3 * len(EXCHANGES)


def test_the_clock_may_go_either_way() -> None:
    sunk = Sunk("common")
    log, figures = sunk.log, sunk.log.figures(200, 1)
    for wall in (WALL, WALL + 0.6, WALL, WALL - 5):
        log.plain(b"c", b"l", figures, None, None, wall)
    stamps = [line.split(b"[")[1][:20] for line in sunk.text().splitlines()]
    assert stamps[0] == stamps[2]
    assert len(set(stamps)) == 3


def test_a_template_has_no_pieces() -> None:
    log = Sunk("%h %r").log
    assert not log.in_pieces
    assert log.figures(200, 1) == b""


@pytest.mark.parametrize("plain", [False, True])
def test_much_is_handed_on_at_once(plain: bool) -> None:
    """What one report tells may be more than a sink has room for."""
    sunk = Sunk("combined")
    exchange = Exchange(b"GET / HTTP/1.1", {b"user-agent": b'"' * 8000})
    lines = 2 * _MANY // 8 + 3
    for _ in range(lines):
        if plain:
            sunk.plain(exchange)
        else:
            sunk.log.add(exchange, WALL)  # type: ignore[arg-type]
    assert sunk.pieces, "not only when it is asked for"
    assert sunk.dirty == [sunk.log], "known once"
    assert max(map(len, sunk.pieces)) <= _MUCH + (_MANY // 8) * 4 * 8100
    assert sunk.text().count(b"\n") == lines
    sunk.plain(exchange)
    assert sunk.dirty == [sunk.log], "and known again behind a report"
