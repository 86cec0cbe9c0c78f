"""Files and listings as http.server has them, and ranges."""

from __future__ import annotations

import email.utils
import io
import os
import re
import stat
import urllib.parse
from pathlib import Path
from typing import Any

import pytest

from httpd.server import SimpleHTTPRequestHandler
from httpd.server.parts import Parts, ServedFile, Slice
from unit.server.wire import ask

MODIFIED = 1_600_000_000
DATE = "Sun, 13 Sep 2020 12:26:40 GMT"
DATA = bytes(range(256)) * 8


class Handler(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "data.bin").write_bytes(DATA)
    os.utime(tmp_path / "data.bin", (MODIFIED, MODIFIED + 0.75))
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "page.html").write_text("<p>")
    (tmp_path / "with index").mkdir()
    (tmp_path / "with index" / "index.htm").write_text("the index")
    return tmp_path


def get(root: Path, path: str, *fields: str, method: str = "GET", kind: Any = Handler, **options: Any) -> bytes:
    lines = "".join(f"{field}\r\n" for field in fields)
    return ask(kind, f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1"), directory=root, **options)


def split(answer: bytes) -> tuple[str, list[str], bytes]:
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    return status, lines[2:], body  # without Server and Date


# Whole files


def test_a_file(root: Path) -> None:
    assert split(get(root, "/data.bin")) == (
        "HTTP/1.1 200 OK",
        ["Content-type: application/octet-stream", "Content-Length: 2048", f"Last-Modified: {DATE}",
         "Accept-Ranges: bytes"],
        DATA,
    )  # fmt: skip


def test_its_head(root: Path) -> None:
    heads = (get(root, "/data.bin", method="HEAD"), get(root, "/data.bin").partition(DATA)[0])
    one, other = (re.sub(rb"\r\nDate: .*", b"", head) for head in heads)
    assert one == other


@pytest.mark.parametrize(
    "path", ["/nothing", "/data.bin/", "/sub/nothing/", "/%00", "/data.bin%00", "/%ED%A0%80", "/" + "x" * 300]
)
def test_what_is_not_there(root: Path, path: str) -> None:
    status, lines, body = split(get(root, path))
    assert status == "HTTP/1.1 404 File not found"
    assert lines[0] == "Connection: close"
    assert b"Message: File not found." in body


def test_a_fifo_holds_up_nobody(root: Path) -> None:
    os.mkfifo(root / "fifo")
    assert split(get(root, "/fifo"))[0] == "HTTP/1.1 404 File not found"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read(root: Path) -> None:
    (root / "data.bin").chmod(0)
    assert split(get(root, "/data.bin"))[0] == "HTTP/1.1 404 File not found"
    (root / "sub").chmod(stat.S_IXUSR)
    assert split(get(root, "/sub/"))[0] == "HTTP/1.1 404 No permission to list directory"
    assert split(get(root, "/sub/page.html"))[0] == "HTTP/1.1 200 OK"
    (root / "sub").chmod(0o700)


def test_the_file_may_grow_or_shrink_meanwhile(root: Path) -> None:
    class Growing(Handler):
        def copyfile(self, source: Any, outputfile: Any) -> None:
            with open(root / "data.bin", "ab") as file:
                file.write(b"more")
            super().copyfile(source, outputfile)

    class Shrinking(Handler):
        def copyfile(self, source: Any, outputfile: Any) -> None:
            os.truncate(root / "data.bin", 100)
            super().copyfile(source, outputfile)

    assert split(get(root, "/data.bin", kind=Growing))[2] == DATA
    two = b"GET /data.bin HTTP/1.1\r\n\r\n" * 2
    assert ask(Shrinking, two, directory=root).count(b"HTTP/1.1 200") == 1  # the second would begin inside the first


# Not modified


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ([f"If-Modified-Since: {DATE}"], 304),
        (["If-Modified-Since: Sun, 13 Sep 2020 12:26:41 GMT"], 304),
        (["If-Modified-Since: Sun, 13 Sep 2020 12:26:39 GMT"], 200),
        (["If-Modified-Since: Sun, 13 Sep 2020 12:26:40 +0000"], 304),
        (["If-Modified-Since: Sun, 13 Sep 2020 12:26:40"], 304),
        (["If-Modified-Since: Sun, 13 Sep 2020 14:26:40 +0200"], 200),
        (["If-Modified-Since: yesterday"], 200),
        (["If-Modified-Since: "], 200),
        ([f"If-Modified-Since: {DATE}", "If-None-Match: *"], 200),
    ],
)
def test_not_modified(root: Path, fields: list[str], status: int) -> None:
    answer = split(get(root, "/data.bin", *fields))
    assert answer[0].split(" ")[1] == str(status)
    if status == 304:
        assert answer[1:] == ([], b"")


# Folders


def test_a_folder_without_its_slash(root: Path) -> None:
    answer = split(get(root, "/sub?a=b/"))
    assert answer == ("HTTP/1.1 301 Moved Permanently", ["Location: /sub/?a=b/", "Content-Length: 0"], b"")


@pytest.mark.parametrize("path", ["//host/%2e%2e/sub", "///host/..%2fsub", "/%2fhost/../sub", "/\\host/../sub"])
def test_a_redirect_never_leads_to_another_host(root: Path, path: str) -> None:
    (root / "\\host").mkdir()
    lines = split(get(root, path))[1]
    assert re.match(r"Location: /[^/\\]", lines[0])


def test_an_index_page(root: Path) -> None:
    assert split(get(root, "/with%20index/"))[2] == b"the index"
    (root / "with index" / "index.html").mkdir()
    assert split(get(root, "/with%20index/"))[2] == b"the index"
    (root / "with index" / "index.html").rmdir()
    (root / "with index" / "index.html").write_text("the first")
    assert split(get(root, "/with%20index/?q#f"))[2] == b"the first"


def test_index_pages_of_a_class(root: Path) -> None:
    class Own(Handler):
        index_pages = ("page.html",)

    assert split(get(root, "/sub/", kind=Own))[2] == b"<p>"


def test_a_listing(root: Path) -> None:
    (root / "<b>&.txt").touch()
    (root / "B").touch()
    (root / "a").touch()
    (root / "link").symlink_to("sub")
    (root / ".hidden").touch()
    (root / os.fsdecode(b"\xff")).touch()
    status, lines, body = split(get(root, "/?x=<y>"))
    assert status == "HTTP/1.1 200 OK"
    assert lines == ["Content-type: text/html; charset=utf-8", f"Content-Length: {len(body)}"]
    assert b"<title>Directory listing for /?x=&lt;y&gt;</title>" in body
    links = re.findall(rb'<li><a href="([^"]*)">([^\n]*)</a></li>\n', body)
    assert links == [
        (b".hidden", b".hidden"), (b"%3Cb%3E%26.txt", b"&lt;b&gt;&amp;.txt"), (b"a", b"a"), (b"B", b"B"),
        (b"data.bin", b"data.bin"), (b"link/", b"link@"), (b"sub/", b"sub/"), (b"with%20index/", b"with index/"),
        (b"%ED%B3%BF", b"\xff"),  # as http.server quotes it
    ]  # fmt: skip


# Paths


def bare(**options: Any) -> Handler:
    made = Handler.__new__(Handler)
    made.directory = options.get("directory", "/srv/www")
    return made


@pytest.mark.parametrize(
    ("path", "file"),
    [
        ("/", "/srv/www/"),
        ("", "/srv/www"),
        ("/a/b.txt", "/srv/www/a/b.txt"),
        ("a", "/srv/www/a"),
        ("/a//b", "/srv/www/a/b"),
        ("/a/", "/srv/www/a/"),
        ("/a/ ", "/srv/www/a/ /"),
        ("/../../etc/passwd", "/srv/www/etc/passwd"),
        ("/..%2f..%2fetc", "/srv/www/etc"),
        ("/a/./../b", "/srv/www/b"),
        ("/a%2Fb", "/srv/www/a/b"),
        ("/.a/..b", "/srv/www/.a/..b"),
        ("/a?b/", "/srv/www/a"),
        ("/a#b?c/", "/srv/www/a"),
        ("/%C3%A4", "/srv/www/ä"),
        ("/%FF", "/srv/www/\ufffd"),
        ("http://host/a/b?c", "/srv/www/a/b"),
        ("HTTPS://host:1/", "/srv/www/"),
        ("http://host", "/srv/www/"),
        ("http://host?a/b", "/srv/www/"),
        ("http://host/../a", "/srv/www/a"),
        ("ftp://host/a", "/srv/www/ftp:/host/a"),
    ],
)
def test_paths(path: str, file: str) -> None:
    assert bare().translate_path(path) == file


@pytest.mark.parametrize("directory", ["/", "x", "/srv/"])
def test_roots(directory: str) -> None:
    assert bare(directory=directory).translate_path("/a/b") == os.path.join(directory, "a/b")


def test_absolute_form(root: Path) -> None:
    assert split(get(root, "http://example.org/data.bin"))[2] == DATA
    assert split(get(root, "http://example.org/sub"))[1][0] == "Location: http://example.org/sub/"


# Types


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.html", "text/html"), ("a.HTML", "text/html"), ("a.tar.gz", "application/gzip"),
        ("a.Z", "application/octet-stream"), ("a.z", "application/octet-stream"), ("a.tgz", "application/x-tar"),
        ("a.svgz", "image/svg+xml"), ("a", "application/octet-stream"), (".html", "application/octet-stream"),
        ("a.unknown", "application/octet-stream"), ("a.b/c.css", "text/css"),
    ],
)  # fmt: skip
def test_types(name: str, kind: str) -> None:
    assert bare().guess_type("/srv/www/" + name) == kind
    assert bare().guess_type(Path("/srv/www") / name) == kind


def test_types_that_are_added(root: Path) -> None:
    import mimetypes

    bare().guess_type("/a.html")
    mimetypes.add_type("application/x-httpd-test", ".httpdtest")
    assert bare().guess_type("/a.httpdtest") == "application/x-httpd-test"


def test_types_of_a_class(root: Path) -> None:
    class Own(Handler):
        extensions_map = {".bin": "x/y"}  # noqa: RUF012
        default_content_type = "text/plain"

    (root / "other").touch()
    assert split(get(root, "/data.bin", kind=Own))[1][0] == "Content-type: x/y"
    assert split(get(root, "/other", kind=Own))[1][0] == "Content-type: text/plain"


# Fields of the owner's


@pytest.mark.parametrize("kind", [dict, list, iter])
def test_extra_fields(root: Path, kind: Any) -> None:
    extra = kind([("X-A", "1"), ("X-B", "2")])
    assert split(get(root, "/data.bin", extra_response_headers=extra))[1][-2:] == ["X-A: 1", "X-B: 2"]


def test_extra_fields_are_for_content(root: Path) -> None:
    extra = {"X-A": "1"}
    assert b"X-A: 1" in get(root, "/", extra_response_headers=extra)
    assert b"X-A: 1" in get(root, "/data.bin", "Range: bytes=0-1", extra_response_headers=extra)
    for path, field in (("/nothing", "X: y"), ("/sub", "X: y"), ("/data.bin", f"If-Modified-Since: {DATE}")):
        assert b"X-A: 1" not in get(root, path, field, extra_response_headers=extra)


# Ranges


@pytest.mark.parametrize(
    ("asked", "span"),
    [("0-9", (0, 10)), ("2000-", (2000, 2048)), ("-8", (2040, 2048)), ("5-99999", (5, 2048)), ("0-", (0, 2048))],
)
def test_a_range(root: Path, asked: str, span: tuple[int, int]) -> None:
    first, end = span
    assert split(get(root, "/data.bin", f"Range: bytes={asked}")) == (
        "HTTP/1.1 206 Partial Content",
        ["Content-type: application/octet-stream", f"Content-Range: bytes {first}-{end - 1}/2048",
         f"Content-Length: {end - first}", f"Last-Modified: {DATE}", "Accept-Ranges: bytes"],
        DATA[first:end],
    )  # fmt: skip


def test_several_ranges(root: Path) -> None:
    status, lines, body = split(get(root, "/data.bin", "Range: bytes=0-3, 2044-"))
    assert status == "HTTP/1.1 206 Partial Content"
    boundary = lines[0].removeprefix("Content-Type: multipart/byteranges; boundary=")
    assert f"Content-Length: {len(body)}" in lines
    parts = body.split(f"--{boundary}".encode())
    assert [part.partition(b"\r\n\r\n")[2] for part in parts[1:3]] == [DATA[:4] + b"\r\n", DATA[2044:] + b"\r\n"]
    assert b"Content-Range: bytes 2044-2047/2048" in parts[2]
    assert parts[3] == b"--\r\n"


def test_a_range_that_is_not_there(root: Path) -> None:
    answer = split(get(root, "/data.bin", "Range: bytes=2048-"))
    assert answer == (
        "HTTP/1.1 416 Range Not Satisfiable", ["Content-Range: bytes */2048", "Content-Length: 0"], b""
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (["Range: lines=0-1"], 200),
        (["Range: bytes=x"], 200),
        (["Range: bytes=0-1", f"If-Range: {DATE}"], 206),
        (["Range: bytes=0-1", "If-Range: Sun, 13 Sep 2020 12:26:41 GMT"], 200),
        (["Range: bytes=0-1", 'If-Range: "tag"'], 200),
        (["Range: bytes=0-1", f"If-Modified-Since: {DATE}"], 304),
        (["Range: bytes=0-1", "If-None-Match: *"], 206),
    ],
)
def test_whether_a_range_counts(root: Path, fields: list[str], status: int) -> None:
    assert split(get(root, "/data.bin", *fields))[0].split(" ")[1] == str(status)


def test_a_range_is_for_get(root: Path) -> None:
    assert split(get(root, "/data.bin", "Range: bytes=0-1", method="HEAD"))[0] == "HTTP/1.1 200 OK"


# What send_head gives to subclasses


class Copying(Handler):
    """Reads the file in a way of its own."""

    def copyfile(self, source: Any, outputfile: Any) -> None:
        outputfile.write(b"".join(iter(lambda: source.read(100), b"")))


@pytest.mark.parametrize("field", ["X: y", "Range: bytes=100-299", "Range: bytes=0-3,5-1000"])
def test_a_subclass_may_copy_itself(root: Path, field: str) -> None:
    def hide(answer: bytes) -> bytes:
        return re.sub(rb"[0-9a-f]{32}", b"boundary", re.sub(rb"Date:.*", b"", answer))

    assert hide(get(root, "/data.bin", field, kind=Copying)) == hide(get(root, "/data.bin", field))


def test_part_of_a_file_that_was_read(root: Path) -> None:
    class Skipping(Handler):
        def send_head(self) -> Any:
            file = super().send_head()
            if file:
                assert file.read(1000) == DATA[:1000]
                file.seek(500)
            return file

    assert get(root, "/data.bin", kind=Skipping).endswith(b"\r\n\r\n" + DATA[500:])


def opened(root: Path) -> ServedFile:
    fd = os.open(root / "data.bin", os.O_RDONLY)
    return ServedFile(fd, str(root / "data.bin"), os.fstat(fd))


def test_the_face_of_a_file(root: Path) -> None:
    with opened(root) as file:
        assert isinstance(file, io.BufferedIOBase)
        assert os.fstat(file.fileno()).st_size == 2048
        assert (file.tell(), file.readable(), file.closed) == (0, True, False)
        assert file.name == str(root / "data.bin")
        assert file.readline() == DATA[:11]
        assert next(iter(file)) == DATA[11:267]
        fd = file.fileno()
    assert file.closed
    file.close()
    for use in (file.read, file.fileno, file.tell):
        with pytest.raises(ValueError, match="closed"):
            use()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_file_that_nobody_closes_is_closed(root: Path) -> None:
    file = opened(root)
    fd = file.fileno()
    del file
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_slices_and_parts_can_be_read(root: Path, size: int) -> None:
    from httpd.protocol.messages import FileBody

    file = opened(root)
    with Slice(file, 10, 20) as part:
        assert b"".join(iter(lambda: part.read(size), b"")) == DATA[10:30]
        assert part.fileno() == file.fileno()
    assert file.closed
    file = opened(root)
    with Parts(file, [b"head", FileBody(file.fileno(), 5, 10), b"tail"]) as parts:
        assert b"".join(iter(lambda: parts.read(size), b"")) == b"head" + DATA[5:15] + b"tail"
    assert file.closed


def test_urls_of_listed_names_lead_to_them(root: Path) -> None:
    name = "a?b#c%20 d\\e;f"
    (root / name).write_text("found")
    link = re.search(rb'href="(a%3F[^"]*)"', get(root, "/"))
    assert link is not None
    assert urllib.parse.unquote(link[1].decode()) == name
    assert split(get(root, "/" + link[1].decode()))[2] == b"found"


def test_dates_are_those_of_mail() -> None:
    for moment in (0, 0.5, 1.9999999, -1, 1_600_000_000.25, 1e10):
        assert bare().date_time_string(moment) == email.utils.formatdate(moment, usegmt=True)
