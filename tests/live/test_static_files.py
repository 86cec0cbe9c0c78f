"""Plain serving: what a client gets for a file, a folder, a method."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import xml.etree.ElementTree as ET
from urllib.parse import quote_from_bytes

import pytest

from live.client import Client
from live.conftest import Connect
from live.daemon import Daemon, Place

_SIZES = [0, 1, 4096, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 128 * 1024, 128 * 1024 + 1, 300_000, 5_000_000]
_NAMES = [
    b"with space.txt", "größe.txt".encode(), b"latin-\xe9.txt", b"qu\"ote's.txt", b"100%.txt", b"%2e%2e",
    b"a+b&c=d;e.txt", b"#hash?.txt", b"<b>.txt",
    b"colon:name", b"line\nfeed.txt", b"tab\there", b"\\back", b"~tilde", b"[bracket].txt",
]  # fmt: skip
_CONFIG = """
[[vhost]]
root = "www"
error_pages = { 404 = "pages/missing.html", 4xx = "pages/other.html" }
  [[vhost.directory]]
  path = "/plain/"
  error_pages = {}
  [[vhost.directory]]
  path = "/listed/"
  listing = true
  [[vhost.directory]]
  path = "/set/"
  headers = { "Cache-Control" = "no-store", "X-Two" = "words here" }
  types = { ".foo" = "application/x-foo" }
  charset = "iso-8859-1"
  index = ["start.txt", "second.txt"]
  methods = ["GET"]
  [[vhost.directory]]
  path = "/dots/"
  dotfiles = true
  listing = true
"""


def _content(size: int) -> bytes:
    return hashlib.shake_128(b"%d" % size).digest(size)


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    place = shared_place
    for name in ("a.html", "a.txt", "a.css", "a.js", "a.json", "a.png", "a.svg", "a.unknown", "a.tar.gz", "NAKED"):
        place.write(f"www/types/{name}", b"x")
    place.write("www/index.html", b"<p>start</p>")
    place.write("www/folder/index.htm", b"second name")
    place.write("www/empty/keep/x")
    place.write("www/.hidden", b"no")
    place.write("www/.git/config", b"no")
    place.write("www/.well-known/security.txt", b"yes")
    place.write("www/plain/x", b"x")
    place.write("pages/missing.html", b"<p>not here</p>")
    place.write("pages/other.html", b"<p>not so</p>")
    place.write("www/set/a.foo", b"foo")
    place.write("www/set/start.txt", b"start")
    place.write("www/dots/.shown", b"dot")
    for size in _SIZES:
        place.write(f"www/sizes/{size}", _content(size))
    for name in _NAMES:
        place.write(b"www/listed/" + name, b"name " + name)
    place.write("www/listed/sub/file", b"x")
    place.write("www/listed/.dot", b"x")
    os.mkfifo(place.www / "listed/fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(place.www / "listed/socket"))
    (place.www / "listed/inside").symlink_to("sub/file")
    (place.www / "listed/outside").symlink_to("/etc/passwd")
    (place.www / "listed/broken").symlink_to("nowhere")
    shared_daemon.configure(_CONFIG)
    return shared_daemon.start()


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.html", "text/html; charset=utf-8"), ("a.txt", "text/plain; charset=utf-8"),
        ("a.css", "text/css; charset=utf-8"), ("a.js", "text/javascript; charset=utf-8"), ("a.png", "image/png"),
        ("a.json", "application/json"), ("a.unknown", "application/octet-stream"),
        ("NAKED", "application/octet-stream"),
    ],
)  # fmt: skip
def test_a_file_has_the_type_of_its_extension(server: Daemon, connect: Connect, name: str, media_type: str) -> None:
    answer = connect().get(f"/types/{name}")
    assert (answer.status, answer["Content-Type"]) == (200, media_type)


def test_a_compressed_file_is_not_declared_to_be_what_is_in_it(server: Daemon, connect: Connect) -> None:
    answer = connect().get("/types/a.tar.gz")
    assert "Content-Encoding" not in answer
    assert answer["Content-Type"] == "application/gzip"


def test_every_answer_has_the_fields_that_http_wants(server: Daemon, connect: Connect) -> None:
    answer = connect().get("/types/a.txt")
    assert {"Date", "Last-Modified", "ETag", "Accept-Ranges", "Content-Length"} <= {name for name, _ in answer.fields}
    assert "Connection" not in answer


@pytest.mark.parametrize("size", _SIZES)
def test_bytes_arrive_as_they_are(server: Daemon, connect: Connect, size: int) -> None:
    client = connect()
    for _ in range(3):
        answer = client.get(f"/sizes/{size}")
        assert (answer.status, answer["Content-Length"]) == (200, str(size))
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(_content(size)).digest()
    assert client.get("/types/a.txt").body == b"x"


@pytest.mark.parametrize("size", _SIZES)
def test_head_is_get_without_the_body(server: Daemon, connect: Connect, size: int) -> None:
    client = connect()
    whole, head = client.get(f"/sizes/{size}"), client.get(f"/sizes/{size}", method="HEAD")
    assert [field for field in head.fields if field[0] != "Date"] == [
        field for field in whole.fields if field[0] != "Date"
    ]
    assert client.get("/types/a.txt").status == 200


@pytest.mark.parametrize("name", _NAMES)
def test_a_name_is_any_bytes(server: Daemon, connect: Connect, name: bytes) -> None:
    answer = connect().get(f"/listed/{quote_from_bytes(name)}")
    assert (answer.status, answer.body) == (200, b"name " + name)


def test_curl_gets_a_file(server: Daemon) -> None:
    url = f"http://127.0.0.1:{server.port}/sizes/300000"
    try:
        done = subprocess.run(["curl", "-sS", "--fail", url], capture_output=True, check=False, timeout=20)
    except FileNotFoundError:
        pytest.skip("no curl here")
    assert (done.returncode, done.stdout) == (0, _content(300_000))


def test_an_index_answers_for_its_folder(server: Daemon, connect: Connect) -> None:
    client = connect()
    assert client.get("/").body == b"<p>start</p>"
    assert client.get("/folder/").body == b"second name"
    assert client.get("/folder/")["Content-Type"] == "text/html; charset=utf-8"


@pytest.mark.parametrize(
    ("target", "location"),
    [
        ("/folder", "/folder/"), ("/folder?a=1&b=%2F", "/folder/?a=1&b=%2F"), ("/folder?", "/folder/?"),
        ("//folder", "/folder/"), ("/types/../folder", "/folder/"),
    ],
)  # fmt: skip
def test_a_folder_without_its_slash_is_redirected_with_the_query(
    server: Daemon, connect: Connect, target: str, location: str
) -> None:
    answer = connect().get(target)
    assert (answer.status, answer["Location"]) == (301, location)


def test_a_file_with_a_slash_is_not_found(server: Daemon, connect: Connect) -> None:
    assert connect().get("/types/a.txt/").status == 404
    assert connect().get("/types/a.txt/more").status == 404


def test_a_folder_without_index_and_listing_is_forbidden(server: Daemon, connect: Connect) -> None:
    assert connect().get("/empty/").status == 403


def test_a_listing_shows_what_can_be_asked_for_and_nothing_else(server: Daemon, connect: Connect) -> None:
    client = connect()
    answer = client.get("/listed/")
    assert (answer.status, answer["Content-Type"]) == (200, "text/html; charset=utf-8")
    page = ET.fromstring(answer.body.split(b"\n", 1)[1])
    links = [link.attrib["href"] for link in page.iter("a")]
    assert links[0] == "../"
    assert len(links) == 1 + len(_NAMES) + 2, links  # sub/ and the link that stays inside
    assert "sub/" in links
    for link in links[1:]:
        found = client.get(f"/listed/{link.removeprefix('./')}")
        assert found.status == (403 if link.endswith("/") and link != "sub/" else 200), link


@pytest.mark.parametrize("name", ["fifo", "socket", "outside", "broken", ".dot"])
def test_what_a_listing_hides_is_not_served(server: Daemon, connect: Connect, name: str) -> None:
    client = connect()
    assert name.encode() not in client.get("/listed/").body
    assert client.get(f"/listed/{name}").status in (403, 404)


@pytest.mark.parametrize("target", ["/.hidden", "/.git/config", "/.git/", "/.git", "/%2ehidden", "/types/.hidden"])
def test_dotfiles_are_not_there(server: Daemon, connect: Connect, target: str) -> None:
    assert connect().get(target).status == 404


def test_well_known_and_dotfiles_that_were_asked_for_are_served(server: Daemon, connect: Connect) -> None:
    client = connect()
    assert client.get("/.well-known/security.txt").body == b"yes"
    assert client.get("/dots/.shown").body == b"dot"
    assert b".shown" in client.get("/dots/").body


def test_options_tells_the_methods(server: Daemon, connect: Connect) -> None:
    client = connect()
    for target in ("/types/a.txt", "*"):
        answer = client.get(target, method="OPTIONS")
        assert (answer.status, answer["Allow"], answer.body) == (200, "GET, HEAD, OPTIONS", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "TRACE"])
def test_a_method_that_files_do_not_have_is_405_with_allow(server: Daemon, connect: Connect, method: str) -> None:
    client = connect()
    answer = client.get("/types/a.txt", method=method)
    assert (answer.status, answer["Allow"]) == (405, "GET, HEAD, OPTIONS")
    assert client.get("/types/a.txt").status == 200


@pytest.mark.parametrize("method", ["BREW", "get", "PROPFIND"])
def test_a_method_that_nobody_has_is_501(server: Daemon, connect: Connect, method: str) -> None:
    assert connect().get("/types/a.txt", method=method).status == 501


def test_settings_of_a_mount(server: Daemon, connect: Connect) -> None:
    client = connect()
    answer = client.get("/set/a.foo")
    assert (answer["Content-Type"], answer["Cache-Control"], answer["X-Two"]) == (
        "application/x-foo", "no-store", "words here",
    )  # fmt: skip
    start = client.get("/set/")
    assert (start.body, start["Content-Type"]) == (b"start", "text/plain; charset=iso-8859-1")
    refused = client.get("/set/a.foo", method="HEAD")
    assert (refused.status, refused["Allow"]) == (405, "GET")
    assert "Cache-Control" not in client.get("/types/a.txt")


def test_error_pages_by_status_then_by_class(server: Daemon, connect: Connect) -> None:
    client = connect()
    missing, other = client.get("/types/nope"), client.get("/empty/")
    assert (missing.status, missing.body, missing["Content-Type"]) == (
        404, b"<p>not here</p>", "text/html; charset=utf-8",
    )  # fmt: skip
    assert (other.status, other.body) == (403, b"<p>not so</p>")


def test_http_client_of_the_standard_library(server: Daemon) -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    for size in (1, 300_000, 0):
        connection.request("GET", f"/sizes/{size}")
        assert connection.getresponse().read() == _content(size)
    connection.close()


def test_many_connections_stay_open_at_once(server: Daemon) -> None:
    clients = [Client(("127.0.0.1", server.port)) for _ in range(200)]
    try:
        for _ in range(2):
            assert all(client.get("/types/a.txt").body == b"x" for client in clients)
    finally:
        for client in clients:
            client.close()


def test_headers_of_an_error_page(server: Daemon, connect: Connect) -> None:
    """What a site says about itself holds for its errors too; what is said about the content does not."""
    answer = connect().get("/set/nothing")
    assert (answer.status, answer.get("X-Two"), answer.get("Cache-Control")) == (404, "words here", None)
