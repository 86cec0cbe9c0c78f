"""The HTML that the server makes itself: listings, error pages, redirects.  Pure functions.

Rules:

- Every page is valid HTML5 and well-formed XML: no named entities, every element closed.
- Nothing from a client or a file name gets in unescaped.  What XML can't hold (control characters, bytes
  that are not UTF-8) is shown as U+FFFD; links keep the exact bytes, percent-encoded.
- No scripts, nothing fetched: a page works under any Content-Security-Policy that allows inline styles, and
  reads well without them.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from datetime import UTC, datetime

from httpd.content import paths
from httpd.content.listing import ListEntry

# Control characters, surrogates and noncharacters.  XML 1.0 allows tab and line feed; in a name they only
# confuse.
_UNSHOWN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")

_UNITS = ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB")

_STYLE = (
    ":root{color-scheme:light dark;font-family:system-ui,sans-serif;line-height:1.5}"
    "body{max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "h1{font-size:1.4rem;overflow-wrap:anywhere}"
    "table{border-collapse:collapse;width:100%}"
    "th,td{padding:.2rem .6rem;text-align:left;vertical-align:top;border-bottom:1px solid #8884}"
    "td:first-child{overflow-wrap:anywhere;white-space:pre-wrap}"
    "th:nth-child(n+2),td:nth-child(n+2){white-space:nowrap;font-variant-numeric:tabular-nums}"
    "th:last-child,td:last-child{text-align:right}"
)

_PAGE = (
    "<!DOCTYPE html>\n"
    '<html lang="en">\n'
    "<head>\n"
    '<meta charset="utf-8" />\n'
    '<meta name="viewport" content="width=device-width, initial-scale=1" />\n'
    "<title>{title}</title>\n"
    "<style>{style}</style>\n"
    "</head>\n"
    "<body>\n"
    "<main>\n"
    "<h1>{title}</h1>\n"
    "{body}"
    "</main>\n"
    "</body>\n"
    "</html>\n"
)

_TABLE = (
    "<table>\n"
    '<thead><tr><th scope="col">Name</th><th scope="col">Last modified (UTC)</th>'
    '<th scope="col">Size</th></tr></thead>\n'
    "<tbody>\n"
    "{rows}"
    "</tbody>\n"
    "</table>\n"
)


def listing_page(path: bytes, entries: Sequence[ListEntry]) -> bytes:
    """The listing of the folder at the decoded URL `path`, which ends with "/": links are relative to it."""
    body = "" if path == b"/" else '<p><a href="../">Parent folder</a></p>\n'
    if entries:
        body += _TABLE.format(rows="".join(map(_row, entries)))
    else:
        body += "<p>This folder is empty.</p>\n"
    return _page("Index of " + _shown(path.decode("utf-8", "replace")), body)


def error_page(status: int, reason: str, detail: str) -> bytes:
    """The page for an error status: its reason phrase, and a sentence of `detail` unless that is empty."""
    body = f"<p>{_shown(detail)}</p>\n" if detail else ""
    return _page(f"{status} {_shown(reason)}", body)


def redirect_page(location: bytes) -> bytes:
    """The page for a client that does not follow redirects: a link to `location`, as the field has it."""
    target = _shown(location.decode("utf-8", "replace"))
    return _page("Moved", f'<p>The page is at <a href="{target}">{target}</a>.</p>\n')


def human_size(size: int) -> str:
    """A size in bytes as people read it: "0 B", "1.5 KiB", "15 KiB", "3.0 GiB"."""
    if size < 1024:
        return f"{size} B"
    value, unit = size / 1024, 0
    while value >= 1023.5 and unit < len(_UNITS) - 1:  # what is above would be rounded to 1024
        value, unit = value / 1024, unit + 1
    return f"{value:.1f} {_UNITS[unit]}" if value < 9.95 else f"{value:.0f} {_UNITS[unit]}"


def _row(entry: ListEntry) -> str:
    slash = "/" if entry.is_dir else ""
    name = _shown(entry.name.decode("utf-8", "replace")) + slash
    size = "-" if entry.is_dir else f'<span title="{entry.size} bytes">{human_size(entry.size)}</span>'
    href = html.escape(_href(entry.name)) + slash
    return f'<tr><td><a href="{href}">{name}</a></td><td>{_time(entry.mtime)}</td><td>{size}</td></tr>\n'


def _href(name: bytes) -> str:
    # RFC 3986 4.2: a first segment with a colon would be read as a scheme ("javascript:...").
    return ("./" if b":" in name else "") + paths.quote(name).decode("ascii")


def _time(mtime: float) -> str:
    try:
        moment = datetime.fromtimestamp(mtime, UTC)
    except (ValueError, OverflowError, OSError):  # file systems can hold years that the calendar can't
        return "-"
    return f'<time datetime="{moment:%Y-%m-%dT%H:%MZ}">{moment:%Y-%m-%d %H:%M}</time>'


def _shown(text: str) -> str:
    return html.escape(_UNSHOWN.sub("\ufffd", text))


def _page(title: str, body: str) -> bytes:
    return _PAGE.format(title=title, style=_STYLE, body=body).encode("utf-8")
