"""The run folder: its default, and how httpd-ctl finds it in a file that may be broken.

`run_dir_of` must give the folder that a running server took from the same file, also when the file has been
spoilt since: a typing mistake must never keep anybody from stopping a server.  It is therefore tolerant
where `load` is strict.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping

import tomli

from httpd.config.errors import BadValueError, ConfigError, ConfigErrors
from httpd.config.read import read_bytes
from httpd.config.values import absolute_path

_HEADER = re.compile(r"\s*\[\s*(?P<array>\[)?\s*[\"']?(?P<name>[^\]\"'#]*?)[\"']?\s*\]")
_STRING = r"(?:\"(?P<basic>[^\"\n]*)\"|'(?P<literal>[^'\n]*)')"
_IN_SERVER = re.compile(rf"\s*[\"']?run_dir[\"']?\s*=\s*{_STRING}")
_AT_TOP = re.compile(rf"\s*[\"']?server[\"']?\s*(?:\.\s*[\"']?|=\s*\{{(?:.*[,\s])?)run_dir[\"']?\s*=\s*{_STRING}")


def default_run_dir(config_path: str, euid: int, environ: Mapping[str, str]) -> str:
    """The run folder of a file that names none.

    Root: /run/httpd.  Others: $XDG_RUNTIME_DIR/httpd-HASH, or /tmp/httpd-UID-HASH where that is not set;
    HASH is of the file's real path, so that each file has its own server and every way to write its name
    leads to the same one.
    """
    if euid == 0:
        return "/run/httpd"
    digest = name_hash(os.path.realpath(config_path))
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    return f"{runtime.rstrip('/')}/httpd-{digest}" if runtime.startswith("/") else f"/tmp/httpd-{euid}-{digest}"


def name_hash(text: str) -> str:
    """Twelve hexadecimal digits that stand for a name."""
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]


def run_dir_of(path: str, *, euid: int | None = None, environ: Mapping[str, str] | None = None) -> str:
    """`server.run_dir` of a file, valid or not, else the default.  ConfigErrors: the file can't be read."""
    try:
        text = read_bytes(path).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
    except ConfigError as error:
        raise ConfigErrors([error]) from None
    written = _parsed(text)
    folder = os.path.dirname(os.path.abspath(path))
    if written is not None:
        try:
            return absolute_path(written, folder)
        except BadValueError:
            pass  # no server ever ran with it
    return default_run_dir(path, os.geteuid() if euid is None else euid, os.environ if environ is None else environ)


def _parsed(text: str) -> object:
    try:
        server = tomli.loads(text).get("server")
    except (ValueError, RecursionError):
        return _scanned(text)
    return server.get("run_dir") if isinstance(server, dict) else None


def _scanned(text: str) -> str | None:
    """The first `run_dir` in [server], line by line."""
    table = ""
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header is not None:
            table = "[]" if header["array"] else header["name"]
        elif table in ("", "server"):
            found = (_AT_TOP if table == "" else _IN_SERVER).match(line)
            if found is not None:
                return _unescaped(found["basic"]) if found["basic"] is not None else str(found["literal"])
    return None


def _unescaped(text: str) -> str | None:
    try:
        return str(tomli.loads(f'text = "{text}"')["text"])
    except ValueError:
        return None
