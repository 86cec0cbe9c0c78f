"""The scanner against tomli: every key that tomli finds has a line, and that line holds the key."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tomli
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from httpd.config.positions import scan

TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=12)


class Writer:
    """Writes a random document.  Every key is unique, so that a line can be recognised by it."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.count = 0

    def key(self) -> tuple[str, str]:
        """(name, as written)."""
        self.count += 1
        name = f"k{self.count}"
        style = self.draw(st.sampled_from(["bare", "basic", "literal", "spaced"]))
        if style == "bare":
            return name, name
        odd = name + self.draw(st.sampled_from(["", ".", "é", " #", "]", "[[", "=", "\\", "\t", "-x"]))
        if style == "literal":
            return odd, f"'{odd}'"
        return odd, (" " if style == "spaced" else "") + json.dumps(odd, ensure_ascii=self.draw(st.booleans()))

    def space(self) -> str:
        """Between two elements: newlines and comments may be there."""
        return self.draw(st.sampled_from(["", " ", "\n", ' # a ] comment } "\n', "\n\n\t#'''\n  "]))

    def string(self) -> str:
        text = self.draw(TEXTS)
        style = self.draw(st.sampled_from(["basic", "multi", "literal", "multi-literal"]))
        clean = "".join(c for c in text if c == "\n" or c == "\t" or (c >= " " and c != "\x7f"))
        if style == "multi":
            quotes = self.draw(st.sampled_from(["", '"', '""']))
            return '"""' + clean.replace("\\", "\\\\").replace('"', '\\"') + ' "x""y \\" ' + quotes + '"""'
        if style == "multi-literal":
            return "'''" + clean.replace("'", "") + "a'b''c" + self.draw(st.sampled_from(["", "'", "''"])) + "'''"
        if style == "literal":
            return "'" + clean.replace("'", "").replace("\n", "") + "'"
        return json.dumps(text).replace("\x7f", "\\u007F").replace("\\/", "/") if text.isascii() else '"x"'

    def value(self, depth: int) -> str:
        kinds = ["string", "plain"] + (["array", "table"] if depth < 3 else [])
        kind = self.draw(st.sampled_from(kinds))
        if kind == "string":
            return self.string()
        if kind == "plain":
            return self.draw(
                st.sampled_from(["1", "-0.5e3", "true", "1979-05-27 07:32:00Z", "0x_f".replace("_", ""), "inf"])
            )
        size = self.draw(st.integers(0, 3))
        items = [self.value(depth + 1) if kind == "array" else self.pair(depth + 1) for _ in range(size)]
        text = ",".join(self.space() + item + self.space() for item in items)
        comma = "," + self.space() if items and self.draw(st.booleans()) else ""
        brackets = "[]" if kind == "array" else "{}"
        return brackets[0] + (text or self.space()) + comma + brackets[1]

    def pair(self, depth: int) -> str:
        parts = [self.key()[1] for _ in range(self.draw(st.integers(1, 3)))]
        dots = self.draw(st.sampled_from([".", " . "])).join(parts)
        return f"{dots}{self.draw(st.sampled_from(['=', ' = ']))}{self.value(depth)}"

    def pairs(self) -> str:
        lines = [self.pair(0) for _ in range(self.draw(st.integers(0, 3)))]
        return "".join(self.draw(st.sampled_from(["", "\n", "# [x]\n", "  "])) + line + "\n" for line in lines)

    def tables(self, prefix: str, depth: int) -> str:
        text = ""
        for _ in range(self.draw(st.integers(0, 2))):
            header = prefix + self.key()[1].strip()
            if self.draw(st.booleans()):
                text += f"[{header}]\n" + self.pairs()
                if depth < 2:
                    text += self.tables(header + ".", depth + 1)
            else:
                for _ in range(self.draw(st.integers(1, 3))):
                    text += f"[[ {header} ]] # one more\n" + self.pairs()
                    if depth < 2:
                        text += self.tables(header + ".", depth + 1)
        return text


@st.composite
def documents(draw: st.DrawFn) -> str:
    writer = Writer(draw)
    text = writer.pairs() + writer.tables("", 0)
    return text.replace("\n", "\r\n") if draw(st.booleans()) else text


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Any:
    children = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, child in children:
        yield (*path, step)
        yield from paths(child, (*path, step))


@settings(max_examples=120, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(documents())
def test_every_key_has_the_line_it_stands_in(text: str) -> None:
    values = tomli.loads(text)
    lines = text.replace("\r\n", "\n").split("\n")
    found = scan(text)
    assert set(found) == set(paths(values))
    for path, number in found.items():
        name = path[-1]
        if isinstance(name, str):
            line = lines[number - 1]
            assert any(
                form in line for form in (name, json.dumps(name)[1:-1], json.dumps(name, ensure_ascii=False)[1:-1])
            )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        ("# only\n\n", {}),
        ("a = 1", {("a",): 1}),
        ("\n\na = 1\nb = 2\n", {("a",): 3, ("b",): 4}),
        ("a.b.c = 1\na.d = 2", {("a",): 1, ("a", "b"): 1, ("a", "b", "c"): 1, ("a", "d"): 2}),
        ("[a]\n[a.b]\nc=1", {("a",): 1, ("a", "b"): 2, ("a", "b", "c"): 3}),
        ("[a.b]\n[a]\n", {("a",): 1, ("a", "b"): 1}),
        (
            "[[v]]\nx=1\n[[v.w]]\n[v.w.t]\ny=1\n[[v]]\n[[v.w]]\n[[v.w]]\nz=1",
            {
                ("v",): 1, ("v", 0): 1, ("v", 0, "x"): 2, ("v", 0, "w"): 3, ("v", 0, "w", 0): 3,
                ("v", 0, "w", 0, "t"): 4, ("v", 0, "w", 0, "t", "y"): 5, ("v", 1): 6, ("v", 1, "w"): 7,
                ("v", 1, "w", 0): 7, ("v", 1, "w", 1): 8, ("v", 1, "w", 1, "z"): 9,
            },
        ),
        (
            "a = [\n 1, # one\n [2,\n 3],\n]\nb = 1",
            {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, 0): 3, ("a", 1, 1): 4, ("b",): 6},
        ),
        (
            "a = {\n b = 1,\n c.d = [{e = 1}],\n}\nf=1",
            {
                ("a",): 1, ("a", "b"): 2, ("a", "c"): 3, ("a", "c", "d"): 3, ("a", "c", "d", 0): 3,
                ("a", "c", "d", 0, "e"): 3, ("f",): 5,
            },
        ),
        ('a = """\nb = 1\n[c]\n"""\nd = 1', {("a",): 1, ("d",): 5}),
        ("a = '''\n''''\nb = 1", {("a",): 1, ("b",): 3}),
        ('a = """x"""""\nb = """"""\nc = 1', {("a",): 1, ("b",): 2, ("c",): 3}),
        ('"a.b".\'c d\' = 1\n"\\u0041" = 2\n"" = 3', {("a.b",): 1, ("a.b", "c d"): 1, ("A",): 2, ("",): 3}),
        ("a = 1 # b = 2\r\n\r\nc = '#'\r\n", {("a",): 1, ("c",): 3}),
        ("a = 1979-05-27 07:32:00\nb = { c = 1979-05-27 07:32:00 }", {("a",): 1, ("b",): 2, ("b", "c"): 2}),
    ],
)  # fmt: skip
def test_lines(text: str, expected: dict[tuple[str | int, ...], int]) -> None:
    tomli.loads(text)
    assert scan(text) == expected
