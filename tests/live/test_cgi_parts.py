"""Scripts while the server's parts die, stand still, end and are replaced: who runs finishes, and nobody is left."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from live.cgi.scripts import (
    GATE,
    HEAD,
    MARK,
    SCRIPTS,
    alive,
    gone,
    group,
    install,
    launcher,
    marked,
    mount,
    open_gate,
    pid_of,
    titled,
    write,
)
from live.daemon import Daemon, Place, eventually
from live.handlers.talk import Talk

_LEAVES = f"setsid sh -c '{MARK}; exec sleep 1000' > /dev/null 2>&1 & {HEAD}; echo left"


@pytest.fixture
def alone(place: Place, daemon: Daemon) -> Daemon:
    """A server that may be damaged.  /s is in use already, /new is not."""
    install(place, SCRIPTS)
    place.write("www/a.txt", b"static")
    text = f'[timeouts]\ndrain = "1s"\n[[vhost]]\nroot = "www"\n{mount(place, "/s")}{mount(place, "/new")}'
    daemon.configure(text)
    daemon.start()
    for _ in range(20):
        with Talk(daemon) as client:
            assert client.ask("/s/plain").text == "plain\n"
    return daemon


@contextlib.contextmanager
def _load(server: Daemon, target: str) -> Iterator[Counter[int]]:
    """Clients that ask all the time; how often they got which status."""
    found: Counter[int] = Counter()
    over = threading.Event()

    def ask() -> None:
        while not over.is_set():
            with Talk(server) as client:
                found[client.ask(target).status] += 1

    threads = [threading.Thread(target=ask, daemon=True) for _ in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield found
    finally:
        over.set()
        for thread in threads:
            thread.join()


def _spawner(server: Daemon) -> int:
    return titled(server, "httpd: spawner /s")[0]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
@pytest.mark.parametrize("part", [launcher, _spawner])
def test_a_part_that_goes_is_replaced(
    alone: Daemon, place: Place, part: Callable[[Daemon], int], number: signal.Signals
) -> None:
    alone.expect("script failed", "the launcher of scripts", "the spawner of .* has ended", "does not answer: killed",
                 "scripts can't be run")  # fmt: skip
    target = "/new/plain" if part is launcher else "/s/plain"  # a launcher is missed by those who need a door
    pid = part(alone)
    with Talk(alone) as running:
        running.send(b"GET /s/begins?running HTTP/1.1\r\nHost: a\r\n\r\n")
        head = running.head()
        if number == signal.SIGSTOP:  # before somebody has its door open
            os.kill(pid, number)
        with _load(alone, target) as found:
            if number == signal.SIGKILL:
                eventually(lambda: found[200] > 20, "requests are answered")
                os.kill(pid, number)
            eventually(lambda: not alive(pid), "the part is gone")
            launcher(alone, other_than=pid)
            before = found[200]
            eventually(lambda: found[200] >= before + 50, "requests are answered again")
            with Talk(alone) as client:
                assert client.ask("/a.txt").text == "static"
        assert found.keys() <= {200, 503}, found
        open_gate(place, "running")
        assert running.with_body(head).text == "begun\nended\n"
    for _ in range(20):
        with Talk(alone) as client:
            assert client.ask("/s/plain").text == client.ask("/new/plain").text == "plain\n"


def test_status_tells_of_scripts_and_their_launcher(alone: Daemon, place: Place) -> None:
    alone.expect("the launcher of scripts has ended")
    pid = launcher(alone)

    def told() -> tuple[int, int, int]:
        """Scripts, the launcher's pid, how often it was replaced."""
        data = alone.status()
        there = data["launcher"]
        return sum(worker["scripts"] for worker in data["workers"]), there["pid"], there["replaced"]

    eventually(lambda: told() == (0, pid, 0), "no script runs")
    with Talk(alone) as first, Talk(alone) as second:
        for client, name in ((first, "one"), (second, "two")):
            client.send(f"GET /s/begins?{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert client.head().status == 200
        eventually(lambda: told() == (2, pid, 0), "both are told of")
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: told()[2] == 1 and told()[1] not in (0, pid), "another launcher is told of")
        open_gate(place, "one")
        open_gate(place, "two")
    eventually(lambda: told()[0] == 0, "they have ended")


def test_a_stop_leaves_no_script(alone: Daemon, place: Place) -> None:
    alone.expect("script failed", "drain", "cut")
    names = [f"{name}-{number}" for number in range(10) for name in ("stubborn", "tidy")]
    with contextlib.ExitStack() as stack:
        for name in names:
            client = stack.enter_context(Talk(alone))
            client.send(f"GET /s/{name.partition('-')[0]}?{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        pids = [pid_of(place, name) for name in names]
        alone.signal("TERM")
        assert alone.wait() == 0
        assert not [pid for pid in pids if group(pid)]
    assert all(marked(place, f"{name}.term") for name in names if name.startswith("tidy"))


@pytest.mark.skipif(shutil.which("setsid") is None, reason="there is no setsid")
def test_what_a_script_has_left_behind_is_ended_with_the_server(alone: Daemon, place: Place) -> None:
    write(place, "leaves", _LEAVES)
    with Talk(alone) as client:
        assert client.ask("/s/leaves?left").text == "left\n"
    pid = pid_of(place, "left")
    assert alive(pid)
    alone.signal("TERM")
    assert alone.wait() == 0
    assert not alive(pid)


@pytest.mark.skipif(shutil.which("setsid") is None, reason="there is no setsid")
@pytest.mark.parametrize("spawner_too", [False, True])
def test_what_is_left_behind_outlives_a_launcher_and_a_reload_and_not_the_server(
    alone: Daemon, place: Place, *, spawner_too: bool
) -> None:
    """Whoever was left before the launcher was killed, and behind that by a script that it had started."""
    alone.expect("the launcher of scripts has ended", "script failed: its spawner has ended")
    write(place, "leaves", _LEAVES)
    write(place, "leaves_late", f"{MARK}; {GATE}; QUERY_STRING=$QUERY_STRING-left; {_LEAVES}")
    with Talk(alone) as early, Talk(alone) as late:
        assert early.ask("/s/leaves?early").text == "left\n"
        late.send(b"GET /s/leaves_late?late HTTP/1.1\r\nHost: a\r\n\r\n")
        pid_of(place, "late")
        pid, spawners = launcher(alone), titled(alone, "httpd: spawner")
        os.kill(pid, signal.SIGKILL)
        launcher(alone, other_than=pid)
        open_gate(place, "late")
        assert late.reply().text == "left\n"
    pids = [pid_of(place, "early"), pid_of(place, "late-left")]
    if spawner_too:
        for pid in spawners:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    alone.reload()
    with Talk(alone) as client:
        assert client.ask("/s/plain").text == "plain\n"
    assert all(map(alive, pids))
    alone.signal("TERM")
    assert alone.wait() == 0
    gone(pids)


def test_a_spawner_that_stands_still_does_not_hold_the_end(place: Place, daemon: Daemon) -> None:
    """It can't tell that a script is over whose answer is: it is found out without another request."""
    daemon.expect("the spawner of .* does not answer: killed", "the spawner of .* has ended")
    install(place, SCRIPTS)
    daemon.configure(f'[timeouts]\ndrain = "10m"\n[[vhost]]\n{mount(place, "/s")}')
    daemon.start()
    with Talk(daemon) as client:
        client.send(b"GET /s/waits?still HTTP/1.1\r\nHost: a\r\n\r\n")
        script = pid_of(place, "still")
        for spawner in titled(daemon, "httpd: spawner"):
            os.kill(spawner, signal.SIGSTOP)
        open_gate(place, "still")
        assert client.reply().text == "waited\n"
    eventually(lambda: not alive(script), "the script is over")
    daemon.signal("TERM")
    assert daemon.wait() == 0


def test_who_asks_again_at_once_is_not_one_too_many(place: Place, daemon: Daemon) -> None:
    """The slot of a script is free a moment behind its answer."""
    install(place, SCRIPTS)
    one = "concurrency = 1\nqueue = 0"
    daemon.configure(f'[[vhost]]\n{mount(place, "/s", one)}')
    daemon.start()
    with Talk(daemon) as client:
        assert {client.ask("/s/plain").status for _ in range(500)} == {200}


def test_a_reload_lets_scripts_finish(alone: Daemon, place: Place) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Talk(alone)) for _ in range(10)]
        for number, client in enumerate(clients):
            name = "waits" if number % 2 else "begins"
            client.send(f"GET /s/{name}?reload-{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        for number in range(10):
            pid_of(place, f"reload-{number}")
        alone.reload()
        with Talk(alone) as client:
            assert client.ask("/s/plain").text == client.ask("/new/plain").text == "plain\n"
        for number, client in enumerate(clients):
            open_gate(place, f"reload-{number}")
            assert client.reply().text == ("waited\n" if number % 2 else "begun\nended\n")
