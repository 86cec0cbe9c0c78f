"""One exchange without a socket: a request in, a complete reply out."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from httpd.config.schema import Directory, Settings
from httpd.content.cache import SMALL, Entry, FileCache
from httpd.content.sites import Site
from httpd.content.static import DirectoryMount
from httpd.logs.access import compile_format
from httpd.logs.access_log import AccessLog
from httpd.logs.errors import ErrorLog
from httpd.protocol.messages import FileBody, MultiBody, Request, Response, Validators
from httpd.worker.exchange import KNOWN_METHODS, Reply, Responder, refusal
from machine import descriptors

MakeSite = Callable[..., Site[Any]]
MakeRequest = Callable[..., Request]
WALL = 784111777.0
ETAG = b'"e"'


class Exchange:
    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.responder = Responder(FileCache(10_000_000), ErrorLog(self.lines.append, "info", "test"))

    def __call__(self, site: Site[Any], request: Request, wall: float = WALL, now: float = 1.0) -> Reply:
        return self.responder.respond(site, request, wall, now, self.responder.known(site, request, now))


@pytest.fixture
def exchange() -> Iterator[Exchange]:
    before = descriptors()
    yield Exchange()
    assert descriptors() == before, "descriptors left open"


def content(reply: Reply) -> bytes:
    """The body; closes its file."""
    data, fds = b"", set()
    for part in reply.parts:
        if isinstance(part, bytes):
            data += part
        else:
            data += os.pread(part.fd, part.length, part.offset)
            fds.add(part.fd)
    for fd in fds:
        os.close(fd)
    return data


def fields(reply: Reply) -> dict[bytes, bytes]:
    assert len({name.lower() for name, _ in reply.fields}) == len(reply.fields)
    return dict(reply.fields)


def test_an_answer(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest) -> None:
    reply = exchange(make_site(mount), make_request(target="/a?b"))
    assert (reply.status, reply.parts, reply.length, reply.close) == (200, [b"/a"], 2, False)
    assert mount.asked == [b"/a"]
    assert exchange.lines == []


@pytest.mark.parametrize("method", sorted(KNOWN_METHODS - {b"CONNECT"}))
def test_known_methods_reach_the_mount(exchange: Exchange, mount: Any, make_site: MakeSite,
                                       make_request: MakeRequest, method: bytes) -> None:  # fmt: skip
    assert exchange(make_site(mount), make_request(method.decode())).status == 200
    assert mount.asked == [b"/"]


@pytest.mark.parametrize("method", ["PROPFIND", "get", "FOO"])
def test_unknown_methods(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest,
                         method: str) -> None:  # fmt: skip
    """RFC 9110 9.1: 501 for a method that is not recognized; methods are case-sensitive."""
    reply = exchange(make_site(mount), make_request(method))
    assert (reply.status, reply.close, mount.asked) == (501, False, [])
    assert b"501 Not Implemented" in content(reply)


def test_options_of_the_server(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest) -> None:
    reply = exchange(make_site(mount), make_request("OPTIONS", "*"))
    assert (reply.status, reply.length, mount.asked) == (200, 0, [])
    assert fields(reply) == {b"Allow": b"GET, HEAD, OPTIONS"}


def test_connect(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest) -> None:
    reply = exchange(make_site(mount), make_request("CONNECT", "b:443"))
    assert (reply.status, reply.close, mount.asked) == (405, True, [])
    assert b"Allow" in fields(reply)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/a%20b", b"/a b"), ("/a/./b//c/../d", b"/a/b/d"), ("/%2e%2e%2fa/../b", None), ("/a/%2e%2e/b", b"/b"),
        ("//a", b"/a"), ("/..", None), ("/%00", None), ("/%zz", None), ("/a%2Fb", b"/a/b"), ("/%25%32%65", b"/%2e"),
    ],
)  # fmt: skip
def test_paths(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest, target: str,
               path: bytes | None) -> None:  # fmt: skip
    reply = exchange(make_site(mount), make_request(target=target))
    assert mount.asked == ([] if path is None else [path])
    assert (reply.status, reply.close) == ((400, True) if path is None else (200, False))
    assert exchange.lines == []


def test_no_mount(exchange: Exchange, make_site: MakeSite, make_request: MakeRequest) -> None:
    reply = exchange(make_site(), make_request())
    assert reply.status == 404
    assert reply.length == len(content(reply)) > 0


# Who logs


def test_the_log_is_that_of_the_mount(exchange: Exchange, mount: Any, make_site: MakeSite,
                                      make_request: MakeRequest) -> None:  # fmt: skip
    form = compile_format("common")
    mount.log, of_site = (AccessLog(form, lambda data: None, []) for _ in range(2))
    mount.prefix = b"/a"
    site = make_site(mount, log=of_site)
    assert exchange(site, make_request(target="/a")).log is mount.log
    assert exchange(site, make_request(target="/b")).log is of_site
    assert exchange(site, make_request("FOO", "/a")).log is of_site


# Bodies


def with_file(tmp_path: Path, size: int = 1000) -> Callable[[], Response]:
    (tmp_path / "file").write_bytes(bytes(range(250)) * (size // 250))

    def make() -> Response:
        fd = os.open(tmp_path / "file", os.O_RDONLY)
        body = FileBody(fd, 0, size)
        return Response(200, [(b"ETag", ETAG), (b"Content-Type", b"x/y")], body, Validators(ETAG, 1000), ranges=True)

    return make


@pytest.mark.parametrize(
    ("method", "given", "status", "length"),
    [
        ("GET", {}, 200, 1000),
        ("HEAD", {}, 200, None),
        ("GET", {"Range": "bytes=0-9"}, 206, 10),
        ("HEAD", {"Range": "bytes=0-9"}, 200, None),
        ("GET", {"Range": "bytes=5000-"}, 416, -1),
        ("GET", {"Range": "bytes=5000-", "If_Range": '"x"'}, 200, 1000),
        ("GET", {"If_None_Match": '"e"'}, 304, None),
        ("HEAD", {"If_None_Match": '"e"'}, 304, None),
        ("GET", {"If_Match": '"x"'}, 412, -1),
        ("HEAD", {"If_Match": '"x"'}, 412, None),
        ("GET", {"If_None_Match": '"e"', "Range": "bytes=0-9"}, 304, None),
    ],
)
def test_a_file_is_sent_or_closed(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest,
                                  tmp_path: Path, method: str, given: dict[str, str], status: int,
                                  length: int | None) -> None:  # fmt: skip
    """Preconditions, ranges, HEAD: whatever is left out of the reply, no descriptor is."""
    mount.answers[b"/"] = with_file(tmp_path)
    reply = exchange(make_site(mount), make_request(method, **given))
    sent = content(reply)
    assert reply.status == status
    if length is None:
        assert reply.parts == []
    elif length < 0:
        assert b"<h1>%d" % status in sent
    else:
        assert len(sent) == length
    assert reply.length == (0 if status == 304 else len(sent) or reply.length)
    assert method == "GET" or status == 304 or reply.length > 0


def test_several_ranges(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest,
                        tmp_path: Path) -> None:  # fmt: skip
    mount.answers[b"/"] = with_file(tmp_path)
    replies = [exchange(make_site(mount), make_request(Range="bytes=0-1,500-501,-1")) for _ in range(2)]
    kinds = [fields(reply)[b"Content-Type"] for reply in replies]
    assert kinds[0] != kinds[1]  # nobody can foresee the boundary
    boundary = kinds[0].removeprefix(b"multipart/byteranges; boundary=")
    first, second = (content(reply) for reply in replies)
    assert len(first) == len(second) == replies[0].length
    assert first.count(b"--" + boundary) == 4


def test_a_multipart_body_from_memory(exchange: Exchange, mount: Any, make_site: MakeSite,
                                      make_request: MakeRequest) -> None:  # fmt: skip
    mount.answers[b"/"] = lambda: Response(200, body=MultiBody([b"a", b"", b"b"]))
    reply = exchange(make_site(mount), make_request())
    assert (reply.parts, reply.length) == ([b"a", b"b"], 2)


@pytest.mark.parametrize("status", [204, 304])
def test_statuses_without_content(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest,
                                  status: int) -> None:  # fmt: skip
    mount.answers[b"/"] = lambda: Response(status, body=b"never")
    assert exchange(make_site(mount), make_request()).parts == []


# Error pages


@pytest.mark.parametrize(
    ("pages", "expected"),
    [
        ({}, b"<h1>404 Not Found</h1>"),
        ({"404": "own"}, b"own page"),
        ({"4xx": "own"}, b"own page"),
        ({"404": "own", "4xx": "other"}, b"own page"),
        ({"404": "missing", "4xx": "own"}, b"own page"),
        ({"404": "missing"}, b"<h1>404 Not Found</h1>"),
        ({"5xx": "own", "403": "own"}, b"<h1>404 Not Found</h1>"),
        ({"404": "."}, b"<h1>404 Not Found</h1>"),
    ],
)
def test_error_pages(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest, tmp_path: Path,
                     pages: dict[str, str], expected: bytes) -> None:  # fmt: skip
    (tmp_path / "own").write_text("own page")
    mount.settings = Settings(error_pages={status: str(tmp_path / name) for status, name in pages.items()})
    mount.answers[b"/"] = lambda: Response(404)
    reply = exchange(make_site(mount), make_request())
    assert expected in content(reply)
    assert reply.status == 404
    complaints = b"".join(exchange.lines).count(b"cannot read error page")
    assert complaints == ("missing" in pages.values() or "." in pages.values())


def test_the_type_of_an_error_page(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest,
                                   tmp_path: Path) -> None:  # fmt: skip
    (tmp_path / "own.json").write_text("{}")
    mount.settings = Settings(error_pages={"4xx": str(tmp_path / "own.json")})
    mount.answers[b"/"] = lambda: Response(405, [(b"Allow", b"GET")])
    reply = exchange(make_site(mount), make_request())
    assert fields(reply) == {b"Allow": b"GET", b"Content-Type": b"application/json"}
    assert content(reply) == b"{}"


def test_head_of_an_error_page(exchange: Exchange, make_site: MakeSite, make_request: MakeRequest) -> None:
    """RFC 9110 9.3.2: the fields of GET, its Content-Length too."""
    get, head = (exchange(make_site(), make_request(method)) for method in ("GET", "HEAD"))
    assert (head.status, head.fields, head.length, head.parts) == (404, get.fields, get.length, [])


def test_an_error_with_a_body_of_its_own_keeps_it(exchange: Exchange, mount: Any, make_site: MakeSite,
                                                  make_request: MakeRequest) -> None:  # fmt: skip
    mount.answers[b"/"] = lambda: Response(404, [(b"Content-Type", b"text/plain")], b"mine")
    reply = exchange(make_site(mount), make_request())
    assert (reply.parts, fields(reply)) == ([b"mine"], {b"Content-Type": b"text/plain"})


def test_the_site_decides_where_no_mount_does(exchange: Exchange, make_site: MakeSite, make_request: MakeRequest,
                                              tmp_path: Path) -> None:  # fmt: skip
    (tmp_path / "own").write_text("of the site")
    site = make_site(error_pages={"4xx": str(tmp_path / "own")})
    assert content(exchange(site, make_request())) == b"of the site"
    assert content(exchange(site, make_request(target="/%00"))) == b"of the site"


# Trouble of the server


@pytest.mark.parametrize(
    ("number", "status"),
    [(errno.EMFILE, 503), (errno.ENFILE, 503), (errno.ENOMEM, 503), (errno.EIO, 500), (errno.ESTALE, 500)],
)
def test_trouble(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest, number: int,
                 status: int) -> None:  # fmt: skip
    def fail() -> Response:
        raise OSError(number, os.strerror(number))

    mount.answers[b"/\r\n"] = fail
    site = make_site(mount)
    for _ in range(3):
        reply = exchange(site, make_request(target="/%0d%0a"))
        assert reply.status == status
        assert (b"Retry-After" in fields(reply)) is (status == 503)
    assert len(exchange.lines) == 1  # said once, not for every request
    assert os.strerror(number).encode() in exchange.lines[0]


def test_a_defect_is_not_hidden(exchange: Exchange, mount: Any, make_site: MakeSite, make_request: MakeRequest) -> None:
    mount.answers[b"/"] = lambda: 1 // 0
    with pytest.raises(ZeroDivisionError):
        exchange(make_site(mount), make_request())


# The cache


class Folder:
    """A directory mount over real files, which are as old as need be: `wall` is a minute ahead."""

    def __init__(self, root: Path, make_site: MakeSite) -> None:
        self.root = root
        self.wall = time.time() + 60
        self.mount = DirectoryMount(Directory("/", "k", Settings(headers={"X-A": "b"}), root=str(root)), None)
        self.site = make_site(self.mount)

    @property
    def entries(self) -> dict[bytes, Entry]:
        return self.site.files


@pytest.fixture
def folder(tmp_path: Path, make_site: MakeSite) -> Iterator[Folder]:
    (tmp_path / "small").write_bytes(b"hello")
    (tmp_path / "large").write_bytes(b"x" * (SMALL + 1))
    (tmp_path / "index.html").write_bytes(b"index")
    folder = Folder(tmp_path, make_site)
    yield folder
    folder.mount._root().close()


@pytest.mark.parametrize("target", ["/small", "/large", "/", "/%73mall"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "given", [{}, {"Range": "bytes=1-3"}, {"If_None_Match": "*"}, {"If_Match": '"x"'}, {"Range": "bytes=0-1,3-4"}]
)
def test_the_cache_answers_like_the_mount(folder: Folder, make_request: MakeRequest, target: str, method: str,
                                          given: dict[str, str]) -> None:  # fmt: skip
    exchange = Exchange()
    cold = exchange(folder.site, make_request(method, target, **given), folder.wall)
    assert list(folder.entries) == [target.encode()]
    folder.mount._root().open = None  # type: ignore[assignment,method-assign]  # the mount is not asked again
    warm = exchange(folder.site, make_request(method, target, **given), folder.wall)
    boundaries = [fields(reply).get(b"Content-Type", b"").partition(b"boundary=")[2] for reply in (cold, warm)]
    first, second = (content(reply) for reply in (cold, warm))
    if boundaries[0]:
        second = second.replace(boundaries[1], boundaries[0])
    assert (first, cold.status, cold.length) == (second, warm.status, warm.length)
    assert [pair for pair in cold.fields if pair[0] != b"Content-Type"] == [
        pair for pair in warm.fields if pair[0] != b"Content-Type"
    ]


def test_a_change_is_seen_at_once(folder: Folder, make_request: MakeRequest) -> None:
    exchange = Exchange()
    exchange(folder.site, make_request(target="/small"), folder.wall)
    (folder.root / "small").write_bytes(b"changed")
    assert content(exchange(folder.site, make_request(target="/small"), folder.wall)) == b"changed"
    (folder.root / "small").unlink()
    assert exchange(folder.site, make_request(target="/small"), folder.wall).status == 404


def test_other_methods_ask_the_mount(folder: Folder, make_request: MakeRequest) -> None:
    exchange = Exchange()
    exchange(folder.site, make_request(target="/small"), folder.wall)
    assert exchange(folder.site, make_request("POST", "/small"), folder.wall).status == 405
    assert exchange(folder.site, make_request("OPTIONS", "/small"), folder.wall).length == 0


def test_a_cached_reply_is_not_the_entry_itself(folder: Folder, make_request: MakeRequest) -> None:
    """What is added to one reply must not stay in the next."""
    exchange = Exchange()
    for _ in range(3):
        reply = exchange(folder.site, make_request(target="/small", Range="bytes=99-"), folder.wall)
        content(reply)
    assert fields(exchange(folder.site, make_request(target="/small"), folder.wall)).keys() == {
        b"Content-Type", b"Last-Modified", b"ETag", b"Accept-Ranges", b"X-A",
    }  # fmt: skip


# What is not a request


@pytest.mark.parametrize("status", [400, 408, 413, 414, 431, 501, 505])
def test_refusal(status: int) -> None:
    reply = refusal(status, False, None)
    assert (reply.status, reply.close) == (status, True)
    assert reply.length == len(content(reply))
    assert b"<h1>%d " % status in content(reply)
    head = refusal(status, True, None)
    assert (head.length, head.parts, head.fields) == (reply.length, [], reply.fields)
