"""Preconditions: what the validators of a request mean for the selected representation (RFC 9110 13).

Rules:

- The order is that of RFC 9110 13.2.2 and is written down once, in `evaluate`: If-Match before
  If-Unmodified-Since, If-None-Match before If-Modified-Since; the date counts only where the tags are
  missing.
- A list of entity tags that does not match its grammar names no tag at all.  So a broken If-Match never lets
  a change through, and a broken If-None-Match never withholds content.
- A field with an invalid date is ignored, as is any date when the representation has none.
- `now` never invalidates a date: RFC 9110 13.1.3 has dropped the rule of RFC 2616 14.25 about dates later
  than the server's clock.  It only decides the century of an rfc850-date and whether a Last-Modified is
  strong.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from httpd.protocol.dates import parse_date
from httpd.protocol.messages import Validators

# entity-tag = [ weak ] opaque-tag, weak = %s"W/", etagc = %x21 / %x23-7E / obs-text          RFC 9110 8.8.3
_TAG = rb'(?:W/)?"[!#-~\x80-\xff]*+"'
_ONE_TAG = re.compile(_TAG)

# #entity-tag, as a recipient has to take it: with empty elements                             RFC 9110 5.6.1.2
# Groups are not repeated possessively, which Python before 3.11.5 gets wrong (gh-106052).  There is nothing
# to backtrack into all the same: no element matches in two ways.
_TAG_LIST = re.compile(rb"(?:" + _TAG + rb")?(?:[ \t]*+,[ \t]*+(?:" + _TAG + rb")?)*")

# Methods that neither select nor change a representation                                     RFC 9110 13.2.1
_UNCONDITIONAL = frozenset((b"CONNECT", b"OPTIONS", b"TRACE"))
_RETRIEVAL = frozenset((b"GET", b"HEAD"))


def evaluate(request_fields: Mapping[bytes, bytes], method: bytes, validators: Validators, now: int) -> int:
    """The status that the preconditions of a request ask for: 304, 412, or 0 to go on.

    `validators` are those of an existing representation; repeated fields are given joined by a comma; `now`
    is in seconds since the epoch.  To be asked only when the answer would otherwise be a 2xx (RFC 9110
    13.2.1).
    """
    if method in _UNCONDITIONAL:
        return 0
    if (tags := request_fields.get(b"if-match")) is not None:
        if not _match_strong(tags, validators.etag):
            return 412
    elif _modified_since(request_fields.get(b"if-unmodified-since"), validators, now) is True:
        return 412
    if (tags := request_fields.get(b"if-none-match")) is not None:
        if _match_weak(tags, validators.etag):
            return 304 if method in _RETRIEVAL else 412
    elif method in _RETRIEVAL:
        date = request_fields.get(b"if-modified-since")
        return 304 if _modified_since(date, validators, now) is False else 0
    return 0


def if_range_holds(request_fields: Mapping[bytes, bytes], validators: Validators, now: int) -> bool:
    """Whether Range may be applied as far as If-Range goes (RFC 9110 13.1.5); True without the field.

    A date has to be the very Last-Modified, and that has to be strong: older than `now` by a second, so that
    the second in which the representation could change unseen is over (RFC 9110 8.8.2.2).
    """
    value = request_fields.get(b"if-range")
    if value is None:
        return True
    if b'"' in value[:3]:
        return _is_strong(value) and value == validators.etag
    modified = validators.modified
    return modified is not None and parse_date(value, now) == modified and modified < now


def _modified_since(date: bytes | None, validators: Validators, now: int) -> bool | None:
    """Whether the representation changed after `date`; None: nothing to compare (RFC 9110 13.1.3, 13.1.4)."""
    if date is None or validators.modified is None:
        return None
    since = parse_date(date, now)
    return validators.modified > since if since is not None else None


def _match_strong(value: bytes, etag: bytes) -> bool:
    """If-Match (RFC 9110 13.1.1): both tags strong and equal."""
    return value == b"*" or (_is_strong(etag) and etag in _tags(value))


def _match_weak(value: bytes, etag: bytes) -> bool:
    """If-None-Match (RFC 9110 13.1.2): the opaque tags are equal."""
    opaque = etag.removeprefix(b"W/")
    if value == b"*" or (opaque and value == etag):  # mostly it is one tag, sent back as it was given
        return True
    return bool(opaque) and any(tag.removeprefix(b"W/") == opaque for tag in _tags(value))


def _is_strong(etag: bytes) -> bool:
    return etag.startswith(b'"')


def _tags(value: bytes) -> list[bytes]:
    """The entity tags of a list; none when the list is malformed."""
    return _ONE_TAG.findall(value) if _TAG_LIST.fullmatch(value) is not None else []
