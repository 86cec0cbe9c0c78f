"""What travels between the layers."""

from __future__ import annotations

import pytest

from httpd.protocol.messages import REASONS, FileBody, HeadLimits, MultiBody, ProtocolError, Request, Response


def test_protocol_error() -> None:
    error = ProtocolError(431, "too many fields")
    assert (error.status, error.reason, str(error)) == (431, "too many fields", "431 too many fields")


@pytest.mark.parametrize("body", [b"hello", FileBody(3, 100, 5), MultiBody([b"he", FileBody(3, 7, 2), b"o"])])
def test_length(body: bytes | FileBody | MultiBody) -> None:
    assert Response(200, body=body).length == 5


def test_an_empty_response() -> None:
    assert Response(204).length == MultiBody([]).length == 0
    assert Response(200).fields is not Response(200).fields


def test_reasons() -> None:
    """RFC 9110 15, whatever the Python."""
    assert {status: REASONS[status] for status in (200, 413, 414, 416, 422)} == {
        200: b"OK", 413: b"Content Too Large", 414: b"URI Too Long", 416: b"Range Not Satisfiable",
        422: b"Unprocessable Content",
    }  # fmt: skip


@pytest.mark.parametrize(("line", "head", "quick"), [(10, 20, 10), (20, 10, 10), (5, 5, 5)])
def test_a_head_that_is_quick_to_judge_is_within_both_limits(line: int, head: int, quick: int) -> None:
    assert HeadLimits(line, head).quick == quick


def test_a_request_has_no_room_for_anything_else() -> None:
    with pytest.raises(AttributeError):
        Request().user = b"root"  # type: ignore[attr-defined]
