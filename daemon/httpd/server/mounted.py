"""`SimpleHTTPRequestHandler` on a directory mount of the daemon: the mount's answers, sent by way of the class's hooks.

    path and fields, as the class has them now -> DirectoryMount.answer -> preconditions and ranges -> send_response,
    send_header, end_headers -> a file object, which the class copies to wfile

Rules:

- The same answers, byte for byte, as the loop gives for a directory without a class; a test holds the two side by side.
- A class with its own idea of where files are (`translate_path`, `index_pages`, `directory`) goes its own way; one that
  only names types or lists folders itself (`guess_type`, `list_directory`) is asked for just that.
"""

from __future__ import annotations

import io
import os
import time
from typing import Any

from httpd.content import paths
from httpd.protocol.messages import REASONS, Body, MultiBody, Request, Response
from httpd.protocol.narrow import file_of, narrow
from httpd.protocol.writer import NO_LENGTH
from httpd.server.exchange import Exchange
from httpd.server.handler import BaseHTTPRequestHandler, __version__
from httpd.server.parts import Parts, ServedFile, part_of

_OWN_WAY = ("translate_path", "index_pages", "extensions_map", "_encodings_map_default")
_NO_STAT = os.stat_result([0] * 10)


def root_for(request: Any) -> str:
    """The folder of a handler that was given none: that of its mount, or the current one."""
    if type(request) is Exchange and request.mount.directory is not None:
        return str(request.mount.directory.mount.root)
    return os.getcwd()


def below(exchange: Exchange, path: str) -> str:
    """A path in a URL without that of its directory mount, whose folder takes its place."""
    prefix = exchange.mount.prefix.decode("latin-1") if exchange.mount.directory is not None else ""
    if prefix and path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/"):
        return path[len(prefix) :] or "/"
    return path


def decoded_below(exchange: Exchange, target: str) -> str:
    """The path of a target as the mount will look for it, less the mount's own.  Raises PathError."""
    path = paths.normalize(paths.decode(target.encode("latin-1", "replace").partition(b"?")[0]))
    return os.fsdecode(path.removeprefix(exchange.mount.prefix))


def follows(handler: Any, stock: Any) -> bool:
    """Whether the mount can answer for this handler."""
    mount = handler._exchange.mount if handler._exchange is not None else None
    if mount is None or mount.directory is None or handler.directory != mount.directory.mount.root:
        return False
    kind = type(handler)
    return all(getattr(kind, name) is getattr(stock, name) for name in _OWN_WAY)


def send_head(handler: Any, stock: Any) -> Any:
    """What `send_head` returns: a file object behind a head that was sent, or None."""
    exchange = handler._exchange
    assert exchange is not None
    mount = exchange.mount
    try:
        answer = _answer(handler, mount)
    except paths.PathError as error:
        answer = Response(error.status, close=True)
    except OSError as error:
        exchange.failed(error)
        answer = Response(500)
    kind: Any = type(handler)
    if kind.guess_type is not stock.guess_type and _is_file(answer):
        ours = handler.guess_type(handler.translate_path(handler.path)).encode("latin-1")
        answer.fields = [(name, ours if name == b"Content-Type" else value) for name, value in answer.fields]
    elif kind.list_directory is not stock.list_directory and _is_listing(answer, handler.path):
        return handler.list_directory(handler.translate_path(handler.path))
    if answer.status >= 400 and kind.send_error is not stock.send_error:
        handler.send_error(answer.status)
        return None
    if answer.status >= 400 and not answer.length:
        mount.add_page(answer)
    return _send(handler, answer)


def _answer(handler: Any, mount: Any) -> Response:
    raw, mark, query = handler.path.encode("latin-1", "replace").partition(b"?")
    request = Request()
    request.method = handler.command.encode("latin-1")
    request.query = query if mark else None
    path = paths.normalize(paths.decode(raw))
    wall = time.time()
    response: Response = mount.directory.answer(request, path, wall, time.monotonic())[0]
    fields: dict[bytes, bytes] = {}
    for name, value in handler.headers.items():
        key, data = name.lower().encode("latin-1"), value.encode("latin-1")
        fields[key] = fields[key] + b", " + data if key in fields else data
    boundary = os.urandom(12).hex().encode() if b"range" in fields else b""
    narrowed = narrow(fields, request.method, response, int(wall), boundary)
    fd = file_of(response.body)
    if fd is not None and file_of(narrowed.body) != fd:
        os.close(fd)
    return narrowed


def _is_file(answer: Response) -> bool:
    """A file or one range of it; of several ranges each part has the mount's type."""
    return (answer.status == 200 and answer.ranges) or (answer.status == 206 and not isinstance(answer.body, MultiBody))


def _is_listing(answer: Response, path: str) -> bool:
    """A folder without an index: it has been listed, or its mount does not let it be listed."""
    return path.partition("?")[0].endswith("/") and (
        answer.status == 403 or (answer.status == 200 and not answer.ranges)
    )


def _send(handler: Any, answer: Response) -> Any:
    exchange = handler._exchange
    assert exchange is not None
    _begin(handler, answer.status)
    if answer.close or not exchange.keep_alive:
        handler.send_header("Connection", "close")
    elif not exchange.minor:
        handler.send_header("Connection", "keep-alive")
    for name, value in answer.fields:
        handler.send_header(name.decode("latin-1"), value.decode("latin-1"))
    if answer.status not in NO_LENGTH:
        handler.send_header("Content-Length", str(answer.length))
    handler.end_headers()
    if answer.status == 304 or not answer.length:
        fd = file_of(answer.body)
        if fd is not None:
            os.close(fd)
        return None
    return _file_with(answer.body)


def _own_name() -> str:
    return "httpd"


def _begin(handler: Any, status: int) -> None:
    """`send_response`, with the daemon's own name where the class has not chosen another."""
    kind = type(handler)
    stock = all(
        getattr(kind, name) is getattr(BaseHTTPRequestHandler, name) for name in ("version_string", "sys_version")
    )
    if stock and kind.server_version == "SimpleHTTP/" + __version__:
        handler.version_string = _own_name
    handler.send_response(status, REASONS.get(status, b"").decode())


def _file_with(body: Body) -> Any:
    """A body as a file object, which closes the file behind it."""
    if isinstance(body, bytes):
        return io.BytesIO(body)
    fd = file_of(body)
    if fd is None:
        return Parts(ServedFile(-1, "", _NO_STAT), body.parts if isinstance(body, MultiBody) else [])
    return part_of(ServedFile(fd, "", os.fstat(fd)), body)
