"""The mutator for a bounded number of inputs, the table of differences, and that each check can fail."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import pytest

from fuzz import batch, compare
from fuzz.differences import DIFFERENCES, Difference
from fuzz.mutator import LONGEST, mutate
from fuzz.outcome import receive
from fuzz.peers import PEERS, Heard, Hearing
from fuzz.seeds import load
from httpd.protocol.messages import HeadLimits, ProtocolError
from httpd.protocol.receiver import Receiver

SEEDS = load()
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
GOOD = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"

# For each difference an input that needs it.
EXAMPLES = {
    "unknown method": b"BREW / HTTP/1.1\r\nHost: a\r\n\r\n",
    "minor version above 1": b"GET / HTTP/1.2\r\nHost: a\r\n\r\n",
    "zeros in front of Content-Length": b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 000000000000000000001\r\n\r\nx",
    "keep-alive in HTTP/1.0": b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "keep-alive beside close": b"GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n",
    "Proxy-Connection": b"GET / HTTP/1.1\r\nHost: a\r\nProxy-Connection: close\r\n\r\n",
    "Connection as a trailer": CHUNKED + b"0\r\nConnection: close\r\n\r\n",
    "tab beside the transfer coding": CHUNKED.replace(b"chunked", b"chunked\t") + b"0\r\n\r\n",
    "white space before a chunk extension": CHUNKED + b"1 ;a\r\nx\r\n0\r\n\r\n",
    "white space in a chunk extension": CHUNKED + b"1;a =b\r\nx\r\n0\r\n\r\n",
    "framing fields as trailers": CHUNKED + b"0\r\nContent-Length: x\r\n\r\n",
}


def judged(name: str, wire: bytes) -> Counter[str]:
    tally: Counter[str] = Counter()
    compare.judge(name, PEERS[name], wire, receive(HeadLimits(), [wire]), tally)
    return tally


@pytest.mark.parametrize("number", range(10))
def test_inputs_of_a_fixed_seed(number: int) -> None:
    tally, failure = batch.run("suite", number, 2000, SEEDS, PEERS)
    assert failure is None
    assert tally["accepted one request"] > 50  # the mutator gets somewhere
    assert tally["accepted several"] > 10
    assert all(tally[f"compared with {name}"] > 200 for name in PEERS)


def test_the_same_seed_makes_the_same_inputs() -> None:
    def made(seed: int) -> list[bytes]:
        rng = Random(seed)
        return [mutate(rng, SEEDS) for _ in range(500)]

    inputs = made(1)
    assert inputs == made(1) != made(2)
    assert len(set(inputs)) > 450
    assert all(0 <= len(wire) <= LONGEST for wire in inputs)


# The table of differences


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda difference: difference.name)
def test_every_difference_is_needed(difference: Difference) -> None:
    for name in difference.peers:
        if name not in PEERS:
            pytest.skip(f"{name} is not installed")
        assert judged(name, EXAMPLES[difference.name]) == {f"difference: {difference.name}": 1}


def test_the_page_shows_every_difference() -> None:
    lines = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("| ")]
    for difference in DIFFERENCES:
        verb = "keeps or closes otherwise" if difference.kind == "persistence" else difference.kind
        who = f"{', '.join(difference.peers)} {verb}"
        cells = (difference.name, who, f"RFC {difference.section}", difference.reason)
        assert f"| {' | '.join(cells)} |" in lines


# Each check can fail


class Strict(Receiver):
    """Refuses what is cut at some place, or raises what it must not."""

    __slots__ = ()

    def next_request(self, data: bytes) -> Any:
        if b"cut here" in data:
            raise ProtocolError(400, "came in one part")
        if b"broken" in data:
            raise IndexError(data)
        if b"strange" in data:
            raise ProtocolError(418, "of no use here")
        return super().next_request(data)


@pytest.mark.parametrize(
    ("wire", "kind"),
    [
        pytest.param(b"GET /cut here", "depends on the cut", id="cut"),
        pytest.param(b"GET /broken", "raised IndexError", id="exception"),
        pytest.param(b"GET /strange", "raised AssertionError", id="status"),
    ],
)
def test_a_broken_invariant_is_found(wire: bytes, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.outcome.Receiver", Strict)
    rng = Random(1)
    with pytest.raises(compare.Finding) as caught:
        for _ in range(100):
            compare.examine(wire, rng, {}, Counter())
    assert caught.value.kind == kind
    with pytest.raises(compare.Finding) as again:
        compare.examine_again(wire, HeadLimits(), {})
    assert again.value.kind == kind


def heard(**changed: Any) -> Heard:
    """`GOOD` as a peer has to understand it, or not."""
    rest = {"complete": True, "keep": True, "end": len(GOOD), **changed}
    return Heard(**{"method": b"GET", "target": b"/", "version": b"1.1", "fields": [(b"host", b"a")], **rest})


CHANGES: dict[str, dict[str, Any]] = {
    "method": {"method": b"get"},
    "target": {"target": b"/x"},
    "version": {"version": b"1.0"},
    "fields": {"fields": []},
    "content": {"content": b"x"},
    "trailers": {"trailers": [(b"a", b"b")]},
    "end": {"end": 1},
    "persistence": {"keep": False},
}
HEARINGS = {
    "refuses the head": Hearing([], refused="no"),
    "refuses the body": Hearing([heard(complete=False)], refused="no"),
    "waits": Hearing([]),
    "one more message": Hearing([heard(), heard()]),
    **{kind: Hearing([heard(**changed)]) for kind, changed in CHANGES.items()},
}


@pytest.mark.parametrize("kind", HEARINGS)
def test_a_disagreement_is_found(kind: str) -> None:
    with pytest.raises(compare.Finding) as caught:
        compare.examine(GOOD, Random(1), {"peer": lambda wire: HEARINGS[kind]}, Counter())
    assert caught.value.kind == f"peer: {kind}"


def test_agreement_is_no_disagreement() -> None:
    compare.examine(GOOD, Random(1), {"peer": lambda wire: Hearing([heard()])}, Counter())


LENGTH = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


def unfinished(wire: bytes, **changed: Any) -> Heard:
    """The head of `wire` as a peer has to understand it."""
    lines = wire.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]
    fields = [(name, value) for name, _, value in (line.lower().partition(b": ") for line in lines)]
    return heard(**{"method": b"POST", "fields": fields, "complete": False, "keep": None, "end": None, **changed})


@pytest.mark.parametrize(
    ("wire", "changed", "kind"),
    [
        pytest.param(LENGTH + b"ab", {"content": b"ab", "complete": True}, "ends earlier", id="length"),
        pytest.param(LENGTH + b"ab", {"content": b"a"}, "content", id="content"),
        pytest.param(CHUNKED + b"5\r\nab", {"content": b"a"}, "content", id="chunked content"),
    ],
)
def test_a_disagreement_about_an_unfinished_body_is_found(wire: bytes, changed: dict[str, Any], kind: str) -> None:
    answer = Hearing([unfinished(wire, **changed)])
    with pytest.raises(compare.Finding) as caught:
        compare.examine(wire, Random(1), {"peer": lambda wire: answer}, Counter())
    assert caught.value.kind == f"peer: {kind}"


@pytest.mark.parametrize("wire", [b"GET / HT", b"GET / HTTP/1.1\r\nHost: a b", CHUNKED + b"5;", CHUNKED + b"0\r\nA b"])
def test_a_peer_may_refuse_earlier_what_we_refuse_at_the_end_of_a_line(wire: bytes) -> None:
    messages = [unfinished(wire)] if wire.startswith(CHUNKED) else []
    compare.examine(wire, Random(1), {"peer": lambda wire: Hearing(messages, refused="no")}, Counter())


@pytest.mark.parametrize(
    "wire",
    [b"GET / HTTP/1.1\r\nHost: a", b"GET / HTTP/1.1", b"\r\n", b"\r", CHUNKED + b"5;a", CHUNKED + b"0\r\nA:b", CHUNKED],
)
def test_a_peer_may_not_refuse_what_only_has_to_be_finished(wire: bytes) -> None:
    messages = [unfinished(wire)] if wire.startswith(CHUNKED) else []
    with pytest.raises(compare.Finding) as caught:
        compare.examine(wire, Random(1), {"peer": lambda wire: Hearing(messages, refused="no")}, Counter())
    assert caught.value.kind.startswith("peer: refuses the")


# Making a failing input smaller


@pytest.mark.parametrize("wire", [b"x", b"abcxdef", b"a" * 1000 + b"x" + b"b" * 500, b"xxxx"])
def test_a_failing_input_is_made_smaller(wire: bytes) -> None:
    assert batch.shrink(wire, lambda shorter: b"x" in shorter) == b"x"


def test_a_failure_of_a_batch_names_what_is_needed_to_see_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fuzz.outcome.Receiver", Strict)
    _, failure = batch.run("suite", 7, 100, [b"broken"], {})
    assert failure is not None
    assert (failure.batch, failure.kind, failure.smaller) == (7, "raised IndexError", b"broken")
    inputs = Random("suite/7")
    assert [mutate(inputs, [b"broken"]) for _ in range(failure.position + 1)][-1] == failure.wire
