"""What scripts write (RFC 3875 6), by the cases of tests/corpus/cgi: each is read whole and byte by byte."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli

from httpd.cgi.answer import BadOutput, Head, HeadReader, is_nph, parse

CORPUS = Path(__file__).parents[2] / "corpus" / "cgi" / "output.toml"
LIMIT = 8192
Case = dict[str, Any]

CASES = [
    pytest.param({**case, "out": case["out"].encode("latin-1")}, id=f"{case['rfc']} {case['name']}")
    for case in tomli.loads(CORPUS.read_text("utf-8"))["case"]
]
REFUSED = [case for case in CASES if "bad" in case.values[0]]
INCOMPLETE = [case for case in CASES if "more" in case.values[0]]
ACCEPTED = [case for case in CASES if not {"bad", "more"} & case.values[0].keys()]


def pieces(out: bytes, way: str) -> list[bytes]:
    return [out] if way == "whole" else [out[at : at + 1] for at in range(len(out))]


def read(case: Case, way: str) -> tuple[Head | None, bytes]:
    """The head, and what came behind it."""
    reader = HeadReader(case.get("limit", LIMIT))
    parts = pieces(case["out"], way)
    for number, data in enumerate(parts):
        if reader.feed(data):
            return reader.head, reader.rest + b"".join(parts[number + 1 :])
    return None, b""


def expected(case: Case) -> Head:
    fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in case.get("fields", [])]
    return Head(case.get("status", 200), case.get("reason", "OK").encode("latin-1"), fields, case.get("length"),
                case.get("local", "").encode("latin-1"), case.get("chunked", False))  # fmt: skip


def test_the_corpus_is_there() -> None:
    assert len(ACCEPTED) > 35
    assert len(REFUSED) > 35
    assert len(INCOMPLETE) > 5
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("way", ["whole", "bytes"])
@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: Case, way: str) -> None:
    assert read(case, way) == (expected(case), case.get("rest", "").encode("latin-1"))


@pytest.mark.parametrize("way", ["whole", "bytes"])
@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: Case, way: str) -> None:
    with pytest.raises(BadOutput) as caught:
        read(case, way)
    first = ascii(case["out"].split(b"\n")[0].removesuffix(b"\r").decode("latin-1"))
    bad = case["bad"]
    known = first in ("''", *bad.split(": ", 1)) or " begins with " in bad
    assert caught.value.reason == str(caught.value) == (bad if known else f"{bad}; it begins with {first}")


@pytest.mark.parametrize("way", ["whole", "bytes"])
@pytest.mark.parametrize("case", INCOMPLETE)
def test_incomplete(case: Case, way: str) -> None:
    assert read(case, way) == (None, b"")


@pytest.mark.parametrize("case", ACCEPTED)
def test_fields_leave_as_lines_of_http(case: Case) -> None:
    head, _ = read(case, "whole")
    assert head is not None
    assert head.lines() == b"".join(b"%b: %b\r\n" % pair for pair in expected(case).fields)


def test_what_has_come_is_kept_for_the_log() -> None:
    reader = HeadReader(LIMIT)
    assert not reader.begun
    assert not reader.feed(b"Traceback \xff\x1b[1m\r\n")
    assert reader.begun
    assert reader.first_line == "'Traceback \\xff\\x1b[1m'"


def test_only_the_beginning_is_shown() -> None:
    """A script that writes an image without a head must not fill the log."""
    reader = HeadReader(LIMIT)
    assert not reader.feed(b"x" * 5000)
    assert reader.first_line == ascii("x" * 200)
    with pytest.raises(BadOutput) as caught:
        parse(b"y" * 5000)
    assert caught.value.reason == f"not a header line: {'y' * 200!a}"


@pytest.mark.parametrize("out", [b"Status: " + b"9" * 5000, b"Content-Type: a/b\nContent-Length: " + b"9" * 5000])
def test_only_the_beginning_of_a_value_is_shown(out: bytes) -> None:
    with pytest.raises(BadOutput) as caught:
        parse(out)
    assert caught.value.reason.endswith(f": {'9' * 200!a}")


@pytest.mark.parametrize("end", [b"\n\n", b"\n\r\n", b"\r\n\n", b"\r\n\r\n"])
@pytest.mark.parametrize("cut", range(5))
def test_the_limit_is_the_same_however_it_comes(end: bytes, cut: int) -> None:
    """The blank line does not count, be it there already or not."""
    lines = b"Content-Type: a/b\r" if end[:1] == b"\r" else b"Content-Type: a/b"
    out = b"Content-Type: a/b" + end + b"body"
    for limit, good in ((len(lines), True), (len(lines) - 1, False)):
        reader = HeadReader(limit)
        place = len(b"Content-Type: a/b") + cut
        parts = [part for part in (out[:place], out[place:]) if part]
        if good:
            assert any(reader.feed(part) for part in parts)
            continue
        with pytest.raises(BadOutput, match=f"more than {limit} bytes"):
            for part in parts:
                reader.feed(part)


def test_a_huge_head_is_refused_before_it_is_all_there() -> None:
    reader = HeadReader(LIMIT)
    fed = 0
    with pytest.raises(BadOutput, match="its head has more than 8192 bytes; it begins with 'X-A: b'"):
        while fed < 10 * LIMIT:
            reader.feed(b"X-A: b\n")
            fed += 7
    assert fed <= LIMIT + 7


@pytest.mark.parametrize(
    ("name", "nph"), [(b"nph-a", True), (b"nph-", True), (b"nph", False), (b"NPH-a", False), (b"a-nph-", False)]
)
def test_who_writes_the_whole_answer(name: bytes, nph: bool) -> None:
    assert is_nph(name) is nph
