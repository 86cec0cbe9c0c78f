"""The expressions: one pass, whatever comes, and nothing accepted that a second look refuses."""

from __future__ import annotations

import re

import pytest

from httpd.protocol import grammar

TCHARS = b"!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
ALL = [bytes((code,)) for code in range(256)]


def accepted(pattern: re.Pattern[bytes], form: bytes) -> bytes:
    """The bytes that may stand for the "@" of `form`."""
    return b"".join(byte for byte in ALL if pattern.fullmatch(form.replace(b"@", byte)))


def test_tchar() -> None:
    """RFC 9110 5.6.2."""
    assert sorted(accepted(grammar.TCHAR, b"@")) == sorted(TCHARS)
    assert sorted(accepted(grammar.FIELD_LINE, b"a@a: b")) == sorted(TCHARS + b":")  # the colon ends the name
    assert sorted(accepted(grammar.REQUEST_LINE, b"@ / HTTP/1.1")) == sorted(TCHARS)


def test_field_bytes() -> None:
    """RFC 9110 5.5: SP, HTAB, VCHAR, obs-text."""
    allowed = b"\t" + bytes(range(0x20, 0x7F)) + bytes(range(0x80, 0x100))
    assert accepted(grammar.FIELD_LINE, b"a: b@c") == allowed
    for pattern in (grammar.HEAD, grammar.TIGHT_HEAD):
        assert accepted(pattern, b"G / HTTP/1.1\r\na: b@c\r\n\r\n") == allowed


@pytest.mark.parametrize("pattern", [grammar.HEAD, grammar.TIGHT_HEAD])
def test_target_bytes(pattern: re.Pattern[bytes]) -> None:
    visible = bytes(set(range(0x21, 0x7F)) - set(b'"#<>'))
    path = visible if pattern is grammar.HEAD else visible.replace(b"\\", b"")
    assert accepted(pattern, b"G /@ HTTP/1.1\r\n\r\n") == path
    assert accepted(pattern, b"G /?@ HTTP/1.1\r\n\r\n") == visible


def test_digits_are_ascii() -> None:
    digits = b"0123456789"
    assert accepted(grammar.CONTENT_LENGTH, b"1@1") == digits
    assert accepted(grammar.REQUEST_LINE, b"G / HTTP/@.1") == accepted(grammar.REQUEST_LINE, b"G / HTTP/1.@") == digits
    assert accepted(grammar.CHUNK_LINE, b"@") == digits + b"ABCDEFabcdef"
    assert accepted(grammar.HOST, b"a:1@") == digits


def test_reg_name() -> None:
    """RFC 3986 3.2.2: unreserved, sub-delims; ":" begins the port."""
    names = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,;="
    assert sorted(accepted(grammar.HOST, b"a@")) == sorted(names + b":")


def test_the_tight_head_is_a_head() -> None:
    wire = b"\r\nGET /a?b HTTP/1.1\r\nA: b\r\nC:\r\n\r\nrest"
    tight, loose = grammar.TIGHT_HEAD.match(wire), grammar.HEAD.match(wire)
    assert tight is not None
    assert loose is not None
    assert tight.end() == loose.end() == len(wire) - 4
    assert tight.groups() == (b"GET /a?b HTTP/1.1", b"GET", b"/a?b", b"/a", b"b", b"1", b"A: b\r\nC:\r\n")
    assert loose.groups() == (b"GET /a?b HTTP/1.1", b"GET", b"/a?b", b"1", b"A: b\r\nC:\r\n")
    for space in (b" ", b"\t", b" \t "):
        spaced = wire.replace(b"C:", b"C: d" + space)
        assert grammar.TIGHT_HEAD.match(spaced) is None
        assert grammar.HEAD.match(spaced) is not None


@pytest.mark.parametrize(
    "wire",
    [
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200_000 + b"\0",
        b"GET / HTTP/1.1\r\n" + b"A:" + b" " * 1_000_000 + b"\0",
        b"GET / HTTP/1.1\r\n" + b"a" * 1_000_000,
        b"GET / HTTP/1.1\r\n" + b"A: b \r\n" * 200_000,
        b"A" * 1_000_000,
        b"GET /" + b"?" * 1_000_000,
        b"GET /" + b"%2e/" * 300_000 + b"\0",
        b"\r\n" * 500_000,
    ],
    ids=range(8),
)
def test_no_backtracking(wire: bytes) -> None:
    """A megabyte that fails at its end takes one pass; a quadratic one would take minutes."""
    assert grammar.TIGHT_HEAD.match(wire) is None
    assert grammar.HEAD.match(wire) is None


@pytest.mark.parametrize(
    ("pattern", "wire"),
    [
        (grammar.HOST, b"a" * 1_000_000 + b" "),
        (grammar.HOST, b"%41" * 300_000 + b"%"),
        (grammar.HOST, b"[" + b":" * 1_000_000),
        (grammar.ABSOLUTE_FORM, b"http" * 300_000),
        (grammar.ABSOLUTE_FORM, b"http://" + b"a" * 1_000_000 + b"@"),
        (grammar.FIELD_LINE, b"a:" + b" \t" * 500_000 + b"\0"),
        (grammar.CHUNK_LINE, b"1" + b";a" * 300_000 + b"\0"),
        (grammar.CHUNK_LINE, b"1" + b" ;a = b" * 100_000 + b" "),
        (grammar.CHUNK_LINE, b'1;a="' + b"\\a" * 300_000),
        (grammar.CHUNK_LINE, b"1" + b' ;a="b"' * 100_000 + b'"'),
    ],
    ids=range(10),
)
def test_no_backtracking_in_the_small_ones(pattern: re.Pattern[bytes], wire: bytes) -> None:
    assert pattern.fullmatch(wire) is None
