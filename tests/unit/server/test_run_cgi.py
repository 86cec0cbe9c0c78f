"""`CGIHTTPRequestHandler` runs scripts: real ones, by /bin/sh, in a folder that every user can enter."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from httpd.server import CGIHTTPRequestHandler
from unit.server.wire import ask


class Handler(CGIHTTPRequestHandler):
    cgi_timeout = 10.0
    entries: list[str] = []  # noqa: RUF012 - emptied by the fixture

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        self.entries.append(format % args)


@pytest.fixture
def root() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="httpd-cgi-"))
    folder.chmod(0o755)
    (folder / "cgi-bin").mkdir(mode=0o755)
    Handler.entries.clear()
    yield folder
    shutil.rmtree(folder)


def write(root: Path, name: str, body: str) -> None:
    file = root / "cgi-bin" / name
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)


def run(root: Path, request: str, body: bytes = b"", version: str = "1.0") -> tuple[str, dict[str, str], bytes]:
    """Status line, fields by lower-case name, and body."""
    raw = ask(Handler, f"{request} HTTP/{version}\r\n".encode() + (b"" if b"\r\n\r\n" in body else b"\r\n") + body,
              directory=root)  # fmt: skip
    head, _, rest = raw.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return status, {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}, rest


def test_the_answer_is_the_scripts(root: Path) -> None:
    write(root, "x", "printf 'Status: 418 Teapot\\nX-A: b\\nContent-Type: text/plain\\n\\nhello'")
    status, fields, body = run(root, "GET /cgi-bin/x")
    assert (status, fields["x-a"], body) == ("HTTP/1.0 418 Teapot", "b", b"hello")


def test_what_it_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "not for scripts")
    write(root, "x", "printf 'Content-Type: text/plain\\n\\n'; env; echo ARGS $*; pwd; id -u")
    fields = b"Accept: a/b\r\nAccept: c/d\r\nProxy: evil\r\nAuthorization: Basic YQ==\r\nX-A: 1\r\nHost: h:80\r\n\r\n"
    _, _, body = run(root, "GET /cgi-bin/x/in/fo?a+b%20c", fields)
    lines = body.decode().splitlines()
    wanted = {
        "PATH_INFO=/in/fo", "QUERY_STRING=a+b%20c", "SCRIPT_NAME=/cgi-bin/x", "REQUEST_METHOD=GET", "HTTP_X_A=1",
        "HTTP_ACCEPT=a/b,c/d", "SERVER_NAME=h", "GATEWAY_INTERFACE=CGI/1.1", "ARGS a b c", str(root / "cgi-bin"),
    }  # fmt: skip
    assert wanted <= set(lines)
    unwanted = ("SECRET", "HTTP_PROXY", "HTTP_AUTHORIZATION", "REMOTE_USER")
    assert not [line for line in lines if line.startswith(unwanted)]
    assert lines[-1] != "0"


def test_a_body(root: Path) -> None:
    write(root, "x", "printf 'Content-Type: text/plain\\n\\n'; echo $CONTENT_LENGTH; cat")
    status, _, body = run(root, "POST /cgi-bin/x", b"Content-Length: 5\r\n\r\nhellorest")
    assert (status, body) == ("HTTP/1.0 200 OK", b"5\nhello")
    status, _, _ = run(root, "POST /cgi-bin/x", b"Content-Length: 50\r\n\r\nshort")
    assert status.startswith("HTTP/1.0 400")


def test_redirects(root: Path) -> None:
    (root / "file").write_text("a file")
    write(root, "local", "printf 'Location: /file\\n\\n'")
    write(root, "away", "printf 'Location: http://elsewhere/\\n\\n'")
    write(root, "loop", "printf 'Location: /cgi-bin/loop\\n\\n'")
    assert run(root, "GET /cgi-bin/local")[::2] == ("HTTP/1.0 200 OK", b"a file")
    status, fields, _ = run(root, "GET /cgi-bin/away")
    assert (status, fields["location"]) == ("HTTP/1.0 302 Found", "http://elsewhere/")
    assert run(root, "GET /cgi-bin/loop")[0].startswith("HTTP/1.0 502")


def test_a_script_that_writes_the_whole_answer(root: Path) -> None:
    write(root, "nph-x", "printf 'HTTP/1.0 299 Mine\\r\\n\\r\\nbody'")
    assert run(root, "GET /cgi-bin/nph-x") == ("HTTP/1.0 299 Mine", {}, b"body")


@pytest.mark.parametrize(
    ("script", "status", "entry"),
    [
        ("echo no header; echo; exit 3", 502, "not a header line"),
        ("printf 'Content-Type: text/plain'", 502, "within the head"),
        (":", 502, "it wrote nothing"),
    ],
)
def test_no_answer(root: Path, script: str, status: int, entry: str) -> None:
    write(root, "x", script)
    assert run(root, "GET /cgi-bin/x")[0].startswith(f"HTTP/1.0 {status}")
    assert any(entry in line for line in Handler.entries)


def test_a_script_that_hangs_is_ended(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "cgi_timeout", 0.3)
    write(root, "x", "echo $$ >&2; trap '' TERM; while :; do sleep 0.1; done")
    assert run(root, "GET /cgi-bin/x")[0].startswith("HTTP/1.0 504")
    pid = next(line.rpartition(" ")[2] for line in Handler.entries if "stderr" in line)
    assert not os.path.exists(f"/proc/{pid}")


def test_a_missing_interpreter(root: Path) -> None:
    write(root, "x", "")
    (root / "cgi-bin" / "x").write_text("#!/no/such/interpreter\n")
    assert run(root, "GET /cgi-bin/x")[0].startswith("HTTP/1.0 500")
    assert any("/no/such/interpreter" in line for line in Handler.entries)


def test_head_and_statuses_without_a_body(root: Path) -> None:
    write(root, "x", "printf 'Content-Type: text/plain\\nContent-Length: 5\\n\\nhello'")
    write(root, "empty", "printf 'Status: 204\\n\\nhello'")
    status, fields, body = run(root, "HEAD /cgi-bin/x")
    assert (status, fields["content-length"], body) == ("HTTP/1.0 200 OK", "5", b"")
    assert run(root, "GET /cgi-bin/empty")[::2] == ("HTTP/1.0 204 No Content", b"")


def test_stderr_is_logged(root: Path) -> None:
    write(root, "x", "echo a complaint >&2; printf 'Content-Type: text/plain\\n\\n'")
    assert run(root, "GET /cgi-bin/x")[0] == "HTTP/1.0 200 OK"
    assert any("stderr: a complaint" in line for line in Handler.entries)
