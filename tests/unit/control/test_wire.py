"""Messages between httpd-ctl and the master."""

from __future__ import annotations

import pytest

from httpd.control import wire
from httpd.control.wire import Call, Outcome, WireError, decode_call, decode_outcome, encode_call, encode_outcome

AWKWARD = 'a\nb\r\0"\\\u20ac\ud800\u2028'


@pytest.mark.parametrize("call", [Call("status"), Call("stop", {"now": True}), Call(AWKWARD, {AWKWARD: [AWKWARD, 1]})])
def test_call(call: Call) -> None:
    line = encode_call(call)
    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    assert decode_call(line) == decode_call(line[:-1]) == call


@pytest.mark.parametrize(
    "outcome", [Outcome(0), Outcome(6, "text", {"a": {"b": [1, None, True]}}), Outcome(1, AWKWARD, {AWKWARD: AWKWARD})]
)
def test_outcome(outcome: Outcome) -> None:
    line = encode_outcome(outcome)
    assert line.isascii()
    assert line.index(b"\n") == len(line) - 1
    assert decode_outcome(line) == outcome


def test_what_is_on_the_wire() -> None:
    """The format itself: a ctl of another version reads it."""
    assert encode_call(Call("workers", {"count": 3})) == b'{"command": "workers", "arguments": {"count": 3}}\n'
    assert encode_outcome(Outcome(1, "no", {"a": 1})) == b'{"code": 1, "text": "no", "data": {"a": 1}}\n'


def test_what_is_unknown_is_ignored() -> None:
    assert decode_call(b'{"command": "status", "arguments": {}, "more": 1}') == Call("status")


BAD_JSON = [
    b"", b"\n", b"x", b"{", b"\xff", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 100_000, b"9" * 5000, b'{"command"}',
]  # fmt: skip


@pytest.mark.parametrize("line", BAD_JSON, ids=lambda line: repr(line[:12]))
def test_not_json(line: bytes) -> None:
    with pytest.raises(WireError, match=r"not JSON: "):
        decode_call(line)
    with pytest.raises(WireError, match=r"not JSON: "):
        decode_outcome(line)


@pytest.mark.parametrize(
    "line",
    [
        b"null", b"1", b'"status"', b"[]", b"{}", b'["command", "arguments"]',
        b'{"command": "status"}', b'{"arguments": {}}', b'{"command": 1, "arguments": {}}',
        b'{"command": null, "arguments": {}}', b'{"command": "status", "arguments": []}',
        b'{"command": "status", "arguments": null}', b'{"Command": "status", "arguments": {}}',
    ],
)  # fmt: skip
def test_no_call(line: bytes) -> None:
    with pytest.raises(WireError, match="a call needs"):
        decode_call(line)


@pytest.mark.parametrize(
    "line",
    [
        b"null", b"{}", b'{"code": 0}', b'{"code": "0", "text": "", "data": {}}',
        b'{"code": 0.0, "text": "", "data": {}}',
        b'{"code": true, "text": "", "data": {}}', b'{"code": 0, "text": null, "data": {}}',
        b'{"code": 0, "text": "", "data": []}',
    ],
)  # fmt: skip
def test_no_outcome(line: bytes) -> None:
    with pytest.raises(WireError, match="an outcome needs"):
        decode_outcome(line)


def test_exit_codes() -> None:
    """The contract of httpd-ctl."""
    assert (wire.DONE, wire.REFUSED, wire.USAGE, wire.NOT_RUNNING) == (0, 1, 2, 3)
    assert (wire.NO_PERMISSION, wire.TIMED_OUT, wire.ROLLED_BACK) == (4, 5, 6)
