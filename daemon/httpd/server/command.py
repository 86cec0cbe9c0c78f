"""`python -m httpd.server`: the options of `python -m http.server`, and `test()`, which does it.

Rules:

- What is printed to stdout, and the exit code after ^C, are http.server's: scripts wait for the one and test the other.
- What a user can get wrong is one line on stderr and exit code 1, or 2 for a bad option.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import socket
import sys
import threading
from typing import Any

from httpd.server.cgi import CGIHTTPRequestHandler
from httpd.server.handler import BaseHTTPRequestHandler
from httpd.server.servers import HTTPDualStackServer, HTTPSDualStackServer, ThreadingHTTPServer
from httpd.server.simple import SimpleHTTPRequestHandler


def _get_best_family(host: Any, port: Any) -> tuple[socket.AddressFamily, Any]:
    """The family and address to listen on, the first that the system names."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = next(iter(found))
    return family, address


def test(
    HandlerClass: Any = BaseHTTPRequestHandler, ServerClass: Any = ThreadingHTTPServer,  # noqa: N803
    protocol: str = "HTTP/1.0", port: int = 8000, bind: str | None = None, tls_cert: Any = None,
    tls_key: Any = None, tls_password: Any = None,
) -> None:  # fmt: skip
    """Serve until ^C.  Sets `address_family` and `protocol_version` of the classes."""
    ServerClass.address_family, address = _get_best_family(bind, port)
    HandlerClass.protocol_version = protocol
    if tls_cert:
        server = ServerClass(address, HandlerClass, certfile=tls_cert, keyfile=tls_key, password=tls_password)
    else:
        server = ServerClass(address, HandlerClass)
    with server as httpd:
        host, port = httpd.socket.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        scheme = "HTTPS" if tls_cert else "HTTP"
        print(f"Serving {scheme} on {host} port {port} ({scheme.lower()}://{shown}:{port}/) ...")
        try:
            httpd.serve_forever()
        except KeyboardInterrupt:
            print("\nKeyboard interrupt received, exiting.")
            sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m httpd.server", description="Serve a folder over HTTP.")
    parser.add_argument("--cgi", action="store_true", help="run as CGI server")
    parser.add_argument("-b", "--bind", metavar="ADDRESS", help="bind to this address (default: all interfaces)")
    parser.add_argument(
        "-d", "--directory", default=os.getcwd(), help="serve this directory (default: current directory)"
    )
    parser.add_argument(
        "-p", "--protocol", metavar="VERSION", default="HTTP/1.0",
        help="conform to this HTTP version (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--tls-cert", metavar="PATH", help="path to the TLS certificate chain file")
    parser.add_argument("--tls-key", metavar="PATH", help="path to the TLS key file")
    parser.add_argument("--tls-password-file", metavar="PATH", help="path to the password file for the TLS key")
    parser.add_argument(
        "-H", "--header", metavar="HEADER", action="append", default=[], type=_header, dest="headers",
        help='a field, "Name: value", to send with each file and listing; can be given several times',
    )  # fmt: skip
    parser.add_argument("--content-type", metavar="TYPE", help="media type of files whose type is not known")
    parser.add_argument("port", default=8000, type=int, nargs="?", help="bind to this port (default: %(default)s)")
    return parser


def _header(text: str) -> tuple[str, str]:
    from httpd.protocol.grammar import FIELD_LINE

    match = FIELD_LINE.fullmatch(text.encode("latin-1", "replace"))
    if match is None or not text.isprintable():
        raise argparse.ArgumentTypeError(f'{text!r} is not "Name: value"')
    return match[1].decode(), match[2].decode("latin-1").rstrip()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = _parser()
    options = parser.parse_args(arguments)
    if not 0 <= options.port <= 65535:
        parser.error(f"port {options.port} is not between 0 and 65535")
    if options.tls_key and not options.tls_cert:
        parser.error("--tls-key needs --tls-cert")
    options.tls_password = None
    if options.tls_password_file:
        if not options.tls_cert:
            parser.error("--tls-password-file needs --tls-cert")
        try:
            with open(options.tls_password_file, encoding="utf-8") as file:
                options.tls_password = file.read().strip()
        except (OSError, UnicodeDecodeError) as error:
            parser.error(f"can't read the password file {options.tls_password_file}: {_reason(error)}")
    return options


def _server_class(kind: type, options: argparse.Namespace) -> Any:
    """`kind`, whose handlers are told the options."""

    class Server(kind):  # type: ignore[misc]
        def __init__(self, address: Any, handler: Any, **more: Any) -> None:
            bound = functools.partial(
                handler, directory=options.directory, extra_response_headers=options.headers
            )
            super().__init__(address, bound, **more)

    return Server


def _scripts_owned() -> contextlib.AbstractContextManager[None]:
    """Scripts end with this process; where this is a thread of somebody's program, they don't."""
    from httpd.server import run_process

    alone = threading.current_thread() is threading.main_thread()
    return run_process.owned() if alone else contextlib.nullcontext()


def main(arguments: list[str] | None = None) -> None:
    """Serve as the command line says; ends by SystemExit."""
    options = _options(arguments)
    handler: Any = CGIHTTPRequestHandler if options.cgi else SimpleHTTPRequestHandler
    if options.content_type is not None:
        handler = type(handler.__name__, (handler,), {"default_content_type": options.content_type})
    kind = HTTPSDualStackServer if options.tls_cert else HTTPDualStackServer
    try:
        with _scripts_owned() if options.cgi else contextlib.nullcontext():
            test(
                handler, _server_class(kind, options), options.protocol, options.port, options.bind,
                options.tls_cert, options.tls_key, options.tls_password,
            )  # fmt: skip
    except RuntimeError as error:  # no ssl module
        sys.exit(f"httpd.server: {error}")
    except OSError as error:
        where = getattr(error, "filename", None) or f"{options.bind or 'all interfaces'}, port {options.port}"
        sys.exit(f"httpd.server: {where}: {_reason(error)}")


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
