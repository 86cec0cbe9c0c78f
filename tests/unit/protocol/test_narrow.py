"""From a whole 200 to what the request wants of it (RFC 9110 13.2.2, 14.2, 15.3.7, 15.4.5, 15.5.17)."""

import copy
import email.parser
import email.policy

import pytest

from httpd.protocol.messages import Body, FileBody, MultiBody, Response, Validators
from httpd.protocol.narrow import file_of, narrow, unchanged_fields

CONTENT = bytes(range(256)) * 4
MODIFIED = 784111777
NOW = MODIFIED + 3600
BOUNDARY = b"boundary0123456789"
FIELDS = [
    (b"Content-Type", b"text/plain"),
    (b"Last-Modified", b"Sun, 06 Nov 1994 08:49:37 GMT"),
    (b"ETag", b'"a"'),
    (b"Content-Language", b"en"),
    (b"content-encoding", b"gzip"),
    (b"Accept-Ranges", b"bytes"),
    (b"Cache-Control", b"max-age=60"),
    (b"Content-Location", b"/a.en"),
    (b"Expires", b"Sun, 06 Nov 1994 09:49:37 GMT"),
    (b"Vary", b"Accept-Language"),
    (b"Content-Security-Policy", b"default-src 'self'"),
]


def whole(body: Body = CONTENT, **changes: object) -> Response:
    response = Response(200, list(FIELDS), body, Validators(b'"a"', MODIFIED), ranges=True)
    for name, value in changes.items():
        setattr(response, name, value)
    return response


def ask(response: Response, method: bytes = b"GET", **fields: bytes) -> Response:
    given = {name.replace("_", "-").encode(): value for name, value in fields.items()}
    before = copy.deepcopy(response)
    narrowed = narrow(given, method, response, NOW, BOUNDARY)
    assert response == before, "the response that came in was changed"
    return narrowed


def values(response: Response, name: bytes) -> list[bytes]:
    return [value for key, value in response.fields if key.lower() == name]


def wire(response: Response) -> bytes:
    """The body as it would be sent, files read from CONTENT."""
    body: object = response.body
    parts = body.parts if isinstance(body, MultiBody) else [body]
    return b"".join(
        CONTENT[part.offset : part.offset + part.length] if isinstance(part, FileBody) else part  # type: ignore[misc]
        for part in parts
    )


@pytest.mark.parametrize(
    "response",
    [
        whole(status=404),
        whole(status=206),
        whole(validators=None),
    ],
)
def test_nothing_to_narrow(response: Response) -> None:
    assert ask(response, if_match=b'"b"', if_none_match=b"*", range=b"bytes=0-1") is response


def test_no_precondition_no_range() -> None:
    response = whole()
    assert ask(response) is response


def test_not_modified() -> None:
    narrowed = ask(whole(FileBody(5, 0, 1024), close=True), if_none_match=b'"a"', range=b"bytes=0-1")
    assert (narrowed.status, narrowed.body, narrowed.close) == (304, b"", True)
    assert [name for name, _ in narrowed.fields] == [
        b"ETag", b"Cache-Control", b"Content-Location", b"Expires", b"Vary", b"Content-Security-Policy",
    ]  # fmt: skip
    assert narrowed.fields == unchanged_fields(FIELDS)


@pytest.mark.parametrize("method", [b"GET", b"HEAD", b"PUT"])
def test_precondition_failed(method: bytes) -> None:
    narrowed = ask(whole(close=True), method, if_match=b'"b"', range=b"bytes=0-1")
    assert narrowed == Response(412, close=True)


@pytest.mark.parametrize("body", [CONTENT, FileBody(5, 0, 1024)], ids=["memory", "file"])
@pytest.mark.parametrize(
    ("value", "offset", "length", "content_range"),
    [
        (b"bytes=0-0", 0, 1, b"bytes 0-0/1024"),
        (b"bytes=10-19", 10, 10, b"bytes 10-19/1024"),
        (b"bytes=-24", 1000, 24, b"bytes 1000-1023/1024"),
        (b"bytes=0-", 0, 1024, b"bytes 0-1023/1024"),
        (b"bytes=10-19,5000-", 10, 10, b"bytes 10-19/1024"),
    ],
)
def test_single_range(body: Body, value: bytes, offset: int, length: int, content_range: bytes) -> None:
    narrowed = ask(whole(body, close=True), range=value)
    assert (narrowed.status, narrowed.length, narrowed.close) == (206, length, True)
    assert wire(narrowed) == CONTENT[offset : offset + length]
    assert narrowed.fields == [*FIELDS, (b"Content-Range", content_range)]


def test_part_of_a_file_that_starts_within() -> None:
    assert ask(whole(FileBody(5, 100, 50)), range=b"bytes=10-19").body == FileBody(5, 110, 10)


@pytest.mark.parametrize("body", [CONTENT, FileBody(5, 0, 1024)], ids=["memory", "file"])
def test_several_ranges(body: Body) -> None:
    narrowed = ask(whole(body), range=b"bytes=-4, 0-9,5000-")
    assert narrowed.status == 206
    assert values(narrowed, b"content-range") == []
    assert values(narrowed, b"content-type") == [b"multipart/byteranges; boundary=" + BOUNDARY]
    assert values(narrowed, b"etag") == [b'"a"']
    sent = wire(narrowed)
    assert narrowed.length == len(sent)
    assert sent == (
        b"\r\n--boundary0123456789\r\nContent-Type: text/plain\r\nContent-Range: bytes 1020-1023/1024\r\n\r\n"
        + CONTENT[-4:]
        + b"\r\n--boundary0123456789\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-9/1024\r\n\r\n"
        + CONTENT[:10]
        + b"\r\n--boundary0123456789--\r\n"
    )


def test_several_ranges_are_mime() -> None:
    """Another parser, that of the standard library, finds the same parts."""
    response = whole(b"0123456789abcdefghij")
    narrowed = ask(response, range=b"bytes=0-4,10-14")
    head = b"Content-Type: " + values(narrowed, b"content-type")[0] + b"\r\n\r\n"
    message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + wire(narrowed))
    parts = message.get_payload()
    assert isinstance(parts, list)
    assert [(part["Content-Range"], part.get_payload()) for part in parts] == [
        ("bytes 0-4/20", "01234"),
        ("bytes 10-14/20", "abcde"),
    ]


def test_several_ranges_without_a_type() -> None:
    narrowed = ask(whole(fields=[(b"ETag", b'"a"')]), range=b"bytes=0-0,2-2")
    assert b"Content-Type" not in wire(narrowed)


def test_not_satisfiable() -> None:
    narrowed = ask(whole(close=True), range=b"bytes=1024-")
    assert narrowed == Response(416, [(b"Content-Range", b"bytes */1024")], close=True)


def test_empty_representation() -> None:
    response = whole(b"")
    assert ask(response, range=b"bytes=0-").fields == [(b"Content-Range", b"bytes */0")]
    assert ask(response, range=b"bytes=-1") is response


@pytest.mark.parametrize("method", [b"HEAD", b"POST", b"get"])
def test_range_is_for_get(method: bytes) -> None:
    response = whole()
    assert ask(response, method, range=b"bytes=0-1") is response


@pytest.mark.parametrize("value", [b"lines=0-1", b"bytes=1-0", b"bytes=0-,0-,0-"])
def test_range_ignored(value: bytes) -> None:
    response = whole()
    assert ask(response, range=value) is response


def test_no_ranges_of_this_resource() -> None:
    response = whole(ranges=False)
    assert ask(response, range=b"bytes=5000-") is response


@pytest.mark.parametrize(
    ("if_range", "status"),
    [
        (b'"a"', 206),
        (b"Sun, 06 Nov 1994 08:49:37 GMT", 206),
        (b'"b"', 200),
        (b'W/"a"', 200),
        (b"Sun, 06 Nov 1994 08:49:38 GMT", 200),
    ],
)
def test_if_range(if_range: bytes, status: int) -> None:
    assert ask(whole(), if_range=if_range, range=b"bytes=0-1").status == status


def test_if_range_fails_before_the_range_is_looked_at() -> None:
    assert ask(whole(), if_range=b'"b"', range=b"bytes=5000-").status == 200


def test_if_range_without_range() -> None:
    response = whole()
    assert ask(response, if_range=b'"b"') is response


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"if_none_match": b'"a"'}, None),
        ({"if_match": b'"b"'}, None),
        ({"range": b"bytes=5000-"}, None),
        ({"range": b"bytes=0-1"}, 5),
        ({"range": b"bytes=0-1,5-6"}, 5),
        ({}, 5),
    ],
)
def test_file_that_is_still_wanted(fields: dict[str, bytes], expected: int | None) -> None:
    assert file_of(ask(whole(FileBody(5, 0, 1024)), **fields).body) == expected


def test_file_of_memory() -> None:
    assert file_of(CONTENT) is None
