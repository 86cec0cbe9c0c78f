"""A script in a worker: what it asks the master for, what becomes of its signals, and how it ends.

What changes the process for good (signal handlers, sys.argv, the end) happens in a child.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import socketserver
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from httpd.config import schema
from httpd.logs.errors import ErrorLog
from httpd.worker import script as module
from httpd.worker.listening import ScriptListener
from httpd.worker.script import ScriptHost, _exit_code

Server = socketserver.TCPServer


class Fake:
    """In the place of `Serving`."""

    def __init__(self, server: Any) -> None:
        self.server = server
        self.calls: list[str] = []
        self.stop = threading.Event()
        self.thread: threading.Thread | None = None
        self.polled = -1

    def begin(self, *, forever: bool) -> None:
        self.calls.append(f"begin {forever}")

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self.calls.append(name)


class World:
    """A host, and a master that binds at once.  `heard` is what it was told, `bound` its listeners by number."""

    def __init__(self, path: str = "/x.py", given: Any = (), arguments: tuple[str, ...] = ()) -> None:
        self.heard: list[dict[str, Any]] = []
        self.lines: list[str] = []
        self.bound: dict[int, socket.socket] = {}
        self.refuse = 0
        self.made: list[Fake] = []
        self.flushed = 0
        errors = ErrorLog(lambda line: self.lines.append(line.decode()), "debug", "test")
        self.host = ScriptHost(schema.Script(path, arguments, "/"), list(given), errors, self._tell, self._make,
                               self._flush)  # fmt: skip

    def _flush(self) -> None:
        self.flushed += 1

    def _make(self, server: Any, listeners: list[Any]) -> Any:
        self.made.append(Fake(server))
        return self.made[-1]

    def _tell(self, message: dict[str, Any]) -> None:
        self.heard.append(message)
        if message["event"] == "bind":
            answer: dict[str, Any] = {"do": "bound", "ask": message["ask"], "address": f"number {message['ordinal']}"}
            if self.refuse:
                self.host.bound({**answer, "errno": self.refuse, "reason": "as the test wants"}, [])
                return
            sock = self.bound.get(message["ordinal"])
            if sock is None:
                sock = self.bound[message["ordinal"]] = socket.create_server((message["host"], message["port"]))
            self.host.bound(answer, [os.dup(sock.fileno())])

    def server(self, port: int = 0, host: str = "127.0.0.1", kind: type[Server] = Server) -> Server:
        """A server object, bound."""
        server = kind((host, port), BaseHTTPRequestHandler, bind_and_activate=False)
        try:
            self.host.bind(server)
        except BaseException:
            server.server_close()
            raise
        return server

    def events(self) -> list[str]:
        return [message["event"] for message in self.heard]

    def close(self) -> None:
        for server in list(self.host._bound):
            self.host.close(server)
        for sock in self.bound.values():
            sock.close()


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.close()


# Binding


def test_the_master_is_asked_for_each_server(world: World) -> None:
    first, second = world.server(), world.server()
    assert [(message["ordinal"], message["host"], message["port"], message["both"]) for message in world.heard] == [
        (0, "127.0.0.1", 0, False), (1, "127.0.0.1", 0, False)
    ]  # fmt: skip
    for number, server in enumerate((first, second)):
        assert type(server.socket) is ScriptListener
        assert server.server_address == world.bound[number].getsockname()


@pytest.mark.parametrize(("host", "asked"), [("", "0.0.0.0"), ("localhost", "127.0.0.1"), ("0", "0.0.0.0")])
def test_names_are_made_addresses(world: World, host: str, asked: str) -> None:
    world.server(host=host)
    assert world.heard[0]["host"] == asked


def test_what_the_master_can_t_bind_is_the_script_s_error(world: World) -> None:
    world.refuse = errno.EACCES
    with pytest.raises(PermissionError, match="as the test wants") as caught:
        world.server(80)
    assert caught.value.strerror == os.strerror(errno.EACCES)
    world.refuse = 0
    world.server()
    assert world.heard[-1]["ordinal"] == 0  # an attempt that failed is no server


@pytest.mark.parametrize(("port", "error"), [(65536, OverflowError), (-1, OverflowError), ("80", TypeError)])
def test_a_port_that_is_none(world: World, port: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        world.server(port)
    assert world.heard == []


def test_a_name_that_nobody_knows(world: World) -> None:
    with pytest.raises(socket.gaierror):
        world.server(host="no.such.host.invalid")


def test_an_address_of_its_own_is_in_use(world: World) -> None:
    """Also that of port 0, which has become another."""
    port = world.server().server_address[1]
    with pytest.raises(OSError, match="in use") as caught:
        world.server(port)
    assert caught.value.errno == errno.EADDRINUSE
    assert len(world.heard) == 1


def test_what_was_closed_is_taken_up_again(world: World) -> None:
    first = world.server()
    port = first.server_address[1]
    world.host.close(first)
    assert first.socket.fileno() == -1
    again = world.server(port)
    assert again.server_address[1] == port
    assert [(message["ordinal"], message["port"]) for message in world.heard] == [(0, 0), (0, 0)]
    world.server()
    assert world.heard[-1]["ordinal"] == 1


def test_given_listeners_are_the_first_server_s() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        given = [(schema.Address("one"), [one]), (schema.Address("two"), [two])]
        world = World(given=given)
        first = world.server(1)
        assert first.server_address == one.getsockname()
        assert [address.text for address, _ in world.host._bound[first]] == ["one", "two"]
        assert world.heard == []
        world.server()
        assert world.heard[0]["ordinal"] == 1
        world.host.close(first)
        assert world.server(1).server_address == one.getsockname()
        world.close()


def test_a_late_answer_leaves_nothing_open(world: World) -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    world.host.bound({"do": "bound", "ask": 3}, [fd])
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(fd)


def test_a_listener_stays_non_blocking(world: World) -> None:
    """Its workers share it."""
    sock = world.server().socket
    os.set_blocking(sock.fileno(), False)
    sock.settimeout(None)
    sock.setblocking(True)
    assert not os.get_blocking(sock.fileno())


# Serving


def test_ready_is_said_once(world: World) -> None:
    first, second = world.server(), world.server()
    world.host.serve_forever(first, 0.5)
    world.host.handle_request(second)
    world.host.serve_forever(first, 0.5)
    assert world.events() == ["bind", "bind", "ready"]
    assert [serving.calls for serving in world.made] == [["begin True", "wait"] * 2, ["begin False", "handle_one"]]


def test_a_server_that_was_not_bound(world: World) -> None:
    server = Server(("127.0.0.1", 0), BaseHTTPRequestHandler, bind_and_activate=False)
    with pytest.raises(OSError, match="no address"):
        world.host.serve_forever(server, 0.5)
    world.host.shutdown(server)
    world.host.close(server)
    assert world.heard == []


def test_shutdown_and_close(world: World) -> None:
    server = world.server()
    world.host.serve_forever(server, 0.5)
    world.host.shutdown(server)
    world.host.close(server)
    world.host.close(server)
    assert world.made[0].calls == ["begin True", "wait", "shut_down", "shut_down", "close"]


def test_who_polls_its_server_is_taken_to_be_ready(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_POLLED", 0.01)
    server = world.server()
    assert server.fileno() == socket.socket.fileno(server.socket)
    timer = world.host._timer
    assert timer is not None
    timer.join(20)
    assert world.events() == ["bind", "ready"]
    world.host.handle_request(server)
    world.made[0].polled = 99
    assert server.socket.fileno() == 99
    world.made[0].polled = -1
    assert world.events() == ["bind", "ready"]


def test_the_next_generation_and_back(world: World) -> None:
    world.host.serve_forever(world.server(), 0.5)
    world.host.stand_by()
    world.host.resume()
    world.host.finish_threads(0.0)
    assert world.made[0].calls[2:] == ["stand_by", "resume", "finish"]


# Ends


@pytest.mark.parametrize(
    ("given", "code"),
    [(None, (0, "")), (0, (0, "")), (3, (3, "")), (256 + 7, (7, "")), (-1, (255, "")), ("why", (1, "why")),
     ([1], (1, "[1]")), (True, (1, ""))],
)  # fmt: skip
def test_exit_codes_are_the_interpreter_s(given: Any, code: tuple[int, str]) -> None:
    assert _exit_code(SystemExit(given)) == code


def in_child(look: Callable[[], Any]) -> tuple[Any, int]:
    """What `look` returns in a child, or None if that ended in it, and how the child ended."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.close(reading)
            os.write(writing, json.dumps(look()).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with open(reading, "rb") as pipe:
        data = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return json.loads(data) if data else None, status


def run(path: Path, text: str, *arguments: str, ready: bool = True) -> tuple[Any, int]:
    """Run a script in a child; returns its globals named `said`, what the master heard and what was logged."""
    path.write_text(text)

    def look() -> Any:
        world = World(str(path), arguments=arguments)
        world.host._ready = ready
        sys.said = []  # type: ignore[attr-defined]
        world.host.run()
        return [sys.said, world.heard, world.lines]  # type: ignore[attr-defined]

    return in_child(look)


def test_what_it_finds(tmp_path: Path) -> None:
    path = tmp_path / "serve.py"
    found, _ = run(path, "import os, sys\nsys.said += [__name__, __file__, sys.argv, sys.path[0], os.getcwd()]\n", "a")
    assert found[0] == ["__main__", str(path), [str(path), "a"], str(tmp_path), "/"]
    assert found[1] == [{"event": "finished", "code": 0}]


@pytest.mark.parametrize(
    ("last", "code"),
    [("", 0), ("sys.exit(3)", 3), ("sys.exit('why')", 1), ("raise KeyboardInterrupt", 0), ("1/0", 1)],
)
def test_how_it_ends(tmp_path: Path, last: str, code: int) -> None:
    found, _ = run(tmp_path / "serve.py", f"import sys\n{last}\n")
    assert found[1] == [{"event": "finished", "code": code}]
    assert any("ZeroDivisionError" in line for line in found[2]) == (last == "1/0")


def test_threads_and_atexit_come_last(tmp_path: Path) -> None:
    found, _ = run(tmp_path / "serve.py", """
import atexit, sys, threading
gone = threading.Event()
def last():
    gone.wait()
    sys.said.append("thread")
atexit.register(sys.said.append, "atexit")
threading.Thread(target=last).start()
threading.Thread(target=threading.Event().wait, daemon=True).start()
sys.said.append("main")
gone.set()
""")  # fmt: skip
    assert found[0] == ["main", "thread", "atexit"]


def test_the_end_before_it_has_served(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    path = tmp_path / "serve.py"
    path.write_text("raise ValueError('no')\n")

    def look() -> None:
        world = World(str(path))
        world.host._flush = lambda: os.write(writing, json.dumps([world.heard, world.lines]).encode())
        world.host.run()

    assert in_child(look) == (None, module.EXIT_FAILED)
    os.close(writing)
    with open(reading, "rb") as pipe:
        heard, lines = json.loads(pipe.read())
    assert [message["event"] for message in heard] == ["failed"]
    assert heard[0]["reason"].startswith(f"{path} ended without serving: ValueError: no ({path}, line 1)")
    assert "the script raised" in lines[0]


# Signals


def test_handlers_for_the_master_s_signals_are_kept(tmp_path: Path) -> None:
    found, _ = run(tmp_path / "serve.py", """
import signal, sys
def stop(number, frame): pass
for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"):
    number = getattr(signal, name)
    before = signal.getsignal(number)
    sys.said.append(before is (signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL))
    sys.said.append(signal.signal(number, stop) is before)
    sys.said.append(signal.getsignal(number) is stop)
    sys.said.append(signal.signal(number, signal.SIG_IGN) is stop)
""")  # fmt: skip
    assert found[0] == [True] * 24


def test_other_handlers_are_set(tmp_path: Path) -> None:
    found, _ = run(tmp_path / "serve.py", """
import os, signal, sys
before = signal.getsignal(signal.SIGWINCH)
sys.said.append(signal.signal(signal.SIGWINCH, lambda *_: sys.said.append("called")) is before)
os.kill(os.getpid(), signal.SIGWINCH)
""")  # fmt: skip
    assert found[0] == [True, "called"]


def ended(path: Path, text: str) -> Any:
    """Run a script whose master ends as soon as it says so, by `sys.end()`."""
    path.write_text("import os, signal, sys, threading\n" + text)

    def look() -> Any:
        world = World(str(path))
        world.host._ready = True
        sys.said = []  # type: ignore[attr-defined]
        sys.end = lambda: threading.Thread(target=world.host.end, daemon=True).start()  # type: ignore[attr-defined]
        world.host.run()
        return [sys.said, world.events(), world.lines]  # type: ignore[attr-defined]

    return in_child(look)[0]


_WAIT = "try:\n    sys.end()\n    threading.Event().wait(20)\n    sys.said.append('waited')\n"


def test_the_master_s_end_is_a_keyboard_interrupt(tmp_path: Path) -> None:
    found = ended(tmp_path / "serve.py", _WAIT + "except KeyboardInterrupt:\n    sys.said.append('interrupted')\n")
    assert found == [["interrupted"], [], []]


@pytest.mark.parametrize("names", [["SIGTERM"], ["SIGINT"], ["SIGINT", "SIGTERM"]])
def test_or_the_script_s_own_handler(tmp_path: Path, names: list[str]) -> None:
    """That for TERM goes first."""
    sets = "".join(f"signal.signal(signal.{name}, stop)\n" for name in names)
    found = ended(tmp_path / "serve.py", "def stop(number, frame):\n    sys.said.append(signal.Signals(number).name)\n"
                  "    raise SystemExit\n" + sets + _WAIT + "finally:\n    sys.said.append('finally')\n")  # fmt: skip
    assert found == [[names[-1], "finally"], [], []]


def test_an_interrupt_from_the_terminal_is_the_master_s(tmp_path: Path) -> None:
    found, _ = run(tmp_path / "serve.py", "import os, signal, sys\nos.kill(os.getpid(), signal.SIGINT)\n"
                   "sys.said.append('goes on')\n")  # fmt: skip
    assert found[0] == ["goes on"]


def test_an_interrupt_that_comes_a_moment_before_a_wait_is_sent_again(tmp_path: Path) -> None:
    """It is noted by the interpreter, which looks at it only behind the call; so here, where the first one is lost."""
    first = (
        "kill, calls = signal.pthread_kill, []\n"
        "signal.pthread_kill = lambda *to: calls.append(to) or (len(calls) > 1 and kill(*to))\n"
    )
    found = ended(tmp_path / "serve.py", first + _WAIT + "except KeyboardInterrupt:\n    sys.said.append('once')\n"
                  "    sys.said.append(threading.Event().wait(0.3))\n")  # fmt: skip
    assert found == [["once", False], [], []]


def test_it_has_some_seconds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLEAN_UP", 0.05)
    world = World()
    monkeypatch.setattr(signal, "pthread_kill", lambda ident, number: None)
    world.host.end()
    assert "the script goes on behind its last request" in world.lines[0]


def test_servers_in_threads_are_told_to_stop(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "pthread_kill", lambda ident, number: world.host.over.set())
    for _ in range(2):
        world.host.serve_forever(world.server(kind=HTTPServer.__base__ or Server), 0.5)
    world.made[0].thread = threading.main_thread()
    world.host.end()
    assert [serving.stop.is_set() for serving in world.made] == [False, True]
