"""Request fields as handlers see them: an `http.client.HTTPMessage` that is not filled before somebody asks.

Rules:

- It *is* an `email.message.Message`: every method works, `isinstance` holds, code may change it.
- The text has been checked before (`protocol.head` in the daemon, `server.parsing` elsewhere), so cutting it into lines
  is all that is left to do, and that is done with the first look.  `email.parser` costs more than all the rest of a
  request.
- Values are latin-1 text, as `http.client.parse_headers` gives them.  White space around a value is no part of it (RFC
  9110 5.5).
"""

from __future__ import annotations

import http.client
import re
from collections.abc import Sequence
from email.message import Message
from email.parser import Parser
from typing import Any

_LINES = re.compile(r"([^:\r\n]++):[ \t]*+([^\r\n]*+)\r?\n")
_FILLED_LATER = frozenset(
    ("_headers", "policy", "_unixfrom", "_payload", "_charset", "preamble", "epilogue", "defects", "_default_type")
)


class Headers(http.client.HTTPMessage):
    """The fields of one request.  Made by `lazily`, or empty by calling the class as any message."""

    _raw: str  # a line feed and the field lines, while nothing was filled
    _folded: str  # the same in lower case

    @classmethod
    def lazily(cls, block: bytes) -> Headers:
        """`block` is a line feed and the field lines as they came, each with its line end."""
        made = cls.__new__(cls)
        made._raw = block.decode("latin-1")
        return made

    def __getattr__(self, name: str) -> Any:
        # Only asked for what is not there: the attributes of a message, before it is filled.
        if name not in _FILLED_LATER or "_raw" not in self.__dict__:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        lines = _LINES.findall(self._raw)
        if " \r" in self._raw or "\t\r" in self._raw or " \n" in self._raw or "\t\n" in self._raw:
            lines = [(known, value.rstrip(" \t")) for known, value in lines]
        del self._raw
        given = dict(self.__dict__)  # what was set before anybody looked
        super().__init__()
        self._headers, self._payload = lines, ""
        self.__dict__.update(given)
        return self.__dict__[name]

    def get(self, name: str, failobj: Any = None) -> Any:
        """The first value of a field, or `failobj`.  Case makes no difference."""
        wanted = name.lower()
        known = self.__dict__
        if "_raw" in known:  # one look does not need all of them cut
            folded = known.get("_folded")
            if folded is None:
                folded = self._folded = self._raw.lower()
            at = folded.find(f"\n{wanted}:")
            if at < 0:
                return failobj
            start = at + len(wanted) + 2
            return self._raw[start : folded.find("\n", start)].strip(" \t\r")
        for field, value in self._headers:
            if field.lower() == wanted:
                return value
        return failobj

    def __getitem__(self, name: str) -> Any:
        return self.get(name)

    def __setitem__(self, name: str, value: Any) -> None:
        self._headers  # filled first: what is filled later would take its place  # noqa: B018
        super().__setitem__(name, value)

    def __reduce_ex__(self, protocol: Any) -> Any:
        self._headers  # a copy is one of the filled message  # noqa: B018
        return super().__reduce_ex__(protocol)


def message_of(block: bytes, kind: type[Message]) -> Message:
    """A line feed and field lines, in `block`, as a message of the class that a handler asks for (`MessageClass`)."""
    if kind is http.client.HTTPMessage or kind is Headers:
        return Headers.lazily(block)
    return Parser(_class=kind).parsestr(block[1:].decode("latin-1"))


def field_values(fields: Sequence[tuple[str, str]], name: str) -> list[str]:
    """All values of a field; `name` in lower case."""
    return [value for known, value in fields if known.lower() == name]
