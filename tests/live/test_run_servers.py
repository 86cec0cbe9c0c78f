"""`httpd run`: what scripts do with their servers, each as http.server and socketserver document it."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from live.daemon import PATIENCE, Daemon, StartFailed, eventually
from live.scripts.running import READ_FROM_TERMINAL, Script, make_certificate, running
from machine import has_ipv6, needs_ipv6

_HEAD = """
import http.server, os, socket, socketserver, sys, threading, time
from http.server import HTTPServer, ThreadingHTTPServer, BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from says import Says, told

ANY = ("127.0.0.1", 0)
"""


@pytest.fixture
def script(daemon: Daemon) -> Iterator[Script]:
    with running(daemon) as made:
        yield made


def serve(script: Script, text: str, *options: str, arguments: tuple[str, ...] = ()) -> Daemon:
    """Write a script behind the imports that all have, and run it."""
    script.write("serve.py", text)
    path = script.folder / "serve.py"
    path.write_text(_HEAD + path.read_text())
    return script.start("serve.py", *arguments, options=options)


def connect(port: int, host: str = "127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), PATIENCE)


def everything(sock: socket.socket) -> bytes:
    """All that comes, to an orderly end."""
    return b"".join(iter(lambda: sock.recv(65536), b""))


# Handlers and servers


def test_files_by_a_plain_tcp_server(script: Script) -> None:
    """The example of http.server's own documentation."""
    script.daemon.expect(READ_FROM_TERMINAL + "code 404")
    script.write("index.txt", "the text")
    daemon = serve(script, """
        PORT = 0
        Handler = http.server.SimpleHTTPRequestHandler
        with socketserver.TCPServer(("", PORT), Handler) as httpd:
            print("serving at port", PORT)
            httpd.serve_forever()
        """)  # fmt: skip
    assert daemon.listeners() == [f"0.0.0.0:{daemon.port}"]
    found = script.get("/index.txt")
    assert (found.status, found.body) == (200, b"the text")
    assert found.headers["Content-type"] == "text/plain"
    assert b"index.txt" in script.get("/").body
    assert script.get("/nowhere").status == 404


def test_state_on_the_server_the_class_and_the_module(script: Script) -> None:
    serve(script, """
        count = 0
        class Handler(Says):
            seen = []
            def answer(self):
                global count
                count += 1
                self.server.hits += 1
                self.seen.append(self.path)
                return {"count": count, "hits": self.server.hits, "seen": self.seen, "here": __name__}

        server = ThreadingHTTPServer(ANY, Handler)
        server.hits = 10
        server.serve_forever()
        """)  # fmt: skip
    script.get("/a")
    script.get("/b")
    found = script.json("/c")
    assert (found["count"], found["hits"], found["seen"]) == (3, 13, ["/a", "/b", "/c"])


def test_a_background_thread(script: Script) -> None:
    """Started before it serves, it runs beside the handlers and sees what they leave."""
    serve(script, """
        jobs, results = [], []
        ready = threading.Condition()

        def work():
            while True:
                with ready:
                    ready.wait_for(lambda: jobs)
                    results.append(jobs.pop(0).upper())
                told("done", results[-1])

        class Handler(Says):
            def answer(self):
                if self.command == "POST":
                    with ready:
                        jobs.append(self.body())
                        ready.notify()
                return {"results": results}

        threading.Thread(target=work, daemon=True).start()
        HTTPServer(ANY, Handler).serve_forever()
        """)  # fmt: skip
    script.get("/", "POST", b"job")
    script.told("done JOB")
    assert script.json()["results"] == ["JOB"]


@pytest.mark.parametrize(("kind", "together"), [("ThreadingHTTPServer", True), ("HTTPServer", False)])
def test_how_many_handlers_run_at_once(script: Script, kind: str, together: bool) -> None:
    daemon = serve(script, f"""
        inside, most, gate, lock = [], [0], threading.Event(), threading.Lock()
        class Handler(Says):
            def answer(self):
                if self.path == "/open":
                    gate.set()
                    return {{}}
                with lock:
                    inside.append(self.path)
                    most[0] = max(most[0], len(inside))
                told("in", self.path)
                if {together}:
                    gate.wait()
                inside.remove(self.path)
                return {{"most": most[0]}}

        {kind}(ANY, Handler).serve_forever()
        """)  # fmt: skip
    clients = [connect(daemon.port) for _ in range(6)]
    for number, client in enumerate(clients):
        client.sendall(b"GET /%d HTTP/1.0\r\n\r\n" % number)
    for number in range(6):
        script.told(f"in /{number}")
    script.get("/open")
    answers = [json.loads(everything(client).partition(b"\r\n\r\n")[2]) for client in clients]
    assert max(answer["most"] for answer in answers) == (6 if together else 1)
    for client in clients:
        client.close()


def test_a_handler_that_raises(script: Script) -> None:
    script.tracebacks()
    script.daemon.expect("a handler raised")
    serve(script, """
        class Handler(Says):
            def answer(self):
                return {"it": 1 / int(self.path[1:])}

        HTTPServer(ANY, Handler).serve_forever()
        """)  # fmt: skip
    assert script.get("/0").status == 500
    script.wait("a handler raised")
    script.wait("ZeroDivisionError")
    assert script.json("/1")["it"] == 1


def test_hooks_of_the_server_are_called_in_order(script: Script) -> None:
    serve(script, """
        class Server(HTTPServer):
            def server_bind(self):
                self.calls = ["server_bind"]
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                super().server_bind()
            def server_activate(self):
                self.calls.append("server_activate")
                super().server_activate()
            def verify_request(self, request, client_address):
                self.calls.append("verify_request")
                return super().verify_request(request, client_address)
            def process_request(self, request, client_address):
                self.calls.append("process_request")
                super().process_request(request, client_address)
            def finish_request(self, request, client_address):
                self.calls.append("finish_request")
                super().finish_request(request, client_address)
            def close_request(self, request):
                self.calls.append("close_request")
                super().close_request(request)

        class Handler(Says):
            def answer(self):
                return {"calls": self.server.calls}

        Server(ANY, Handler).serve_forever()
        """)  # fmt: skip
    order = ["verify_request", "process_request", "finish_request"]
    assert script.json()["calls"] == ["server_bind", "server_activate", *order]
    assert script.json()["calls"] == ["server_bind", "server_activate", *order, "close_request", *order]


def test_verify_request_denies(script: Script) -> None:
    daemon = serve(script, """
        class Server(ThreadingHTTPServer):
            def verify_request(self, request, client_address):
                return client_address[1] in allowed

        allowed = {int(sys.argv[1])}
        Server(ANY, Says).serve_forever()
        """, arguments=("1",))  # fmt: skip
    with connect(daemon.port) as client:
        client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            assert everything(client) == b""


def test_bound_by_hand(script: Script) -> None:
    serve(script, """
        server = HTTPServer(ANY, Says, bind_and_activate=False)
        server.allow_reuse_address = True
        server.server_bind()
        server.server_activate()
        server.serve_forever()
        """)  # fmt: skip
    assert script.json("/x")["path"] == "/x"


def test_a_handler_class_that_is_changed_later(script: Script) -> None:
    serve(script, """
        class Second(Says):
            def answer(self):
                return {"now": "second"}
        class First(Says):
            def answer(self):
                self.server.RequestHandlerClass = Second
                return {"now": "first"}
        HTTPServer(ANY, First).serve_forever()
        """)  # fmt: skip
    assert [script.json()["now"] for _ in range(3)] == ["first", "second", "second"]


def test_handlers_by_partial_lambda_and_closure(script: Script) -> None:
    script.write("sub/a.txt", "by partial")
    serve(script, """
        from functools import partial
        def make(word):
            class Handler(Says):
                def answer(self):
                    return {"word": word}
            return Handler
        servers = [
            HTTPServer(ANY, partial(SimpleHTTPRequestHandler, directory="sub")),
            HTTPServer(ANY, lambda *arguments: make("by lambda")(*arguments)),
            HTTPServer(ANY, make("by closure")),
        ]
        for server in servers[1:]:
            threading.Thread(target=server.serve_forever).start()
        servers[0].serve_forever()
        """)  # fmt: skip
    first, second, third = script.ports()
    assert script.get("/a.txt", port=first).body == b"by partial"
    eventually(lambda: script.json(port=second)["word"] == "by lambda", "the second serves")
    eventually(lambda: script.json(port=third)["word"] == "by closure", "the third serves")


def test_http11_keeps_connections(script: Script) -> None:
    daemon = serve(script, """
        class Handler(Says):
            protocol_version = "HTTP/1.1"
        HTTPServer(ANY, Handler).serve_forever()
        """)  # fmt: skip
    with connect(daemon.port) as client:
        client.sendall(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        answer = everything(client)
    assert answer.count(b"HTTP/1.1 200 OK\r\n") == 2
    assert b'"path": "/2"' in answer


# serve_forever, shutdown


def test_serve_forever_in_a_thread(script: Script) -> None:
    daemon = serve(script, """
        server = HTTPServer(ANY, Says)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        told("port", server.server_port)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            told("interrupted")
        server.shutdown()
        server.server_close()
        thread.join()
        told("joined")
        """)  # fmt: skip
    script.told(f"port {daemon.port}")
    assert script.json("/x")["path"] == "/x"
    daemon.signal("TERM")
    assert daemon.wait() == 0
    script.told("interrupted")
    script.told("joined")


@pytest.mark.parametrize("how", ["threading.Thread(target=self.server.shutdown).start()", "self.server.shutdown()"])
@pytest.mark.parametrize("kind", ["HTTPServer", "ThreadingHTTPServer"])
def test_shutdown_in_a_handler(script: Script, how: str, kind: str) -> None:
    """The client has its answer, and the script goes on."""
    daemon = serve(script, f"""
        class Handler(Says):
            def answer(self):
                if self.path == "/shutdown":
                    {how}
                return {{"path": self.path}}

        with {kind}(ANY, Handler) as server:
            server.serve_forever()
        told("closed", server.socket.fileno())
        """)  # fmt: skip
    for number in range(8):  # so that it counts as quick
        script.get(f"/{number}")
    assert script.json("/shutdown")["path"] == "/shutdown"
    assert daemon.wait() == 0
    script.told("closed -1")


def test_serve_forever_once_more(script: Script) -> None:
    daemon = serve(script, """
        class Handler(Says):
            def answer(self):
                now = turn
                threading.Thread(target=self.server.shutdown).start()
                return {"turn": now}

        server = HTTPServer(ANY, Handler)
        for turn in range(3):
            server.serve_forever()
            told("turn", turn)
        """)  # fmt: skip
    for turn in range(3):
        assert script.json()["turn"] == turn
        script.told(f"turn {turn}")
    assert daemon.wait() == 0


def test_shutdown_of_one_that_does_not_serve(script: Script) -> None:
    """Nothing to wait for."""
    serve(script, """
        server = HTTPServer(ANY, Says)
        other = HTTPServer(ANY, Says)
        other.server_close()
        other.server_close()
        server.serve_forever()
        """)  # fmt: skip
    assert script.json("/x", port=script.ports()[0])["path"] == "/x"


def test_service_actions(script: Script) -> None:
    serve(script, """
        class Server(HTTPServer):
            ticks = 0
            def service_actions(self):
                self.ticks += 1
                if self.ticks in (3, 30):
                    told("tick", self.ticks)

        class Handler(Says):
            def answer(self):
                return {"ticks": self.server.ticks}

        Server(ANY, Handler).serve_forever(poll_interval=0.01)
        """)  # fmt: skip
    script.told("tick 3")
    script.told("tick 30")
    assert script.json()["ticks"] >= 30


def test_service_actions_that_raise_end_serve_forever(script: Script) -> None:
    daemon = serve(script, """
        class Stop(Exception):
            pass
        class Server(HTTPServer):
            def service_actions(self):
                if self.over:
                    raise Stop

        class Handler(Says):
            def answer(self):
                self.server.over = True
                return {}

        server = Server(ANY, Handler)
        server.over = False
        try:
            server.serve_forever(0.01)
        except Stop:
            told("stopped")
        """)  # fmt: skip
    script.json()
    assert daemon.wait() == 0
    script.told("stopped")


# handle_request


def test_one_request_and_no_more(script: Script) -> None:
    """As those do who wait for a callback of OAuth."""
    daemon = serve(script, """
        class Handler(Says):
            def answer(self):
                self.server.code = self.path.partition("code=")[2]
                return {"thank": "you"}

        server = HTTPServer(ANY, Handler)
        server.code = None
        server.handle_request()
        told("code", server.code)
        sys.exit(4)
        """)  # fmt: skip
    assert script.json("/callback?code=secret")["thank"] == "you"
    assert daemon.wait() == 4
    script.told("code secret")


def test_who_comes_behind_the_last_request(script: Script) -> None:
    """As browsers that ask for /favicon.ico: the script is over, nobody is answered, and nobody waits for it."""
    daemon = serve(script, """
        class Handler(Says):
            def answer(self):
                told("in")
                while not os.path.exists("gate"):
                    time.sleep(0.01)
                return {}

        server = HTTPServer(ANY, Handler)
        server.handle_request()
        told("behind")
        """)  # fmt: skip
    with connect(daemon.port) as first, connect(daemon.port) as second:
        first.sendall(b"GET /1 HTTP/1.0\r\n\r\n")
        script.told("in")
        second.sendall(b"GET /favicon.ico HTTP/1.0\r\n\r\n")
        with connect(daemon.port) as idle:
            script.write("gate", "")
            assert everything(first).startswith(b"HTTP/1.0 200")
            assert daemon.wait() == 0
            with contextlib.suppress(ConnectionResetError):
                assert everything(second)[9:12] in (b"", b"503")
            assert idle.fileno() >= 0
    script.told("behind")


def test_a_loop_of_requests(script: Script) -> None:
    daemon = serve(script, """
        class Handler(Says):
            def answer(self):
                self.server.seen.append(self.path)
                return {"main": threading.current_thread() is threading.main_thread()}

        with HTTPServer(ANY, Handler) as server:
            server.seen = []
            while "/last" not in server.seen:
                server.handle_request()
        told(*server.seen)
        """)  # fmt: skip
    assert [script.json(target)["main"] for target in ("/a", "/b", "/last")] == [True] * 3
    assert daemon.wait() == 0
    script.told("/a /b /last")


def test_handle_timeout(script: Script) -> None:
    daemon = serve(script, """
        class Server(HTTPServer):
            timeout = 0.02
            timeouts = 0
            def handle_timeout(self):
                self.timeouts += 1

        class Handler(Says):
            def answer(self):
                return {}

        server = Server(ANY, Handler)
        while server.timeouts < 3:
            server.handle_request()
        told("patient")
        server.timeout = None
        server.handle_request()
        told("timeouts", server.timeouts)
        """)  # fmt: skip
    script.told("patient")
    assert script.get().status == 200
    assert daemon.wait() == 0
    script.told("timeouts 3")


def test_handle_request_then_serve_forever(script: Script) -> None:
    serve(script, """
        server = HTTPServer(ANY, Says)
        server.handle_request()
        told("first")
        server.serve_forever()
        """)  # fmt: skip
    assert script.json("/1")["path"] == "/1"
    script.told("first")
    assert script.json("/2")["path"] == "/2"
    assert script.json("/3")["path"] == "/3"


def test_a_handler_that_raises_in_handle_request(script: Script) -> None:
    script.tracebacks()
    script.daemon.expect("a handler raised")
    daemon = serve(script, """
        class Handler(Says):
            def answer(self):
                raise ValueError("no")

        server = HTTPServer(ANY, Handler)
        server.handle_request()
        told("goes on")
        """)  # fmt: skip
    assert script.get().status == 500
    assert daemon.wait() == 0
    script.told("goes on")


@pytest.mark.parametrize("what", ["server", "server.socket", "server.fileno()"])
def test_a_select_loop_of_the_script_s_own(script: Script, what: str) -> None:
    """The script polls its server, and calls handle_request when somebody has come."""
    daemon = serve(script, f"""
        import select
        server = HTTPServer(ANY, Says)
        turn = 0
        while turn < 6:
            if select.select([{what}], [], [], 1)[0]:
                server.handle_request()
                told("turn", turn)
                turn += 1
        """)  # fmt: skip
    for turn in range(3):
        assert script.json(f"/{turn}")["path"] == f"/{turn}"
        script.told(f"turn {turn}")
    with contextlib.ExitStack() as stack:  # of those who come together nobody is forgotten
        clients = [stack.enter_context(connect(daemon.port)) for _ in range(3)]
        for client in clients:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
        for client in clients:
            assert everything(client).startswith(b"HTTP/1.0 200")
    assert daemon.wait() == 0


# Several


def test_two_servers_in_threads(script: Script) -> None:
    daemon = serve(script, """
        class Admin(Says):
            def answer(self):
                for server in servers:
                    threading.Thread(target=server.shutdown).start()
                return {"kind": "admin"}
        class Public(Says):
            def answer(self):
                return {"kind": "public"}

        servers = [HTTPServer(ANY, Public), ThreadingHTTPServer(ANY, Admin)]
        threads = [threading.Thread(target=server.serve_forever) for server in servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        told("over")
        """)  # fmt: skip
    public, admin = script.ports()
    assert script.json(port=public)["kind"] == "public"
    assert script.json(port=admin)["kind"] == "admin"
    assert daemon.wait() == 0
    script.told("over")


def test_a_server_made_later(script: Script) -> None:
    serve(script, """
        class Handler(Says):
            def answer(self):
                other = HTTPServer(ANY, Says)
                threading.Thread(target=other.serve_forever).start()
                return {"port": other.server_port}

        HTTPServer(ANY, Handler).serve_forever()
        """)  # fmt: skip
    port = script.json()["port"]
    assert script.json("/later", port=port)["path"] == "/later"
    assert script.ports()[1] == port


def test_closed_and_made_again(script: Script) -> None:
    """A server on the port of one that was closed."""
    serve(script, """
        first = HTTPServer(ANY, Says)
        address = first.server_address
        first.server_close()
        HTTPServer(address, Says).serve_forever()
        """)  # fmt: skip
    assert script.json("/x")["path"] == "/x"


def test_other_servers_of_socketserver_are_left_alone(script: Script) -> None:
    (script.folder / "sock").mkdir()
    (script.folder / "sock").chmod(0o777)
    serve(script, """
        class Echo(socketserver.BaseRequestHandler):
            def handle(self):
                data, sock = self.request
                sock.sendto(data.upper(), self.client_address)
        class Line(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(self.rfile.readline().upper())

        udp = socketserver.UDPServer(ANY, Echo)
        local = socketserver.ThreadingUnixStreamServer("sock/line", Line)
        for server in (udp, local):
            threading.Thread(target=server.serve_forever, daemon=True).start()
        class Handler(Says):
            def answer(self):
                return {"udp": udp.server_address}
        HTTPServer(ANY, Handler).serve_forever()
        """)  # fmt: skip
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(PATIENCE)
        client.sendto(b"datagram", tuple(script.json()["udp"]))
        assert client.recv(100) == b"DATAGRAM"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(script.folder / "sock/line"))
        client.sendall(b"line\n")
        assert everything(client) == b"LINE\n"


# Connections of their own


@pytest.mark.parametrize("kind", ["TCPServer", "ThreadingTCPServer"])
def test_an_echo_server(script: Script, kind: str) -> None:
    daemon = serve(script, f"""
        class Echo(socketserver.StreamRequestHandler):
            def handle(self):
                for line in self.rfile:
                    self.wfile.write(line.upper())

        class Server(socketserver.{kind}):
            allow_reuse_address = daemon_threads = True

        with Server(ANY, Echo) as server:
            server.serve_forever()
        """)  # fmt: skip
    for word in (b"one\n", b"two\n"):
        with connect(daemon.port) as client:
            client.sendall(word * 2)
            client.shutdown(socket.SHUT_WR)
            assert everything(client) == word.upper() * 2


def test_a_base_request_handler(script: Script) -> None:
    daemon = serve(script, """
        class Echo(socketserver.BaseRequestHandler):
            def handle(self):
                self.request.sendall(self.request.recv(1024).strip().upper())

        socketserver.TCPServer(ANY, Echo).serve_forever()
        """)  # fmt: skip
    with connect(daemon.port) as client:
        client.sendall(b"word\n")
        assert everything(client) == b"WORD"


def test_an_own_get_request(script: Script) -> None:
    script.daemon.expect(READ_FROM_TERMINAL)
    serve(script, """
        class Server(ThreadingHTTPServer):
            def get_request(self):
                request, address = super().get_request()
                self.taken = address
                return request, address

        class Handler(Says):
            def answer(self):
                return {"taken": self.server.taken, "client": self.client_address}

        Server(ANY, Handler).serve_forever()
        """)  # fmt: skip
    found = script.json()
    assert found["taken"] == found["client"]
    assert script.json()["client"] != found["client"]


def test_shutdown_of_a_server_with_connections_of_its_own(script: Script) -> None:
    daemon = serve(script, """
        class Once(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(b"bye")
                threading.Thread(target=self.server.shutdown).start()

        with socketserver.TCPServer(ANY, Once) as server:
            server.serve_forever()
        told("over")
        """)  # fmt: skip
    with connect(daemon.port) as client:
        assert everything(client) == b"bye"
    assert daemon.wait() == 0
    script.told("over")


def test_handle_request_with_connections_of_its_own(script: Script) -> None:
    daemon = serve(script, """
        class Once(socketserver.StreamRequestHandler):
            def handle(self):
                self.wfile.write(b"bye")
        class Server(socketserver.TCPServer):
            timeout = 0.01
            def handle_timeout(self):
                told("timeout")

        with Server(ANY, Once) as server:
            server.handle_request()
            server.timeout = None
            server.handle_request()
            server.handle_request()
        told("over")
        """)  # fmt: skip
    script.told("timeout")
    for _ in range(2):
        with connect(daemon.port) as client:
            assert everything(client) == b"bye"
    assert daemon.wait() == 0
    script.told("over")


def test_a_stop_waits_for_connections_in_threads(script: Script) -> None:
    daemon = serve(script, """
        class Slow(socketserver.StreamRequestHandler):
            def handle(self):
                told("begun")
                self.wfile.write(self.rfile.readline().upper())

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True
        Server(ANY, Slow).serve_forever()
        """)  # fmt: skip
    with connect(daemon.port) as client:
        script.told("begun")
        daemon.signal("TERM")
        script.wait("stopping")
        client.sendall(b"still\n")
        assert everything(client) == b"STILL\n"
    assert daemon.wait() == 0


@needs_ipv6
def test_ipv6_alone(script: Script) -> None:
    daemon = serve(script, """
        class Server(HTTPServer):
            address_family = socket.AF_INET6
        class Handler(Says):
            def answer(self):
                return {"client": self.client_address, "server": self.server.server_address}
        Server(("::1", 0), Handler).serve_forever()
        """)  # fmt: skip
    assert daemon.listeners() == [f"[::1]:{daemon.port}"]
    found = script.json(host="::1")
    assert (found["client"][0], found["server"][:2]) == ("::1", ["::1", daemon.port])


_DUAL = """
        import contextlib
        class DualStackServer(ThreadingHTTPServer):
            address_family = socket.AF_INET6
            def server_bind(self):
                with contextlib.suppress(Exception):
                    self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
                return super().server_bind()

        class Handler(Says):
            def answer(self):
                return {"port": self.server.server_port, "is": type(self.server).__name__}

        server = DualStackServer(("::", 0), Handler)
"""


@needs_ipv6
def test_a_dual_stack_server(script: Script) -> None:
    daemon = serve(script, _DUAL + "        server.serve_forever()\n")
    for host in ("127.0.0.1", "::1"):
        assert script.json(host=host)["port"] == daemon.port


@needs_ipv6
def test_a_dual_stack_server_with_connections_of_its_own(script: Script) -> None:
    script.daemon.expect(READ_FROM_TERMINAL, r"^(::1|::ffff:127\.0\.0\.1) - - ")
    own = """
            def get_request(self):
                return super().get_request()
"""
    daemon = serve(script, _DUAL.replace("\n\n        class Handler", own + "\n        class Handler", 1)
                   + "        server.serve_forever()\n")  # fmt: skip
    for host in ("127.0.0.1", "::1", "127.0.0.1"):
        found = script.json(host=host)
        assert (found["port"], found["is"]) == (daemon.port, "DualStackServer")


# TLS


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, ssl.SSLContext]:
    return make_certificate(tmp_path_factory.mktemp("tls"))


Tls = tuple[Path, Path, ssl.SSLContext]


def bring(script: Script, tls: Tls) -> ssl.SSLContext:
    """Put certificate and key beside the script; returns the client's context."""
    for path in tls[:2]:
        script.write(path.name, path.read_text())
    script.daemon.expect(READ_FROM_TERMINAL)
    return tls[2]


_WRAPPED = {
    "the socket": """
        httpd = HTTPServer(ANY, Says)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("cert.pem", "key.pem")
        httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
        httpd.serve_forever()
        """,
    "in __init__, threads": """
        class Server(ThreadingHTTPServer):
            def __init__(self, *arguments):
                super().__init__(*arguments)
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
                context.load_cert_chain("cert.pem", "key.pem")
                self.socket = context.wrap_socket(self.socket, server_side=True)
        Server(ANY, Says).serve_forever()
        """,
    "in get_request": """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain("cert.pem", "key.pem")
        class Server(HTTPServer):
            def get_request(self):
                sock, address = self.socket.accept()
                return context.wrap_socket(sock, server_side=True), address
        Server(ANY, Says).serve_forever()
        """,
    "a class of 3.14": """
        from http.server import ThreadingHTTPSServer
        ThreadingHTTPSServer(ANY, Says, certfile="cert.pem", keyfile="key.pem").serve_forever()
        """,
}


@pytest.mark.parametrize("how", _WRAPPED)
def test_tls_of_the_script_s_own(script: Script, tls: Tls, how: str) -> None:
    context = bring(script, tls)
    serve(script, "        import ssl\n" + _WRAPPED[how])
    for number in range(3):
        assert script.json(f"/{number}", context=context)["path"] == f"/{number}"


@pytest.mark.parametrize("kind", ["HTTPServer", "ThreadingHTTPServer"])
def test_tls_by_option(script: Script, tls: Tls, kind: str) -> None:
    context = bring(script, tls)
    options = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"]
    serve(script, f"{kind}(ANY, Says).serve_forever()", *options)
    for number in range(3):
        assert script.json(f"/{number}", context=context)["path"] == f"/{number}"


def test_tls_by_option_with_handle_request(script: Script, tls: Tls) -> None:
    context = bring(script, tls)
    daemon = serve(script, """
        server = HTTPServer(ANY, Says)
        server.handle_request()
        server.handle_request()
        """, "--tls-cert", "cert.pem", "--tls-key", "key.pem")  # fmt: skip
    for number in range(2):
        assert script.json(f"/{number}", context=context)["path"] == f"/{number}"
    assert daemon.wait() == 0


def test_tls_by_option_on_every_address(script: Script, tls: Tls) -> None:
    """IPv4 and IPv6 are two sockets, and all of a script's addresses are served."""
    context = bring(script, tls)
    script.daemon.expect("^::1 - - ")
    serve(script, """
        class Handler(Says):
            def answer(self):
                return {"kind": type(self.server).__name__}
        ThreadingHTTPServer(ANY, Handler).serve_forever()
        """, "--listen", ":0", "--listen", "127.0.0.2:0", "--tls-cert", "cert.pem", "--tls-key", "key.pem")  # fmt: skip
    context.check_hostname = False
    assert script.json(context=context)["kind"] == "ThreadingHTTPServer"
    assert script.json(context=context, host="127.0.0.2", port=script.ports()[-1])["kind"] == "ThreadingHTTPServer"
    if has_ipv6():
        assert script.json(context=context, host="::1")["kind"] == "ThreadingHTTPServer"


def test_tls_clients_that_do_not_shake_hands(script: Script, tls: Tls) -> None:
    """They hold up nobody, and are no traceback."""
    context = bring(script, tls)
    daemon = serve(script, "ThreadingHTTPServer(ANY, Says).serve_forever()", "--tls-cert", "cert.pem", "--tls-key",
                   "key.pem")  # fmt: skip
    with connect(daemon.port) as silent, connect(daemon.port) as plain:
        plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
        assert script.json("/x", context=context)["path"] == "/x"
        assert silent.fileno() >= 0
    assert script.daemon.stderr is not None
    assert not script.daemon.stderr.find("Traceback")


def test_a_certificate_that_is_none(script: Script) -> None:
    script.tracebacks()
    script.daemon.expect("cannot start", "the script raised", "worker")
    script.write("cert.pem", "nothing of the kind\n")
    with pytest.raises(StartFailed, match=r"cert\.pem") as failed:
        serve(script, "HTTPServer(ANY, Says).serve_forever()", "--tls-cert", "cert.pem")
    assert failed.value.code == 69


# Descriptors


def test_nothing_stays_open(script: Script) -> None:
    serve(script, """
        class Handler(Says):
            def answer(self):
                if self.path == "/again":
                    other = HTTPServer(address, Says)
                    other.server_close()
                return {"open": len(os.listdir("/proc/self/fd"))}

        probe = HTTPServer(ANY, Says)
        address = probe.server_address
        probe.server_close()
        HTTPServer(ANY, Handler).serve_forever()
        """)  # fmt: skip
    ports = script.ports()
    before: Any = script.json(port=ports[1])["open"]
    for _ in range(5):
        assert script.json("/again", port=ports[1])["open"] <= before
