"""A launcher in a process of its own, with a test as its master and as its workers.

Its scripts are in a folder that every user can enter, as they run as `nobody` where the tests are root's.
"""

from __future__ import annotations

import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from httpd.cgi.messages import (
    Admit,
    Ask,
    Door,
    Message,
    Mount,
    Note,
    Ping,
    Pong,
    Receiver,
    Run,
    ToWorker,
    send,
)
from httpd.config.schema import Cgi, Settings
from httpd.system import pairs, privileges
from httpd.system.pairs import EOF

PATIENCE = 20.0  # seconds; reached only by a failure
_DAEMON = Path(__file__).parents[3] / "daemon"
_BE_IT = """
import os, socket, sys
real = os.path.realpath
def realpath(path, **options):
    if os.fsencode(path).endswith(b"/vanishing"):  # as if it had become a file since it was looked at
        raise OSError(22, "Invalid argument")
    return real(path, **options)
os.path.realpath = realpath
from httpd.cgi import launcher
launcher._LEAVE_SECONDS = float(sys.argv[2])
launcher.launch(socket.socket(fileno=int(sys.argv[1])), dict(os.environb))
"""
SCRIPTS = {
    "plain": r"printf 'Content-Type: text/plain\n\nplain\n'",
    "waits": 'echo $$; while [ ! -e "$HERE/gate" ]; do sleep 0.02; done; echo waited',
    "../outside": 'echo outside; touch "$HERE/marks/outside"',
}
ENVIRONMENT = {b"REQUEST_METHOD": b"GET", b"QUERY_STRING": b"", b"HTTP_X": b"1"}


class End:
    """One end of a pair: what the test says by it and hears."""

    def __init__(self, sock: socket.socket, kinds: object) -> None:
        self.sock = sock
        self.receiver = Receiver(sock, kinds)
        self.made: list[End] = []  # by way of this, and closed with it

    def say(self, message: Message, fds: Sequence[int] = ()) -> None:
        until = time.monotonic() + PATIENCE
        while not send(self.sock, message, fds):
            assert select.select([], [self.sock], [], PATIENCE)[1] and time.monotonic() < until, "nobody listens"

    def raw(self, data: bytes, fds: Sequence[int] = ()) -> None:
        socket.send_fds(self.sock, [data], fds)

    def hear(self) -> tuple[Any, list[int]]:
        """The next message."""
        assert select.select([self.sock], [], [], PATIENCE)[0], "not a word"
        received = self.receiver.next()
        assert received is not None
        assert received is not EOF, "the other end is gone"
        return received

    def until(self, fits: Callable[[Any], bool]) -> Any:
        """The next message that fits."""
        while True:
            message, _ = self.hear()
            if fits(message):
                return message

    def close(self) -> None:
        self.sock.close()
        for end in self.made:
            end.close()


class Master(End):
    """The master; `folder` has the scripts of the mounts `vhost[0].cgi[0]` (generation 1) and `[1]` (generation 2)."""

    def __init__(self, leave: float = 20.0, **limits: Any) -> None:
        """`leave`: seconds that a spawner has to answer when it is let go; `limits` are keys of the mounts."""
        self.limits = limits
        self.folder = Path(tempfile.mkdtemp(prefix="httpd-unit-cgi-"))
        self.folder.chmod(0o755)
        (self.folder / "cgi").mkdir()
        (self.folder / "marks").mkdir()
        (self.folder / "marks").chmod(0o777)
        for name, text in SCRIPTS.items():
            (self.folder / "cgi" / name).write_text(f"#!/bin/sh\n{text}\n")
            (self.folder / "cgi" / name).chmod(0o755)
        ours, theirs = pairs.control_pair()
        super().__init__(ours, Note | Pong)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _BE_IT, str(theirs.fileno()), str(leave)], pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": str(_DAEMON)}, start_new_session=True,
            )  # fmt: skip
        identity = privileges.identity("nobody") if os.geteuid() == 0 else None
        for generation in (1, 2):
            self.say(Mount(generation, self.mount(generation - 1), identity))

    def mount(self, number: int) -> Cgi:
        env = {"HERE": str(self.folder)}
        key, root = f"vhost[0].cgi[{number}]", str(self.folder / "cgi")
        return Cgi(f"/{number}", key, Settings(), root, env=env, **self.limits)

    def worker(self, generation: int = 1, number: int = 0) -> End:
        ours, theirs = pairs.control_pair()
        with theirs:
            self.say(Admit(generation, number), [theirs.fileno()])
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        self.made.append(End(ours, ToWorker))
        return self.made[-1]

    def note(self, text: str) -> str:
        """The next note with this text."""
        found: str = self.until(lambda message: isinstance(message, Note) and text in message.text).text
        return found

    def descriptors(self, pid: int = 0) -> int:
        """How many the launcher has, when it has seen to all that was said."""
        self.say(Ping())
        self.until(lambda message: isinstance(message, Pong))
        return len(os.listdir(f"/proc/{pid or self.process.pid}/fd"))

    def end(self) -> None:
        self.close()
        try:
            assert self.process.wait(PATIENCE) == 0
        finally:
            self.process.kill()
            shutil.rmtree(self.folder)


def door(worker: End, number: int = 0) -> End:
    """A way to the spawner of a mount."""
    worker.say(Ask(f"vhost[0].cgi[{number}]"))
    message, fds = worker.hear()
    assert isinstance(message, Door), message
    sock = socket.socket(fileno=fds[0])
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    worker.made.append(End(sock, ToWorker))
    return worker.made[-1]


class Pipes:
    """A script's three descriptors; `output`: what it says, to the end."""

    def __init__(self) -> None:
        self.stdin = os.open(os.devnull, os.O_RDONLY)
        self._out, self.stdout = os.pipe()
        self.theirs = [self.stdin, self.stdout, self.stdout]

    def run(self, spawner: End, number: int, relative: bytes, environment: dict[bytes, bytes] | None = None) -> None:
        spawner.say(Run(number, relative, [], ENVIRONMENT if environment is None else environment), self.theirs)
        self.release()

    def release(self) -> None:
        os.close(self.stdin)
        os.close(self.stdout)

    def line(self) -> bytes:
        """The next that it says."""
        assert select.select([self._out], [], [], PATIENCE)[0], "no output"
        return os.read(self._out, 65536)

    def output(self) -> bytes:
        found = b""
        while data := self.line():
            found += data
        os.close(self._out)
        return found


def settled(look: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not look():
        assert time.monotonic() < until, what
        time.sleep(0.005)
