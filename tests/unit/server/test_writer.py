"""What a handler writes, and what leaves for it: one well-framed answer, whatever it wrote."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from httpd.protocol.messages import FileBody
from httpd.server import heads as module
from httpd.server.heads import BadAnswer
from httpd.server.writer import HIGH, ResponseWriter


class Mount:
    extra_fields: tuple[Any, ...] = ()

    def with_extra_fields(self, head: bytes, folded: bytes) -> bytes:
        return head[:-2] + (b"" if b"\r\nx-extra:" in folded else b"X-Extra: 1\r\n") + b"\r\n"


class Owner:
    """An exchange, as far as a writer needs one."""

    def __init__(self, **attributes: Any) -> None:
        self.broken = self.eager = self.http11 = self.over = self.taken_over = False
        self.command, self.keep_alive, self.minor = "GET", True, 1
        self.mount: Any = Mount()
        self.pushed = 0
        self.waited: list[int] = []
        for name, value in attributes.items():
            setattr(self, name, value)

    def push(self) -> None:
        self.pushed += 1

    def wait_for_room(self, high: int) -> None:
        self.waited.append(high)

    def taken(self) -> Any:
        return io.BytesIO()


def wrote(*pieces: Any, **attributes: Any) -> tuple[bytes, ResponseWriter]:
    """All that leaves when a handler has written `pieces` and returned, and the writer."""
    writer = ResponseWriter(Owner(**attributes))
    for piece in pieces:
        writer.write(piece)
    writer.finish()
    data = b"".join(part for part in writer.queue if isinstance(part, bytes))
    assert writer.queued == writer.put == len(data)
    return data, writer


H10, H11 = b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 200 OK\r\n"
LEN5, CLOSE, KEEP = b"Content-Length: 5\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
ONE_CHUNK = b"1\r\n1\r\n0\r\n\r\n"
END = b"\r\n"

# written, what differs in the exchange, what leaves, whether the connection may stay
CASES: dict[str, tuple[list[bytes], dict[str, Any], bytes, bool]] = {
    "length": ([H11 + LEN5 + END, b"12345"], {}, H11 + LEN5 + END + b"12345", True),
    "length in one piece": ([H11 + LEN5 + END + b"12345"], {}, H11 + LEN5 + END + b"12345", True),
    "head byte by byte": ([bytes((byte,)) for byte in H11 + LEN5 + END + b"12345"], {},
                          H11 + LEN5 + END + b"12345", True),
    "too long": ([H11 + LEN5 + END, b"123", b"456", b"789"], {}, H11 + LEN5 + END + b"12345", True),
    "no length": ([H11 + END, b"123", b"45"], {}, H11 + CHUNKED + END + b"3\r\n123\r\n2\r\n45\r\n0\r\n\r\n", True),
    "no length, nothing written": ([H11 + END], {}, H11 + CHUNKED + END + b"0\r\n\r\n", True),
    "two framings, as who copies fields sends them": (
        [H11 + CHUNKED + LEN5 + END, b"12345"], {}, H11 + LEN5 + END + b"12345", True,
    ),
    "two framings in 1.0": ([H10 + LEN5 + CHUNKED + END, b"12345"], {}, H10 + LEN5 + END + b"12345", False),
    "a tunnel": ([H11 + LEN5 + END], {"command": "CONNECT"}, H11 + LEN5 + END, False),
    "a tunnel in 1.0": ([H10 + END, b"raw"], {"command": "CONNECT"}, H10 + END + b"raw", False),
    "no content, and its length": ([b"HTTP/1.1 204 X\r\n" + LEN5 + END], {}, b"HTTP/1.1 204 X\r\n" + END, True),
    "no length, the handler closes": ([H11 + CLOSE + END, b"1"], {}, H11 + CLOSE + END + b"1", False),
    "no length, the client closes": ([H11 + END, b"1"], {"keep_alive": False},
                                     H11 + CHUNKED + CLOSE + END + ONE_CHUNK, False),
    "length, the client closes": ([H11 + LEN5 + END], {"keep_alive": False}, H11 + LEN5 + CLOSE + END, False),
    "length, the handler closes": ([H11 + LEN5 + CLOSE + END], {}, H11 + LEN5 + CLOSE + END, False),
    "1.1 for a 1.0 client": ([H11 + LEN5 + END], {"minor": 0}, H11 + LEN5 + KEEP + END, True),
    "1.1 for a 1.0 client, said already": ([H11 + LEN5 + KEEP + END], {"minor": 0}, H11 + LEN5 + KEEP + END, True),
    "no length for a 1.0 client": ([H11 + END, b"1"], {"minor": 0}, H11 + CLOSE + END + b"1", False),
    "1.0": ([H10 + LEN5 + END, b"12345"], {}, H10 + LEN5 + END + b"12345", False),
    "1.0, kept alive": ([H10 + LEN5 + KEEP + END, b"12345"], {}, H10 + LEN5 + KEEP + END + b"12345", True),
    "1.0 without a length": ([H10 + END, b"1"], {}, H10 + END + b"1", False),
    "1.0 kept alive without a length": ([H10 + KEEP + END, b"1"], {}, H10 + END + b"1", False),
    "1.0 as 1.1": ([H10 + LEN5 + END, b"12345"], {"http11": True}, H11 + LEN5 + END + b"12345", True),
    "1.0 as 1.1 without a length": ([H10 + END, b"1"], {"http11": True},
                                    H11 + CHUNKED + END + ONE_CHUNK, True),
    "HEAD": ([H11 + LEN5 + END, b"12345"], {"command": "HEAD"}, H11 + LEN5 + END, True),
    "HEAD without a length": ([H11 + END, b"1"], {"command": "HEAD"}, H11 + END, True),
    "HEAD in 1.0": ([H10 + END, b"1"], {"command": "HEAD"}, H10 + END, False),
    "204": ([b"HTTP/1.1 204 No Content\r\n\r\n", b"x"], {}, b"HTTP/1.1 204 No Content\r\n\r\n", True),
    "204 in chunks": ([b"HTTP/1.1 204 X\r\n" + CHUNKED + END, b"0\r\n\r\n"], {}, b"HTTP/1.1 204 X\r\n" + END, True),
    "closed and kept alive by the handler": (
        [H11 + LEN5 + b"Connection: close, keep-alive\r\n" + END, b"12345"], {},
        H11 + LEN5 + b"Connection: close, keep-alive\r\n" + END + b"12345", False,
    ),
    "closed by a second line": (
        [H11 + LEN5 + KEEP + CLOSE + END, b"12345"], {}, H11 + LEN5 + KEEP + CLOSE + END + b"12345", False,
    ),
    "interim answers for a 1.0 client": (
        [b"HTTP/1.1 103 Hints\r\n\r\n" + H11 + LEN5 + END + b"12345"], {"minor": 0, "keep_alive": False},
        H11 + LEN5 + CLOSE + END + b"12345", False,
    ),
    "kept alive by the handler alone": ([H11 + LEN5 + KEEP + END, b"12345"], {"keep_alive": False},
                                        H11 + LEN5 + CLOSE + END + b"12345", False),
    "kept alive by the handler, for a 1.0 client that is not": (
        [H11 + KEEP + LEN5 + END, b"12345"], {"keep_alive": False, "minor": 0},
        H11 + LEN5 + CLOSE + END + b"12345", False,
    ),
    "304": ([b"HTTP/1.1 304 X\r\n" + LEN5 + END, b"12345"], {}, b"HTTP/1.1 304 X\r\n" + LEN5 + END, True),
    "101": ([b"HTTP/1.1 101 X\r\nUpgrade: y\r\n\r\n", b"raw"], {}, b"HTTP/1.1 101 X\r\nUpgrade: y\r\n\r\n", False),
    "CONNECT": ([b"HTTP/1.1 200 X\r\nContent-Length: 3\r\n\r\n", b"tunnel"], {"command": "CONNECT"},
                b"HTTP/1.1 200 X\r\nContent-Length: 3\r\n\r\ntunnel", False),
    "CONNECT refused": ([b"HTTP/1.1 403 X\r\n" + LEN5 + END, b"12345"], {"command": "CONNECT"},
                        b"HTTP/1.1 403 X\r\n" + LEN5 + END + b"12345", True),
    "own chunks": ([H11 + CHUNKED + END, b"1\r\nx\r\n0\r\n\r\n"], {},
                   H11 + CHUNKED + CLOSE + END + b"1\r\nx\r\n0\r\n\r\n", False),
    "100 and 200": ([b"HTTP/1.1 100 Continue\r\n\r\n", H11 + LEN5 + END, b"12345"], {},
                    b"HTTP/1.1 100 Continue\r\n\r\n" + H11 + LEN5 + END + b"12345", True),
    "103 and 200 in one piece": ([b"HTTP/1.1 103 Hints\r\n\r\n" + H11 + LEN5 + END + b"12345"], {},
                                 b"HTTP/1.1 103 Hints\r\n\r\n" + H11 + LEN5 + END + b"12345", True),
    "bare line feeds": ([b"HTTP/1.1 200 OK\nContent-Length: 5\n\n12345"], {}, H11 + LEN5 + END + b"12345", True),
    "mixed line ends": ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\n\n12345"], {}, H11 + LEN5 + END + b"12345", True),
    "bare line feeds in the body": ([H11 + LEN5 + END + b"1\n\n\r\n"], {}, H11 + LEN5 + END + b"1\n\n\r\n", True),
    "odd spelling": ([H11 + b"content-LENGTH:5 \r\nCONNECTION:Close\r\n\r\n", b"12345"], {},
                     H11 + b"content-LENGTH:5 \r\nCONNECTION:Close\r\n\r\n12345", False),
    "no reason": ([b"HTTP/1.1 200 \r\n" + LEN5 + END, b"12345"], {},
                  b"HTTP/1.1 200 \r\n" + LEN5 + END + b"12345", True),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_framing(name: str) -> None:
    pieces, attributes, leaves, keeps = CASES[name]
    data, writer = wrote(*pieces, **attributes)
    if name != "101":  # what is written behind it is another protocol's
        assert data == leaves
    else:
        assert data == leaves + b"raw"
    assert writer.keep_alive == keeps


@pytest.mark.parametrize(
    ("pieces", "attributes", "whole", "dropped"),
    [
        ([H11 + LEN5 + END, b"12345"], {}, True, 0), ([H11 + LEN5 + END, b"1234"], {}, False, 0),
        ([H11 + LEN5 + END, b"1234567"], {}, True, 2), ([H11 + LEN5 + END], {"command": "HEAD"}, True, 0),
        ([H11 + LEN5 + END, b"12345"], {"command": "HEAD"}, True, 0), ([H11 + END, b"1"], {}, True, 0),
        ([], {}, False, 0), ([b"HTTP/1.1 200 OK\r\n"], {}, False, 0), ([H10 + END], {}, True, 0),
        ([b"HTTP/1.1 204 X\r\n\r\n", b"abc"], {}, True, 0), ([b"HTTP/1.1 100 Continue\r\n\r\n"], {}, False, 0),
    ],
)  # fmt: skip
def test_whether_it_is_whole(pieces: list[bytes], attributes: dict[str, Any], whole: bool, dropped: int) -> None:
    writer = ResponseWriter(Owner(**attributes))
    for piece in pieces:
        writer.write(piece)
    assert writer.finish() == whole
    assert writer.dropped == dropped


@pytest.mark.parametrize(
    "head",
    [
        b"hello", b"\r\n\r\n", b"HTTP/2 200 OK\r\n\r\n", b"HTTP/1.1 20 OK\r\n\r\n", b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 099 X\r\n\r\n", H11 + b"Content-Length: x\r\n\r\n", H11 + b"Content-Length: -1\r\n\r\n",
        H11 + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", H11 + b"Content-Length: 1, 2\r\n\r\n",
        H11 + b"Content-Length:\r\n\r\n", H11 + b"X: " + b"y" * 300_000,
    ],
)  # fmt: skip
def test_what_is_no_head(head: bytes) -> None:
    with pytest.raises(BadAnswer):
        wrote(head)


def test_what_is_known_of_a_head_is_asked_for_once_and_not_for_ever() -> None:
    for number in range(2000):
        wrote(H11 + b"X: %d\r\n" % number + LEN5 + END, b"12345")
    assert len(module.said) <= 512


def test_any_buffer_can_be_written_and_changed_afterwards() -> None:
    buffer = bytearray(b"12345")
    writer = ResponseWriter(Owner())
    writer.write(H11 + LEN5 + END)
    assert writer.write(memoryview(buffer)[:3]) == 3
    buffer[:] = b"xxxxx"
    writer.writelines([b"4", b"5"])
    assert b"".join(writer.queue).endswith(b"12345")  # type: ignore[arg-type]
    assert writer.write(b"") == 0


def test_text_can_not() -> None:
    with pytest.raises(TypeError):
        ResponseWriter(Owner()).write("text")


def test_fields_of_the_configuration() -> None:
    mount = Mount()
    mount.extra_fields = (1,)
    assert wrote(H11 + LEN5 + END, mount=mount)[0] == H11 + LEN5 + b"X-Extra: 1\r\n" + END
    assert wrote(H11 + b"x-extra: 2\r\n" + LEN5 + END, mount=mount)[0] == H11 + b"x-extra: 2\r\n" + LEN5 + END


@pytest.mark.parametrize("said", [b"", KEEP])
@pytest.mark.parametrize("minor", [0, 1])
def test_a_close_that_is_announced_late(said: bytes, minor: int) -> None:
    """As when the worker begins to drain: nothing in the head says the contrary."""
    writer = ResponseWriter(Owner(minor=minor))
    writer.write(H11 + LEN5 + said + END + b"12345")
    assert writer.keep_alive
    writer.announce_close()
    assert b"".join(part for part in writer.queue if isinstance(part, bytes)) == H11 + LEN5 + CLOSE + END + b"12345"
    assert (writer.keep_alive, writer.put) == (False, len(H11 + LEN5 + CLOSE + END) + 5)


def test_sizes_are_of_the_body() -> None:
    _, writer = wrote(H11 + END, b"123", b"4")
    assert (writer.sent, writer.status, writer.head) == (4, 200, H11 + CHUNKED + END)


# When the loop is told


def test_an_answer_that_is_done_at_once_tells_nobody() -> None:
    owner = Owner()
    writer = ResponseWriter(owner)
    writer.write(H11 + LEN5 + END)
    writer.write(b"12345")
    assert owner.pushed == 0


def test_an_interim_answer_leaves_at_once() -> None:
    owner = Owner()
    ResponseWriter(owner).write(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert owner.pushed == 1


def test_a_flush_leaves_at_once_and_so_does_all_behind_it() -> None:
    owner = Owner()
    writer = ResponseWriter(owner)
    writer.flush()
    assert owner.pushed == 0  # there is nothing
    writer.write(H11 + END)
    writer.flush()
    assert (owner.pushed, owner.eager) == (1, True)
    writer.write(b"more")
    assert owner.pushed == 2


def test_much_leaves_at_once_and_too_much_waits() -> None:
    owner = Owner()
    writer = ResponseWriter(owner)
    writer.write(H11 + END)
    writer.write(b"x" * 65537)
    assert (owner.pushed, owner.waited) == (1, [])
    writer.write(b"x" * HIGH)
    assert (owner.pushed, owner.waited) == (2, [HIGH])


def test_behind_the_end() -> None:
    owner = Owner()
    writer = ResponseWriter(owner)
    owner.over = True
    with pytest.raises(ValueError, match="closed"):
        writer.write(b"x")
    owner.over, owner.broken = False, True
    with pytest.raises(BrokenPipeError):
        writer.write(b"x")
    writer.flush()
    assert owner.pushed == 0
    writer.release()
    with pytest.raises((ValueError, BrokenPipeError)):
        writer.write(b"x")


# Files


@pytest.fixture
def descriptor(tmp_path: Path) -> int:
    (tmp_path / "file").write_bytes(b"0123456789")
    return os.open(tmp_path / "file", os.O_RDONLY)


def test_a_stretch_of_a_file(descriptor: int) -> None:
    writer = ResponseWriter(Owner())
    assert not writer.send_file(descriptor, 0, 5)  # no head yet
    writer.write(H11 + LEN5 + END)
    assert not writer.send_file(descriptor, 0, 6)  # more than was announced
    assert not writer.send_file(descriptor, 0, 0)
    assert writer.send_file(descriptor, 2, 3)
    part = writer.queue[-1]
    assert isinstance(part, FileBody)
    assert (part.fd, part.offset, part.length) == (descriptor, 2, 3)
    writer.write(b"ab")
    assert writer.finish()
    assert (writer.sent, writer.put) == (5, len(H11 + LEN5 + END) + 5)
    os.close(descriptor)


@pytest.mark.parametrize("attributes", [{}, {"command": "HEAD"}, {"broken": True}])
def test_no_file_where_it_can_not_go(descriptor: int, attributes: dict[str, Any]) -> None:
    owner = Owner(**{name: value for name, value in attributes.items() if name != "broken"})
    writer = ResponseWriter(owner)
    writer.write(H11 + (END if not attributes else LEN5 + END))
    owner.broken = bool(attributes.get("broken"))
    assert not writer.send_file(descriptor, 0, 3)
    os.close(descriptor)


# The rest of its face


def test_it_is_a_writable_file() -> None:
    writer = ResponseWriter(Owner())
    assert isinstance(writer, io.BufferedIOBase)
    assert (writer.writable(), writer.readable(), writer.seekable(), writer.isatty()) == (True, False, False, False)
    with writer as same:
        assert same is writer
    assert writer.closed


def test_text_on_top_of_it() -> None:
    writer = ResponseWriter(Owner())
    writer.write(H11 + END)
    text = io.TextIOWrapper(writer, "utf-8", newline="\n")  # type: ignore[type-var]
    text.write("größer\n")
    text.flush()
    text.detach()
    writer.finish()
    assert b"gr\xc3\xb6\xc3\x9fer\n" in b"".join(writer.queue)  # type: ignore[arg-type]


def test_several_threads_in_turn() -> None:
    writer = ResponseWriter(Owner())
    writer.write(H11 + b"Content-Length: 400\r\n\r\n")
    lock = threading.Lock()

    def write() -> None:
        for _ in range(100):
            with lock:
                writer.write(b"x")

    threads = [threading.Thread(target=write) for _ in range(4)]
    run_all(threads)
    assert writer.complete
    assert writer.finish()


def run_all(threads: list[threading.Thread]) -> None:
    step: Callable[[threading.Thread], None]
    for step in (threading.Thread.start, threading.Thread.join):
        for thread in threads:
            step(thread)
