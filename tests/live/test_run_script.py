"""`httpd run`: how a script is started, what it finds, how it ends, and what the command says then."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from live.daemon import Daemon, Place, StartFailed, eventually, run_httpd
from live.scripts.running import Script, running

SERVE = """
    import socketserver, sys
    from http.server import HTTPServer
    from says import Says, told

    HTTPServer(("127.0.0.1", 0), Says).serve_forever()
"""


@pytest.fixture
def script(daemon: Daemon) -> Iterator[Script]:
    with running(daemon) as made:
        yield made


# What a script finds


def test_it_serves_where_it_says(script: Script) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    script.write("serve.py", SERVE.replace('("127.0.0.1", 0)', f'("127.0.0.1", {port})'))
    daemon = script.start("serve.py")
    assert daemon.port == port
    assert script.json("/a?b")["path"] == "/a?b"
    script.wait(f"^Serving serve.py on http://127.0.0.1:{port}/ ")
    assert daemon.status()["listeners"] == [f"127.0.0.1:{port}"]
    assert len(daemon.workers()) == 1


def test_what_it_finds(script: Script) -> None:
    script.write("sub/beside.py", "there = 'beside'")
    script.write(
        "sub/serve.py",
        """
        import os, sys
        import beside
        sys.path.append(os.getcwd())
        from http.server import HTTPServer
        from says import Says

        class Handler(Says):
            def answer(self):
                return {"argv": sys.argv, "path0": sys.path[0], "cwd": os.getcwd(), "name": __name__, "file": __file__,
                        "main": sys.modules["__main__"].__dict__ is globals(), "beside": beside.there,
                        "variable": os.environ.get("SCRIPT_VARIABLE"), "stdin": sys.stdin.read(),
                        "documentation": __doc__}

        if __name__ == "__main__":
            HTTPServer(("127.0.0.1", 0), Handler).serve_forever()
        """,
    )
    script.start("sub/serve.py", "one", "-x", "--workers", "7", environ={"SCRIPT_VARIABLE": "set"})
    found = script.json()
    assert found["argv"] == [str(script.folder / "sub/serve.py"), "one", "-x", "--workers", "7"]
    assert found["path0"] == str(script.folder / "sub")
    assert found["cwd"] == str(script.folder)
    assert (found["name"], found["file"]) == ("__main__", str(script.folder / "sub/serve.py"))
    assert (found["main"], found["beside"], found["variable"]) == (True, "beside", "set")
    assert found["stdin"] == ""
    assert found["documentation"] is None
    assert len(script.daemon.workers()) == 1


def test_the_substitutes(script: Script) -> None:
    script.write(
        "serve.py",
        """
        import http.server, sys
        from http.server import HTTPServer, ThreadingHTTPServer, BaseHTTPRequestHandler, SimpleHTTPRequestHandler
        from says import Says

        class Handler(Says):
            def answer(self):
                return {"module": http.server.__name__, "same": sys.modules["http.server"] is http.server,
                        "server": type(self.server).__name__, "name": self.server.server_name,
                        "port": self.server.server_port, "address": self.server.server_address,
                        "client": self.client_address, "is": isinstance(self.server, HTTPServer)}

        with ThreadingHTTPServer(("localhost", 0), Handler) as server:
            server.serve_forever()
        """,
    )
    daemon = script.start("serve.py")
    found = script.json()
    assert (found["module"], found["same"], found["is"]) == ("httpd.server", True, True)
    assert (found["server"], found["name"]) == ("ThreadingHTTPServer", "localhost")
    assert (found["port"], found["address"]) == (daemon.port, ["127.0.0.1", daemon.port])
    assert found["client"][0] == "127.0.0.1"


def test_requests_are_logged_to_stdout_once(script: Script) -> None:
    script.write("serve.py", SERVE)
    daemon = script.start("serve.py")
    script.get("/logged")
    assert daemon.stdout is not None
    line = daemon.stdout.wait("GET /logged")
    assert re.fullmatch(r'127\.0\.0\.1 - - \[[^]]+\] "GET /logged HTTP/1\.1" 200 \d+ "-" "-"', line)
    daemon.signal("TERM")
    assert daemon.wait() == 0
    assert len(daemon.stdout.find("GET /logged")) == 1


def test_what_it_prints_comes_out(script: Script) -> None:
    script.write("serve.py", SERVE.replace("HTTPServer((", """print("on stdout")
    told("on stderr")
    HTTPServer(("""))
    daemon = script.start("serve.py")
    script.told("on stderr")
    assert daemon.stdout is not None
    daemon.stdout.wait("^on stdout$")


def test_standard_errors_of_a_handler_are_the_script_s(script: Script) -> None:
    script.daemon.expect(r'^127\.0\.0\.1 - - \[[^]]+\] (code 501, message Unsupported|my own)')
    script.write(
        "serve.py",
        """
        from http.server import HTTPServer
        from says import Says

        class Handler(Says):
            def answer(self):
                self.log_message("my own %s", self.path)
                return {}

        HTTPServer(("127.0.0.1", 0), Handler).serve_forever()
        """,
    )
    script.start("serve.py")
    script.get("/x")
    script.wait("my own /x$")
    assert script.get("/", "SPAM").status == 501
    script.wait("code 501")


# The command line


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["--workers"], ["--workers", "0", "x.py"], ["--workers", "65", "x.py"], ["--workers", "two", "x.py"],
        ["--nonsense", "x.py"], ["--tls-key", "k", "x.py"], ["-c", "f", "x.py"], ["--workers", "-1", "x.py"],
    ],
)  # fmt: skip
def test_wrong_usage_is_64(place: Place, arguments: list[str]) -> None:
    done = run_httpd("run", *arguments, cwd=place.path)
    assert (done.returncode, done.stdout) == (64, "")
    assert done.stderr.splitlines()[-1].startswith("httpd")
    assert "Traceback" not in done.stderr


def test_help(place: Place) -> None:
    done = run_httpd("run", "--help", cwd=place.path)
    assert (done.returncode, done.stderr) == (0, "")
    for word in ("--workers", "--listen", "--tls-cert", "--tls-key", "--daemon", "SCRIPT", "ARGS"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.py"], "SCRIPT: there is no file '{}/nowhere.py'"),
        (["www"], "SCRIPT: there is no file '{}/www'"),
        (["--listen", "80", "s.py"], "--listen: "),
        (["--tls-cert", "no.pem", "s.py"], "--tls-cert: there is no file '{}/no.pem'"),
        (["--tls-cert", "s.py", "--tls-key", "no.pem", "s.py"], "--tls-key: there is no file '{}/no.pem'"),
    ],
)
def test_what_is_not_there_is_78_in_one_line(place: Place, arguments: list[str], message: str) -> None:
    place.write("s.py")
    done = run_httpd("run", *arguments, cwd=place.path, environ={"XDG_RUNTIME_DIR": str(place.path)})
    assert (done.returncode, done.stdout) == (78, "")
    (line,) = done.stderr.splitlines()
    assert message.format(place.path) in line


def test_listen_takes_the_place_of_the_first_address(script: Script) -> None:
    script.write("serve.py", SERVE.replace("0)", "1)"))  # a port that nobody has
    options = ["--listen", "127.0.0.1:0", "--listen", "unix:x.sock"]
    script.at("serve.py", listen=["127.0.0.1:0", f"unix:{script.folder}/x.sock"])
    run_dir = script.daemon.run_dir
    daemon = script.daemon
    daemon.spawn("run", *options, "serve.py", cwd=script.folder, environ=script.environ)
    daemon.wait_notified("READY=1")
    daemon.run_dir = run_dir
    first, second = daemon.listeners()
    assert second == f"unix:{script.folder}/x.sock"
    assert script.json("/x", port=int(first.rpartition(":")[2]))["path"] == "/x"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(script.folder / "x.sock"))
        client.sendall(b"GET /unix HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: client.recv(65536), b""))
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["path"] == "/unix"


def test_listen_on_every_address(script: Script) -> None:
    script.write("serve.py", SERVE)
    script.start("serve.py", options=["--listen", ":0"])
    assert script.json("/four")["path"] == "/four"
    if socket.has_ipv6 and any("[::]" in name for name in script.daemon.listeners()):
        assert script.json("/six", host="::1")["path"] == "/six"


def test_detached(script: Script) -> None:
    """The command returns when the script serves."""
    script.write("serve.py", SERVE)
    script.at("serve.py")
    daemon = script.daemon
    done = run_httpd("run", "--daemon", "serve.py", cwd=script.folder, environ=script.environ)
    pid = int((daemon.run_dir / "httpd.pid").read_text())
    daemon.adopt(pid)
    try:
        assert (done.returncode, done.stdout) == (0, "")
        assert "Traceback" not in done.stderr
        daemon.port = script.ports()[0]
        assert script.json("/x")["path"] == "/x"
        assert os.readlink(f"/proc/{script.json()['pid']}/fd/2") == "/dev/null"
    finally:
        os.kill(pid, signal.SIGTERM)
        eventually(lambda: not Path(f"/proc/{pid}").exists(), "the daemon ends")


def test_detached_and_failed(script: Script) -> None:
    script.write("serve.py", "raise ValueError('not today')\n")
    script.at("serve.py")
    done = run_httpd("run", "--daemon", "serve.py", cwd=script.folder, environ=script.environ)
    assert done.returncode == 69
    assert "ValueError: not today" in done.stderr
    assert not (script.daemon.run_dir / "httpd.pid").exists()


def test_the_same_script_twice(script: Script) -> None:
    script.write("serve.py", SERVE)
    daemon = script.start("serve.py")
    done = run_httpd("run", "serve.py", cwd=script.folder, environ=script.environ)
    assert done.returncode == 69
    assert f"another instance runs with pid {daemon.pid}" in done.stderr


# Scripts that do not serve


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", r"ended without serving \(exit code 0\)"),
        ("raise SystemExit(3)", r"ended without serving \(exit code 3\)"),
        ("import sys; sys.exit('no configuration')", r"no configuration \(exit code 1\)"),
        ("1/0", r"ZeroDivisionError: division by zero \(\S+serve\.py, line 1\) \(exit code 1\)"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("x = (", r"SyntaxError: '\(' was never closed \(\S+serve\.py, line 1\)"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("import socketserver as s; s.TCPServer(('127.0.0.1', 0), s.BaseRequestHandler)", "ended without serving"),
        ("import os; os._exit(5)", "exit code 5|status 5|exited"),
    ],
)
def test_a_script_that_does_not_serve_is_69(script: Script, text: str, reason: str) -> None:
    script.tracebacks()
    script.daemon.expect("cannot start", "the script raised", "worker")
    script.write("serve.py", text + "\n")
    with pytest.raises(StartFailed) as failed:
        script.start("serve.py")
    assert failed.value.code == 69
    assert re.search(f"cannot start reason=.*({reason})", failed.value.text), failed.value.text
    assert not (script.daemon.run_dir / "httpd.pid").exists()
    assert not (script.daemon.run_dir / "control.sock").exists()


def test_a_traceback_names_the_script_s_lines(script: Script) -> None:
    script.tracebacks()
    script.daemon.expect("cannot start", "the script raised", "worker")
    script.write("serve.py", "def deep():\n    raise ValueError('deep')\ndeep()\n")
    with pytest.raises(StartFailed) as failed:
        script.start("serve.py")
    assert f'File "{script.folder}/serve.py", line 2, in deep' in failed.value.text


def test_a_port_in_use_is_an_error_in_the_script(script: Script) -> None:
    script.write(
        "serve.py",
        """
        import errno, sys
        from http.server import HTTPServer
        from says import Says, told

        try:
            HTTPServer(("127.0.0.1", int(sys.argv[1])), Says)
        except OSError as error:
            told(type(error).__name__, errno.errorcode[error.errno], error.strerror)
        HTTPServer(("127.0.0.1", 0), Says).serve_forever()
        """,
    )
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        script.start("serve.py", str(other.getsockname()[1]))
        script.told("OSError EADDRINUSE Address already in use")
        assert script.json("/x")["path"] == "/x"


def test_a_port_in_use_that_nobody_expected(script: Script) -> None:
    script.tracebacks()
    script.daemon.expect("cannot start", "the script raised", "worker")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        script.write("serve.py", SERVE.replace("0)", f"{port})"))
        with pytest.raises(StartFailed, match=f"Address already in use.*{port}") as failed:
            script.start("serve.py")
    assert failed.value.code == 69


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ('("192.0.2.1", 0)', "OSError EADDRNOTAVAIL"), ('("no.such.host.invalid", 0)', "gaierror"),
        ('("127.0.0.1", 65536)', "OverflowError"), ('("127.0.0.1", -1)', "OverflowError"),
    ],
)  # fmt: skip
def test_an_address_that_is_none(script: Script, address: str, expected: str) -> None:
    script.write(
        "serve.py",
        f"""
        import errno
        from http.server import HTTPServer
        from says import Says, told

        try:
            HTTPServer({address}, Says)
        except Exception as error:
            told(type(error).__name__, errno.errorcode.get(getattr(error, "errno", 0), ""))
        HTTPServer(("127.0.0.1", 0), Says).serve_forever()
        """,
    )
    script.start("serve.py")
    script.told(expected + ".*")


def test_a_port_that_is_root_s(script: Script) -> None:
    """Root binds it for workers that are not root; to others it is forbidden, and the script hears so."""
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) < 600:
        pytest.skip("low ports are everybody's here")
    script.write(
        "serve.py",
        """
        import os
        from http.server import HTTPServer
        from says import Says, told

        for port in range(531, 599):
            try:
                server = HTTPServer(("127.0.0.1", port), Says)
            except PermissionError as error:
                told("refused", error.errno, os.geteuid() != 0)
                server = HTTPServer(("127.0.0.1", 0), Says)
            except OSError:
                continue
            break
        told("bound", server.server_port < 1024, os.geteuid() != 0)
        server.serve_forever()
        """,
    )
    script.start("serve.py")
    script.told("bound True True" if os.geteuid() == 0 else "bound False True")
    if os.geteuid():
        script.told("refused 13 True")
    assert script.json("/x")["path"] == "/x"


# Scripts that end


@pytest.mark.parametrize(
    ("last", "code"),
    [
        ("", 0), ("sys.exit(3)", 3), ("sys.exit()", 0), ("sys.exit('gone')", 1), ("raise SystemExit(300)", 44),
        ("1/0", 1), ("raise KeyboardInterrupt", 0),
    ],
)  # fmt: skip
def test_the_end_of_the_script_is_the_daemon_s(script: Script, last: str, code: int) -> None:
    script.daemon.expect("the script raised")
    script.tracebacks()
    script.write(
        "serve.py",
        f"""
        import sys, threading
        from http.server import HTTPServer
        from says import Says, told

        class Handler(Says):
            def answer(self):
                threading.Thread(target=self.server.shutdown).start()
                return {{"bye": True}}

        with HTTPServer(("127.0.0.1", 0), Handler) as server:
            server.serve_forever()
        told("behind")
        {last}
        """,
    )
    daemon = script.start("serve.py")
    assert script.json()["bye"] is True
    assert daemon.wait() == code
    script.told("behind")
    assert not (daemon.run_dir / "httpd.pid").exists()
    if last == "1/0":
        script.wait("ZeroDivisionError")
        script.wait(f'File "{script.folder}/serve.py"')


def test_the_end_of_the_script_ends_all_workers(script: Script) -> None:
    script.write(
        "serve.py",
        """
        import sys, threading
        from http.server import HTTPServer
        from says import Says

        class Handler(Says):
            def answer(self):
                threading.Thread(target=self.server.shutdown).start()
                return {}

        HTTPServer(("127.0.0.1", 0), Handler).serve_forever()
        sys.exit(7)
        """,
    )
    daemon = script.start("serve.py", options=["--workers", "3"])
    workers = daemon.workers()
    assert len(workers) == 3
    script.get()
    assert daemon.wait() == 7
    assert not [pid for pid in workers if Path(f"/proc/{pid}").exists()]


def test_clean_up_of_a_script_that_ends(script: Script) -> None:
    """atexit, and threads that are no daemons, as the interpreter has them."""
    script.write(
        "serve.py",
        """
        import atexit, threading
        from http.server import HTTPServer
        from says import Says, told

        class Handler(Says):
            def answer(self):
                threading.Thread(target=self.server.shutdown).start()
                return {}

        def last():
            gone.wait()
            told("thread")

        gone = threading.Event()
        atexit.register(told, "atexit")
        threading.Thread(target=last).start()
        HTTPServer(("127.0.0.1", 0), Handler).serve_forever()
        told("main")
        gone.set()
        """,
    )
    daemon = script.start("serve.py")
    script.get()
    assert daemon.wait() == 0
    assert daemon.stderr is not None
    assert [line[6:] for line in daemon.stderr.find("^told")] == ["main", "thread", "atexit"]
