"""[[vhost.cgi]]: checked tables -> `schema.Cgi`."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

from httpd.config import schema
from httpd.config.build import merge
from httpd.config.check import Checked

_ENVIRONMENT = 64 * 1024  # bytes; one variable of a program may have 128 KiB (execve(2)), and requests need room too


def build_scripts(vhost: Checked, settings: schema.Settings) -> list[schema.Cgi]:
    """The mounts of a vhost's scripts; `settings`: the vhost's."""
    return [mount for table in vhost.tables.get("cgi", ()) for mount in _mount(vhost, table, settings)]


def _mount(vhost: Checked, table: Checked, settings: schema.Settings) -> Iterator[schema.Cgi]:
    given = table.values
    if "root" in given and "script" in given:
        table.place.child("script").report("there is a `root` too", "a folder of scripts, or one script")
    elif not ({"root", "script"} & (given.keys() | table.broken)):
        table.place.report("has neither `root` nor `script`", 'add root = "/usr/lib/cgi-bin", or script = "/..."')
    if "script" in given:
        for name in ("extensions", "index", "listing"):
            if given.get(name):
                table.place.child(name).report("is for a folder of scripts, and this is one `script`")
    for name in given.get("interpreters", {}) if given.get("extensions") else ():
        if name not in given["extensions"]:
            place = table.place.child("interpreters").child(name)
            place.report("is none of `extensions`: such files would be sent as they are", "add it there, too")
    if given.get("warm_modules") and not given.get("warm_python"):
        table.place.child("warm_modules").report("is for `warm_python`, which is off", "add warm_python = true")
    size = sum(len(os.fsencode(name + value)) + 2 for name, value in given.get("env", {}).items())
    if size > _ENVIRONMENT:
        table.place.child("env").report(f"has {size} bytes, and {_ENVIRONMENT} are possible", "put it into a file")
    if table.broken & {"path", "root", "script"} or "path" not in given:
        return
    values = {name: value for name, value in given.items() if name in schema.Cgi.__struct_fields__}
    limits = schema.ScriptLimits(**table.one("limits").values)
    made = schema.Cgi(
        **{**values, "key": table.place.key, "settings": merge(settings, given), "limits": limits}
    )  # fmt: skip
    yield msgspec.structs.replace(made, document_root=vhost.values.get("root") or made.folder)
