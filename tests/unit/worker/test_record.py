"""What the access log is told: by the formats themselves."""

from __future__ import annotations

from httpd.logs.access import Entry, compile_format
from httpd.protocol.head import parse
from httpd.protocol.messages import HeadLimits, Request
from httpd.worker.record import Record

EVERYTHING = "%h %u %r %m %U %q %H %>s %B %D %v %p %{Host}i %{Referer}i %{X-A}o %X"


def request(wire: bytes = b"GET /a?b HTTP/1.0\r\nHost: A.example:80\r\nReferer: c\r\n\r\n") -> Request:
    parsed = parse(wire, HeadLimits())
    assert parsed is not None
    return parsed


def test_a_request() -> None:
    record = Record(b"127.0.0.1", 8000)
    record.begin(request(), b"GET /a?b HTTP/1.0", 5.0)
    entry: Entry = record
    assert (entry.method, entry.target, entry.version) == (b"GET", b"/a?b", b"HTTP/1.0")
    assert entry.request_line == b"GET /a?b HTTP/1.0"
    assert entry.host == b"A.example:80"
    assert entry.fields[b"referer"] == b"c"
    assert (entry.client, entry.port, entry.user, entry.vhost) == (b"127.0.0.1", 8000, b"-", b"-")


def test_no_request() -> None:
    """Nothing of the request before is left."""
    record = Record(b"::1", 8000)
    record.begin(request(), b"GET /a?b HTTP/1.0", 5.0)
    record.begin(None, b"\x16\x03\x01", 6.0)
    assert (record.method, record.target, record.version, record.host) == (b"", b"", b"", b"")
    assert record.request_line == b"\x16\x03\x01"
    assert record.fields == {}
    assert record.started == 6.0


def test_all_formats_can_show_it() -> None:
    record = Record(b"::1", 8000)
    for shown in (request(), None):
        record.begin(shown, b'broken "line"', 5.0)
        for form in ("common", "combined", "json"):
            line = compile_format(form).format(record, 784111777.0)
            assert line.endswith(b"\n")
            assert line.count(b"\n") == 1
