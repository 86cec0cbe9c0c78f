"""conf/examples/cgi*.toml do what they say, as drop-ins with the real programs.

Only what a machine has in its own places is exchanged: users, and folders below /srv, /etc and /usr/lib/cgi-bin.
"""

from __future__ import annotations

import os
import re
import shutil
import tarfile
from io import BytesIO
from pathlib import Path

import pytest

from live.cgi.git import Git, publish
from live.client import Answer, Client, request
from live.daemon import Daemon, Place, worker_user

EXAMPLES = Path(__file__).parents[2] / "conf" / "examples"


def _installed(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"missing: {', '.join(missing)}")


def _start(daemon: Daemon, name: str) -> Daemon:
    """A server with one example."""
    text = _moved((EXAMPLES / name).read_text(), daemon.place)
    user = f'user = "{worker_user()}"' if os.geteuid() == 0 else ""
    text, users = re.subn(r'^ *user = "(?:git|www-data)"$', user, text, flags=re.MULTILINE)
    assert users == 1
    daemon.place.write(f"conf.d/{name}", text.encode())
    daemon.configure("", 'include = ["conf.d/*.toml"]')
    return daemon.start()


def _moved(text: str, place: Place) -> str:
    return re.sub(r"/srv/|/etc/|/usr/lib/cgi-bin\b", lambda found: f"{place.path}{found[0]}", text)


def _ask(daemon: Daemon, host: str, target: str, *fields: str, method: str = "GET", body: bytes = b"") -> Answer:
    with Client(("127.0.0.1", daemon.port)) as client:
        raw = request(target, "Connection: close", *fields, method=method, host=host, body=body)
        return client.send(raw.replace(b"HTTP/1.1\r\n", b"HTTP/1.0\r\n", 1)).read(method)


def test_cgi_bin(daemon: Daemon) -> None:
    script = b"#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'; echo $SCRIPT_NAME $PATH_INFO; ulimit -t; id -un\n"
    daemon.place.write("usr/lib/cgi-bin/report", script, 0o755)
    for name in ("php", "php.default", "php8.2"):
        daemon.place.write(f"usr/lib/cgi-bin/{name}", script, 0o755)
    daemon.place.write("usr/share/tool/tool.cgi", script, 0o755)
    (daemon.place.path / "usr/lib/cgi-bin/tool.cgi").symlink_to("../../share/tool/tool.cgi")
    daemon.place.write("srv/www/cgi.example.org/index.html", b"<p>a page")
    _start(daemon, "cgi.toml")
    answer = _ask(daemon, "cgi.example.org", "/cgi-bin/report/a")
    assert answer.status == 200
    name, limit, user = answer.body.decode().splitlines()
    assert (name, limit) == ("/cgi-bin/report /a", "120")
    assert user != "root"
    assert _ask(daemon, "cgi.example.org", "/").body == b"<p>a page"
    assert _ask(daemon, "cgi.example.org", "/cgi-bin/tool.cgi/b").body.startswith(b"/cgi-bin/tool.cgi /b\n")
    for target in ("php", "php.default/x", "php8.2", "php8.2/x", "./php8%2e2/x"):
        assert _ask(daemon, "cgi.example.org", f"/cgi-bin/{target}").status in (301, 302, 307, 308)


@_installed("git", "/usr/lib/git-core/git-http-backend")
def test_git(daemon: Daemon) -> None:
    git = Git(daemon.place)
    source = git.source("source", 2)
    owner = worker_user()
    (daemon.place.path / "srv" / "git").mkdir(parents=True)
    publish(git, daemon.place, "project.git", source, root="srv/git", owner=owner)
    text = (EXAMPLES / "cgi-git.toml").read_text()
    _start(daemon, "cgi-git.toml")
    url = f"http://git.example.org:{daemon.port}/project.git"
    assert url.replace(f":{daemon.port}", "") in text  # as the example tells to clone from
    reach = ("-c", f"http.curloptResolve=git.example.org:{daemon.port}:127.0.0.1")
    git(git.folder, *reach, "clone", "--quiet", url, "clone")
    clone = git.folder / "clone"
    assert git.head(clone) == git.head(source)
    git.commit(clone, "more.txt", b"more\n")
    assert "403" in git(clone, *reach, "push", "--quiet", fails=True)
    command = re.search(r"git -C /srv/git/project\.git (config http\.receivepack true)$", text, re.MULTILINE)
    assert command is not None
    git(daemon.place.path / "srv/git/project.git", *command[1].split())
    git(clone, *reach, "push", "--quiet")
    assert git.head(clone) in git(source, *reach, "ls-remote", url)


@_installed("git", "/usr/lib/cgit/cgit.cgi")
@pytest.mark.skipif(not Path("/usr/share/cgit/cgit.css").exists(), reason="/usr/share/cgit is missing")
def test_cgit(daemon: Daemon) -> None:
    git = Git(daemon.place)
    (daemon.place.path / "srv" / "git").mkdir(parents=True)
    publish(git, daemon.place, "project.git", git.source("source"), root="srv/git")  # another's, whom cgit runs as not
    text = (EXAMPLES / "cgi-cgit.toml").read_text()
    told = re.search(r"^# In /etc/cgitrc: +(.+\n(?:# {10,}.+\n)+)", text, re.MULTILINE)
    assert told is not None
    rc = _moved(re.sub(r"^# +", "", told[1], flags=re.MULTILINE), daemon.place)
    daemon.place.write("etc/cgitrc", rc.encode())
    _start(daemon, "cgi-cgit.toml")
    assert b"/project.git/" in _ask(daemon, "cgit.example.org", "/").body
    page = _ask(daemon, "cgit.example.org", "/project.git/")
    assert (page.status, b"commit of file0.txt" in page.body) == (200, True)
    for link in set(re.findall(rb"(?:href|src)='(/cgit-css/[^']+)'", page.body)):
        assert _ask(daemon, "cgit.example.org", link.decode()).status == 200, link
    packed = _ask(daemon, "cgit.example.org", "/project.git/snapshot/project-main.tar.gz")
    with tarfile.open(fileobj=BytesIO(packed.body)) as archive:
        assert "project-main/file0.txt" in archive.getnames()


@_installed("/usr/bin/php-cgi")
def test_php(daemon: Daemon) -> None:
    page = b"<?php echo 'page ', $_SERVER['REQUEST_URI'], ' ', $_POST['a'] ?? '';"
    for name in ("index.php", "sub/index.php", "uploads/evil.php", "uploads/a.PHP", "uploads/x/index.php"):
        daemon.place.write(f"srv/www/php/{name}", page)
    daemon.place.write("srv/www/php/uploads/page.html", b"<script>")
    daemon.place.write("srv/www/php/plain/index.html", b"<p>plain")
    daemon.place.write("srv/www/php/style.css", b"body {}")
    _start(daemon, "cgi-php.toml")
    host = "php.example.org"
    assert _ask(daemon, host, "/").body == b"page / "
    assert _ask(daemon, host, "/sub/?b").body == b"page /sub/?b "
    form = "Content-Type: application/x-www-form-urlencoded"
    assert _ask(daemon, host, "/index.php", form, method="POST", body=b"a=1").body == b"page /index.php 1"
    assert _ask(daemon, host, "/plain/").body == b"<p>plain"
    assert _ask(daemon, host, "/style.css").body == b"body {}"
    for name in ("evil.php", "page.html", "a.PHP"):
        sent = _ask(daemon, host, f"/uploads/{name}")
        assert (sent.status, sent["Content-Type"].partition(";")[0]) == (200, "text/plain"), name
        assert sent["X-Content-Type-Options"] == "nosniff"
        assert not sent.body.startswith(b"page")
    assert _ask(daemon, host, "/uploads/evil.php/x").status == 404
    assert _ask(daemon, host, "/uploads/x/").status == 403
