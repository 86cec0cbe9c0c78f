"""Classes for directories."""

import io
import os
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler


class Stock(SimpleHTTPRequestHandler):
    """Changes nothing."""


class Adds(SimpleHTTPRequestHandler):
    """Only adds a header, as most do."""

    def end_headers(self):
        self.send_header("X-Added", "by the class")
        super().end_headers()


class Types(SimpleHTTPRequestHandler):
    def guess_type(self, path):
        return "text/x-own" if path.endswith(".txt") else super().guess_type(path)


class Lists(SimpleHTTPRequestHandler):
    def list_directory(self, path):
        body = ("own list: " + ",".join(sorted(os.listdir(path)))).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return io.BytesIO(body)


class Errors(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def send_error(self, code, message=None, explain=None):
        body = f"own error {int(code)}".encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class Elsewhere(SimpleHTTPRequestHandler):
    """Maps paths by its own rules."""

    def translate_path(self, path):
        return os.path.join(self.directory, "mapped", os.path.basename(path.partition("?")[0]))


class Own(SimpleHTTPRequestHandler):
    """Has a folder of its own, below its file's."""

    def __init__(self, *arguments, **options):
        folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "own")
        super().__init__(*arguments, directory=folder, **options)


class Posts(SimpleHTTPRequestHandler):
    """Takes a method more."""

    def do_POST(self):
        body = b"posted " + self.rfile.read()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Plain(SimpleHTTPRequestHandler):
    """For [[vhost.handler]]: a folder is given as an option."""


class Calls(Adds):
    """Does it in the ways that the manual shows: `send_head` and `copyfile`."""

    def do_GET(self):
        file = self.send_head()
        if file:
            self.wfile.write(file.read())
            file.close()
