"""`python -m httpd.server` in the place of `python -m http.server`, with files, in both protocols.

Both log each request to stderr, which is a file.
"""

from __future__ import annotations

from servers import SOURCE, HttpServer, Server

_KEEP_ALIVE = ("--protocol", "HTTP/1.1")


class Library(HttpServer):
    """httpd.server as a program."""

    name = "httpd.server"
    module = "httpd.server"

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "PYTHONPATH": str(SOURCE)}


class LibraryKeepAlive(Library):
    name = "httpd.server-1.1"
    options = _KEEP_ALIVE


class HttpServerKeepAlive(HttpServer):
    """Head and body are sent apart, and the body waits for the client's ACK, as with `handler_servers.HelloServer`."""

    name = "http.server-1.1"
    options = _KEEP_ALIVE


LIBRARY_SERVERS: tuple[type[Server], ...] = (Library, LibraryKeepAlive, HttpServerKeepAlive)
