"""Any parts, any buffers, any pauses of the reader: what arrives is what was given, and every file is closed once."""

from __future__ import annotations

import os
import socket
import tempfile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from httpd.protocol.messages import FileBody
from httpd.worker.sender import FAILED, Sender

CONTENT = bytes(range(256)) * 2000

stretches = st.tuples(st.integers(0, len(CONTENT) - 1), st.integers(1, 300_000)).map(
    lambda pair: (pair[0], min(pair[1], len(CONTENT) - pair[0]))
)
parts = st.lists(st.binary(min_size=1, max_size=20) | st.just(b"x" * 200_000) | stretches, max_size=6)


@settings(deadline=None)
@given(st.binary(min_size=1, max_size=300), st.lists(parts, max_size=3), st.lists(st.integers(1, 150_000), max_size=30))
def test_what_arrives_is_what_was_given(head: bytes, answers: list[list[Any]], reads: list[int]) -> None:
    before = len(os.listdir("/dev/fd"))
    near, far = socket.socketpair()
    with near, far, tempfile.TemporaryFile() as file:
        file.write(CONTENT)
        file.flush()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        near.setblocking(False)
        far.setblocking(False)
        sender = Sender(near.fileno())
        sizes = iter(reads)
        for answer in answers:
            expected = head + b"".join(
                part if isinstance(part, bytes) else CONTENT[part[0] : part[0] + part[1]] for part in answer
            )
            fd = os.dup(file.fileno()) if any(isinstance(part, tuple) for part in answer) else -1
            given_parts = [part if isinstance(part, bytes) else FileBody(fd, *part) for part in answer]
            moved = sender.start(head, given_parts)
            got = b""
            while True:
                assert moved != FAILED
                try:
                    got += far.recv(next(sizes, 1 << 20))
                except BlockingIOError:
                    assert sender.left == 0
                assert sender.left + moved <= len(expected)
                if len(got) == len(expected):
                    break
                moved += sender.go_on()
            assert got == expected
            assert (sender.left, moved) == (0, len(expected))
    assert len(os.listdir("/dev/fd")) == before
