"""`CGIHTTPRequestHandler` runs scripts: real ones, by /bin/sh, in a folder that every user can enter."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from httpd.server import CGIHTTPRequestHandler, HTTPServer, run_cgi, run_ends, run_process
from unit.server.wire import ask, statuses

FINE = "printf 'Content-Type: text/plain\\n\\n'; "  # the head of an answer, in a script
ON = "while :; do sleep 0.1; done"  # for ever


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
    assert Handler.entries == ['"GET /cgi-bin/nph-x HTTP/1.0" 299 -']


@pytest.mark.parametrize(
    ("script", "logged"),
    [("printf HTTP/1.1; sleep 0.1; printf ' 201 A'", "201"), ("echo no answer at all", "-"), ("printf HTTP/1.0", "-")],
)
def test_the_status_of_such_an_answer_is_logged_once(root: Path, script: str, logged: str) -> None:
    write(root, "nph-x", script)
    assert ask(Handler, b"GET /cgi-bin/nph-x HTTP/1.0\r\n\r\n", directory=root)
    assert Handler.entries == [f'"GET /cgi-bin/nph-x HTTP/1.0" {logged} -']


@pytest.mark.parametrize(
    ("script", "status", "entry"),
    [
        ("echo no header; echo; exit 3", 502, "not a header line"),
        ("printf 'Content-Type: text/plain'", 502, "within the head"),
        (":", 502, "it wrote nothing"),
        ("exec >&-; sleep 0.2", 502, "it wrote nothing"),
    ],
)
def test_no_answer(root: Path, script: str, status: int, entry: str) -> None:
    write(root, "x", script)
    assert run(root, "GET /cgi-bin/x")[0].startswith(f"HTTP/1.0 {status}")
    assert any(entry in line for line in Handler.entries)


def test_no_answer_of_a_script_that_was_to_write_the_whole(root: Path) -> None:
    write(root, "nph-x", "exit 1")
    assert run(root, "GET /cgi-bin/nph-x")[0].startswith("HTTP/1.0 502")
    assert any("it wrote nothing" in line for line in Handler.entries)


def test_an_answer_before_it_on_the_connection_changes_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "protocol_version", "HTTP/1.1")
    monkeypatch.setattr(run_cgi, "_REDIRECTS", 2)
    write(root, "x", f"printf 'Content-Length: 0\\n'; {FINE}")
    write(root, "local", "printf 'Location: /cgi-bin/x\\n\\n'")
    write(root, "none", "")
    (root / "cgi-bin" / "none").write_text("#!/no/such/interpreter\n")
    names = ["local", "local", "local", "x", "none"]
    requests = b"".join(f"GET /cgi-bin/{name} HTTP/1.1\r\nHost: h\r\n\r\n".encode() for name in names)
    assert statuses(ask(Handler, requests, directory=root)) == [200, 200, 200, 200, 500]


def test_a_script_that_hangs_is_ended(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "cgi_timeout", 0.3)
    write(root, "x", "echo $$ >&2; trap '' TERM; while :; do sleep 0.1; done")
    assert run(root, "GET /cgi-bin/x")[0].startswith("HTTP/1.0 504")
    pid = next(line.rpartition(" ")[2] for line in Handler.entries if "stderr" in line)
    assert not os.path.exists(f"/proc/{pid}")


@pytest.mark.parametrize("trap", ["", "trap '' TERM; "], ids=["of TERM", "of KILL"])
@pytest.mark.parametrize(
    ("script", "status"), [("", "502 Bad Gateway"), (f"{FINE}printf hello; ", "200 OK")], ids=["mute", "answered"]
)
def test_a_script_that_closes_its_output_and_goes_on_is_ended(
    root: Path, monkeypatch: pytest.MonkeyPatch, script: str, status: str, trap: str
) -> None:
    monkeypatch.setattr(Handler, "cgi_timeout", 0.3)
    monkeypatch.setattr(run_process, "GRACE", 0.3)
    write(root, "x", f"echo $$ >&2; {trap}{script}exec >&-; {ON}")
    began = time.monotonic()
    assert run(root, "GET /cgi-bin/x")[0] == f"HTTP/1.0 {status}"
    assert time.monotonic() - began < 5
    pid = next(line.rpartition(" ")[2] for line in Handler.entries if "stderr" in line)
    assert not os.path.exists(f"/proc/{pid}")
    assert any("it closed its output, but it did not end in 0.3 s" in line for line in Handler.entries)


CHUNKS = "printf 'Content-Type: a/b\\nTransfer-Encoding: chunked\\n\\n5\\r\\nhello\\r\\n'; "
LAST = "printf '0\\r\\n\\r\\n'; "


def test_a_body_in_chunks_is_put_together(root: Path) -> None:
    write(root, "x", f"{CHUNKS}sleep 0.05; printf '1\\r\\n!\\r\\n0\\r\\n\\r\\n'")
    _, fields, body = run(root, "GET /cgi-bin/x")
    assert body == b"hello!" and "transfer-encoding" not in fields
    assert run(root, "HEAD /cgi-bin/x")[2] == b""
    assert not [line for line in Handler.entries if "CGI script" in line]


@pytest.mark.parametrize(
    ("more", "reason"), [("", "its last chunk did not come"), ("printf 'no chunk\\r\\n'", "its body is not in chunks")]
)
def test_chunks_that_are_none(root: Path, more: str, reason: str) -> None:
    write(root, "x", f"{CHUNKS}sleep 0.05; {more}")
    with contextlib.suppress(ConnectionResetError):  # which may overtake what was sent
        assert run(root, "GET /cgi-bin/x")[2] == b"hello"
    assert any(reason in line for line in Handler.entries)


TICKS = "while :; do echo tick; sleep 0.02; done"
LENGTH = "printf 'Content-Type: a/b\\nContent-Length: 5\\n\\nwhole'; "


@pytest.mark.parametrize(
    ("method", "script", "body"),
    [
        ("HEAD", FINE, b""), ("GET", LENGTH, b"whole"), ("GET", CHUNKS + LAST, b"hello"),
        ("GET", "printf 'Status: 204 No Content\\n\\n'; ", b""),
    ],
)
def test_a_script_that_goes_on_writing_behind_its_answer_is_ended(
    root: Path, monkeypatch: pytest.MonkeyPatch, method: str, script: str, body: bytes
) -> None:
    monkeypatch.setattr(Handler, "cgi_timeout", 0.3)
    write(root, "x", f"echo $$ >&2; {script}{TICKS}")
    assert run(root, f"{method} /cgi-bin/x")[2] == body
    pid = next(line.rpartition(" ")[2] for line in Handler.entries if "stderr" in line)
    assert not os.path.exists(f"/proc/{pid}")
    assert any("its answer is over, but it did not end in 0.3 s" in line for line in Handler.entries)


def test_a_script_that_floods_behind_its_answer_is_ended_by_its_writing(root: Path) -> None:
    write(root, "x", f"{LENGTH}exec cat /dev/zero")
    assert run(root, "GET /cgi-bin/x")[2] == b"whole"
    assert not [line for line in Handler.entries if "did not end" in line]


def test_a_script_that_writes_some_more_is_not(root: Path) -> None:
    write(root, "x", f"{LENGTH}head -c 200000 /dev/zero; echo the end >&2")
    assert run(root, "GET /cgi-bin/x")[2] == b"whole"
    assert any("stderr: the end" in line for line in Handler.entries)


@pytest.mark.parametrize("version", ["HTTP/1.0", "HTTP/1.1"])
@pytest.mark.parametrize("buffer", [0, -1])
def test_an_answer_that_stops_halfway_does_not_look_whole(
    root: Path, monkeypatch: pytest.MonkeyPatch, version: str, buffer: int
) -> None:
    class Here(Handler):
        cgi_timeout = 0.3
        protocol_version = version
        wbufsize = buffer

        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=root)

    write(root, "x", f"{FINE}printf hello; {ON}")
    with HTTPServer(("127.0.0.1", 0), Here) as server, socket.create_connection(server.server_address) as client:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        client.sendall(b"GET /cgi-bin/x HTTP/1.1\r\nHost: h\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            while client.recv(1000):
                pass
        thread.join()
    assert any("it wrote nothing for 0.3 s" in line for line in Handler.entries)


def test_a_script_that_closes_its_output_is_waited_for(root: Path) -> None:
    write(root, "x", f"{FINE}exec >&-; sleep 0.3; echo last words >&2")
    assert run(root, "GET /cgi-bin/x")[0] == "HTTP/1.0 200 OK"
    assert any("stderr: last words" in line for line in Handler.entries)


@pytest.mark.parametrize("error", [BrokenPipeError, ConnectionResetError, RuntimeError])
def test_an_answer_that_fails_leaves_no_script(root: Path, error: type[Exception]) -> None:
    class Failing(Handler):
        def send_response(self, *arguments: Any) -> None:
            raise error

        def handle(self) -> None:
            with contextlib.suppress(RuntimeError):
                super().handle()

    write(root, "x", f"echo $$ >&2; sleep 0.1; {FINE}{ON}")
    assert ask(Failing, b"GET /cgi-bin/x HTTP/1.0\r\n\r\n", directory=root) == b""
    pid = next(line.rpartition(" ")[2] for line in Handler.entries if "stderr" in line)
    assert not os.path.exists(f"/proc/{pid}")


def test_a_missing_interpreter(root: Path) -> None:
    write(root, "x", "")
    (root / "cgi-bin" / "x").write_text("#!/no/such/interpreter\n")
    assert run(root, "GET /cgi-bin/x")[0].startswith("HTTP/1.0 500")
    assert any("/no/such/interpreter" in line for line in Handler.entries)


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("/%3F%E2%82%AC?x", ["PATH_INFO=/?€", "QUERY_STRING=x"]),
        ("/a%3Fb", ["PATH_INFO=/a?b", "QUERY_STRING="]),
        ("/%23%2541/b", ["PATH_INFO=/#%41/b", "QUERY_STRING="]),
        ("/?x%3F?\xff%00", ["PATH_INFO=/", "QUERY_STRING=x%3F?\udcff%00"]),
        ("/%FF%ED%A0%80", ["PATH_INFO=/\udcff\udced\udca0\udc80", "QUERY_STRING="]),
        ("/%0A", ["PATH_INFO=/", "QUERY_STRING="]),
    ],
)
def test_any_path_and_query(root: Path, target: str, told: list[str]) -> None:
    write(root, "x", f"{FINE}env")
    raw = ask(Handler, f"GET /cgi-bin/x{target} HTTP/1.0\r\n\r\n".encode("latin-1"), directory=root)
    assert statuses(raw) == [200]
    assert set(told) <= set(os.fsdecode(raw).split("\n"))


@pytest.mark.parametrize("target", ["/cgi-bin/x/a%00b", "/cgi-bin/x?a\0b", "/cgi-bin/x?a=\0"])
def test_nul_is_refused(root: Path, target: str) -> None:
    write(root, "x", FINE)
    assert statuses(ask(Handler, f"GET {target} HTTP/1.0\r\n\r\n".encode(), directory=root)) == [400]


@pytest.mark.parametrize("target", ["/cgi-bin/%E2%82%AC", "/cgi-bin/%FF", "/cgi-bin/x%00", "/cgi-bin/%0D%0AX:%20y"])
def test_any_name(root: Path, target: str) -> None:
    status, fields, _ = run(root, f"GET {target}")
    assert status.startswith("HTTP/1.0 404 No such CGI script (")
    assert "x" not in fields


def test_a_name_that_is_not_utf_8(root: Path) -> None:
    write(root, "\udcff", f"{FINE}printf $SCRIPT_NAME")
    assert run(root, "GET /cgi-bin/%FF")[::2] == ("HTTP/1.0 200 OK", b"/cgi-bin/\xff")


def test_a_handler_may_set_any_path(root: Path) -> None:
    class Rewriting(Handler):
        def do_GET(self) -> None:
            self.path = "/cgi-bin/x/€?€"
            super().do_GET()

    write(root, "x", f"{FINE}printf $PATH_INFO$QUERY_STRING$REQUEST_URI")
    raw = ask(Rewriting, b"GET / HTTP/1.0\r\n\r\n", directory=root)
    assert raw.endswith("/€€/cgi-bin/x/€?€".encode())


def test_any_field(root: Path) -> None:
    write(root, "x", f"{FINE}printf $HTTP_X_A$CONTENT_TYPE$HTTP_ACCEPT")
    fields = b"X-A: \x80\xff\r\nContent-Type: \xe9\r\nAccept: \xa4\r\n\r\n"
    raw = ask(Handler, b"GET /cgi-bin/x HTTP/1.0\r\n" + fields, directory=root)
    assert raw.endswith(b"\r\n\r\n\x80\xff\xe9\xa4")


@pytest.mark.parametrize(
    "fields",
    [b"".join(b"X-%d: %b\r\n" % (number, b"a" * 65000) for number in range(60)), (b"X: %b\r\n" % (b"a" * 65000)) * 3],
    ids=["all", "one"],
)
def test_more_than_a_program_can_be_told(root: Path, fields: bytes) -> None:
    write(root, "x", FINE)
    raw = ask(Handler, b"GET /cgi-bin/x HTTP/1.0\r\n" + fields + b"\r\n", directory=root)
    assert statuses(raw) == [500]
    assert any("Argument list too long" in line for line in Handler.entries)


def test_http_0_9(root: Path) -> None:
    write(root, "x", f"{FINE}printf $SERVER_PROTOCOL")
    assert ask(Handler, b"GET /cgi-bin/x\r\n", directory=root) == b"HTTP/1.0"


def test_a_script_that_vanishes(root: Path) -> None:
    class Late(Handler):
        def is_executable(self, path: str) -> bool:
            os.unlink(path)
            return True

    write(root, "x", FINE)
    assert statuses(ask(Late, b"GET /cgi-bin/x HTTP/1.0\r\n\r\n", directory=root)) == [500]
    assert any("No such file" in line for line in Handler.entries)


def test_a_body_that_can_not_be_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root, "x", FINE)
    body = b"Content-Length: 1\r\n\r\na"
    with monkeypatch.context() as patch, open("/dev/full", "wb", buffering=0) as full:
        patch.setattr(run_ends.tempfile, "TemporaryFile", lambda **_: full)
        assert run(root, "POST /cgi-bin/x", body)[0].startswith("HTTP/1.0 500")
    assert any("its body can't be kept: [Errno 28]" in line for line in Handler.entries)
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    assert run(root, "POST /cgi-bin/x", body)[0].startswith("HTTP/1.0 500")
    assert any("there is no file for its body" in line for line in Handler.entries)


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
