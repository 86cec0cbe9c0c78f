"""Preconditions (RFC 9110 13), by the cases of tests/corpus/conditional."""

from pathlib import Path
from typing import Any

import pytest
import tomli

from httpd.protocol.conditional import evaluate, if_range_holds
from httpd.protocol.messages import Validators

CORPUS = Path(__file__).parents[2] / "corpus" / "conditional"
MODIFIED = 784111777


def cases(name: str) -> list[Any]:
    loaded = tomli.loads((CORPUS / name).read_text(encoding="utf-8"))["case"]
    return [pytest.param(case, id=case["name"]) for case in loaded]


def fields(case: dict[str, Any]) -> dict[bytes, bytes]:
    return {name.encode(): value.encode("latin-1") for name, value in case["fields"].items()}


def validators(case: dict[str, Any]) -> Validators:
    return Validators(case.get("etag", '"a"').encode("latin-1"), None if case.get("unmodified") else MODIFIED)


@pytest.mark.parametrize("case", cases("preconditions.toml"))
def test_preconditions(case: dict[str, Any]) -> None:
    method = case.get("method", "GET").encode()
    assert evaluate(fields(case), method, validators(case), MODIFIED + 3600) == case["status"]


@pytest.mark.parametrize("case", cases("if_range.toml"))
def test_if_range(case: dict[str, Any]) -> None:
    now = MODIFIED + case.get("age", 3600)
    assert if_range_holds(fields(case), validators(case), now) is case["holds"]


@pytest.mark.parametrize("repeated", [b'"a', b'"a",', b", ", b'W/"', b"\t"])
def test_long_malformed_lists_match_nothing(repeated: bytes) -> None:
    """No input makes the expression try again and again: this would not end in a lifetime if it did."""
    text = repeated * 20001 + b"x"
    assert evaluate({b"if-none-match": text}, b"GET", Validators(b'"a"'), 0) == 0
    assert evaluate({b"if-match": text}, b"GET", Validators(b'"a"'), 0) == 412
