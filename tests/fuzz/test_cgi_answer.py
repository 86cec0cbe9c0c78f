"""The output of scripts under arbitrary input.

Invariants: whatever comes, there is a head, or not yet, or BadOutput; how the output is cut changes nothing; what
leaves is a field block by HTTP's grammar, and none of it speaks of framing.
"""

from __future__ import annotations

import re
from pathlib import Path

import tomli
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fuzz.outcome import cut, one_by_one
from httpd.cgi.answer import BadOutput, Head, HeadReader, parse
from httpd.cgi.meta import HOP_BY_HOP

CORPUS = Path(__file__).parents[1] / "corpus" / "cgi" / "output.toml"
SEEDS = [case["out"].encode("latin-1") for case in tomli.loads(CORPUS.read_text("utf-8"))["case"]]

# Pieces of the grammar, right and nearly right, so that most inputs get somewhere.
LINES = [
    b"Content-Type: a/b\n", b"Content-Type: a/b\r\n", b"Status: 404 x\n", b"Status: 200\r\n", b"Status: 99\n",
    b"Location: /a?b#c\n", b"Location: //a\n", b"Location: http://a/\r\n", b"Location:\n", b"Content-Length: 5\n",
    b"Content-Length: x\n", b"Transfer-Encoding: chunked\n", b"Connection: close\r\n", b"X: y\n", b"X:y\r\n",
    b" folded\n", b"X : y\n", b"no colon\n", b"\n", b"\r\n", b"\n\n", b"\r\n\r\n", b"body",
]  # fmt: skip
CRUMBS = [bytes((code,)) for code in b"\r\n \t\0\x0b\x7f\x80\xff:,"]
outputs = st.lists(
    st.sampled_from(LINES) | st.sampled_from(LINES) | st.sampled_from(CRUMBS) | st.binary(max_size=3), max_size=12
).map(b"".join)
limits = st.integers(0, 120) | st.just(8192)
places = st.lists(st.integers(0, 200), max_size=6)
untimed = settings(deadline=None)
FIELD_LINE = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+: (?:[!-~\x80-\xff](?:[\t -~\x80-\xff]*[!-~\x80-\xff])?)?")


@st.composite
def bent(draw: st.DrawFn) -> bytes:
    """A case of the corpus with a few bytes changed, put in or taken out."""
    output = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, max(0, len(output) - 1)))
        output[at : at + draw(st.integers(0, 2))] = draw(st.sampled_from([b"", *CRUMBS]) | st.binary(max_size=2))
    return bytes(output)


def outcome(limit: int, pieces: list[bytes]) -> tuple[Head, bytes] | str:
    """The head and what came behind it, or "more", or "bad"."""
    reader = HeadReader(limit)
    for number, piece in enumerate(pieces):
        try:
            complete = reader.feed(piece)
        except BadOutput as error:
            assert error.reason.isprintable()  # it is for the log
            return "bad"
        if complete:
            assert reader.head is not None
            return reader.head, reader.rest + b"".join(pieces[number + 1 :])
        assert reader.head is None
    return "more"


@untimed
@given(outputs | bent(), limits, places)
@example(b"Content-Type: a/b\n\nbody", 17, [18])
@example(b"Content-Type: a/b\r\n\r\nbody", 18, [20])
@example(b"\r\n", 0, [1])
def test_cuts_change_nothing(output: bytes, limit: int, at: list[int]) -> None:
    whole = outcome(limit, [output])
    assert outcome(limit, one_by_one(output)) == whole
    assert outcome(limit, cut(output, at)) == whole


@untimed
@given(outputs | bent())
def test_what_is_taken_is_good(output: bytes) -> None:
    found = outcome(8192, [output])
    if isinstance(found, str):
        return
    head, rest = found
    assert output.endswith(rest)
    assert 200 <= head.status <= 599
    assert b"\r" not in head.reason
    assert b"\n" not in head.reason
    lines = head.lines().split(b"\r\n")
    assert lines.pop() == b""
    assert [line for line in lines if not FIELD_LINE.fullmatch(line)] == []
    names = [name.lower() for name, _ in head.fields]
    assert not set(names) & (HOP_BY_HOP | {b"content-length", b"status", b"date", b"server"})
    for name in (b"content-type", b"location"):
        assert names.count(name) <= 1
    if head.local:
        assert head.local.startswith(b"/")
        assert not head.local.startswith(b"//")
        assert b"#" not in head.local
        assert set(names) <= {b"location", b"content-type"}


@untimed
@given(st.binary(max_size=60))
def test_anything_is_taken_or_refused(block: bytes) -> None:
    try:
        head = parse(block)
    except BadOutput:
        return
    assert isinstance(head, Head)
