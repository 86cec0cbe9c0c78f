"""The checks of one input: the invariants of the receiver, and the differential against the peers.

Rules:

- Peers are asked only about what we have accepted something of: what we refuse outright can't be more than they accept.
- Messages are compared in order up to the first one that ends the connection, the first that we refuse, or the first
  that is covered by `DIFFERENCES`.
- A peer that refuses while we still wait for the rest of a line is right or wrong only when that line is complete: so
  it is completed, and the result judged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from fuzz.differences import DIFFERENCES, Difference
from fuzz.outcome import Message, Outcome, cut, one_by_one, receive
from fuzz.peers import Heard, Hearing
from httpd.protocol.head import parse_host
from httpd.protocol.messages import HeadLimits, ProtocolError
from httpd.protocol.plain import plain_head
from httpd.protocol.receiver import Phase

WIDE = HeadLimits()
_plain_head = plain_head(WIDE)
_PLAIN_FIELDS = (b"user-agent", b"referer", b"host", b"if-none-match", b"if-modified-since", b"range")
_NOT_PLAIN = frozenset((b"expect", b"if-match", b"if-range", b"if-unmodified-since"))
_BYTE_BY_BYTE = 1 / 16  # share of the inputs
_NARROW = 1 / 8
_CUTS = 60

Ask = Callable[[bytes], Hearing]


class Finding(Exception):
    """An input that breaks an invariant under `limits`.  `kind` stays the same while the input is made smaller."""

    def __init__(self, kind: str, detail: str, limits: HeadLimits = WIDE) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail
        self.limits = limits


def examine(wire: bytes, rng: Random, peers: Mapping[str, Ask], tally: Counter[str]) -> None:
    """Check one input and count what became of it.  Raises Finding."""
    ours = _received(WIDE, wire)
    tally[_label(ours)] += 1
    _check_same(WIDE, ours, cut(wire, [int(rng.random() * len(wire))]))
    tally["cut at random"] += 1
    if rng.random() < _BYTE_BY_BYTE:
        _check_same(WIDE, ours, one_by_one(wire))
        tally["cut byte by byte"] += 1
    _check_plain(wire, ours, tally)
    if rng.random() < _NARROW:
        limits = _narrow(rng)
        _check_same(limits, _received(limits, wire), cut(wire, [int(rng.random() * len(wire)) for _ in range(3)]))
        tally["with small limits"] += 1
    if ours.messages or not ours.refused:
        for name, ask in peers.items():
            tally[f"compared with {name}"] += 1
            judge(name, ask, wire, ours, tally)


def examine_again(wire: bytes, limits: HeadLimits, peers: Mapping[str, Ask]) -> None:
    """All checks of one input under `limits`, with many more cuts: to make smaller what has failed."""
    ours = _received(limits, wire)
    _check_same(limits, ours, one_by_one(wire))
    for place in range(1, len(wire), 1 + len(wire) // _CUTS):
        _check_same(limits, ours, cut(wire, [place]))
    if limits == WIDE:
        _check_plain(wire, ours, Counter())
    if limits == WIDE and (ours.messages or not ours.refused):
        for name, ask in peers.items():
            judge(name, ask, wire, ours, Counter())


def _narrow(rng: Random) -> HeadLimits:
    def upto(bound: int) -> int:
        return int(rng.random() * bound)

    return HeadLimits(request_line=1 + upto(60), head=1 + upto(160), fields=upto(5), body=upto(12))


def _received(limits: HeadLimits, *parts: bytes) -> Outcome:
    try:
        return receive(limits, parts)
    except Exception as error:
        raise Finding(f"raised {type(error).__name__}", repr(error), limits) from error


def _check_same(limits: HeadLimits, whole: Outcome, parts: Sequence[bytes]) -> None:
    other = _received(limits, *parts)
    if whole.key() != other.key():
        detail = f"{whole.key()} whole, {other.key()} as {parts}, {limits}"
        raise Finding("depends on the cut", detail, limits)


def _check_plain(wire: bytes, ours: Outcome, tally: Counter[str]) -> None:
    """What the short way of a worker takes for a plain GET is one, and it reads the same out of it."""
    head = wire[: wire.find(b"\r\n\r\n") + 4]
    found = _plain_head(head)
    if found is None or not _is_host(found[5]):  # a worker looks the value up among those that were parsed
        return
    tally["plain"] += 1
    if not ours.messages or ours.messages[0].end != len(head):
        raise Finding("plain but not accepted", repr(ours.key()))
    request = ours.messages[0].request
    line, path, agent, referer, host, close, tag, since, span = found.groups()
    short = (line, path, agent, referer, host, tag, since, None if span is None else b"bytes=" + span)
    general = (request.line, request.path, *map(request.fields.get, _PLAIN_FIELDS))
    if short != general or (close is None) != request.keep_alive:
        raise Finding("plain but read otherwise", f"{found.groups()} {general}")
    if request.method != b"GET" or request.length or request.expect or not _NOT_PLAIN.isdisjoint(request.fields):
        raise Finding("plain but not plain", repr(ours.key()))


def _is_host(value: bytes | None) -> bool:
    try:
        return value is not None and parse_host(value) is not None
    except ProtocolError:
        return False


def _label(ours: Outcome) -> str:
    behind = "" if not ours.messages else " behind one request" if len(ours.messages) == 1 else " behind several"
    if isinstance(ours.end, int):
        return f"refused {ours.end}{behind}"
    if ours.end is Phase.IDLE:
        return f"accepted{behind.replace(' behind', '')}" if behind else "nothing but empty lines"
    return f"waits for more of the {ours.end.value}"


# The differential


@dataclass(slots=True)
class Disagreement:
    """`position` is that of the message in ours; kind "unfinished" is one that may come to nothing."""

    kind: str
    position: int


def judge(name: str, ask: Ask, wire: bytes, ours: Outcome, tally: Counter[str]) -> None:
    """Compare with one peer; count what `DIFFERENCES` covers.  Raises Finding for anything else."""
    theirs = ask(wire)
    found = compare(ours, theirs)
    if found is None:
        return
    if found.kind == "unfinished":
        for suffix in _completions(wire, ours):
            completed = _received(WIDE, wire + suffix)
            if len(completed.messages) > len(ours.messages):
                judge(name, ask, wire + suffix, completed, tally)
            elif ours.end is Phase.BODY and not completed.refused:
                _settle(name, Disagreement("refuses the body", found.position), wire + suffix, completed, theirs, tally)
                return
        return
    _settle(name, found, wire, ours, theirs, tally)


def _settle(name: str, found: Disagreement, wire: bytes, ours: Outcome, theirs: Hearing, tally: Counter[str]) -> None:
    difference = _covering(name, found, wire, ours)
    if difference is None:
        raise Finding(f"{name}: {found.kind}", f"message {found.position} of {ours.key()}; {name} has {theirs}")
    tally[f"difference: {difference.name}"] += 1


def _covering(name: str, found: Disagreement, wire: bytes, ours: Outcome) -> Difference | None:
    if found.position == len(ours.messages):
        return None
    message = ours.messages[found.position]
    start = ours.messages[found.position - 1].end if found.position else 0
    raw = wire[start : message.end]
    for difference in DIFFERENCES:
        if name in difference.peers and difference.kind == found.kind and difference.covers(message.request, raw):
            return difference
    return None


def _completions(wire: bytes, ours: Outcome) -> list[bytes]:
    """What ends the unfinished line and, but for a body, the request."""
    end_of_line = b"" if wire.endswith(b"\r\n") else b"\n" if wire.endswith(b"\r") else b"\r\n"
    if ours.end is Phase.BODY:
        return [end_of_line]
    if ours.end is Phase.IDLE:
        return [end_of_line + b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"]
    return [end_of_line + b"\r\n", end_of_line + b"Host: a\r\n\r\n"]


def compare(ours: Outcome, theirs: Hearing) -> Disagreement | None:
    """The first disagreement, in the order of the messages."""
    for position, message in enumerate(ours.messages):
        if position == len(theirs.messages):
            return None if theirs.left else Disagreement("refuses the head" if theirs.refused else "waits", position)
        heard = theirs.messages[position]
        left = theirs.left and position + 1 == len(theirs.messages)
        kind = _heads(message, heard)
        if kind is None and not left:
            kind = _partial(message, heard, ours, theirs) if message.end is None else _complete(message, heard, theirs)
        if kind is not None:
            return Disagreement(kind, position)
        if left or message.end is None or not message.request.keep_alive:
            return None
    if ours.refused:
        return None
    if len(theirs.messages) > len(ours.messages):
        return Disagreement("one more message", len(ours.messages))
    return Disagreement("unfinished", len(ours.messages)) if theirs.refused else None


def _heads(message: Message, heard: Heard) -> str | None:
    request = message.request
    if request.method != heard.method:
        return "method"
    if request.target != heard.target:
        return "target"
    if request.line[-3:] != heard.version:
        return "version"
    return None if _plain(request.lines) == _plain(heard.fields) else "fields"


def _plain(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Names in lower case, and Transfer-Encoding too (RFC 9112 7: codings are case-insensitive)."""
    plain = [(name.lower(), value) for name, value in fields]
    return [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in plain]


def _complete(message: Message, heard: Heard, theirs: Hearing) -> str | None:
    if not heard.complete:
        return "refuses the body" if theirs.refused else "waits"
    if message.content != heard.content:
        return "content"
    if list(message.trailers) != heard.trailers:
        return "trailers"
    if heard.end is not None and heard.end != message.end:
        return "end"
    return "persistence" if heard.keep not in (None, message.request.keep_alive) else None


def _partial(message: Message, heard: Heard, ours: Outcome, theirs: Hearing) -> str | None:
    """A body of which the rest is missing, or that we refuse half-way."""
    if ours.refused:
        return None
    if heard.complete:
        return "ends earlier"
    if theirs.refused:
        return "refuses the body" if message.request.length > 0 else "unfinished"
    return None if message.content == heard.content else "content"
