"""How the surface of a configuration file is described: keys and tables as records.

A key is described once.  `check` validates by these records, `reference` writes docs/ from them.
"""

from __future__ import annotations

import msgspec

from httpd.config.kinds import Kind


class Key(msgspec.Struct, frozen=True):
    """default: TOML text, or words in parentheses; about: what it does, in Markdown."""

    name: str
    kind: Kind
    default: str
    about: str
    required: bool = False


class Table(msgspec.Struct, frozen=True):
    """many: an array of tables ([[name]]); later: names that this version refuses."""

    name: str
    about: str
    keys: tuple[Key, ...]
    tables: tuple[Table, ...] = ()
    later: tuple[str, ...] = ()
    many: bool = False

    def known(self) -> list[str]:
        return [key.name for key in self.keys] + [table.name for table in self.tables]
