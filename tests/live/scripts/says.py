"""A module beside the scripts of the tests: a handler that says what it knows, as JSON."""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler


class Says(BaseHTTPRequestHandler):
    """`answer` is for the script: what it returns is sent."""

    def answer(self):
        return {"path": self.path}

    def do_GET(self):
        try:
            self.say(200, self.answer())
        except LookupError as error:
            self.say(404, {"error": str(error)})

    do_POST = do_GET  # noqa: N815

    def say(self, status, found):
        found = {"pid": os.getpid(), "thread": threading.current_thread().name, **found}
        body = json.dumps(found).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def body(self):
        return self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()


def told(*words):
    """A line for the test to wait for."""
    sys.stderr.write(" ".join(["told:", *map(str, words)]) + "\n")
    sys.stderr.flush()
