"""`SimpleHTTPRequestHandler` on a directory mount: whose folder it serves, and whether the mount answers for it."""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import pytest

from httpd.config import schema
from httpd.content.static import DirectoryMount
from httpd.server import SimpleHTTPRequestHandler
from httpd.server.exchange import Exchange

HEADERS = {"X-Mount": "yes"}


class Mount:
    """A mount with a directory."""

    extra_fields: tuple[Any, ...] = ()
    prefix = b""

    def __init__(self, root: Path) -> None:
        settings = schema.Settings(headers=HEADERS, listing=True, types={".own": "text/x-own"})
        self.directory = DirectoryMount(schema.Directory("/", "k", settings, root=str(root)), None)
        self.pages: list[int] = []

    def add_page(self, response: Any) -> None:
        self.pages.append(response.status)
        response.body = b"the page"


class Driver:
    def push(self, exchange: Exchange) -> None: ...
    def take_over(self, exchange: Exchange) -> Any: ...
    def ask_socket(self, exchange: Exchange, name: str, arguments: Any) -> Any: ...
    def failed(self, exchange: Exchange, error: BaseException) -> None: ...


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "file.own").write_bytes(b"of the mount")
    (tmp_path / "file.txt").write_bytes(b"0123456789")
    (tmp_path / "sub").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file.txt").write_bytes(b"elsewhere")
    return tmp_path


def ask(kind: Any, mount: Any, path: str, *fields: str, **options: Any) -> tuple[str, bytes, bytes]:
    """Status line, head and body."""
    line = f"GET {path} HTTP/1.1".encode()
    head = line + b"\r\nHost: a\r\n" + "".join(f"{field}\r\n" for field in fields).encode() + b"\r\n"
    exchange = Exchange(Driver(), mount, head, len(head), line, path)
    kind(exchange, ("192.0.2.1", 7), None, **options)
    exchange.wfile.finish()
    whole = b""
    for part in exchange.wfile.queue:
        if isinstance(part, bytes):
            whole += part
        else:
            whole += os.pread(part.fd, part.length, part.offset)
            os.close(part.fd)
    status, _, rest = whole.partition(b"\r\n")
    fields_sent, _, body = rest.partition(b"\r\n\r\n")
    return status.decode(), fields_sent, body


def test_without_a_folder_it_has_the_mount_s(root: Path) -> None:
    status, head, body = ask(Handler, Mount(root), "/file.own")
    assert (status, body) == ("HTTP/1.1 200 OK", b"of the mount")
    assert b"Content-Type: text/x-own" in head
    assert b"X-Mount: yes" in head
    assert b"ETag: " in head


def test_another_folder_is_its_own_business(root: Path) -> None:
    status, head, body = ask(Handler, Mount(root), "/file.txt", directory=root / "other")
    assert (status, body) == ("HTTP/1.1 200 OK", b"elsewhere")
    assert b"X-Mount" not in head
    assert b"ETag" not in head


def test_without_a_mount_it_is_the_current_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain:
        directory = None
        extra_fields = ()

    monkeypatch.chdir(root)
    assert ask(Handler, Plain(), "/file.txt")[2] == b"0123456789"


@pytest.mark.parametrize("name", ["translate_path", "index_pages", "extensions_map"])
def test_with_an_idea_of_its_own_where_files_are(root: Path, name: str) -> None:
    translate = functools.partialmethod(SimpleHTTPRequestHandler.translate_path)
    changed: dict[str, Any] = {
        "translate_path": translate, "index_pages": ("more.html",), "extensions_map": {".x": "text/x"}
    }  # fmt: skip
    kind = type("Own", (Handler,), {name: changed[name]})
    status, head, _ = ask(kind, Mount(root), "/file.txt")
    assert status == "HTTP/1.1 200 OK"
    assert b"ETag" not in head


def test_ranges_and_conditions_are_the_mount_s(root: Path) -> None:
    mount = Mount(root)
    status, head, body = ask(Handler, mount, "/file.txt", "Range: bytes=2-4")
    assert (status, body) == ("HTTP/1.1 206 Partial Content", b"234")
    tag = head.partition(b"ETag: ")[2].partition(b"\r")[0].decode()
    status, head, body = ask(Handler, mount, "/file.txt", f"If-None-Match: {tag}")
    assert (status, body) == ("HTTP/1.1 304 Not Modified", b"")
    assert b"Content-Length" not in head


def test_errors_get_the_mount_s_page_or_the_class_s(root: Path) -> None:
    class Own(Handler):
        def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
            self.send_response(code)
            self.send_header("Content-Length", "3")
            self.end_headers()
            self.wfile.write(b"own")

    mount = Mount(root)
    assert ask(Handler, mount, "/nothing")[::2] == ("HTTP/1.1 404 Not Found", b"the page")
    assert ask(Own, mount, "/nothing")[::2] == ("HTTP/1.1 404 Not Found", b"own")
    assert mount.pages == [404]


def test_a_type_or_a_listing_of_its_own(root: Path) -> None:
    class Own(Handler):
        def guess_type(self, path: Any) -> str:
            return "text/x-guessed"

        def list_directory(self, path: Any) -> Any:
            self.send_response(200)
            self.send_header("Content-Length", "6")
            self.end_headers()
            self.wfile.write(b"listed")

    assert b"Content-Type: text/x-guessed" in ask(Own, Mount(root), "/file.txt")[1]
    assert ask(Own, Mount(root), "/sub/")[2] == b"listed"
    assert ask(Handler, Mount(root), "/sub/")[2].startswith(b"<!DOCTYPE html>")


def test_a_path_that_is_none(root: Path) -> None:
    for path in ("/../x", "/%zz", "/a%00b"):
        assert ask(Handler, Mount(root), path)[0] == "HTTP/1.1 400 Bad Request"


def test_the_name_of_the_server_is_the_daemon_s_unless_chosen(root: Path) -> None:
    class Named(Handler):
        server_version = "Mine/1"

    assert b"Server: httpd\r\n" in ask(Handler, Mount(root), "/file.txt")[1]
    assert b"Server: Mine/1 Python" in ask(Named, Mount(root), "/file.txt")[1]
