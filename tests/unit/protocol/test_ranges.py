"""Range (RFC 9110 14.1, 14.2), by the cases of tests/corpus/ranges."""

from pathlib import Path
from typing import Any

import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from httpd.protocol.ranges import MAX_RANGES, UNSATISFIABLE, parse_range

CORPUS = Path(__file__).parents[2] / "corpus" / "ranges"
WORDS = {"unsatisfiable": UNSATISFIABLE, "ignored": None}


def cases(name: str) -> list[Any]:
    loaded = tomli.loads((CORPUS / name).read_text(encoding="utf-8"))["case"]
    return [pytest.param(case, id=case["name"]) for case in loaded]


@pytest.mark.parametrize("case", cases("range.toml"))
def test_range(case: dict[str, Any]) -> None:
    expect = case["expect"]
    expected = WORDS[expect] if isinstance(expect, str) else [tuple(pair) for pair in expect]
    assert parse_range(case["value"].encode("latin-1"), case.get("size", 100)) == expected


@pytest.mark.parametrize("repeated", [b"1", b"1-2,", b"\t", b", "])
def test_long_malformed_fields_are_ignored(repeated: bytes) -> None:
    assert parse_range(b"bytes=" + repeated * 20000 + b"x", 100) is None


positions = st.integers(0, 300).map(str)
specs = st.one_of(
    st.builds("{}-{}".format, positions, positions),
    st.builds("{}-".format, positions),
    st.builds("-{}".format, positions),
    st.text("0123456789-+ x", max_size=6),
)
values = st.lists(specs, max_size=20).map(lambda parts: ("bytes=" + ",".join(parts)).encode())


@settings(deadline=None)
@given(values | st.binary(max_size=80), st.integers(0, 200))
def test_every_answer_lies_within(value: bytes, size: int) -> None:
    found = parse_range(value, size)
    if found is None or found is UNSATISFIABLE:
        return
    assert 0 < len(found) <= MAX_RANGES
    assert all(offset >= 0 and length > 0 and offset + length <= size for offset, length in found)


@settings(deadline=None)
@given(st.integers(0, 200), st.integers(0, 200), st.integers(1, 200))
def test_one_range_is_a_slice(first: int, last: int, size: int) -> None:
    found = parse_range(b"bytes=%d-%d" % (first, last), size)
    content = range(size)[first : last + 1]
    if first > last:
        assert found is None
    elif not content:
        assert found is UNSATISFIABLE
    else:
        assert found == [(content.start, len(content))]
