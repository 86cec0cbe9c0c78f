"""The corpus of requests and its table belong together: each requirement has a case or a reason, each case its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from corpus.requests import cases, requirements, table
from corpus.requests.cases import Case, Expected
from corpus.requests.requirements import Requirement

PAGE = Path(__file__).parents[2] / "docs" / "conformance.md"
EITHER = "needs either a case or the reason why there is none"
CASE = Case("9110-1-x", "9110-1", ("9110-1-a",), b"", (Expected(frozenset((200,))),))


def test_the_page_is_what_the_corpus_says() -> None:
    assert PAGE.read_text("utf-8") == table.page(), "make docs"


def test_requirements_and_cases_fit() -> None:
    assert requirements.problems(requirements.load(), cases.load()) == []


def test_the_page_can_be_read_as_a_table() -> None:
    rows = [line for line in PAGE.read_text("utf-8").splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {5}
    assert len(rows) == len(requirements.load()) + 2 * 2


@pytest.mark.parametrize("section", ["9112-2", "9112-3", "9112-4", "9112-5", "9112-6", "9112-7", "9112-8", "9112-9",
                                     "9110-5", "9110-6", "9110-7", "9110-8", "9110-9", "9110-10", "9110-13",
                                     "9110-14"])  # fmt: skip
def test_no_section_is_left_out(section: str) -> None:
    assert [entry for entry in requirements.load() if re.match(rf"{re.escape(section)}[.\-]", entry.id)]


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        (Requirement("9110-1-a", "MAY", "x"), "9110-1-a: level MAY"),
        (Requirement("9110-1-a", "MUST", "x", always="y"), "9110-1-a: no check is called y"),
        (Requirement("9110-1-a", "MUST", "x", without="y"), f"9110-1-a: {EITHER}"),
        (Requirement("9110-1-b", "MUST", "x"), "case 9110-1-x covers the unknown 9110-1-a"),
        (Requirement("9110-1-b", "MUST", "x"), f"9110-1-b: {EITHER}"),
    ],
)
def test_what_does_not_fit_is_found(requirement: Requirement, problem: str) -> None:
    assert problem in requirements.problems([requirement], (CASE,))


def test_a_case_has_to_name_a_requirement() -> None:
    without = Case("9110-1-y", "9110-1", (), b"", ())
    assert requirements.problems([], (without,)) == ["case 9110-1-y names no requirement"]


@pytest.mark.parametrize(
    ("group", "case", "problem"),
    [
        ("colour = 1", 'name = "a", status = 200, wire = ""', "unknown: colour"),
        ("", 'name = "a", staus = 200, wire = ""', "unknown: staus"),
        ("", 'name = "a", status = 200', "frame"),
        ("", 'name = "a", wire = ""', "status"),
        ("", 'name = "a", status = 200, wire = "" }, { name = "a", status = 200, wire = ""', "more than one case"),
    ],
)
def test_a_bad_case_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group: str, case: str, problem: str
) -> None:
    monkeypatch.setattr(cases, "HERE", tmp_path)
    (tmp_path / "9110.toml").write_text(f'[[group]]\nsection = "9110-1"\n{group}\ncase = [{{ {case} }}]\n')
    with pytest.raises(cases.BadCase, match=problem):
        cases.load.__wrapped__()


def test_marks_are_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "HERE", tmp_path)
    (tmp_path / "9110.toml").write_text(
        '[[group]]\nsection = "9110-1"\nframe = "a⟨⟩c"\nstatus = 200\nbody = "x"\n'
        'case = [{ name = "a", put = "⟨b\\u00ff*2⟩" }, { name = "b", wire = "⟨etag /empty.txt⟩", status = 404 }]\n',
        "utf-8",
    )
    first, second = cases.load.__wrapped__()
    assert (first.wire, first.answers[0].body) == (b"ab\xffb\xffc", b"x")
    assert (second.wire, second.answers[0].body) == (b'"ae1b981bc490a00-0"', None)
