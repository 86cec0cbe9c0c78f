"""Handlers that answer in every way there is."""

import functools
import io
import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler
from urllib.parse import parse_qs, urlsplit

_GATES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "gates")


def wait_at(name):
    """Say that one is there, and wait until the gate is open."""
    print(f"at {name}", file=sys.stderr)
    gate = os.path.join(_GATES, name)
    while not os.path.exists(gate):
        time.sleep(0.002)


class Old(BaseHTTPRequestHandler):
    """As most are written: HTTP/1.0, which is the default, and no more than needed."""

    greeting = "hello"

    def reply(self, body, *fields, status=200, length=True):
        self.send_response(status)
        for name, value in fields:
            self.send_header(name, value)
        if length:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.reply(self.greeting.encode(), ("Content-Type", "text/plain"))

    do_HEAD = do_GET  # noqa: N815


class New(Old):
    protocol_version = "HTTP/1.1"


class Says(Old):
    """Says what it was given."""

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments, **options):
        self.options = options
        super().__init__(*arguments)

    def do_GET(self):
        body = self.rfile.read()
        said = {
            "command": self.command,
            "path": self.path,
            "requestline": self.requestline,
            "version": self.request_version,
            "headers": self.headers.items(),
            "body": body.decode("latin-1"),
            "client": list(self.client_address),
            "options": self.options,
            "server": type(self.server).__name__,
            "address": list(self.server.server_address),
            "named": [self.server.server_name, self.server.server_port],
            "pid": os.getpid(),
            "thread": threading.get_ident(),
            "cwd": os.listdir(),
        }
        self.reply(json.dumps(said).encode())

    do_POST = do_PUT = do_DELETE = do_SPAM = do_OPTIONS = do_PATCH = do_GET  # noqa: N815


partial = functools.partial(Says, given="by the partial")
by_lambda = lambda *arguments: Says(*arguments, given="by the lambda")  # noqa: E731


def factory(request, client_address, server, **options):
    return Says(request, client_address, server, made="by the factory", **options)


class Outer:
    class Inner(Says):
        pass


class Bare:
    """No handler of http.server at all: it gets the request, and writes what it likes."""

    def __init__(self, request, client_address, server):
        request.sendall(b"HTTP/1.0 200 OK\r\n\r\nbare")


class Odd(New):
    """One way to answer for each path: /odd/NAME calls `NAME`."""

    def do_GET(self):
        getattr(self, urlsplit(self.path).path.rpartition("/")[2])()

    do_HEAD = do_POST = do_GET  # noqa: N815

    @property
    def query(self):
        return {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}

    def plain(self):
        self.reply(b"plain")

    def no_length(self):
        self.reply(b"no length", length=False)

    def pieces(self):
        self.send_response(200)
        self.end_headers()
        for piece in (b"one ", b"", b"two ", bytearray(b"three "), memoryview(b"four")):
            self.wfile.write(piece)

    def long(self):
        self.send_response(200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"123")
        self.wfile.write(b"456789")

    def short(self):
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"1234")

    def empty(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def no_content(self):
        self.reply(b"nobody should see this", status=204, length=False)

    def not_modified(self):
        self.reply(b"nobody should see this", status=304)

    def silent(self):
        pass

    def crlf(self):
        self.send_response(200)
        self.send_header("X-Bad", "a\r\nSet-Cookie: evil=1")
        self.end_headers()

    def crlf_reason(self):
        self.send_response(200, "OK\r\nSet-Cookie: evil=1")
        self.end_headers()

    def crlf_name(self):
        self.send_response(200)
        self.send_header("X-Bad: 1\nSet-Cookie", "evil=1")
        self.end_headers()

    def nonsense(self):
        self.wfile.write(b"what is this?\r\n\r\n")

    def two_lengths(self):
        self.send_response(200)
        self.send_header("Content-Length", "1")
        self.send_header("Content-Length", "2")
        self.end_headers()

    def half_head(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX: y\r\n")

    def by_hand(self):
        self.wfile.write(b"HTTP/1.1 200 Fine\nX-By: hand\nContent-Length: 2\n\nok")

    def closes(self):
        self.reply(b"bye", ("Connection", "close"))

    def sets_close(self):
        self.close_connection = True
        self.reply(b"bye")

    def chunked(self):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(b"3\r\nabc\r\n0\r\n\r\n")

    def early_hints(self):
        self.send_response_only(103)
        self.send_header("Link", "</a.css>; rel=preload")
        self.end_headers()
        self.reply(b"late")

    def has_field(self):
        self.reply(b"own", ("x-frame-options", "SAMEORIGIN"))

    def error(self):
        self.send_error(int(self.query.get("status", "404")), "No <such> thing")

    def text_io(self):
        self.send_response(200)
        self.end_headers()
        text = io.TextIOWrapper(self.wfile, "utf-8", write_through=True)
        text.write("größer")
        text.detach()

    def large(self):
        size = int(self.query["size"])
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        piece = b"x" * 65536
        while size:
            size -= self.wfile.write(piece[:size])
        print("large is written", file=sys.stderr)

    def stops_in_the_middle(self):
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"12345")
        self.wfile.flush()
        wait_at(self.query["gate"])

    def gate(self):
        wait_at(self.query["name"])
        self.reply(b"through " + self.query["name"].encode())

    def unread(self):
        self.reply(b"not read")

    def half_read(self):
        self.reply(self.rfile.read(3))

    def raises(self):
        raise RuntimeError("raised by " + self.query["id"])

    def raises_late(self):
        self.send_response(200)
        self.send_header("Content-Length", "10")
        self.end_headers()
        self.wfile.write(b"12345")
        self.wfile.flush()
        wait_at(self.query["id"])
        raise RuntimeError("raised by " + self.query["id"])

    def raises_behind(self):
        self.reply(b"was written")
        raise RuntimeError("raised by " + self.query["id"])

    def exits(self):
        sys.exit("exit by " + self.query["id"])

    def interrupts(self):
        raise KeyboardInterrupt("raised by " + self.query["id"])

    def prints(self):
        print("printed by " + self.query["id"], file=sys.stderr)
        print("to stdout by " + self.query["id"])
        sys.stderr.write("half ")
        sys.stderr.write("a line by " + self.query["id"] + "\n")
        self.reply(b"printed")

    def in_a_thread(self):
        def fail():
            raise RuntimeError("raised in a thread by " + self.query["id"])

        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        self.reply(b"started")


class Talkative(Old):
    """Logs by its own rules."""

    def log_message(self, format, *arguments):  # noqa: A002
        sys.stderr.write("talkative: " + format % arguments + "\n")

    def do_POST(self):
        self.send_error(418)


class Quiet(Old):
    """Logs nothing; and neither does the default."""

    def log_message(self, format, *arguments):  # noqa: A002
        pass


class Decides(New):
    """Looks at the head before it lets a body come."""

    def handle_expect_100(self):
        if self.headers.get("X-Refuse"):
            self.send_error(417)
            return False
        return super().handle_expect_100()

    def do_POST(self):
        print("read by decides", file=sys.stderr)
        self.reply(self.rfile.read(int(self.headers["Content-Length"])))


class Stream(New):
    """With `stream`: sees the body as it comes."""

    def do_POST(self):
        length = self.headers.get("Content-Length")
        if self.path.endswith("/none"):
            self.reply(b"not read")
            return
        parts = []
        while piece := self.rfile.read1(65536):
            parts.append(piece)
            print(f"piece of {len(piece)}", file=sys.stderr)
        whole = b"".join(parts)
        self.reply(b"%d %b %b" % (len(whole), str(length).encode(), whole[:20]))


class Echo(New):
    """The body back; says how large it was, and whether it came in memory."""

    def do_POST(self):
        kind = type(self.rfile).__name__
        body = self.rfile.read()
        length, coding = self.headers.get("Content-Length"), self.headers.get("Transfer-Encoding")
        self.reply(body, ("X-Kind", kind), ("X-Length", str(length)), ("X-Coding", str(coding)))

    do_PUT = do_POST  # noqa: N815
