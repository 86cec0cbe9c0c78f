"""`httpd run`: signals, reloads, workers that die, and what a script notices of them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.client import CleanClose
from live.daemon import PATIENCE, Daemon, eventually
from live.handlers.talk import Talk
from live.scripts.running import Script, running

_VERSION = """
    import os, signal, sys, threading, time
    from http.server import HTTPServer, ThreadingHTTPServer
    import socketserver
    from says import Says, told

    class Handler(Says):
        def answer(self):
            return {"version": "VERSION"}

    HTTPServer(("127.0.0.1", 0), Handler).serve_forever()
"""


@pytest.fixture
def script(daemon: Daemon) -> Iterator[Script]:
    with running(daemon) as made:
        yield made


def write(script: Script, version: str, text: str = _VERSION) -> None:
    script.write("serve.py", text.replace("VERSION", version))


def inodes(port: int) -> set[str]:
    """The inodes of the sockets that listen on a port."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[9] for row in rows if row[1].endswith(f":{port:04X}") and row[3] == "0A"}


# Stopping


_STOPPED = """
    import os, signal, sys, threading, time
    from http.server import HTTPServer
    import socketserver
    from says import Says, told

    class Handler(Says):
        def answer(self):
            if self.path == "/slow":
                told("slow")
                sys.stdin.read()
                while not os.path.exists("gate"):
                    time.sleep(0.01)
            return {}

    server = HTTPServer(("127.0.0.1", 0), Handler)
"""


@pytest.mark.parametrize("name", ["TERM", "INT", "QUIT"])
def test_a_stop_is_a_keyboard_interrupt(script: Script, name: str) -> None:
    script.write("serve.py", _STOPPED + """
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        told("interrupted", threading.current_thread() is threading.main_thread())
    finally:
        server.server_close()
        told("closed")
    sys.exit(9)
    """)  # fmt: skip
    daemon = script.start("serve.py")
    script.get()
    daemon.signal(name)
    assert daemon.wait() == 0
    script.told("interrupted True")
    script.told("closed")
    assert not (daemon.run_dir / "httpd.pid").exists()


def test_a_keyboard_interrupt_that_nobody_catches(script: Script) -> None:
    script.write("serve.py", _STOPPED + "\n    server.serve_forever()\n    told('not here')\n")
    daemon = script.start("serve.py")
    daemon.signal("TERM")
    assert daemon.wait() == 0
    assert daemon.stderr is not None
    assert not daemon.stderr.find("Traceback|not here")


def test_requests_are_finished_before_the_script_hears_of_it(script: Script) -> None:
    script.write("serve.py", _STOPPED + """
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        told("interrupted", os.path.exists("gate"))
    """)  # fmt: skip
    daemon = script.start("serve.py")
    with Talk(daemon) as client:
        client.send(b"GET /slow HTTP/1.0\r\n\r\n")
        script.told("slow")
        daemon.signal("TERM")
        script.wait("stopping")
        script.write("gate", "")
        assert client.reply().status == 200
    assert daemon.wait() == 0
    script.told("interrupted True")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
@pytest.mark.parametrize("how", ["sys.exit(0)", "server.shutdown()", "threading.Thread(target=server.shutdown).start()",
                                 "raise KeyboardInterrupt", "over.append(1)"])  # fmt: skip
def test_a_handler_of_the_script_s_own(script: Script, name: str, how: str) -> None:
    script.write("serve.py", _STOPPED + f"""
    over = []
    def stop(number, frame):
        told("signal", signal.Signals(number).name, frame is not None)
        {how}

    number = signal.{name}
    before = signal.signal(number, stop)
    told("before", before is (signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL))
    told("now", signal.getsignal(signal.{name}) is stop)
    try:
        server.serve_forever()
    finally:
        server.server_close()
        told("closed")
    """)  # fmt: skip
    daemon = script.start("serve.py")
    script.told("before True")
    script.told("now True")
    daemon.signal("TERM")
    assert daemon.wait() == 0
    script.told(f"signal {name} True")
    script.told("closed")


def test_a_script_that_does_not_end(script: Script) -> None:
    """It has some seconds."""
    script.daemon.expect("the script goes on behind its last request", "killing worker")
    script.write("serve.py", _STOPPED + """
    while True:
        try:
            server.serve_forever()
            threading.Event().wait()
        except KeyboardInterrupt:
            told("no")
    """)  # fmt: skip
    daemon = script.start("serve.py")
    workers = daemon.workers()
    daemon.signal("TERM")
    script.told("no")
    daemon.signal("QUIT")  # has no patience
    assert daemon.wait() == 0
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_other_signals_are_the_script_s(script: Script) -> None:
    script.write("serve.py", _STOPPED + """
    signal.signal(signal.SIGUSR1, lambda *arguments: told("never"))
    signal.signal(signal.SIGALRM, lambda *arguments: told("alarm"))
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    server.serve_forever()
    """)  # fmt: skip
    daemon = script.start("serve.py")
    script.told("alarm")
    assert script.get().status == 200
    daemon.signal("USR1")
    script.wait("logs reopened|reopened")
    assert daemon.stderr is not None
    assert not daemon.stderr.find("never")


def test_the_stop_command(script: Script) -> None:
    write(script, "one")
    daemon = script.start("serve.py")
    done = script.ctl("stop")
    assert (done.returncode, done.stderr) == (0, "")
    assert daemon.wait() == 0


def test_a_master_that_is_killed_leaves_nobody(script: Script) -> None:
    script.daemon.expect("the master is gone")
    write(script, "one")
    daemon = script.start("serve.py")
    (worker,) = daemon.workers()
    daemon.signal("KILL")
    assert daemon.wait() == -signal.SIGKILL
    eventually(lambda: not Path(f"/proc/{worker}").exists(), "the worker ends")


# Reload


def test_hup_runs_the_new_code(script: Script) -> None:
    write(script, "one")
    daemon = script.start("serve.py")
    assert script.json()["version"] == "one"
    before = inodes(daemon.port)
    write(script, "two")
    daemon.signal("HUP")
    eventually(lambda: script.json()["version"] == "two", "the new code")
    assert script.ports() == [daemon.port]
    assert inodes(daemon.port) == before
    assert daemon.status()["generation"] == 2


def test_the_next_connection_behind_a_reload_is_the_new_code_s(script: Script) -> None:
    write(script, "0")
    script.start("serve.py", options=["--workers", "2"])
    for turn in range(1, 4):
        write(script, str(turn))
        script.daemon.reload()
        for _ in range(4):
            assert script.json()["version"] == str(turn)


def test_requests_under_way_are_finished_by_the_old_code(script: Script) -> None:
    gated = _VERSION.replace("            return", """            told("in", self.path)
            while self.path == "/slow" and not os.path.exists("gate"):
                time.sleep(0.01)
            return""")
    write(script, "one", gated)
    daemon = script.start("serve.py")
    with Talk(daemon) as client:
        client.send(b"GET /slow HTTP/1.0\r\n\r\n")
        script.told("in /slow")
        write(script, "two", gated)
        daemon.reload()
        assert script.json("/quick")["version"] == "two"
        script.write("gate", "")
        assert b'"one"' in client.reply().body


def test_the_old_script_cleans_up(script: Script) -> None:
    ends = _VERSION.replace("    HTTPServer((", "    try:\n      HTTPServer((").rstrip() + (
        "\n    except KeyboardInterrupt:\n        told('end of VERSION')\n"
    )
    write(script, "one", ends)
    daemon = script.start("serve.py")
    write(script, "two", ends)
    outcome = script.ctl("reload", "--settled")
    assert (outcome.returncode, outcome.stderr) == (0, "")
    script.told("end of one")
    assert script.json()["version"] == "two"
    daemon.signal("TERM")
    assert daemon.wait() == 0
    script.told("end of two")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("1/0", "ZeroDivisionError"), ("", "ended without serving"), ("x = (", "SyntaxError"),
        ("raise SystemExit(5)", r"exit code 5"),
        ("import socketserver as s; s.TCPServer(('192.0.2.1', 0), s.BaseRequestHandler)", "Cannot assign"),
    ],
)  # fmt: skip
def test_a_script_that_fails_at_a_reload(script: Script, text: str, reason: str) -> None:
    script.tracebacks()
    script.daemon.expect("reload refused", "the script raised", "worker ended")
    write(script, "one")
    daemon = script.start("serve.py")
    workers = daemon.workers()
    script.write("serve.py", text + "\n")
    done = script.ctl("reload")
    assert done.returncode == 6
    assert re.search(reason, done.stderr), done.stderr
    assert script.json()["version"] == "one"
    assert daemon.workers() == workers
    assert daemon.status()["generation"] == 1
    write(script, "two")
    daemon.reload()
    assert script.json()["version"] == "two"


def test_a_script_that_is_gone_at_a_reload(script: Script) -> None:
    script.daemon.expect("reload refused")
    write(script, "one")
    daemon = script.start("serve.py")
    (script.folder / "serve.py").unlink()
    done = script.ctl("reload")
    assert done.returncode == 1
    assert "there is no file" in done.stderr
    assert script.json()["version"] == "one"
    write(script, "two")
    daemon.reload()
    assert script.json()["version"] == "two"


@pytest.mark.parametrize("threaded", [False, True])
def test_a_crash_behind_a_reload_is_rolled_back(script: Script, threaded: bool) -> None:
    script.daemon.expect("rolled back", "worker", "Fatal|Current thread|File|Thread|Extension", "^\t?$", "^127")
    body = "get_request = lambda self: HTTPServer.get_request(self)" if threaded else "pass"
    text = _VERSION.replace("    HTTPServer((", f"    class Server(HTTPServer):\n        {body}\n    Server((")
    write(script, "one", text)
    daemon = script.start("serve.py")
    port = daemon.port
    write(script, "two", text.replace("            return", "            os.abort()\n            return"))
    daemon.reload()
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), PATIENCE) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert client.recv(100) == b""
    script.wait("rolled back")
    assert script.json(port=port)["version"] == "one"
    last = daemon.status()["last_reload"]
    assert (last["ok"], last["code"]) == (False, 6)


def test_reload_and_wait_tells_of_a_roll_back(script: Script) -> None:
    script.daemon.expect("rolled back", "worker", "Fatal|Current thread|File|Thread|Extension", "^\t?$")
    write(script, "one")
    script.start("serve.py")
    crash = "    threading.Timer(0.3, os.abort).start()\n"
    write(script, "two", _VERSION.replace("    HTTPServer((", crash + "    HTTPServer(("))
    done = script.ctl("reload", "--settled")
    assert done.returncode == 6
    assert "rolled back" in done.stderr
    assert script.json()["version"] == "one"


def test_several_servers_keep_their_ports(script: Script) -> None:
    """Also where all ask for port 0, and where one is made when another serves already."""
    text = """
        import threading
        from http.server import HTTPServer
        from says import Says, told

        def make(number):
            class Handler(Says):
                def answer(self):
                    return {"number": number, "version": "VERSION"}
            return HTTPServer(("127.0.0.1", 0), Handler)

        first, second = make(1), make(2)
        threading.Thread(target=first.serve_forever).start()
        threading.Thread(target=second.serve_forever).start()
        third = make(3)
        threading.Thread(target=third.serve_forever).start()
        told("all serve")
        """
    write(script, "one", text)
    daemon = script.start("serve.py")
    script.told("all serve")
    ports = script.ports()
    assert len(ports) == 3

    def numbers(version: str) -> bool:
        found = [script.json(port=port) for port in ports]
        assert [answer["number"] for answer in found] == [1, 2, 3]
        return all(answer["version"] == version for answer in found)

    assert numbers("one")
    write(script, "two", text)
    assert script.ctl("reload", "--settled").returncode == 0
    eventually(lambda: numbers("two"), "all are the new code's")
    assert script.ports() == ports
    script.wait("generation gone generation=1")
    # The listeners are the master's still.
    daemon.expect("worker")
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGKILL)
    script.told("all serve", 3)
    assert numbers("two")
    assert script.ports() == ports


def test_an_address_that_a_new_script_has_no_more(script: Script) -> None:
    """It is closed when the reload is settled."""
    two = _VERSION.replace("    HTTPServer((", "    HTTPServer(('127.0.0.1', 0), Handler)\n    HTTPServer((")
    write(script, "one", two)
    daemon = script.start("serve.py")
    first, second = script.ports()
    assert script.json(port=second)["version"] == "one"
    write(script, "two")
    assert script.ctl("reload", "--settled").returncode == 0
    assert script.ports() == [first]
    assert script.json(port=first)["version"] == "two"
    script.wait("generation gone generation=1")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", second), PATIENCE)
    assert daemon.workers()


def test_connections_in_threads_are_handed_over(script: Script) -> None:
    """A server that accepts by itself: the old one stops, the new one takes all that comes."""
    text = """
        import socketserver
        from says import told

        class Echo(socketserver.StreamRequestHandler):
            def handle(self):
                told("VERSION takes one")
                for line in self.rfile:
                    self.wfile.write(b"VERSION " + line)

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
        Server(("127.0.0.1", 0), Echo).serve_forever()
        """
    write(script, "one", text)
    daemon = script.start("serve.py")
    with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as old:
        old.sendall(b"a\n")
        assert old.recv(100) == b"one a\n"
        write(script, "two", text)
        daemon.reload()
        script.wait("reloaded")

        def newest() -> bool:
            with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as new:
                new.sendall(b"b\n")
                return new.recv(100) == b"two b\n"

        eventually(newest, "the new code answers")
        assert all(newest() for _ in range(10))
        old.sendall(b"c\n")
        assert old.recv(100) == b"one c\n"


# Workers


def test_a_worker_that_is_killed_is_replaced(script: Script) -> None:
    script.daemon.expect("worker")
    write(script, "one")
    daemon = script.start("serve.py")
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGKILL)
    eventually(lambda: daemon.workers() not in ([], [worker]), "another worker")
    assert script.ports() == [daemon.port]
    assert script.json()["version"] == "one"


def test_two_workers_share_port_0(script: Script) -> None:
    write(script, "one")
    daemon = script.start("serve.py", options=["--workers", "2"])
    workers = set(daemon.workers())
    assert len(workers) == 2
    assert len(script.ports()) == 1
    assert len(inodes(daemon.port)) == 1
    with contextlib.ExitStack() as stack:
        # Who has more connections than others leaves the next to them.
        clients = [stack.enter_context(Talk(daemon)) for _ in range(8)]
        seen = {script.json()["pid"] for _ in range(8)}
        assert seen <= workers
        del clients
    eventually(lambda: {script.json()["pid"] for _ in range(4)} == workers or None, "both answer")


def test_two_workers_and_two_servers(script: Script) -> None:
    write(script, "one", """
        import threading
        from http.server import HTTPServer
        from says import Says, told

        class Handler(Says):
            def answer(self):
                return {"port": self.server.server_port}

        servers = [HTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
        threading.Thread(target=servers[0].serve_forever).start()
        servers[1].serve_forever()
        """)  # fmt: skip
    daemon = script.start("serve.py", options=["--workers", "2"])
    ports = script.ports()
    assert len(ports) == 2
    for port in ports:
        for _ in range(20):
            assert script.json(port=port)["port"] == port
    assert len(daemon.workers()) == 2


def test_two_workers_in_threads(script: Script) -> None:
    script.write("serve.py", """
        import os, socketserver
        class Pid(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(b"%d" % os.getpid())
                self.rfile.readline()
        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
        Server(("127.0.0.1", 0), Pid).serve_forever()
        """)  # fmt: skip
    daemon = script.start("serve.py", options=["--workers", "2"])
    seen = set()
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", daemon.port), PATIENCE) as client:
            seen.add(int(client.recv(100)))
            client.sendall(b"\n")
        if len(seen) == 2:
            break
    assert seen == set(daemon.workers())


def test_more_and_fewer_workers(script: Script) -> None:
    write(script, "one")
    daemon = script.start("serve.py")
    daemon.signal("TTIN")
    eventually(lambda: len(daemon.workers()) == 2, "two workers")
    assert script.json()["version"] == "one"
    daemon.signal("TTOU")
    eventually(lambda: len(daemon.status()["workers"]) == 1, "one worker")
    assert script.json()["version"] == "one"
    assert daemon.process is not None
    assert daemon.process.poll() is None


def test_a_worker_that_is_told_to_end_from_outside(script: Script) -> None:
    script.daemon.expect("told to end", "worker")
    write(script, "one")
    daemon = script.start("serve.py")
    (worker,) = daemon.workers()
    os.kill(worker, signal.SIGTERM)
    eventually(lambda: daemon.workers() not in ([], [worker]), "another worker")
    assert script.json()["version"] == "one"


def test_keep_alive_connections_end_with_the_old_code(script: Script) -> None:
    text = _VERSION.replace("        def answer", "        protocol_version = 'HTTP/1.1'\n        def answer")
    write(script, "one", text)
    daemon = script.start("serve.py")
    with Talk(daemon) as client:
        assert client.ask("/").status == 200
        write(script, "two", text)
        daemon.reload()
        script.wait("reloaded")
        with contextlib.suppress(CleanClose):  # it may have been idle for long enough to be closed
            answer = client.ask("/")
            assert b'"one"' in answer.body
            assert answer["connection"] == "close"
    assert script.json()["version"] == "two"


def test_status(script: Script) -> None:
    write(script, "one")
    daemon = script.start("serve.py")
    script.get()
    done = script.ctl("status")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"127.0.0.1:{daemon.port}" in done.stdout
    assert script.ctl("check").returncode == 0
    assert script.ctl("reopen").returncode == 0


def test_a_restart_keeps_the_listener(script: Script) -> None:
    write(script, "one")
    daemon = script.start("serve.py")
    port = daemon.port
    write(script, "two")
    done = script.ctl("restart")
    assert (done.returncode, done.stderr) == (0, "")
    daemon.wait_notified("READY=1", 2)
    assert script.json(port=script.ports()[0])["version"] == "two"
    assert daemon.pid == int((daemon.run_dir / "httpd.pid").read_text())
    assert port
