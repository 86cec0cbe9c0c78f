"""Handlers that want the client's socket itself."""

import os
import select
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler

_GATES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "gates")


class Base(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def upgrade(self):
        self.send_response_only(101)
        self.send_header("Upgrade", "echo")
        self.send_header("Connection", "Upgrade")
        self.end_headers()

    def do_GET(self):
        getattr(self, self.path.rpartition("/")[2])()


class Taken(Base):
    def upgraded(self):
        """Lines back, until an empty one."""
        self.upgrade()
        while (line := self.connection.recv(4096)) not in (b"", b"\n"):
            self.connection.sendall(line.upper())

    def by_fileno(self):
        self.upgrade()
        fd = self.connection.fileno()
        select.select([fd], [], [])
        os.write(fd, os.read(fd, 100)[::-1])

    def by_makefile(self):
        self.upgrade()
        with self.connection.makefile("rwb") as file:
            for line in file:
                file.write(b"<" + line.strip() + b">")
                file.flush()

    def answers_by_wfile(self):
        """Asks for the descriptor, as who selects does, and answers as ever; the client does not read at once."""
        self.connection.fileno()
        assert not hasattr(self.connection, "getpeercert")
        self.send_response(200)
        self.send_header("Content-Length", str(50_000_000))
        self.end_headers()
        for _ in range(50):
            self.wfile.write(b"x" * 1_000_000)

    def by_rfile(self):
        self.upgrade()
        while data := self.rfile.read(1):
            self.wfile.write(data.upper())

    def asks_for_tls(self):
        """As werkzeug does."""
        try:
            self.connection.getpeercert()
        except AttributeError:
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

    def fails_in_chunks(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"part one")
        self.wfile.flush()
        raise OSError("behind a part")

    def by_detach(self):
        self.upgrade()
        fd = self.request.detach()

        def later():
            with socket.socket(fileno=fd) as sock:
                sock.sendall(b"detached " + sock.recv(100))

        threading.Thread(target=later).start()

    def by_send(self):
        self.connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nraw")

    def by_recv_into(self):
        self.upgrade()
        buffer = bytearray(10)
        size = self.connection.recv_into(buffer)
        self.connection.sendall(bytes(buffer[:size]))

    def peek(self):
        self.upgrade()
        first = self.connection.recv(3, socket.MSG_PEEK)
        self.connection.sendall(first + b"|" + self.connection.recv(100))

    def timed(self):
        self.upgrade()
        self.connection.settimeout(0.01)
        try:
            self.connection.recv(1)
        except TimeoutError:
            self.connection.settimeout(None)
            self.connection.sendall(b"timed out")

    def facts(self):
        """What can be asked without taking it over."""
        connection = self.connection
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        body = repr((
            connection.getpeername(), connection.getsockname(), connection.family == socket.AF_INET,
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) != 0, connection.gettimeout(),
        )).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def held(self):
        self.upgrade()
        self.connection.recv(1)

    def forever(self):
        """As a camera does."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        while True:
            self.wfile.write(b"--frame\r\n\r\n" + b"jpeg" * 1000 + b"\r\n")
            time.sleep(0.001)

    def trickles(self):
        self.send_response(200)
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"tick\n")
                time.sleep(0.001)
        except BrokenPipeError:
            print("the client left the trickle", file=sys.stderr)
            raise

    def left(self):
        self.upgrade()
        self.connection.sendall(b"x")
        while self.connection.recv(1000):
            pass
        print("the peer has ended", file=sys.stderr)


class Raw:
    """Reads its request by itself."""

    def __init__(self, request, client_address, server):
        head = b""
        while b"\r\n\r\n" not in head:
            head += request.recv(10)
        request.sendall(b"HTTP/1.0 200 OK\r\n\r\n" + head)


class Proxy(Base):
    """A tunnel."""

    def do_CONNECT(self):
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as other:
            self.send_response_only(200)
            self.end_headers()
            ends = [self.connection, other]
            while True:
                for sock in select.select(ends, [], [])[0]:
                    data = sock.recv(65536)
                    if not data:
                        return
                    ends[sock is self.connection].sendall(data)

    def do_GET(self):
        body = self.path.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
