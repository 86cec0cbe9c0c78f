"""Access-log formats written with the letters of Apache's LogFormat (mod_log_config).

Rules: a template is read once, into one bytes template and one small function per directive; nothing is
evaluated.  Whatever cannot be shown is refused with its place in the text, never written as an empty field.
Every value that a client can choose is escaped (see `escape`). `%t` is the time of logging, the end of the
request, as in nginx; `%{begin:...}t` is its start.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import NamedTuple

from httpd.logs.entry import Entry
from httpd.logs.escape import escape, escape_token
from httpd.logs.stamp import Stamp

Value = Callable[[Entry, float], bytes]

_DIRECTIVE = re.compile(
    r"%(?P<when>!?[0-9][0-9,]*|!)?(?P<which>[<>])?(?:\{(?P<argument>[^{}]*)\})?(?P<letter>.)?", re.DOTALL
)
_SPECIAL = re.compile(r"\\(?P<follower>.?)|[\x00-\x08\x0a-\x1f\x7f]", re.DOTALL)
_FIELD_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BACKSLASH = {'"': '"', "\\": "\\", "t": "\t"}
_USE = "there are a b B D h H l m O p P q r s t T u U v V X, %{Name}i, %{Name}o, %{format}t, %{ms}T and %%"
_NOT_RECORDED = {
    "A": "the address that the client connected to",
    "f": "the path of the file",
    "k": "the number of requests on the connection",
}
_CLOCK_LETTERS = frozenset("DT")


class FormatError(ValueError):
    """A template that cannot be used.  `position` counts characters from 0."""

    def __init__(self, position: int, problem: str, hint: str) -> None:
        super().__init__(f"character {position + 1}: {problem}; {hint}")
        self.position = position
        self.problem = problem
        self.hint = hint


class Template(NamedTuple):
    """A template that was read: `text % values` is the line.  `needs_clock`: one reads `Entry.duration`."""

    text: bytes
    values: tuple[Value, ...]
    needs_clock: bool


def _path(entry: Entry, now: float) -> bytes:
    return escape(entry.target.partition(b"?")[0]) or b"-"


def _query(entry: Entry, now: float) -> bytes:
    _, mark, query = entry.target.partition(b"?")
    return mark + escape(query)


def _number(value: Callable[[Entry], int]) -> Value:
    return lambda entry, now: b"%d" % value(entry)


def _client_text(value: Callable[[Entry], bytes]) -> Value:
    return lambda entry, now: escape(value(entry)) or b"-"


_SCALES = {"s": 1, "ms": 1000, "us": 1_000_000}

_PLAIN: dict[str, Value] = {
    "a": _client_text(lambda entry: entry.client),
    "b": lambda entry, now: b"%d" % entry.sent if entry.sent else b"-",
    "B": _number(lambda entry: entry.sent),
    "D": _number(lambda entry: int(entry.duration * _SCALES["us"])),
    "h": _client_text(lambda entry: entry.client),
    "H": _client_text(lambda entry: entry.version),
    "l": lambda entry, now: b"-",
    "m": _client_text(lambda entry: entry.method),
    "O": _number(lambda entry: entry.wire),
    "p": _number(lambda entry: entry.port),
    "P": lambda entry, now: b"%d" % os.getpid(),
    "q": _query,
    "r": _client_text(lambda entry: entry.request_line),
    "s": _number(lambda entry: entry.status),
    "T": _number(lambda entry: int(entry.duration)),
    "u": lambda entry, now: escape_token(entry.user) or b"-",
    "U": _path,
    "v": _client_text(lambda entry: entry.vhost),
    "V": _client_text(lambda entry: entry.host or entry.vhost),
    "X": lambda entry, now: b"+" if entry.keepalive else b"-",
}


def _field_key(name: str, position: int) -> bytes:
    """A field's name in lower case (RFC 9110 section 5.1: a token)."""
    if not _FIELD_NAME.fullmatch(name):
        raise FormatError(position, f"{name!r} cannot be the name of a field", "write %{User-Agent}i")
    return name.lower().encode()


def _request_field(name: str, position: int) -> Value:
    key = _field_key(name, position)
    return lambda entry, now: escape(entry.fields.get(key, b"")) or b"-"


def _response_field(name: str, position: int) -> Value:
    key = _field_key(name, position)

    def value(entry: Entry, now: float) -> bytes:
        found = [text for field, text in entry.response_fields if field.lower() == key]
        return escape(b", ".join(found)) or b"-"

    return value


def _duration(unit: str, position: int) -> Value:
    scale = _SCALES.get(unit)
    if scale is None:
        raise FormatError(position, f"unknown unit in '%{{{unit}}}T'", "use s, ms or us")
    return lambda entry, now: b"%d" % int(entry.duration * scale)


_CLOCKS: dict[str, Callable[[float], bytes]] = {
    "sec": lambda now: b"%d" % int(now),
    "msec": lambda now: b"%d" % int(now * 1000),
    "usec": lambda now: b"%d" % int(now * 1_000_000),
    "msec_frac": lambda now: b"%03d" % (int(now * 1000) % 1000),
    "usec_frac": lambda now: b"%06d" % (int(now * 1_000_000) % 1_000_000),
}


def _strftime(form: str, position: int) -> Callable[[float], bytes]:
    """strftime(3), at most once per second."""

    def text(second: int) -> bytes:
        return escape(time.strftime(form, time.localtime(second)).encode("utf-8", "surrogateescape"))

    try:
        cache = (0, text(0))
    except ValueError as error:
        problem = f"time format {form!r} cannot be used: {error}"
        raise FormatError(position, problem, "see strftime(3)") from None

    def clock(now: float) -> bytes:
        nonlocal cache
        second = int(now)
        cached, known = cache
        if cached != second:
            known = text(second)
            cache = (second, known)
        return known

    return clock


def _time(argument: str, position: int) -> Value:
    start = argument.startswith("begin:")
    form = argument.removeprefix("begin:").removeprefix("end:")
    if not form:
        raise FormatError(position, "no time format", "write %{%Y-%m-%d}t, or %t")
    clock = _CLOCKS.get(form) or _strftime(form, position)
    if start:
        return lambda entry, now: clock(now - entry.duration)
    return lambda entry, now: clock(now)


_WITH_ARGUMENT: dict[str, Callable[[str, int], Value]] = {
    "i": _request_field,
    "o": _response_field,
    "t": _time,
    "T": _duration,
}


def _value(match: re.Match[str]) -> Value:
    """The function for one directive, or the reason why there is none."""
    position, letter, argument = match.start(), match["letter"], match["argument"]
    if match["when"]:
        problem = f"conditions ('%{match['when']}') are not supported"
        raise FormatError(position, problem, "remove the status codes")
    if letter is None:
        raise FormatError(position, "'%' without a letter", "write %% for a percent sign")
    if letter == "{":
        raise FormatError(position, "'%{' without its '}'", "write %{Name}i")
    if match["which"] and letter != "s":
        raise FormatError(position, f"'{match[0]}' is not known", f"'{match['which']}' goes with s only: %>s")
    if argument is not None:
        if letter not in _WITH_ARGUMENT or not argument:
            raise FormatError(position, f"'{match[0]}' is not known", _USE)
        return _WITH_ARGUMENT[letter](argument, position)
    if letter == "t":
        clf = Stamp().clf
        return lambda entry, now: clf(now)
    if letter in "io":
        raise FormatError(position, f"'%{letter}' needs the name of a field", f"write %{{Name}}{letter}")
    if letter in _NOT_RECORDED:
        raise FormatError(position, f"'%{letter}' ({_NOT_RECORDED[letter]}) is not recorded", "use another letter")
    if letter not in _PLAIN:
        raise FormatError(position, f"'%{letter}' is not known", _USE)
    return _PLAIN[letter]


def _literal(text: str, start: int) -> bytes:
    """Text between directives, so without a percent sign.  Backslashes as in Apache's files."""

    def plain(match: re.Match[str]) -> str:
        position = start + match.start()
        if match["follower"] is None:
            hint = "an entry is one line; its end is added by itself"
            raise FormatError(position, f"control character {match[0]!r}", hint)
        if match["follower"] not in _BACKSLASH:
            raise FormatError(position, f"'{match[0]}' is not known", r"use \" or \\ or \t")
        return _BACKSLASH[match["follower"]]

    return _SPECIAL.sub(plain, text).encode()


def parse_template(text: str) -> Template:
    """Read a template.  Raises `FormatError` (a ValueError) for what cannot be used."""
    parts: list[bytes] = []
    values: list[Value] = []
    needs_clock = False
    done = 0
    for match in _DIRECTIVE.finditer(text):
        parts.append(_literal(text[done : match.start()], done))
        done = match.end()
        if match[0] == "%%":
            parts.append(b"%%")
            continue
        values.append(_value(match))
        parts.append(b"%b")
        starts = match["letter"] == "t" and (match["argument"] or "").startswith("begin:")
        needs_clock = needs_clock or starts or match["letter"] in _CLOCK_LETTERS
    parts.append(_literal(text[done:], done))
    if not values:
        hint = "use common, combined, json, or a template such as '%h %>s %r'"
        raise FormatError(0, f"{text!r} names nothing to log", hint)
    return Template(b"".join(parts) + b"\n", tuple(values), needs_clock)
