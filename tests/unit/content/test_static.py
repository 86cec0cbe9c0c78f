"""Directory and redirect mounts: path in, Response out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from httpd.config.schema import Directory, Redirect, Settings
from httpd.content.cache import SMALL, Entry
from httpd.content.static import DirectoryMount, RedirectMount
from httpd.protocol.head import parse
from httpd.protocol.messages import FileBody, HeadLimits, Request, Response, Validators
from machine import descriptors

MTIME = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT
NOW = 50.0


def request(method: str = "GET", target: str = "/") -> Request:
    parsed = parse(f"{method} {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode("latin-1"), HeadLimits())
    assert parsed is not None
    return parsed


class Place:
    """A folder to serve, and what was answered from it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.opened: list[int] = []
        self.mounts: list[DirectoryMount] = []

    def write(self, name: str, content: bytes = b"hello", mtime: float = MTIME) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (mtime, mtime))
        return path

    def mount(self, path: str = "/", **settings: Any) -> DirectoryMount:
        self.mounts.append(DirectoryMount(Directory(path, "k", Settings(**settings), root=str(self.root)), None))
        return self.mounts[-1]

    def both(self, mount: DirectoryMount, path: bytes, method: str = "GET", target: str = "/",
             wall: float | None = None) -> tuple[Response, Entry | None]:  # fmt: skip
        when = time.time() + 100 if wall is None else wall
        response, entry = mount.answer(request(method, target), path, when, NOW)
        if isinstance(response.body, FileBody):
            self.opened.append(response.body.fd)
        return response, entry

    def get(self, path: bytes, method: str = "GET", target: str = "/", mount: DirectoryMount | None = None,
            **settings: Any) -> Response:  # fmt: skip
        return self.both(mount or self.mount(**settings), path, method, target)[0]


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    (tmp_path / "root").mkdir()
    place = Place(tmp_path / "root")
    before = descriptors()
    yield place
    for fd in place.opened:
        os.close(fd)
    for mount in place.mounts:
        mount._root().close()
    assert descriptors() == before, "descriptors left open"


def shape(response: Response) -> tuple[int, list[tuple[bytes, bytes]], object]:
    return response.status, response.fields, response.body


def test_a_file(place: Place) -> None:
    place.write("a.css", b"body{}")
    response = place.get(b"/a.css")
    etag = b'"%x-6"' % (MTIME * 10**9)
    assert shape(response) == (
        200,
        [
            (b"Content-Type", b"text/css; charset=utf-8"), (b"Last-Modified", b"Sun, 06 Nov 1994 08:49:37 GMT"),
            (b"ETag", etag), (b"Accept-Ranges", b"bytes"),
        ],
        b"body{}",
    )  # fmt: skip
    assert response.validators is not None
    assert (response.validators.etag, response.validators.modified) == (etag, MTIME)
    assert response.ranges
    assert not response.close


@pytest.mark.parametrize("size", [0, 1, SMALL - 1, SMALL, SMALL + 1, 3 * SMALL])
def test_small_and_large(place: Place, size: int) -> None:
    place.write("a", b"x" * size)
    body = place.get(b"/a").body
    if size <= SMALL:
        assert body == b"x" * size
    else:
        assert isinstance(body, FileBody)
        assert (body.offset, body.length) == (0, size)
        assert os.pread(body.fd, 10, 0) == b"x" * 10


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (b"/missing", 404), (b"/a/", 404), (b"/a/b", 404), (b"/" + b"n" * 300, 404), (b"/folder/missing", 404),
        (b"/fifo", 404), (b"/link-out", 404), (b"/" + b"d/" * 3000, 404), (b"/A", 404), (b"/loop", 404),
    ],
)  # fmt: skip
def test_what_cannot_be_served(place: Place, path: bytes, status: int) -> None:
    place.write("a")
    place.write("folder/b")
    os.mkfifo(place.root / "fifo")
    (place.root / "link-out").symlink_to("/etc/passwd")
    (place.root / "loop").symlink_to("loop")
    assert shape(place.get(path)) == (status, [], b"")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permission(place: Place) -> None:
    place.write("a").chmod(0)
    assert shape(place.get(b"/a")) == (403, [], b"")


def test_trouble_of_the_server_is_not_hidden(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    mount = place.mount()

    def fail(relative: bytes) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(mount._root(), "open", fail)
    with pytest.raises(OSError, match="Too many"):
        place.get(b"/a", mount=mount)


def test_a_later_date_is_not_sent(place: Place) -> None:
    """RFC 9110 8.8.2.1: Last-Modified is never later than Date."""
    wall = time.time() + 100
    place.write("a", mtime=wall + 5000)
    response, entry = place.both(place.mount(), b"/a", wall=wall)
    assert response.validators is not None
    assert response.validators.modified == int(wall)
    assert entry is None


def test_before_the_epoch(place: Place) -> None:
    place.write("a", mtime=-1000)
    response = place.get(b"/a")
    assert (b"Last-Modified", b"Thu, 01 Jan 1970 00:00:00 GMT") in response.fields
    assert response.validators is not None
    assert response.validators.etag.count(b'"') == 2


# Methods


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
@pytest.mark.parametrize("path", [b"/a", b"/missing", b"/.secret"])
def test_405(place: Place, method: str, path: bytes) -> None:
    """RFC 9110 15.5.6: always with Allow; and nothing is told of what exists."""
    place.write("a")
    assert shape(place.get(path, method)) == (405, [(b"Allow", b"GET, HEAD, OPTIONS")], b"")


def test_options(place: Place) -> None:
    response = place.get(b"/missing", "OPTIONS", headers={"X-A": "b"})
    assert shape(response) == (200, [(b"Allow", b"GET, HEAD, OPTIONS"), (b"X-A", b"b")], b"")


def test_fewer_methods(place: Place) -> None:
    place.write("a")
    mount = place.mount(methods=("GET",))
    assert place.get(b"/a", mount=mount).status == 200
    for method in ("HEAD", "OPTIONS", "POST"):
        assert shape(place.get(b"/a", method, mount=mount)) == (405, [(b"Allow", b"GET")], b"")
    assert place.get(b"/a", mount=place.mount(methods=("HEAD", "POST"))).fields == [(b"Allow", b"HEAD")]


def test_head_is_answered_like_get(place: Place) -> None:
    place.write("a")
    assert shape(place.get(b"/a", "HEAD")) == shape(place.get(b"/a"))


# Settings


def test_headers(place: Place) -> None:
    place.write("a")
    mount = place.mount(headers={"X-A": "b", "X-Latin": "\xe9"}, listing=True)
    extra = [(b"X-A", b"b"), (b"X-Latin", b"\xe9")]
    assert place.get(b"/a", mount=mount).fields[-2:] == extra
    assert place.get(b"/", mount=mount).fields[-2:] == extra


def test_charset_and_types(place: Place) -> None:
    place.write("a.html")
    place.write("b.MD")
    mount = place.mount(charset="", types={".md": "text/markdown"})
    assert place.get(b"/a.html", mount=mount).fields[0] == (b"Content-Type", b"text/html")
    assert place.get(b"/b.MD", mount=mount).fields[0] == (b"Content-Type", b"text/markdown")


@pytest.mark.parametrize(
    ("path", "open_status"),
    [
        (b"/.env", 200), (b"/.git/config", 200), (b"/.git/", 403), (b"/.git", 301), (b"/.missing", 404),
        (b"/folder/.x", 200), (b"/.well-knownx", 404),
    ],
)  # fmt: skip
def test_dotfiles(place: Place, path: bytes, open_status: int) -> None:
    for name in (".env", ".git/config", "folder/.x", ".well-known/security.txt"):
        place.write(name)
    assert shape(place.get(path)) == (404, [], b"")
    assert place.get(path, dotfiles=True).status == open_status
    assert place.get(b"/.well-known/security.txt").status == 200


def test_symlinks(place: Place) -> None:
    place.write("a")
    (place.root / "link").symlink_to("a")
    (place.root.parent / "outside").write_bytes(b"secret")
    (place.root / "out").symlink_to("../outside")
    assert place.get(b"/link").status == 200
    assert place.get(b"/link", symlinks="none").status == 404
    assert place.get(b"/out").status == 404
    assert place.get(b"/out", symlinks="all").body == b"secret"


def test_root_replaces_the_path(place: Place) -> None:
    place.write("a")
    mount = place.mount("/downloads/")
    assert place.get(b"/downloads/a", mount=mount).status == 200
    assert place.get(b"/downloads/downloads/a", mount=mount).status == 404


# Folders


def test_a_folder_wants_its_slash(place: Place) -> None:
    place.write("sub folder/index.html")
    response = place.get(b"/sub folder")
    assert response.status == 301
    assert response.fields[0] == (b"Location", b"/sub%20folder/")
    assert place.get(b"/sub folder", target="/sub%20folder?a=b?c").fields[0] == (b"Location", b"/sub%20folder/?a=b?c")
    assert place.get(b"/sub folder", target="/x?").fields[0] == (b"Location", b"/sub%20folder/?")


def test_the_mount_itself_wants_its_slash(place: Place) -> None:
    place.write("index.html")
    mount = place.mount("/docs/")
    assert place.get(b"/docs", mount=mount).fields[0] == (b"Location", b"/docs/")
    assert place.get(b"/docs/", mount=mount).body == b"hello"


@pytest.mark.parametrize("path", [b"/evil.com", b"/\\evil.com", b"/a\r\nX: y"])
def test_a_redirect_leads_nowhere_else(place: Place, path: bytes) -> None:
    """CVE-2021-28861: a Location that begins with "//" names a host."""
    (place.root / os.fsdecode(path[1:])).mkdir()
    location = place.get(path).fields[0][1]
    assert location.startswith(b"/")
    assert not location.startswith((b"//", b"/\\"))
    assert not set(b"\r\n\\") & set(location)


def test_index(place: Place) -> None:
    place.write("one/b.html", b"b")
    place.write("two/b.html", b"b")
    place.write("two/a.html", b"a")
    (place.root / "three" / "a.html").mkdir(parents=True)  # a folder is no index
    place.write("three/b.html", b"b")
    mount = place.mount(index=("a.html", "b.html"))
    first, kept = place.both(mount, b"/two/")
    assert (first.body, kept is not None) == (b"a", True)
    # A later index is right only while the earlier ones are missing, so it is not kept.
    for path in (b"/one/", b"/three/"):
        response, entry = place.both(mount, path)
        assert (response.body, entry) == (b"b", None)
    assert place.get(b"/two/", mount=place.mount(index=())).status == 403


def test_the_index_of_the_root(place: Place) -> None:
    place.write("index.htm", b"home")
    assert place.get(b"/").body == b"home"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_index_that_may_not_be_read(place: Place) -> None:
    """The next one, or the listing, would show what was meant to be hidden."""
    place.write("index.html").chmod(0)
    place.write("index.htm")
    assert place.get(b"/", listing=True).status == 403


def test_listing(place: Place) -> None:
    place.write("sub/a&b.txt")
    place.write("sub/.hidden")
    (place.root / "empty").mkdir()
    assert shape(place.get(b"/sub/")) == (403, [], b"")
    response = place.get(b"/sub/", listing=True)
    assert response.status == 200
    assert response.fields[0] == (b"Content-Type", b"text/html; charset=utf-8")
    assert isinstance(response.body, bytes)
    assert b"a&amp;b.txt" in response.body
    assert b".hidden" not in response.body
    # RFC 9110 13.1.1, 13.1.2: a listing has no tag, but it is there, which "If-None-Match: *" asks
    assert response.validators == Validators()
    hidden = place.get(b"/sub/", listing=True, dotfiles=True).body
    assert isinstance(hidden, bytes)
    assert b".hidden" in hidden
    assert place.get(b"/empty/", listing=True).status == 200


# The cache


def test_an_entry_answers_like_the_mount(place: Place) -> None:
    path = place.write("a.txt", b"hello")
    response, entry = place.both(place.mount(headers={"X-A": "b", "Cache-Control": "no-cache"}), b"/a.txt")
    assert entry is not None
    assert entry.fresh(NOW)
    assert (entry.path, entry.body, entry.small) == (os.fsencode(path), 5, True)
    assert entry.tail[entry.head :] == response.body == b"hello"
    lines = b"".join(b"%b: %b\r\n" % pair for pair in response.fields)
    assert entry.tail[: entry.head] == lines + b"Content-Length: 5\r\n\r\n"
    assert entry.methods == (b"GET", b"HEAD")
    assert entry.fields == response.fields
    # RFC 9110 15.4.5: what a 304 must have, and not the representation's metadata.
    etag = dict(response.fields)[b"ETag"]
    assert entry.unchanged[0] == b"ETag: %b\r\nX-A: b\r\nCache-Control: no-cache\r\n\r\n" % etag


def test_the_entry_of_a_large_file_holds_its_head_only(place: Place) -> None:
    place.write("a", b"x" * (SMALL + 1))
    response, entry = place.both(place.mount(), b"/a")
    assert entry is not None
    assert not entry.small
    assert entry.head == len(entry.tail)
    assert entry.body == response.length == SMALL + 1


def test_methods_of_an_entry(place: Place) -> None:
    place.write("a")
    entry = place.both(place.mount(methods=("GET", "OPTIONS")), b"/a")[1]
    assert entry is not None
    assert entry.methods == (b"GET",)


def test_a_file_that_changed_a_moment_ago_is_not_kept(place: Place) -> None:
    path = place.write("a")
    assert place.both(place.mount(), b"/a", wall=os.stat(path).st_ctime + 1)[1] is None


def test_a_file_that_shrinks_while_it_is_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.write("a", b"x" * 1000)
    mount = place.mount()
    real: Callable[[bytes], Any] = mount._root().open

    def shrink(relative: bytes) -> Any:
        opened = real(relative)
        os.truncate(path, 400)
        return opened

    monkeypatch.setattr(mount._root(), "open", shrink)
    response, entry = place.both(mount, b"/a")
    assert (response.length, entry) == (400, None)


def test_a_file_that_grows_while_it_is_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place.write("a", b"x" * 1000)
    mount = place.mount()
    real: Callable[[bytes], Any] = mount._root().open

    def grow(relative: bytes) -> Any:
        opened = real(relative)
        path.write_bytes(b"y" * 5000)
        return opened

    monkeypatch.setattr(mount._root(), "open", grow)
    response, entry = place.both(mount, b"/a")
    assert response.length == 1000
    assert entry is not None
    assert not entry.fresh(NOW)


# Redirects


@pytest.mark.parametrize(
    ("prefix", "to", "path", "target", "location"),
    [
        ("/old/", "/new/", b"/old/a/b", "/old/a/b", b"/new/a/b"),
        ("/old/", "/new/", b"/old/", "/old/", b"/new/"),
        ("/old/", "/new/", b"/old", "/old", b"/new/"),
        ("/old/", "/new/", b"/old/a", "/old/a?b=c", b"/new/a?b=c"),
        ("/old/", "https://b.example/x", b"/old/a b", "/old/a%20b", b"https://b.example/x/a%20b"),
        ("/", "https://b.example", b"/a", "/a", b"https://b.example/a"),
        ("/", "https://b.example", b"/", "/", b"https://b.example/"),
        ("/", "/new/", b"/\r\nX: y", "/x", b"/new/%0D%0AX:%20y"),
    ],
)
def test_redirects(prefix: str, to: str, path: bytes, target: str, location: bytes) -> None:
    mount = RedirectMount(Redirect(prefix, "k", Settings(headers={"X-A": "b"}), to=to, status=307), None)
    response, entry = mount.answer(request("POST", target), path, 0.0, 0.0)
    assert entry is None
    assert response.status == 307
    assert response.fields == [
        (b"Location", location), (b"Content-Type", b"text/html; charset=utf-8"), (b"X-A", b"b"),
    ]  # fmt: skip
    assert isinstance(response.body, bytes)
    assert b"<a href=" in response.body


@pytest.mark.parametrize("path", [b"//evil.example", b"///evil.example", b"/\\evil.example"])
def test_a_redirect_of_everything_stays_here(path: bytes) -> None:
    mount = RedirectMount(Redirect("/", "k", Settings(), to="/"), None)
    location = mount.answer(request(), path, 0.0, 0.0)[0].fields[0][1]
    assert not location.startswith((b"//", b"/\\"))
