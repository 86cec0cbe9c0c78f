"""Preconditions and ranges as clients use them (RFC 9110 13, 14)."""

from __future__ import annotations

import re
from email.utils import formatdate, parsedate_to_datetime

import pytest

from live.client import Answer
from live.conftest import Connect
from live.daemon import Daemon, Place

_SMALL = bytes(range(256)) * 4
_LARGE = bytes(range(251)) * 2000
_PAGES = {"/small": _SMALL, "/large": _LARGE}


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    shared_place.write("www/small", _SMALL)
    shared_place.write("www/large", _LARGE)
    shared_place.write("www/empty")
    shared_daemon.configure('[[vhost]]\nroot = "www"\nheaders = { "Cache-Control" = "max-age=60", "X-Own" = "1" }\n')
    return shared_daemon.start()


@pytest.mark.parametrize("target", _PAGES)
def test_not_modified_by_etag_and_by_date(server: Daemon, connect: Connect, target: str) -> None:
    client = connect()
    whole = client.get(target)
    for field in (
        f"If-None-Match: {whole['ETag']}", f'If-None-Match: "other", W/{whole["ETag"]}', "If-None-Match: *",
        f"If-Modified-Since: {whole['Last-Modified']}",
    ):  # fmt: skip
        for method in ("GET", "HEAD"):
            answer = client.get(target, field, method=method)
            assert (answer.status, answer.body) == (304, b""), field
            assert (answer["ETag"], answer["Cache-Control"]) == (whole["ETag"], "max-age=60")
            assert "Content-Length" not in answer
            assert "Content-Type" not in answer


@pytest.mark.parametrize("target", _PAGES)
def test_modified(server: Daemon, connect: Connect, target: str) -> None:
    client = connect()
    whole = client.get(target)
    earlier = formatdate(parsedate_to_datetime(whole["Last-Modified"]).timestamp() - 1, usegmt=True)
    for fields in (
        ['If-None-Match: "other"'], [f"If-Modified-Since: {earlier}"],
        ['If-None-Match: "other"', f"If-Modified-Since: {whole['Last-Modified']}"],  # the tag counts alone
        ["If-Modified-Since: yesterday"],
    ):  # fmt: skip
        answer = client.get(target, *fields)
        assert (answer.status, answer.body) == (200, _PAGES[target]), fields


def test_precondition_failed(server: Daemon, connect: Connect) -> None:
    client = connect()
    whole = client.get("/small")
    for fields in (
        ['If-Match: "other"'], [f"If-Match: W/{whole['ETag']}"], ["If-Unmodified-Since: Thu, 01 Jan 1998 00:00:00 GMT"],
    ):  # fmt: skip
        assert client.get("/small", *fields).status == 412, fields
    for fields in ([f"If-Match: {whole['ETag']}"], ["If-Match: *"], [f"If-Unmodified-Since: {whole['Last-Modified']}"]):
        assert client.get("/small", *fields).status == 200, fields


@pytest.mark.parametrize("target", _PAGES)
@pytest.mark.parametrize(
    ("wanted", "first", "last"),
    [("0-0", 0, 0), ("10-19", 10, 19), ("1000-", 1000, None), ("-10", -10, None), ("5-99999999", 5, None),
     ("-99999999", 0, None), ("0-", 0, None)],
)  # fmt: skip
def test_one_range(
    server: Daemon, connect: Connect, target: str, wanted: str, first: int, last: int | None
) -> None:
    whole = _PAGES[target]
    part = whole[first:] if last is None else whole[first : last + 1]
    start = first % len(whole)
    client = connect()
    for _ in range(2):
        answer = client.get(target, f"Range: bytes={wanted}")
        assert (answer.status, answer.body) == (206, part)
        assert answer["Content-Range"] == f"bytes {start}-{start + len(part) - 1}/{len(whole)}"
        assert answer["X-Own"] == "1"


@pytest.mark.parametrize("target", _PAGES)
def test_a_range_behind_the_end_is_416(server: Daemon, connect: Connect, target: str) -> None:
    client = connect()
    for wanted in ("99999999-", "-0"):
        answer = client.get(target, f"Range: bytes={wanted}")
        assert (answer.status, answer["Content-Range"]) == (416, f"bytes */{len(_PAGES[target])}")
    assert client.get("/empty", "Range: bytes=0-0").status in (200, 416)
    assert client.get(target).body == _PAGES[target]


@pytest.mark.parametrize("wanted", ["bytes=5-1", "bytes=a-b", "lines=1-2", "bytes 1-2", "bytes="])
def test_a_range_that_makes_no_sense_is_ignored(server: Daemon, connect: Connect, wanted: str) -> None:
    answer = connect().get("/small", f"Range: {wanted}")
    assert (answer.status, answer.body) == (200, _SMALL)


def test_if_range(server: Daemon, connect: Connect) -> None:
    client = connect()
    tag = client.get("/large")["ETag"]
    assert client.get("/large", "Range: bytes=0-9", f"If-Range: {tag}").status == 206
    for other in ('"other"', f"W/{tag}", "Thu, 01 Jan 1998 00:00:00 GMT"):
        answer = client.get("/large", "Range: bytes=0-9", f"If-Range: {other}")
        assert (answer.status, answer.body) == (200, _LARGE), other


def test_ranges_do_not_concern_head_and_304(server: Daemon, connect: Connect) -> None:
    client = connect()
    whole = client.get("/small", method="HEAD")
    assert client.get("/small", "Range: bytes=0-0", method="HEAD").status == 200
    assert client.get("/small", "Range: bytes=0-0", f"If-None-Match: {whole['ETag']}").status == 304


@pytest.mark.parametrize("target", _PAGES)
def test_several_ranges(server: Daemon, connect: Connect, target: str) -> None:
    client = connect()
    answer = client.get(target, "Range: bytes=0-4, 100-119, -7")
    assert answer.status == 206
    assert "Content-Range" not in answer
    whole = _PAGES[target]
    size = len(whole)
    assert _parts(answer) == [
        (f"bytes 0-4/{size}", whole[:5]), (f"bytes 100-119/{size}", whole[100:120]),
        (f"bytes {size - 7}-{size - 1}/{size}", whole[-7:]),
    ]  # fmt: skip
    assert client.get(target).body == whole


def test_very_many_ranges_are_not_a_lever(server: Daemon, connect: Connect) -> None:
    client = connect()
    many = ",".join("0-" for _ in range(1000))
    answer = client.get("/large", f"Range: bytes={many}")
    assert answer.status in (200, 206, 416)
    assert len(answer.body) <= len(_LARGE) + 1000


def _parts(answer: Answer) -> list[tuple[str, bytes]]:
    found = re.fullmatch(r"multipart/byteranges; ?boundary=(\S+)", answer["Content-Type"])
    assert found is not None
    mark = b"--" + found[1].strip('"').encode()
    first, *parts, end = answer.body.split(mark)
    assert first in (b"", b"\r\n")
    assert end.strip() == b"--"
    result = []
    for part in parts:
        head, _, body = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        result.append((fields["Content-Range"], body.removesuffix(b"\r\n")))
    return result
