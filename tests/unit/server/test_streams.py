"""wfile: heads travel with their bodies, files by the kernel, and nothing is held back."""

from __future__ import annotations

import io
import os
import socket
import threading
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from httpd.server import streams
from httpd.server.reader import RequestReader
from httpd.server.streams import SocketWriter, reader_of, writer_of
from unit.server.wire import LIMIT, tcp_pair

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"
MORE = getattr(socket, "MSG_MORE", None)
linux = pytest.mark.skipif(MORE is None, reason="the system has no MSG_MORE")


class Recorder:
    """A socket that notes what is asked of it."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def sendall(self, data: Any, flags: int = 0) -> None:
        self.calls.append((bytes(data), flags))

    def setsockopt(self, *arguments: int) -> None:
        self.calls.append(arguments)

    def fileno(self) -> int:
        return 55


PUSH = (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def written(*data: Any, more: bool = True) -> tuple[SocketWriter, list[tuple[Any, ...]]]:
    sock = Recorder()
    writer = SocketWriter(sock, more=more)
    for piece in data:
        assert writer.write(piece) == len(bytes(piece))
    return writer, sock.calls


@linux
def test_a_head_waits_in_the_kernel_for_its_body() -> None:
    writer, calls = written(HEAD, b"body")
    assert calls == [(HEAD, MORE), (b"body", 0)]
    writer.flush()
    assert len(calls) == 2


@linux
def test_a_head_alone_leaves_with_flush() -> None:
    writer, calls = written(HEAD)
    writer.flush()
    writer.flush()
    assert calls == [(HEAD, MORE), PUSH]


@linux
def test_or_with_close() -> None:
    writer, calls = written(HEAD)
    writer.close()
    assert calls == [(HEAD, MORE), PUSH]
    assert writer.closed


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"some text\r\n\r\n",
        HEAD + b"body",
        bytearray(HEAD),
        b"",
    ],
)
def test_everything_else_leaves_at_once(data: Any) -> None:
    _, calls = written(data)
    assert calls == [(bytes(data), 0)]


def test_where_the_kernel_can_hold_nothing_all_is_sent() -> None:
    writer, calls = written(HEAD, b"body", more=False)
    writer.flush()
    assert calls == [(HEAD, 0), (b"body", 0)]


def test_lengths_are_in_bytes() -> None:
    writer = SocketWriter(Recorder(), more=True)
    assert writer.write(memoryview(b"12345678").cast("I")) == 8


def test_the_face_of_a_file() -> None:
    writer, calls = written()
    assert isinstance(writer, io.BufferedIOBase)
    assert (writer.readable(), writer.writable(), writer.seekable(), writer.isatty()) == (False, True, False, False)
    assert writer.fileno() == 55
    with writer:
        writer.writelines([b"a", b"b"])
    assert calls == [(b"ab", 0)]


def test_a_client_that_is_gone() -> None:
    with tcp_pair() as (client, served):
        writer = writer_of(served, 0)
        client.close()
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                writer.write(b"x" * 10000)


# Files


def a_file(folder: Path, size: int) -> int:
    path = folder / "file"
    path.write_bytes(os.urandom(1000) * (size // 1000))
    return os.open(path, os.O_RDONLY)


@linux
@pytest.mark.parametrize("timeout", [None, LIMIT])
def test_a_file_that_is_larger_than_any_buffer(tmp_path: Path, timeout: float | None) -> None:
    fd = a_file(tmp_path, 8_000_000)
    with tcp_pair() as (client, served):
        served.settimeout(timeout)
        writer = writer_of(served, 0)
        done: list[bool] = []
        thread = threading.Thread(target=lambda: done.append(writer.send_file(fd, 500, 7_000_000)), daemon=True)
        thread.start()
        got = b""
        while len(got) < 7_000_000:
            got += client.recv(1 << 20)
        thread.join(LIMIT)
        assert done == [True]
        assert got == os.pread(fd, 7_000_000, 500)
    os.close(fd)


@linux
def test_a_client_that_takes_nothing_runs_into_the_timeout(tmp_path: Path) -> None:
    fd = a_file(tmp_path, 50_000_000)
    with tcp_pair() as (_, served):
        served.settimeout(0.05)
        with pytest.raises(TimeoutError):
            writer_of(served, 0).send_file(fd, 0, 50_000_000)
    os.close(fd)


@linux
def test_a_file_that_has_become_shorter_ends_the_connection(tmp_path: Path) -> None:
    fd = a_file(tmp_path, 5000)
    with tcp_pair() as (client, served):
        writer = writer_of(served, 0)
        assert writer.send_file(fd, 0, 9000)
        with pytest.raises(BrokenPipeError):
            writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        assert len(b"".join(iter(lambda: client.recv(65536), b""))) == 5000
    os.close(fd)


@linux
def test_what_is_no_file_is_left_to_others() -> None:
    with tcp_pair() as (_, served):
        read, write = os.pipe()
        assert not writer_of(served, 0).send_file(read, 0, 10)
        os.close(read)
        os.close(write)


def test_files_cannot_pass_by_tls() -> None:
    assert not SocketWriter(Recorder(), more=False).send_file(0, 0, 1)


# Which stream for what


def test_streams_of_a_socket() -> None:
    with tcp_pair() as (_, served):
        assert type(reader_of(served, -1)) is type(reader_of(served, 0)) is RequestReader
        assert type(writer_of(served, 0)) is SocketWriter
        buffered = writer_of(served, -1)
        assert isinstance(buffered, io.BufferedWriter)
        buffered.close()


def test_streams_of_a_mock() -> None:
    request = mock.Mock()
    request.makefile.return_value = io.BytesIO(b"line\n")
    assert reader_of(request, -1).readline() == b"line\n"
    writer_of(request, 0).write(HEAD)
    request.sendall.assert_called_once_with(HEAD)
    assert request.makefile.call_args == mock.call("rb", -1)


def test_a_socket_with_a_makefile_of_its_own() -> None:
    class Own(socket.socket):
        def makefile(self, *arguments: Any, **options: Any) -> Any:
            return io.BytesIO(b"from makefile\n")

    with Own() as own:
        assert reader_of(own, -1).readline() == b"from makefile\n"


def test_no_delay_leaves_alone_what_has_no_such_thing() -> None:
    near, far = socket.socketpair()
    streams.no_delay(near)
    streams.no_delay(object())
    near.close()
    far.close()


def test_no_delay() -> None:
    with tcp_pair() as (_, served):
        streams.no_delay(served)
        assert served.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_the_rest_of_a_foreign_rfile_is_its_own_business() -> None:
    assert streams.discard_rest(io.BytesIO(b"anything"))
