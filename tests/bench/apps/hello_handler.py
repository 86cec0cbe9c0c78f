"""The hello of `make bench` as a handler class, a handler that burns CPU, and a server for the standard library's."""

from __future__ import annotations

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BODY = b"Hello, world!\n"
_BURN = 0.05  # seconds of CPU time


class Hello(BaseHTTPRequestHandler):
    """Reads what handlers read, answers what they answer."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        seen = (self.path, self.headers["Cookie"], self.client_address)
        assert seen[2]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)


class Burn(Hello):
    """Computes for a while first."""

    def do_GET(self) -> None:
        until = time.thread_time() + _BURN
        while time.thread_time() < until:
            sum(range(100))
        super().do_GET()


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Hello).serve_forever()
