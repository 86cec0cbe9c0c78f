"""`python -m httpd.server`: what it prints, what it takes, how it ends."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import httpd.server
from httpd.server import command
from unit.server.wire import LIMIT

HERE = Path(__file__).parents[3]


def start(*arguments: str, folder: Path | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "httpd.server", *arguments], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(HERE / "daemon")},
    )  # fmt: skip


def failing(*arguments: str) -> tuple[str, str, int]:
    """What is printed, to stdout and to stderr, and the exit code."""
    with start(*arguments) as process:
        try:
            return *process.communicate(timeout=LIMIT), process.returncode
        finally:
            process.kill()


@contextmanager
def serving(*arguments: str, folder: Path | None = None) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A running command, and its URL."""
    process = start("0", "-b", "127.0.0.1", *arguments, folder=folder)
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            match = re.fullmatch(r"Serving HTTP on 127.0.0.1 port (\d+) \((http://127.0.0.1:\1/)\) \.\.\.\n", line)
            assert match is not None, line + process.communicate(timeout=LIMIT)[1]
            yield process, match[2]
        finally:
            process.kill()


@pytest.fixture
def heeded() -> Iterator[None]:
    """What is started meanwhile heeds SIGINT.  A shell without job control has what it starts with "&" ignore it, which
    is inherited, and Python leaves it so: as with http.server, ^C is meant for the foreground alone."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_it_serves_until_interrupted(tmp_path: Path) -> None:
    (tmp_path / "file.txt").write_text("a file")
    with serving(folder=tmp_path) as (process, url):
        with urllib.request.urlopen(url + "file.txt", timeout=LIMIT) as answer:
            assert (answer.read(), answer.version) == (b"a file", 10)
        process.send_signal(signal.SIGINT)
        out, log = process.communicate(timeout=LIMIT)
        assert (out, process.returncode) == ("\nKeyboard interrupt received, exiting.\n", 0)
        assert re.fullmatch(r'127\.0\.0\.1 - - \[[^]]+\] "GET /file.txt HTTP/1.1" 200 -\n', log)


def test_its_options(tmp_path: Path) -> None:
    (tmp_path / "file.unknown").write_text("a file")
    options = ["-p", "HTTP/1.1", "-H", "X-A: 1", "--header", "X-B:2", "--content-type", "a/b", "--cgi"]
    with serving("-d", str(tmp_path), *options) as (_, url):
        with urllib.request.urlopen(url + "file.unknown", timeout=LIMIT) as answer:
            assert answer.version == 11
            assert [answer.headers[name] for name in ("X-A", "X-B", "Content-type")] == ["1", "2", "a/b"]
        with pytest.raises(urllib.error.HTTPError, match="404: No such CGI script") as caught:
            urllib.request.urlopen(url + "cgi-bin/x", timeout=LIMIT)
        caught.value.close()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["70000"], 2, "error: port 70000 is not between 0 and 65535"),
        (["x"], 2, "argument port: invalid int value: 'x'"),
        (["-H", "no colon"], 2, "argument -H/--header: 'no colon' is not \"Name: value\""),
        (["-H", "A: b\nC: d"], 2, "is not \"Name: value\""),
        (["--tls-key", "x"], 2, "--tls-key needs --tls-cert"),
        (["--tls-password-file", "x"], 2, "--tls-password-file needs --tls-cert"),
        (["--tls-cert", "c", "--tls-password-file", "/nonexistent"], 2,
         "can't read the password file /nonexistent: No such file or directory"),
        (["0", "--tls-cert", "/nonexistent"], 1, "httpd.server: /nonexistent: No such file or directory"),
        (["0", "-b", "host.invalid"], 1, "httpd.server: host.invalid, port 0: "),
    ],
)  # fmt: skip
def test_mistakes(arguments: list[str], code: int, message: str) -> None:
    out, err, returned = failing(*arguments)
    assert (out, returned) == ("", code)
    assert message in err
    assert "Traceback" not in err


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = failing(str(port), "-b", "127.0.0.1")
    assert done == ("", f"httpd.server: 127.0.0.1, port {port}: Address already in use\n", 1)


# test()


def fake_server(host: str = "::", port: int = 8000) -> Any:
    made = mock.MagicMock()
    made.return_value.__enter__.return_value.socket.getsockname = lambda: (host, port, 0, 0)
    return made


def test_test_sets_what_it_has_to_on_the_classes(capsys: pytest.CaptureFixture[str]) -> None:
    class Handler(httpd.server.BaseHTTPRequestHandler):
        pass

    server = fake_server()
    httpd.server.test(Handler, server, "HTTP/1.1", 8000, "127.0.0.1")
    assert (server.address_family, Handler.protocol_version) == (socket.AF_INET, "HTTP/1.1")
    server.assert_called_once_with(("127.0.0.1", 8000), Handler)
    assert capsys.readouterr().out == "Serving HTTP on :: port 8000 (http://[::]:8000/) ...\n"


def test_test_with_tls(capsys: pytest.CaptureFixture[str]) -> None:
    class Handler(httpd.server.BaseHTTPRequestHandler):
        pass

    server = fake_server("127.0.0.1", 1)
    httpd.server.test(Handler, server, bind="127.0.0.1", tls_cert="c", tls_key="k", tls_password="p")
    server.assert_called_once_with(("127.0.0.1", 8000), Handler, certfile="c", keyfile="k", password="p")
    assert capsys.readouterr().out == "Serving HTTPS on 127.0.0.1 port 1 (https://127.0.0.1:1/) ...\n"


def test_main_leaves_the_classes_as_they_are() -> None:
    before = httpd.server.SimpleHTTPRequestHandler.default_content_type
    with mock.patch.object(command, "test") as called:
        command.main(["--content-type", "x/y"])
    assert called.call_args.args[0].default_content_type == "x/y"
    assert httpd.server.SimpleHTTPRequestHandler.default_content_type == before
