"""httpd.logs.access: the named formats beside the templates that say the same, with hostile requests too."""

import json
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.logs.access import compile_format

from .conftest import USER_AGENT, Request

NOW = 1795326289.5
AS_TEMPLATE = {
    "common": '%h %l %u %t "%r" %>s %b',
    "combined": '%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i"',
}
CLF = re.compile(rb'\S+ - \S+ \[[^]]*\] "[^"]*" \d{3} (?:\d+|-)(?: "[^"]*" "[^"]*")?\n')

anything = st.binary(max_size=40)
hostile = st.builds(
    Request,
    client=st.sampled_from([b"192.0.2.7", b"2001:db8::1", b""]),
    request_line=anything,
    method=anything,
    target=anything,
    version=anything,
    host=anything,
    user=anything,
    status=st.integers(100, 599),
    sent=st.integers(0, 2**40),
    duration=st.floats(0, 1e6),
    fields=st.dictionaries(st.sampled_from([b"referer", b"user-agent"]), anything),
)


def line(name: str, entry: Request) -> bytes:
    return compile_format(name).format(entry, NOW)


def test_common_and_combined(zone: Callable[[str], None]) -> None:
    zone("UTC0")
    start = b'192.0.2.7 - - [22/Nov/2026:05:44:49 +0000] "GET /a%20b?x=1 HTTP/1.1" 200 1024'
    assert line("common", Request()) == start + b"\n"
    assert line("combined", Request()) == start + b' "http://example.org/" "' + USER_AGENT + b'"\n'


def test_what_is_missing_is_a_dash(zone: Callable[[str], None]) -> None:
    zone("UTC0")
    entry = Request(client=b"", request_line=b"", user=b"", sent=0, fields={b"referer": b""}, status=408)
    start = b'- - - [22/Nov/2026:05:44:49 +0000] "-" 408 -'
    assert line("common", entry) == start + b"\n"
    assert line("combined", entry) == start + b' "-" "-"\n'


def test_json(zone: Callable[[str], None]) -> None:
    zone("XXX-2")
    entry = Request(user=b'j "x"', fields={b"user-agent": "\u00fc".encode()})
    text = line("json", entry)
    assert text.endswith(b"}\n") and text.count(b"\n") == 1
    assert list(json.loads(text).items()) == [
        ("time", "2026-11-22T07:44:49.500+02:00"),
        ("client", "192.0.2.7"),
        ("host", "example.org:8080"),
        ("vhost", "example.org"),
        ("method", "GET"),
        ("target", "/a%20b?x=1"),
        ("protocol", "HTTP/1.1"),
        ("status", 200),
        ("bytes", 1024),
        ("duration", 0.012346),
        ("referer", ""),
        ("user_agent", "\u00fc"),
        ("user", 'j "x"'),
    ]


def test_json_says_nothing_with_empty_strings() -> None:
    found = json.loads(line("json", Request(user=b"-", vhost=b"-", host=b"", method=b"", fields={})))
    assert [found[key] for key in ("user", "vhost", "host", "method", "referer", "user_agent")] == [""] * 6


ATTACKS = [
    (Request(request_line=b'GET /"\\ HTTP/1.1'), rb"GET /\x22\x5c HTTP/1.1"),
    (Request(request_line=b'GET / HTTP/1.1" 200 5 "-" "x'), rb"GET / HTTP/1.1\x22 200 5 \x22-\x22 \x22x"),
    (Request(request_line=b"\x16\x03\x01\x00"), rb"\x16\x03\x01\x00"),
    (Request(fields={b"user-agent": b"x\r\n192.0.2.1 - root"}), rb"x\x0d\x0a192.0.2.1 - root"),
    (Request(fields={b"referer": b"\x1b]0;title\x07"}), rb"\x1b]0;title\x07"),
    (Request(fields={b"referer": "\u00fc".encode()}), rb"\xc3\xbc"),
    (Request(fields={b"referer": b"\x9b31m"}), rb"\x9b31m"),
    (Request(user=b"a b"), rb" a\x20b ["),
    (Request(user=b'a "b'), rb" a\x20\x22b ["),
]


@pytest.mark.parametrize(("entry", "written"), ATTACKS)
def test_attacks(entry: Request, written: bytes) -> None:
    found = line("combined", entry)
    assert written in found
    assert CLF.fullmatch(found)


@given(hostile)
def test_no_client_can_break_a_line(entry: Request) -> None:
    for name, template in AS_TEMPLATE.items():
        found = line(name, entry)
        assert CLF.fullmatch(found)
        assert re.fullmatch(rb"[\x20-\x7e]*\n", found)
        assert found == line(template, entry)


@given(hostile)
def test_no_client_can_break_json(entry: Request) -> None:
    found = line("json", entry)
    assert re.fullmatch(rb"[\x20-\x7e]*\n", found)
    values = json.loads(found)
    assert values["target"] == entry.target.decode("utf-8", "backslashreplace")
    assert (values["status"], values["bytes"]) == (entry.status, entry.sent)


@pytest.mark.parametrize(("text", "needed"), [("common", False), ("combined", False), ("json", True)])
def test_needs_clock(text: str, needed: bool) -> None:
    assert compile_format(text).needs_clock is needed
