"""httpd.logs.escape: every byte value, and JSON strings from any bytes."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.logs.escape import SAFE, escape, escape_json, escape_text, escape_token

HARMLESS = set(range(0x20, 0x7F)) - {0x22, 0x5C}


@pytest.mark.parametrize("byte", range(256))
def test_each_byte(byte: int) -> None:
    data, hexed = bytes([byte]), b"\\x%02x" % byte
    assert escape(data) == (data if byte in HARMLESS else hexed)
    assert escape_token(data) == (data if byte in HARMLESS - {0x20} else hexed)
    assert escape_text(data) == (data if 0x20 <= byte < 0x7F else hexed)
    assert (byte in SAFE) == (byte in HARMLESS)


@given(st.binary())
def test_escape_can_be_undone(data: bytes) -> None:
    back = re.sub(rb"\\x(..)", lambda match: bytes.fromhex(match[1].decode()), escape(data))
    assert back == data


@given(st.binary())
def test_json_is_printable_ascii_and_valid(data: bytes) -> None:
    inside = escape_json(data)
    assert re.fullmatch(rb"[\x20-\x7e]*", inside)
    assert json.loads(b'"%b"' % inside) == data.decode("utf-8", "backslashreplace")


@given(st.text())
def test_json_keeps_text(text: str) -> None:
    assert json.loads(b'"%b"' % escape_json(text.encode())) == text


JSON_CASES = [
    (b"plain", b"plain"),
    (b'a"b\\c', b'a\\"b\\\\c'),
    (b"\r\n\x1b[2J", b"\\r\\n\\u001b[2J"),
    (b"\x7f", b"\\u007f"),
    ("gr\u00fc\u00df".encode(), b"gr\\u00fc\\u00df"),
    (b"\xff\xc3", b"\\\\xff\\\\xc3"),
    (b"\xed\xa0\x80", b"\\\\xed\\\\xa0\\\\x80"),  # a lone surrogate is not UTF-8
]


@pytest.mark.parametrize(("data", "inside"), JSON_CASES)
def test_json_forms(data: bytes, inside: bytes) -> None:
    assert escape_json(data) == inside
