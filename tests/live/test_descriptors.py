"""Descriptors: none is lost by serving, none is held by whom it does not concern, and running out is survived."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

import pytest

from live.client import Client, connections, request
from live.conftest import Connect
from live.daemon import Daemon, Place, StartFailed, eventually, open_files

_SITE = '[[vhost]]\nroot = "www"\nlisting = true\n'


@pytest.fixture
def files(place: Place) -> Place:
    place.write("www/a", b"the a")
    place.write("www/large", b"l" * 3_000_000)
    place.write("www/sub/x", b"x")
    (place.www / "link").symlink_to("a")
    (place.www / "broken").symlink_to("b")
    return place


def test_a_mixed_load_leaves_the_same_descriptors(files: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE, server="workers = 1")
    daemon.start()
    worker = daemon.workers()[0]
    with Client(("127.0.0.1", daemon.port)) as client:
        assert client.get("/a").status == 200
        # Counted while this connection is known to be open: "none is open" may be said before the last is accepted.
        before = len(open_files(worker)) - 1
    assert daemon.status()["state"] == "running"
    master = open_files(daemon.pid)
    for _ in range(5):
        _mixed(daemon)
    eventually(lambda: len(open_files(worker)) == before, "as many descriptors as before")
    eventually(lambda: daemon.status()["workers"][0]["connections"] == 0, "all connections are closed")
    assert daemon.workers() == [worker]
    # One may be the control connection of the last `status`, on its way out.
    eventually(lambda: len(open_files(daemon.pid)) <= len(master), "as many descriptors in the master as before")


def test_reloads_and_reopens_leave_the_same_descriptors(files: Place, daemon: Daemon, connect: Connect) -> None:
    daemon.configure(_SITE)
    daemon.start()

    def settled() -> list[str]:
        eventually(lambda: len(daemon.status()["workers"]) == 2, "the old generation is gone")
        return open_files(daemon.pid)  # type: ignore[return-value]

    daemon.reload()
    master, workers = len(settled()), sorted(len(open_files(pid)) for pid in daemon.workers())
    for _ in range(5):
        assert connect().get("/a").body == b"the a"
        daemon.reload()
        daemon.call("reopen")
        daemon.call("check")
    eventually(lambda: len(settled()) == master, "as many descriptors in the master as before")
    eventually(lambda: sorted(len(open_files(pid)) for pid in daemon.workers()) == workers, "and in the workers")


def test_a_worker_holds_nothing_that_is_not_its_own(files: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE, server="workers = 3", log='error = "error.log"')
    daemon.start()
    daemon.reload()
    eventually(lambda: len(daemon.status()["workers"]) == 3, "the old generation is gone")
    pairs: set[str] = set()
    for pid in daemon.workers():
        found = open_files(pid)
        assert not [name for name in found if "httpd.lock" in name or "control.sock" in name or "pidfd" in name]
        assert found.count(str(files.path / "access.log")) == 1
        assert found.count(str(files.path / "error.log")) == 1
        sockets = {name for name in found if name.startswith("socket:")}
        assert not [name for name in found if name.endswith("httpd.toml")]
        pairs = pairs & sockets if pairs else sockets
    assert len(pairs) == 1, "the listener is all that workers share"


def test_running_out_of_descriptors_is_survived(files: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE + "[limits]\nconnections = 20\ndetached = 1\n", server="workers = 1")
    daemon.expect("not accepting for a moment", "cannot answer")
    daemon.start()
    worker = daemon.workers()[0]
    room = len(open_files(worker)) + 12
    _limit(worker, room)
    address = ("127.0.0.1", daemon.port)
    assert daemon.stderr is not None
    with connections(address, 40) as clients:
        daemon.stderr.wait("not accepting for a moment.*Too many open files")
        served = 0
        for client in clients[:5]:
            assert client.get("/a").status in (200, 503)
            served += 1
        assert served == 5
    with Client(address) as client:
        assert client.get("/a").body == b"the a"
        assert client.get("/large").status == 200
    assert daemon.workers() == [worker]
    assert len(daemon.stderr.find("not accepting for a moment")) <= 2


def test_the_limit_of_connections_makes_others_wait(files: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE + "[limits]\nconnections = 5\n", server="workers = 1")
    daemon.expect("not accepting for a moment")
    daemon.start()
    address = ("127.0.0.1", daemon.port)
    with connections(address, 5) as clients:
        for client in clients:
            assert client.get("/a").body == b"the a"
        with Client(address) as late:
            late.send(request("/a"))
            clients[0].close()
            assert late.read().body == b"the a"


def test_the_soft_limit_is_raised(files: Place, daemon: Daemon) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < 2200:
        pytest.skip("the hard limit leaves no room")

    def lower() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))

    daemon.configure(_SITE + "[limits]\nconnections = 1000\n", server="workers = 1")
    daemon.start(before=lower)
    limits = Path(f"/proc/{daemon.workers()[0]}/limits").read_text()
    assert int(re.findall(r"Max open files +(\d+)", limits)[0]) >= 2000


def test_what_the_hard_limit_has_no_room_for_is_refused(files: Place, daemon: Daemon) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may raise the hard limit")
    daemon.expect("limits.connections")
    daemon.configure(_SITE + "[limits]\nconnections = 100000\n", server="workers = 1")
    with pytest.raises(StartFailed, match="connections") as failed:
        daemon.start(before=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024)))
    assert failed.value.code == 78


def _limit(pid: int, room: int) -> None:
    """Set the limit on open files of a process, as its own user: root may lack the capability for others."""
    status = Path(f"/proc/{pid}/status").read_text()
    uid, gid = (int(re.findall(rf"^{name}:\t(\d+)", status, re.MULTILINE)[0]) for name in ("Uid", "Gid"))
    if uid == os.geteuid():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (room, room))
    elif shutil.which("prlimit") is None:
        pytest.skip("no prlimit here")
    else:
        command = ["prlimit", f"--pid={pid}", f"--nofile={room}:{room}"]
        subprocess.run(command, user=uid, group=gid, extra_groups=[], check=True)


def _mixed(daemon: Daemon) -> None:
    address = ("127.0.0.1", daemon.port)
    with Client(address) as client:
        tag = client.get("/a")["ETag"]
        for target in ("/a", "/large", "/sub/", "/", "/link", "/broken", "/nope", "/a/x", "/sub"):
            for method in ("GET", "HEAD", "OPTIONS", "POST"):
                client.get(target, method=method)
            client.get(target, f"If-None-Match: {tag}")
            client.get(target, "Range: bytes=0-3, 5-9")
            client.get(target, "Range: bytes=99999999-")
        client.get("/large", "If-None-Match: *")
        client.get("/large", 'If-Match: "x"')
    for data in (request("/large"), request("/large", "Range: bytes=0-9,2000000-"), b"GET /a HT", b"bad\r\n\r\n", b""):
        for _ in range(5):
            with Client(address, receive_buffer=4096) as client, contextlib.suppress(ConnectionResetError):
                client.send(data)
                if data.startswith(b"GET /large"):
                    client.sock.recv(10)
