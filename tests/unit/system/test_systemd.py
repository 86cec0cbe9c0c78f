from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from httpd.system.systemd import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A manager's socket and its address as in NOTIFY_SOCKET."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        if request.param == "path":
            address = str(tmp_path / "notify")
            sock.bind(address)
        else:
            address = f"@httpd-test-{os.getpid()}"
            try:
                sock.bind("\0" + address[1:])
            except OSError:
                pytest.skip("needs abstract socket names")
        sock.setblocking(False)
        yield sock, address


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda n: n.ready("4 workers"), "READY=1\nSTATUS=4 workers"),
        (lambda n: n.reloading("reading", 123), "RELOADING=1\nMONOTONIC_USEC=123\nSTATUS=reading"),
        (lambda n: n.stopping("draining"), "STOPPING=1\nSTATUS=draining"),
        (lambda n: n.status("größer"), "STATUS=größer"),
        (lambda n: n.status("one\nREADY=1\r\ntwo"), "STATUS=one READY=1 two"),
        (lambda n: n.status("\udc80"), "STATUS=?"),
        (lambda n: n.extend_timeout(5_000_000), "EXTEND_TIMEOUT_USEC=5000000"),
        (lambda n: n.mainpid(42), "MAINPID=42"),
        (lambda n: n.watchdog(), "WATCHDOG=1"),
    ],
)
def test_each_message_is_one_datagram(
    manager: tuple[socket.socket, str], call: Callable[[Notifier], bool], message: str
) -> None:
    sock, address = manager
    notifier = Notifier(address)
    assert call(notifier) is True
    assert sock.recv(4096).decode() == message
    with pytest.raises(BlockingIOError):
        sock.recv(4096)
    notifier.close()
    assert call(notifier) is False


def test_the_variables_are_taken_away(manager: tuple[socket.socket, str]) -> None:
    sock, address = manager
    environ = {
        "NOTIFY_SOCKET": address, "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": str(os.getpid()), "PATH": "/bin"
    }  # fmt: skip
    notifier = Notifier.from_environ(environ)
    assert environ == {"PATH": "/bin"}
    assert notifier.watchdog_us == 2_000_000
    assert notifier.ready("")
    assert sock.recv(4096) == b"READY=1\nSTATUS="
    notifier.close()


def test_without_a_manager_nothing_is_sent() -> None:
    notifier = Notifier.from_environ({})
    assert notifier.watchdog_us == 0
    assert notifier.ready("x") is False
    notifier.close()


@pytest.mark.parametrize(
    ("usec", "pid", "expected"),
    [("5", "", 5), ("5", "1", 0), ("", "", 0), ("-5", "", 0), ("soon", "", 0), ("9" * 5000, "", 0)],
)
def test_watchdog_is_ours_and_a_number(usec: str, pid: str, expected: int) -> None:
    environ = {"WATCHDOG_USEC": usec, "WATCHDOG_PID": pid}
    assert Notifier.from_environ(environ).watchdog_us == expected
    assert environ == {}


@pytest.mark.parametrize(
    "address", ["/no/such/socket", "@no-such-name", "/" + "x" * 300, "relative", "vsock:2:9", "/nul\0"]
)
def test_a_bad_address_is_no_error(address: str) -> None:
    notifier = Notifier(address)
    assert notifier.ready("x") is False
    notifier.close()


def test_a_full_socket_does_not_block(manager: tuple[socket.socket, str]) -> None:
    _, address = manager
    notifier = Notifier(address)
    assert notifier.status("x")
    assert any(not notifier.status("x" * 1000) for _ in range(100_000))
    notifier.close()


def test_a_manager_that_comes_back_is_found(tmp_path: Path) -> None:
    address = str(tmp_path / "notify")
    notifier = Notifier(address)
    for _ in range(2):
        assert notifier.status("away") is False
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(address)
            assert notifier.status("here") is True
            assert sock.recv(4096) == b"STATUS=here"
        os.unlink(address)
    notifier.close()


def test_the_socket_is_closed_on_exec(manager: tuple[socket.socket, str]) -> None:
    notifier = Notifier(manager[1])
    assert notifier._socket is not None
    assert not notifier._socket.get_inheritable()
    notifier.close()
