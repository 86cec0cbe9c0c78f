from __future__ import annotations

import array
import json
import os
import resource
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from httpd.system import pairs
from httpd.system.pairs import EOF, BadMessage

InChild = Callable[[Callable[[], Any]], Any]
Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    left, right = pairs.control_pair()
    with left, right:
        yield left, right


def open_fds() -> set[str]:
    return set(os.listdir("/dev/fd"))


def raw(sock: socket.socket, data: bytes, fds: list[int]) -> None:
    extra = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sock.sendmsg([data], extra)


def test_the_pair_is_non_blocking_and_closed_on_exec(pair: Pair) -> None:
    for end in pair:
        assert end.gettimeout() == 0
        assert not end.get_inheritable()
    if hasattr(socket, "SOCK_SEQPACKET") and os.path.exists("/proc"):
        assert pair[0].type == socket.SOCK_SEQPACKET


def test_messages_keep_their_bounds_and_order(pair: Pair) -> None:
    messages: list[dict[str, Any]] = [{}, {"do": "drain", "n": 1}, {"text": "größer\udc80", "x": [1, None]}]
    for message in messages:
        assert pairs.send(pair[0], message)
    for message in messages:
        assert pairs.receive(pair[1]) == (message, [])
    assert pairs.receive(pair[1]) is None


def test_both_directions(pair: Pair) -> None:
    assert pairs.send(pair[0], {"from": "left"})
    assert pairs.send(pair[1], {"from": "right"})
    assert pairs.receive(pair[0]) == ({"from": "right"}, [])
    assert pairs.receive(pair[1]) == ({"from": "left"}, [])


def test_descriptors_arrive_as_duplicates_closed_on_exec(pair: Pair, tmp_path: Path) -> None:
    files = [(tmp_path / str(number)).open("w") for number in range(3)]
    assert pairs.send(pair[0], {"logs": 3}, [file.fileno() for file in files])
    answer = pairs.receive(pair[1])
    assert answer is not None and answer is not EOF
    message, fds = answer
    assert message == {"logs": 3}
    for fd, file in zip(fds, files, strict=True):
        assert os.path.samestat(os.fstat(fd), os.fstat(file.fileno()))
        assert fd != file.fileno()
        assert not os.get_inheritable(fd)
        os.close(fd)
        file.close()


def test_the_largest_message_and_most_descriptors_fit(pair: Pair) -> None:
    message = {"x": "y" * (pairs.MAX_MESSAGE - len('{"x":""}'))}
    assert pairs.send(pair[0], message, [0] * pairs.MAX_FDS)
    answer = pairs.receive(pair[1])
    assert answer is not None and answer is not EOF
    assert answer[0] == message
    assert len(answer[1]) == pairs.MAX_FDS
    for fd in answer[1]:
        os.close(fd)


def test_send_refuses_what_is_too_large(pair: Pair) -> None:
    with pytest.raises(ValueError, match="descriptors"):
        pairs.send(pair[0], {"x": "y" * (pairs.MAX_MESSAGE - len('{"x":""}') + 1)})
    with pytest.raises(ValueError, match="65 descriptors"):
        pairs.send(pair[0], {}, [0] * (pairs.MAX_FDS + 1))
    assert pairs.receive(pair[1]) is None


def test_a_full_pair_answers_false_and_loses_nothing(pair: Pair) -> None:
    sent = 0
    while pairs.send(pair[0], {"number": sent, "fill": "x" * 1000}):
        sent += 1
    for number in range(sent):
        answer = pairs.receive(pair[1])
        assert answer is not None and answer is not EOF
        assert answer[0]["number"] == number
    assert pairs.receive(pair[1]) is None
    assert pairs.send(pair[0], {"room": "again"})


def test_the_end_of_the_peer(pair: Pair) -> None:
    assert pairs.send(pair[1], {"last": "word"})
    pair[1].close()
    assert pairs.send(pair[0], {}) is False
    assert pairs.receive(pair[0]) == ({"last": "word"}, [])
    assert pairs.receive(pair[0]) is EOF
    assert pairs.receive(pair[0]) is EOF


def test_a_peer_that_left_our_message_unread(pair: Pair) -> None:
    """Linux answers ECONNRESET once; what it has said comes behind that."""
    assert pairs.send(pair[0], {"never": "read"})
    assert pairs.send(pair[1], {"last": "words"})
    pair[1].close()
    assert pairs.receive(pair[0]) == ({"last": "words"}, [])
    assert pairs.receive(pair[0]) is EOF


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"{", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"\xff", "not JSON"),
        ('{"a":1}'.encode("utf-16"), "not JSON"),
        (b"[" * 50_000, "not JSON"),
        (b'{"a":' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"a":"' + b"x" * pairs.MAX_MESSAGE + b'"}', "longer than"),
    ],
)
@pytest.mark.parametrize("count", [0, 2])
def test_a_bad_message_leaves_no_descriptor(pair: Pair, data: bytes, said: str, count: int) -> None:
    before = open_fds()
    raw(pair[0], data, [0] * count)
    with pytest.raises(BadMessage, match=said):
        pairs.receive(pair[1])
    assert open_fds() == before
    assert pairs.send(pair[0], {"next": 1})
    assert pairs.receive(pair[1]) == ({"next": 1}, [])


def test_an_empty_packet_with_descriptors_is_not_the_end(pair: Pair) -> None:
    before = open_fds()
    raw(pair[0], b"", [0])
    with pytest.raises(BadMessage, match="not JSON"):
        pairs.receive(pair[1])
    assert open_fds() == before


def test_too_many_descriptors_are_all_closed(pair: Pair) -> None:
    before = open_fds()
    raw(pair[0], b"{}", [0] * (pairs.MAX_FDS + 10))
    with pytest.raises(BadMessage, match="descriptors lost"):
        pairs.receive(pair[1])
    assert open_fds() == before


def test_no_descriptor_left_to_receive_with(in_child: InChild) -> None:
    def outcome() -> list[Any]:
        left, right = pairs.control_pair()
        reader, _ = os.pipe()
        assert pairs.send(left, {}, [reader])
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
        with pytest.raises(BadMessage, match="descriptors lost"):
            pairs.receive(right)
        return [pairs.send(left, {"on": 1}), pairs.receive(right)]

    assert in_child(outcome) == [True, [{"on": 1}, []]]


VALUES = st.recursive(st.none() | st.integers() | st.text(), st.lists)


@given(st.binary(min_size=1, max_size=300) | VALUES.map(lambda value: json.dumps(value).encode()))
@settings(database=None)
def test_no_packet_raises_anything_else(data: bytes) -> None:
    left, right = pairs.control_pair()
    with left, right:
        raw(left, data, [])
        try:
            answer = pairs.receive(right)
        except BadMessage:
            return
        assert answer is not None and answer is not EOF
        assert isinstance(answer[0], dict)
