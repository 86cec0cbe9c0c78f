"""Warm interpreters that are slow to get ready, can't, or hang: what is said, and what goes on."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from httpd.cgi import warming
from live.cgi.scripts import install, titled
from live.daemon import Daemon, Place, eventually
from live.handlers.talk import Open, entries

_PYTHON = shutil.which("python3", path="/usr/bin:/usr/local/bin") or ""
_ANSWER = "print('Content-Type: text/plain\\n')\nprint('answered')\n"
_GOES_ON = "import sys, time\nsys.stdout.flush()\ntime.sleep(1000)\n"
pytestmark = pytest.mark.skipif(not _PYTHON, reason="there is no Python that every user may run")


@pytest.fixture
def server(daemon: Daemon) -> Daemon:
    return daemon


def _start(daemon: Daemon, place: Place, *, modules: str = "", interpreter: str = _PYTHON, more: str = "") -> Daemon:
    line = f"#!{interpreter}\n"
    texts = {"a.py": f"{line}{_ANSWER}", "long.py": f"{line}{_ANSWER}{_GOES_ON}"}
    install(place, {**texts, "b.sh": "printf 'Content-Type: a/b\\n\\nb'"})
    place.write("www/a", b"a")
    lines = f"warm_python = true\nwarm_modules = [{modules}]\nenv = {{ PYTHONPATH = '{place.path}/modules' }}\n{more}"
    daemon.configure(
        f'[[vhost]]\nroot = "www"\n[[vhost.cgi]]\npath = "/s"\nroot = "cgi"\n{lines}\n', "workers = 1"
    )
    return daemon.start()


def test_who_asks_while_it_gets_ready_waits(daemon: Daemon, place: Place, talk: Open) -> None:
    """For longer than a spawner may be silent."""
    place.write("modules/slow.py", b"import time\ntime.sleep(2.5)\n")
    (place.path / "modules").chmod(0o755)
    _start(daemon, place, modules='"slow"')
    clients = [talk() for _ in range(3)]
    for client in clients:
        client.send(b"GET /s/a.py HTTP/1.1\r\nHost: a\r\n\r\n")
    assert [client.reply().text for client in clients] == ["answered\n"] * 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('echo "/usr/lib/libnone.so: cannot open shared object file" >&2; exit 127', "cannot open shared object file"),
        ("exec sleep 0.1", ""),
    ],
)
def test_why_it_did_not_get_ready_is_told(daemon: Daemon, place: Place, talk: Open, text: str, said: str) -> None:
    place.write("bin/python3", f"#!/bin/sh\n{text}\n".encode(), 0o755)
    (place.path / "bin").chmod(0o755)
    daemon.expect("script failed: its warm interpreter")
    _start(daemon, place, interpreter=f"{place.path}/bin/python3")
    assert talk().ask("/s/a.py").status == 500
    (entry,) = entries(daemon, "script failed: its warm interpreter")
    assert said in entry and f"{place.path}/bin/python3" in entry
    assert talk().ask("/s/b.sh").text == "b"


def _interpreter(daemon: Daemon, scripts: int = 0) -> int:
    """The only one, which runs so many; the end of others has been told."""
    (spawner,) = titled(daemon, "httpd: spawner")
    (warm,) = _children(spawner)
    eventually(lambda: len(_children(warm)) == scripts, "its scripts have ended")
    return warm


def _children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_who_waits_for_one_that_hangs_is_answered_in_time(daemon: Daemon, place: Place, talk: Open) -> None:
    daemon.expect("script failed: it waited for its warm interpreter for longer than timeout")
    _start(daemon, place, more='timeout = "1s"')
    client = talk()
    assert client.ask("/s/a.py").text == "answered\n"
    os.kill(_interpreter(daemon), signal.SIGSTOP)
    assert client.ask("/s/a.py").status == 503
    assert talk().ask("/s/b.sh").text == "b"


def test_answers_of_one_that_is_killed_are_told_of(daemon: Daemon, place: Place, talk: Open) -> None:
    daemon.expect("script has ended behind the beginning of its answer", "its warm interpreter .* has ended")
    _start(daemon, place)
    client = talk()
    client.send(b"GET /s/long.py HTTP/1.1\r\nHost: a\r\n\r\n")
    client.upto(b"answered")
    os.kill(_interpreter(daemon, scripts=1), signal.SIGKILL)
    (entry,) = entries(daemon, "script has ended behind the beginning")
    assert "its warm interpreter" in entry
    assert talk().ask("/s/a.py").text == "answered\n"


def test_one_that_hangs_is_replaced(daemon: Daemon, place: Place, talk: Open) -> None:
    daemon.expect("script failed: its warm interpreter .* did not answer", "the spawner of .* did not answer")
    _start(daemon, place)
    client = talk()
    assert client.ask("/s/a.py").text == "answered\n"
    warm = _interpreter(daemon)
    os.kill(warm, signal.SIGSTOP)
    client.sock.settimeout(warming._HUNG + 20)
    assert client.ask("/s/a.py").status == 503
    assert talk().ask("/s/b.sh").text == "b"
    assert client.ask("/s/a.py").text == "answered\n"
    entries(daemon, r"\[error\] .*the spawner of vhost\[0\]\.cgi\[0\] .*: its warm interpreter '.*' has ended: ")
    eventually(lambda: not os.path.exists(f"/proc/{warm}"), "it is gone")
