"""Handlers that take long."""

import os
import sys
import time
import urllib.request
import warnings
from http.server import BaseHTTPRequestHandler

_GATES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "gates")


def is_open(name):
    return os.path.exists(os.path.join(_GATES, name))


def wait_at(name):
    sys.stderr.write(f"at {name}\n")
    while not is_open(name):
        time.sleep(0.002)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def reply(self, text):
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path, _, query = self.path.partition("?")
        _, _, what, *rest = path.split("/")
        getattr(self, what)(*rest, *([query] if query else []))

    do_HEAD = do_POST = do_GET  # noqa: N815

    def hello(self):
        self.reply("hello")

    def forks(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a process with threads; the child does not need them
            pid = os.fork()
        self.reply(f"child ended with {os.waitpid(pid, 0)[1]}" if pid else "nobody reads this")

    def pid(self):
        self.reply(str(os.getpid()))

    def nap(self):
        time.sleep(0.002)
        self.reply("napped")

    def sleep(self, seconds):
        sys.stderr.write("at sleep\n")
        time.sleep(float(seconds))
        self.reply("slept")

    def gate(self, name):
        wait_at(name)
        self.reply(f"through {name}")

    def spin(self, name):
        sys.stderr.write(f"at {name}\n")
        number = 0
        while not is_open(name):
            for _ in range(10_000):
                number = (number * 31 + 7) % 1_000_003
        self.reply("spun")

    def fetch(self, url):
        with urllib.request.urlopen(url, timeout=20) as answer:
            self.reply(answer.read().decode())
