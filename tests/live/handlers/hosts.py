"""Server classes, and handlers that tell what they met."""

import json
import os
import socketserver
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer, ThreadingHTTPServer

_GATES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "gates")


def wait_at(name):
    print(f"at {name}", file=sys.stderr)
    while not os.path.exists(os.path.join(_GATES, name)):
        time.sleep(0.002)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        if name == "raise":
            raise RuntimeError("raised in a handler")
        if name == "stop":
            self.server.shutdown()
            self.server.server_close()
        elif name.startswith("gate"):
            wait_at(name)
        elif name == "listen":
            try:
                HTTPServer(("127.0.0.1", 0), Handler)
            except OSError as error:
                name = str(error)
        body = json.dumps({
            "name": name, "class": type(self.server).__name__, "notes": getattr(self.server, "notes", []),
            "thread": threading.current_thread().name, "request": type(self.request).__name__,
            "is_server": isinstance(self.server, socketserver.TCPServer),
        }).encode()  # fmt: skip
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Hooked(ThreadingHTTPServer):
    """Everything that socketserver lets a server have a say in."""

    def __init__(self, *arguments, **options):
        self.notes = ["init"]
        super().__init__(*arguments, **options)

    def server_bind(self):
        super().server_bind()
        self.notes.append("bind")

    def get_request(self):
        self.notes.append("get_request")
        return super().get_request()

    def verify_request(self, request, client_address):
        self.notes.append("verify_request")
        return super().verify_request(request, client_address)

    def process_request(self, request, client_address):
        self.notes.append("process_request")
        super().process_request(request, client_address)

    def finish_request(self, request, client_address):
        self.notes.append("finish_request")
        super().finish_request(request, client_address)

    def shutdown_request(self, request):
        self.notes.append("shutdown_request")
        super().shutdown_request(request)


class Denies(ThreadingHTTPServer):
    def verify_request(self, request, client_address):
        return False


class Alters(ThreadingHTTPServer):
    """Gives its handler what it likes."""

    notes = ()

    def finish_request(self, request, client_address):
        self.notes = [f"from {client_address[0]}"]
        Handler(request, client_address, self)


class OwnThread(HTTPServer):
    """Goes on in a thread of its own, as many did before there was ThreadingMixIn."""

    notes = ()

    def process_request(self, request, client_address):
        def later():
            try:
                self.finish_request(request, client_address)
            except Exception:
                self.handle_error(request, client_address)
            finally:
                self.shutdown_request(request)

        threading.Thread(target=later, name="of its own").start()


class OwnErrors(ThreadingHTTPServer):
    def handle_error(self, request, client_address):
        print(f"own handle_error: {sys.exc_info()[1]}", file=sys.stderr)


class Broken(ThreadingHTTPServer):
    def process_request(self, request, client_address):
        raise RuntimeError("raised in a server")
