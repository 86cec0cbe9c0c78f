"""Scripts that end their answers in every way, asked for on one connection without waiting, by clients that read late:
each answer is whole, the right one, and in its place."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from live.cgi.scripts import install, mount
from live.daemon import Daemon, Place
from live.handlers.talk import Talk

_BODY = "printf 'id=%s;' $1; head -c $2 /dev/zero | tr '\\0' x"
_BEGIN = (
    "IFS=-; set -- $QUERY_STRING; unset IFS; length=$((${#1} + 4 + $2)); "
    'fields="Content-Type: a/b\\nX-Id: $1\\n"; '
)  # fmt: skip
_SCRIPTS = {
    "plain": f'printf "$fields\\n"; {_BODY}',
    "slow": f'printf "$fields\\n"; sleep 0.02; {_BODY}; sleep 0.02',
    "length": f'printf "${{fields}}Content-Length: $length\\n\\n"; {_BODY}; sleep 0.02; echo behind',
    "late": f'printf "${{fields}}Content-Length: $length\\n\\n"; sleep 0.02; {_BODY}; sleep 0.02',
    "chunk": 'printf "${fields}Transfer-Encoding: chunked\\n\\n%x\\r\\n" $length; '
             f"{_BODY}; printf '\\r\\n0\\r\\n\\r\\n'; sleep 0.02; echo behind",
    "none": 'printf "Status: 204 None\\n$fields\\n"; sleep 0.02; echo behind',
    "bad": "echo no head at all; echo",
    "nph-whole": 'printf "HTTP/1.1 103 Hints\\r\\n\\r\\nHTTP/1.1 200 OK\\r\\nX-Id: $1\\r\\n"; '
                 f'printf "Content-Length: $length\\r\\n\\r\\n"; {_BODY}; sleep 0.02; echo behind',
}  # fmt: skip
_STATUS = {"none": 204, "bad": 502}
_SIZES = (0, 10, 3000, 70_000)


@dataclass(frozen=True)
class _Request:
    method: str
    kind: str
    id: int
    size: int

    def __bytes__(self) -> bytes:
        return f"{self.method} /s/{self.kind}?{self.id}-{self.size} HTTP/1.1\r\nHost: a\r\n\r\n".encode()

    @property
    def body(self) -> bytes:
        return b"" if self.method == "HEAD" or self.kind == "none" else b"id=%d;" % self.id + b"x" * self.size


@pytest.fixture(scope="module")
def server(shared_daemon: Daemon, shared_place: Place) -> Daemon:
    install(shared_place, {name: _BEGIN + text for name, text in _SCRIPTS.items()})
    shared_daemon.configure(f'[[vhost]]\nroot = "www"\n{mount(shared_place, "/s", "queue = 500")}')
    shared_place.write("www/a", b"a")
    return shared_daemon.start()


def _converse(server: Daemon, seed: int) -> int:
    """Ask at random, and check what comes; how many answers did."""
    chance = random.Random(seed)
    requests = [
        _Request("HEAD" if chance.random() < 0.2 else "GET", chance.choice(list(_SCRIPTS)), chance.randrange(10**9),
                 chance.choice(_SIZES))
        for _ in range(25)
    ]  # fmt: skip
    with Talk(server, chance.choice((2048, 200_000))) as client:
        client.send(b"".join(map(bytes, requests)))
        for number, request in enumerate(requests):
            reply = client.reply(request.method)
            what = f"answer {number + 1} of seed {seed}, {request}"
            assert reply.status == _STATUS.get(request.kind, 200), what
            if request.kind != "bad":
                assert reply["X-Id"] == str(request.id), what
                assert (len(reply.body), reply.body == request.body) == (len(request.body), True), what
    return len(requests)


def test_each_answer_is_whole_and_in_its_place(server: Daemon) -> None:
    server.expect("script failed: not a header line", "wrote more than its Content-Length")
    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(lambda seed: _converse(server, seed), range(18))) == 450
