"""The master is killed: its workers finish what they have, and nothing of them is in the way of a new start."""

from __future__ import annotations

from pathlib import Path

from live.client import Client, request
from live.daemon import Daemon, Place, eventually

_SIZE = 20_000_000


def _gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_workers_finish_and_leave_and_a_new_start_succeeds_at_once(place: Place, daemon: Daemon) -> None:
    place.write("www/a", b"the a")
    with place.write("www/large").open("r+b") as file:
        file.truncate(_SIZE)
    daemon.configure('[[vhost]]\nroot = "www"\n')
    daemon.start()
    daemon.expect("the master is gone")
    workers = daemon.workers()
    port = daemon.port
    with Client(("127.0.0.1", port), receive_buffer=65536) as client:
        client.send(request("/large"))
        eventually(lambda: any(worker["requests"] for worker in daemon.status()["workers"]), "the request is in work")
        daemon.signal("KILL")
        daemon.wait()
        second = Daemon(place)
        second._notify, daemon._notify = daemon._notify, None
        second.configure('[[vhost]]\nroot = "www"\n', listen=f'["127.0.0.1:{port}"]')
        try:
            second.start()
            assert sum(not _gone(pid) for pid in workers) >= 1  # the download goes on
            for _ in range(10):
                with Client(("127.0.0.1", port)) as other:
                    assert other.get("/a").body == b"the a"
            assert (second.run_dir / "httpd.pid").read_text() == f"{second.pid}\n"
            assert len(client.read().body) == _SIZE
            client.close()
            eventually(lambda: all(_gone(pid) for pid in workers), "the orphans are gone")
            assert len(second.workers()) == 2
        finally:
            second.close()


def test_idle_orphans_leave_at_once(place: Place, daemon: Daemon) -> None:
    daemon.configure('[[vhost]]\nroot = "www"\n', server="workers = 3")
    daemon.start()
    daemon.expect("the master is gone")
    workers = daemon.workers()
    daemon.signal("KILL")
    daemon.wait()
    eventually(lambda: all(_gone(pid) for pid in workers), "the orphans are gone")


def test_ten_times_in_a_row(place: Place, daemon: Daemon) -> None:
    place.write("www/a", b"the a")
    daemon.configure('[[vhost]]\nroot = "www"\n')
    daemon.start()
    daemon.expect("the master is gone")
    daemon.configure('[[vhost]]\nroot = "www"\n', listen=f'["127.0.0.1:{daemon.port}"]')
    for _ in range(5):
        daemon.signal("KILL")
        daemon.wait()
        daemon.notified.clear()
        daemon.start()
        with Client(("127.0.0.1", daemon.port)) as client:
            assert client.get("/a").body == b"the a"
