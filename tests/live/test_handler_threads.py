"""Handlers that take long: they hold up nobody else, they are waited for, and they are reported."""

from __future__ import annotations

import json
import re
import select
import threading
from collections.abc import Iterator

import pytest

from live.daemon import Daemon, Place, eventually
from live.handlers.talk import Open, Talk, close_gate, entered, entries, install, open_gate

_CONFIG = """
[limits]
queue = 2

[timeouts]
handler = "200ms"
drain = "20s"

[[vhost]]
root = "www"
error_pages = { 503 = "pages/busy.html" }

  [[vhost.handler]]
  path = "/work"
  class = "work:Handler"
  pythonpath = ["app"]
  [[vhost.handler]]
  path = "/quick"
  class = "work:Handler"
  [[vhost.handler]]
  path = "/other"
  class = "work:Handler"
  [[vhost.handler]]
  path = "/first"
  class = "work:Handler"
  server = "http.server:HTTPServer"
"""

_GET = "GET {} HTTP/1.1\r\nHost: a\r\n\r\n"


def _start(daemon: Daemon, place: Place, server: str = "workers = 1\nthreads = 4") -> Daemon:
    install(place, "work")
    place.write("www/a.txt", b"static")
    place.write("www/large.bin", b"x" * 3_000_000)
    place.write("pages/busy.html", b"<p>busy")
    daemon.configure(_CONFIG, server)
    return daemon.start()


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    return _start(shared_daemon, shared_place)


@pytest.fixture
def talk(request: pytest.FixtureRequest) -> Iterator[Open]:
    opened: list[Talk] = []
    name = "server" if "server" in request.fixturenames else "daemon"
    which: Daemon = request.getfixturevalue(name)

    def make() -> Talk:
        opened.append(Talk(which))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


def _send(client: Talk, target: str) -> Talk:
    client.send(_GET.format(target).encode())
    return client


def _answered(clients: list[Talk], count: int) -> list[Talk]:
    """Those that have an answer, as soon as `count` of them do."""
    return eventually(
        lambda: len(found := [one for one in clients if select.select([one.sock], [], [], 0)[0]]) >= count and found,
        f"{count} answers",
    )  # type: ignore[return-value]


# Held up


def test_slow_handlers_in_all_threads_leave_the_files_alone(talk: Open, server: Daemon, shared_place: Place) -> None:
    close_gate(shared_place, "all")
    busy = [_send(talk(), "/work/gate/all") for _ in range(4)]
    entered(server, "all", 4)
    client = talk()
    for _ in range(20):
        assert client.ask("/a.txt").text == "static"
    assert len(client.ask("/large.bin").body) == 3_000_000
    open_gate(shared_place, "all")
    assert [client.reply().text for client in busy] == ["through all"] * 4


def test_a_quick_handler_that_blocks_once(talk: Open, server: Daemon, shared_place: Place) -> None:
    for turn in range(5):  # the thread that led is one of many afterwards, and another leads
        client = talk()
        assert {client.ask("/quick/hello").text for _ in range(50)} == {"hello"}  # it is known to be quick now
        gate = f"once-{turn}"
        close_gate(shared_place, gate)
        _send(client, f"/quick/gate/{gate}")
        entered(server, gate)
        other = talk()
        assert other.ask("/a.txt").text == "static"
        assert other.ask("/quick/hello").text == "hello"
        assert other.ask("/other/hello").text == "hello"
        open_gate(shared_place, gate)
        assert client.reply().text == f"through {gate}"
        assert client.ask("/quick/hello").text == "hello"


def test_several_quick_handlers_that_block_at_once(talk: Open, server: Daemon, shared_place: Place) -> None:
    close_gate(shared_place, "several")
    clients = [talk() for _ in range(4)]
    for client in clients:
        assert {client.ask("/quick/hello").text for _ in range(30)} == {"hello"}
    for client in clients:
        _send(client, "/quick/gate/several")
    entered(server, "several", 4)
    assert talk().ask("/a.txt").text == "static"
    open_gate(shared_place, "several")
    assert [client.reply().text for client in clients] == ["through several"] * 4
    assert talk().ask("/quick/hello").text == "hello"


def test_a_handler_that_computes(talk: Open, server: Daemon, shared_place: Place) -> None:
    close_gate(shared_place, "spin")
    busy = _send(talk(), "/work/spin/spin")
    entered(server, "spin")
    client = talk()
    for _ in range(20):
        assert client.ask("/a.txt").text == "static"
        assert client.ask("/other/hello").text == "hello"
    open_gate(shared_place, "spin")
    assert busy.reply().text == "spun"


@pytest.mark.parametrize("warm", [0, 30])
def test_a_handler_may_ask_its_own_server(talk: Open, server: Daemon, warm: int) -> None:
    client = talk()
    for _ in range(warm):
        assert client.ask("/quick/hello").text == "hello"
    for target in ("/a.txt", "/other/hello", "/quick/hello"):
        answer = client.ask(f"/quick/fetch?http://127.0.0.1:{server.port}{target}")
        assert answer.text == ("static" if target == "/a.txt" else "hello")


def test_many_that_ask_their_own_server(talk: Open, server: Daemon) -> None:
    clients = [talk() for _ in range(3)]
    for client in clients:
        _send(client, f"/work/fetch?http://127.0.0.1:{server.port}/other/hello")
    assert [client.reply().text for client in clients] == ["hello"] * 3


# The queue


def test_a_full_pool_queues_and_then_refuses(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("all threads are busy and the queue is full: 503", "a handler takes long", r"^\t")
    close_gate(shared_place, "full")
    clients = [_send(talk(), "/first/gate/full")]
    entered(server, "full")
    further = [_send(talk(), "/first/gate/full") for _ in range(5)]
    refused = _answered(further, 3)  # two of them wait
    clients += [client for client in further if client not in refused]
    for client in refused:
        answer = client.reply()
        assert (answer.status, answer.body) == (503, b"<p>busy")
        assert int(answer["Retry-After"]) >= 1
    client = refused[0]
    assert client.ask("/first/hello", method="HEAD").framing == "none"
    assert client.ask("/a.txt").text == "static"
    assert client.ask("/other/hello").text == "hello"
    body = client.ask("/first/hello", method="POST", body=_GET.format("/a.txt").encode() * 3)
    assert body.status == 503
    assert entries(server, "queue is full: 503 .*mount=")
    open_gate(shared_place, "full")
    assert [client.reply().text for client in clients] == ["through full"] * 3
    assert talk().ask("/first/hello").text == "hello"


def test_who_waits_in_the_queue_may_leave(talk: Open, server: Daemon, shared_place: Place) -> None:
    close_gate(shared_place, "leave")
    first = _send(talk(), "/first/gate/leave")
    entered(server, "leave")
    for _ in range(2):
        _send(talk(), "/first/hello").reset()
    assert talk().ask("/a.txt").text == "static"
    open_gate(shared_place, "leave")
    assert first.reply().text == "through leave"
    assert talk().ask("/first/hello").text == "hello"


# Reported


def test_where_a_stuck_handler_stands_is_said_once(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("a handler takes long", r"^\t")
    close_gate(shared_place, "stuck")
    client = _send(talk(), "/work/gate/stuck")
    pattern = r"a handler takes long; it stands at .*/work/gate/stuck"
    entry = entries(server, pattern)[0]
    assert 'File "' in entry
    assert "in wait_at" in entry
    assert "work.py" in entry
    second = _send(talk(), "/work/gate/stuck")  # reported two sweeps later, in which the first is not again
    entries(server, pattern, 2)
    assert len(entries(server, pattern)) == 2
    open_gate(shared_place, "stuck")
    assert client.reply().text == second.reply().text == "through stuck"


# The end


def test_a_stop_waits_for_handlers(place: Place, daemon: Daemon, talk: Open) -> None:
    daemon.expect("a handler takes long", r"^\t")
    _start(daemon, place)
    running = _send(talk(), "/work/gate/end")
    entered(daemon, "end")
    waiting = _send(talk(), "/first/gate/end")
    entered(daemon, "end", 2)
    queued = _send(talk(), "/first/hello")
    daemon.signal("TERM")
    eventually(lambda: daemon.status()["state"] == "stopping", "it stops")
    open_gate(place, "end")
    assert running.reply().text == waiting.reply().text == "through end"
    assert queued.reply().text == "hello"
    assert daemon.wait() == 0
    assert sum("/end" in line for line in daemon.access_lines(3)) == 2


def test_a_stop_waits_no_longer_than_drain(place: Place, daemon: Daemon, talk: Open) -> None:
    daemon.expect("time is over|took longer|cut off", "a handler takes long", r"^\t")
    install(place, "work")
    daemon.configure(_CONFIG.replace('drain = "20s"', 'drain = "300ms"').replace('root = "www"', 'root = "app"')
                     .replace('{ 503 = "pages/busy.html" }', "{}"), "workers = 1")  # fmt: skip
    daemon.start()
    client = _send(talk(), "/work/gate/never")
    entered(daemon, "never")
    daemon.signal("TERM")
    assert daemon.wait() == 0
    client.was_cut()
    assert any("/work/gate/never" in line for line in daemon.access_lines(1))


def test_a_reload_finishes_what_old_workers_have_begun(place: Place, daemon: Daemon, talk: Open) -> None:
    daemon.expect("a handler takes long", r"^\t")
    _start(daemon, place)
    old = _send(talk(), "/work/gate/reload")
    entered(daemon, "reload")
    before = json.loads(talk().ask("/work/pid").text)
    daemon.reload()
    after = json.loads(talk().ask("/work/pid").text)
    assert before != after
    open_gate(place, "reload")
    answer = old.reply()
    assert (answer.text, answer["Connection"]) == ("through reload", "close")
    assert old.closed()


def test_a_worker_under_many_at_once(talk: Open, server: Daemon) -> None:
    problems: list[str] = []

    def ask(number: int) -> None:
        with Talk(server) as client:
            for turn in range(40):
                target = ("/quick/hello", "/a.txt", "/work/nap", "/other/hello")[(turn + number) % 4]
                answer = client.ask(target)
                expected = {"/a.txt": "static", "/work/nap": "napped"}.get(target, "hello")
                if answer.text != expected:
                    problems.append(f"{target}: {answer.status} {answer.text}")

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert not [line for line in server.log_lines() if re.search("defect", line)]


def test_a_worker_whose_threads_all_sleep_answers_files_at_once(place: Place, daemon: Daemon, talk: Open) -> None:
    daemon.expect("a handler takes long", r"^\t")
    _start(daemon, place, "workers = 1")  # 16 threads
    busy = [_send(talk(), "/work/sleep/1") for _ in range(16)]
    entered(daemon, "sleep", 16)
    client = talk()
    for _ in range(50):
        assert client.ask("/a.txt").text == "static"
    assert [client.reply().text for client in busy] == ["slept"] * 16


def test_clients_that_stall_in_a_stream(place: Place, daemon: Daemon, talk: Open) -> None:
    install(place, "answers")
    text = '[[vhost.handler]]\npath = "/stream"\nclass = "answers:Stream"\nstream = true\npythonpath = ["app"]\n'
    daemon.configure(f'[timeouts]\nbody = "100ms"\n[[vhost]]\nroot = "app"\n{text}', "workers = 1\nthreads = 2")
    daemon.start()
    clients = [talk() for _ in range(4)]
    for client in clients:
        client.send(b"POST /stream HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345")
    for client in clients:  # two threads get through all of them
        assert client.reply().status == 408
        assert client.closed()
    assert talk().ask("/stream").text == "hello"


def test_the_child_of_a_handler_that_forks_ends_with_it(talk: Open, server: Daemon) -> None:
    client = talk()
    for _ in range(8):  # in the pool first, then in the loop's thread
        assert client.ask("/work/forks").text == "child ended with 0"
