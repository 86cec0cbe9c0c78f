"""Access-log lines: a finished request in, one line of bytes out.

Rules: `common`, `combined` and `json` are written by hand, because every request pays for them.  They format
the raw values first and look at the whole line once: `translate` deletes every harmless byte in C, and what
is left must be exactly the quotes of the format itself.  Only a line that fails this is formatted again from
escaped values.  So no client can break a line, a field, or the JSON (log injection, CWE-117).
"""

from __future__ import annotations

from collections.abc import Callable

from httpd.logs.entry import Entry
from httpd.logs.escape import SAFE, escape, escape_json, escape_token
from httpd.logs.stamp import Stamp
from httpd.logs.template import FormatError, parse_template

__all__ = ["AccessFormat", "Entry", "FormatError", "compile_format"]

Format = Callable[[Entry, float], bytes]

_COMMON = b'%b - %b %b "%b" %d %b\n'
_COMBINED = b'%b - %b %b "%b" %d %b "%b" "%b"\n'
_JSON = (
    b'{"time":"%b","client":"%b","host":"%b","vhost":"%b","method":"%b","target":"%b","protocol":"%b",'
    b'"status":%d,"bytes":%d,"duration":%.6f,"referer":"%b","user_agent":"%b","user":"%b"}\n'
)
_USER = 1  # where the user stands in common and combined: without quotes, so a space in it would forge fields

_SPACE = 0x20  # as a number: `in` is five times as fast with it as with bytes

_Values = tuple[bytes | int | float, ...]


def _escaped(values: _Values, escaper: Callable[[bytes], bytes]) -> list[bytes | int | float]:
    return [escaper(value) if isinstance(value, bytes) else value for value in values]


def _escaped_clf(template: bytes, values: _Values, user: bytes) -> bytes:
    parts = _escaped(values, escape)
    parts[_USER] = escape_token(user)
    return template % tuple(parts)


def _common() -> Format:
    clf = Stamp().clf
    quotes = _COMMON.translate(None, SAFE)

    def common(entry: Entry, now: float) -> bytes:
        user = entry.user or b"-"
        sent = entry.sent
        values = (
            entry.client or b"-",
            user,
            clf(now),
            entry.request_line or b"-",
            entry.status,
            b"%d" % sent if sent else b"-",
        )
        line = _COMMON % values
        if line.translate(None, SAFE) != quotes or _SPACE in user:
            return _escaped_clf(_COMMON, values, user)
        return line

    return common


def _combined() -> Format:
    clf = Stamp().clf
    quotes = _COMBINED.translate(None, SAFE)

    def combined(entry: Entry, now: float) -> bytes:
        user = entry.user or b"-"
        sent = entry.sent
        field = entry.fields.get
        values = (
            entry.client or b"-",
            user,
            clf(now),
            entry.request_line or b"-",
            entry.status,
            b"%d" % sent if sent else b"-",
            field(b"referer") or b"-",
            field(b"user-agent") or b"-",
        )
        line = _COMBINED % values
        if line.translate(None, SAFE) != quotes or _SPACE in user:
            return _escaped_clf(_COMBINED, values, user)
        return line

    return combined


def _json() -> Format:
    """What is not known is an empty string, so that every key has one type."""
    iso = Stamp().iso
    quotes = _JSON.translate(None, SAFE)

    def json(entry: Entry, now: float) -> bytes:
        user, vhost = entry.user, entry.vhost
        field = entry.fields.get
        values = (
            iso(now),
            entry.client,
            entry.host,
            b"" if vhost == b"-" else vhost,
            entry.method,
            entry.target,
            entry.version,
            entry.status,
            entry.sent,
            entry.duration,
            field(b"referer", b""),
            field(b"user-agent", b""),
            b"" if user == b"-" else user,
        )
        line = _JSON % values
        if line.translate(None, SAFE) != quotes:
            return _JSON % tuple(_escaped(values, escape_json))
        return line

    return json


_NAMED: dict[str, tuple[Callable[[], Format], bool]] = {
    "common": (_common, False),
    "combined": (_combined, False),
    "json": (_json, True),
}


class AccessFormat:
    """A compiled format.

    `format(entry, now)` gives the line with its newline; `now` is the wall clock in seconds.  `needs_clock`
    says that the format shows `entry.duration`; otherwise the caller need not measure it.  `name` is "" for a template.
    """

    __slots__ = ("format", "name", "needs_clock")

    def __init__(self, form: Format, needs_clock: bool, name: str = "") -> None:
        self.format = form
        self.needs_clock = needs_clock
        self.name = name


def compile_format(text: str) -> AccessFormat:
    """The format named `common`, `combined` or `json`, or given as a template with Apache's letters.

    Raises `FormatError`, a ValueError with `position`, `problem` and `hint`.
    """
    if text in _NAMED:
        make, needs_clock = _NAMED[text]
        return AccessFormat(make(), needs_clock, text)
    template, values, needs_clock = parse_template(text)

    def line(entry: Entry, now: float) -> bytes:
        return template % tuple([value(entry, now) for value in values])

    return AccessFormat(line, needs_clock)
