"""The cases of this folder: requests byte by byte, and what the RFCs let an origin server answer.

Rules:

- A file is data, this module gives it types.  A key that nobody knows is an error, not a default.
- An expectation that is not written is not checked, except for what `judge.INVARIANTS` asks of every answer.
- One character of `wire` is one byte.  What is no Latin-1 is free for marks: see `README.md`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli

from corpus.requests import site

HERE = Path(__file__).parent

_REPEATED = re.compile(r"⟨(.+?)\*([0-9]+)⟩", re.DOTALL)
_ETAG = re.compile(r"⟨etag (/\S+)⟩")
_HOLE = "⟨⟩"

_ANSWER_KEYS = {"status", "fields", "has", "lacks", "body", "parts", "head"}
_CASE_KEYS = {"name", "covers", "wire", "put", "closes", "end", "answers", "alike", *_ANSWER_KEYS}
_GROUP_KEYS = {"section", "frame", "case", *_CASE_KEYS} - {"name", "wire", "put"}


class BadCase(ValueError):
    """A case that does not say what it has to, or says what nobody understands."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What one answer has to be.  `fields` are exact values, `body` exact content; None is "not said".

    `head`: this answers HEAD, so no content follows whatever Content-Length says.
    """

    status: frozenset[int]
    fields: Mapping[str, str] = field(default_factory=dict)
    has: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    body: bytes | None = None
    parts: tuple[tuple[str, bytes], ...] = ()  # of multipart/byteranges: Content-Range and content
    head: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """One exchange: `wire` goes in, `answers` come out, and then the connection is closed or open.

    `end`: the client shuts its sending side behind `wire`.  `alike`: all answers have the same fields.
    """

    id: str
    section: str
    covers: tuple[str, ...]
    wire: bytes
    answers: tuple[Expected, ...]
    closes: bool = False
    end: bool = False
    alike: bool = False


@functools.cache
def load() -> tuple[Case, ...]:
    """All cases, in the order of files and lines.  Raises BadCase."""
    found = [case for path in sorted(HERE.glob("9*.toml")) for case in _read(path)]
    names = [case.id for case in found]
    twice = {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else set()
    if twice:
        raise BadCase(f"more than one case is called {', '.join(sorted(twice))}")
    return tuple(found)


def _read(path: Path) -> Iterator[Case]:
    tables = tomli.loads(path.read_text("utf-8"))
    _known(tables, {"group"}, path.name)
    for number, group in enumerate(tables["group"]):
        where = f"{path.name}: group {number} ({group.get('section', 'without a section')})"
        _known(group, _GROUP_KEYS, where)
        for table in group["case"]:
            try:
                yield _case(group, table)
            except (KeyError, ValueError, TypeError) as error:
                raise BadCase(f"{where}: case {table.get('name', '?')}: {error!r}") from error


def _known(table: Mapping[str, Any], keys: set[str], where: str) -> None:
    unknown = table.keys() - keys
    if unknown:
        raise BadCase(f"{where}: unknown: {', '.join(sorted(unknown))}")


def _case(group: dict[str, Any], table: dict[str, Any]) -> Case:
    _known(table, _CASE_KEYS, "a case")
    # With a status of its own a case is another one than its group expects: only frame, section and covers are shared.
    values = {key: value for key, value in group.items() if "status" not in table or key not in _ANSWER_KEYS} | table
    text = table["wire"] if "wire" in table else group["frame"].replace(_HOLE, table.get("put", ""))
    wire = _bytes(text)
    first = values | {"head": values.get("head", wire.lstrip(b"\r\n").startswith(b"HEAD "))}
    answers = values.get("answers", [first])
    return Case(
        id=f"{group['section']}-{table['name']}",
        section=group["section"],
        covers=(*group.get("covers", ()), *table.get("covers", ())),
        wire=wire,
        answers=tuple(_expected(answer) for answer in answers),
        closes=values.get("closes", False),
        end=values.get("end", False),
        alike=values.get("alike", False),
    )


def _expected(values: Mapping[str, Any]) -> Expected:
    status = values["status"]
    body = values.get("body")
    return Expected(
        status=frozenset(status if isinstance(status, list) else [status]),
        fields={name: _text(value) for name, value in values.get("fields", {}).items()},
        has=tuple(values.get("has", ())),
        lacks=tuple(values.get("lacks", ())),
        body=None if body is None else _bytes(body),
        parts=tuple((where, _bytes(content)) for where, content in values.get("parts", ())),
        head=values.get("head", False),
    )


def _text(text: str) -> str:
    text = _ETAG.sub(lambda found: site.etag(found[1]), text)
    return _REPEATED.sub(lambda found: found[1] * int(found[2]), text)


def _bytes(text: str) -> bytes:
    return _text(text).encode("latin-1")
