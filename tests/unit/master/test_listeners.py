"""Listening sockets: bound whole or not at all, kept over reloads, paths removed only by their owner."""

from __future__ import annotations

import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from httpd.config.schema import Address
from httpd.master import listeners as module
from httpd.master.listeners import BindError, Listener, bind_all, dropped
from httpd.worker.checker import Endpoint
from machine import descriptors, needs_ipv6

Bind = Callable[..., list[Listener]]


def tcp(text: str, *hosts: str, port: int = 0) -> tuple[Address, list[Endpoint]]:
    """An address and its endpoints; a host with a colon is IPv6."""
    endpoints = [Endpoint(socket.AF_INET6 if ":" in host else socket.AF_INET, host, port) for host in hosts]
    return Address(text, "tcp", hosts[0] if len(hosts) == 1 else "", port), endpoints


def unix(path: str) -> tuple[Address, list[Endpoint]]:
    return Address(f"unix:{path}", "unix", path=path), [Endpoint(socket.AF_UNIX, path=path)]


LOOPBACK = tcp("127.0.0.1:0", "127.0.0.1")
ANY = tcp(":0", "::", "0.0.0.0")


@pytest.fixture
def bind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bind]:
    """`bind_all` in a folder of its own (a socket's path may not be long); closes what it made."""
    monkeypatch.chdir(tmp_path)
    made: list[Listener] = []

    def bind(*wanted: tuple[Address, list[Endpoint]], kept: Sequence[Listener] = (),
             notes: list[str] | None = None) -> list[Listener]:  # fmt: skip
        endpoints = {address.text: found for address, found in wanted}
        note = pytest.fail if notes is None else notes.append
        result = bind_all([address for address, _ in wanted], endpoints, kept, note)
        made.extend(result)
        return result

    yield bind
    for listener in made:
        listener.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


def port_of(sock: socket.socket) -> int:
    port: int = sock.getsockname()[1]
    return port


def answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(path) == 0


# TCP


def test_a_socket_listens(bind: Bind) -> None:
    (listener,) = bind(LOOPBACK)
    (sock,) = listener.sockets
    with socket.create_connection(sock.getsockname()) as client:
        peer, _ = sock.accept()
        with peer:
            assert peer.getpeername() == client.getsockname()
    assert not sock.get_inheritable()
    assert listener.names == [f"127.0.0.1:{port_of(sock)}"]


def test_options(bind: Bind) -> None:
    (listener,) = bind(LOOPBACK)
    (sock,) = listener.sockets
    assert sock.getblocking() is False
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    with pytest.raises(BlockingIOError):
        sock.accept()


@pytest.mark.skipif(sys.platform != "linux", reason="whether it is inherited depends on the kernel")
def test_what_is_accepted_has_nodelay(bind: Bind) -> None:
    (listener,) = bind(LOOPBACK)
    with socket.create_connection(listener.sockets[0].getsockname()):
        peer, _ = listener.sockets[0].accept()
        with peer:
            assert peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_listeners_come_in_the_order_asked_for(bind: Bind) -> None:
    first = bind(tcp("a", "127.0.0.1"), tcp("b", "127.0.0.1", port=free_port()), unix("c"))
    again = bind(unix("c"), tcp("d", "127.0.0.1"), (first[1].address, list(first[1].endpoints)), kept=first)
    assert [listener.address.text for listener in again] == ["unix:c", "d", "b"]


@needs_ipv6
def test_every_address_is_two_sockets_with_one_port(bind: Bind) -> None:
    (listener,) = bind(ANY)
    six, four = listener.sockets
    assert (six.family, four.family) == (socket.AF_INET6, socket.AF_INET)
    assert six.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert port_of(six) == port_of(four) > 0
    assert listener.names == [f"[::]:{port_of(six)}", f"0.0.0.0:{port_of(four)}"]
    for host, sock in (("127.0.0.1", four), ("::1", six)):
        with socket.create_connection((host, port_of(sock))):
            sock.accept()[0].close()


@needs_ipv6
def test_one_ipv6_address_is_v6only_too(bind: Bind) -> None:
    (listener,) = bind(tcp("[::1]:0", "::1"))
    assert listener.sockets[0].getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert listener.names == [f"[::1]:{port_of(listener.sockets[0])}"]


@pytest.fixture
def without_ipv6(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> int:
    """A kernel without IPv6, or with IPv6 switched off on all interfaces."""
    number: int = request.param
    real = module._open

    def refuse(endpoint: Endpoint, port: int) -> socket.socket:
        if endpoint.family == socket.AF_INET6:
            raise OSError(number, os.strerror(number))
        return real(endpoint, port)

    monkeypatch.setattr(module, "_open", refuse)
    return number


@pytest.mark.parametrize("without_ipv6", [errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL], indirect=True)
def test_no_ipv6_is_a_note(bind: Bind, without_ipv6: int) -> None:
    notes: list[str] = []
    (listener,) = bind(ANY, notes=notes)
    assert [sock.family for sock in listener.sockets] == [socket.AF_INET]
    assert notes == [f":0: not on ::: {os.strerror(without_ipv6)}"]


@pytest.mark.parametrize("without_ipv6", [errno.EAFNOSUPPORT], indirect=True)
def test_no_ipv6_is_an_error_where_nothing_else_is_left(bind: Bind, without_ipv6: int) -> None:
    with pytest.raises(BindError) as caught:
        bind(tcp("[::1]:0", "::1"))
    assert str(caught.value) == f"cannot listen on [::1]:0: {os.strerror(without_ipv6)}"
    with pytest.raises(BindError, match=os.strerror(errno.EADDRNOTAVAIL)):
        bind(tcp("localhost6:0", "::1", "::2"), notes=[])


# All or nothing


def test_a_taken_port(bind: Bind) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        text = f"127.0.0.1:{port_of(other)}"
        with pytest.raises(BindError) as caught:
            bind(tcp(text, "127.0.0.1", port=port_of(other)))
    assert str(caught.value) == f"cannot listen on {text}: {os.strerror(errno.EADDRINUSE)}"
    assert (caught.value.in_use, caught.value.permission) == (True, False)


def test_a_set_that_cannot_be_bound_leaves_nothing_open(bind: Bind) -> None:
    before = descriptors()
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = port_of(other)
        free = free_port()
        with pytest.raises(BindError):
            bind(LOOPBACK, unix("gone"), tcp("free", "127.0.0.1", port=free), tcp("taken", "127.0.0.1", port=taken))
    assert descriptors() == before
    assert os.listdir(".") == []
    bind(tcp("free", "127.0.0.1", port=free))


@needs_ipv6
def test_half_an_address_leaves_nothing_open(bind: Bind) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        before = descriptors()
        with pytest.raises(BindError):
            bind(tcp("both", "::", "0.0.0.0", port=port_of(other)))
        assert descriptors() == before


def test_a_failure_leaves_what_is_kept_alone(bind: Bind) -> None:
    kept = bind(LOOPBACK, unix("kept"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(BindError):
            bind(LOOPBACK, unix("kept"), tcp("taken", "127.0.0.1", port=port_of(other)), kept=kept)
    assert all(sock.fileno() >= 0 for listener in kept for sock in listener.sockets)
    assert answers("kept")


@pytest.mark.parametrize(("first", "second"), [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")])
def test_our_own_address_in_the_way_is_named(bind: Bind, first: str, second: str) -> None:
    """From one address to all or back: the kernel only says that it is in use, and a reload can't do it."""
    port = free_port()
    kept = bind(tcp("first", first, port=port))
    with pytest.raises(BindError) as caught:
        bind(tcp("second", second, port=port), kept=kept)
    text = f"cannot listen on second: {os.strerror(errno.EADDRINUSE)}; {first}:{port} of this server is in the way"
    assert str(caught.value).startswith(text)


def test_somebody_elses_address_is_not_called_ours(bind: Bind) -> None:
    kept = bind(LOOPBACK, unix("web"))
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(BindError) as caught:
            bind(tcp("taken", "127.0.0.1", port=port_of(other)), kept=kept)
    assert "this server" not in str(caught.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may bind every port")
def test_permission(bind: Bind, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(BindError) as caught:
            bind(unix("a"))
    finally:
        tmp_path.chmod(0o700)
    assert caught.value.permission is True


@pytest.mark.parametrize("number", [errno.EACCES, errno.EPERM, errno.EADDRINUSE, errno.EADDRNOTAVAIL])
def test_the_reason_decides_the_exit_code_and_whether_to_try_again(number: int) -> None:
    error = BindError(":80", OSError(number, os.strerror(number)))
    assert error.in_use is (number == errno.EADDRINUSE)
    assert error.permission is (number in (errno.EACCES, errno.EPERM))
    assert str(error) == f"cannot listen on :80: {os.strerror(number)}"


# Reloads


def test_a_kept_address_keeps_its_socket_and_its_queue(bind: Bind) -> None:
    wanted = tcp("127.0.0.1:x", "127.0.0.1", port=free_port())
    before = bind(wanted)
    with socket.create_connection(before[0].sockets[0].getsockname()) as client:
        after = bind(wanted, kept=before)
        assert after[0].sockets[0] is before[0].sockets[0]
        peer, _ = after[0].sockets[0].accept()
        with peer:
            assert peer.getpeername() == client.getsockname()
    assert dropped(before, after) == []
    assert dropped(after, before) == []


def test_another_text_for_the_same_place_keeps_the_socket(bind: Bind) -> None:
    port = free_port()
    before = bind(tcp("localhost:x", "127.0.0.1", port=port))
    after = bind(tcp("127.0.0.1:x", "127.0.0.1", port=port), kept=before)
    assert after[0].sockets[0] is before[0].sockets[0]
    assert after[0].address.text == "127.0.0.1:x"
    assert before[0].address.text == "localhost:x"  # what still serves by it is not changed


def test_the_same_line_with_port_0_keeps_its_port(bind: Bind) -> None:
    before = bind(LOOPBACK)
    assert bind(LOOPBACK, kept=before)[0].sockets[0] is before[0].sockets[0]


def test_another_line_with_port_0_gets_another_port(bind: Bind) -> None:
    before = bind(LOOPBACK)
    after = bind(tcp("localhost:0", "127.0.0.1"), kept=before)
    assert port_of(after[0].sockets[0]) != port_of(before[0].sockets[0])
    assert dropped(before, after) == before


def test_dropped(bind: Bind) -> None:
    one, two = tcp("one", "127.0.0.1", port=free_port()), unix("two")
    before = bind(one, two)
    after = bind(two, LOOPBACK, kept=before)
    assert dropped(before, after) == [before[0]]
    assert dropped(after, before) == [after[1]]
    assert dropped(before, []) == before
    assert dropped([], after) == []


def test_a_kept_unix_socket_stays_where_it_is(bind: Bind) -> None:
    before = bind(unix("kept"))
    inode = os.lstat("kept").st_ino
    after = bind(unix("kept"), kept=before)
    assert os.lstat("kept").st_ino == inode
    assert after[0].inode == before[0].inode
    after[0].close()
    assert os.listdir(".") == []


# Unix sockets


def test_a_unix_socket(bind: Bind) -> None:
    (listener,) = bind(unix("web"))
    assert stat.S_IMODE(os.lstat("web").st_mode) == 0o666
    assert listener.names == ["unix:web"]
    assert answers("web")
    listener.close()
    assert os.listdir(".") == []


def test_a_stale_socket_is_taken_over(bind: Bind) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind("web")
        dead.listen()
    assert not answers("web")
    bind(unix("web"))
    assert answers("web")


def test_a_live_socket_is_not(bind: Bind) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("web")
        other.listen()
        inode = os.lstat("web").st_ino
        with pytest.raises(BindError, match=r"cannot listen on unix:web: .*in use") as caught:
            bind(unix("web"))
        assert caught.value.in_use
        assert os.lstat("web").st_ino == inode
        assert answers("web")


def test_a_live_socket_with_a_full_queue_is_not_stale(bind: Bind) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind("web")
        other.listen(0)
        crowd = []
        while True:
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            crowd.append(client)
            if client.connect_ex("web"):
                break
        with pytest.raises(BindError):
            bind(unix("web"))
        assert Path("web").is_socket()
        for client in crowd:
            client.close()


@pytest.mark.parametrize("kind", ["file", "folder", "fifo", "link to a dead socket", "link to nothing"])
def test_what_is_not_a_socket_is_left_alone(bind: Bind, kind: str) -> None:
    path = Path("web")
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to("dead")
        if kind == "link to a dead socket":
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind("dead")
    inode = os.lstat("web").st_ino
    with pytest.raises(BindError, match="cannot listen on unix:web: web exists and is not a socket"):
        bind(unix("web"))
    assert os.lstat("web").st_ino == inode


def test_a_folder_that_is_missing(bind: Bind) -> None:
    with pytest.raises(BindError, match=r"cannot listen on unix:no/web: No such file"):
        bind(unix("no/web"))


def test_a_path_that_is_too_long(bind: Bind) -> None:
    with pytest.raises(BindError) as caught:
        bind(unix("x" * 200))
    assert "too long" in str(caught.value)


def test_close_leaves_the_socket_of_a_successor(bind: Bind) -> None:
    (listener,) = bind(unix("web"))
    os.rename("web", "old")
    with socket.socket(socket.AF_UNIX) as successor:
        successor.bind("web")
        listener.close()
        assert sorted(os.listdir(".")) == ["old", "web"]


def test_close_when_the_path_is_gone(bind: Bind) -> None:
    (listener,) = bind(unix("web"))
    os.unlink("web")
    listener.close()
    listener.close()
    assert listener.sockets[0].fileno() < 0


def test_a_socket_that_cannot_be_made_ready_leaves_no_path(bind: Bind, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str, mode: int) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "chmod", refuse)
    before = descriptors()
    with pytest.raises(BindError):
        bind(unix("web"))
    assert descriptors() == before
    assert os.listdir(".") == []


# What happens to listeners while they are served


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whether a socket still listens")
def test_what_was_shut_down_listens_again(bind: Bind) -> None:
    """Where it was, and nothing else is touched."""
    whole, broken = bind(LOOPBACK, tcp("127.0.0.1:x", "127.0.0.1", port=free_port()))
    address = broken.sockets[0].getsockname()
    broken.sockets[0].shutdown(socket.SHUT_RDWR)
    with socket.socket() as client:
        assert client.connect_ex(address) == errno.ECONNREFUSED
    assert broken.revive() == broken.names
    assert whole.revive() == broken.revive() == []
    assert broken.sockets[0].getsockname() == address
    with socket.create_connection(address) as client:
        broken.sockets[0].accept()[0].close()


def test_a_unix_socket_is_not_asked(bind: Bind) -> None:
    (listener,) = bind(unix("web"))
    assert listener.revive() == []
    assert listener.queues == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_queues(bind: Bind) -> None:
    (listener,) = bind(LOOPBACK)
    name = listener.names[0]
    limit = listener.queues[0][2]
    assert 0 < limit <= module.BACKLOG
    assert listener.queues == [(name, 0, limit)]
    with socket.create_connection(listener.sockets[0].getsockname()):
        assert listener.queues == [(name, 1, limit)]
        listener.sockets[0].accept()[0].close()
        assert listener.queues == [(name, 0, limit)]


def test_astray(bind: Bind) -> None:
    port, web = bind(LOOPBACK, unix("web"))
    assert not port.astray
    assert not web.astray
    os.rename("web", "elsewhere")
    assert web.astray
    Path("web").touch()
    assert web.astray
    os.rename("elsewhere", "web")
    assert not web.astray


def test_a_path_that_was_lost_is_made_again(bind: Bind) -> None:
    """In place: every generation that shares the listener, and whoever is forked later, has the new socket."""
    before = bind(unix("web"))
    shared = bind(unix("web"), kept=before)
    os.unlink("web")
    sock = before[0].bind_anew()
    assert answers("web")
    assert shared[0].sockets[0] is sock
    assert sock.getblocking() is False
    assert not before[0].astray
    before[0].close()
    assert os.listdir(".") == []


def test_a_foreign_file_in_its_place_is_left_alone(bind: Bind) -> None:
    (listener,) = bind(unix("web"))
    old = listener.sockets[0]
    os.unlink("web")
    Path("web").write_text("precious")
    before = descriptors()
    with pytest.raises(OSError, match="web exists and is not a socket"):
        listener.bind_anew()
    assert Path("web").read_text() == "precious"
    assert listener.sockets == [old]
    assert old.fileno() >= 0  # who is connected is served on
    assert descriptors() == before


def test_a_reload_binds_a_path_that_was_lost_anew(bind: Bind) -> None:
    before = bind(unix("web"))
    os.unlink("web")
    after = bind(unix("web"), kept=before)
    assert after[0].sockets[0] is not before[0].sockets[0]
    assert answers("web")
    assert dropped(before, after) == before
    before[0].close()
    assert answers("web")  # the path is not that of the old one any more
