"""git by git-http-backend, and cgit: the real programs as scripts, the real git as the client."""

from __future__ import annotations

import gzip
import io
import os
import re
import shutil
import tarfile
from concurrent.futures import ThreadPoolExecutor

import pytest

from live.cgi.git import Git, publish
from live.daemon import Daemon, Place
from live.handlers.talk import Open

BACKEND = "/usr/lib/git-core/git-http-backend"
CGIT = "/usr/lib/cgit/cgit.cgi"
_LARGE = 11 * 1024**2

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is missing")
_needs_backend = pytest.mark.skipif(not os.access(BACKEND, os.X_OK), reason=f"{BACKEND} is missing")
_needs_cgit = pytest.mark.skipif(not os.access(CGIT, os.X_OK), reason=f"{CGIT} is missing")
_both_protocols = pytest.mark.parametrize("protocol", [0, 2])


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    (shared_place.path / "git").mkdir()
    shared_place.write("cgitrc", f"virtual-root=/cgit/\ncss=/cgit-css/cgit.css\ncache-size=0\nenable-http-clone=1\n"
                                 f"snapshots=tar.gz\nscan-path={shared_place.path}/git\n".encode())  # fmt: skip
    shared_place.write("css/cgit.css", b"/* style */")
    text = '[[vhost]]\nroot = "www"\n'
    if os.access(BACKEND, os.X_OK):
        env = f'GIT_PROJECT_ROOT = "{shared_place.path}/git", GIT_HTTP_EXPORT_ALL = "", GIT_CONFIG_NOSYSTEM = "1"'
        text += f'[[vhost.cgi]]\npath = "/git/"\nscript = "{BACKEND}"\nenv = {{ {env} }}\n'
    if os.access(CGIT, os.X_OK):
        env = f'CGIT_CONFIG = "{shared_place.path}/cgitrc", GIT_CONFIG_NOSYSTEM = "1"'
        text += f'[[vhost.cgi]]\npath = "/cgit/"\nscript = "{CGIT}"\nenv = {{ {env} }}\n'
        text += '[[vhost.directory]]\npath = "/cgit-css/"\nroot = "css"\n'
    shared_daemon.configure(text)
    return shared_daemon.start()


@pytest.fixture
def git(shared_place: Place) -> Git:
    return Git(shared_place)


def address(server: Daemon, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


# git-http-backend


@_needs_backend
@_both_protocols
def test_clone_and_fetch(server: Daemon, shared_place: Place, git: Git, protocol: int) -> None:
    name = f"fetched{protocol}"
    source = git.source(f"source-{name}", 3)
    bare = publish(git, shared_place, f"{name}.git", source)
    version = f"protocol.version={protocol}"
    git(git.folder, "-c", version, "clone", "--quiet", address(server, f"/git/{name}.git"), name)
    asked, heard = "Git-Protocol: version=2" in git.trace, "< version 2\n" in git.trace
    assert (asked, heard) == (protocol == 2, protocol == 2)
    clone = git.folder / name
    assert (clone / "file2.txt").read_bytes() == b"content 2\n"
    git.commit(source, "later.txt", b"later\n")
    git(source, "push", "--quiet", str(bare), "main")
    git(clone, "-c", version, "pull", "--quiet", "--ff-only")
    assert git.head(clone) == git.head(source)
    git(clone, "fsck", "--strict")
    assert git(clone, "-c", version, "ls-remote", "origin", "main").split() == [git.head(source), "refs/heads/main"]


@_needs_backend
@_both_protocols
def test_a_shallow_clone_that_is_deepened(server: Daemon, shared_place: Place, git: Git, protocol: int) -> None:
    name = f"shallow{protocol}"
    publish(git, shared_place, name, git.source(f"source-{name}", 5))
    version = f"protocol.version={protocol}"
    git(git.folder, "-c", version, "clone", "--quiet", "--depth=2", address(server, f"/git/{name}"), name)
    clone = git.folder / name
    assert git(clone, "rev-list", "--count", "HEAD").strip() == "2"
    git(clone, "-c", version, "fetch", "--quiet", "--deepen=1")
    assert git(clone, "rev-list", "--count", "HEAD").strip() == "3"
    git(clone, "-c", version, "fetch", "--quiet", "--unshallow")
    assert git(clone, "rev-list", "--count", "HEAD").strip() == "5"
    git(clone, "fsck", "--strict")


@_needs_backend
@_both_protocols
def test_a_large_push_in_chunks(server: Daemon, shared_place: Place, git: Git, protocol: int) -> None:
    """More than git holds back to learn its length, and more than the server holds in memory."""
    name = f"pushed{protocol}"
    bare = publish(git, shared_place, name, push=True)
    source = git.source(f"source-{name}")
    git.commit(source, "large.bin", os.urandom(_LARGE))
    version = ("-c", f"protocol.version={protocol}")
    git(source, "-c", "http.postBuffer=65536", *version, "push", "--quiet", address(server, f"/git/{name}"), "main")
    assert re.search(r"POST /git/pushed\d/git-receive-pack", git.trace)
    assert "Transfer-Encoding: chunked" in git.trace
    assert git(bare, "rev-parse", "main").strip() == git.head(source)
    git(bare, "fsck", "--strict")
    git(git.folder, *version, "clone", "--quiet", address(server, f"/git/{name}"), name)
    assert (git.folder / name / "large.bin").read_bytes() == (source / "large.bin").read_bytes()


@_needs_backend
def test_a_small_push_and_one_that_is_refused(server: Daemon, shared_place: Place, git: Git) -> None:
    bare = publish(git, shared_place, "small", push=True)
    source = git.source("source-small")
    git(source, "push", "--quiet", address(server, "/git/small"), "main", "main:refs/heads/with/a#sign")
    assert "Transfer-Encoding: chunked" not in git.trace.split("=> Send header: POST")[-1].split("<=")[0]
    assert git(bare, "rev-parse", "refs/heads/with/a#sign").strip() == git.head(source)
    git(source, "push", "--quiet", address(server, "/git/small"), ":with/a#sign")
    assert "with/a" not in git(bare, "branch")
    git(bare, "config", "http.receivepack", "false")
    text = git(source, "push", "--quiet", address(server, "/git/small"), "main:other", fails=True)
    assert "403" in text


@_needs_backend
@_both_protocols
def test_a_fetch_that_is_gzipped(server: Daemon, shared_place: Place, git: Git, protocol: int) -> None:
    """What the client wants and has, in more than a kilobyte: git compresses it, and http-backend takes it apart."""
    name = f"zipped{protocol}"
    source = git.source(f"source-{name}", 40)
    for number in range(40):
        git(source, "branch", f"b{number}", f"HEAD~{39 - number}")
    publish(git, shared_place, name, source)
    version = ("-c", f"protocol.version={protocol}")
    git(git.folder, *version, "clone", "--quiet", address(server, f"/git/{name}"), name)
    assert "Content-Encoding: gzip" in git.trace
    clone = git.folder / name
    assert len(git(clone, "branch", "--remotes").splitlines()) == 42  # with main and HEAD
    git(clone, "fsck", "--strict")


@_needs_backend
def test_a_gzipped_body_is_the_script_s_to_unpack(server: Daemon, shared_place: Place, git: Git, talk: Open) -> None:
    publish(git, shared_place, "by-hand", git.source("source-by-hand"))
    fields = ("Content-Type: application/x-git-upload-pack-request", "Git-Protocol: version=2")
    body = b"0014command=ls-refs\n0001" + b"0009peel\n" + b"0000"
    reply = talk().ask("/git/by-hand/git-upload-pack", *fields, "Content-Encoding: gzip", method="POST",
                       body=gzip.compress(body))  # fmt: skip
    assert (reply.status, reply["Content-Type"]) == (200, "application/x-git-upload-pack-result")
    assert reply.body.endswith(b" refs/heads/main\n0000")
    assert reply.body == talk().ask("/git/by-hand/git-upload-pack", *fields, method="POST", body=body).body


@_needs_backend
def test_the_dumb_protocol(server: Daemon, shared_place: Place, git: Git) -> None:
    """Every object by a request of its own, and 404 for those that are in a pack."""
    source = git.source("source-dumb", 10)
    publish(git, shared_place, "dumb", source)
    git(git.folder, "clone", "--quiet", address(server, "/git/dumb"), "dumb", GIT_SMART_HTTP="0")
    assert "/git-upload-pack" not in git.trace
    assert git.head(git.folder / "dumb") == git.head(source)


@_needs_backend
def test_many_clones_at_once(server: Daemon, shared_place: Place, git: Git) -> None:
    source = git.source("source-many", 3)
    publish(git, shared_place, "many", source)

    def clone(number: int) -> str:
        one = Git(shared_place)
        one(one.folder, "clone", "--quiet", address(server, "/git/many"), f"many{number}")
        return one.head(one.folder / f"many{number}")

    with ThreadPoolExecutor(12) as pool:
        assert set(pool.map(clone, range(12))) == {git.head(source)}


@_needs_backend
def test_what_is_not_there(server: Daemon, shared_place: Place, git: Git, talk: Open) -> None:
    publish(git, shared_place, "there", git.source("source-there"))
    server.expect(r"stderr .*(Not a git repository|not found|not exported|Request not supported|aliased|repository)")
    text = git(git.folder, "clone", address(server, "/git/nowhere"), "x", fails=True)
    assert f"repository '{address(server, '/git/nowhere')}/' not found" in text
    for target, status in (
        ("/git/", 404), ("/git/there/secret", 404), ("/git/there/objects/..%2f..%2fconfig", 404),
        ("/git/there/info/refs?service=git-receive-pack", 403), ("/git/there/HEAD", 200),
    ):  # fmt: skip
        assert talk().ask(target).status == status, target
    assert talk().ask("/git/there/info/refs", method="PUT").status == 405


# cgit


@_needs_cgit
def test_cgit_shows_a_repository(server: Daemon, shared_place: Place, git: Git, talk: Open) -> None:
    source = git.source("source-shown", 2)
    publish(git, shared_place, "shown", source)
    head = git.head(source)
    client = talk()
    for target, text in (
        ("/cgit/", b"/cgit/shown/"), ("/cgit/shown/", b"commit of file1.txt"),
        ("/cgit/shown/log/?qt=grep&q=file0", b"commit of file0.txt"), ("/cgit/shown/tree/", b"file1.txt"),
        (f"/cgit/shown/commit/?id={head}", b"commit of file1.txt"), (f"/cgit/shown/diff/?id={head}", b"+content 1"),
    ):  # fmt: skip
        reply = client.ask(target)
        assert (reply.status, reply["Content-Type"]) == (200, "text/html; charset=UTF-8"), target
        assert text in reply.body, target
        empty = client.ask(target, method="HEAD")
        assert (empty.status, empty["Content-Type"], empty.body) == (200, reply["Content-Type"], b"")
    plain = client.ask("/cgit/shown/plain/file0.txt")
    assert (plain.status, plain["Content-Type"], plain.body) == (200, "text/plain; charset=UTF-8", b"content 0\n")
    assert client.ask("/cgit-css/cgit.css").body == b"/* style */"
    assert client.ask("/cgit/nowhere/").status == 404
    assert client.ask("/cgit").status in (200, 301)


@_needs_cgit
def test_cgit_packs_and_is_cloned_from(server: Daemon, shared_place: Place, git: Git, talk: Open) -> None:
    source = git.source("source-packed", 2)
    publish(git, shared_place, "packed", source)
    reply = talk().ask("/cgit/packed/snapshot/packed-main.tar.gz")
    assert reply.status == 200
    with tarfile.open(fileobj=io.BytesIO(reply.body)) as archive:
        assert archive.getnames() == ["packed-main", "packed-main/file0.txt", "packed-main/file1.txt"]
    git(git.folder, "clone", "--quiet", address(server, "/cgit/packed"), "packed")
    assert git.head(git.folder / "packed") == git.head(source)
