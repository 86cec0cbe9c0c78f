"""Handler mounts: which classes the loop may answer for, and who drives their server objects."""

from __future__ import annotations

import functools
import http.server
import socket
from types import SimpleNamespace
from typing import Any

import pytest

import httpd.server
from httpd.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler
from httpd.worker.handlers import ServerHost, is_stock, overrides
from httpd.worker.imports import LoadError


class Empty(SimpleHTTPRequestHandler):
    """Changes nothing."""


class EmptyAgain(Empty):
    pass


class Hook(SimpleHTTPRequestHandler):
    def end_headers(self) -> None:
        super().end_headers()


class BelowHook(Hook):
    pass


class Attribute(SimpleHTTPRequestHandler):
    server_version = "Mine"


class Types(SimpleHTTPRequestHandler):
    extensions_map = {**SimpleHTTPRequestHandler.extensions_map, ".x": "text/x"}  # noqa: RUF012


class GetAttr(SimpleHTTPRequestHandler):
    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


class Init(SimpleHTTPRequestHandler):
    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments, directory="/srv")


class Mixin:
    def do_POST(self) -> None: ...


class Mixed(Mixin, SimpleHTTPRequestHandler):
    pass


@pytest.mark.parametrize(
    ("kind", "stock"),
    [
        (SimpleHTTPRequestHandler, True), (Empty, True), (EmptyAgain, True), (Hook, False), (BelowHook, False),
        (Attribute, False), (Types, False), (GetAttr, False), (Init, False), (Mixed, False),
        (BaseHTTPRequestHandler, False), (http.server.SimpleHTTPRequestHandler, False),
        (functools.partial(SimpleHTTPRequestHandler), False), (lambda *arguments: None, False),
        (httpd.server.CGIHTTPRequestHandler, False),
    ],
)  # fmt: skip
def test_which_classes_the_loop_answers_for(kind: Any, stock: bool) -> None:
    assert is_stock(kind) == stock


@pytest.mark.parametrize("owner", [SimpleHTTPRequestHandler, BaseHTTPRequestHandler])
@pytest.mark.parametrize("name", ["end_headers", "server_version", "do_POST"])
def test_none_that_somebody_has_patched(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
    assert is_stock(Empty)
    monkeypatch.setattr(owner, name, lambda self: None, raising=False)
    assert not is_stock(Empty)


def test_not_with_another_type_in_the_shared_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SimpleHTTPRequestHandler.extensions_map, ".mine", "text/x")
    assert not is_stock(Empty)


class Decides(BaseHTTPRequestHandler):
    def handle_expect_100(self) -> bool:
        return False


@pytest.mark.parametrize(
    ("kind", "has"),
    [
        (BaseHTTPRequestHandler, False), (Empty, False), (Decides, True), (functools.partial(Decides, x=1), True),
        (functools.partial(functools.partial(Decides)), True), (lambda *arguments: None, False),
        (type("Below", (Decides,), {}), True),
    ],
)  # fmt: skip
def test_overrides(kind: Any, has: bool) -> None:
    assert overrides(kind, "handle_expect_100") == has


# Server objects


def adopted_by(host: ServerHost, fails: bool = False) -> Any:
    """A server class, as far as `ServerHost` goes."""

    class Server:
        def __init__(self, address: Any, target: Any) -> None:
            self.socket = socket.socket()
            host.bind(self)  # type: ignore[arg-type]
            if fails:
                host.close(self)  # type: ignore[arg-type]
                raise ValueError("fails behind it")

    return Server


def test_a_handler_can_not_listen_serve_or_stop() -> None:
    refused: list[str] = []
    host = ServerHost([("127.0.0.1", 80)], refused.append)
    (server,) = host.make_servers("key", adopted_by(host), print)
    own: Any = SimpleNamespace(socket=socket.socket())
    with pytest.raises(PermissionError, match=r"server\.listen"):
        host.bind(own)
    host.close(own)  # as its constructor does then
    assert own.socket.fileno() == -1
    assert refused == []
    host.serve_forever(server, 0.5)
    host.handle_request(server)
    host.shutdown(server)
    host.close(server)
    assert refused == ["serve_forever", "handle_request", "shutdown", "server_close"]


def test_a_server_that_can_not_be_made_is_no_handler_s_doing() -> None:
    refused: list[str] = []
    host = ServerHost([("127.0.0.1", 80)], refused.append)
    with pytest.raises(LoadError, match="fails behind it"):
        host.make_servers("key", adopted_by(host, fails=True), print)
    assert refused == []


def test_one_object_for_each_listener() -> None:
    host = ServerHost([("127.0.0.1", 80), ("::1", 80, 0, 0)], lambda what: None)
    made = host.make_servers("key", lambda address, target: (address, target), print)  # type: ignore[arg-type]
    assert made == [(("127.0.0.1", 80), print), (("::1", 80, 0, 0), print)]
