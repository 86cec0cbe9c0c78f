"""Workers: how many there are, who replaces whom, what a replacement costs the clients."""

from __future__ import annotations

import os
import re
import signal
import threading
from pathlib import Path

import pytest

from live.client import CleanClose, Client, request
from live.conftest import Connect
from live.daemon import Daemon, Place, eventually

_SITE = '[[vhost]]\nroot = "www"\n'


@pytest.fixture
def served(place: Place, daemon: Daemon) -> Daemon:
    place.write("www/a", b"the a")
    daemon.configure(_SITE, server="workers = 2\nmax_workers = 5")
    return daemon.start()


def test_ttin_and_ttou(served: Daemon, connect: Connect) -> None:
    for name, count in (("TTIN", 3), ("TTIN", 4), ("TTOU", 3), ("TTOU", 2), ("TTOU", 1)):
        served.signal(name)
        eventually(lambda: len(served.workers()) == count, f"{count} workers")  # noqa: B023
        assert connect().get("/a").body == b"the a"


def test_the_command(served: Daemon) -> None:
    for count in (5, 1, 3):
        done = served.ctl("workers", str(count))
        assert (done.returncode, done.stdout) == (0, f"{count} workers\n")
        status = served.status()
        assert len(status["workers"]) == count
        assert {worker["state"] for worker in status["workers"]} == {"serving"}


def test_a_number_out_of_range_is_refused(served: Daemon) -> None:
    served.expect("worker count not changed")
    for count in ("0", "-1", "6"):
        done = served.ctl("workers", "--", count)
        assert (done.returncode, "max_workers" in done.stderr) == (1, True), done
        assert len(served.workers()) == 2


def test_ttou_never_takes_the_last_one(served: Daemon, connect: Connect) -> None:
    served.expect("worker count not changed")
    assert served.stderr is not None
    served.call("workers", count=1)
    served.signal("TTOU")
    served.stderr.wait("worker count not changed")
    assert connect().get("/a").body == b"the a"


def test_a_killed_worker_is_replaced(served: Daemon, connect: Connect) -> None:
    served.expect(r"worker ended .*SIGKILL")
    before = served.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: served.status()["restarts"] == 2 and len(served.workers()) == 2, "two new workers")
    status = served.status()
    assert not set(before) & set(served.workers())
    assert status["state"] == "running"
    assert "SIGKILL" in status["last_exits"][0]["reason"]
    assert connect().get("/a").body == b"the a"


def test_one_that_dies_again_and_again_waits_longer_each_time(served: Daemon) -> None:
    served.expect("worker ended", "where worker .* stood", "^\t")
    assert served.stderr is not None
    served.call("workers", count=1)
    for _ in range(4):
        pid = eventually(served.workers, "a worker")[0]
        os.kill(pid, signal.SIGSEGV)
        served.stderr.wait(f"worker ended.*worker={pid} ", 1)
    pauses = [float(re.findall(r"again_in=([\d.]+)s", line)[0]) for line in served.stderr.find("worker ended")]
    assert len(pauses) == 4
    assert pauses[-1] >= 0.2
    assert pauses[-1] > pauses[0]
    eventually(served.workers, "it comes back in the end")


def test_one_that_is_killed_again_and_again_comes_back_at_once(served: Daemon) -> None:
    served.expect("worker ended")
    assert served.stderr is not None
    served.call("workers", count=1)
    for count in range(1, 7):
        pid = eventually(served.workers, "a worker")[0]
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: served.status()["replaced"] >= count, "it was noticed")  # noqa: B023
    pauses = [float(re.findall(r"again_in=([\d.]+)s", line)[0]) for line in served.stderr.find("worker ended")]
    assert pauses
    assert max(pauses) <= 0.2


def test_titles(served: Daemon) -> None:
    def title(pid: int) -> str:
        return Path(f"/proc/{pid}/cmdline").read_text().rstrip("\0")

    assert title(served.pid) == f"httpd: master {served.file}"
    assert sorted(title(pid) for pid in served.workers()) == ["httpd: worker 0 gen 1", "httpd: worker 1 gen 1"]


def test_signals_for_the_master_do_nothing_to_a_worker(served: Daemon, connect: Connect) -> None:
    before = served.workers()
    for pid in before:
        for name in ("HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH", "INT", "QUIT"):
            os.kill(pid, getattr(signal, f"SIG{name}"))
    for _ in range(4):
        assert connect().get("/a").body == b"the a"
    assert served.workers() == before


def test_winch_does_nothing_to_the_master(served: Daemon, connect: Connect) -> None:
    served.signal("WINCH")
    assert connect().get("/a").body == b"the a"
    assert served.status()["state"] == "running"


def test_usr2_is_not_there_yet(served: Daemon, connect: Connect) -> None:
    served.expect("upgrade is not available")
    assert served.stderr is not None
    served.signal("USR2")
    served.stderr.wait("upgrade is not available")
    assert connect().get("/a").body == b"the a"


def test_a_worker_that_gets_term_finishes_and_is_replaced(served: Daemon, place: Place) -> None:
    with place.write("www/large").open("r+b") as file:
        file.truncate(20_000_000)
    served.call("workers", count=1)
    served.expect("told to end")
    old = served.workers()[0]
    with Client(("127.0.0.1", served.port), receive_buffer=65536) as client:
        client.send(request("/large"))
        assert client.sock.recv(1, 2)  # MSG_PEEK
        os.kill(old, signal.SIGTERM)
        eventually(lambda: served.workers() not in ([], [old]), "another one serves")
        with Client(("127.0.0.1", served.port)) as other:
            assert other.get("/a").body == b"the a"
        assert len(client.read().body) == 20_000_000
    eventually(lambda: len(served.status()["workers"]) == 1, "the old one is gone")


def test_max_requests_costs_no_request(place: Place, daemon: Daemon) -> None:
    place.write("www/a", b"the a")
    daemon.configure(_SITE, server="workers = 2\nmax_requests = 100")
    daemon.start()
    before = set(daemon.workers())
    failures: list[str] = []
    threads = [threading.Thread(target=_ask, args=(daemon.port, 150, failures)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[:5]
    assert daemon.status()["restarts"] >= 2
    eventually(lambda: not before & set(daemon.workers()), "everybody was replaced")


def test_max_memory_replaces_a_worker(place: Place, daemon: Daemon, connect: Connect) -> None:
    place.write("www/a", b"the a")
    daemon.configure(_SITE, server='workers = 1\nmax_memory = "1KiB"')
    daemon.start()
    assert daemon.stderr is not None
    assert connect().get("/a").body == b"the a"
    daemon.stderr.wait("replacing worker.*max_memory")
    assert connect().get("/a").body == b"the a"


def test_figures_of_the_status(served: Daemon, connect: Connect) -> None:
    served.call("workers", count=1)
    client = connect()
    for _ in range(7):
        client.get("/a")
    worker = eventually(lambda: served.status()["workers"][0], "a worker")
    eventually(lambda: served.status()["workers"][0]["requests"] == 7, "seven requests counted")
    assert served.status()["workers"][0]["connections"] == 1
    assert worker["memory"] > 1_000_000
    client.close()
    eventually(lambda: served.status()["workers"][0]["connections"] == 0, "no connection counted")


def _ask(port: int, requests: int, failures: list[str]) -> None:
    """A client that reuses connections, and tries again only on an orderly close of a reused one."""
    client, fresh = Client(("127.0.0.1", port)), True
    for _ in range(requests):
        try:
            while True:
                try:
                    answer = client.get("/a")
                    break
                except (CleanClose, BrokenPipeError):
                    if fresh:
                        raise
                    client.close()
                    client, fresh = Client(("127.0.0.1", port)), True
            if answer.body != b"the a":
                failures.append(str(answer))
            fresh = False
            if answer.closes:
                client.close()
                client, fresh = Client(("127.0.0.1", port)), True
        except Exception as error:
            failures.append(repr(error))
            client.close()
            client, fresh = Client(("127.0.0.1", port)), True
    client.close()
