"""The names of `http.server` and of `httpd.server`."""

from __future__ import annotations

import http.server
import os
import subprocess
import sys
import types
from pathlib import Path

import pytest

import httpd.server

HERE = Path(__file__).parents[3]
NAMES = [name for name in vars(http.server) if not (name.startswith("__") and name != "__version__")]


@pytest.mark.parametrize("name", NAMES)
def test_every_name_of_http_server_is_there(name: str) -> None:
    theirs, ours = getattr(http.server, name), getattr(httpd.server, name)
    if isinstance(theirs, types.ModuleType):
        assert ours is theirs
    assert name in dir(httpd.server)


@pytest.mark.parametrize("name", [name for name in NAMES if isinstance(getattr(http.server, name), type)])
def test_and_every_attribute_of_its_classes(name: str) -> None:
    theirs, ours = getattr(http.server, name), getattr(httpd.server, name)
    assert sorted(set(dir(theirs)) - set(dir(ours))) == []
    for attribute in ("server_version", "protocol_version", "default_request_version",
                      "error_content_type", "extensions_map", "responses", "rbufsize", "wbufsize", "timeout",
                      "cgi_directories", "request_queue_size", "address_family", "daemon_threads",
                      "allow_reuse_address", "weekdayname", "monthname", "_control_char_table"):  # fmt: skip
        if hasattr(theirs, attribute):
            assert getattr(ours, attribute) == getattr(theirs, attribute), attribute


def test_what_star_gives() -> None:
    assert set(httpd.server.__all__) >= set(http.server.__all__)
    assert len(httpd.server.__all__) == 7


def test_os_is_the_module_that_is_used() -> None:
    assert httpd.server.os is os


def test_what_is_not_there() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        httpd.server.nothing  # noqa: B018


def test_importing_it_is_cheap() -> None:
    """Who only serves his own handlers pays for no command line, no types, no signals."""
    code = "import sys, http.client; before = set(sys.modules); import httpd.server; print(*set(sys.modules) - before)"
    environment = {**os.environ, "PYTHONPATH": str(HERE / "daemon")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True, text=True)
    loaded = done.stdout.split()
    assert not {"argparse", "mimetypes", "shutil", "httpd.server.command", "asyncio"} & set(loaded)
    assert not [name for name in loaded if name.startswith(("httpd.worker", "httpd.master", "httpd.config"))]
