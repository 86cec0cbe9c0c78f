"""Scripts as administrators have them, in Perl, PHP, Python and shell, each with its real program and real clients.

git and cgit: test_cgi_git.py.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from email.utils import formatdate
from pathlib import Path

import pytest

from live.daemon import Daemon, Place
from live.handlers.talk import Open, Reply

_PHP = shutil.which("php-cgi") or "/usr/bin/php-cgi"
_PYTHON = "/usr/bin/python3"
_SECRET = "source-that-nobody-sees"
_DATA = bytes(range(256)) * 800  # 200 KiB: larger than what the server keeps in memory of a body
_MODIFIED = 1_700_000_000


def needs(*programs: str) -> pytest.MarkDecorator:
    missing = [program for program in programs if shutil.which(program) is None]
    return pytest.mark.skipif(bool(missing), reason=f"missing: {', '.join(missing)}")


def _has_cgi_pm() -> bool:
    return shutil.which("perl") is not None and not subprocess.run(
        ["perl", "-MCGI", "-e", "1"], capture_output=True, check=False).returncode  # fmt: skip


_SCRIPTS = {
    "report.sh": r"""#!/bin/sh
set -eu
printf 'Content-Type: text/plain; charset=utf-8\r\nX-Report: %s\r\n\r\n' "$REQUEST_METHOD"
printf '%s|%s|%s|%s\n' "$SCRIPT_NAME" "${PATH_INFO-none}" "$QUERY_STRING" "${CONTENT_LENGTH-none}"
exec cksum
""",
    "form.pl": r"""#!/usr/bin/perl -T
use strict; use warnings; use CGI;
my $q = CGI->new;
if (my $error = $q->cgi_error) { print $q->header(-status => $error), $error; exit }
my $file = $q->upload('file');
print $q->header(-type => 'text/plain', -charset => 'utf-8', -cookie => $q->cookie(-name => 'seen', -value => 'yes'));
print join('|', map { scalar $q->param($_) // 'none' } qw(name colour)), '|', join(',', $q->multi_param('many')), "\n";
if ($file) {
    binmode $file; local $/; my $data = <$file>;
    print $q->param('file'), '|', $q->uploadInfo($q->param('file'))->{'Content-Type'}, '|', length $data, '|',
        unpack('%32C*', $data), "\n";
}
print $q->self_url, "\n" if $q->request_method eq 'GET';
""",
    "away.pl": "#!/usr/bin/perl\nuse CGI;\nprint CGI->new->redirect('http://example.org/there');\n",
    "form.py": f"""#!{_PYTHON}
import os, sys
from urllib.parse import parse_qs
warm = "sqlite3" in sys.modules
form = parse_qs(sys.stdin.buffer.read(int(os.environ.get("CONTENT_LENGTH") or 0)).decode())
print("Content-Type: text/plain; charset=utf-8\\n")
print(warm, __name__, os.path.basename(sys.argv[0]), form, sep="|")
""",
    "file.py": f"""#!{_PYTHON}
import os, re, sys
from email.utils import formatdate, parsedate_to_datetime
data, modified = b"0123456789" * 1000, {_MODIFIED}
since, wanted = os.environ.get("HTTP_IF_MODIFIED_SINCE"), os.environ.get("HTTP_RANGE")
print("Last-Modified:", formatdate(modified, usegmt=True))
if since and parsedate_to_datetime(since).timestamp() >= modified:
    print("Status: 304 Not Modified\\n")
    sys.exit()
print("Content-Type: application/octet-stream\\nAccept-Ranges: bytes")
if found := re.fullmatch("bytes=([0-9]+)-([0-9]*)", wanted or ""):
    first, last = int(found[1]), min(int(found[2] or 9999), 9999)
    print(f"Status: 206 Partial Content\\nContent-Range: bytes {{first}}-{{last}}/10000")
    data = data[first : last + 1]
print(f"Content-Length: {{len(data)}}\\n", flush=True)
sys.stdout.buffer.write(data)
""",
}
_PAGES = {
    "index.php": "<?php // SECRET\nheader('Content-Type: text/plain'); $s = $_SERVER;"
                 "echo 'home|', $s['REQUEST_METHOD'], '|', $s['PATH_INFO'] ?? 'none', '|', $_GET['a'] ?? '';",
    "sub/index.php": "<?php // SECRET\necho 'sub|', basename(__DIR__), '|', $_SERVER['SCRIPT_NAME'];",
    "post.php": "<?php // SECRET\n$f = $_FILES['file'] ?? null;"
                "echo $_POST['name'] ?? 'none', '|', implode(',', $_POST['many'] ?? []), '|';"
                "if ($f) echo $f['name'], '|', $f['type'], '|', $f['error'], '|', md5_file($f['tmp_name']);",
    "raw.php": "<?php // SECRET\necho md5(file_get_contents('php://input'));",
    "away.php": "<?php // SECRET\nheader('Location: http://example.org/there', true, 303);",
    "near.php": "<?php // SECRET\nheader('Location: /sub/?from=near');",
    "gone.php": "<?php // SECRET\nhttp_response_code(410); header('X-Own: 1'); echo 'gone';",
    "session.php": "<?php // SECRET\nsession_save_path(getenv('SESSIONS')); session_start();"
                   "$_SESSION['count'] = ($_SESSION['count'] ?? 0) + 1; echo $_SESSION['count'];",
    "OLD.PHP": "<?php // SECRET\necho 'old';",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    for name, text in _SCRIPTS.items():
        shared_place.write(f"cgi/{name}", text.encode(), 0o755)
    for name, text in _PAGES.items():
        shared_place.write(f"site/{name}", text.replace("SECRET", _SECRET).encode(), 0o644)
    shared_place.write("site/style.css", b"body {}")
    shared_place.write("site/pictures/a.txt", b"a picture")
    (shared_place.path / "sessions").mkdir()
    (shared_place.path / "sessions").chmod(0o777)
    mounts = {"/cgi-bin/": 'root = "cgi"', "/one/": 'script = "cgi/report.sh"'}
    if os.access(_PYTHON, os.X_OK):
        mounts["/warm/"] = 'root = "cgi"\nwarm_python = true\nwarm_modules = ["sqlite3"]'
    if os.access(_PHP, os.X_OK):
        mounts["/"] = f"""
            root = "site"
            extensions = [".php"]
            index = ["index.php"]
            interpreters = {{ ".php" = "{_PHP}" }}
            env = {{ SESSIONS = "{shared_place.path}/sessions" }}
            """
    text = "".join(f'[[vhost.cgi]]\npath = "{path}"\n{lines}\n' for path, lines in mounts.items())
    shared_daemon.configure(f"[[vhost]]\n{text}")
    return shared_daemon.start()


def curl(server: Daemon, target: str, *options: str) -> Reply:
    """What curl gets, by its own account."""
    done = subprocess.run(
        ["curl", "--disable", "--silent", "--show-error", "--include", "--max-time", "60", "--noproxy", "*", *options,
         f"http://127.0.0.1:{server.port}{target}"], capture_output=True, timeout=120, check=True,
    )  # fmt: skip
    head, body = b"HTTP/1.1 100 ", done.stdout
    while head.startswith((b"HTTP/1.1 100 ", b"HTTP/1.1 30")) and body.startswith(b"HTTP/1.1 "):
        head, _, body = body.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    _, status, reason = first.decode().split(" ", 2)
    return Reply(1, int(status), reason, lines, body)


def wget(server: Daemon, place: Place, target: str, *options: str) -> tuple[str, Path]:
    """What wget said, and the file that it writes."""
    folder = place.path / "fetched"
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        ["wget", "--no-config", "--no-proxy", "--no-verbose", "--server-response", "--tries=1", *options,
         f"http://127.0.0.1:{server.port}{target}"], capture_output=True, text=True, cwd=folder, timeout=120,
        check=False, env={**os.environ, "LC_ALL": "C", "TZ": "UTC"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr, folder / target.rpartition("/")[2]


def checksum(data: bytes) -> str:
    return subprocess.run(["cksum"], input=data, capture_output=True, check=True).stdout.decode()


# Shell


@needs("curl", "cksum")
def test_a_shell_script(server: Daemon, place: Place) -> None:
    data = place.write("data", _DATA)
    reply = curl(server, "/cgi-bin/report.sh/a%20b/c?x=1&y")
    assert (reply.status, reply["X-Report"], reply["Content-Type"]) == (200, "GET", "text/plain; charset=utf-8")
    assert reply.text == f"/cgi-bin/report.sh|/a b/c|x=1&y|none\n{checksum(b'')}"
    assert curl(server, "/one/a/b").text.startswith("/one|/a/b||none\n")
    expected = f"/cgi-bin/report.sh|none||{len(_DATA)}\n{checksum(_DATA)}"
    for options in (
        ("--data-binary", f"@{data}"), ("--data-binary", f"@{data}", "-H", "Transfer-Encoding: chunked"),
        ("--data-binary", f"@{data}", "-H", "Expect: 100-continue"), ("--upload-file", str(data)),
        ("--data-binary", f"@{data}", "--http1.0"),
    ):  # fmt: skip
        assert curl(server, "/cgi-bin/report.sh", *options).text == expected, options
    head = curl(server, "/cgi-bin/report.sh", "--head")
    assert (head.status, head["X-Report"], head.body) == (200, "HEAD", b"")
    assert curl(server, "/cgi-bin/missing.sh").status == 404


# Perl


_needs_perl = pytest.mark.skipif(not _has_cgi_pm(), reason="perl or its CGI.pm is missing")


@_needs_perl
@needs("curl")
def test_a_form_of_perl_s_cgi_pm(server: Daemon, place: Place) -> None:
    data = place.write("a file.bin", _DATA)
    reply = curl(server, "/cgi-bin/form.pl?name=J%C3%BCrgen;colour=a+b&many=1&many=2")
    name, _, rest = reply.text.partition("|")
    assert (name, rest.splitlines()[0]) == ("Jürgen", "a b|1,2")
    assert reply.text.splitlines()[1].startswith(f"http://127.0.0.1:{server.port}/cgi-bin/form.pl?name=J%C3%BCrgen;")
    assert (reply["Content-Type"], reply["Set-Cookie"]) == ("text/plain; charset=utf-8", "seen=yes; path=/")
    posted = curl(server, "/cgi-bin/form.pl", "-d", "name=x%26y", "-d", "colour=", "-d", "many=3")
    assert posted.text == "x&y||3\n"
    expected = f"n|none|1,2\na file.bin|application/x-own|{len(_DATA)}|{sum(_DATA)}\n"
    for options in ((), ("-H", "Transfer-Encoding: chunked")):
        form = ("-F", "name=n", "-F", "many=1", "-F", "many=2", "-F", f"file=@{data};type=application/x-own")
        assert curl(server, "/cgi-bin/form.pl", *form, *options).text == expected, options
    away = curl(server, "/cgi-bin/away.pl", "--head")
    assert (away.status, away["Location"]) == (302, "http://example.org/there")


# PHP


@needs("php-cgi", "curl")
def test_php_pages(server: Daemon) -> None:
    assert curl(server, "/?a=%3Cb%3E").text == "home|GET|none|<b>"
    assert curl(server, "/index.php/more/of%20it?a=1").text == "home|GET|/more/of it|1"
    assert curl(server, "/sub/").text == "sub|sub|/sub/index.php"
    assert curl(server, "/OLD.PHP").text == "old"
    assert (curl(server, "/sub").status, curl(server, "/sub")["Location"]) == (301, "/sub/")
    assert (curl(server, "/away.php").status, curl(server, "/away.php")["Location"]) == (303, "http://example.org/there")
    assert curl(server, "/near.php", "--location").text == "sub|sub|/sub/index.php"
    gone = curl(server, "/gone.php")
    assert (gone.status, gone["X-Own"], gone.text) == (410, "1", "gone")
    assert curl(server, "/", "--head").body == b""
    # What lies beside them is sent as files are.
    style = curl(server, "/style.css")
    assert (style.status, style["Content-Type"], style.text) == (200, "text/css; charset=utf-8", "body {}")
    assert curl(server, "/pictures/a.txt", "--range", "2-4").text == "pic"
    assert curl(server, "/pictures/").status == 403


@needs("php-cgi", "curl")
def test_php_forms(server: Daemon, place: Place) -> None:
    data = place.write("a file.bin", _DATA)
    assert curl(server, "/post.php", "-d", "name=x%26y", "-d", "many[]=1&many[]=2").text == "x&y|1,2|"
    form = ("-F", "name=n", "-F", f"file=@{data};type=application/x-own")
    digest = _md5(_DATA)
    for options in ((), ("-H", "Transfer-Encoding: chunked"), ("-H", "Expect: 100-continue")):
        text = curl(server, "/post.php", *form, *options).text
        assert text == f"n||a file.bin|application/x-own|0|{digest}", options
    raw = ("--data-binary", f"@{data}", "-H", "Content-Type: application/octet-stream")
    assert curl(server, "/raw.php", *raw).text == digest
    assert curl(server, "/raw.php", *raw, "--request", "PUT", "-H", "Transfer-Encoding: chunked").text == digest


def _md5(data: bytes) -> str:
    return subprocess.run(["md5sum"], input=data, capture_output=True, check=True).stdout.decode().split()[0]


@needs("php-cgi", "curl")
def test_a_php_session(server: Daemon, place: Place) -> None:
    jar = ("--cookie-jar", str(place.path / "jar"), "--cookie", str(place.path / "jar"))
    assert [curl(server, "/session.php", *jar).text for _ in range(3)] == ["1", "2", "3"]
    fresh = curl(server, "/session.php")
    assert fresh.text == "1"
    assert re.fullmatch(r"PHPSESSID=[^;]+; path=/", fresh["Set-Cookie"])
    assert "no-cache" in fresh["Cache-Control"]


@needs("php-cgi")
def test_the_source_of_php_is_never_sent(server: Daemon, talk: Open) -> None:
    targets = [
        "/NAME", "/NAME/", "/NAME//", "/NAME/x", "/NAME/style.css", "/NAME/../NAME", "/./NAME", "//NAME",
        "/sub/../NAME", "/NAME%00", "/NAME%00.css", "/NAME.", "/NAME..", "/NAME%20", "/NAME%2E", "/NAME::$DATA",
        "/NAME~", "/NAME%2F", "/NAME%5C", "/NAME;x", "/NAME?x", "/NAME?-s", "/NAME?-s+x", "/NAME%3F", "/NAME%0A",
        "/NAME%09", "/%2e/NAME", "/style.css/NAME", "/style.css/../NAME", "/pictures/..%2FNAME", "/pictures/../NAME",
    ]  # fmt: skip
    asked = [(pattern.replace("NAME", name), "GET", field) for pattern in targets
             for name in ("post.php", "post%2Eph%70", "Post.Php", "OLD.PHP", "old.php")
             for field in ("Accept: */*", "Range: bytes=0-200")]  # fmt: skip
    asked += [(f"/post.php{end}", method, "Accept: */*") for end in ("", "/", ".", "/x.css")
              for method in ("HEAD", "POST", "OPTIONS", "PUT", "X-OWN")]  # fmt: skip
    seen = set()
    for target, method, field in asked:
        reply = talk().ask(target, field, method=method)
        assert _SECRET not in str(reply.lines) + reply.body.decode("latin-1"), (method, target)
        assert reply.status in (200, 400, 403, 404, 405, 501), (method, target, reply.status)
        seen.add(reply.status)
    assert {200, 400, 404} <= seen
    assert talk().ask("/POST.PHP").status == 404


# Python


@needs(_PYTHON, "curl")
@pytest.mark.parametrize("mount", ["cgi-bin", "warm"])
def test_a_form_of_python(server: Daemon, mount: str) -> None:
    for number in range(3):
        reply = curl(server, f"/{mount}/form.py", "-d", f"a={number}", "--data-urlencode", "b=ä&b")
        assert reply.text == f"{mount == 'warm'}|__main__|form.py|{ {'a': [str(number)], 'b': ['ä&b']} }\n"
    assert curl(server, f"/{mount}/form.py").text.endswith("|{}\n")


@needs(_PYTHON, "curl")
def test_curl_asks_a_script_for_a_part(server: Daemon, place: Place) -> None:
    for target in ("/cgi-bin/file.py", "/warm/file.py"):
        part = curl(server, target, "--range", "5-14")
        assert (part.status, part["Content-Range"], part.body) == (206, "bytes 5-14/10000", b"5678901234")
        assert curl(server, target).body == b"0123456789" * 1000
        kept = curl(server, target, "--time-cond", formatdate(_MODIFIED, usegmt=True))
        assert (kept.status, kept.reason, kept.body) == (304, "Not Modified", b"")
        assert kept["Last-Modified"] == formatdate(_MODIFIED, usegmt=True)
        assert curl(server, target, "--time-cond", formatdate(_MODIFIED - 1, usegmt=True)).status == 200
        begun = place.write("begun", b"0123456789" * 300)
        continued = ("--continue-at", "-", "--output", str(begun), "--no-include")
        subprocess.run(["curl", "--silent", "--fail", "--noproxy", "*", *continued,
                        f"http://127.0.0.1:{server.port}{target}"], check=True, timeout=120)  # fmt: skip
        assert begun.read_bytes() == b"0123456789" * 1000


@needs(_PYTHON, "wget")
def test_wget_asks_a_script_for_the_rest(server: Daemon, place: Place) -> None:
    said, path = wget(server, place, "/cgi-bin/file.py")
    assert path.read_bytes() == b"0123456789" * 1000
    assert path.stat().st_mtime == _MODIFIED
    said, _ = wget(server, place, "/cgi-bin/file.py", "--timestamping")
    assert "304 Not Modified" in said
    with path.open("r+b") as file:
        file.truncate(1234)
    said, _ = wget(server, place, "/cgi-bin/file.py", "--continue")
    assert "206 Partial Content" in said
    assert path.read_bytes() == b"0123456789" * 1000


@needs("wget", "cksum")
def test_wget_posts_to_a_script(server: Daemon, place: Place) -> None:
    data = place.write("data", _DATA)
    _, path = wget(server, place, "/cgi-bin/report.sh", f"--post-file={data}")
    assert path.read_text() == f"/cgi-bin/report.sh|none||{len(_DATA)}\n{checksum(_DATA)}"
