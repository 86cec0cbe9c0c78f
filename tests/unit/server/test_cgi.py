"""Which requests are for scripts; how they are run is in test_run_cgi."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import httpd.server
from httpd.server import CGIHTTPRequestHandler, _url_collapse_path, cgi, run_cgi
from unit.server.wire import ask, statuses


class Handler(CGIHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


@pytest.mark.parametrize(
    ("path", "collapsed"),
    [
        ("", "//"), (".", "//"), ("..", None), ("/.//..", None), ("/", "//"), ("//", "//"), ("/\\", "//\\"),
        ("/.", "//"), ("/./", "//"), ("/..", None), ("/../", None), ("a", "//a"), ("/a", "//a"), ("a/", "/a/"),
        ("/a//b/../c/.", "/a/c/"), ("./cgi-bin/x.py", "/cgi-bin/x.py"), ("/x/../../y", None), ("/a/b/..", "/a/"),
        ("/cgi-bin%2fx.py", "/cgi-bin/x.py"), ("/cgi-bin/x.py?a=/../b", "/cgi-bin/x.py?a=/../b"), ("/?a", "//?a"),
        ("/%2e%2e/x", None), ("/a/%2e", "/a/"), ("/a/b/../../c", "//c"),
    ],
)  # fmt: skip
def test_paths(path: str, collapsed: str | None) -> None:
    if collapsed is None:
        with pytest.raises(IndexError):
            _url_collapse_path(path)
    else:
        assert _url_collapse_path(path) == collapsed


def bare(path: str) -> Handler:
    made = Handler.__new__(Handler)
    made.path = path
    return made


@pytest.mark.parametrize(
    ("path", "info"),
    [
        ("/cgi-bin/a.py", ("/cgi-bin", "a.py")), ("/htbin/a/b?c", ("/htbin", "a/b?c")), ("/cgi-bin", None),
        ("/cgi-bin/", ("/cgi-bin", "")), ("/cgi-binx/a", None), ("/x/../cgi-bin/a", ("/cgi-bin", "a")),
        ("//cgi-bin/a", ("/cgi-bin", "a")), ("/x/cgi-bin/a", None), ("/deep/er/a", ("/deep/er", "a")),
        ("http://x/cgi-bin/a?b", ("/cgi-bin", "a?b")), ("HTTPS://x:8/%2e/htbin/a", ("/htbin", "a")),
        ("http://x/cgi-bin/", ("/cgi-bin", "")), ("ftp://x/cgi-bin/a", None),
        ("/cgi-bin/a#/../../x", ("/cgi-bin", "a")), ("/cgi-bin/#/../..", ("/cgi-bin", "")),
        ("/cgi-bin/a#b?c#d", ("/cgi-bin", "a?c#d")),
    ],
)  # fmt: skip
def test_which_paths_are_for_scripts(path: str, info: tuple[str, str] | None) -> None:
    with mock.patch.object(Handler, "cgi_directories", ["/cgi-bin", "/htbin", "/deep/er"]):
        handler = bare(path)
        assert handler.is_cgi() is (info is not None)
        assert getattr(handler, "cgi_info", None) == info


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "cgi-bin"
    (folder / "sub").mkdir(parents=True)
    for name, mode in (("run", 0o755), ("plain", 0o644), ("sub/run.py", 0o755)):
        (folder / name).touch()
        (folder / name).chmod(mode)
    (tmp_path / "file").write_text("a file")
    return tmp_path


def answer(root: Path, path: str, method: str = "GET") -> str:
    return ask(Handler, f"{method} {path} HTTP/1.0\r\n\r\n".encode(), directory=root).split(b"\r\n")[0].decode()


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/cgi-bin/none", "404 No such CGI script ('/cgi-bin/none')"),
        ("/cgi-bin/sub", "403 CGI script is not a plain file ('/cgi-bin/sub')"),
        ("/cgi-bin/", "403 CGI script is not a plain file ('/cgi-bin/')"),
        ("/cgi-bin/plain", "403 CGI script is not executable ('/cgi-bin/plain')"),
        ("/file", "200 OK"),
        ("/cgi-bin/../../file", "400 The path climbs above the root"),
        ("/cgi-bin/%E2%82%AC", r"404 No such CGI script ('/cgi-bin/\u20ac')"),
    ],
)
def test_answers(root: Path, path: str, status: str) -> None:
    assert answer(root, path) == f"HTTP/1.0 {status}"


def test_a_path_is_decoded_once(root: Path) -> None:
    """Decoded again, "%2e%2e" leads out of the folder that is for scripts."""
    outside = root / "tool"
    outside.touch(0o755)
    for path in ("/cgi-bin/%252e%252e/tool", "/cgi-bin/%252e%252e%252ftool"):
        assert answer(root, path).startswith("HTTP/1.0 404 ")


def test_a_source_is_never_sent(root: Path) -> None:
    """Even where the two that look at a path do not agree."""
    with mock.patch.object(cgi, "_url_collapse_path", lambda path: "//elsewhere"):
        for path in ("/cgi-bin/plain", "/cgi-bin/", "/x/../cgi-bin/plain"):
            assert answer(root, path) == "HTTP/1.0 404 File not found"
        assert answer(root, "/file") == "HTTP/1.0 200 OK"


def test_a_source_is_never_sent_below_a_mount(root: Path) -> None:
    """Whose prefix is looked for in the path as it was sent by the one, and decoded by the other."""
    handler = bare("/")
    handler.directory = str(root)
    mount = mock.Mock(prefix=b"/app")
    handler._exchange = mock.Mock(mount=mount)
    for path in ("/app/cgi-bin/run", "/%61pp/cgi-bin/run", "/./app/cgi-bin/run", "//app//cgi-bin/run"):
        handler.path = path
        assert handler._leads_to_scripts(), path
    for path in ("/app/file", "/%61pp/x/cgi-bin/run", "/app/%00"):
        handler.path = path
        assert not handler._leads_to_scripts(), path


def test_post_is_for_scripts(root: Path) -> None:
    assert answer(root, "/../x", "POST").startswith("HTTP/1.0 400 ")
    assert answer(root, "/file", "POST") == "HTTP/1.0 501 Can only POST to CGI scripts"
    assert answer(root, "/cgi-bin/none", "POST").startswith("HTTP/1.0 404 ")


def test_what_a_script_is_called_with(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def run(handler: Any, script: str, file: str, rest: str, query: str) -> None:
        calls.append((script, file, rest, query))
        handler.send_response(204)
        handler.end_headers()

    monkeypatch.setattr(run_cgi, "run_script", run)
    paths = (
        "/cgi-bin/sub/run.py/a/b?c=d?e", "/cgi-bin/run?x", "/cgi-bin/%72un", "/cgi-bin/run/%3Fa?b", "/cgi-bin/run/%3Fa",
        "/cgi-bin/run/%252F",
    )  # fmt: skip
    for path in paths:
        assert statuses(ask(Handler, f"GET {path} HTTP/1.0\r\n\r\n".encode(), directory=root)) == [204]
    folder = str(root / "cgi-bin")
    assert calls == [
        ("/cgi-bin/sub/run.py", f"{folder}/sub/run.py", "/a/b", "c=d?e"),
        ("/cgi-bin/run", f"{folder}/run", "", "x"),
        ("/cgi-bin/run", f"{folder}/run", "", ""),
        ("/cgi-bin/run", f"{folder}/run", "/?a", "b"),
        ("/cgi-bin/run", f"{folder}/run", "/?a", ""),
        ("/cgi-bin/run", f"{folder}/run", "/%2F", ""),
    ]


def test_a_subclass_may_find_other_scripts_than_the_path_says(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    class Wiki(Handler):
        def is_cgi(self) -> bool:
            self.cgi_info = "/cgi-bin", "run/page?of=" + self.path
            return True

    def run(handler: Any, *arguments: str) -> None:
        calls.append(arguments)
        handler.send_error(404)

    monkeypatch.setattr(run_cgi, "run_script", run)
    ask(Wiki, b"GET /a HTTP/1.0\r\n\r\n", directory=root)
    assert calls == [("/cgi-bin/run", str(root / "cgi-bin" / "run"), "/page", "of=/a")]


def test_small_things() -> None:
    handler = bare("/")
    assert [handler.is_python(name) for name in ("a.py", "a.PYW", "a.pl", "py")] == [True, True, False, False]
    assert handler.is_executable("/bin/sh")
    assert not httpd.server.executable(__file__)
    assert handler.have_fork is hasattr(os, "fork")


def test_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    monkeypatch.setattr(cgi, "nobody", None)
    assert httpd.server.nobody is None
    entry = mock.Mock(pw_uid=4321)
    with mock.patch.object(pwd, "getpwnam", return_value=entry):
        assert httpd.server.nobody_uid() == 4321
    assert httpd.server.nobody == httpd.server.nobody_uid() == 4321
    monkeypatch.setattr(cgi, "nobody", None)
    monkeypatch.setattr(pwd, "getpwall", lambda: [entry])
    with mock.patch.object(pwd, "getpwnam", side_effect=KeyError):
        assert httpd.server.nobody_uid() == 4322
