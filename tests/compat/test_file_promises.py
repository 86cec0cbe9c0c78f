"""What http.server promises of `SimpleHTTPRequestHandler` and `CGIHTTPRequestHandler`, asked of both libraries."""

from __future__ import annotations

import functools
import http.server
import io
import os
import shutil
import socket
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import httpd.server
from compat.playing import get, quiet, split

DATE = "Sun, 13 Sep 2020 12:26:40 GMT"


@pytest.fixture(params=[http.server, httpd.server], ids=lambda module: module.__name__)
def lib(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setattr(socket, "getfqdn", lambda name="": name)  # http.server asks name servers
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_bytes(b"some text")
    os.utime(tmp_path / "a.txt", (1_600_000_000, 1_600_000_000))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.html").touch()
    (tmp_path / "indexed").mkdir()
    (tmp_path / "indexed" / "index.html").write_text("index")
    (tmp_path / "cgi-bin" / "folder").mkdir(parents=True)
    (tmp_path / "cgi-bin" / "plain").touch(0o644)
    return tmp_path


def ask(lib: Any, root: Any, path: str, *fields: str, **options: Any) -> tuple[str, list[str], bytes]:
    kind = options.pop("handler", None) or quiet(lib, "SimpleHTTPRequestHandler")
    return split(get(lib, functools.partial(kind, directory=root), path, *fields, **options))


@pytest.mark.parametrize("as_what", [str, Path])
def test_a_file(lib: Any, root: Path, as_what: Any) -> None:
    status, fields, body = ask(lib, as_what(root), "/a.txt")
    assert (status, body) == ("HTTP/1.0 200 OK", b"some text")
    assert fields[:3] == ["Content-type: text/plain", "Content-Length: 9", f"Last-Modified: {DATE}"]


def test_the_current_folder(lib: Any, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert split(get(lib, quiet(lib, "SimpleHTTPRequestHandler"), "/a.txt"))[2] == b"some text"


def test_its_head(lib: Any, root: Path) -> None:
    status, fields, body = ask(lib, root, "/a.txt", method="HEAD")
    assert (status, fields[1], body) == ("HTTP/1.0 200 OK", "Content-Length: 9", b"")


@pytest.mark.parametrize(
    ("path", "status", "field"),
    [
        ("/none", "404 File not found", "Connection: close"),
        ("/a.txt/", "404 File not found", "Connection: close"),
        ("/sub", "301 Moved Permanently", "Location: /sub/"),
        ("/sub?q=1", "301 Moved Permanently", "Location: /sub/?q=1"),
        ("//sub", "301 Moved Permanently", "Location: /sub/"),
        ("/sub/", "200 OK", "Content-type: text/html; charset=utf-8"),
        ("/indexed/", "200 OK", "Content-type: text/html"),
        ("/%61.txt?query#fragment", "200 OK", "Content-type: text/plain"),
        ("/sub/../a.txt", "200 OK", "Content-type: text/plain"),
        ("/../../../../../../etc/hostname", "404 File not found", "Connection: close"),
        ("a.txt", "200 OK", "Content-type: text/plain"),
    ],
)
def test_paths(lib: Any, root: Path, path: str, status: str, field: str) -> None:
    answer = ask(lib, root, path)
    assert (answer[0], answer[1][0]) == ("HTTP/1.0 " + status, field)


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([f"If-Modified-Since: {DATE}"], 304),
        (["If-Modified-Since: Sun, 13 Sep 2020 12:26:39 GMT"], 200),
        (["If-Modified-Since: nonsense"], 200),
        ([f"If-Modified-Since: {DATE}", "If-None-Match: *"], 200),
    ],
)
def test_not_modified(lib: Any, root: Path, fields: list[str], status: int) -> None:
    answer = ask(lib, root, "/a.txt", *fields)
    assert answer[0].split()[1] == str(status)
    if status == 304:
        assert answer[1:] == ([], b"")


def test_a_listing(lib: Any, root: Path) -> None:
    (root / "sub" / "Z&<.x").touch()
    (root / "sub" / "link").symlink_to(root)
    body = ask(lib, root, "/sub/")[2].decode()
    assert "<title>Directory listing for /sub/</title>" in body
    entries = [
        '<li><a href="b.html">b.html</a></li>', '<li><a href="link/">link@</a></li>',
        '<li><a href="Z%26%3C.x">Z&amp;&lt;.x</a></li>',
    ]  # fmt: skip
    assert "\n".join(entries) in body


def test_post_is_not_for_files(lib: Any, root: Path) -> None:
    assert ask(lib, root, "/a.txt", method="POST")[0] == "HTTP/1.0 501 Unsupported method ('POST')"


# Hooks


def hooked(lib: Any, **methods: Any) -> Any:
    kind = quiet(lib, "SimpleHTTPRequestHandler")
    for name, method in methods.items():
        setattr(kind, name, method)
    return kind


def test_fields_added_in_end_headers(lib: Any, root: Path) -> None:
    base = quiet(lib, "SimpleHTTPRequestHandler")

    class Cors(base):  # type: ignore[misc, valid-type]
        def end_headers(self) -> None:
            self.send_header("Access-Control-Allow-Origin", "*")
            super().end_headers()

    for path in ("/a.txt", "/sub/", "/sub", "/none"):
        assert ask(lib, root, path, handler=Cors)[1][-1] == "Access-Control-Allow-Origin: *"


def test_types_of_its_own(lib: Any, root: Path) -> None:
    kind = hooked(lib, guess_type=lambda self, path: "x/" + os.path.basename(path))
    assert ask(lib, root, "/a.txt", handler=kind)[1][0] == "Content-type: x/a.txt"
    kind = hooked(lib)
    kind.extensions_map = {**kind.extensions_map, ".txt": "y/z"}
    assert ask(lib, root, "/a.txt", handler=kind)[1][0] == "Content-type: y/z"


def test_files_of_its_own(lib: Any, root: Path) -> None:
    kind = hooked(lib, translate_path=lambda self, path: str(root / "a.txt"))
    assert ask(lib, root, "/what/ever", handler=kind)[2] == b"some text"


def test_a_listing_of_its_own(lib: Any, root: Path) -> None:
    kind = hooked(lib, list_directory=lambda self, path: self.send_error(404, "No listing"))
    assert ask(lib, root, "/sub/", handler=kind)[0] == "HTTP/1.0 404 No listing"


def test_a_copy_of_its_own(lib: Any, root: Path) -> None:
    kind = hooked(lib, copyfile=lambda self, source, output: output.write(source.read().upper()))
    assert ask(lib, root, "/a.txt", handler=kind)[2] == b"SOME TEXT"


def test_copyfile_takes_any_file(lib: Any, root: Path) -> None:
    kind = quiet(lib, "SimpleHTTPRequestHandler")

    def send_head(self: Any) -> Any:
        self.send_response(200)
        self.end_headers()
        return io.BytesIO(b"from memory")

    kind.send_head = send_head
    assert ask(lib, root, "/", handler=kind)[2] == b"from memory"


def test_what_send_head_returns_is_a_file(lib: Any, root: Path) -> None:
    base = quiet(lib, "SimpleHTTPRequestHandler")
    seen: list[Any] = []

    class Handler(base):  # type: ignore[misc, valid-type]
        def do_GET(self) -> None:
            file = self.send_head()
            seen.append((file.name, os.fstat(file.fileno()).st_size, file.read(4), file.tell(), file.closed))
            file.seek(5)
            shutil.copyfileobj(file, self.wfile)
            file.close()
            seen.append(file.closed)

    assert ask(lib, root, "/a.txt", handler=Handler)[2] == b"text"
    assert seen == [(str(root / "a.txt"), 9, b"some", 4, False), True]


def test_part_of_a_file_by_a_subclass(lib: Any, root: Path) -> None:
    """seek, then the stock copyfile."""
    base = quiet(lib, "SimpleHTTPRequestHandler")

    class Handler(base):  # type: ignore[misc, valid-type]
        def send_head(self) -> Any:
            file = super().send_head()
            file.seek(5)
            return file

    assert ask(lib, root, "/a.txt", handler=Handler)[2] == b"text"


# CGI

if hasattr(http.server, "CGIHTTPRequestHandler"):
    pytestmark = pytest.mark.filterwarnings("ignore:.*CGIHTTPRequestHandler:DeprecationWarning")

    @pytest.mark.parametrize(
        ("path", "method", "status"),
        [
            ("/cgi-bin/none", "GET", "404 No such CGI script ('/cgi-bin/none')"),
            ("/cgi-bin/folder", "GET", "403 CGI script is not a plain file ('/cgi-bin/folder')"),
            ("/cgi-bin/plain", "POST", "403 CGI script is not executable ('/cgi-bin/plain')"),
            ("/a.txt", "POST", "501 Can only POST to CGI scripts"),
            ("/a.txt", "GET", "200 OK"),
        ],
    )
    def test_scripts(lib: Any, root: Path, path: str, method: str, status: str) -> None:
        kind = quiet(lib, "CGIHTTPRequestHandler")
        assert ask(lib, root, path, method=method, handler=kind)[0] == "HTTP/1.0 " + status
