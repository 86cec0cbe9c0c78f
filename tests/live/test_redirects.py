"""Redirect mounts: the rest of the path and the query go along, and nothing leads to another host by accident."""

from __future__ import annotations

import pytest

from live.conftest import Connect
from live.daemon import Daemon, Place

_CONFIG = """
[[vhost]]
root = "www"
  [[vhost.redirect]]
  from = "/old/"
  to = "/new/"
  [[vhost.redirect]]
  from = "/exact"
  to = "https://example.org/base"
  status = 302
  headers = { "Cache-Control" = "max-age=60" }
  [[vhost.directory]]
  path = "/old/kept/"
  root = "www"
[[vhost]]
names = ["www.example.org"]
  [[vhost.redirect]]
  from = "/"
  to = "https://example.org/"
  status = 301
"""


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    shared_place.write("www/file", b"x")
    shared_daemon.configure(_CONFIG)
    return shared_daemon.start()


@pytest.mark.parametrize(
    ("target", "status", "location"),
    [
        ("/old/", 308, "/new/"), ("/old", 308, "/new/"), ("/old/a/b", 308, "/new/a/b"), ("/old/?q=1", 308, "/new/?q=1"),
        ("/old/a%20b?x=%2F&y", 308, "/new/a%20b?x=%2F&y"), ("/old//evil.com", 308, "/new/evil.com"),
        ("/old/%2f%2fevil.com", 308, "/new/evil.com"), ("/old/a/", 308, "/new/a/"), ("/old/x/../y", 308, "/new/y"),
        ("/exact/more?q", 302, "https://example.org/base/more?q"), ("/exact", 302, "https://example.org/base"),
        ("/exact/%0d%0aSet-Cookie:x", 302, "https://example.org/base/%0D%0ASet-Cookie:x"),
        ("/exact/@evil.com/", 302, "https://example.org/base/@evil.com/"),
    ],
)  # fmt: skip
def test_a_redirect_keeps_the_rest(
    server: Daemon, connect: Connect, target: str, status: int, location: str
) -> None:
    client = connect()
    for method in ("GET", "HEAD"):
        answer = client.get(target, method=method)
        assert (answer.status, answer["Location"]) == (status, location)
        assert ("Cache-Control" in answer) == (status == 302)


def test_a_redirect_keeps_the_method_by_308(server: Daemon, connect: Connect) -> None:
    assert connect().get("/old/form", method="POST").status == 308


def test_only_whole_segments_match(server: Daemon, connect: Connect) -> None:
    client = connect()
    assert client.get("/older").status == 404
    assert client.get("/exactly").status == 404
    assert client.get("/old/kept/file").body == b"x"
    assert client.get("/file").body == b"x"


def test_a_whole_site_is_sent_elsewhere(server: Daemon, connect: Connect) -> None:
    client = connect()
    client.send(b"GET /a/b?c HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
    answer = client.read()
    assert (answer.status, answer["Location"]) == (301, "https://example.org/a/b?c")
    client.send(b"GET //evil.com/%2e%2e HTTP/1.1\r\nHost: www.example.org\r\n\r\n")
    assert client.read()["Location"].startswith("https://example.org/")
