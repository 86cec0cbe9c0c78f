"""HTTP servers and handlers: `http.server`, rebuilt.  Import it in its place.

    from httpd.server import HTTPServer, SimpleHTTPRequestHandler

Rules:

- Every name of http.server is here, those that nobody documents included: code reaches them.
- docs/compatibility.md says what is the same, what is not, and why.
- What is seldom needed is imported when somebody asks for it.
"""

from __future__ import annotations

import html
import http
import http.client
import importlib
import os
import posixpath
import socket
import socketserver
import sys
import time
import urllib.parse
from http import HTTPStatus
from typing import Any

from httpd.server import cgi as _cgi
from httpd.server.cgi import CGIHTTPRequestHandler, _url_collapse_path, executable, nobody_uid
from httpd.server.handler import (
    DEFAULT_ERROR_CONTENT_TYPE,
    DEFAULT_ERROR_MESSAGE,
    BaseHTTPRequestHandler,
    __version__,
)
from httpd.server.servers import (
    HTTPDualStackServer,
    HTTPSDualStackServer,
    HTTPServer,
    HTTPSServer,
    ThreadingHTTPServer,
    ThreadingHTTPSServer,
)
from httpd.server.simple import SimpleHTTPRequestHandler

__all__ = [
    "HTTPServer", "ThreadingHTTPServer", "HTTPSServer", "ThreadingHTTPSServer",
    "BaseHTTPRequestHandler", "SimpleHTTPRequestHandler", "CGIHTTPRequestHandler",
]  # fmt: skip

# Also there for who looks: modules and names of http.server.
_KEPT = (
    DEFAULT_ERROR_CONTENT_TYPE, DEFAULT_ERROR_MESSAGE, HTTPDualStackServer, HTTPSDualStackServer, HTTPStatus,
    __version__, _url_collapse_path, executable, html, http, nobody_uid, os, posixpath, socket, socketserver, sys,
    time, urllib,
)  # fmt: skip
_MODULES = ("contextlib", "copy", "datetime", "email", "io", "itertools", "mimetypes", "select", "shutil")
_COMMANDS = {"test": "test", "_get_best_family": "_get_best_family", "_main": "main"}


def __getattr__(name: str) -> Any:
    if name == "nobody":  # set by nobody_uid
        return _cgi.nobody
    if name in _COMMANDS:
        from httpd.server import command

        found = getattr(command, _COMMANDS[name])
    elif name in _MODULES:
        found = importlib.import_module("email.utils" if name == "email" else name)
        if name == "email":
            found = sys.modules["email"]
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES, *_COMMANDS, "nobody"})
