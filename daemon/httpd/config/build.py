"""Checked tables -> `schema.Config`: defaults filled in, settings merged, and the rules that involve more
than one key.

Rules:
- Settings are merged in the order built-in, [defaults] of the main file, [defaults] of the drop-in, vhost,
  mount.  `types`, `headers` and `error_pages` are merged name by name, everything else is replaced.
- A rule is left out where one of its keys is broken already: one mistake, one message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from httpd.config import schema
from httpd.config.check import Checked
from httpd.config.errors import shown
from httpd.config.values import parse_address

DEFAULT_ACCESS_LOG = "/var/log/httpd/access.log"
SETTING_NAMES = frozenset(schema.Settings.__struct_fields__)
_MERGED = frozenset(("types", "headers", "error_pages"))


def build_server(main: Checked, run_dir: Callable[[], str]) -> schema.Server:
    """run_dir: the default for a file that names none."""
    table = main.one("server")
    values = {name: value for name, value in table.values.items() if name != "include"}
    values.setdefault("listen", default_listen())
    if "run_dir" not in values:
        values["run_dir"] = run_dir()
    server = schema.Server(**values)
    if server.workers > server.max_workers and not table.broken & {"workers", "max_workers"}:
        table.place.child("workers").report(
            f"{server.workers} is more than max_workers, which is {server.max_workers}", "raise server.max_workers"
        )
    if "listen" not in table.broken:
        _check_overlaps(table, server.listen)
    return server


def default_listen() -> tuple[schema.Address, ...]:
    return (parse_address(":80", "/"),)


def _check_overlaps(table: Checked, listen: Sequence[schema.Address]) -> None:
    """Two addresses of which the kernel would refuse the second, because the first includes it."""
    place = table.place.child("listen")
    for index, address in enumerate(listen):
        for other_index, other in enumerate(listen):
            if index != other_index and _includes(other, address):
                where = place.child(other_index).key
                message = f"{shown(address.text)} is part of {shown(other.text)}, in {where}"
                place.child(index).report(message, "leave one of them out")


def _includes(wide: schema.Address, narrow: schema.Address) -> bool:
    if wide.port != narrow.port or wide.port == 0:  # port 0: the kernel chooses, or a unix socket
        return False
    if wide.host == "":
        return narrow.host != ""
    if wide.host == "::":
        return ":" in narrow.host and narrow.host != "::"
    return wide.host == "0.0.0.0" and re.fullmatch(r"[0-9.]+", narrow.host) is not None and narrow.host != "0.0.0.0"


def build_log(main: Checked, euid: int, check_format: Callable[[str], object] | None) -> schema.Log:
    table = main.one("log")
    values = dict(table.values)
    values.setdefault("access", DEFAULT_ACCESS_LOG if euid == 0 else "-")
    log = schema.Log(**values)
    if check_format is not None and "format" not in table.broken:
        try:
            check_format(log.format)
        except ValueError as error:
            table.place.child("format").report(str(error), getattr(error, "hint", ""))
    return log


def merge(settings: schema.Settings, values: Mapping[str, Any]) -> schema.Settings:
    """`settings` changed by those of `values` that are settings."""
    changes = {name: value for name, value in values.items() if name in SETTING_NAMES}
    for name in _MERGED & changes.keys():
        changes[name] = _merge_names(getattr(settings, name), changes[name])
    return msgspec.structs.replace(settings, **changes) if changes else settings


def _merge_names(base: Mapping[str, str], over: Mapping[str, str]) -> dict[str, str]:
    """Case makes no difference between names; the later spelling stays."""
    replaced = {name.lower() for name in over}
    return {name: value for name, value in base.items() if name.lower() not in replaced} | dict(over)
