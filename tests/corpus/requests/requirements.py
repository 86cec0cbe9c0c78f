"""What the RFCs ask of an origin server, and which cases hold httpd to it.

A requirement has cases, or a check that every answer goes through (`always`), or a reason why it has neither
(`without`).  Cases name requirements (`covers`), never the other way round, so that there is one place to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tomli

from corpus.requests.cases import Case
from corpus.requests.judge import INVARIANTS

HERE = Path(__file__).parent
LEVELS = ("MUST", "MUST NOT", "SHOULD", "SHOULD NOT", "practice")


@dataclass(frozen=True, slots=True)
class Requirement:
    """`id` is RFC, section and name; `note` says where httpd's way needs a word."""

    id: str
    level: str
    text: str
    always: str = ""
    without: str = ""
    note: str = ""

    @property
    def rfc(self) -> str:
        return self.id.split("-")[0]

    @property
    def section(self) -> str:
        return self.id.split("-")[1]


def load() -> list[Requirement]:
    """All requirements in the order of the file.  Raises TypeError for an unknown key."""
    tables = tomli.loads((HERE / "requirements.toml").read_text("utf-8"))
    return [Requirement(**table) for table in tables["requirement"]]


def covered(requirements: list[Requirement], cases: tuple[Case, ...]) -> dict[str, list[str]]:
    """Names of cases by requirement."""
    found: dict[str, list[str]] = {requirement.id: [] for requirement in requirements}
    for case in cases:
        for name in case.covers:
            found.setdefault(name, []).append(case.id)
    return found


def problems(requirements: list[Requirement], cases: tuple[Case, ...]) -> list[str]:
    """What is wrong with the two together, one line each."""
    known = {requirement.id for requirement in requirements}
    found = [f"case {case.id} names no requirement" for case in cases if not case.covers]
    for case in cases:
        found += [f"case {case.id} covers the unknown {name}" for name in case.covers if name not in known]
    if len(known) < len(requirements):
        found.append("two requirements have one id")
    names = covered(requirements, cases)
    for requirement in requirements:
        if requirement.level not in LEVELS:
            found.append(f"{requirement.id}: level {requirement.level}")
        if requirement.always and requirement.always not in INVARIANTS:
            found.append(f"{requirement.id}: no check is called {requirement.always}")
        held = bool(names[requirement.id] or requirement.always)
        if held == bool(requirement.without):
            found.append(f"{requirement.id}: needs either a case or the reason why there is none")
    return found
