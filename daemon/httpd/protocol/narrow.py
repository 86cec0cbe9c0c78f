"""A whole 200 and the request it answers in, what is really to be sent out: 200, 206, 304, 412 or 416.

Rules:

- Pure.  The response that comes in is not changed (it may be a cached one), and no file is closed: who calls
  compares `file_of` before and after and closes the file that is no longer wanted.
- Preconditions come first, Range only when they let a GET through (RFC 9110 13.2.2, 14.2).
- A 412 and a 416 carry no field of the representation: what they describe is an error page.  The caller adds
  it.
- Content-Length, Date and Connection belong to the connection and are not written here.
"""

from __future__ import annotations

from collections.abc import Mapping

from httpd.protocol.conditional import evaluate, if_range_holds
from httpd.protocol.messages import Body, FieldList, FileBody, MultiBody, Response
from httpd.protocol.ranges import UNSATISFIABLE, Ranges, parse_range

# What describes the representation (RFC 9110 8) and is known to whoever has it in a cache.  Everything else
# goes into a 304, above all ETag, Content-Location, Cache-Control, Expires and Vary (RFC 9110 15.4.5).
_METADATA = frozenset((
    b"accept-ranges", b"content-digest", b"content-encoding", b"content-language", b"content-length",
    b"content-md5", b"content-range", b"content-type", b"digest", b"last-modified", b"repr-digest",
))  # fmt: skip


def narrow(
    request_fields: Mapping[bytes, bytes], method: bytes, response: Response, now: int, boundary: bytes
) -> Response:
    """Apply preconditions, then Range, to a 200 with validators; any other response is returned as it is.

    `now` is in seconds since the epoch.  `boundary` separates the parts of a multipart body: 1 to 70 letters
    and digits that nobody can foresee, so that no content can hold them on purpose (RFC 2046 5.1.1).
    """
    validators = response.validators
    if response.status != 200 or validators is None:
        return response
    status = evaluate(request_fields, method, validators, now)
    if status == 304:
        return Response(304, unchanged_fields(response.fields), close=response.close)
    if status:
        return Response(status, close=response.close)
    if not response.ranges or method != b"GET" or b"range" not in request_fields:
        return response
    if not if_range_holds(request_fields, validators, now):
        return response
    size = response.length
    ranges = parse_range(request_fields[b"range"], size)
    if ranges is None:
        return response
    if ranges is UNSATISFIABLE:
        return Response(416, [(b"Content-Range", b"bytes */%d" % size)], close=response.close)
    if len(ranges) > 1:
        return _multiple(response, ranges, boundary)
    # RFC 9110 15.3.7: who sends If-Range has the fields of the representation from the first answer.
    fields = unchanged_fields(response.fields) if b"if-range" in request_fields else response.fields
    return _single(response, fields, *ranges[0])


def unchanged_fields(fields: FieldList) -> list[tuple[bytes, bytes]]:
    """Those fields of a 200 that belong into the 304 in its place (RFC 9110 15.4.5)."""
    return [pair for pair in fields if pair[0].lower() not in _METADATA]


def file_of(body: Body) -> int | None:
    """The file descriptor that a body reads from, or None when it is all in memory."""
    parts = body.parts if isinstance(body, MultiBody) else [body]
    return next((part.fd for part in parts if isinstance(part, FileBody)), None)


def _single(response: Response, fields: FieldList, offset: int, length: int) -> Response:
    """RFC 9110 15.3.7.1."""
    content_range = _content_range(offset, length, response.length)
    return Response(
        206, [*fields, (b"Content-Range", content_range)], _part(response.body, offset, length),
        close=response.close,
    )  # fmt: skip


def _multiple(response: Response, ranges: Ranges, boundary: bytes) -> Response:
    """RFC 9110 14.6, 15.3.7.2: each part has the Content-Type of the whole and its own Content-Range."""
    size = response.length
    types = [pair for pair in response.fields if pair[0].lower() == b"content-type"]
    others = [pair for pair in response.fields if pair[0].lower() != b"content-type"]
    head = b"\r\n--%b\r\n" % boundary + b"".join([b"%b: %b\r\n" % pair for pair in types])
    parts: list[bytes | FileBody] = []
    for offset, length in ranges:
        parts.append(b"%bContent-Range: %b\r\n\r\n" % (head, _content_range(offset, length, size)))
        parts.append(_part(response.body, offset, length))
    parts.append(b"\r\n--%b--\r\n" % boundary)
    fields = [(b"Content-Type", b"multipart/byteranges; boundary=" + boundary), *others]
    return Response(206, fields, MultiBody(parts), close=response.close)


def _content_range(offset: int, length: int, size: int) -> bytes:
    return b"bytes %d-%d/%d" % (offset, offset + length - 1, size)


def _part(body: Body, offset: int, length: int) -> bytes | FileBody:
    if isinstance(body, bytes):
        return body[offset : offset + length]
    assert isinstance(body, FileBody)  # ranges are cut from a whole representation, never from one that is cut already
    return FileBody(body.fd, body.offset + offset, length)
