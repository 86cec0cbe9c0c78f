"""`BaseHTTPRequestHandler`, as http.server's manual describes it, for two kinds of owners.

    library   the request is a socket: rfile and wfile are `server.streams`, the head is read here (`server.parsing`)
    driven    the request is an `Exchange`: the daemon's loop has read and checked everything and will send the answer

Rules:

- The calls and their order are those of the standard library: setup, handle, handle_one_request, parse_request, do_X,
  send_response, send_header, end_headers, flush_headers, one `wfile.write` for the head, finish.  Subclasses hook in
  anywhere, and dispatch is `getattr` on the instance.
- What is better here sits below that face, in `rfile`, `wfile` and `parse_request`, or is written down with its reason
  in docs/compatibility.md.
"""

from __future__ import annotations

import contextlib
import html
import http.client
import itertools
import socketserver
import sys
import time
from http import HTTPStatus
from typing import Any

from httpd.server import parsing, streams
from httpd.server.exchange import Exchange
from httpd.server.headers import Headers, message_of
from httpd.server.stamps import http_date, log_date

__version__ = "0.6"  # http.server's, which stands in `server_version`

DEFAULT_ERROR_MESSAGE = """\
<!DOCTYPE HTML>
<html lang="en">
    <head>
        <meta charset="utf-8">
        <style>:root { color-scheme: light dark; }</style>
        <title>Error response</title>
    </head>
    <body>
        <h1>Error response</h1>
        <p>Error code: %(code)d</p>
        <p>Message: %(message)s.</p>
        <p>Error code explanation: %(code)s - %(explain)s.</p>
    </body>
</html>
"""
DEFAULT_ERROR_CONTENT_TYPE = "text/html;charset=utf-8"

_NO_BODY = (HTTPStatus.NO_CONTENT, HTTPStatus.RESET_CONTENT, HTTPStatus.NOT_MODIFIED)


class BaseHTTPRequestHandler(socketserver.StreamRequestHandler):
    """Handles the requests of one connection; in the daemon, one request.

    A request with the method SPAM is answered by `do_SPAM()`, looked up on the instance.  Attributes: `client_address`,
    `server`, `close_connection`, `requestline`, `command`, `path`, `request_version`, `headers`, `rfile`, `wfile`.
    """

    sys_version = "Python/" + sys.version.split()[0]
    server_version = "BaseHTTP/" + __version__
    error_message_format = DEFAULT_ERROR_MESSAGE
    error_content_type = DEFAULT_ERROR_CONTENT_TYPE
    default_request_version = "HTTP/0.9"
    protocol_version = "HTTP/1.0"
    MessageClass = http.client.HTTPMessage
    responses = {status: (status.phrase, status.description) for status in HTTPStatus.__members__.values()}  # noqa: RUF012

    weekdayname = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]  # noqa: RUF012
    monthname = [None, "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]  # noqa: RUF012

    # Before a request is parsed; some callers replace rfile and never call setup.
    close_connection = True
    requestline = ""
    request_version = ""
    command: Any = None
    path = ""
    headers: Any = None
    raw_requestline = b""
    _exchange: Exchange | None = None

    # The connection

    def setup(self) -> None:
        """Make rfile and wfile."""
        request = self.request
        self.connection = request
        if type(request) is Exchange:
            self._exchange = request
            self.rfile = request.rfile
            self.wfile = request.wfile  # type: ignore[assignment]
            if self.timeout is not None:
                request.timeout = self.timeout
            return
        if self.timeout is not None:
            request.settimeout(self.timeout)
        streams.no_delay(request)
        self.rfile = streams.reader_of(request, self.rbufsize)
        self.wfile = streams.writer_of(request, self.wbufsize)

    def handle(self) -> None:
        """Handle one request, and further ones while `close_connection` is false."""
        self.close_connection = True
        self.handle_one_request()
        if self._exchange is not None:
            return  # the loop waits for the next one, and makes a handler for it when it is there
        while not self.close_connection:
            self.handle_one_request()

    def finish(self) -> None:
        """Flush and close; the loop does so for an exchange."""
        exchange = self._exchange
        if exchange is not None:
            exchange.close_connection = self.close_connection
            exchange.settled = True
            return
        with contextlib.suppress(OSError):  # the client is gone: nobody is left to tell
            super().finish()

    # One request

    def handle_one_request(self) -> None:
        """Read one request and call its method."""
        exchange = self._exchange
        try:
            if exchange is not None:
                if exchange.parsed:
                    exchange.asked_again = self.close_connection = True
                    return
                self.raw_requestline = exchange.raw_line = exchange.line + b"\r\n"
                if not self.parse_request():
                    return
            elif not self._read_request():
                return
            method = getattr(self, "do_" + self.command, None)
            if method is None:
                self.send_error(HTTPStatus.NOT_IMPLEMENTED, f"Unsupported method ({self.command!r})")
                return
            method()
            if exchange is None:
                self.wfile.flush()
                if not self.close_connection and not streams.discard_rest(self.rfile):
                    self.close_connection = True
        except TimeoutError as error:
            self.log_error("Request timed out: %r", error)
            self.close_connection = True

    def _read_request(self) -> bool:
        """The request line and what follows it, from a socket."""
        self.raw_requestline = self.rfile.readline(65537)
        if len(self.raw_requestline) > 65536:
            self.requestline = ""
            self.request_version = ""
            self.command = ""
            self.send_error(HTTPStatus.REQUEST_URI_TOO_LONG)
            return False
        if not self.raw_requestline:
            self.close_connection = True
            return False
        return self.parse_request()

    def parse_request(self) -> bool:
        """Set command, path, request_version, headers and close_connection from `raw_requestline` and rfile.

        False when that can't be done; an error has been sent then.
        """
        exchange = self._exchange
        if exchange is None or exchange.takes_other(self.raw_requestline):
            return parsing.parse_request(self)
        exchange.begin_body()
        self.requestline = line = exchange.line.decode("latin-1")
        self.command = exchange.command
        self.path = exchange.path
        self.request_version = line[-8:]
        kind = self.MessageClass
        block = exchange.fields
        self.headers = Headers.lazily(block) if kind is http.client.HTTPMessage else message_of(block, kind)
        self.close_connection = not (
            exchange.keep_alive and (exchange.http11 or self.protocol_version >= "HTTP/1.1")
        )
        if exchange.expect and (exchange.http11 or self.protocol_version >= "HTTP/1.1"):
            return self.handle_expect_100()
        return True

    def handle_expect_100(self) -> bool:
        """Answer `Expect: 100-continue`; an override may send an error and return False."""
        self.send_response_only(HTTPStatus.CONTINUE)
        self.end_headers()
        return True

    # The answer

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Send and log a whole error answer; the connection ends behind it."""
        try:
            short, long = self.responses[code]  # type: ignore[index]
        except KeyError:
            short, long = "???", "???"
        if message is None:
            message = short
        if explain is None:
            explain = long
        self.log_error("code %d, message %s", code, message)
        self.send_response(code, message)
        self.send_header("Connection", "close")
        body = None
        if code >= 200 and code not in _NO_BODY:
            content = self.error_message_format % {
                "code": code,
                "message": html.escape(message, quote=False),
                "explain": html.escape(explain, quote=False),
            }
            body = content.encode("UTF-8", "replace")
            self.send_header("Content-Type", self.error_content_type)
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD" and body:
            self.wfile.write(body)

    def send_response(self, code: int, message: str | None = None) -> None:
        """Begin an answer: status line, Server and Date; logs the request."""
        self.log_request(code)
        self.send_response_only(code, message)
        if self._exchange is not None and _nothing_own(self):
            self._headers_buffer.append(_server_and_date(f"{self.server_version} {self.sys_version}"))
            return
        self.send_header("Server", self.version_string())
        self.send_header("Date", self.date_time_string())

    def send_response_only(self, code: int, message: str | None = None) -> None:
        """The status line alone."""
        if self.request_version != "HTTP/0.9":
            if message is None:
                message = self.responses[code][0] if code in self.responses else ""  # type: ignore[index]
            line = f"{self.protocol_version} {code:d} {message}\r\n"
            if self._exchange is not None and not message.isprintable():
                _refuse_breaks(message)
            try:
                self._headers_buffer.append(line.encode("latin-1"))
            except AttributeError:
                self._headers_buffer: list[bytes] = [line.encode("latin-1")]

    def send_header(self, keyword: str, value: Any) -> None:
        """Add a field.  In the daemon, ValueError for one with a line break in it."""
        if self.request_version != "HTTP/0.9":
            line = f"{keyword}: {value}"
            if self._exchange is not None and not line.isprintable():
                _refuse_breaks(line)
            try:
                self._headers_buffer.append((line + "\r\n").encode("latin-1"))
            except AttributeError:
                self._headers_buffer = [(line + "\r\n").encode("latin-1")]
        if len(keyword) == 10 and keyword.lower() == "connection":
            if value.lower() == "close":
                self.close_connection = True
            elif value.lower() == "keep-alive":
                self.close_connection = False

    def end_headers(self) -> None:
        """The empty line; what was collected is written."""
        if self.request_version != "HTTP/0.9":
            self._headers_buffer.append(b"\r\n")
            self.flush_headers()

    def flush_headers(self) -> None:
        """Write what was collected."""
        if hasattr(self, "_headers_buffer"):
            lines, self._headers_buffer = self._headers_buffer, []
            self.wfile.write(b"".join(lines))

    # Logs

    def log_request(self, code: Any = "-", size: Any = "-") -> None:
        """Called by `send_response`.  In the daemon the access log has the request already."""
        if self._exchange is not None and type(self).log_message is BaseHTTPRequestHandler.log_message:
            return
        if isinstance(code, HTTPStatus):
            code = code.value
        self.log_message('"%s" %s %s', self.requestline, str(code), str(size))

    def log_error(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Called when a request can't be answered."""
        self.log_message(format, *args)

    # Control characters of C0 and C1, as text that does nothing to a terminal; and the backslash itself.
    _control_char_table = str.maketrans({c: rf"\x{c:02x}" for c in itertools.chain(range(0x20), range(0x7F, 0xA0))})
    _control_char_table[ord("\\")] = r"\\"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's name
        """Write a line to sys.stderr as it is now; in the daemon that is the error log."""
        message = format % args
        if not message.isprintable() or "\\" in message:
            message = message.translate(self._control_char_table)
        sys.stderr.write(f"{self.address_string()} - - [{self.log_date_time_string()}] {message}\n")

    def version_string(self) -> str:
        """The value of Server."""
        return self.server_version + " " + self.sys_version

    def date_time_string(self, timestamp: float | None = None) -> str:
        """A time (seconds since the epoch, now if None) as HTTP writes it."""
        if timestamp is None:
            timestamp = time.time()
        return http_date(timestamp)

    def log_date_time_string(self) -> str:
        """Now, in local time, as logs write it."""
        return log_date(self.monthname)

    def address_string(self) -> str:
        """The client's address."""
        return str(self.client_address[0])


def _refuse_breaks(line: str) -> None:
    if "\r" in line or "\n" in line or "\0" in line:
        raise ValueError(f"a line break in a header: {line!r}")


_HOOKS = ("send_header", "version_string", "date_time_string")
_stock: dict[type, bool] = {}  # classes, and whether they leave these as they are


def _nothing_own(handler: BaseHTTPRequestHandler) -> bool:
    """Whether Server and Date are as they are made here."""
    kind = type(handler)
    stock = _stock.get(kind)
    if stock is None:
        if len(_stock) > 1000:  # classes that are made on the fly
            _stock.clear()
        stock = _stock[kind] = all(getattr(kind, name) is getattr(BaseHTTPRequestHandler, name) for name in _HOOKS)
    return stock and handler.__dict__.keys().isdisjoint(_HOOKS) and handler.request_version != "HTTP/0.9"


_last_fields = (0, "", b"")


def _server_and_date(server: str) -> bytes:
    """Both field lines, made once a second."""
    global _last_fields  # noqa: PLW0603 - a cache; two threads at once would make the same
    second = int(time.time())
    known, software, lines = _last_fields
    if known != second or software != server:
        _refuse_breaks(server)
        lines = f"Server: {server}\r\nDate: {http_date(second)}\r\n".encode("latin-1")
        _last_fields = (second, server, lines)
    return lines
