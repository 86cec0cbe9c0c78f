"""Holds what a server does against a case.

    converse(case, way, talk)      sends the bytes in one of three ways and judges every answer

Rules:

- The number of answers is exact: behind the last one comes either the answer to a next request, or the end.  A server
  that takes a body for a request, or goes on behind a refusal, is found by that (RFC 9112 11.2).
- What the RFCs ask of every answer, whatever was asked, is in `INVARIANTS` and looked at in every case.
"""

from __future__ import annotations

import email.utils
import enum
import re
import time
from collections.abc import Callable
from typing import Protocol

from corpus.requests.cases import Case, Expected
from corpus.requests.site import FILES
from live.client import Answer

NEXT = b"GET /next.txt HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"

_IMF_FIXDATE = re.compile(
    r"(Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) "
    r"[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
)
_TOKENS = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+(, [!#$%&'*+\-.^_`|~0-9A-Za-z]+)*")
_ENTITY_TAG = re.compile(r'(W/)?"[!#-~\x80-\xff]*"')
_URI_REFERENCE = re.compile(r"([A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=]|%[0-9A-Fa-f]{2})+")
_BOUNDARY = re.compile(r"multipart/byteranges; boundary=([0-9A-Za-z'()+_,\-./:=?]{1,70})")
_HOUR = 3600.0  # seconds; the clock of the tests is that of the server, give or take a cache
_NOT_IN_304 = ("Content-Type", "Content-Encoding", "Content-Language", "Content-Range", "Last-Modified")


class Way(enum.Enum):
    """How the bytes of a case arrive."""

    WHOLE = "whole"
    SINGLE = "byte by byte"
    FOLLOWED = "with the next request behind it"


class Talk(Protocol):
    """One connection to a server, as `live.client.Client` has it."""

    def send(self, data: bytes) -> object: ...

    def shut(self) -> object: ...

    def read(self, method: str = "GET") -> Answer: ...

    def read_interim(self) -> Answer: ...

    def closed(self) -> bool: ...


def converse(case: Case, way: Way, talk: Talk) -> None:
    """Raises AssertionError where the server does not do what the case says."""
    talk_to = case.wire + NEXT if way is Way.FOLLOWED and not case.end else case.wire
    if way is Way.SINGLE:
        for place in range(len(talk_to)):
            talk.send(talk_to[place : place + 1])
    else:
        talk.send(talk_to)
    if case.end:
        talk.shut()
    answers = [_answer(talk, expected.head) for expected in case.answers]
    for number, (answer, expected) in enumerate(zip(answers, case.answers, strict=True)):
        last = number == len(answers) - 1
        judge(answer, expected)
        if case.closes or not (last and case.end):  # who has shut its side need not be told
            assert answer.closes == (last and case.closes), f"Connection: {answer.get('Connection')}"
    if case.alike:
        first, *others = [sorted(pair for pair in answer.fields if pair[0] != "Date") for answer in answers]
        assert others == [first] * len(others), "the fields differ"
    if not case.closes and not case.end:
        if way is not Way.FOLLOWED:
            talk.send(NEXT)
        answer = _answer(talk, False)
        assert (answer.status, answer.body) == (200, FILES["/next.txt"]), "the next request was not understood"
    assert talk.closed(), "more came than was asked for"


def _answer(talk: Talk, head: bool) -> Answer:
    # An interim response is none of the answers that a case counts: it is shown, not skipped.
    return talk.read("HEAD") if head else talk.read_interim()


def judge(answer: Answer, expected: Expected) -> None:
    """Raises AssertionError for an answer that is not as expected, or that no answer may be like."""
    assert answer.status in expected.status, f"{answer.status} {answer.reason} {answer.fields}"
    for name, value in expected.fields.items():
        assert answer.get(name) == value, f"{name}: {answer.get(name)}"
    for name in expected.has:
        assert name in answer, f"no {name}"
    for name in expected.lacks:
        assert name not in answer, f"{name}: {answer.get(name)}"
    if expected.body is not None:
        assert answer.body == expected.body
    if expected.parts:
        assert parts_of(answer) == list(expected.parts)
    for check in INVARIANTS.values():
        check(answer, expected)


def parts_of(answer: Answer) -> list[tuple[str, bytes]]:
    """Content-Range and content of each part of a multipart/byteranges (RFC 9110 14.6, RFC 2046 5.1.1)."""
    found = _BOUNDARY.fullmatch(answer["Content-Type"])
    assert found is not None, answer["Content-Type"]
    first, *parts, last = (b"\r\n" + answer.body).split(b"\r\n--" + found[1].encode())
    assert (first.strip(), last) == (b"", b"--\r\n")
    result = []
    for part in parts:
        head, _, content = part.removeprefix(b"\r\n").partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode("ascii").split("\r\n"))
        assert "Content-Type" in fields
        result.append((fields["Content-Range"], content))
    return result


# What holds for every answer.  Requirements name these by key (`always` in requirements.toml).


def _reading(answer: Answer, expected: Expected) -> None:
    """The reader has held the head to its grammar: HTTP/1.1, SP, status, SP; field lines without bare CR or fold."""
    assert 200 <= answer.status <= 599
    assert answer.reason


def _date(answer: Answer, expected: Expected) -> None:
    assert _IMF_FIXDATE.fullmatch(answer["Date"])
    assert abs(email.utils.parsedate_to_datetime(answer["Date"]).timestamp() - time.time()) < _HOUR


def _modified(answer: Answer, expected: Expected) -> None:
    modified = answer.get("Last-Modified")
    if modified is not None:
        assert _IMF_FIXDATE.fullmatch(modified)
        stamps = [email.utils.parsedate_to_datetime(text) for text in (modified, answer["Date"])]
        assert stamps[0] <= stamps[1]


def _etag(answer: Answer, expected: Expected) -> None:
    value = answer.get("ETag")
    assert value is None or _ENTITY_TAG.fullmatch(value)


def _length(answer: Answer, expected: Expected) -> None:
    if answer.status == 204 or answer.status < 200:
        assert "Content-Length" not in answer
    elif answer.status != 304:
        assert re.fullmatch("[0-9]+", answer["Content-Length"])


def _codings(answer: Answer, expected: Expected) -> None:
    assert not {"Transfer-Encoding", "Trailer", "Content-Encoding"} & {name for name, _ in answer.fields}


def _once(answer: Answer, expected: Expected) -> None:
    names = [name.lower() for name, _ in answer.fields]
    assert len(set(names)) == len(names)


def _spelling(answer: Answer, expected: Expected) -> None:
    """No white space at the ends of a value, no quoted-pair, no empty element in a list."""
    for name, value in answer.fields:
        assert value == value.strip(" \t"), name
        assert "\\" not in value, name
    for name in ("Allow", "Vary", "Connection", "Accept-Ranges"):
        listed = answer.get(name)
        assert not listed or _TOKENS.fullmatch(listed), f"{name}: {listed}"


def _connection(answer: Answer, expected: Expected) -> None:
    assert answer.get("Connection") in (None, "close", "keep-alive")


def _content(answer: Answer, expected: Expected) -> None:
    if answer.status == 304:
        assert answer.body == b""
    if answer.body and "Content-Type" not in expected.lacks:
        assert "Content-Type" in answer
    if answer.status >= 400 and not expected.head:
        assert answer.body, "an error without an explanation"


def _not_modified(answer: Answer, expected: Expected) -> None:
    if answer.status == 304:
        assert not [name for name in _NOT_IN_304 if name in answer]


def _partial(answer: Answer, expected: Expected) -> None:
    value = answer.get("Content-Range")
    if answer.status == 206 and value is None:
        assert len(parts_of(answer)) > 1
    elif answer.status == 206:
        found = re.fullmatch("bytes ([0-9]+)-([0-9]+)/([0-9]+)", value or "")
        assert found is not None
        first, last, size = map(int, found.groups())
        assert first <= last < size
        assert len(answer.body) == last - first + 1
    elif answer.status == 416:
        assert re.fullmatch(r"bytes \*/[0-9]+", value or "")
    else:
        assert value is None


def _allow(answer: Answer, expected: Expected) -> None:
    assert answer.status != 405 or answer["Allow"]


def _location(answer: Answer, expected: Expected) -> None:
    value = answer.get("Location")
    assert (value is not None) == (answer.status in (301, 302, 303, 307, 308))
    assert value is None or (_URI_REFERENCE.fullmatch(value) and not value.startswith("//"))


def _server(answer: Answer, expected: Expected) -> None:
    assert answer.get("Server") in (None, "httpd")


def _upgrade(answer: Answer, expected: Expected) -> None:
    assert "Upgrade" not in answer
    assert answer.status not in (101, 426)


INVARIANTS: dict[str, Callable[[Answer, Expected], None]] = {
    "reading": _reading,
    "date": _date,
    "modified": _modified,
    "etag": _etag,
    "length": _length,
    "codings": _codings,
    "once": _once,
    "spelling": _spelling,
    "connection": _connection,
    "content": _content,
    "not-modified": _not_modified,
    "partial": _partial,
    "allow": _allow,
    "location": _location,
    "server": _server,
    "upgrade": _upgrade,
}
