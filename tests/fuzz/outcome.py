"""What the receiver makes of an input: its messages, and how it ends.  The same whatever the cut."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

from httpd.protocol.messages import HeadLimits, ProtocolError, Request
from httpd.protocol.receiver import Phase, Receiver

# Every status that a ProtocolError of the protocol layer may have.
STATUSES = frozenset((400, 413, 414, 417, 421, 431, 501, 505))

_request_key = attrgetter(*(name for name in Request.__slots__ if name != "fields"))


@dataclass(slots=True)
class Message:
    """A request that was accepted.  `content` and `trailers` of a message that was refused half-way are empty."""

    request: Request
    content: bytes = b""
    trailers: Sequence[tuple[bytes, bytes]] = ()
    end: int | None = None  # offset behind the message in the input; None: it is not complete


@dataclass(slots=True)
class Outcome:
    """`end` is the status of the refusal, or the phase in which more is waited for, `held` what is kept for then."""

    messages: list[Message]
    end: int | Phase
    held: bytes

    @property
    def refused(self) -> bool:
        """Whether the input was refused; if not, there may be an unfinished message."""
        return isinstance(self.end, int)

    def key(self) -> tuple[object, ...]:
        """Equal for equal outcomes."""
        shown = [(*_request_key(m.request), m.request.fields, m.content, m.trailers, m.end) for m in self.messages]
        return (shown, self.end, self.held)


def receive(limits: HeadLimits, parts: Iterable[bytes]) -> Outcome:
    """Feed `parts`, one after the other, to a new receiver.  Raises what it raises other than ProtocolError."""
    receiver = Receiver(limits)
    messages: list[Message] = []
    fed = 0
    try:
        for part in parts:
            fed += len(part)
            _feed(receiver, part, fed, messages)
    except ProtocolError as error:
        if error.status not in STATUSES or not error.reason:
            raise AssertionError(f"status {error.status}, reason {error.reason!r}") from error
        if messages and messages[-1].end is None:
            messages[-1].content = b""
            messages[-1].trailers = ()
        return Outcome(messages, error.status, b"")
    return Outcome(messages, receiver.phase, receiver.pending)


def _feed(receiver: Receiver, data: bytes, fed: int, messages: list[Message]) -> None:
    """Take one part as a connection does: message after message, until nothing of it is left."""
    while data or receiver.pending:
        if receiver.body is None:
            request = receiver.next_request(data)
            if request is None:
                return
            message = Message(request)
            messages.append(message)
            if receiver.body is None:
                message.end = fed - len(receiver.pending)
            else:
                message.trailers = receiver.body.trailers
        else:
            messages[-1].content += b"".join(receiver.next_body(data))
            if receiver.body is None:
                messages[-1].end = fed - len(receiver.pending)
        data = b""


def cut(wire: bytes, places: Sequence[int]) -> list[bytes]:
    """`wire` in parts, cut at `places` (taken modulo its length)."""
    edges = sorted({0, len(wire), *(place % (len(wire) + 1) for place in places)})
    return [wire[start:end] for start, end in itertools.pairwise(edges)]


def one_by_one(wire: bytes) -> list[bytes]:
    """`wire` byte by byte."""
    return [wire[at : at + 1] for at in range(len(wire))]
