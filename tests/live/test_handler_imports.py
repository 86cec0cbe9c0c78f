"""Handlers are loaded after the fork: what can't be is found by --check and at a reload, and new code is taken up."""

from __future__ import annotations

import re

import pytest

from live.daemon import Daemon, Place, StartFailed, run_httpd
from live.handlers.talk import Talk, entries

_GOOD = """
from http.server import BaseHTTPRequestHandler

class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")
"""
# name -> (the module, its class, what is said of it; {} is the file)
_BAD = {
    "syntax": ("class Handler:\n    def do_GET(self)\n        pass\n", "Handler",
               "can't import 'mod': SyntaxError: expected ':' ({}, line 2)"),
    "missing": ("import os\n\nimport not_installed_here\n", "Handler",
                "can't import 'mod': ModuleNotFoundError: No module named 'not_installed_here' ({}, line 3)"),
    "raises": ("def fail():\n    raise ValueError('two\\nlines')\n\nfail()\n", "Handler",
               "can't import 'mod': ValueError: two lines ({}, line 2)"),
    "exits": ("import sys\nsys.exit(3)\n", "Handler", "can't import 'mod': SystemExit: 3 ({}, line 2)"),
    "name": ("class Other: pass\n", "Handler", "there is no 'Handler' in 'mod' ({})"),
    "number": ("Handler = 7\n", "Handler", "'mod:Handler' is no class or function, but int"),
}  # fmt: skip


def _config(name: str = "mod:Handler", more: str = "") -> str:
    return f'[[vhost]]\nroot = "www"\n[[vhost.handler]]\npath = "/h"\nclass = "{name}"\npythonpath = ["app"]\n{more}'


def _write(place: Place, text: str, name: str = "mod") -> str:
    path = place.write(f"app/{name}.py", text.encode())
    path.parent.chmod(0o755)
    return str(path)


def _get(daemon: Daemon) -> str:
    with Talk(daemon) as client:
        return client.ask("/h").text


def _expected(line: str, file: str, path: str) -> str:
    key = "vhost[0].handler[0].class"
    return f"{path}: {key}: {line.format(file)}"


@pytest.mark.parametrize("name", _BAD)
def test_check_finds_what_can_not_be_loaded(place: Place, daemon: Daemon, name: str) -> None:
    text, kind, line = _BAD[name]
    file = _write(place, text)
    daemon.configure(_config(f"mod:{kind}"))
    done = run_httpd("--check", "-c", str(daemon.file), cwd=place.path)
    assert (done.returncode, done.stdout) == (78, "")
    assert _expected(line, file, str(daemon.file)) in done.stderr.splitlines()
    assert "Traceback" not in done.stderr


def test_check_finds_all_of_them(place: Place, daemon: Daemon) -> None:
    _write(place, "import not_installed_here\n")
    _write(place, "1/0\n", "second")
    more = '[[vhost.handler]]\npath = "/i"\nclass = "second:X"\n[[vhost.handler]]\npath = "/j"\nclass = "none:X"\n'
    more += 'server = "http.client:HTTPConnection"\n[[vhost.handler]]\npath = "/k"\nclass = "http.server:HTTPServer"\n'
    more += 'server = "http.client:HTTPConnection"\n'
    daemon.configure(_config(more=more))
    done = run_httpd("--check", "-c", str(daemon.file), cwd=place.path)
    assert done.returncode == 78
    for part in ("handler[0].class: can't", "handler[1].class: can't", "handler[2].class: can't",
                 "handler[3].server: 'http.client:HTTPConnection' is no class of TCP servers"):  # fmt: skip
        assert len(re.findall(re.escape(part), done.stderr)) == 1, done.stderr


def test_check_of_good_ones(place: Place, daemon: Daemon) -> None:
    _write(place, _GOOD)
    daemon.configure(_config())
    done = run_httpd("--check", "-c", str(daemon.file), cwd=place.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not list(place.path.glob("app/__pycache__"))


@pytest.mark.parametrize("name", ["missing", "exits"])
def test_a_start_fails_with_the_same_line(place: Place, daemon: Daemon, name: str) -> None:
    daemon.expect(".")
    text, _, line = _BAD[name]
    file = _write(place, text)
    daemon.configure(_config())
    with pytest.raises(StartFailed) as caught:
        daemon.start()
    assert caught.value.code == 69
    assert f"vhost[0].handler[0].class: {line.format(file)}" in caught.value.text
    assert "Traceback" not in caught.value.text


def test_a_reload_takes_up_new_code(place: Place, daemon: Daemon) -> None:
    _write(place, _GOOD.format("one"))
    daemon.configure(_config())
    daemon.start()
    assert _get(daemon) == "one"
    for text in ("two", "six", "ten", "longer"):  # the same size, within a second
        _write(place, _GOOD.format(text))
        daemon.reload()
        assert {_get(daemon) for _ in range(6)} == {text}


@pytest.mark.parametrize("name", ["syntax", "missing", "raises", "name"])
def test_a_reload_with_bad_code_changes_nothing(place: Place, daemon: Daemon, name: str) -> None:
    daemon.expect("reload", "can't import|there is no", "rolled back")
    _write(place, _GOOD.format("old"))
    daemon.configure(_config())
    daemon.start()
    before = sorted(daemon.workers())
    text, _, line = _BAD[name]
    file = _write(place, text)
    done = daemon.ctl("reload")
    assert (done.returncode, done.stdout) == (6, "")
    assert f"vhost[0].handler[0].class: {line.format(file)}" in done.stderr
    assert "Traceback" not in done.stderr
    assert _get(daemon) == "old"
    assert sorted(daemon.workers()) == before
    assert not daemon.status()["last_reload"]["ok"]
    _write(place, _GOOD.format("new"))
    daemon.reload()
    assert _get(daemon) == "new"


def test_a_bad_server_at_a_reload_is_named(place: Place, daemon: Daemon) -> None:
    daemon.expect("reload", "server")
    _write(place, _GOOD.format("old"))
    daemon.configure(_config())
    daemon.start()
    _write(place, _GOOD.format("x") + "\nfrom http.server import HTTPServer\nclass Bad(HTTPServer):\n"
           "    def __init__(self, *arguments):\n        raise KeyError('nothing')\n")  # fmt: skip
    daemon.configure(_config(more='server = "mod:Bad"\n'))
    outcome = daemon.call("reload")
    assert outcome["code"] == 6
    assert "vhost[0].handler[0].server: KeyError: 'nothing' (" in outcome["text"]
    assert _get(daemon) == "old"


def test_modules_beside_each_other(place: Place, daemon: Daemon) -> None:
    place.write("lib/helper.py", b"TEXT = 'from the helper'\n")
    (place.path / "lib").chmod(0o755)
    _write(place, "from package.inner import Handler\n")
    place.write("app/package/__init__.py")
    place.write("app/package/inner.py", b"import helper\n" + _GOOD.format("%s").replace(
        'b"%s"', "helper.TEXT.encode()").encode())  # fmt: skip
    daemon.configure(_config("package.inner:Handler").replace('["app"]', '["app", "lib"]'))
    daemon.start()
    assert _get(daemon) == "from the helper"
    assert not entries(daemon, r"\[warning\]", 0)


def test_the_standard_library_s_own_class(place: Place, daemon: Daemon) -> None:
    place.write("www/a.txt", b"static")
    place.write("app/unused.py")
    more = f'options = {{ directory = "{place.www}" }}\nstrip_prefix = true\nhttp11 = true\n'
    daemon.configure(_config("http.server:SimpleHTTPRequestHandler", more))
    daemon.start()
    with Talk(daemon) as client:
        assert client.ask("/h/a.txt").text == "static"
        assert client.ask("/h/nothing").status == 404
