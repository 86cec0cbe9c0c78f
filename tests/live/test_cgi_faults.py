"""Scripts that fail, hang, flood and escape, clients that go: one answer, one entry in the log, and nothing left."""

from __future__ import annotations

import os
import re
import shutil
import signal

import pytest

from live.cgi.scripts import GATE, HEAD, MARK, SCRIPTS, alive, gone, install, marked, mount, open_gate, pid_of, write
from live.conftest import needs_root
from live.daemon import Daemon, Place, eventually
from live.handlers.talk import Open, entries, shut_and_read

_LAST = f"echo last words >&2; {MARK}"
_LEAVES = "exec perl -e 'setpgrp(0, getppid) or die; sleep 1000'"  # the group that it leads, for its parent's
_WAIT = 'until [ -e "$MARKS/$QUERY_STRING" ]; do sleep 0.02; done'
_SCRIPTS = SCRIPTS | {
    "leaves": f"{MARK}; {_LEAVES}",
    "escapes": f"setsid sh -c '{MARK}; exec sleep 1000' & {HEAD}; echo answer; {_WAIT}",
    "silent": _LAST,
    "exits": f"{_LAST}; exit 3",
    "no_head": f"{_LAST}; echo hello",
    "wrong_head": rf"{_LAST}; printf 'hello\n\nbody\n'; exec sleep 1000",
    "no_fields": rf"{_LAST}; printf '\nbody\n'",
    "endless": f"{_LAST}; printf 'X-Long: '; exec tr '\\0' a < /dev/zero",
    "binary": rf"{_LAST}; printf 'Content-Type: text/plain\nX: \000\001\n\nbody'",
    "partial": rf"{_LAST}; printf 'Content-Type: te'; exec sleep 1000",
    "nothing_yet": f"{_LAST}; exec sleep 1000",
    "late": rf"{HEAD}; echo begun; {_LAST}; exec sleep 1000",
    "floods": f"{HEAD}; echo $$; exec >&-; yes a >&2 & {GATE}; kill $!",
    "complains": f"yes 'a complaint' | head -n 100000 >&2; {HEAD}; echo $$",
    "forges": f"""echo 'foo script=/other pid=1 id=2 text="x" \\' >&2; {HEAD}; echo $$""",
    "whispers": f"echo one line of $QUERY_STRING >&2; {HEAD}; echo $$",
    "ignores": f"exec 0<&-; {HEAD}; echo ignored",
    "fills": f"{HEAD}; head -c 1000000 /dev/zero | tr '\\0' a",
    "no_interpreter": "#!/no/such/interpreter\n",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    install(shared_place, _SCRIPTS)
    shared_place.write("www/a.txt", b"static")
    mounts = {"/s": "", "/quick": 'timeout = "300ms"', "/limited": 'limits = { cpu = "100s" }', "/counted": ""}
    text = "".join(mount(shared_place, path, lines) for path, lines in mounts.items())
    shared_daemon.configure(f'[[vhost]]\nroot = "www"\n{text}')
    return shared_daemon.start()


def _failed(server: Daemon, target: str, reason: str) -> str:
    """The one entry about a request that failed."""
    (entry,) = entries(server, rf'script failed: .*request="[A-Z]+ {re.escape(target)} HTTP')
    assert re.search(f"script failed: {reason}", entry), entry
    assert " [error] " in entry
    return entry


# Scripts that do not end (F1, F2)


def test_who_ignores_term_is_killed_with_all_its_group(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("script failed: it neither wrote nor read")
    client = talk()
    assert client.ask("/quick/stubborn?f1").status == 504
    _failed(server, "/quick/stubborn?f1", r"it neither wrote nor read for timeout \(0\.3 s\)")
    gone([pid_of(shared_place, "f1")])
    assert client.ask("/quick/plain").text == "plain\n"


@pytest.mark.skipif(shutil.which("perl") is None, reason="there is no perl")
def test_who_has_left_its_group_is_ended(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("script failed: it neither wrote nor read")
    assert talk().ask("/quick/leaves?left").status == 504
    pid = pid_of(shared_place, "left")
    gone([pid])


def test_who_obeys_term_has_its_chance(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("script failed: it neither wrote nor read")
    assert talk().ask("/quick/obedient?chance").status == 504
    gone([pid_of(shared_place, "chance")])
    assert marked(shared_place, "chance.term")


def test_time_is_up_behind_the_head(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("script failed: it neither wrote nor read")
    client = talk()
    client.send(b"GET /quick/late?late HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.head().status == 200
    assert client.was_cut()
    _failed(server, "/quick/late?late", "it neither wrote nor read")
    gone([pid_of(shared_place, "late")])


@pytest.mark.skipif(shutil.which("setsid") is None, reason="there is no setsid")
def test_who_holds_the_output_behind_the_script_s_end_does_not_hold_the_answer(
    talk: Open, server: Daemon, shared_place: Place
) -> None:
    client = talk()
    reply = client.ask("/s/escapes?escaped")
    assert (reply.status, reply.text) == (200, "answer\n")
    pid = pid_of(shared_place, "escaped")
    assert alive(pid)
    assert server.stderr is not None
    server.stderr.wait(r"\[notice\] .*a process that it left behind holds its output.*script=\S*/escapes")
    assert client.ask("/s/plain").text == "plain\n"
    os.kill(pid, signal.SIGKILL)


# Output that is no answer (F3)


@pytest.mark.parametrize(
    ("name", "status", "reason"),
    [
        ("silent", 502, "it wrote nothing .*ended="),
        ("exits", 502, "it wrote nothing .*ended=.*3"),
        ("no_head", 502, "its output ends within the head; it begins with 'hello'"),
        ("wrong_head", 502, "not a header line: 'hello'"),
        ("no_fields", 502, "it has no header lines"),
        ("endless", 502, "its head has more than [0-9]+ bytes; it begins with 'X-Long: aaa"),
        ("binary", 502, r"not a header line: 'X: \\*x00"),
        ("nothing_yet", 504, "it neither wrote nor read"),
        ("partial", 504, "it neither wrote nor read.*it begins with 'Content-Type: te'"),
    ],
)
def test_no_answer(talk: Open, server: Daemon, shared_place: Place, name: str, status: int, reason: str) -> None:
    server.expect("script failed")
    client = talk()
    assert client.ask(f"/quick/{name}?f3-{name}").status == status
    entry = _failed(server, f"/quick/{name}?f3-{name}", reason)
    assert "last words" in entry
    assert f" status={status} " in entry
    gone([pid_of(shared_place, f"f3-{name}")])
    assert client.ask("/s/plain").text == "plain\n"


# What goes in, and what nobody reads (F4, F5)

_MUCH = b"0123456789abcdef" * (20 * 1024 * 1024 // 16)


@pytest.mark.parametrize(("name", "length"), [("unread", 7), ("ignores", 8), ("fills", 1_000_000)])
def test_a_body_that_nobody_reads(talk: Open, server: Daemon, name: str, length: int) -> None:
    client = talk()
    for _ in range(2):
        reply = client.ask(f"/s/{name}", method="POST", body=_MUCH)
        assert (reply.status, len(reply.body)) == (200, length)
    assert client.ask("/s/plain").text == "plain\n"


def test_a_large_body_comes_back(talk: Open, server: Daemon) -> None:
    assert talk().ask("/s/echo", method="POST", body=_MUCH).body == _MUCH


def test_a_flood_of_stderr_is_counted_and_stalls_nobody(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("scripts wrote more to stderr than is logged")
    client = talk()
    pid = client.ask("/s/floods?flood").text.strip()
    line = rf" \[info\] .*: stderr script=\S*/floods pid={pid} id=[0-9a-f]+-[0-9a-f]+ text=a$"
    for _ in range(2):  # the second time when there is more than is logged
        for _ in range(50):  # by the same worker, while nothing ends the flood
            assert client.ask("/a.txt").body == b"static"
        lines = entries(server, line, 100)
        entries(server, r"\[warning\] .*scripts wrote more to stderr than is logged mount=\S+ lines=[0-9]{3,}$")
    assert len(lines) < 1000
    assert alive(int(pid))
    open_gate(shared_place, "flood")
    gone([int(pid)])


def test_every_line_of_stderr_is_logged_or_counted(talk: Open, server: Daemon) -> None:
    server.expect("scripts wrote more to stderr than is logged")
    for turn in (1, 2):
        talk().ask("/counted/complains")

        def all_told(expected: int = turn * 100_000) -> bool:
            logged = entries(server, r"stderr script=\S*/complains ")
            told = entries(server, r"wrote more to stderr than is logged mount=vhost\[0\]\.cgi\[3\] ")
            return len(logged) + sum(int(line.rpartition("=")[2]) for line in told) == expected

        eventually(all_told, "all lines are told of")


def test_a_line_of_stderr_names_the_request_and_the_process(talk: Open, server: Daemon) -> None:
    ids = set()
    for number in range(10):
        pid = talk().ask(f"/quick/whispers?turn-{number}").text.strip()
        (line,) = entries(server, f'stderr .*text="one line of turn-{number}"$')
        found = re.search(r": stderr script=(\S+) pid=([0-9]+) id=(\S+) text=", line)
        assert found is not None
        assert found[1].endswith("/whispers")
        assert found[2] == pid
        ids.add(found[3])
    assert len(ids) == 10, ids


def test_a_line_of_stderr_is_taken_for_nothing_else(talk: Open, server: Daemon) -> None:
    pid = talk().ask("/s/forges").text.strip()
    text = re.escape(r"foo script=/other pid=1 id=2 text=\x22x\x22 \x5c")
    entries(server, rf': stderr script=\S+/cgi/forges pid={pid} id=[0-9a-f]+-[0-9a-f]+ text="{text}"$')


# Clients that go (F9)


def test_a_reset_ends_the_script(talk: Open, server: Daemon, shared_place: Place) -> None:
    for name in ("obedient", "stubborn"):
        client = talk()
        client.send(f"GET /s/{name}?reset-{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        pid = pid_of(shared_place, f"reset-{name}")
        client.reset()
        gone([pid])
    assert marked(shared_place, "reset-obedient.term")


def test_a_reset_in_the_middle_of_the_answer(talk: Open, server: Daemon, shared_place: Place) -> None:
    client = talk()
    client.send(b"GET /s/begins?middle HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.head().status == 200
    pid = pid_of(shared_place, "middle")
    client.reset()
    gone([pid])


def test_a_client_that_has_shut_its_side_gets_its_answer(talk: Open, server: Daemon, shared_place: Place) -> None:
    client = talk()
    client.send(b"GET /s/waits?half HTTP/1.1\r\nHost: a\r\n\r\n").shut()
    pid_of(shared_place, "half")
    open_gate(shared_place, "half")
    assert shut_and_read(client).endswith(b"\r\n\r\nwaited\n")


# Bodies (F10)


def test_a_body_that_is_short_runs_nothing(talk: Open, server: Daemon, shared_place: Place) -> None:
    client = talk()
    client.send(b"POST /s/marks?short HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + b"x" * 99)
    for turn in range(4):  # the other requests of its worker are seen to
        assert talk().ask(f"/s/marks?other-{turn}").text == "marked\n"
    client.shut()
    assert client.reply().status in (400, 408)
    assert not marked(shared_place, "short")


@pytest.mark.parametrize("size", [0, 1, 5000, 60_000, 65_536, 70_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_the_body_and_nothing_behind_it(talk: Open, server: Daemon, size: int, chunked: bool) -> None:
    body = b"x" * size
    framed = b"Content-Length: %d\r\n\r\n%b" % (size, body)
    if chunked:
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in (body[:7], body[7:]) if part)
        framed = b"Transfer-Encoding: chunked\r\n\r\n%b0\r\n\r\n" % chunks
    one = b"POST /s/counts?body HTTP/1.1\r\nHost: a\r\n" + framed
    client = talk()
    client.send(one + one + b"GET /s/plain HTTP/1.1\r\nHost: a\r\n\r\n")
    for _ in range(2):
        assert client.reply().text.split() == [str(size), str(size)]
    assert client.reply().text == "plain\n"


# Refusals (F11): the client learns only that it may not


def _refused(talk: Open, server: Daemon, target: str, reason: str, status: int = 403) -> None:
    server.expect("script failed")
    assert talk().ask(target).status == status
    assert "it was not run" not in _failed(server, target, reason)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (0o757, r"everybody may write to it \(chmod o-w\)"),
        (0o4755, "it is setuid or setgid"),
        (0o2755, "it is setuid or setgid"),
        (0o644, r"it is not executable \(chmod \+x"),
        pytest.param(0o775, r"its group may write to it \(chmod g-w\)", marks=needs_root),
        pytest.param(0o700, "uid [0-9]+ may not execute it", marks=needs_root),
    ],
)
def test_the_mode_of_a_script(talk: Open, server: Daemon, shared_place: Place, mode: int, reason: str) -> None:
    name = f"mode-{mode:o}"
    write(shared_place, name, f"{MARK}", mode)
    _refused(talk, server, f"/s/{name}?{name}", reason)
    assert not marked(shared_place, name)


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (0o777, r"everybody may write to its folder '.*/folder-777' \(chmod o-w\)"),
        pytest.param(0o775, r"the group may write to its folder '.*/folder-775' \(chmod g-w\)", marks=needs_root),
    ],
)
def test_the_mode_of_a_folder(talk: Open, server: Daemon, shared_place: Place, mode: int, reason: str) -> None:
    name = f"folder-{mode:o}"
    (write(shared_place, f"{name}/below/script", f"{MARK}").parents[1]).chmod(mode)
    _refused(talk, server, f"/s/{name}/below/script?{name}", reason)
    assert not marked(shared_place, name)


@needs_root
def test_the_owner_of_a_script_and_of_a_folder(talk: Open, server: Daemon, shared_place: Place) -> None:
    os.chown(write(shared_place, "owned", MARK), 12345, 0)
    _refused(talk, server, "/s/owned?owned", "it belongs to uid 12345, neither to root nor to uid")
    os.chown(write(shared_place, "of/script", MARK).parent, 12345, 0)
    _refused(talk, server, "/s/of/script?owned", "its folder '.*/of' belongs to uid 12345")
    assert not marked(shared_place, "owned")


def test_nothing_outside_of_the_root(talk: Open, server: Daemon, shared_place: Place) -> None:
    outside = shared_place.write("outside", f"#!/bin/sh\n{MARK}\n".encode(), 0o755)
    (shared_place.path / "cgi/link").symlink_to(outside)
    (shared_place.path / "cgi/up").symlink_to(shared_place.path)
    for target in ("link", "up/outside", "..%2foutside", "%2e%2e/outside", "..%2f..%2foutside", "up/..%2foutside"):
        assert talk().ask(f"/s/{target}?outside").status in (400, 403, 404), target
    for target in ("/s/../../outside", "/s//../outside"):
        assert talk().ask(f"{target}?outside").status in (400, 403, 404), target
    assert talk().ask("/s/plain").text == "plain\n"
    assert not marked(shared_place, "outside")


# Programs that can't be started (F15)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("text", r"it can't be started: Exec format error \(errno 8\)"),
        ("no_interpreter", r"it can't be started: .*\(errno 2\).*'/no/such/interpreter'"),
    ],
)
@pytest.mark.parametrize("mount", ["s", "limited"])
def test_what_is_no_program(
    talk: Open, server: Daemon, shared_place: Place, mount: str, name: str, reason: str
) -> None:
    if name == "text":
        shared_place.write("cgi/text", b"this is a text\n", 0o755)
    _refused(talk, server, f"/{mount}/{name}", reason, 500)
    assert talk().ask(f"/{mount}/plain").text == "plain\n"
