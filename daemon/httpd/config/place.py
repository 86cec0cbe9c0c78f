"""Where a value stands while a file is checked: the file, the dotted key, and the list that problems go to.

A `Source` is one file that has been read; a `Place` is a source and a key path in it.  Vhosts are numbered
over all files, so a drop-in's source knows how many came before it, and keys in messages count on.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from httpd.config.errors import ConfigError
from httpd.config.positions import KeyPath

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_LAST_STEP = re.compile(r'(?:\.?"(?:[^"\\]|\\.)*"|\.?[A-Za-z0-9_-]+|\[[0-9]+\])$')


class Source(msgspec.Struct):
    """One file.  shown: as the user named it; folder: absolute, what relative paths in it start from."""

    shown: str
    folder: str
    values: dict[str, object]
    lines: Mapping[KeyPath, int]
    problems: list[ConfigError]  # one list for all sources of a configuration
    first_vhost: int = 0

    def key(self, path: KeyPath) -> str:
        return key_text(self._numbered(path))

    def positions(self) -> dict[str, int]:
        """Line numbers by dotted key, vhosts numbered over all files."""
        return {self.key(path): line for path, line in self.lines.items()}

    def _numbered(self, path: KeyPath) -> KeyPath:
        if self.first_vhost and len(path) > 1 and path[0] == "vhost" and isinstance(path[1], int):
            return ("vhost", path[1] + self.first_vhost, *path[2:])
        return path


class Place(msgspec.Struct, frozen=True):
    """A key of a source.  `report` adds a problem to the source's list."""

    source: Source
    path: KeyPath = ()

    def child(self, step: str | int) -> Place:
        return Place(self.source, (*self.path, step))

    def report(self, message: str, hint: str = "") -> None:
        self.source.problems.append(ConfigError(self.source.shown, self.line, self.key, message, hint))

    @property
    def key(self) -> str:
        return self.source.key(self.path)

    @property
    def line(self) -> int:
        """The key's line, or that of the nearest table above it that has one; 0 when none has."""
        for end in range(len(self.path), 0, -1):
            line = self.source.lines.get(self.path[:end])
            if line:
                return line
        return 0

    def __str__(self) -> str:
        """How other messages refer to it: `vhost[0].root (FILE:7)`."""
        return f"{self.key} ({self.source.shown}:{self.line})"


def key_text(path: KeyPath) -> str:
    """The dotted form of a key path; names that TOML would quote are quoted."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            name = step if _BARE.fullmatch(step) else '"' + step.replace("\\", "\\\\").replace('"', '\\"') + '"'
            text += f".{name}" if text else name
    return text


def parent_key(key: str) -> str:
    """The dotted key without its last step; "" above the top."""
    found = _LAST_STEP.search(key)
    return key[: found.start()] if found else ""
