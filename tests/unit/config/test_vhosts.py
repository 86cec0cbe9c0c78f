"""Merging of settings, mounts, and the rules between vhosts."""

from __future__ import annotations

import pytest

from httpd.config.schema import Directory, Handler, Redirect
from httpd.config.vhosts import same_path

MERGING = """
[defaults]
index = ["home.html"]
listing = true
charset = ""
headers = { X-A = "defaults", X-B = "defaults" }
types = { ".MD" = "text/markdown", ".x" = "a/x" }
error_pages = { 404 = "404.html", 5xx = "5xx.html" }
access_log = "journal"

[[vhost]]
root = "/srv"
listing = false
headers = { x-a = "vhost" }

  [[vhost.directory]]
  path = "/a"
  index = []
  headers = { X-C = "mount" }
  types = { ".md" = "text/x-markdown" }
  error_pages = { 404 = "a404.html" }
  access_log = ""

  [[vhost.redirect]]
  from = "/b"
  to = "/c"
  symlinks = "all"

[[vhost]]
names = ["b.org"]
root = "/srv/b"
"""


def test_settings_are_merged_from_the_general_to_the_special(good, tmp_path):
    first, second = good(MERGING).config.vhosts
    root, a, b = first.mounts
    assert root.settings == first.settings
    assert first.settings.listing is False
    assert first.settings.index == ("home.html",)
    assert first.settings.charset == ""
    assert first.settings.headers == {"X-B": "defaults", "x-a": "vhost"}
    assert a.settings.headers == {"X-B": "defaults", "x-a": "vhost", "X-C": "mount"}
    assert a.settings.types == {".md": "text/x-markdown", ".x": "a/x"}
    assert a.settings.error_pages == {"5xx": f"{tmp_path}/5xx.html", "404": f"{tmp_path}/a404.html"}
    assert a.settings.index == ()
    assert (a.settings.access_log, b.settings.access_log) == ("", "journal")
    assert b.settings.symlinks == "all"
    assert root.settings.error_pages == {"404": f"{tmp_path}/404.html", "5xx": f"{tmp_path}/5xx.html"}
    assert second.settings.headers == {"X-A": "defaults", "X-B": "defaults"}
    assert second.settings.listing is True


def test_mounts(good, tmp_path):
    text = """
[[vhost]]
root = "./www//site/"

  [[vhost.redirect]]
  from = "/r/"
  to = "https://example.org/x"
  status = 301

  [[vhost.directory]]
  path = "/a/b/"

  [[vhost.directory]]
  path = "/c"
  root = "../other"
"""
    (vhost,) = good(text).config.vhosts
    site = f"{tmp_path}/www/site"
    assert vhost.mounts == (
        Directory("/", "vhost[0]", vhost.settings, site),
        Directory("/a/b/", "vhost[0].directory[0]", vhost.settings, f"{site}/a/b"),
        Directory("/c", "vhost[0].directory[1]", vhost.settings, f"{tmp_path}/../other"),
        Redirect("/r/", "vhost[0].redirect[0]", vhost.settings, "https://example.org/x", 301),
    )


def test_status_of_a_redirect_is_308_unless_said(good):
    text = '[[vhost]]\n[[vhost.redirect]]\nfrom = "/a"\nto = "/b"\n'
    assert good(text).config.vhosts[0].mounts[0].status == 308


def test_root_of_the_file_system_as_root(good):
    text = '[[vhost]]\nroot = "/"\n[[vhost.directory]]\npath = "/srv/"\n'
    assert [mount.root for mount in good(text).config.vhosts[0].mounts] == ["/", "/srv"]


def test_names_are_canonical(good):
    text = '[[vhost]]\nroot = "/srv"\nnames = ["Example.ORG.", "*.B.org", "[0::1]"]\n'
    assert good(text).config.vhosts[0].names == ("example.org", "*.b.org", "[::1]")


@pytest.mark.parametrize(("path", "same"), [("/", "/"), ("/a", "/a"), ("/a/", "/a"), ("/a/b/", "/a/b")])
def test_same_path(path, same):
    assert same_path(path) == same


def redirects(*pairs: tuple[str, str]) -> str:
    tables = (f'[[vhost.redirect]]\nfrom = "{path}"\nto = "{to}"\n' for path, to in pairs)
    return "[[vhost]]\n" + "".join(tables)


@pytest.mark.parametrize(
    "pairs",
    [
        [("/a", "/b")],
        [("/a", "/b"), ("/b", "/c"), ("/c", "https://example.org/a")],
        [("/a", "/ab")],
        [("/", "/new"), ("/new", "https://example.org")],
        [("/", "https://example.org/")],
    ],
)
def test_redirects_that_end(good, pairs):
    assert good(redirects(*pairs)).config.vhosts


@pytest.mark.parametrize(
    ("pairs", "count"),
    [
        ([("/a", "/a")], 1),
        ([("/a/", "/a")], 1),
        ([("/a", "/a/b")], 1),
        ([("/", "/b")], 1),
        ([("/a", "/b"), ("/b", "/c"), ("/c", "/a")], 3),
        ([("/a", "/%61")], 1),
        ([("/start", "/a"), ("/a", "/a/b")], 1),
        ([("/a", "/b/x"), ("/b", "/a")], 2),
    ],
)
def test_redirects_that_never_end(bad, pairs, count):
    messages = bad(redirects(*pairs))
    assert len(messages) == count
    assert all("leads back" in message for message in messages)


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        ("", "", True),
        ('listen = [":1"]', "", True),
        ('listen = [":1"]', 'listen = [":2"]', False),
        ('listen = [":1", ":2"]', 'listen = [":2", ":3"]', True),
    ],
)
def test_one_name_in_two_vhosts(good, bad, first, second, conflict):
    text = (
        '[server]\nlisten = [":1", ":2", ":3"]\n'
        f'[[vhost]]\nnames = ["a.org"]\nroot = "/a"\n{first}\n[[vhost]]\nnames = ["A.ORG"]\nroot = "/b"\n{second}\n'
    )
    if conflict:
        (message,) = bad(text)
        assert message.startswith(
            "httpd.toml:8: vhost[1].names[0]: 'a.org' is taken by vhost[0].names[0] (httpd.toml:4)"
        )
    else:
        assert good(text)


def test_one_mistake_makes_one_message(bad):
    """Rules that involve a broken key are left out."""
    text = """
[server]
listen = ["80"]
workers = 100
max_workers = "x"
[[vhost]]
names = ["a b"]
listen = [":81"]
root = 5
[[vhost.directory]]
path = "/a"
[[vhost]]
names = ["*"]
root = 5
[[vhost]]
names = ["c.org"]
[[vhost.directory]]
path = "x"
[[vhost.redirect]]
from = "/b"
to = "?"
"""
    keys = [message.split(": ")[1] for message in bad(text)]
    assert keys == [
        "server.listen[0]", "server.max_workers", "vhost[0].names[0]", "vhost[0].root", "vhost[1].names[0]",
        "vhost[1].root", "vhost[2].directory[0].path", "vhost[2].redirect[0].to",
    ]  # fmt: skip


def test_methods_of_a_vhost_may_be_for_its_redirects(good, bad):
    text = '[[vhost]]\nroot = "/srv"\nmethods = ["GET", "POST"]\n'
    assert len(bad(text)) == 1
    vhost = good(text + '[[vhost.redirect]]\nfrom = "/a"\nto = "/b"\n').config.vhosts[0]
    assert vhost.mounts[1].settings.methods == ("GET", "POST")


HANDLERS = """
[[vhost]]
root = "www"
headers = { X-A = "vhost" }

  [[vhost.handler]]
  path = "/plain"
  class = "app:Plain"

  [[vhost.handler]]
  path = "/full/"
  class = "myapp.hooks:Hooks.Web"
  options = { directory = "www", deep = { list = [1, 2.5, { yes = true }] } }
  server = "http.server:HTTPServer"
  threads = 1
  strip_prefix = true
  stream = true
  http11 = true
  pythonpath = ["app", "/srv/lib.zip"]
  headers = { X-B = "mount" }
  methods = ["POST"]

  [[vhost.directory]]
  path = "/files/"
  handler = "app:Files"
  pythonpath = ["app"]

  [[vhost.redirect]]
  from = "/plain/old"
  to = "/plain"
"""


def test_handlers(good, tmp_path):
    (vhost,) = good(HANDLERS).config.vhosts
    root, files, plain, full, _redirect = vhost.mounts
    assert root == Directory("/", "vhost[0]", vhost.settings, f"{tmp_path}/www")
    assert files == Directory(
        "/files/", "vhost[0].directory[0]", vhost.settings, f"{tmp_path}/www/files", "app:Files", (f"{tmp_path}/app",)
    )
    assert plain == Handler("/plain", "vhost[0].handler[0]", vhost.settings, "app:Plain")
    assert full == Handler(
        path="/full/",
        key="vhost[0].handler[1]",
        settings=full.settings,
        target="myapp.hooks:Hooks.Web",
        options={"directory": "www", "deep": {"list": [1, 2.5, {"yes": True}]}},
        server="http.server:HTTPServer",
        threads=1,
        strip_prefix=True,
        stream=True,
        http11=True,
        pythonpath=(f"{tmp_path}/app", "/srv/lib.zip"),
    )
    assert full.settings.headers == {"X-A": "vhost", "X-B": "mount"}
    assert full.settings.methods == ("POST",)


@pytest.mark.parametrize(
    "other",
    [
        '[[vhost.directory]]\npath = "/a/"\nroot = "/srv"',
        '[[vhost.handler]]\npath = "/a/"\nclass = "b:B"',
        '[[vhost.redirect]]\nfrom = "/a/"\nto = "/b"',
    ],
)
def test_a_handler_shares_its_path_with_no_other_mount(bad, other):
    (message,) = bad(f'[[vhost]]\n[[vhost.handler]]\npath = "/a"\nclass = "a:A"\n{other}\n')
    assert " is taken by vhost[0]." in message


def test_a_handler_at_the_root_takes_the_place_of_the_vhosts_root(good, bad):
    text = '[[vhost.handler]]\npath = "/"\nclass = "a:A"\n'
    assert good("[[vhost]]\n" + text).config.vhosts
    (message,) = bad('[[vhost]]\nroot = "/srv"\n' + text)
    assert "the path '/' is taken by vhost[0].root" in message


@pytest.mark.parametrize(
    "mount",
    [
        '[[vhost.handler]]\npath = "/a"\nclass = "a:A"',
        '[[vhost.directory]]\npath = "/a"\nhandler = "a:A"',
        '[[vhost.directory]]\npath = "/a"\nhandler = "a:A"\nmethods = ["PATCH"]',
    ],
)
def test_methods_of_a_vhost_may_be_for_its_handlers(good, mount):
    text = f'[[vhost]]\nroot = "/srv"\nmethods = ["GET", "POST"]\n{mount}\n'
    assert good(text).config.vhosts[0].mounts[1].settings.methods


@pytest.mark.parametrize("key", ["methods", "pythonpath"])
def test_a_handler_with_a_bad_name_is_one_mistake(bad, key):
    text = f'[[vhost]]\nroot = "/srv"\n[[vhost.directory]]\npath = "/a"\nhandler = "a.A"\n{key} = ["POST"]\n'
    (message,) = bad(text)
    assert message.startswith("httpd.toml:5: vhost[0].directory[0].handler: ")


def test_pythonpath_of_a_directory_is_for_its_handler(good, bad):
    text = '[[vhost]]\nroot = "/srv"\n[[vhost.directory]]\npath = "/a"\npythonpath = '
    assert good(text + "[]\n").config.vhosts
    assert len(bad(text + '["lib"]\n')) == 1
