"""`httpd-ctl cgi-test`: what it says is what a client would get, and it always says something."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from live.cgi.scripts import HEAD, SCRIPTS, install, mount, write
from live.daemon import PATIENCE, Daemon, Place
from live.handlers.talk import Open, entries

_WORDS = "echo last words >&2"
_SCRIPTS = SCRIPTS | {
    "silent": f"{_WORDS}; exit 1",
    "no_head": f"{_WORDS}; echo hello",
    "no_interpreter": "#!/no/such/interpreter\n",
    "crashes": f"{_WORDS}; kill -SEGV $$",
    "nph-silent": f"{_WORDS}; exit 0",
    "not_found": r"printf 'Status: 404 Not Found\nContent-Type: text/plain\n\nnothing\n'",
    "short": rf"printf 'Content-Type: text/plain\nContent-Length: 100\n\nshort'; {_WORDS}",
    "cut": r"printf 'Content-Type: text/plain\nContent-Length: 100\n\nshort'; exec sleep 0.1",
    "controls": r"i=0; while [ $i -lt 40 ]; do printf 'X-%d: %0500d\n' $i 0; i=$((i+1)); done; "
                rf"{HEAD}; head -c 8192 /dev/zero | tr '\0' '\001'",
    "letters": rf"{HEAD}; printf '\303\251 \342\202\254\n'",
    "prose": r"printf 'Content-Type: a/b\nonce upon\n\n'",
    "redirects": r"printf 'Location: /s/plain\n\n'",
    "says": rf"{HEAD}; echo $REQUEST_METHOD $CONTENT_LENGTH $HTTP_HOST $REQUEST_URI",
}  # fmt: skip
# By script: the status, how the process ended, and why there is no answer.
_FAILURES = {
    "not_executable": (403, "it was not run", "it is not executable"),
    "setuid": (403, "it was not run", "it is setuid or setgid"),
    "no_interpreter": (500, "it was not run", "it can't be started: No such file"),
    "silent": (502, "exit status 1", "it wrote nothing"),
    "no_head": (502, "exit status 0", "its output ends within the head; it begins with 'hello'"),
    "crashes": (502, "killed by SIGSEGV", "it wrote nothing"),
    "nph-silent": (502, "exit status 0", "it wrote nothing"),
    "short": (502, "exit status 0", "it promised 100 bytes and sent 5"),
    "hangs": (504, "killed by SIGTERM", "it neither wrote nor read for timeout"),
}


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    install(shared_place, _SCRIPTS)
    write(shared_place, "hangs", "exec sleep 1000")
    write(shared_place, "not_executable", "", 0o644)
    write(shared_place, "setuid", "", 0o4755)
    (shared_place.path / "cgi" / "out").symlink_to("/bin/true")
    (shared_place.path / "cgi" / "folder").mkdir(mode=0o755)
    mounts = {"/s": 'timeout = "300ms"', "/only-get": 'methods = ["GET"]'}
    text = "".join(mount(shared_place, path, lines) for path, lines in mounts.items())
    shared_daemon.expect("script failed")
    shared_daemon.configure(f'[[vhost]]\nroot = "www"\n{text}')
    return shared_daemon.start()


def probed(server: Daemon, target: str, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit status of a test, and its report."""
    done = server.ctl("--json", "--timeout", str(PATIENCE), "cgi-test", target, *options)
    return done.returncode, json.loads(done.stdout)["report"]


def refusal(server: Daemon, target: str, *options: str) -> str:
    """Why there is no test."""
    done = server.ctl("--timeout", str(PATIENCE), "cgi-test", target, *options)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


@pytest.mark.parametrize("script", _FAILURES)
def test_a_failure_is_what_the_client_gets_and_the_log_says(server: Daemon, talk: Open, script: str) -> None:
    status, ended, reason = _FAILURES[script]
    code, report = probed(server, f"/s/{script}?{script}")
    assert (code, report["status"], report["ended"]) == (1, status, ended)
    assert report["failure"].startswith(reason)
    assert 0 <= report["seconds"] < PATIENCE
    assert report["pid"] == 0 if ended == "it was not run" else report["pid"] > 0
    assert talk().ask(f"/s/{script}?{script}").status == status
    found = entries(server, rf"script failed: {re.escape(report['failure'])} script=\S+/{script} ", 2)
    assert len(found) == 2  # one for the test, one for the client


def test_a_failure_for_people(server: Daemon) -> None:
    done = server.ctl("cgi-test", "/s/silent")
    assert (done.returncode, done.stdout) == (1, "")
    lines = done.stderr.splitlines()
    assert {"status   502", "failure  it wrote nothing", "stderr", "    last words"} <= set(lines)
    assert any(re.fullmatch(r"process  exit status 1 \(pid \d+\)", line) for line in lines)
    assert any(re.fullmatch(r"time     \d+\.\d+ s", line) for line in lines)


def test_an_answer_of_whatever_status_is_one(server: Daemon) -> None:
    code, report = probed(server, "/s/not_found")
    assert (code, report["status"], report["failure"], report["body"]) == (0, 404, "", "nothing\n")
    code, report = probed(server, "/s/redirects")
    assert (code, report["failure"], report["local_redirect"]) == (0, "", "/s/plain")
    assert "status   that of /s/plain: a local redirect\n" in server.ctl("cgi-test", "/s/redirects").stdout


def test_letters_that_the_terminal_does_not_have(server: Daemon) -> None:
    done = server.ctl("cgi-test", "/s/letters", environ={"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, r"    \xe9 \u20ac")


def test_an_answer_that_is_cut_off_is_none(server: Daemon) -> None:
    code, report = probed(server, "/s/cut")
    assert (code, report["status"], report["body"]) == (1, 200, "short")
    reason = "it promised 100 bytes and sent 5, behind the beginning of its answer"
    assert (report["failure"], report["output"]) == (f"the answer is cut off: {reason}", "")


def test_output_that_is_no_answer_is_shown(server: Daemon) -> None:
    """A traceback for a browser, say, which begins with what is no head."""
    code, report = probed(server, "/s/no_head")
    assert (code, report["status"], report["output"], report["body"]) == (1, 502, "hello\n", "")
    assert "\noutput\n    hello\n" in server.ctl("cgi-test", "/s/no_head").stderr
    code, report = probed(server, "/s/prose")
    assert report["failure"].endswith("not a header line: 'once upon'; it begins with 'Content-Type: a/b'")
    assert report["output"].startswith("Content-Type: a/b\nonce upon\n")
    assert probed(server, "/s/plain")[1]["output"] == ""


def test_a_report_that_is_too_long_is_cut(server: Daemon) -> None:
    code, report = probed(server, "/s/controls")
    assert (code, report["status"], report["size"], report["cut"]) == (0, 200, 8192, ["body"])
    assert report["body"] == "\1" * len(report["body"])
    assert 1000 < len(report["body"]) < 8192
    assert "cut      body: there is more than is shown\n" in server.ctl("cgi-test", "/s/controls").stdout


def test_it_finds_scripts_as_requests_do(server: Daemon, shared_place: Place) -> None:
    host = f"127.0.0.1:{server.port}"
    assert probed(server, "/%73/say%73?x")[1]["body"] == f"GET {host} /%73/say%73?x\n"
    assert probed(server, "/s/says", "-X", "POST")[1]["body"] == f"POST 0 {host} /s/says\n"
    data = shared_place.write("data", b"four")
    assert probed(server, "/s/echo", "--data", str(data))[1]["body"] == "four"
    assert refusal(server, "/only-get/says", "-X", "POST").endswith("(405)\n")
    assert "'out' is a link that symlinks" in refusal(server, "/s/out")
    assert refusal(server, "/s/folder").endswith("it is a folder (403)\n")
    assert refusal(server, "/s/none").endswith("there is no 'none' (404)\n")
    assert refusal(server, "/static").endswith("runs no scripts\n")


def test_json_behind_the_command(server: Daemon) -> None:
    assert json.loads(server.ctl("cgi-test", "/s/plain", "--json").stdout)["report"]["status"] == 200
    assert json.loads(server.ctl("status", "--json").stdout)["code"] == 0


def test_a_url_that_no_message_carries(server: Daemon) -> None:
    assert refusal(server, f"/s/plain?{'x' * 70_000}") == "the URL is too long\n"
    assert "414" in refusal(server, f"/s/plain?{'x' * 20_000}")
    assert probed(server, "/s/plain")[0] == 0
