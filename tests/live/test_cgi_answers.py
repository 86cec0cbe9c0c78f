"""Answers of scripts that are hard to tell from whole ones, and runs whose answer is over before they are."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import time
from pathlib import Path

import pytest

from httpd.master.supervisor import _LOOK_SECONDS
from httpd.worker.doors import _PATIENCE
from httpd.worker.runs import _LINGER
from live.cgi.scripts import GATE, HEAD, MARK, SCRIPTS, alive, gone, install, mount, open_gate, pid_of, titled
from live.client import Client
from live.daemon import Daemon, Place, eventually
from live.handlers.talk import Open, Talk, entries

_PYTHON = f"#!{shutil.which('python3', path='/usr/bin:/usr/local/bin') or '/usr/bin/python3'}\n"
_TICKS = "while :; do echo tick; sleep 0.02; done"
_LENGTH = r"printf 'Content-Type: a/b\nContent-Length: 5\n\nwhole'"
_CHUNKS = r"printf 'Content-Type: a/b\nTransfer-Encoding: chunked\n\n5\r\nhello\r\n'"
_SCRIPTS = SCRIPTS | {
    "deaf": f"exec >&-; {MARK}; exec sleep 1000",
    "killed": f"{HEAD}; echo part; kill -9 $$",
    "exits": f"{HEAD}; echo whole; exit 3",
    "nph-much": r"printf 'HTTP/1.1 200 OK\r\n\r\n'; exec head -c 100000 /dev/zero",
    "reset_content": r"printf 'Status: 205 Reset Content\nContent-Type: a/b\nContent-Length: 4\n\nbody'",
    "host": f'{HEAD}; echo "$HTTP_HOST $SERVER_NAME"',
    "slowly": f"{HEAD}; echo begun; {MARK}; sleep 0.1; echo ended",
    "holds": f"{HEAD}; echo held; {MARK}; sleep 1000 2> /dev/null &",
    "ticks": f"{HEAD}; {MARK}; {_TICKS}",
    "ticks-length": f"{_LENGTH}; {MARK}; {_TICKS}",
    "ticks-chunks": rf"{_CHUNKS}; printf '0\r\n\r\n'; {MARK}; {_TICKS}",
    "ticks-204": rf"printf 'Status: 204 No Content\n\n'; {MARK}; {_TICKS}",
    "nph-ticks": rf"printf 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole'; {MARK}; {_TICKS}",
    "chunks": rf"{_CHUNKS}; sleep 0.05; printf '1\r\n!\r\n0\r\n\r\n'",
    "chunks-at-once": rf"{_CHUNKS}; printf '0\r\n\r\n'",
    "chunks-half": f"{_CHUNKS}; sleep 0.05",
    "chunks-none": r"printf 'Content-Type: a/b\nTransfer-Encoding: chunked\n\nhello\r\n'",
    "floods": f"{_LENGTH}; {MARK}; exec cat /dev/zero",
    "large-length": f"{_LENGTH}; {MARK}; head -c 200000 /dev/zero; {GATE}; QUERY_STRING=end; {MARK}",
    "nph-empty": f"{MARK}; exit 3",
    "nph-part": "printf 'HTTP/1.1 200'",
    "nph-interim": r"""i=0; while [ $i -lt 3000 ]; do printf 'HTTP/1.1 102 Processing\r\n\r\n'; i=$((i+1)); done;
printf 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nend'""",
    "moves": r"printf 'Location: /large\n\n'",
    "loops": r"printf 'Location: /s/loops\n\n'",
    "address": f'{HEAD}; echo "$SERVER_ADDR $SERVER_NAME $REMOTE_ADDR"',
    # A pipe that holds more than usual, full when the script ends.
    "full": f"{_PYTHON}import fcntl, os\nfcntl.fcntl(1, 1031, 1 << 20)\nos.write(1, b'Content-Type: a/b\\n\\n')\n"
            "data = b'%08d' * 131072 % tuple(range(131072))\nleft = memoryview(data * 3)\n"
            "while left:\n    left = left[os.write(1, left):]\n",
}  # fmt: skip
_FULL = b"%08d" * 131072 % tuple(range(131072)) * 3


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    install(shared_place, _SCRIPTS)
    shared_place.write("www/large", b"x" * 4_000_000)
    text = mount(shared_place, "/s") + mount(shared_place, "/one", 'concurrency = 1\ntimeout = "20s"')
    text += mount(shared_place, "/short", 'timeout = "300ms"')
    one = f'script = "{shared_place.path}/cgi/' + '{}"'
    text += mount(shared_place, "/all", one.format("nph-interim")).replace('root = "cgi"\n', "")
    text += mount(shared_place, "/nph-plain", one.format("plain")).replace('root = "cgi"\n', "")
    text += mount(shared_place, "/little", 'limits = { output = "10kB" }')
    shared_daemon.configure(f'[[vhost]]\nroot = "www"\n{text}', "workers = 1")
    return shared_daemon.start()


def test_who_closes_its_output_without_an_answer_is_ended(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("script failed: it wrote nothing")
    client = talk()
    assert client.ask("/one/deaf?deaf").status == 502
    gone([pid_of(shared_place, "deaf")])
    assert client.ask("/one/plain").text == "plain\n"  # and its slot is free


def test_what_a_slow_client_has_not_taken_yet_is_not_lost(talk: Open, server: Daemon) -> None:
    """The script has ended long before: what it has left in the pipe belongs to the answer."""
    client = Talk(server, receive_buffer=8192)
    with client:
        client.send(b"GET /s/full HTTP/1.1\r\nHost: a\r\n\r\n")
        found = client.head()
        spawner = titled(server, "httpd: spawner /s")[0]
        children = Path(f"/proc/{spawner}/task/{spawner}/children")
        eventually(lambda: not children.read_text(), "the script has ended")
        _let_pass(server, _LINGER + 0.5)
        assert client.with_body(found).body == _FULL


def _let_pass(server: Daemon, seconds: float) -> None:
    """Keep the server busy for so long: what is due by then has been done."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        server.call("status")


def test_a_death_behind_the_head_is_logged(talk: Open, server: Daemon) -> None:
    server.expect("script has ended behind the beginning of its answer")
    assert talk().ask("/s/killed").text == "part\n"
    (entry,) = entries(server, "script has ended behind the beginning")
    assert "ended=\"killed by SIGKILL\"" in entry and "cgi/killed" in entry, entry
    assert talk().ask("/s/exits").text == "whole\n"
    assert talk().ask("/s/plain").text == "plain\n"


def test_a_worker_that_stood_still_has_not_been_kept_waiting(talk: Open, server: Daemon, shared_place: Place) -> None:
    """What spawners have said meanwhile lies there: no run has been waited for in vain."""
    server.expect("stalled")
    clients = [talk() for _ in range(20)]
    (worker,) = server.workers()
    for number, client in enumerate(clients):
        client.send(f"GET /s/waits?still{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    os.kill(worker, signal.SIGSTOP)
    _let_pass(server, _PATIENCE + 0.5)
    os.kill(worker, signal.SIGCONT)
    for number, client in enumerate(clients):
        pid_of(shared_place, f"still{number}")
        open_gate(shared_place, f"still{number}")
        assert client.reply().text == "waited\n"


# Those that cut their body into chunks by themselves


def test_chunks_are_put_together(talk: Open, server: Daemon) -> None:
    client = talk()
    assert client.ask("/s/chunks").body == b"hello!"
    reply = client.ask("/s/chunks-at-once")
    assert (reply.body, reply["Content-Length"]) == (b"hello", "5")
    client.send(b"HEAD /s/chunks HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.head().status == 200
    assert client.ask("/s/chunks-at-once", method="POST").body == b"hello"
    old = talk()
    old.send(b"GET /s/chunks HTTP/1.0\r\n\r\n")
    assert old.rest().endswith(b"\r\n\r\nhello!")


def test_chunks_that_are_none(talk: Open, server: Daemon) -> None:
    server.expect("script failed: its last chunk did not come", "script failed: its body is not in chunks")
    assert talk().ask("/s/chunks-none").status == 502
    assert entries(server, "its body is not in chunks, as its Transfer-Encoding says: malformed chunk line.*status=502")
    client = talk()
    client.send(b"GET /s/chunks-half HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.head().status == 200
    assert client.was_cut()
    assert entries(server, "its last chunk did not come, behind the beginning of its answer.*chunks-half.*status=200")


# Those that go on behind an answer that their clients have in full

_COMPLETE = [
    ("HEAD", "ticks"), ("GET", "ticks-length"), ("GET", "ticks-204"), ("GET", "ticks-chunks"), ("GET", "nph-ticks"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "name"), _COMPLETE)
def test_who_goes_on_writing_behind_its_answer_does_not_stay(
    talk: Open, server: Daemon, shared_place: Place, method: str, name: str
) -> None:
    """Nobody is sent anything, so nobody's end would be noticed: a few such requests would have a mount for good."""
    server.expect("script ended behind its answer: its end was not told for timeout", "wrote more than its Content")
    client, mark = talk(), f"{method}-{name}"
    for number in range(2):  # the second on the same connection, which has not been kept waiting
        client.send(f"{method} /short/{name}?{mark}{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = client.head()
        if name != "ticks" and "204" not in name:
            assert client.with_body(head).text == ("hello" if "chunks" in name else "whole")
    for number in range(2):
        gone([pid_of(shared_place, f"{mark}{number}")])


def test_who_floods_it_is_ended_by_its_own_writing(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("wrote more than its Content-Length")
    assert talk().ask("/one/floods?floods").text == "whole"  # its time would be 20 s
    gone([pid_of(shared_place, "floods")])


def test_some_more_than_the_length_does_not_end_it(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("wrote more than its Content-Length")
    assert talk().ask("/s/large-length?large").text == "whole"
    pid_of(shared_place, "large")
    open_gate(shared_place, "large")
    pid_of(shared_place, "end")


# Those that write their whole answer


def test_the_limit_of_output_is_theirs_too(talk: Open, server: Daemon) -> None:
    server.expect("script failed: its output is more than limits.output")
    client = talk()
    client.send(b"GET /little/nph-much HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.head().status in (200, 502)
    assert len(client.shut().rest() if not client.was_cut() else b"") <= 20_000


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nph-empty", "it wrote nothing"), ("nph-part", "its output ends within the head; it begins with 'HTTP/1.1 200'")],
)
def test_no_answer_of_theirs_is_told_like_any_other(
    talk: Open, server: Daemon, shared_place: Place, name: str, reason: str
) -> None:
    server.expect(re.escape(f"script failed: {reason}"))
    reply = talk().ask(f"/s/{name}?{name}")
    assert reply.status == 502
    (entry,) = entries(server, rf"script failed: {re.escape(reason)}.*{name}.*id={reply['X-Request-Id']}")
    if name == "nph-empty":
        assert f"pid={pid_of(shared_place, name)} " in entry and 'ended="exit status 3"' in entry


def test_many_interim_answers(talk: Open, server: Daemon) -> None:
    assert talk().ask("/s/nph-interim").text == "end"


# Local redirects


def test_each_request_may_be_redirected_anew(talk: Open, server: Daemon) -> None:
    client = talk()
    for _ in range(12):  # to an answer that does not leave at once
        assert len(client.ask("/s/moves").body) == 4_000_000


def test_a_loop_has_an_entry_that_the_client_can_name(talk: Open, server: Daemon) -> None:
    server.expect("more than 10 local redirects")
    reply = talk().ask("/s/loops")
    assert reply.status == 502
    (entry,) = entries(server, "more than 10 local redirects")
    assert f"id={reply['X-Request-Id']}" in entry and "status=502" in entry


# Addresses


def test_by_ipv6_and_by_a_unix_socket(daemon: Daemon, place: Place) -> None:
    install(place, _SCRIPTS)
    path = place.path / "site.sock"
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            pytest.skip("this machine has no ::1")
    daemon.configure('[[vhost]]\nroot = "www"\n' + mount(place, "/s"), listen=f'["[::1]:0", "unix:{path}"]')
    place.write("www/a", b"a")
    daemon.start()
    port = next(int(text.rpartition(":")[2]) for text in daemon.listeners() if text.startswith("["))
    with socket.create_connection(("::1", port)) as sock:
        sock.sendall(b"GET /s/address HTTP/1.0\r\n\r\n")
        assert sock.makefile("rb").read().endswith(b"\r\n\r\n::1 [::1] ::1\n")
    with Client(str(path)) as client:
        assert client.get("/s/address").body == b" localhost unix:\n"


def test_a_unix_socket_is_not_made_anew_while_the_server_ends(daemon: Daemon, place: Place) -> None:
    install(place, _SCRIPTS)
    path = place.path / "site.sock"
    daemon.configure('[[vhost]]\nroot = "www"\n' + mount(place, "/s"), listen=f'["127.0.0.1:0", "unix:{path}"]')
    place.write("www/a", b"a")
    daemon.start()
    client = Talk(daemon)
    client.send(b"GET /s/waits?gate HTTP/1.1\r\nHost: a\r\n\r\n")
    pid = pid_of(place, "gate")
    os.kill(daemon.pid, signal.SIGTERM)
    eventually(lambda: not path.exists(), "the path is gone")
    _let_pass(daemon, _LOOK_SECONDS + 0.5)
    assert alive(pid) and not path.exists()
    (place.path / "gates" / "gate").touch()
    assert client.reply().text == "waited\n"
    client.close()
    assert daemon.wait() == 0
    assert not path.exists()


def test_the_name_of_the_program_says_whether_it_writes_the_whole_answer(talk: Open, server: Daemon) -> None:
    """Not that in the URL."""
    assert talk().ask("/all").text == "end"
    assert talk().ask("/nph-plain").text == "plain\n"


def test_a_reset_content_has_none(talk: Open, server: Daemon) -> None:
    client = talk()
    reply = client.ask("/s/reset_content")
    assert (reply.status, reply.body, reply["Content-Length"]) == (205, b"", "0")
    assert client.ask("/s/plain").text == "plain\n"


def test_the_host_of_the_target_counts(talk: Open, server: Daemon) -> None:
    client = talk()
    client.send(b"GET http://other.example:88/s/host HTTP/1.1\r\nHost: evil.example\r\n\r\n")
    assert client.reply().text == "other.example:88 other.example\n"


def test_an_answer_of_unknown_length_is_framed_where_the_connection_closes(talk: Open, server: Daemon) -> None:
    """Else one that is cut off looks whole."""
    client = talk()
    client.send(b"GET /s/slowly?framed HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    reply = client.reply()
    assert (reply.framing, reply["Connection"]) == ("chunked", "close")
    assert reply.text == "begun\nended\n"
    assert not client.was_cut()


def test_a_short_timeout_is_not_for_what_a_script_has_left_behind(
    talk: Open, server: Daemon, shared_place: Place
) -> None:
    """It has ended, and its answer is over a moment later, whatever `timeout` is."""
    assert talk().ask("/short/holds?held").text == "held\n"
    server.expect("script failed: it wrote nothing")
    assert talk().ask("/short/deaf?short").status == 502
    gone([pid_of(shared_place, "short")])
