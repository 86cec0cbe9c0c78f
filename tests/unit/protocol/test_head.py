"""Request heads (RFC 9112 2 to 6), by the cases of tests/corpus/heads.

Each is read whole, byte by byte, and with the bytes of a next request behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import tomli

from httpd.protocol.head import HeadScanner, parse, parse_host, parse_loose
from httpd.protocol.messages import HeadLimits, ProtocolError, Request
from httpd.protocol.receiver import Receiver

CORPUS = Path(__file__).parents[2] / "corpus" / "heads"
LIMITS = HeadLimits()
NEXT = b"GET /next HTTP/1.1\r\nHost: next\r\n\r\n"
Case = dict[str, Any]


def load() -> list[Any]:
    return [
        pytest.param({**case, "wire": case["wire"].encode("latin-1")}, id=f"{file.stem}: {case['rfc']} {case['name']}")
        for file in sorted(CORPUS.glob("*.toml"))
        for case in tomli.loads(file.read_text("utf-8"))["case"]
    ]


CASES = load()
REFUSED = [case for case in CASES if "status" in case.values[0]]
ACCEPTED = [case for case in CASES if not {"status", "more"} & case.values[0].keys()]
INCOMPLETE = [case for case in CASES if "more" in case.values[0]]


def expected(case: Case) -> dict[str, Any]:
    query = case.get("query")
    target = case.get("target", "/")
    return {
        "method": case.get("method", "GET").encode("latin-1"),
        "target": target.encode("latin-1"),
        "path": case.get("path", target).encode("latin-1"),
        "query": None if query is None else query.encode("latin-1"),
        "minor": case.get("minor", 1),
        "host": case.get("host", "a").encode("latin-1"),
        "length": case.get("length", 0),
        "keep_alive": case.get("keep_alive", True),
        "expect": case.get("expect", False),
    }


def found(request: Request) -> dict[str, Any]:
    names = ("method", "target", "path", "query", "minor", "host", "length", "keep_alive", "expect")
    return {name: getattr(request, name) for name in names}


def single(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def receive(parts: Iterable[bytes], limits: HeadLimits = LIMITS) -> tuple[Receiver, Request | None]:
    """The first request of what comes in `parts`; all that is left of them is given to the receiver too."""
    receiver, request = Receiver(limits), None
    for part in parts:
        if request is None:
            request = receiver.next_request(part)
        else:
            receiver.pending += part
    return receiver, request


def status_of(parts: Iterable[bytes], limits: HeadLimits = LIMITS) -> int:
    """The status of a refusal; 0 for a request, -1 for "not yet"."""
    try:
        _, request = receive(parts, limits)
    except ProtocolError as error:
        assert error.reason
        return error.status
    return -1 if request is None else 0


def test_the_corpus_is_there() -> None:
    assert len(REFUSED) > 300
    assert len(ACCEPTED) > 100
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", ACCEPTED)
def test_accepted(case: Case) -> None:
    wire: bytes = case["wire"]
    for parts in ([wire], single(wire), [wire + NEXT], [wire[:-1], wire[-1:] + NEXT]):
        receiver, request = receive(parts)
        assert request is not None
        assert found(request) == expected(case)
        assert b"".join(parts) == wire + receiver.pending
        assert (receiver.body is not None) == (request.length != 0)


@pytest.mark.parametrize("case", [case for case in ACCEPTED if expected(case.values[0])["length"] <= len(NEXT)])
def test_what_follows_a_message_is_the_next(case: Case) -> None:
    """RFC 9112 9.3.2: pipelining.  The body belongs to the first request, whatever it looks like."""
    length = expected(case)["length"]
    content = NEXT[: max(length, 0)]
    body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(NEXT), NEXT) if length < 0 else content
    for parts in ([case["wire"] + body + NEXT], single(case["wire"] + body + NEXT)):
        receiver, requests = Receiver(LIMITS), []
        for part in parts:
            data = part
            while True:
                if receiver.body is None:
                    request = receiver.next_request(data)
                    if request is None:
                        break
                    requests.append(request)
                else:
                    receiver.next_body(data)
                if not receiver.pending:
                    break
                data = b""
        assert [request.host for request in requests] == [expected(case)["host"], b"next"]
        assert requests[1].path == b"/next"
        assert receiver.pending == b""


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: Case) -> None:
    wire: bytes = case["wire"]
    for parts in ([wire], single(wire), [wire + NEXT], single(wire + NEXT), [wire[:-1], wire[-1:]]):
        assert status_of(parts) == case["status"]


@pytest.mark.parametrize("case", REFUSED)
def test_refused_at_one_and_the_same_byte(case: Case) -> None:
    """However a head is cut, its refusal comes with the same byte: a client can't tell how it was read."""
    wire: bytes = case["wire"]
    end = 0
    receiver = Receiver(LIMITS)
    with pytest.raises(ProtocolError):
        for end in range(len(wire)):
            assert receiver.next_request(wire[end : end + 1]) is None
    assert status_of([wire[:end]]) == -1
    assert status_of([wire[: end + 1]]) == case["status"]


@pytest.mark.parametrize("case", INCOMPLETE)
def test_incomplete(case: Case) -> None:
    assert status_of([case["wire"]]) == -1
    assert status_of(single(case["wire"])) == -1


@pytest.mark.parametrize("case", ACCEPTED)
def test_every_beginning_of_a_good_head_is_not_yet(case: Case) -> None:
    for end in range(len(case["wire"])):
        assert status_of([case["wire"][:end]]) == -1


@pytest.mark.parametrize("case", CASES)
def test_the_fast_and_the_careful_way_agree(case: Case) -> None:
    """What `parse` takes the scanner takes too, and the slow parser makes the same of it."""
    wire: bytes = case["wire"]
    try:
        fast = parse(wire, LIMITS)
    except ProtocolError as error:  # good lines, bad meaning: the scanner has nothing to say
        assert HeadScanner(LIMITS).scan(wire)
        with pytest.raises(ProtocolError) as careful:
            parse_loose(wire, LIMITS)
        assert careful.value.status == error.status
        return
    if fast is None:
        try:
            complete = HeadScanner(LIMITS).scan(wire)
        except ProtocolError:
            assert "status" in case
        else:  # then it is not what nearly all heads look like
            spaces = any(line[-1:] in b" \t" for line in wire.split(b"\r\n") if line)
            assert not complete or spaces or b" /" not in wire or b"\\" in wire
        return
    assert HeadScanner(LIMITS).scan(wire)
    loose = parse_loose(wire, LIMITS)
    assert fast.end == len(wire)
    assert all(getattr(fast, name) == getattr(loose, name) for name in Request.__slots__)


def test_loose_refuses_what_no_scanner_has_seen() -> None:
    with pytest.raises(ProtocolError, match="400 malformed request head"):
        parse_loose(b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", LIMITS)


# Limits, each one below, at, one above.  A line's CRLF does not count for its limit, all bytes from the request line to
# the empty line count for the head's; empty lines in front count for nothing.

SMALL = HeadLimits(request_line=30, head=80, fields=4, body=10)


def line_of(length: int) -> bytes:
    return b"GET /".ljust(length - 9, b"x") + b" HTTP/1.1"


def ways(wire: bytes) -> list[list[bytes]]:
    return [[wire], single(wire), [b"\r\n" + wire], [wire + NEXT], [wire[:7], wire[7:]]]


@pytest.mark.parametrize(("length", "status"), [(29, 0), (30, 0), (31, 414)])
def test_limit_of_the_request_line(length: int, status: int) -> None:
    wire = line_of(length) + b"\r\nHost: a\r\n\r\n"
    assert [status_of(parts, SMALL) for parts in ways(wire)] == [status] * 5


@pytest.mark.parametrize(("length", "status"), [(79, 0), (80, 0), (81, 431)])
@pytest.mark.parametrize("end", [b"", b" "])
def test_limit_of_the_head(length: int, status: int, end: bytes) -> None:
    head = b"GET / HTTP/1.1\r\nHost: a\r\nA: "
    wire = head + b"x" * (length - len(head) - len(end) - 4) + end + b"\r\n\r\n"
    assert len(wire) == length
    assert [status_of(parts, SMALL) for parts in ways(wire)] == [status] * 5


@pytest.mark.parametrize(("count", "status"), [(3, 0), (4, 0), (5, 431)])
@pytest.mark.parametrize("end", [b"", b" "])
def test_limit_of_the_fields(count: int, status: int, end: bytes) -> None:
    wire = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b%b\r\n" % end * (count - 1) + b"\r\n"
    assert [status_of(parts, SMALL) for parts in ways(wire)] == [status] * 5


@pytest.mark.parametrize(("length", "status"), [(9, 0), (10, 0), (11, 413)])
def test_limit_of_the_body(length: int, status: int) -> None:
    wire = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % length
    assert [status_of(parts, SMALL) for parts in ways(wire)] == [status] * 5


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        pytest.param(line_of(31), 414, id="request line, not ended"),
        pytest.param(line_of(30), -1, id="request line at the limit, not ended"),
        pytest.param(line_of(30) + b"\r", -1, id="request line at the limit, half ended"),
        pytest.param(line_of(30) + b"\n", 400, id="request line at the limit, ended by LF"),
        pytest.param(line_of(30) + b"\r\r\n", 414, id="one CR too many is one byte too many"),
        pytest.param(b"GET  / HTTP/1.1 " + b"x" * 30 + b"\r\n", 414, id="too long and malformed"),
        pytest.param(b"GET / HTTP/2.0" + b"x" * 30 + b"\r\n", 414, id="too long and another version"),
        pytest.param(b"\x16\x03\x01" + b"x" * 30 + b"\r\n", 400, id="not a method: the first byte decides"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"x" * 62, 431, id="field, not ended"),
        pytest.param(b"GET / HTTP/1.1\r\nA: " + b"x" * 61, -1, id="field at the limit, not ended"),
        pytest.param(b"GET / HTTP/1.1\r\n A: " + b"x" * 61, 431, id="field too large and malformed"),
        pytest.param(b"GET / HTTP/1.1\r\n A: " + b"x" * 61 + b"\r\n", 431, id="field too large, malformed and ended"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A:\r\n" * 4 + b" B\r\n", 431, id="one field too many and malformed"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A:\r\n" * 3 + b" B\r\n", 400, id="the last field is malformed"),
        pytest.param(b"GET / HTTP/1.1\r\n" + b"A:\r\n" * 5 + b"\r\n", 431, id="too many fields and no Host"),
        pytest.param(line_of(31) + b"\r\n" + b"A:\r\n" * 5 + b"\r\n", 414, id="both too large"),
    ],
)
def test_limits_come_before_syntax(wire: bytes, status: int) -> None:
    assert status_of([wire], SMALL) == status
    assert status_of(single(wire), SMALL) == status


def test_a_head_limit_below_that_of_the_request_line() -> None:
    limits = HeadLimits(request_line=100, head=50)
    wire = line_of(60) + b"\r\nHost: a\r\n\r\n"
    assert [status_of(parts, limits) for parts in ways(wire)] == [431] * 5


def test_default_limits() -> None:
    """Those of the configuration."""
    assert (LIMITS.request_line, LIMITS.head, LIMITS.fields, LIMITS.body) == (8192, 32768, 100, 2**30)


# The rest of a Request


def one(*fields: bytes) -> Request:
    lines = b"".join(b"%b\r\n" % field for field in fields)
    request = receive([b"GET /a?b HTTP/1.1\r\nHost: a\r\n" + lines + b"\r\n"])[1]
    assert request is not None
    return request


def test_line_and_lines_are_as_sent() -> None:
    request = one(b"X-One:  1 ", b"x-two: 2")
    assert request.line == b"GET /a?b HTTP/1.1"
    assert request.lines == [(b"Host", b"a"), (b"X-One", b"1"), (b"x-two", b"2")]
    assert request.fields == {b"host": b"a", b"x-one": b"1", b"x-two": b"2"}


def test_an_empty_line_in_front_is_not_in_the_line() -> None:
    request = receive([b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"])[1]
    assert request is not None
    assert request.line == b"GET / HTTP/1.1"


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ([b"A: 1", b"a: 2", b"A: 3"], b"a", b"1, 2, 3"),
        ([b"A:", b"A: 2"], b"a", b", 2"),
        ([b"Cookie: a=1", b"X: y", b"cookie: b=2"], b"cookie", b"a=1; b=2"),
        ([b"A: 1 ", b"A:\t2\t"], b"a", b"1, 2"),
    ],
)
def test_fields_of_one_name_are_joined(fields: list[bytes], name: bytes, value: bytes) -> None:
    """RFC 9110 5.3; for Cookie RFC 6265 5.4 (RFC 9113 8.2.3)."""
    request = one(*fields)
    assert request.fields[name] == value
    assert len(request.lines) == len(fields) + 1


def test_parse_host_is_for_authorities_too() -> None:
    assert parse_host(b"EXAMPLE.org.:80") == b"example.org"
    with pytest.raises(ProtocolError, match="400"):
        parse_host(b"a b")


class Counting(bytes):
    """Bytes that count how far `find` had to look."""

    looked = 0

    def find(self, *where: Any) -> int:
        at = super().find(*where)
        Counting.looked += (len(self) if at < 0 else at + 1) - where[1]
        return at


def test_the_scanner_looks_at_every_byte_once() -> None:
    Counting.looked = 0
    wire = b"GET / HTTP/1.1\r\n" + b"A: bcdefg\r\n" * 90 + b"B: " + b"x" * 3000 + b"\r\n\r\n"
    scanner = HeadScanner(LIMITS)
    for end in range(1, len(wire)):
        assert not scanner.scan(Counting(wire[:end]))
    assert scanner.scan(Counting(wire))
    assert Counting.looked == len(wire)
