"""What `httpd-ctl` and the master say to each other: JSON, one line for the call and one for its outcome.

    {"command": "reload", "arguments": {}}            ->
    {"code": 0, "text": "...", "data": {...}}         <-

Rules: pure, bounded, and nothing in a message is trusted to have the right type.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

REQUEST_LIMIT = 1024 * 1024  # bytes; a call may carry the body of a request
OUTCOME_LIMIT = 4 * 1024 * 1024  # bytes

DONE, REFUSED, USAGE, NOT_RUNNING, NO_PERMISSION, TIMED_OUT, ROLLED_BACK = range(7)  # exit codes of httpd-ctl


class WireError(Exception):
    """A line that is not a message."""


@dataclass(slots=True, frozen=True)
class Call:
    """A command and its arguments."""

    command: str
    arguments: dict[str, object] = field(default_factory=dict)


@dataclass(slots=True, frozen=True)
class Outcome:
    """How a command ended: `code` is the exit code of httpd-ctl, `text` is for people, `data` for programs."""

    code: int
    text: str = ""
    data: dict[str, object] = field(default_factory=dict)


def encode_call(call: Call) -> bytes:
    """One line."""
    return json.dumps({"command": call.command, "arguments": call.arguments}).encode("ascii") + b"\n"


def decode_call(line: bytes) -> Call:
    """Raises WireError."""
    message = _object(line)
    match message:
        case {"command": str() as command, "arguments": dict() as arguments}:
            return Call(command, arguments)
    raise WireError("a call needs a command and arguments")


def encode_outcome(outcome: Outcome) -> bytes:
    """One line."""
    return json.dumps({"code": outcome.code, "text": outcome.text, "data": outcome.data}).encode("ascii") + b"\n"


def decode_outcome(line: bytes) -> Outcome:
    """Raises WireError."""
    message = _object(line)
    match message:
        case {"code": int() as code, "text": str() as text, "data": dict() as data} if not isinstance(code, bool):
            return Outcome(code, text, data)
    raise WireError("an outcome needs code, text and data")


def _object(line: bytes) -> object:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise WireError(f"not JSON: {error}") from None
