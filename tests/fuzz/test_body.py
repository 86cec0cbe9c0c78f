"""Body readers under arbitrary input.

Invariant: whatever comes, a reader raises ProtocolError or goes on, and how the input is cut changes nothing.
"""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fuzz.outcome import cut, one_by_one
from httpd.protocol.body import LAST_CHUNK, ChunkedReader, LengthReader, chunk
from httpd.protocol.messages import ProtocolError

# Pieces of the grammar, right and nearly right, so that most inputs get somewhere.
FRAGMENTS = [
    b"0", b"1", b"5", b"a", b"F", b"10", b"ffffffffffffffff", b"00000000000000001", b"+", b"-", b"0x", b" ",
    b"\t", b"\r\n", b"\r\n", b"\r\n", b"\r", b"\n", b";", b"=", b'"', b"\\", b"name", b"x", b"hello", b":",
    b"A: b", b"Content-Length: 5", b"1\r\nx\r\n", b"5\r\nhello\r\n", b"5;a=b\r\nhello\r\n", b"0\r\n\r\n",
    b"0\r\n", b"\x00", b"\xff",
]  # fmt: skip
wires = st.lists(st.sampled_from(FRAGMENTS) | st.binary(max_size=3), max_size=25).map(b"".join)
limits = st.fixed_dictionaries(
    {
        "limit_body": st.integers(0, 40),
        "limit_line": st.integers(1, 30),
        "limit_extensions": st.integers(0, 20),
        "limit_trailer": st.integers(0, 40),
        "limit_fields": st.integers(0, 3),
    }
)
untimed = settings(deadline=None, max_examples=300)
contents = st.lists(st.binary(max_size=50), max_size=12)


def outcome(reader: LengthReader | ChunkedReader, parts: list[bytes]) -> tuple[Any, ...]:
    content = b""
    try:
        for part in parts:
            pieces = reader.feed(part)
            assert all(pieces), "an empty piece"
            content += b"".join(pieces)
    except ProtocolError as error:
        assert error.status in (400, 413, 431)
        return (error.status, error.reason)
    return content, reader.done, reader.trailers, reader.rest


@untimed
@given(wires | st.binary(max_size=100), limits, st.lists(st.integers(0, 200), max_size=6))
def test_cuts_change_nothing(wire: bytes, given_limits: dict[str, int], places: list[int]) -> None:
    whole = outcome(ChunkedReader(**given_limits), [wire])
    assert outcome(ChunkedReader(**given_limits), one_by_one(wire)) == whole
    assert outcome(ChunkedReader(**given_limits), cut(wire, places)) == whole


@untimed
@given(wires, limits)
def test_limits_hold(wire: bytes, given_limits: dict[str, int]) -> None:
    reader = ChunkedReader(**given_limits)
    found = outcome(reader, [wire])
    if len(found) == 4:
        assert len(found[0]) <= given_limits["limit_body"]
        assert len(reader.trailers) <= given_limits["limit_fields"]
        assert sum(len(name) + len(value) for name, value in reader.trailers) <= given_limits["limit_trailer"]


@untimed
@given(contents, st.binary(max_size=20), st.lists(st.integers(0, 1000), max_size=8))
def test_chunked_round_trip(content: list[bytes], rest: bytes, places: list[int]) -> None:
    wire = b"".join(map(chunk, content)) + LAST_CHUNK + rest
    expected: tuple[Any, ...] = (b"".join(content), True, [], rest)
    assert outcome(ChunkedReader(10_000), cut(wire, places)) == expected


@untimed
@given(contents)
def test_every_head_of_a_body_wants_more(content: list[bytes]) -> None:
    wire = b"".join(map(chunk, content)) + LAST_CHUNK
    reader = ChunkedReader(10_000)
    for at in range(len(wire)):
        assert not reader.done
        reader.feed(wire[at : at + 1])
    assert reader.done


@untimed
@given(st.binary(max_size=60), st.integers(0, 80), st.lists(st.integers(0, 100), max_size=6))
def test_length_round_trip(data: bytes, length: int, places: list[int]) -> None:
    expected: tuple[Any, ...] = (data[:length], len(data) >= length, [], data[length:])
    assert outcome(LengthReader(length), cut(data, places)) == expected
