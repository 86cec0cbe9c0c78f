"""The table of faults in tests/live/README.md: complete, in order, and each test that it names is there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

LIVE = Path(__file__).parents[1] / "live"
TEXT = (LIVE / "README.md").read_text()
ROWS = dict(re.findall(r"^\| ([A-K]\d+) \| [^|]+ \| ([^|]+) \|$", TEXT, re.MULTILINE))
NAMES = sorted(set(re.findall(r"`([\w./]+\.py)(?:::(\w+))?`", TEXT)))
_TEST_OR_REASON = re.compile(r"`[\w./]+\.py(::\w+)?`|left out: \w|the tests of [A-J]\d|the same test")
COUNTS = {"A": 20, "B": 22, "C": 18, "D": 11, "E": 9, "F": 15, "G": 11, "I": 8, "J": 9}


def test_every_fault_has_a_row() -> None:
    assert list(ROWS) == [f"{letter}{number + 1}" for letter, count in COUNTS.items() for number in range(count)]


@pytest.mark.parametrize("fault", ROWS)
def test_a_row_names_a_test_or_a_reason(fault: str) -> None:
    assert _TEST_OR_REASON.search(ROWS[fault]), ROWS[fault]


@cache
def functions(file: str) -> list[str]:
    """The functions of a module, by its path relative to the table."""
    return [node.name for node in ast.parse((LIVE / file).read_text()).body if isinstance(node, ast.FunctionDef)]


@pytest.mark.parametrize(("file", "function"), NAMES)
def test_what_is_named_is_there(file: str, function: str) -> None:
    assert (LIVE / file).is_file()
    assert not function or function in functions(file)


def test_every_fault_test_is_named() -> None:
    files = [path.name for path in LIVE.glob("test_fault_*.py")]
    files += [f"../faults/{path.name}" for path in (LIVE.parent / "faults").glob("test_*.py")]
    for file in files:
        for function in functions(file):
            assert not function.startswith("test_") or (file, function) in NAMES, f"{file}::{function}"
