"""The acceptance test: a tree of documentation, mirrored by wget and by fifty clients at once, during twenty reloads.

Every file has to arrive as it is on the disk, and no request may fail.  A client on a reused connection may send a
request again when the server closed in order before any byte of its response came, as every HTTP client does
(RFC 9112 9.3.1); nothing else is forgiven.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import random
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes

import pytest

from live.daemon import Daemon, Place

_DOC = Path("/usr/share/doc")
_ENOUGH, _MOST = 500, 2000  # files
_LARGEST = 2_000_000  # bytes
_CLIENTS, _RELOADS = 50, 20


@pytest.fixture(scope="module")
def tree(shared_place: Place) -> dict[str, bytes]:
    """Path -> SHA-256 of every file in `www`: copies of /usr/share/doc, or files made up where it has few."""
    found = _copy(shared_place.www)
    if len(found) < _ENOUGH:
        found |= _generate(shared_place)
    return found


def _copy(www: Path) -> dict[str, bytes]:
    found: dict[str, bytes] = {}
    for folder, folders, names in os.walk(_DOC):
        folders.sort()
        for name in sorted(names):
            source = Path(folder, name)
            if len(found) >= _MOST:
                return found
            if name.startswith(".") or source.is_symlink() or not source.is_file() or not os.access(source, os.R_OK):
                continue
            if source.stat().st_size > _LARGEST or name.startswith("index.htm"):
                continue
            relative = source.relative_to(_DOC)
            target = www / relative
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            target.chmod(0o644)
            found[str(relative)] = hashlib.sha256(target.read_bytes()).digest()
    return found


def _generate(place: Place) -> dict[str, bytes]:
    chance = random.Random(1)
    found = {}
    for number in range(3000):
        name = f"generated {number % 40}/part-{number % 7}/file {number}.txt"
        data = hashlib.shake_128(b"%d" % number).digest(chance.choice((0, 1, 500, 5000, 32768, 32769, 100_000)))
        place.write(f"www/{name}", data)
        found[name] = hashlib.sha256(data).digest()
    return found


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    for path in (shared_place.www, *shared_place.www.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
    shared_daemon.configure('[[vhost]]\nroot = "www"\nlisting = true\n')
    return shared_daemon.start()


class _Mirror:
    """What one client fetches; `problems` says what went wrong."""

    def __init__(self, port: int, names: list[str], keep: bool) -> None:
        self.port = port
        self.names = names
        self.keep = keep
        self.problems: list[str] = []
        self.sums: dict[str, bytes] = {}
        self.resent = 0

    def run(self) -> None:
        connection = self._connection()
        reused = False
        for name in self.names:
            try:
                while True:
                    try:
                        response = self._ask(connection, name)
                        break
                    except (http.client.RemoteDisconnected, BrokenPipeError):
                        # RemoteDisconnected is the standard library's word for a close before any byte; a send into
                        # a closed connection has not even left.
                        connection.close()
                        if not reused:
                            raise
                        connection, reused = self._connection(), False
                        self.resent += 1
                body = response.read()
                if response.status != 200:
                    self.problems.append(f"{name}: {response.status}")
                self.sums[name] = hashlib.sha256(body).digest()
                reused = self.keep and not response.will_close
            except Exception as error:
                self.problems.append(f"{name}: {error!r}")
                reused = False
            if not reused:
                connection.close()
                connection = self._connection()
        connection.close()

    def _connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def _ask(self, connection: http.client.HTTPConnection, name: str) -> http.client.HTTPResponse:
        path = "/" + quote_from_bytes(os.fsencode(name))
        connection.request("GET", path, headers={} if self.keep else {"Connection": "close"})
        return connection.getresponse()


@pytest.fixture
def wget(server: Daemon, tree: dict[str, bytes], tmp_path: Path) -> Iterator[subprocess.Popen[bytes] | None]:
    """wget on its way through the whole tree, by the links of the listings."""
    if shutil.which("wget") is None:
        yield None
        return
    process = subprocess.Popen(
        ["wget", "-o", f"{tmp_path}.log", "-m", "-nv", "-nH", "--restrict-file-names=nocontrol", "-e", "robots=off",
         "--tries=2", f"http://127.0.0.1:{server.port}/"],
        cwd=tmp_path,
    )  # fmt: skip
    yield process
    process.kill()
    process.wait()


def test_every_file_arrives_as_it_is_during_twenty_reloads(
    server: Daemon, tree: dict[str, bytes], wget: subprocess.Popen[bytes] | None, tmp_path: Path
) -> None:
    names = list(tree)
    mirrors = []
    for number in range(_CLIENTS):
        mine = names[number * len(names) // _CLIENTS :] + names[: number * len(names) // _CLIENTS]
        mirrors.append(_Mirror(server.port, mine[: len(names) // 5], keep=number % 2 == 0))
    threads = [threading.Thread(target=mirror.run) for mirror in mirrors]
    for thread in threads:
        thread.start()
    reloads = 0
    while reloads < _RELOADS or any(thread.is_alive() for thread in threads):
        if reloads < _RELOADS:
            assert server.call("reload")["code"] == 0
            reloads += 1
        for thread in threads:
            thread.join(0.01 if reloads < _RELOADS else None)
    problems = [problem for mirror in mirrors for problem in mirror.problems]
    assert not problems, f"{len(problems)} problems, the first: {problems[:5]}"
    fetched: set[str] = set()
    for mirror in mirrors:
        assert mirror.sums == {name: tree[name] for name in mirror.names}
        fetched |= mirror.sums.keys()
    assert fetched == tree.keys()
    if wget is None:
        pytest.skip("the clients are done and right; no wget here for the rest")
    code = wget.wait(60)
    said = Path(f"{tmp_path}.log").read_text("utf-8", "replace")
    mirrored = {
        str(path.relative_to(tmp_path)): hashlib.sha256(path.read_bytes()).digest()
        for path in tmp_path.rglob("*") if path.is_file() and path.name != "index.html"
    }  # fmt: skip
    missing = [name for name in tree if name not in mirrored]
    assert not missing, (missing[:5], said[-2000:])
    assert mirrored == tree
    # The pages have links to what is not there, which wget reports by 8; nothing else may have gone wrong.
    assert code in (0, 8), said[-2000:]
    assert not re.search("ERROR (?!404)|Read error|Retrying|Giving up|failed", said), said[-2000:]
    statuses = {line.split('" ')[1][:3] for line in server.access_lines(len(names))}
    assert statuses <= {"200", "301", "404"}
