"""Body readers (RFC 9112 6, 7.1), by the cases of tests/corpus/bodies, each cut in many ways."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli

from httpd.protocol import body
from httpd.protocol.body import FORBIDDEN_TRAILERS, LAST_CHUNK, ChunkedReader, LengthReader, chunk
from httpd.protocol.messages import ProtocolError

CORPUS = Path(__file__).parents[2] / "corpus" / "bodies"


def cases(name: str) -> list[Any]:
    loaded = tomli.loads((CORPUS / name).read_text(encoding="utf-8"))["case"]
    return [pytest.param(case, id=case["name"]) for case in loaded]


def reader_for(case: dict[str, Any]) -> ChunkedReader:
    return ChunkedReader(**{"limit_body": 1000, **case.get("limits", {})})


def outcome(reader: LengthReader | ChunkedReader, parts: Iterable[bytes]) -> tuple[Any, ...]:
    """What a caller sees: the status of a refusal, or content, done, trailers and rest."""
    content = b""
    try:
        for part in parts:
            content += b"".join(reader.feed(part))
    except ProtocolError as error:
        return (error.status,)
    return content, reader.done, reader.trailers, reader.rest


def cuts(wire: bytes) -> Iterator[list[bytes]]:
    yield [wire]
    yield [wire[at : at + 1] for at in range(len(wire))]
    for at in range(1, min(len(wire), 200)):
        yield [wire[:at], wire[at:]]


@pytest.mark.parametrize("case", cases("chunked.toml"))
def test_chunked(case: dict[str, Any]) -> None:
    wire = case["wire"].encode("latin-1")
    for parts in cuts(wire):
        found = outcome(reader_for(case), parts)
        if "status" in case:
            assert found == (case["status"],)
        elif "more" in case:
            assert found[1] is False
        else:
            trailers = [(name.encode(), value.encode("latin-1")) for name, value in case.get("trailers", [])]
            rest = case.get("rest", "").encode("latin-1")
            assert found == (case["content"].encode("latin-1"), True, trailers, rest)


@pytest.mark.parametrize("case", [param for param in cases("chunked.toml") if "status" in param.values[0]])
def test_refused_as_soon_as_possible(case: dict[str, Any]) -> None:
    """The refusal comes at one and the same byte, however the input is cut."""
    wire = case["wire"].encode("latin-1")
    reader, end = reader_for(case), 0
    with pytest.raises(ProtocolError):
        for end in range(len(wire)):
            reader.feed(wire[end : end + 1])
    assert len(outcome(reader_for(case), [wire[:end]])) == 4
    assert outcome(reader_for(case), [wire[: end + 1]]) == (case["status"],)


def test_pieces_are_not_held_back() -> None:
    """Content is handed on as it comes, chunk not complete or not."""
    reader = ChunkedReader(1000)
    assert reader.feed(b"5\r\nhe") == [b"he"]
    assert reader.feed(b"l") == [b"l"]
    assert reader.feed(b"lo\r\n2\r\nab\r\n1\r\n") == [b"lo", b"ab"]
    assert reader.feed(b"") == []


def test_rest_grows_behind_the_end() -> None:
    reader = ChunkedReader(1000)
    reader.feed(b"0\r\n\r\nGE")
    assert reader.feed(b"T") == []
    assert reader.rest == b"GET"


@pytest.mark.parametrize("name", sorted(FORBIDDEN_TRAILERS))
def test_forbidden_trailers(name: bytes) -> None:
    reader = ChunkedReader(1000)
    reader.feed(b"0\r\n%b: 1\r\nX-Sum: 2\r\n\r\n" % name.title())
    assert reader.done
    assert reader.trailers == [(b"x-sum", b"2")]


class Counting:
    """A compiled expression that counts the bytes its searches pass over."""

    def __init__(self, pattern: re.Pattern[bytes]) -> None:
        self.pattern = pattern
        self.passed = 0

    def search(self, data: bytes, position: int) -> re.Match[bytes] | None:
        match = self.pattern.search(data, position)
        self.passed += (match.start() if match else len(data)) - position
        return match


@pytest.mark.parametrize("step", [1, 7, 10**6])
def test_no_byte_of_a_line_is_looked_at_twice(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    counting = Counting(body._LINE_END)
    monkeypatch.setattr(body, "_LINE_END", counting)
    wire = b"1;a=b\r\nx\r\n" * 500 + b"1;" + b"a" * 1000 + b"\r\nx\r\n0\r\nA: " + b"b" * 30000 + b"\r\n\r\n"
    reader = ChunkedReader(1000)
    for at in range(0, len(wire), step):
        reader.feed(wire[at : at + step])
    assert reader.done
    assert 30000 < counting.passed < len(wire)


@pytest.mark.parametrize(
    ("length", "parts", "content", "done", "rest"),
    [
        (0, [], b"", True, b""),
        (0, [b"GET"], b"", True, b"GET"),
        (5, [b"hello"], b"hello", True, b""),
        (5, [b"he", b"", b"llo"], b"hello", True, b""),
        (5, [b"hel"], b"hel", False, b""),
        (5, [b"helloGE", b"T"], b"hello", True, b"GET"),
        (2**63, [b"hello"], b"hello", False, b""),
    ],
)
def test_length(length: int, parts: list[bytes], content: bytes, done: bool, rest: bytes) -> None:
    assert outcome(LengthReader(length), parts) == (content, done, [], rest)


def test_length_gives_pieces() -> None:
    reader = LengthReader(5)
    assert [reader.feed(part) for part in (b"he", b"", b"lloGET", b"x")] == [[b"he"], [], [b"llo"], []]


def test_writer() -> None:
    assert chunk(b"hello") == b"5\r\nhello\r\n"
    assert chunk(b"x" * 255).startswith(b"ff\r\nx")
    assert chunk(b"") == b""  # b"0\r\n\r\n" would end the body
    assert outcome(ChunkedReader(10), [chunk(b"hello") + LAST_CHUNK]) == (b"hello", True, [], b"")


@pytest.mark.parametrize("way", ["whole", "bytes"])
def test_a_line_that_is_shorter_than_a_size_may_be_long(way: str) -> None:
    """A limit below the 16 digits of a size holds for whole chunks, too."""
    wire = b"01\r\nx\r\n"
    reader = ChunkedReader(10, limit_line=1)
    with pytest.raises(ProtocolError, match="400 chunk line too long"):
        for part in [wire] if way == "whole" else [wire[at : at + 1] for at in range(len(wire))]:
            reader.feed(part)
