"""Directories with a class: the same bytes as without one, but for what the class changes."""

from __future__ import annotations

import itertools
import os
import re

import pytest

from live.daemon import Daemon, Place
from live.handlers.talk import Open, Talk, install

_SITE = """
  [[vhost.directory]]
  path = "/base/"
  root = "tree"
  {handler}
  [[vhost.directory]]
  path = "/listed/"
  root = "tree"
  listing = true
  {handler}
  [[vhost.directory]]
  path = "/set/"
  root = "tree"
  headers = {{ "Cache-Control" = "max-age=60", "X-Set" = "words here" }}
  types = {{ ".txt" = "text/x-set" }}
  charset = "iso-8859-1"
  index = ["start.txt", "a.txt"]
  {handler}
  [[vhost.directory]]
  path = "/dots/"
  root = "tree"
  dotfiles = true
  listing = true
  symlinks = "all"
  {handler}
  [[vhost.directory]]
  path = "/none/"
  root = "tree"
  symlinks = "none"
  {handler}
  [[vhost.directory]]
  path = "/get/"
  root = "tree"
  methods = ["GET"]
  {handler}
  [[vhost.directory]]
  path = "/pages/"
  root = "tree"
  error_pages = {{ 404 = "pages/missing.html", 4xx = "pages/other.html" }}
  headers = {{ "X-Set" = "yes", "Cache-Control" = "no-store" }}
  {handler}
"""
_MOUNTS = ("base", "listed", "set", "dots", "none", "get", "pages")
_SITES = {"loop": "", "adds": "folders:Adds", "calls": "folders:Calls", "stock": "folders:Stock"}
_OWN = """
[[vhost]]
names = ["own"]
root = "tree"
""" + "".join(
    f"""
  [[vhost.directory]]
  path = "/{name.lower()}/"
  root = "tree"
  listing = true
  handler = "folders:{name}"
  pythonpath = ["app"]
"""
    for name in ("Types", "Lists", "Errors", "Elsewhere", "Own", "Posts")
) + """
  [[vhost.directory]]
  path = "/unlisted/"
  root = "tree"
  handler = "folders:Lists"
  [[vhost.handler]]
  path = "/plain/"
  class = "folders:Plain"
"""  # fmt: skip

_TAG = "IF-TAG"
_PATHS = (
    "", "a.txt", "a.html", "empty", "large.bin", "sub", "sub?x=1", "sub/", "sub/deep.txt", "bare/", "nothing",
    "nothing/", "a.txt/", ".hidden", ".git/config", ".well-known/x", "inside", "outside", "broken", "closed.txt",
    "with%20space.txt", "gr%C3%BC%C3%9F.txt", "latin-%E9.txt", "%41bc", "x/../a.txt", "//a.txt", "sub/../a.txt",
    "%2e%2e/a.txt", "../../etc/passwd", "a.txt?query", "%00", "%zz", "a%2Ftxt", "fifo",
)  # fmt: skip
_FIELDS: tuple[tuple[str, ...], ...] = (
    ("Range: bytes=0-3",), ("Range: bytes=2-",), ("Range: bytes=-2",), ("Range: bytes=0-1,3-4",),
    ("Range: bytes=900000000-",), ("Range: bytes=5-2",), ("Range: nonsense",), (f"If-None-Match: {_TAG}",),
    ("If-None-Match: *",), ('If-None-Match: "other"',), (f"If-Match: {_TAG}",), ('If-Match: "other"',),
    ("If-Modified-Since: Fri, 01 Jan 2038 00:00:00 GMT",), ("If-Modified-Since: Sat, 01 Jan 2000 00:00:00 GMT",),
    ("If-Unmodified-Since: Sat, 01 Jan 2000 00:00:00 GMT",), (f"If-Range: {_TAG}", "Range: bytes=0-3"),
    ('If-Range: "other"', "Range: bytes=0-3"), ("Connection: close",),
)  # fmt: skip

_CHANGING = re.compile(rb"\r\nDate: [^\r]*|\r\nX-Added: by the class")
_BOUNDARY = re.compile(rb"boundary=([0-9a-f]+)")


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    place = shared_place
    install(place, "folders")
    place.write("app/own/mine.txt", b"in a folder of its own")
    for name in ("a.txt", "a.html", "sub/deep.txt", ".hidden", ".git/config", ".well-known/x", "with space.txt", "Abc",
                 "größ.txt", "sub/index.html", "mapped/x.txt"):  # fmt: skip
        place.write(f"tree/{name}", f"this is {name}".encode())
    place.write(b"tree/latin-\xe9.txt", b"latin")
    place.write("tree/empty")
    place.write("tree/bare/<x> & y", b"x")
    place.write("tree/large.bin", bytes(range(256)) * 1200)
    place.write("tree/closed.txt", b"closed", mode=0)
    place.write("outside.txt", b"outside of it")
    tree = place.path / "tree"
    os.mkfifo(tree / "fifo")
    for name, target in (("inside", "a.txt"), ("outside", "../outside.txt"), ("broken", "nowhere")):
        (tree / name).symlink_to(target)
    for path in tree.rglob("*"):  # long ago: so everybody may keep it in memory
        if path.is_file() and not path.is_symlink():
            os.utime(path, (1_600_000_000, 1_600_000_000))
    place.write("pages/missing.html", b"<p>not here")
    place.write("pages/other.html", b"<p>not so")
    text = ""
    for name, kind in _SITES.items():
        handler = f'handler = "{kind}"\n  pythonpath = ["app"]' if kind else ""
        text += f'[[vhost]]\nnames = ["{name}"]\n' + _SITE.format(handler=handler)
    shared_daemon.configure(text + _OWN, "workers = 1")
    return shared_daemon.start()


def _raw(server: Daemon, host: str, target: str, fields: tuple[str, ...], method: str, version: int) -> bytes:
    """All that comes for one request."""
    lines = [f"{method} {target} HTTP/1.{version}", f"Host: {host}", *fields]
    if "Connection: close" not in fields and version == 1:
        lines.append("Connection: close")
    with Talk(server) as client:
        client.send("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
        return client.rest()


def _settled(answer: bytes) -> bytes:
    """Without what differs from one request to the next."""
    boundary = _BOUNDARY.search(answer)
    if boundary is not None:
        answer = answer.replace(boundary[1], b"BOUNDARY")
    return _CHANGING.sub(b"", answer)


def _added(answer: bytes) -> bool:
    return b"\r\nX-Added: by the class\r\n" in answer.partition(b"\r\n\r\n")[0] + b"\r\n"


def _tag(server: Daemon, mount: str) -> str:
    found = re.search(rb"\r\nETag: ([^\r]+)", _raw(server, "loop", f"/{mount}/a.txt", (), "GET", 1))
    assert found is not None
    return found[1].decode()


def _same(
    server: Daemon, target: str, fields: tuple[str, ...] = (), method: str = "GET", version: int = 1
) -> list[str]:
    """Hold the sites side by side; returns what is not the same."""
    expected = _raw(server, "loop", target, fields, method, version)
    wrong = []
    for host in ("adds", "calls", "stock"):
        found = _raw(server, host, target, fields, method, version)
        what = f"{host}: {method} {target} {fields} 1.{version}"
        if _settled(found) != _settled(expected):
            wrong.append(f"{what}\n  {found[:600]!r}\ninstead of\n  {expected[:600]!r}")
    return wrong


@pytest.mark.parametrize("mount", _MOUNTS)
def test_every_path_is_answered_as_without_a_class(server: Daemon, mount: str) -> None:
    wrong = []
    for path, method in itertools.product(_PATHS, ("GET", "HEAD")):
        wrong += _same(server, f"/{mount}/{path}", method=method)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("mount", ["base", "set", "pages"])
def test_preconditions_and_ranges(server: Daemon, mount: str) -> None:
    tag = _tag(server, mount)
    wrong = []
    for path, fields, method in itertools.product(("a.txt", "large.bin", "empty", "nothing"), _FIELDS, ("GET", "HEAD")):
        asked = tuple(field.replace(_TAG, tag) for field in fields)
        wrong += _same(server, f"/{mount}/{path}", asked, method)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("mount", ["base", "get", "pages"])
def test_methods(server: Daemon, mount: str) -> None:
    wrong = []
    for path, method in itertools.product(
        ("a.txt", "", "nothing", ".hidden"), ("POST", "OPTIONS", "PUT", "TRACE", "SPAM")
    ):
        wrong += _same(server, f"/{mount}/{path}", method=method)
    assert not wrong, "\n".join(wrong)


def test_http_1_0(server: Daemon) -> None:
    wrong = []
    for path, fields in itertools.product(("a.txt", "sub", "nothing", "large.bin"), ((), ("Connection: close",))):
        wrong += _same(server, f"/base/{path}", fields, version=0)
    assert not wrong, "\n".join(wrong)


def test_the_header_is_there_where_the_class_answers(server: Daemon) -> None:
    for path in ("a.txt", "large.bin", "sub", "nothing", "bare/"):
        assert _added(_raw(server, "adds", f"/listed/{path}", (), "GET", 1)), path
        assert not _added(_raw(server, "stock", f"/listed/{path}", (), "GET", 1)), path


def test_it_is_kept_alive(talk: Open) -> None:
    client = talk()
    for _ in range(3):
        for path, status in (("a.txt", 200), ("nothing", 404), ("sub", 301), ("large.bin", 200)):
            client.send(f"GET /base/{path} HTTP/1.1\r\nHost: adds\r\n\r\n".encode())
            answer = client.reply()
            assert (answer.status, answer["X-Added"], answer.minor) == (status, "by the class", 1)
            assert "Connection" not in answer


# Classes that change more


def _own(client: Talk, target: str, method: str = "GET", body: bytes = b"") -> tuple[int, bytes]:
    client.send(f"{method} {target} HTTP/1.1\r\nHost: own\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body)
    answer = client.reply(method)
    return answer.status, answer.body


def test_types_of_its_own(talk: Open) -> None:
    client = talk()
    for path, kind in (("a.txt", "text/x-own"), ("a.html", "text/html")):
        client.send(f"GET /types/{path} HTTP/1.1\r\nHost: own\r\n\r\n".encode())
        answer = client.reply()
        assert (answer.status, answer.text) == (200, f"this is {path}")
        assert answer["Content-Type"].partition(";")[0] == kind
        assert answer.values("ETag")


@pytest.mark.parametrize("mount", ["lists", "unlisted"])
def test_a_listing_of_its_own(talk: Open, mount: str) -> None:
    client = talk()
    assert _own(client, f"/{mount}/bare/") == (200, b"own list: <x> & y")
    assert _own(client, f"/{mount}/sub/") == (200, b"this is sub/index.html")
    assert _own(client, f"/{mount}/a.txt") == (200, b"this is a.txt")
    assert _own(client, f"/{mount}/.git/")[0] == 404  # the rules of the mount hold


def test_errors_of_its_own(talk: Open) -> None:
    client = talk()
    assert _own(client, "/errors/nothing") == (404, b"own error 404")
    assert _own(client, "/errors/.hidden") == (404, b"own error 404")
    assert _own(client, "/errors/a.txt") == (200, b"this is a.txt")
    assert _own(client, "/errors/nothing", "HEAD") == (404, b"")
    assert _own(client, "/errors/a.txt")[0] == 200


def test_paths_of_its_own(talk: Open) -> None:
    assert _own(talk(), "/elsewhere/any/where/x.txt") == (200, b"this is mapped/x.txt")
    assert _own(talk(), "/elsewhere/a.txt")[0] == 404


def test_a_folder_of_its_own(talk: Open) -> None:
    assert _own(talk(), "/own/own/mine.txt")[0] == 404  # the class takes the path as it is
    assert _own(talk(), "/own/mine.txt")[0] in (200, 404)


def test_a_method_more(talk: Open) -> None:
    client = talk()
    assert _own(client, "/posts/a.txt", "POST", b"data") == (200, b"posted data")
    assert _own(client, "/posts/a.txt") == (200, b"this is a.txt")
    assert _own(client, "/posts/a.txt", "PUT", b"data")[0] == 405


def test_as_a_handler_it_serves_the_current_folder_which_is_empty(talk: Open) -> None:
    client = talk()
    assert _own(client, "/plain/a.txt")[0] == 404
