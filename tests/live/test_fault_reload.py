"""Reloads under load, and what can go wrong with one: nothing is lost, and what fails changes nothing.

More of it is in test_reload.py; what takes minutes is in tests/faults/test_reload.py.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from live.client import CleanClose, Client, connections, request
from live.daemon import Daemon, Place, eventually, open_files, worker_user
from live.faults import DUMP, Faults
from live.load import Load, halt

FILES = {"/a": b"the a", "/b": b"b" * 3000, "/c": bytes(range(256)) * 200, "/large": bytes(range(256)) * 4000}
_ONE = '[[vhost]]\nroot = "www"\n'
_TWO = _ONE + '[[vhost.directory]]\npath = "/more/"\nroot = "more"\n'
_LONG = '[timeouts]\nprobation = "60s"\n'  # longer than any test
_LARGE = 20_000_000  # bytes of a download that does not fit into the buffers of a connection


@pytest.fixture
def served(place: Place, daemon: Daemon) -> Daemon:
    for path, body in FILES.items():
        place.write(f"www{path}", body)
    place.write("more/b", b"the b")
    daemon.configure(_ONE)
    return daemon.start()


def _alone(served: Daemon, count: int = 2) -> None:
    eventually(lambda: len(served.status()["workers"]) == count, "only the last generation is left")


def _port(text: str) -> int:
    return int(text.rpartition(":")[2])


def _in_background(work: Callable[[], dict[str, Any]]) -> tuple[threading.Thread, list[dict[str, Any]]]:
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(target=lambda: answers.append(work()))
    thread.start()
    return thread, answers


# B1, B9: reloads that change nothing, and that change everything


def test_ten_reloads_lose_nothing_and_leave_nothing(served: Daemon) -> None:
    served.reload()
    _alone(served)
    fds = len(open_files(served.pid))
    with Load(served.port, FILES) as load:
        for _ in range(10):
            served.reload()
            load.more(20)
    assert not load.report.lost, load.report
    assert served.status()["generation"] == 12
    _alone(served)
    eventually(lambda: len(open_files(served.pid)) <= fds, "as many descriptors in the master as before")


def test_every_setting_changes_under_load(served: Daemon, place: Place) -> None:
    names = ["nobody", worker_user()] if os.geteuid() == 0 else []

    def users() -> set[int]:
        return {Path(f"/proc/{pid}").stat().st_uid for pid in served.workers()}

    with Load(served.port, FILES) as load:
        for count in (3, 1, 2):
            served.configure(_ONE, server=f"workers = {count}")
            served.reload()
            assert len(served.workers()) == count
            load.more(20)
        for name in names:
            before = users()
            served.configure(_ONE, server=f'user = "{name}"')
            served.reload()
            assert users().isdisjoint(before)
            load.more(20)
        served.configure(_ONE, log='access = "other.log"\nformat = "json"')
        served.reload()
        load.more(20)
        assert served.access_lines(1, "other.log")[0].startswith("{")
    assert not load.report.lost, load.report


# B2, B6: what is refused

_BAD = {
    "syntax": ("[[vhost\n", "", "[[vhost"),
    "unknown key": (_ONE + "listng = true\n", "", "listng = true"),
    "wrong type": (_ONE + "listing = 1\n", "", "listing = 1"),
    "no unit": (_ONE + '[timeouts]\nhead = "10"\n', "", 'head = "10"'),
    "missing include": (_ONE, 'include = ["nowhere.toml"]\n', 'include = ["nowhere.toml"]'),
}


def test_what_is_wrong_is_named_by_its_line_and_costs_nothing(served: Daemon) -> None:
    served.expect("reload refused")
    with Load(served.port, FILES) as load:
        for name, (text, server, line) in _BAD.items():
            served.configure(text, server=server)
            number = served.file.read_text().splitlines().index(line) + 1
            outcome = served.call("reload")
            assert (outcome["code"], f"{served.file}:{number}: " in outcome["text"]) == (1, True), (name, outcome)
            last = served.status()["last_reload"]
            assert (last["ok"], last["code"], last["text"]) == (False, 1, outcome["text"])
            load.more(20)
    assert not load.report.lost, load.report
    assert served.status()["generation"] == 1
    assert len(served.workers()) == 2


def test_an_address_that_is_not_ours_changes_nothing(served: Daemon) -> None:
    served.expect("reload refused")
    before = served.listeners()
    with Load(served.port, FILES) as load:
        served.configure(_TWO, listen='["127.0.0.1:0", "127.0.0.2:0", "192.0.2.1:0"]')
        outcome = served.call("reload")
        assert (outcome["code"], "192.0.2.1" in outcome["text"]) == (1, True), outcome
        load.more(50)
    assert not load.report.lost, load.report
    assert served.listeners() == before


def test_a_low_port_without_the_right_to_it_changes_nothing(served: Daemon) -> None:
    if os.geteuid() == 0 or int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 81:
        pytest.skip("everybody here may bind to low ports")
    served.expect("reload refused")
    served.configure(_TWO, listen='["127.0.0.1:0", "127.0.0.1:81"]')
    outcome = served.call("reload")
    assert (outcome["code"], "127.0.0.1:81" in outcome["text"]) == (1, True), outcome
    with Client(("127.0.0.1", served.port)) as client:
        assert client.get("/a").body == b"the a"


def test_flips_between_one_address_and_all_work_or_are_refused(place: Place, daemon: Daemon) -> None:
    place.write("www/a", b"the a")
    daemon.expect("reload refused")
    daemon.configure(_ONE, listen='["0.0.0.0:0"]')
    daemon.start()
    port = daemon.port
    with Load(port, {"/a": b"the a"}) as load:
        for listen in (f"127.0.0.1:{port}", f"0.0.0.0:{port}", f":{port}", f'0.0.0.0:0", "[::]:{port}', "0.0.0.0:0"):
            daemon.configure(_ONE, listen=f'["{listen}"]')
            outcome = daemon.call("reload")
            assert outcome["code"] in (0, 1), outcome
            assert outcome["code"] == 0 or str(port) in outcome["text"], outcome
            load.more(20)
    assert not load.report.lost, load.report


# B4, B5: new workers that fail


def test_a_crash_within_the_probation_brings_the_old_generation_back(served: Daemon) -> None:
    served.configure(_ONE, listen='["127.0.0.1:0", "127.0.0.2:0"]')
    served.reload()
    _alone(served)
    first, second = served.listeners()
    old = served.workers()
    served.expect("worker ended .*SIGSEGV", "rolled back", *DUMP)
    with Load(served.port, FILES) as load, Load(("127.0.0.2", _port(second)), FILES, clients=10, rate=100) as removed:
        served.configure(_LONG + _TWO, listen='["127.0.0.1:0", "127.0.0.3:0"]')
        waiting, answers = _in_background(lambda: served.call("reload", settled=True))
        eventually(lambda: served.status()["generation"] == 3, "the new generation serves")
        added = served.listeners()[1]
        with Client(("127.0.0.1", served.port)) as client:
            assert client.get("/more/b").body == b"the b"
        load.more(50)
        removed.more(10)
        load.kill(served.workers()[0], signal.SIGSEGV)
        waiting.join()
        status = served.status()
        assert (answers[0]["code"], status["generation"], status["state"]) == (6, 2, "running")
        assert (status["last_reload"]["ok"], status["last_reload"]["code"]) == (False, 6)
        assert served.workers() == old
        assert served.listeners() == [first, second]
        with Client(("127.0.0.1", served.port)) as client:
            assert client.get("/more/b").status == 404
        load.more(50)
        removed.more(10)
    assert not load.report.lost, load.report
    assert not removed.report.lost, removed.report
    _alone(served)
    with pytest.raises(ConnectionRefusedError):
        Client(("127.0.0.3", _port(added)))
    served.configure(_TWO)
    served.reload()
    with Client(("127.0.0.1", served.port)) as client:
        assert client.get("/more/b").body == b"the b"


def test_a_kill_from_outside_is_no_crash_but_as_many_as_there_are_workers_are(served: Daemon) -> None:
    served.expect("worker ended .*SIGKILL", "rolled back")
    served.configure(_LONG + _TWO)
    with Load(served.port, FILES) as load:
        served.reload()
        load.kill(served.workers()[0])
        eventually(lambda: served.status()["restarts"] == 1 and len(served.workers()) == 2, "it is replaced")
        assert served.status()["generation"] == 2
        load.kill(served.workers()[0])
        eventually(lambda: served.status()["generation"] == 1, "as many were lost as there are places")
        load.more(20)
    assert not load.report.lost, load.report
    assert served.status()["last_reload"]["code"] == 6


@pytest.mark.parametrize("fault", ["crash at boot", "hang at boot"])
def test_new_workers_that_do_not_get_ready(place: Place, daemon: Daemon, fault: str) -> None:
    for path, body in FILES.items():
        place.write(f"www{path}", body)
    place.write("more/b", b"the b")
    faults = Faults(place)
    daemon.configure(_ONE)
    daemon.start(environ=faults.environ)
    before = daemon.workers()
    daemon.expect("reload refused", "aborting worker", "worker ended", *DUMP)
    with Load(daemon.port, FILES) as load:
        daemon.configure('[timeouts]\nstart = "500ms"\n' + _TWO)
        with faults.on(fault):
            outcome = daemon.call("reload")
        assert (outcome["code"], outcome["data"]["step"]) == (6, "canary"), outcome
        assert ("not ready after 0.5 s" if fault == "hang at boot" else "SIGABRT") in outcome["text"]
        load.more(20)
        status = daemon.status()
        assert (status["generation"], status["last_reload"]["code"]) == (1, 6)
        assert daemon.workers() == before
        daemon.configure(_TWO)
        daemon.reload()
        load.more(20)
    assert not load.report.lost, load.report


# B7, B13: what waits in a queue


@pytest.mark.usefixtures("many_descriptors")
@pytest.mark.parametrize("removed", [False, True])
def test_what_waits_in_a_queue_is_answered(served: Daemon, removed: bool) -> None:
    served.configure(_ONE, listen='["127.0.0.1:0", "127.0.0.2:0"]')
    served.reload()
    _alone(served)
    address = ("127.0.0.2", _port(served.listeners()[1]))
    old = served.workers()
    for pid in old:
        halt(pid)
    with connections(address, 100 if removed else 1000) as clients:
        for client in clients:
            client.send(request("/a"))
        if removed:
            served.configure(_ONE)
        served.reload()
        if removed:
            eventually(lambda: set(served.workers("draining")) == set(old), "the listener is theirs alone")
        for client in clients[: 0 if removed else None]:  # by the new workers, while the old ones stand still
            assert client.read().body == b"the a"
        for pid in old:
            os.kill(pid, signal.SIGCONT)
        for client in clients[: None if removed else 0]:  # nobody else has them
            assert client.read().body == b"the a"
    _alone(served)


def test_a_restart_lets_go_of_what_is_no_longer_wanted(served: Daemon, place: Place) -> None:
    served.configure(_ONE, listen=f'["127.0.0.1:0", "127.0.0.2:0", "unix:{place.path}/x.sock"]')
    served.reload()
    first, second, _ = served.listeners()
    served.configure(_ONE)
    done = served.ctl("restart")
    assert (done.returncode, done.stderr) == (0, "")
    assert served.listeners() == [first]
    assert not (place.path / "x.sock").exists()
    with pytest.raises(ConnectionRefusedError):
        Client(("127.0.0.2", _port(second)))


# B10, B12, B14 to B17: what is open


def test_new_workers_serve_while_the_old_ones_are_busy(served: Daemon, place: Place) -> None:
    with place.write("www/endless").open("r+b") as file:
        file.truncate(_LARGE)
    old = set(served.workers())
    address = ("127.0.0.1", served.port)
    with connections(address, 8) as clients:
        for client in clients:
            client.send(request("/endless"))
            assert client.sock.recv(1, 2)  # MSG_PEEK
        served.configure(_TWO)
        served.reload()
        with Client(address) as other:
            assert other.get("/more/b").body == b"the b"
        eventually(lambda: set(served.workers("draining")) == old, "the old ones go on with their requests")
        for client in clients:
            assert len(client.read().body) == _LARGE
    eventually(lambda: not old & {worker["pid"] for worker in served.status()["workers"]}, "they are gone")


def test_what_takes_longer_than_the_drain_time_is_cut(served: Daemon, place: Place) -> None:
    with place.write("www/endless").open("r+b") as file:
        file.truncate(_LARGE)
    served.configure('[timeouts]\ndrain = "100ms"\n' + _ONE)
    served.reload()
    _alone(served)
    with Client(("127.0.0.1", served.port), receive_buffer=65536) as client:
        client.send(request("/endless"))
        assert client.sock.recv(1, 2)  # MSG_PEEK
        served.reload()
        _alone(served)
        with pytest.raises((AssertionError, ConnectionResetError)):
            client.read()


def test_what_was_accepted_before_is_answered_by_the_old_workers(served: Daemon, place: Place) -> None:
    with place.write("www/endless").open("r+b") as file:
        file.truncate(_LARGE)
    address = ("127.0.0.1", served.port)
    with Client(address) as silent, Client(address) as half, Client(address) as two:
        half.send(request("/more/b")[:-7])
        two.send(request("/endless") + request("/a"))
        assert two.sock.recv(1, 2)  # MSG_PEEK
        eventually(lambda: sum(worker["connections"] for worker in served.status()["workers"]) == 3, "all are accepted")
        served.configure(_LONG + _TWO)
        served.reload()
        for client, rest in ((silent, request("/more/b")), (half, request("/more/b")[-7:])):
            answer = client.send(rest).read()
            assert (answer.status, answer.closes) == (404, True)
            assert client.closed()
        first = two.read()
        assert len(first.body) == _LARGE
        if not first.closes:
            assert two.read().body == b"the a"
        assert two.closed()


def test_requests_at_the_moment_of_the_drain(served: Daemon) -> None:
    """On connections that were idle: an answer, or an orderly close without a byte, never a reset."""
    address = ("127.0.0.1", served.port)
    chance = random.Random(16)
    began = time.monotonic()
    served.reload()
    _alone(served)
    span = time.monotonic() - began
    for _ in range(3):
        with connections(address, 60) as clients:
            for client in clients:
                assert client.get("/a").body == b"the a"
            reloading, _ = _in_background(served.reload)
            for client in clients:
                time.sleep(chance.uniform(0, 2 * span / len(clients)))  # spread over what the last one took
                _asks(client)
            reloading.join()


def _asks(client: Client) -> None:
    with client:
        try:
            client.send(request("/a"))
        except BrokenPipeError:
            assert client.closed()
            return
        try:
            assert client.read().body == b"the a"
        except CleanClose:
            return


# B19, B21: what surrounds the reload


def test_a_file_that_is_being_written_is_taken_whole_or_refused(served: Daemon) -> None:
    """Whatever part of it is there when it is read: what serves then is that part, and the file is good in the end."""
    served.expect("reload refused")
    served.configure("".join(f'[[vhost]]\nnames = ["site{number}"]\nroot = "www"\n' for number in range(50)))
    whole = served.file.read_text()
    chance = random.Random(19)
    codes = set()
    for _ in range(8):
        cut = chance.randrange(whole.index("[[vhost]]") + 9, len(whole))
        served.file.write_text(whole[:cut])
        outcome = served.call("reload")
        codes.add(outcome["code"])
        with Client(("127.0.0.1", served.port)) as client:
            assert client.get("/a").body == b"the a"
    assert codes <= {0, 1}
    assert 1 in codes
    served.file.write_text(whole)
    served.reload()


def test_a_master_without_descriptors_refuses(served: Daemon) -> None:
    served.expect("reload refused", "cannot start")
    before = resource.prlimit(served.pid, resource.RLIMIT_NOFILE)
    with Load(served.port, FILES) as load:
        # The control connection needs one; what is left is not enough for a reload.
        resource.prlimit(served.pid, resource.RLIMIT_NOFILE, (len(open_files(served.pid)) + 1, before[1]))
        outcome = served.call("reload")
        assert outcome["code"] in (1, 6), outcome
        assert outcome["text"]
        resource.prlimit(served.pid, resource.RLIMIT_NOFILE, before)
        load.more(20)
        assert (served.status()["generation"] in (1, 2), len(served.workers())) == (True, 2)
        served.configure(_TWO)
        served.reload()
        with Client(("127.0.0.1", served.port)) as client:
            assert client.get("/more/b").body == b"the b"
        load.more(20)
    assert not load.report.lost, load.report


