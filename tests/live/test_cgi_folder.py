"""`httpd FOLDER --cgi`: the programs of two folders run, and the source of none is sent."""

from __future__ import annotations

import re

import pytest

from live.client import Client
from live.daemon import Daemon, Place, run_httpd

_SCRIPT = b"#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; echo ran $PATH_INFO\n"


@pytest.fixture
def port(place: Place, daemon: Daemon) -> int:
    daemon.expect("^Serving ")
    place.write("www/a.txt", b"a file")
    place.write("www/cgi-bin/run", _SCRIPT, 0o755)
    for folder in (place.path, place.www, place.www / "cgi-bin"):
        folder.chmod(0o755)
    daemon.spawn("www", "--cgi", "-l", "127.0.0.1:0")
    assert daemon.stderr is not None
    return int(re.findall(r"127\.0\.0\.1:(\d+)", daemon.stderr.wait("^Serving "))[0])


def test_programs_run_and_files_are_sent(port: int) -> None:
    with Client(("127.0.0.1", port)) as client:
        assert client.get("/a.txt").body == b"a file"
        assert client.get("/cgi-bin/run/more").body == b"ran /more\n"
        assert client.get(f"http://127.0.0.1:{port}/cgi-bin/run").body == b"ran\n"
        assert b'href="cgi-bin/"' in client.get("/").body
        assert client.get("/cgi-bin/").status == 403


def test_a_folder_that_is_made_later_is_one_of_scripts(port: int, place: Place) -> None:
    with Client(("127.0.0.1", port)) as client:
        assert client.get("/htbin/run").status == 404
        place.write("www/htbin/run", _SCRIPT, 0o755)
        (place.www / "htbin").chmod(0o755)
        assert client.get("/htbin/run").body == b"ran\n"
        assert client.get("/htbin/").status == 403


def test_a_folder_without_programs_or_none_at_all(place: Place) -> None:
    place.write("www/a.txt", b"a file")
    done = run_httpd("www", "--cgi", cwd=place.path)
    assert done.returncode == 78
    assert "has no folder 'cgi-bin' or 'htbin'; make one" in done.stderr
    done = run_httpd("nothing", "--cgi", cwd=place.path)
    assert done.returncode == 78
    assert "nothing' does not exist" in done.stderr
    assert "cgi-bin" not in done.stderr
