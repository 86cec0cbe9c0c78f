"""httpd.logs.template: every letter, and every way to be refused."""

import os
import re
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.logs.access import FormatError, compile_format

from .conftest import USER_AGENT, Request

NOW = 1795326289.654321

LETTERS = [
    ("%h", b"192.0.2.7"),
    ("%a", b"192.0.2.7"),
    ("%l", b"-"),
    ("%u", b"-"),
    ("%t", b"[22/Nov/2026:05:44:49 +0000]"),
    ("%{%Y/%m/%d %H:%M}t", b"2026/11/22 05:44"),
    ("%{end:%S}t", b"49"),
    ("%{begin:%S}t", b"39"),
    ("%{sec}t", b"1795326289"),
    ("%{msec}t", b"1795326289654"),
    ("%{usec}t", b"1795326289654321"),
    ("%{msec_frac}t", b"654"),
    ("%{usec_frac}t", b"654321"),
    ("%{begin:msec}t", b"1795326279404"),
    ("%r", b"GET /a%20b?x=1 HTTP/1.1"),
    ("%m", b"GET"),
    ("%U", b"/a%20b"),
    ("%q", b"?x=1"),
    ("%H", b"HTTP/1.1"),
    ("%s", b"200"),
    ("%>s", b"200"),
    ("%<s", b"200"),
    ("%b", b"1024"),
    ("%B", b"1024"),
    ("%O", b"1200"),
    ("%D", b"10250000"),
    ("%T", b"10"),
    ("%{s}T", b"10"),
    ("%{ms}T", b"10250"),
    ("%{us}T", b"10250000"),
    ("%{User-Agent}i", USER_AGENT),
    ("%{user-agent}i", USER_AGENT),
    ("%{X-None}i", b"-"),
    ("%{content-type}o", b"text/html"),
    ("%{Vary}o", b"A, B"),
    ("%{X-None}o", b"-"),
    ("%v", b"example.org"),
    ("%V", b"example.org:8080"),
    ("%p", b"8080"),
    ("%X", b"+"),
    ("100%% %s%%b", b"100% 200%b"),
    (r"\"%s\"\t\\", b'"200"\t\\'),
    ("\u00fc %s", "\u00fc 200".encode()),
]


def line(text: str, entry: Request) -> bytes:
    return compile_format(text).format(entry, NOW)


@pytest.mark.parametrize(("text", "expected"), LETTERS)
def test_letters(zone: Callable[[str], None], text: str, expected: bytes) -> None:
    zone("UTC0")
    assert line(text, Request(duration=10.25)) == expected + b"\n"


def test_process_id_is_read_when_a_line_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = compile_format("%P")
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    assert compiled.format(Request(), NOW) == b"4711\n"


MISSING = Request(
    client=b"", request_line=b"", method=b"", target=b"", version=b"", user=b"", host=b"", vhost=b"-", sent=0,
    keepalive=False,
)  # fmt: skip


@pytest.mark.parametrize("letter", ["h", "a", "r", "m", "U", "H", "u", "V", "v", "b", "X"])
def test_what_is_missing_is_a_dash(letter: str) -> None:
    assert line("%" + letter, MISSING) == b"-\n"


def test_a_space_in_the_user_forges_no_field() -> None:
    assert line("%u %s", Request(user=b'a "b')) == b"a\\x20\\x22b 200\n"


def test_numbers_and_queries_that_are_missing() -> None:
    assert line("%B|%q|", MISSING) == b"0||\n"


def test_time_formats_follow_the_clock_and_cannot_break_a_line(zone: Callable[[str], None]) -> None:
    zone("UTC0")
    compiled = compile_format("%{%S%n%t}t")
    assert compiled.format(Request(), NOW) == b"49\\x0a\\x09\n"
    assert compiled.format(Request(), NOW + 1) == b"50\\x0a\\x09\n"
    assert compiled.format(Request(), NOW) == b"49\\x0a\\x09\n"


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("%h %t", False),
        ("%{%S}t", False),
        ("%{begin:%S}t", True),
        ("%D", True),
        ("%T", True),
        ("%{ms}T", True),
        ("%{D}i %{T}o", False),
    ],
)
def test_needs_clock(text: str, needed: bool) -> None:
    assert compile_format(text).needs_clock is needed


REFUSED = [
    ("", 0, "names nothing"),
    ("combine", 0, "names nothing"),
    ("100%%", 0, "names nothing"),
    ("%h %Z", 3, "'%Z' is not known"),
    ("%h %}", 3, "'%}' is not known"),
    ("%h %", 3, "without a letter"),
    ("%h %{Referer", 3, "without its '}'"),
    ("%{a{b}i", 0, "without its '}'"),
    ("%h %i", 3, "needs the name"),
    ("%o", 0, "needs the name"),
    ("%{}i", 0, "'%{}i' is not known"),
    ("%{a b}i", 0, "'a b' cannot be the name"),
    ("%{\u00fc}o", 0, "cannot be the name"),
    ("%{Foo}e", 0, "'%{Foo}e' is not known"),
    ("%{c}a", 0, "'%{c}a' is not known"),
    ("%{min}T", 0, "unknown unit"),
    ("%{begin:}t", 0, "no time format"),
    ("%{\0}t", 0, "cannot be used"),
    ("%400,501{User-Agent}i", 0, "conditions ('%400,501') are not supported"),
    ("%!200s", 0, "conditions"),
    ("%>h", 0, "'%>h' is not known"),
    ("%h\n", 2, "control character '\\n'"),
    ("%h \x1b", 3, "control character"),
    ("%h \\n", 3, "'\\n' is not known"),
    ("%h \\", 3, "'\\' is not known"),
    ("%h %A", 3, "'%A' (the address that the client connected to) is not recorded"),
    ("%f", 0, "is not recorded"),
    ("%k", 0, "is not recorded"),
]


@pytest.mark.parametrize(("text", "position", "problem"), REFUSED)
def test_refused(text: str, position: int, problem: str) -> None:
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        compile_format(text)
    error = caught.value
    assert isinstance(error, FormatError)
    assert error.position == position
    assert error.hint
    assert str(error) == f"character {position + 1}: {error.problem}; {error.hint}"


@given(st.lists(st.one_of(st.text(max_size=5), st.sampled_from([text for text, _ in LETTERS])), max_size=6))
def test_any_text_is_a_format_or_refused_by_position(parts: list[str]) -> None:
    text = "".join(parts)
    try:
        compiled = compile_format(text)
    except FormatError as error:
        assert 0 <= error.position <= len(text)
    else:
        found = compiled.format(Request(), NOW)
        assert found.endswith(b"\n") and found.count(b"\n") == 1


CLIENT_TEXT = "%h %u %r %m %U %q %H %V %v %{Referer}i %{X}o"


@given(st.binary())
def test_no_client_can_break_a_line(data: bytes) -> None:
    entry = Request(
        client=data, user=data, request_line=data, method=data, target=data, version=data, host=data,
        vhost=data, fields={b"referer": data}, response_fields=[(b"X", data)],
    )  # fmt: skip
    found = line(CLIENT_TEXT, entry)
    assert re.fullmatch(rb"[\x20-\x7e]*\n", found)
    assert b'"' not in found
