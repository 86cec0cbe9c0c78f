"""URL paths: percent-decoding, dot segments, quoting, redirect targets.  Pure functions on bytes.

Rules:

- A path is decoded exactly once (RFC 3986 2.4) and normalized after that, so that "%2e%2e%2f" is what it
  says.
- A decoded path is bytes, not text: a Linux file name need not be UTF-8.
- "/" is the only separator.  A backslash is an ordinary byte of a name; it leaves only as "%5C", because
  browsers read "/\\host" as "//host".
- What goes out in a Location never begins with "//", which would name a host (CVE-2021-28861), and holds no
  byte that could end the field.
"""

from __future__ import annotations

import re
from urllib.parse import unquote_to_bytes

_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2})")
_SLASHES = re.compile(rb"//+")
# \Z, not $: a name may end with a line feed.
_DOTFILE = re.compile(rb"(?:\A|/)\.(?!well-known(?:/|\Z))")

# unreserved / "/" / ":" / "@" and those sub-delims that need no care in HTML, CSS or Markdown (RFC 3986 2.2,
# 3.3).  Not ";": clients that still know RFC 2396's parameters (Python's urljoin) lose one at the end.
_PATH_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/:@!$*+,="
_UNSAFE = re.compile(rb"[^" + re.escape(_PATH_SAFE) + rb"]")

# What a URI never holds (RFC 3986 appendix A).  "%" is not in it: a `to` and a query are quoted already.
_NOT_IN_URI = re.compile(rb'[^!-~]|["<>\\^`{|}]')
# A query stays as the client wrote it; "|" and braces that browsers leave bare included.
_NOT_IN_QUERY = re.compile(rb'[^!-~]|["<>#]')

# scheme "://" authority, path, query, fragment (RFC 3986 appendix B)
_TARGET = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*://[^/?#]*)?([^?#]*)(\?[^#]*)?(#.*)?", re.DOTALL)


class PathError(ValueError):
    """A path that no file can have.  `status` is the answer, `reason` a short text without client bytes."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def decode(raw: bytes) -> bytes:
    """Percent-decode the path of a request target once (RFC 3986 2.1).

    Raises PathError(400) for a "%" without two hex digits and for NUL, raw or encoded: no file name holds
    one.
    """
    path = raw
    if b"%" in raw:
        if _BAD_ESCAPE.search(raw):
            raise PathError(400, "malformed percent-encoding in the path")
        path = unquote_to_bytes(raw)
    if b"\0" in path:
        raise PathError(400, "NUL in the path")
    return path


def normalize(path: bytes) -> bytes:
    """Collapse runs of "/" and remove "." and ".." segments (RFC 3986 5.2.4) of a decoded path.

    A slash at the end is kept, and a dot segment at the end leaves one: "/a/." and "/a/b/.." are "/a/".
    Raises PathError(400) for a path that does not start with "/" or climbs above the root.
    """
    if path[:1] != b"/":
        raise PathError(400, "the path does not start with a slash")
    if b"//" not in path and b"/." not in path:
        return path
    segments: list[bytes] = []
    parts = _SLASHES.sub(b"/", path).split(b"/")[1:]
    for part in parts:
        if part == b"..":
            if not segments:
                raise PathError(400, "the path climbs above the root")
            segments.pop()
        elif part not in (b".", b""):
            segments.append(part)
    if segments and parts[-1] in (b"", b".", b".."):
        segments.append(b"")
    return b"/" + b"/".join(segments)


def quote(path: bytes) -> bytes:
    """Percent-encode a decoded path or name for Location and href.  It never begins with "//"."""
    if path[:2] == b"//":
        path = b"/" + path.lstrip(b"/")
    return _escape(_UNSAFE, path)


def has_dotfile(path: bytes) -> bool:
    """Whether a segment starts with "." and is not exactly ".well-known" (RFC 8615), wherever it stands."""
    return _DOTFILE.search(path) is not None


def join_redirect(to: str, rest: bytes, query: bytes | None) -> bytes:
    """The Location of a redirect mount: `to`, the decoded `rest` of the path, the `query` as it was sent.

    `to` is a path ("/new/") or an absolute URI; it may have a query, which the client's follows behind "&",
    and a fragment, which stays at the end.  `query` comes without its "?"; None means that there was none.
    Exactly one slash stands between `to` and a `rest` that is not empty, so that `rest` never becomes part
    of a host, and a local `to` never begins with "//".
    """
    match = _TARGET.fullmatch(_escape(_NOT_IN_URI, to.encode("utf-8", "surrogateescape")))
    assert match is not None  # every part is optional
    origin, path, own_query, fragment = (part or b"" for part in match.groups())
    if rest:
        path = path.rstrip(b"/") + b"/" + quote(rest.lstrip(b"/"))
    if not origin and path[:2] == b"//":
        path = b"/" + path.lstrip(b"/")
    if query is not None:
        query = _escape(_NOT_IN_QUERY, query)
        own_query = own_query + b"&" + query if len(own_query) > 1 else b"?" + query
    return origin + path + own_query + fragment


def _escape(unwanted: re.Pattern[bytes], text: bytes) -> bytes:
    return unwanted.sub(lambda match: b"%%%02X" % match[0][0], text)
