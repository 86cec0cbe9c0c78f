"""Where in a TOML text each key stands: `scan` maps key paths to line numbers.

`tomli` gives the values but no positions, and messages must name a line.  This scanner reads only as much of
the grammar as it takes to find keys: table headers, arrays of tables, dotted and quoted keys, inline tables
and arrays over several lines, all four kinds of string, comments.

Rules:
- It runs only on text that `tomli` has accepted, so it checks nothing.
- A path is a tuple of names and array indices, `("vhost", 0, "names", 1)`; every element of an array has a
  line too.
- A table that several lines contribute to has the line of the first.
- TOML 1.1 (newlines and trailing commas in inline tables) is covered, as in tomli.
"""

from __future__ import annotations

import re

import tomli

KeyPath = tuple[str | int, ...]

_SPACE = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_KEY_PART = re.compile(
    r'[ \t]*(?:(?P<bare>[A-Za-z0-9_-]+)|(?P<basic>"(?:[^"\\\n]|\\.)*")|(?P<literal>\'[^\'\n]*\'))'
    r"[ \t]*(?P<dot>\.?)"
)
# A multi-line string may end in up to five quotes: two of them belong to the text.
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}'
    r"|'''(?:[^']|'{1,2}(?!'))*'{3,5}"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_PLAIN = re.compile(r"[^,\]}#\n]+")


def scan(text: str) -> dict[KeyPath, int]:
    """Line numbers, from 1, of every key, table and array element of a valid TOML document."""
    return _Scanner(text).document()


class _Scanner:
    __slots__ = ("at", "counted", "line", "lines", "sizes", "text")

    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.line = 1
        self.counted = 0  # newlines before this offset are in `line`
        self.lines: dict[KeyPath, int] = {}
        self.sizes: dict[KeyPath, int] = {}  # arrays of tables -> how many so far

    def document(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self.skip_space()
        while self.at < len(self.text):
            if self.text.startswith("[[", self.at):
                self.at += 2
                table = self.array_table(self.key())
                self.at += 2
            elif self.text[self.at] == "[":
                self.at += 1
                table = self.mark((), self.key())
                self.at += 1
            else:
                self.pair(table)
            self.skip_space()
        return self.lines

    def pair(self, table: KeyPath) -> None:
        """`key = value`, in a table or an inline table."""
        path = self.mark(table, self.key())
        self.at += 1  # "="
        self.skip_space()
        self.value(path)

    def value(self, path: KeyPath) -> None:
        first = self.text[self.at]
        if first == "[":
            self.array(path)
        elif first == "{":
            self.inline_table(path)
        else:
            found = _STRING.match(self.text, self.at) if first in "\"'" else _PLAIN.match(self.text, self.at)
            assert found is not None
            self.at = found.end()

    def array(self, path: KeyPath) -> None:
        self.at += 1
        self.skip_space()
        index = 0
        while self.text[self.at] != "]":
            item = (*path, index)
            self.lines[item] = self.current_line()
            self.value(item)
            self.skip_separator()
            index += 1
        self.at += 1

    def inline_table(self, path: KeyPath) -> None:
        self.at += 1
        self.skip_space()
        while self.text[self.at] != "}":
            self.pair(path)
            self.skip_separator()
        self.at += 1

    def key(self) -> list[str]:
        """The parts of a dotted key; stops at what follows it."""
        self.skip_space()
        parts = []
        while True:
            found = _KEY_PART.match(self.text, self.at)
            assert found is not None
            self.at = found.end()
            part = found["bare"] or (found["basic"] or found["literal"])[1:-1]
            if found["basic"] and "\\" in part:
                part = tomli.loads("key = " + found["basic"])["key"]
            parts.append(part)
            if not found["dot"]:
                return parts

    def mark(self, base: KeyPath, parts: list[str]) -> KeyPath:
        """Give every step of a dotted key a line; a step that is an array of tables means its last table."""
        path = base
        line = self.current_line()
        for part in parts:
            path = (*path, part)
            self.lines.setdefault(path, line)
            if path in self.sizes:
                path = (*path, self.sizes[path] - 1)
        return path

    def array_table(self, parts: list[str]) -> KeyPath:
        line = self.current_line()
        path = (*self.mark((), parts[:-1]), parts[-1])
        self.lines.setdefault(path, line)
        index = self.sizes.get(path, 0)
        self.sizes[path] = index + 1
        self.lines[(*path, index)] = line
        return (*path, index)

    def skip_space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        assert found is not None
        self.at = found.end()

    def skip_separator(self) -> None:
        self.skip_space()
        if self.text[self.at] == ",":
            self.at += 1
            self.skip_space()

    def current_line(self) -> int:
        self.line += self.text.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.line
