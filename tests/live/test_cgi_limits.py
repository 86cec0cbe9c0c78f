"""What a script is given, how much it may use, how many may run; and answers with a catch."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import re
import resource
import select
import signal
from pathlib import Path

import pytest

from httpd.system.limits import private_memory
from live.cgi.scripts import HEAD, MARK, SCRIPTS, alive, gone, install, marked, mount, open_gate, pid_of
from live.conftest import needs_root
from live.daemon import Daemon, Place, eventually, worker_user
from live.handlers.talk import Open, Talk, entries

_SOFT = 777  # open files, at the server's start
_SCRIPTS = SCRIPTS | {
    "files": f"{HEAD}; exec ls -l /proc/self/fd",
    "status": f"{HEAD}; exec cat /proc/self/status",
    "stat": f"{HEAD}; exec cat /proc/self/stat",
    "environment": f"{HEAD}; exec env",
    "identity": f"{HEAD}; id -u; id -g; id -G; umask; ulimit -Sn",
    "ulimits": f"{HEAD}; ulimit -t; ulimit -v; ulimit -Sn; ulimit -Hn",
    "opens": f"{HEAD}; echo error $QUERY_STRING > /dev/stderr; echo output $(cat /dev/stdin | wc -c) > /dev/stdout",
    "computes": f"{MARK}; while :; do :; done",
    "grows": 'a=aaaaaaaaaaaaaaaa; while :; do a="$a$a"; done',
    "much": f"{HEAD}; exec head -c 100000 /dev/zero",
    "endless": f"{HEAD}; {MARK}; exec cat /dev/zero",
    "drops": f"{HEAD}; for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.1; done",
    "large": f"{HEAD}; {MARK}; head -c 30000000 /dev/zero; echo end",
    "loops": r"printf 'Location: /s/loops\n\n'",
    "moves": r"printf 'Location: /s/plain\n\n'",
    "no_content": r"printf 'Status: 204 No Content\n\n'; echo body",
    "short": r"printf 'Content-Type: text/plain\nContent-Length: 10\n\n12345'",
    "short_later": rf"printf 'Content-Type: text/plain\nContent-Length: 10\n\n12345'; {MARK}; sleep 0.1",
    "long": r"printf 'Content-Type: text/plain\nContent-Length: 5\n\n1234567890'",
    "nph-all": r"printf 'HTTP/1.1 299 Own\r\nContent-Length: 3\r\nX-Own: 1\r\n\r\nnph'",
    "nph-wrong": r"echo this is not HTTP",
}
_MOUNTS = {
    "/s": 'pass_env = ["PASSED", "MISSING"]',
    "/limited": 'limits = { cpu = "1s", memory = "30MB", files = 17, output = "50kB" }',
    "/few": "concurrency = 4\nqueue = 4",
    "/quick": 'timeout = "400ms"',
    "/once": 'max_time = "300ms"',
}
_ENVIRON = {"PASSED": "passed", "SECRET": "secret", "HTTP_PROXY": "http://evil", "LISTEN_FDNAMES": "x", "LC_ALL": "C"}


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    install(shared_place, _SCRIPTS)
    shared_place.write("www/a.txt", b"static")
    text = "".join(mount(shared_place, path, lines) for path, lines in _MOUNTS.items())
    if os.geteuid() == 0:
        text += mount(shared_place, "/user", f'user = "{worker_user()}"')
    shared_daemon.configure(f'[[vhost]]\nroot = "www"\n{text}')
    return shared_daemon.start(before=_before, environ=_ENVIRON)


def _before() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (_SOFT, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    os.umask(0)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2, signal.SIGTERM})


def _failed(server: Daemon, target: str, reason: str) -> str:
    found = entries(server, rf'script failed: {reason}.*request="GET {re.escape(target)} HTTP')
    assert len(found) == 1, found
    return found[0]


# What it is given (F6, F13)

_BOTH = pytest.mark.parametrize("mount", ["s", "limited"])  # without and with limits there are two ways to start it


@_BOTH
def test_three_descriptors(talk: Open, server: Daemon, mount: str) -> None:
    for method, body in (("GET", b""), ("POST", b"x" * 10), ("POST", b"x" * 200_000)):
        lines = talk().ask(f"/{mount}/files", method=method, body=body).text.splitlines()
        found = dict(re.findall(r" ([0-9]+) -> (\S+)", "\n".join(lines)))
        assert found.pop("3").startswith("/proc/"), found  # that of ls itself
        assert found.keys() == {"0", "1", "2"}, found
        assert found["1"].startswith("pipe:")
        assert found["2"].startswith("pipe:")


@_BOTH
@pytest.mark.parametrize("size", [0, 10, 200_000])
def test_its_streams_can_be_opened_by_name(talk: Open, server: Daemon, mount: str, size: int) -> None:
    """Whoever made them: Linux asks for permission, even of a pipe.  Plotters write to /dev/stdout."""
    server.expect(f'stderr script=.*/opens .* text="error {size}"')
    users = [mount, "user"] if os.geteuid() == 0 else [mount]
    for user in users:
        answer = talk().ask(f"/{user}/opens?{size}", method="POST", body=b"x" * size)
        assert answer.text == f"output {size}\n"
        eventually(lambda: entries(server, rf'stderr script=.*/opens .* text="error {size}"'), "stderr is logged")


@_BOTH
def test_signals_are_at_their_defaults(talk: Open, server: Daemon, mount: str) -> None:
    fields = dict(re.findall(r"^(\w+):\s*(\S+)", talk().ask(f"/{mount}/status").text, re.MULTILINE))
    own = 1 << 31 | 1 << 32  # signals 32 and 33 are glibc's, whose posix_spawn ignores them
    assert int(fields["SigIgn"], 16) & ~own == 0
    assert int(fields["SigBlk"], 16) == 0
    ours = re.findall(r"^CapEff:\s*(\S+)", Path("/proc/self/status").read_text(), re.MULTILINE)[0]
    assert int(fields["CapEff"], 16) == (0 if os.geteuid() == 0 else int(ours, 16))


@_BOTH
def test_its_session_is_not_the_server_s(talk: Open, server: Daemon, mount: str) -> None:
    """So it has no terminal, wherever the server was started; its group is its own."""
    pid, parent, group, session, terminal = re.findall(r"-?[0-9]+", talk().ask(f"/{mount}/stat").text)[:5]
    assert pid == group
    assert session == parent != str(os.getsid(server.pid))
    assert terminal == "0"


@_BOTH
def test_the_environment_is_the_request_s(talk: Open, server: Daemon, mount: str) -> None:
    text = talk().ask(f"/{mount}/environment", "Proxy: http://evil", "X_Y: 1", "X-Z: 2").text
    found = dict(line.split("=", 1) for line in text.splitlines())
    strange = re.compile("NOTIFY|LISTEN|PROXY|SECRET|PYTHON|^LC_|^HOME|^USER|X_Y|MISSING")
    assert not [name for name in found if strange.search(name)]
    assert found["HTTP_X_Z"] == "2"
    assert found["PATH"] == os.environ["PATH"]
    assert found.get("PASSED") == ("passed" if mount == "s" else None)
    configured, by_the_shell = {"PATH", "PASSED", "MARKS", "GATES"}, {"PWD", "OLDPWD", "SHLVL", "_"}
    known = re.compile("(HTTP|SERVER|REMOTE|REQUEST|SCRIPT|CONTEXT|GATEWAY|QUERY|DOCUMENT|REDIRECT)_")
    assert not [name for name in found.keys() - configured - by_the_shell if not known.match(name)]


@pytest.mark.parametrize("mount", ["s", "limited", pytest.param("user", marks=needs_root)])
def test_who_it_runs_as(talk: Open, server: Daemon, mount: str) -> None:
    uid, gid, groups, umask, files = talk().ask(f"/{mount}/identity").text.splitlines()
    if os.geteuid() != 0:
        expected = (os.geteuid(), os.getegid(), {os.getegid(), *os.getgroups()})
    else:
        account = pwd.getpwnam(worker_user() if mount == "user" else "nobody")
        named = set(os.getgrouplist(account.pw_name, account.pw_gid)) if mount == "user" else {account.pw_gid}
        expected = (account.pw_uid, account.pw_gid, named)
        assert grp.getgrgid(0).gr_gid not in named
    assert (int(uid), int(gid), {int(group) for group in groups.split()}) == expected
    assert int(umask, 8) == 0o022
    assert int(files) == (17 if mount == "limited" else _SOFT)


# How much it may use (F13), and for how long


def test_limits_are_set(talk: Open, server: Daemon) -> None:
    assert talk().ask("/limited/ulimits").text.split() == ["1", str(30_000_000 // 1024), "17", "17"]


def test_processor_time_is_over(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("script failed: it wrote nothing")
    assert talk().ask("/limited/computes?cpu").status == 502
    assert "SIGXCPU" in _failed(server, "/limited/computes?cpu", "it wrote nothing")
    gone([pid_of(shared_place, "cpu")])


def test_there_is_no_more_memory(talk: Open, server: Daemon) -> None:
    server.expect("script failed: it wrote nothing")
    assert talk().ask("/limited/grows?memory").status == 502
    _failed(server, "/limited/grows?memory", "it wrote nothing")


def test_too_much_output(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("script failed: its output is more than limits.output")
    for name in ("much", "endless"):
        client = talk()
        client.send(f"GET /limited/{name}?output-{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        head = client.head()
        assert head.status == 502 or (head.status == 200 and client.was_cut())
        _failed(server, f"/limited/{name}?output-{name}", r"its output is more than limits\.output \(50000 bytes\)")
    gone([pid_of(shared_place, "output-endless")])


def test_max_time(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("script failed: it ran for more than max_time")
    client = talk()
    assert client.ask("/once/waits?longer").status == 504
    _failed(server, "/once/waits?longer", r"it ran for more than max_time \(0\.3 s\)")
    client.send(b"GET /once/drops?longer HTTP/1.1\r\nHost: a\r\n\r\n")
    assert client.head().status == 200
    assert client.was_cut()
    gone([pid_of(shared_place, "longer")])


def test_slow_and_steady_is_no_timeout(talk: Open, server: Daemon) -> None:
    assert talk().ask("/quick/drops").text.split() == list("123456789")


def test_a_client_that_takes_its_time_makes_the_script_wait(
    talk: Open, server: Daemon, shared_place: Place
) -> None:
    server.expect("script failed: it neither wrote nor read")
    sizes = {pid: private_memory(pid) for pid in server.workers()}
    with Talk(server, receive_buffer=4096) as client:
        client.send(b"GET /quick/large?large HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.head().status == 200
        pid = pid_of(shared_place, "large")
        for turn in range(3):  # others of the same mount have their time out meanwhile
            assert talk().ask(f"/quick/waits?clock-{turn}").status == 504
            assert alive(pid)
        assert all(private_memory(pid) - size < 6_000_000 for pid, size in sizes.items())
        body = b"".join(client.chunks())
    assert len(body) == 30_000_004
    assert body.endswith(b"\0end\n")


# How many may run (F8)


def test_four_run_four_wait_and_the_others_are_told(server: Daemon, shared_place: Place) -> None:
    server.expect("script failed: 4 scripts run and 4 wait")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Talk(server)) for _ in range(20)]
        for number, client in enumerate(clients):
            client.send(f"GET /few/waits?few-{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        told = eventually(lambda: _if(_readable(clients), 12), "12 that are told")
        for client in told:
            reply = client.reply()
            assert reply.status == 503
            assert int(reply["Retry-After"]) > 0
        assert stack.enter_context(Talk(server)).ask("/a.txt").text == "static"

        def running() -> list[int]:
            return [number for number in range(20) if marked(shared_place, f"few-{number}")]

        eventually(lambda: len(running()) == 4, "4 that run")
        assert not _readable([client for client in clients if client not in told])
        for number in range(20):
            open_gate(shared_place, f"few-{number}")
        assert all(client.reply().text == "waited\n" for client in clients if client not in told)
        assert len(running()) == 8
        assert told[0].ask("/few/plain").text == "plain\n"


def _readable(clients: list[Talk]) -> list[Talk]:
    ready = select.select([client.sock for client in clients], [], [], 0)[0]
    return [client for client in clients if client.sock in ready]


def _if(found: list[Talk], count: int) -> list[Talk]:
    return found if len(found) >= count else []


def test_who_waits_and_goes_makes_room(server: Daemon, shared_place: Place) -> None:
    for _ in range(3):  # a place that is not given back is missed at the end
        names = [f"room-{number}" for number in range(8)]
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(Talk(server)) for _ in names]
            for client, name in zip(clients, names, strict=True):
                client.send(f"GET /few/waits?{name} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            eventually(lambda names=names: sum(marked(shared_place, name) for name in names) == 4, "4 that run")
            pids = [pid_of(shared_place, name) for name in names if marked(shared_place, name)]
            for client in reversed(clients):
                client.reset()
        gone(pids)
        for name in names:
            (shared_place.path / "marks" / name).unlink(missing_ok=True)
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Talk(server)) for _ in range(8)]
        for number, client in enumerate(clients):
            open_gate(shared_place, f"after-{number}")
            client.send(f"GET /few/waits?after-{number} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert [client.reply().status for client in clients] == [200] * 8


# Answers with a catch


def test_local_redirects_have_an_end(talk: Open, server: Daemon) -> None:
    server.expect("script failed: more than 10 local redirects")
    client = talk()
    assert client.ask("/s/moves").text == "plain\n"
    for _ in range(2):
        assert client.ask("/s/loops").status == 502
    assert client.ask("/s/moves").text == "plain\n"


def test_answers_without_a_body(talk: Open, server: Daemon) -> None:
    client = talk()
    for name, status in (("plain", 200), ("short", 200), ("long", 200), ("no_content", 204), ("moves", 200)):
        assert client.ask(f"/s/{name}", method="HEAD").status == status
    reply = client.ask("/s/no_content")
    assert (reply.status, "Content-Length" in reply, "Transfer-Encoding" in reply) == (204, False, False)
    assert client.ask("/s/plain").text == "plain\n"


def test_a_length_that_is_wrong(talk: Open, server: Daemon, shared_place: Place) -> None:
    server.expect("less than its Content-Length", "more than its Content-Length", "script failed: it promised")
    client = talk()
    assert client.ask("/s/short").status == 502
    _failed(server, "/s/short", "it promised 10 bytes and sent 5")
    assert client.ask("/s/long").text == "12345"
    client = talk()
    client.send(b"GET /s/short_later?later HTTP/1.1\r\nHost: a\r\n\r\n")
    head = client.head()
    assert head["Content-Length"] == "10"
    assert client.exactly(5) == b"12345"
    client.was_cut()
    assert talk().ask("/s/plain").text == "plain\n"


def test_nph(talk: Open, server: Daemon) -> None:
    server.expect("script failed: no HTTP answer")
    reply = talk().ask("/s/nph-all")
    assert (reply.status, reply.reason, reply["X-Own"], reply.text) == (299, "Own", "1", "nph")
    assert talk().ask("/s/nph-wrong").status == 502
    _failed(server, "/s/nph-wrong", "no HTTP answer")
