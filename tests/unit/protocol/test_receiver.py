"""The receiving half of a connection: requests, their bodies, what has come early."""

from __future__ import annotations

import pytest

from httpd.protocol.body import ChunkedReader, LengthReader
from httpd.protocol.messages import HeadLimits, ProtocolError
from httpd.protocol.receiver import ON_END_OF_INPUT, ON_TIMEOUT, Phase, Receiver

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LIMITS = HeadLimits()


def test_phases() -> None:
    receiver = Receiver(LIMITS)
    assert receiver.phase is Phase.IDLE
    receiver.next_request(b"G")
    assert receiver.phase is Phase.HEAD
    receiver.next_request(GET[1:])
    assert receiver.phase is Phase.IDLE
    receiver.next_request(POST)
    assert receiver.phase is Phase.BODY
    receiver.next_body(b"hell")
    assert receiver.phase is Phase.BODY
    receiver.next_body(b"oG")
    assert receiver.phase is Phase.HEAD


@pytest.mark.parametrize("data", [b"\r", b"\r\n", b"\r\n\r\n\r"])
def test_empty_lines_are_no_beginning(data: bytes) -> None:
    """RFC 9112 2.2: some clients send one behind a body, and mean nothing by it."""
    receiver = Receiver(LIMITS)
    assert receiver.next_request(data) is None
    assert receiver.phase is Phase.IDLE
    receiver.next_request(b"\n"[: data.endswith(b"\r")] + b"GET")
    assert receiver.phase is Phase.HEAD


@pytest.mark.parametrize("phase", Phase)
def test_what_time_outs_and_ends_mean(phase: Phase) -> None:
    assert ON_TIMEOUT[phase] == {Phase.HEAD: 408, Phase.BODY: 408}.get(phase)
    assert ON_END_OF_INPUT[phase] == {Phase.HEAD: 400, Phase.BODY: 400}.get(phase)


def test_which_reader_a_body_gets() -> None:
    receiver = Receiver(LIMITS)
    receiver.next_request(POST)
    assert isinstance(receiver.body, LengthReader)
    receiver = Receiver(LIMITS)
    receiver.next_request(CHUNKED)
    assert isinstance(receiver.body, ChunkedReader)
    receiver = Receiver(LIMITS)
    receiver.next_request(GET)
    assert receiver.body is None


def test_a_body_that_comes_with_its_head() -> None:
    receiver = Receiver(LIMITS)
    assert receiver.next_request(POST + b"hello" + GET) is not None
    assert receiver.pending == b"hello" + GET
    assert receiver.next_body(b"") == [b"hello"]
    assert receiver.body is None
    assert receiver.pending == GET
    assert receiver.next_request(b"") is not None
    assert receiver.pending == b""
    assert receiver.next_request(b"") is None


def test_a_body_in_pieces() -> None:
    receiver = Receiver(LIMITS)
    receiver.next_request(POST + b"he")
    assert receiver.next_body(b"l") == [b"hel"]
    assert receiver.next_body(b"") == []
    assert receiver.next_body(b"lo") == [b"lo"]
    assert receiver.phase is Phase.IDLE


def test_what_is_pending_comes_before_what_is_new() -> None:
    receiver = Receiver(LIMITS)
    receiver.next_request(POST + b"hel")
    assert b"".join(receiver.next_body(b"lo" + GET)) == b"hello"
    assert receiver.pending == GET


def test_trailers() -> None:
    receiver = Receiver(LIMITS)
    receiver.next_request(CHUNKED)
    reader = receiver.body
    assert receiver.next_body(b"5\r\nhello\r\n0\r\nA: b\r\n\r\n" + GET) == [b"hello"]
    assert reader is not None
    assert reader.trailers == [(b"a", b"b")]
    assert receiver.pending == GET


@pytest.mark.parametrize(
    ("limits", "body", "status"),
    [
        (HeadLimits(body=4), b"5\r\n", 413),
        (HeadLimits(head=70), b"0\r\nA: " + b"b" * 70, 431),
        (HeadLimits(fields=2), b"0\r\nA:\r\nB:\r\nC:\r\n", 431),
        (LIMITS, b"x", None),
        (LIMITS, b"x\r\n", 400),
    ],
)
def test_limits_reach_the_reader(limits: HeadLimits, body: bytes, status: int | None) -> None:
    receiver = Receiver(limits)
    receiver.next_request(CHUNKED)
    if status is None:
        receiver.next_body(body)
        return
    with pytest.raises(ProtocolError) as caught:
        receiver.next_body(body)
    assert caught.value.status == status
    assert receiver.phase is Phase.BODY


def test_what_broke_stays_for_the_log() -> None:
    receiver = Receiver(LIMITS)
    receiver.next_request(b"GET / HTTP/1.1\r\n")
    with pytest.raises(ProtocolError):
        receiver.next_request(b"broken\r\nA: b\r\n")
    assert receiver.pending == b"GET / HTTP/1.1\r\nbroken\r\nA: b\r\n"


def test_requests_one_by_one() -> None:
    """A head that needs the careful way (white space at the end of a value) leaves no trace for the next."""
    loose = b"GET /loose HTTP/1.1\r\nHost: a \r\n\r\n"
    receiver = Receiver(LIMITS)
    paths = []
    data = (loose + GET) * 3 + loose[:10]
    while (request := receiver.next_request(data)) is not None:
        paths.append(request.path)
        data = b""
    assert paths == [b"/loose", b"/"] * 3
    assert receiver.phase is Phase.HEAD
    assert receiver.next_request(loose[10:]) is not None
