"""Reload is a transaction: it works whole, or nothing changes and the caller is told why."""

from __future__ import annotations

import re
import socket
import threading
from pathlib import Path

import pytest

from live.client import CleanClose, Client, request
from live.conftest import Connect
from live.daemon import Daemon, Place, eventually

_ONE = '[[vhost]]\nroot = "www"\n'
_TWO = _ONE + '[[vhost.directory]]\npath = "/more/"\nroot = "more"\n'


@pytest.fixture
def served(place: Place, daemon: Daemon) -> Daemon:
    place.write("www/a", b"the a")
    place.write("more/b", b"the b")
    daemon.configure(_ONE)
    return daemon.start()


def _inodes(port: int) -> set[str]:
    """The inodes of the sockets that listen on a port, as the kernel lists them."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}


def _port(text: str) -> int:
    return int(text.rpartition(":")[2])


def test_a_folder_is_added(served: Daemon, connect: Connect) -> None:
    assert connect().get("/more/b").status == 404
    served.configure(_TWO)
    done = served.ctl("reload")
    assert (done.returncode, done.stderr) == (0, "")
    assert "mount added: /more/" in done.stdout
    assert connect().get("/more/b").body == b"the b"
    status = served.status()
    assert (status["generation"], status["state"], status["last_reload"]["ok"]) == (2, "running", True)


def test_the_next_connection_behind_a_reload_sees_it(served: Daemon, connect: Connect) -> None:
    for turn in range(20):
        served.configure(_TWO if turn % 2 == 0 else _ONE)
        served.reload()
        for _ in range(4):
            assert connect().get("/more/b").status == (200 if turn % 2 == 0 else 404), turn


def test_a_typo_changes_nothing_and_is_named(served: Daemon, connect: Connect) -> None:
    served.expect("reload refused")
    served.configure(_ONE.replace("root", "rooot"))
    line = served.file.read_text().splitlines().index('rooot = "www"') + 1
    done = served.ctl("reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert f"{served.file}:{line}: vhost[0].rooot: unknown key; did you mean 'root'?" in done.stderr
    assert connect().get("/a").body == b"the a"
    status = served.status()
    assert (status["generation"], status["last_reload"]["ok"]) == (1, False)
    served.configure(_TWO)
    served.reload()
    assert connect().get("/more/b").body == b"the b"


def test_other_bad_files_change_nothing(served: Daemon, connect: Connect) -> None:
    served.expect("reload refused")
    for text in ("[server", "", '[[vhost]]\nroot = "nowhere"\n', '[[vhost]]\nroot = "www"\nx = nan\n'):
        served.configure(text)
        outcome = served.call("reload")
        assert (outcome["code"], str(served.file) in outcome["text"]) == (1, True), text
        assert connect().get("/a").body == b"the a"
        assert len(served.workers()) == 2


def test_a_file_that_is_gone_changes_nothing(served: Daemon, connect: Connect) -> None:
    served.expect("reload refused")
    served.file.unlink()
    outcome = served.call("reload")
    assert (outcome["code"], str(served.file) in outcome["text"]) == (1, True)
    assert connect().get("/a").body == b"the a"


def test_an_address_that_is_taken_changes_nothing(served: Daemon, connect: Connect) -> None:
    served.expect("reload refused")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = f"127.0.0.1:{other.getsockname()[1]}"
        served.configure(_TWO, listen=f'["127.0.0.1:0", "127.0.0.2:0", "{taken}"]')
        done = served.ctl("reload")
        assert done.returncode == 1
        assert taken in done.stderr
    assert len(served.listeners()) == 1
    assert connect().get("/more/b").status == 404


def test_listeners_come_and_go_and_the_unchanged_one_keeps_its_socket(
    served: Daemon, connect: Connect, place: Place
) -> None:
    before = _inodes(served.port)
    assert len(before) == 1
    served.configure(_ONE, listen=f'["127.0.0.1:0", "127.0.0.2:0", "unix:{place.path}/x.sock"]')
    served.reload()
    first, second, third = served.listeners()
    assert _port(first) == served.port
    assert third == f"unix:{place.path}/x.sock"
    for address in (("127.0.0.2", _port(second)), str(place.path / "x.sock")):
        with Client(address) as client:
            assert client.get("/a").body == b"the a"
    served.configure(_ONE)
    served.reload()
    assert served.listeners() == [first]
    assert _inodes(served.port) == before
    eventually(lambda: not _inodes(_port(second)), "the removed listener is closed by everybody")
    assert not (place.path / "x.sock").exists()
    with pytest.raises(ConnectionRefusedError):
        Client(("127.0.0.2", _port(second)))
    assert connect().get("/a").body == b"the a"


def test_the_number_of_workers(served: Daemon) -> None:
    for count in (4, 1, 2):
        served.configure(_ONE, server=f"workers = {count}")
        served.reload()
        assert len(served.workers()) == count
        eventually(lambda: len(served.status()["workers"]) == count, "the old generation is gone")  # noqa: B023


def test_hup_is_reload(served: Daemon, connect: Connect) -> None:
    assert served.stderr is not None
    served.configure(_TWO)
    served.signal("HUP")
    served.stderr.wait(r"\[notice\] .*: reloaded generation=2")
    assert connect().get("/more/b").body == b"the b"
    served.expect("reload refused")
    served.configure("broken")
    served.signal("HUP")
    served.stderr.wait("reload refused")
    assert connect().get("/more/b").body == b"the b"


def test_an_open_connection_gets_its_answer_and_is_told_to_close(served: Daemon, connect: Connect) -> None:
    idle, busy = connect(), connect()
    assert idle.get("/a").status == busy.get("/a").status == 200
    busy.send(request("/a")[:-3])
    served.configure(_TWO)
    served.reload()
    answer = busy.send(request("/a")[-3:]).read()
    assert (answer.body, answer.closes) == (b"the a", True)
    assert busy.closed()
    assert idle.closed()


def test_a_storm_of_reloads_is_answered_whole(served: Daemon, connect: Connect) -> None:
    outcomes: list[int] = []
    threads = [threading.Thread(target=lambda: outcomes.append(served.call("reload")["code"])) for _ in range(30)]
    for thread in threads:
        thread.start()
    over = threading.Event()
    failures: list[str] = []
    asking = threading.Thread(target=_ask, args=(served.port, over, failures))
    asking.start()
    for thread in threads:
        thread.join()
    over.set()
    asking.join()
    assert outcomes == [0] * 30
    assert not failures
    assert served.status()["generation"] <= 31
    assert connect().get("/a").body == b"the a"


def test_fifty_reloads_at_once_all_get_an_answer(served: Daemon) -> None:
    commands: list[dict[str, object]] = []
    failures: list[str] = []

    def call() -> None:
        try:
            commands.append(served.call("reload"))
        except (OSError, ValueError) as error:
            failures.append(repr(error))

    threads = [threading.Thread(target=call) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert [outcome["code"] for outcome in commands] == [0] * 50


def test_the_log_level_and_the_log_files_change(served: Daemon, connect: Connect, place: Place) -> None:
    served.configure(_ONE, log='error = "errors.log"\nlevel = "debug"\naccess = "second.log"')
    served.reload()
    connect().send(b"nonsense\r\n\r\n").read()
    served.access_lines(1, "second.log")
    eventually(lambda: "refused" in (place.path / "errors.log").read_text(), "a debug line in the new file")


def test_reload_while_it_stops_is_refused(served: Daemon, connect: Connect) -> None:
    with served.place.write("www/large").open("r+b") as file:
        file.truncate(50_000_000)
    client = connect().send(request("/large"))
    assert client.sock.recv(10)
    served.signal("TERM")
    eventually(lambda: served.status()["state"] == "stopping", "it stops")
    outcome = served.call("reload")
    assert (outcome["code"], bool(outcome["text"])) == (1, True)
    client.close()
    assert served.wait() == 0


def _ask(port: int, over: threading.Event, failures: list[str]) -> None:
    while not over.is_set():
        try:
            with Client(("127.0.0.1", port)) as client:
                for turn in range(5):
                    try:
                        answer = client.get("/a")
                    except CleanClose:
                        if turn == 0:
                            raise
                        break
                    if answer.body != b"the a":
                        failures.append(str(answer))
                    if answer.closes:
                        break
        except Exception as error:
            failures.append(re.sub(r"\s+", " ", repr(error)))
