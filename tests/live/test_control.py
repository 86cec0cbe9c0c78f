"""httpd-ctl and the control socket: exit codes, the documented objects, and clients that behave badly."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from httpd.control.wire import REQUEST_LIMIT
from live.client import Client
from live.conftest import Connect, needs_root
from live.daemon import HTTPD_CTL, PATIENCE, Daemon, Place, environment, eventually

_SITE = '[[vhost]]\nroot = "www"\n'


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    shared_place.write("www/a", b"the a")
    shared_daemon.configure(_SITE)
    return shared_daemon.start()


@pytest.fixture(scope="module", autouse=True)
def silent(server: Daemon) -> Iterator[socket.socket]:
    """A client that connects when the others begin and never says a word; the last test of the file looks at it."""
    with _connected(server) as sock:
        yield sock


def _connected(server: Daemon) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(server.run_dir / "control.sock"))
    sock.settimeout(20)
    return sock


def _stop_as_nobody(server: Daemon) -> subprocess.CompletedProcess[str]:
    # What it will need is imported while it still may read all of Python's own files.
    program = (
        "import gettext, locale, os, shutil, sys; from httpd.control import ctl; "
        "os.setgid(65534); os.setgroups([]); os.setuid(65534); "
        f"sys.exit(ctl.main(['--run-dir', {str(server.run_dir)!r}, 'stop']))"
    )
    env = environment()
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=20)


def test_status_as_json(server: Daemon) -> None:
    done = server.ctl("--json", "status")
    assert (done.returncode, done.stderr) == (0, "")
    status = json.loads(done.stdout)
    assert (status["code"], status["pid"], status["state"], status["generation"]) == (0, server.pid, "running", 1)
    assert status["config"] == str(server.file)
    assert status["listeners"] == [f"127.0.0.1:{server.port}"]
    assert status["last_reload"] is None
    assert status["uptime"] >= 0
    assert status["version"].count(".") >= 1
    assert len(status["workers"]) == 2
    for worker in status["workers"]:
        assert {"pid", "generation", "state", "uptime", "requests", "connections", "cpu", "memory"} <= set(worker)
        assert (worker["state"], worker["generation"]) == ("serving", 1)


def test_status_for_people(server: Daemon) -> None:
    done = server.ctl("status")
    assert (done.returncode, done.stderr) == (0, "")
    for text in (str(server.pid), "running", f"127.0.0.1:{server.port}", str(server.file), *map(str, server.workers())):
        assert text in done.stdout


def test_the_run_folder_names_the_server_too(server: Daemon) -> None:
    env = environment()
    command = [*HTTPD_CTL, "--run-dir", str(server.run_dir), "--json", "status"]
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=20)
    assert json.loads(done.stdout)["pid"] == server.pid


@pytest.mark.parametrize("arguments", [["nonsense"], [], ["workers"], ["workers", "x"], ["status", "--now"]])
def test_usage(server: Daemon, arguments: list[str]) -> None:
    done = server.ctl(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "usage" in done.stderr


def test_not_running(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE)
    for command in ("status", "stop", "reload", "reopen"):
        done = daemon.ctl(command)
        assert (done.returncode, done.stdout) == (3, "")
        assert "no server is running" in done.stderr


def test_check_needs_no_server(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE)
    assert daemon.ctl("check").returncode == 0
    daemon.configure(_SITE + "typo = 1\n")
    done = daemon.ctl("check")
    assert done.returncode == 1
    assert "vhost[0].typo: unknown key" in done.stderr


def test_a_broken_file_does_not_keep_from_stopping(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE)
    daemon.start()
    daemon.file.write_text(daemon.file.read_text() + "\n[broken\nthis is = = not toml\n")
    assert daemon.ctl("status").returncode == 0
    assert daemon.ctl("stop").returncode == 0
    assert daemon.wait() == 0


def test_no_wait(server: Daemon) -> None:
    done = server.ctl("--no-wait", "reload")
    assert (done.returncode, done.stdout) == (0, "reload: sent\n")
    eventually(lambda: server.status()["last_reload"], "the reload has happened")
    eventually(lambda: len(server.status()["workers"]) == 2, "the old workers are gone")


def test_the_check_of_the_running_server(server: Daemon) -> None:
    assert server.call("check")["code"] == 0
    text = server.file.read_text()
    server.file.write_text(text + "x = 1\n")
    outcome = server.call("check")
    server.file.write_text(text)
    assert (outcome["code"], len(outcome["data"]["problems"])) == (1, 1)


def test_permissions(server: Daemon) -> None:
    status = (server.run_dir / "control.sock").stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert status.st_uid == os.geteuid()
    assert stat.S_IMODE(server.run_dir.stat().st_mode) == (0o755 if os.geteuid() == 0 else 0o700)


@needs_root
def test_no_permission(server: Daemon) -> None:
    done = _stop_as_nobody(server)
    assert (done.returncode, done.stdout) == (4, "")
    assert "may not control" in done.stderr
    assert server.status()["state"] == "running"


@needs_root
def test_peer_credentials_count_even_if_the_socket_is_open_to_all(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE)
    daemon.start()
    daemon.expect("control refused uid=65534")
    (daemon.run_dir / "control.sock").chmod(0o666)
    done = _stop_as_nobody(daemon)
    assert done.returncode == 4
    assert daemon.status()["state"] == "running"


@pytest.mark.parametrize(
    "garbage",
    [b"\n", b"{}\n", b"[]\n", b"\x00\xff\xfe\n", b"[" * 10_000 + b"\n", b'{"command": 1, "arguments": {}}\n',
     b'{"command": "status", "arguments": []}\n', b'{"command": "nonsense", "arguments": {}}\n',
     b"x" * (REQUEST_LIMIT + 1),
     b'{"command": "workers", "arguments": {"count": "many"}}\n',
     b'{"command": "workers", "arguments": {"count": true}}\n',
     b'{"command": "workers", "arguments": {"count": 1e400}}\n', b"GET / HTTP/1.1\r\n\r\n"],
)  # fmt: skip
def test_garbage_gets_a_reason(server: Daemon, garbage: bytes) -> None:
    with _connected(server) as sock:
        with contextlib.suppress(BrokenPipeError):
            sock.sendall(garbage)
        answer = json.loads(sock.makefile("rb").readline())
    assert answer["code"] == 2
    assert answer["text"]
    assert server.status()["state"] == "running"


def test_a_client_that_leaves_early(server: Daemon) -> None:
    whole = [b'{"command": "%b", "arguments": {}}\n' % command for command in (b"status", b"check")]
    for data in (b"", b'{"command"', *whole):
        with _connected(server) as sock:
            sock.sendall(data)
    assert server.status()["state"] == "running"


def test_clients_that_say_nothing_and_never_read_hold_nobody_up(server: Daemon, connect: Connect) -> None:
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(_connected(server)) for _ in range(50)]
        deaf = [stack.enter_context(_connected(server)) for _ in range(50)]
        for sock in deaf:
            sock.sendall(b'{"command": "status", "arguments": {}}\n')
        for sock in silent[:25]:
            sock.sendall(b'{"comm')
        for _ in range(5):
            assert server.status()["state"] == "running"
        assert connect().get("/a").body == b"the a"


@pytest.fixture
def own(place: Place, daemon: Daemon) -> Daemon:
    """A server that one test may restart."""
    place.write("www/a", b"the a")
    daemon.configure(_SITE)
    return daemon.start()


def _serves(own: Daemon) -> None:
    """Asks this one: `connect` would ask the server that the file shares."""
    with Client(("127.0.0.1", own.port)) as client:
        assert client.get("/a").body == b"the a"


def test_restart_keeps_the_socket_and_the_pid(own: Daemon) -> None:
    for _ in range(2):
        before = own.workers()
        done = own.ctl("restart")
        assert done.returncode == 0, done
        assert own.status()["pid"] == own.pid
        assert not set(before) & set(own.workers())
        assert own.listeners() == [f"127.0.0.1:{own.port}"]
        _serves(own)


def _restart_beside(daemon: Daemon, act: Callable[[], object]) -> None:
    """Restart, and do something again and again meanwhile."""
    outcomes: list[dict[str, Any]] = []
    restart = threading.Thread(target=lambda: outcomes.append(daemon.call("restart")))
    restart.start()
    until = time.monotonic() + PATIENCE
    is_over, state = False, ""
    while not is_over or state != "running":
        act()
        assert time.monotonic() < until, state
        is_over, state = not restart.is_alive(), ""  # before the next look: else that may be at the program before
        with contextlib.suppress(ValueError):
            state = daemon.status()["state"]
    assert [outcome["code"] for outcome in outcomes] == [0], outcomes


def test_commands_during_a_restart_wait_for_its_end(own: Daemon) -> None:
    answers: list[object] = []

    def ask() -> None:
        with contextlib.suppress(ValueError):  # the program that it had reached ended before it had answered
            answers.append(own.call("status"))

    for _ in range(3):
        _restart_beside(own, ask)
    assert answers
    _serves(own)


def test_signals_during_a_restart_do_not_end_it(own: Daemon) -> None:
    for _ in range(3):
        _restart_beside(own, lambda: own.signal("USR1"))
    _serves(own)


def test_a_restart_that_could_not_bind_is_refused(own: Daemon) -> None:
    own.expect("restart refused")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        own.configure(_SITE, listen=f'["127.0.0.1:0", "127.0.0.1:{other.getsockname()[1]}"]')
        done = own.ctl("restart")
    assert (done.returncode, "Address already in use" in done.stderr) == (1, True)
    _serves(own)


def test_restart_with_a_broken_file_is_refused(own: Daemon) -> None:
    own.expect("restart refused")
    own.configure("broken")
    done = own.ctl("restart")
    assert done.returncode == 1
    _serves(own)


def test_a_silent_client_is_dropped(silent: socket.socket) -> None:
    assert silent.recv(1) == b""
