"""docs/conformance.md: what the RFCs ask for, and the cases that hold httpd to it.

`python -m corpus.requests.table [FOLDER]`, with `tests` on PYTHONPATH, writes conformance.md to FOLDER, `docs` when
left out.  The page is kept in the repository; a test fails when it differs from what this module makes.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

from corpus.requests import cases, requirements
from corpus.requests.cases import Case
from corpus.requests.requirements import Requirement

INTRODUCTION = """\
# Conformance

<!-- Written by `make docs`. Change tests/corpus/requests/, not this file. -->

What RFC 9112 (sections 2 to 9) and RFC 9110 (5 to 10, 13 and 14) ask of an origin server, or of any recipient, sender
or server that an origin server is, and what holds httpd to it. What binds clients, intermediaries and caches is not
listed. "practice" is what other sections and experience ask for.

{total} requirements: {by_case} are held by cases, {by_check} by a check of every answer of every case, {without} by
neither, for the reason that is given. The {cases} cases are data, in
[tests/corpus/requests](../tests/corpus/requests/README.md). Each runs whole, byte by byte, and with the bytes of a next
request behind it; offline, and against a running worker. Exactly the expected number of answers must come, so that no
body and no rest of a refused message is ever taken for a request.
"""
TABLE = """
## RFC {rfc}

| section | level | requirement | held by |
|---|---|---|---|
"""


def page() -> str:
    """The whole page."""
    listed, found = requirements.load(), cases.load()
    names = requirements.covered(listed, found)
    by_case = sum(bool(names[requirement.id]) for requirement in listed)
    without = sum(bool(requirement.without) for requirement in listed)
    text = INTRODUCTION.format(
        total=len(listed), cases=len(found), by_case=by_case, without=without, by_check=len(listed) - by_case - without
    )
    by_id = {case.id: case for case in found}
    for rfc, group in itertools.groupby(_ordered(listed), lambda requirement: requirement.rfc):
        text += TABLE.format(rfc=rfc)
        text += "".join(_row(requirement, [by_id[name] for name in names[requirement.id]]) for requirement in group)
    return text


def _ordered(listed: Iterable[Requirement]) -> list[Requirement]:
    def place(requirement: Requirement) -> tuple[int, list[int]]:
        return -int(requirement.rfc), [int(number) for number in requirement.section.split(".")]

    return sorted(listed, key=place)


def _row(requirement: Requirement, found: list[Case]) -> str:
    held = []
    if requirement.always:
        held.append(f"every answer (`{requirement.always}`)")
    if found:
        held.append(f"{len(found)} case{'s' if len(found) > 1 else ''}: {_names(found)}")
    if requirement.without:
        held.append(f"no case: {requirement.without}")
    text = requirement.text if not requirement.note else f"{requirement.text} *{requirement.note}*"
    return f"| {requirement.section} | {requirement.level} | {text} | {'; '.join(held)} |\n"


def _names(found: list[Case]) -> str:
    """Names of cases, the section that several share said once."""
    parts = []
    for section, group in itertools.groupby(found, lambda case: case.section):
        names = ", ".join(case.id.removeprefix(section + "-") for case in group)
        parts.append(f"`{section}` {names}")
    return "; ".join(parts)


def main(arguments: list[str]) -> int:
    if len(arguments) > 1:
        print("usage: python -m corpus.requests.table [FOLDER]", file=sys.stderr)
        return 64
    Path(arguments[0] if arguments else "docs", "conformance.md").write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
