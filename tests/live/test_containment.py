"""Nothing outside of a root is served, however it is asked for, and no answer sends a client elsewhere."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from live.client import Client, request
from live.conftest import Connect
from live.daemon import Daemon, Place

_SECRET = b"the secret of this machine"
_CLIMBS = [
    b"/../secret", b"/../../secret", b"/%2e%2e/secret", b"/..%2fsecret", b"/%2e%2e%2fsecret", b"/.%2e/secret",
    b"/..%5csecret", b"/..%c0%afsecret", b"/%c0%ae%c0%ae/secret", b"/..%252fsecret", b"/%252e%252e/secret",
    b"/sub/../../secret", b"/sub/..%2f..%2fsecret", b"//../secret", b"/./../secret", b"/..;/secret", b"/%2e%2e//secret",
    b"/..%00/secret", b"/sub/%2e%2e/%2e%2e/secret", b"/....//secret", b"/..%ef%bc%8fsecret",
]  # fmt: skip


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    place = shared_place
    place.write("secret", _SECRET)
    place.write("outside/secret", _SECRET)
    place.write("www-other/secret", _SECRET)
    place.write("www/sub/file", b"inside")
    www = place.www
    for name, target in {
        "out": "../secret", "out-absolute": str(place.path / "secret"), "out-folder": "../outside",
        "in": "sub/file", "in-absolute": str(www / "sub/file"), "in-folder": "sub", "up-and-in": "../www/sub/file",
        "loop": "loop", "chain": "in", "chain-out": "out", "etc": "/etc", "proc": "/proc/self/root/etc/passwd",
    }.items():  # fmt: skip
        (www / name).symlink_to(target)
    os.mkfifo(www / "fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(www / "socket"))
    if os.geteuid() == 0:
        os.mknod(www / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    shared_daemon.configure(
        '[[vhost]]\nroot = "www"\nlisting = true\n'
        '[[vhost.directory]]\npath = "/none/"\nroot = "www"\nsymlinks = "none"\n'
        '[[vhost.directory]]\npath = "/all/"\nroot = "www"\nsymlinks = "all"\n'
    )
    return shared_daemon.start()


@pytest.mark.parametrize("target", _CLIMBS)
def test_no_spelling_of_dots_leads_out(server: Daemon, connect: Connect, target: bytes) -> None:
    for prefix in (b"", b"/sub/.." if target.startswith(b"/..") else b"/sub"):
        client = connect()
        answer = client.get(prefix + target)
        assert answer.status in (400, 403, 404), prefix
        assert _SECRET not in answer.body


def test_a_raw_nul_or_a_backslash_is_refused(server: Daemon, connect: Connect) -> None:
    for target in (b"/sub/file%00", b"/sub/file%00.html", b"/sub\\file", b"/\\evil.com/"):
        assert connect().get(target).status == 400, target
    assert connect().get(b"/sub%5cfile").status == 404


@pytest.mark.parametrize(
    "name", ["out", "out-absolute", "out-folder/secret", "chain-out", "etc/passwd", "loop", "proc"]
)
def test_a_link_that_leaves_the_root_is_not_followed(server: Daemon, connect: Connect, name: str) -> None:
    answer = connect().get(f"/{name}")
    assert answer.status in (403, 404)
    assert _SECRET not in answer.body


@pytest.mark.parametrize("name", ["in", "in-absolute", "in-folder/file", "chain", "sub/file"])
def test_a_link_that_stays_inside_is_followed(server: Daemon, connect: Connect, name: str) -> None:
    client = connect()
    for _ in range(2):
        assert client.get(f"/{name}").body == b"inside"


def test_links_are_as_configured(server: Daemon, connect: Connect) -> None:
    client = connect()
    assert client.get("/none/in").status in (403, 404)
    assert client.get("/none/in-folder/file").status in (403, 404)
    assert client.get("/none/sub/file").body == b"inside"
    assert client.get("/all/out").body == _SECRET
    assert client.get("/all/out-folder/secret").body == _SECRET


@pytest.mark.parametrize("name", ["fifo", "socket", "null"])
def test_what_is_no_file_is_not_there(server: Daemon, connect: Connect, name: str) -> None:
    assert connect().get(f"/{name}").status == 404
    assert connect().get(f"/{name}/").status == 404


@pytest.mark.parametrize(
    "target",
    [b"//evil.com/sub", b"//evil.com/..%2fsub", b"/%2fevil.com/sub/..", b"//sub", b"/%2f/sub", b"///sub", b"/./sub",
     b"//evil.com/%2e%2e/sub", b"/sub/..//sub", b"/%5cevil.com/../sub", b"//evil.com%2f..%2f..%2fsub"],
)  # fmt: skip
def test_a_redirect_stays_on_this_host(server: Daemon, connect: Connect, target: bytes) -> None:
    answer = connect().get(target)
    if "Location" in answer:
        assert answer["Location"].startswith("/")
        assert not answer["Location"].startswith(("//", "/\\"))
    else:
        assert answer.status in (400, 404)


def test_a_line_feed_in_a_folder_name_can_not_split_the_head(server: Daemon, connect: Connect, shared_place: Place
                                                             ) -> None:  # fmt: skip
    name = "x\r\nSet-Cookie: a=b"
    (shared_place.www / name).mkdir(mode=0o755)
    answer = connect().get(b"/x%0d%0aSet-Cookie:%20a=b")
    assert answer.status == 301
    assert "Set-Cookie" not in answer
    assert answer["Location"] == "/x%0D%0ASet-Cookie:%20a=b/"


def test_an_encoded_slash_is_a_slash_and_nothing_more(server: Daemon, connect: Connect) -> None:
    assert connect().get(b"/sub%2ffile").body == b"inside"
    assert connect().get(b"/%2e/sub/file").body == b"inside"


def test_long_paths(server: Daemon, connect: Connect) -> None:
    client = connect()
    assert client.get("/" + "a" * 300).status == 404
    assert client.get("/" + "a/" * 3000).status == 404
    assert client.get("/sub/file").body == b"inside"


def test_links_that_are_swapped_under_load_never_lead_out(server: Daemon, shared_place: Place) -> None:
    link = shared_place.www / "swapped"
    new = shared_place.path / "new-link"
    with Client(("127.0.0.1", server.port)) as client:
        for turn in range(300):
            target: Path | str = "../secret" if turn % 2 else "sub/file"
            new.symlink_to(target)
            client.send(request("/swapped"))
            new.replace(link)
            answer = client.read()
            assert _SECRET not in answer.body
            assert answer.status in (200, 403, 404)
