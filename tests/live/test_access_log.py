"""The access log: one line per answer, in the format that was asked for, which no client can break."""

from __future__ import annotations

import json
import os
import re

import pytest

from live.client import Client, request
from live.conftest import Connect
from live.daemon import Daemon, Place, StartFailed

_STAMP = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
_SITE = '[[vhost]]\nnames = ["site"]\nroot = "www"\n'


@pytest.fixture
def files(place: Place) -> Place:
    place.write("www/a", b"12345")
    place.write("www/other/b", b"1234567")
    return place


def _started(daemon: Daemon, form: str, text: str = _SITE) -> Daemon:
    daemon.configure(text, log=f"format = {json.dumps(form)}")
    return daemon.start()


def test_common(files: Place, daemon: Daemon, connect: Connect) -> None:
    _started(daemon, "common")
    client = connect()
    client.get("/a?q=1", "Referer: r", "User-Agent: u")
    client.get("/a", method="HEAD")
    first, second = daemon.access_lines(2)
    assert re.fullmatch(rf'127\.0\.0\.1 - - {_STAMP} "GET /a\?q=1 HTTP/1\.1" 200 5', first)
    assert re.fullmatch(rf'127\.0\.0\.1 - - {_STAMP} "HEAD /a HTTP/1\.1" 200 -', second)


def test_combined_and_one_line_for_every_kind_of_answer(files: Place, daemon: Daemon, connect: Connect) -> None:
    _started(daemon, "combined")
    client = connect()
    tag = client.get("/a", "Referer: http://r/", "User-Agent: agent/1 (x)")["ETag"]
    client.get("/a", f"If-None-Match: {tag}")
    client.get("/a", "Range: bytes=1-2")
    missing = client.get("/nope")
    client.get("/other")
    client.get("/a", method="POST")
    client.send(b"nonsense\r\n\r\n").read()
    lines = daemon.access_lines(7)
    assert re.fullmatch(rf'127\.0\.0\.1 - - {_STAMP} "GET /a HTTP/1\.1" 200 5 "http://r/" "agent/1 \(x\)"', lines[0])
    assert [line.split('" ')[1].split(" ")[0] for line in lines] == ["200", "304", "206", "404", "301", "405", "400"]
    assert '" 206 2 "-" "-"' in lines[2]
    assert f'" 404 {len(missing.body)} ' in lines[3]
    assert '"nonsense" 400' in lines[6]


def test_json(files: Place, daemon: Daemon, connect: Connect) -> None:
    _started(daemon, "json")
    client = connect()
    client.send(request("/a?q", 'User-Agent: "quoted" \xff\\', host="site:80")).read()
    client.send(b"\x16\x03\x01\r\n\r\n").read()
    first, second = (json.loads(line) for line in daemon.access_lines(2))
    assert first["method"], first["status"] == ("GET", 200)
    assert (first["target"], first["bytes"], first["vhost"], first["protocol"]) == ("/a?q", 5, "site", "HTTP/1.1")
    assert first["client"] == "127.0.0.1"
    assert first["user_agent"].startswith('"quoted" ')
    assert first["duration"] >= 0
    assert second["status"] == 400


def test_a_template(files: Place, daemon: Daemon, connect: Connect) -> None:
    _started(daemon, r"%h|%m|%U|%q|%>s|%B|%O|%{User-Agent}i|%{ETag}o|%v|%p|%X|%P|%D|%%")
    answer = connect().get("/a?x=y", "User-Agent: me")
    fields = daemon.access_lines(1)[0].split("|")
    assert fields[:6] == ["127.0.0.1", "GET", "/a", "?x=y", "200", "5"]
    assert int(fields[6]) > 100
    assert fields[7:12] == ["me", answer["ETag"].replace('"', "\\x22"), "site", str(daemon.port), "+"]
    assert int(fields[12]) in daemon.workers()
    assert 0 <= int(fields[13]) < 20_000_000
    assert fields[14:] == ["%"]


@pytest.mark.parametrize("form", ["common", "combined", "json", '"%r" "%{User-Agent}i" "%{Referer}i" %U %q %V'])
def test_hostile_bytes_stay_one_line_of_printable_ascii(
    files: Place, daemon: Daemon, connect: Connect, form: str
) -> None:
    _started(daemon, form)
    hostile = [
        b'GET /a"b HTTP/1.1\r\nHost: x\r\n\r\n', b"GET /\x1b[31m HTTP/1.1\r\n\r\n", b"\x00\x01\x02\xff\r\n\r\n",
        b"GET /a\rGET /b HTTP/1.1\r\n\r\n", request("/a", 'User-Agent: " 200 5 "forged" \\ \x85\xff', "Referer: \\\""),
        request("/a", "User-Agent: tab\there", host="x"), request("/%0a%22%5c%1b"), "GET /ü HTTP/1.1\r\n\r\n".encode(),
        b"\x16\x03\x01\x02\x00\x01\x00\n", b"GET / HTTP/1.1\nHost: x\n\n",
    ]  # fmt: skip
    for data in hostile:
        connect().send(data).read()
    lines = daemon.access_lines(len(hostile))
    raw = (files.path / "access.log").read_bytes()
    assert len(lines) == len(hostile)
    assert not re.search(rb"[^\n -~]", raw)
    if form == "json":
        assert all(isinstance(json.loads(line), dict) for line in lines)


def test_a_site_or_mount_has_its_own_log_or_none(files: Place, daemon: Daemon, connect: Connect) -> None:
    text = (
        '[[vhost]]\nnames = ["a"]\nroot = "www"\n[[vhost.directory]]\npath = "/other/"\naccess_log = "other.log"\n'
        '[[vhost]]\nnames = ["b"]\nroot = "www"\naccess_log = "b.log"\n'
        '[[vhost]]\nnames = ["c"]\nroot = "www"\naccess_log = ""\n'
    )
    _started(daemon, "common", text)
    client = connect()
    for turn in range(3):  # the second and third may come from the cache
        for host, target in (("a", "/a"), ("a", "/other/b"), ("b", "/a"), ("c", "/a"), ("c", "/nope")):
            client.send(request(f"{target}?{turn}", host=host)).read()
    for name, target in (("access.log", "/a"), ("other.log", "/other/b"), ("b.log", "/a")):
        lines = daemon.access_lines(3, name)
        assert [f"GET {target}?{turn} " in line for turn, line in enumerate(lines)] == [True] * 3, name


def test_off_is_off(files: Place, daemon: Daemon, connect: Connect) -> None:
    daemon.configure(_SITE, log='access = ""')
    daemon.start()
    assert connect().get("/a").status == 200
    assert not (files.path / "access.log").exists()
    daemon.close()
    assert daemon.stdout is not None
    assert daemon.stdout.all() == []


def test_stdout(files: Place, daemon: Daemon, connect: Connect) -> None:
    daemon.configure(_SITE, log='access = "-"\nformat = "common"')
    daemon.start()
    connect().get("/a")
    assert daemon.stdout is not None
    daemon.stdout.wait(r'"GET /a HTTP/1\.1" 200 5$')


def test_an_aborted_download_shows_what_was_sent(files: Place, daemon: Daemon) -> None:
    size = 50_000_000
    with files.write("www/large").open("r+b") as file:
        file.truncate(size)
    _started(daemon, "%U %B %s %X")
    with Client(("127.0.0.1", daemon.port), receive_buffer=4096) as client:
        client.send(request("/large"))
        got = 0
        while got < 1000:  # more than the head
            got += len(client.sock.recv(1000))
    target, sent, status, keep = daemon.access_lines(1)[0].split(" ")
    assert (target, status) == ("/large", "200")
    assert 0 < int(sent) < size
    assert keep in "+-"


def test_lines_of_the_last_requests_are_not_lost_at_the_end(files: Place, daemon: Daemon, connect: Connect) -> None:
    _started(daemon, "common")
    client = connect()
    for _ in range(500):
        client.send(request("/a"))
    for _ in range(500):
        client.read()
    client.close()
    daemon.signal("TERM")
    assert daemon.wait() == 0
    assert (files.path / "access.log").read_bytes().count(b"\n") == 500


def test_a_log_that_can_not_be_opened_is_named_at_start(files: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE, log='access = "nowhere/access.log"')
    daemon.expect("nowhere")
    with pytest.raises(StartFailed, match=r"nowhere") as failed:
        daemon.start()
    assert failed.value.code in (69, 77, 78)


def test_a_full_pipe_behind_stdout_holds_nobody_up(files: Place, daemon: Daemon, connect: Connect) -> None:
    """The harness always reads; a FIFO that nobody reads stands for a log shipper that hangs."""
    fifo = files.path / "pipe"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    daemon.expect("log lines were lost")
    try:
        daemon.configure(_SITE, log='access = "pipe"')
        daemon.start()
        client = connect()
        for _ in range(40):
            client.send(request("/a", "User-Agent: " + "u" * 1000) * 100)
            for _ in range(100):
                assert client.read().status == 200
    finally:
        os.close(reader)
