"""Virtual hosts and their mounts: checked tables -> `schema.Vhost`, and what one vhost or mount asks of the
others.

The vhost's `root` becomes the directory mount with the path "/"; it stands first.  Which mount answers a
path is decided by the longest prefix on a segment boundary, so the order matters only to messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from httpd.config import schema
from httpd.config.build import merge
from httpd.config.check import Checked
from httpd.config.errors import did_you_mean, shown
from httpd.config.place import Place
from httpd.config.scripts import build_scripts
from httpd.config.settings_keys import DIRECTORY_METHODS

MOUNT_TABLES = frozenset(("directory", "redirect", "cgi", "handler"))


def build_vhost(table: Checked, defaults: schema.Settings, listen: Sequence[schema.Address] | None) -> schema.Vhost:
    """defaults: of its file, merged; listen: the server's, None when they are broken."""
    settings = merge(defaults, table.values)
    vhost = schema.Vhost(
        key=table.place.key,
        names=table.values.get("names", ()),
        listen=_vhost_listen(table, listen),
        settings=settings,
        mounts=_mounts(table, settings),
    )
    if not (vhost.mounts or any(table.tables.values()) or table.broken & (MOUNT_TABLES | {"root"})):
        table.place.report(
            "has neither `root` nor mounts",
            'add root = "/srv/www", a [[vhost.directory]], [[vhost.cgi]], [[vhost.handler]] or [[vhost.redirect]]',
        )
    _check_paths(table)
    _check_methods(table)
    _check_pythonpath(table)
    _check_loops(table, vhost.mounts)
    return vhost


def _vhost_listen(table: Checked, listen: Sequence[schema.Address] | None) -> tuple[str, ...]:
    """The texts of a vhost's addresses, each of which must be one of the server's."""
    texts = tuple(address.text for address in table.values.get("listen", ()))
    known = [address.text for address in listen or ()]
    for index, text in enumerate(texts):
        if listen is not None and text not in known:
            hint = did_you_mean(text, known) or "there is " + ", ".join(map(shown, known))
            table.place.child("listen").child(index).report(f"{shown(text)} is not in server.listen", hint)
    return texts


_AnyMount = schema.Directory | schema.Cgi | schema.Handler | schema.Redirect


def _mounts(table: Checked, settings: schema.Settings) -> tuple[_AnyMount, ...]:
    mounts: list[_AnyMount] = []
    root: str | None = table.values.get("root")
    if root is not None:
        mounts.append(schema.Directory("/", table.place.key, settings, root))
    for directory in table.tables.get("directory", ()):
        path = directory.values.get("path")
        folder = directory.values.get("root")
        if folder is None and "root" not in directory.broken and path is not None:
            folder = _default_root(table, directory, path)
        if path is not None and folder is not None:
            merged = merge(settings, directory.values)
            code = {name: directory.values[name] for name in ("handler", "pythonpath") if name in directory.values}
            mounts.append(schema.Directory(path, directory.place.key, merged, folder, **code))
    mounts += build_scripts(table, settings)
    mounts += [
        _handler(handler, settings)
        for handler in table.tables.get("handler", ()) if not handler.broken & {"path", "class"}
    ]  # fmt: skip
    for redirect in table.tables.get("redirect", ()):
        if not redirect.broken & {"from", "to"}:
            values = redirect.values
            merged = merge(settings, values)
            status = values.get("status", 308)
            mounts.append(schema.Redirect(values["from"], redirect.place.key, merged, values["to"], status))
    return tuple(mounts)


def _handler(table: Checked, settings: schema.Settings) -> schema.Handler:
    values = {name: value for name, value in table.values.items() if name in schema.Handler.__struct_fields__}
    merged = merge(settings, table.values)
    return schema.Handler(**{**values, "key": table.place.key, "settings": merged, "target": table.values["class"]})


def _default_root(vhost: Checked, directory: Checked, path: str) -> str | None:
    root: str | None = vhost.values.get("root")
    if root is None:
        if "root" not in vhost.broken:
            directory.place.child("root").report(
                "is missing, and the vhost has no root to take its place", 'add root = "/srv/..."'
            )
        return None
    inner = path.strip("/")
    return f"{root.rstrip('/')}/{inner}" if inner else root


def same_path(path: str) -> str:
    """What two mount paths are compared by: "/a" and "/a/" are one path."""
    return path.rstrip("/") or "/"


def _check_paths(table: Checked) -> None:
    """Two mounts of one path, also where one of them has other problems."""
    taken: dict[str, Place] = {}
    if "root" in table.values or "root" in table.broken:
        taken["/"] = table.place.child("root")
    for name, key in (("directory", "path"), ("cgi", "path"), ("handler", "path"), ("redirect", "from")):
        for mount in table.tables.get(name, ()):
            if key in mount.values:
                path = mount.values[key]
                place = mount.place.child(key)
                first = taken.setdefault(same_path(path), place)
                if first is not place:
                    place.report(f"the path {shown(path)} is taken by {first}", "a path can have one mount in a vhost")


def _check_methods(table: Checked) -> None:
    """Methods that no mount they apply to can answer.  A vhost's may be for its redirects, scripts and handlers,
    which take any."""
    directories = table.tables.get("directory", ())
    of_files = tuple(directory for directory in directories if not _names_handler(directory))
    takes_any = any(table.tables.get(name) for name in ("redirect", "handler", "cgi"))
    others = takes_any or len(of_files) < len(directories)
    only_files = not others and not table.broken & MOUNT_TABLES
    for part in ((table,) if only_files else ()) + of_files:
        for index, method in enumerate(part.values.get("methods", ())):
            if method not in DIRECTORY_METHODS:
                part.place.child("methods").child(index).report(
                    f"a directory can't answer {method}", f"it knows {', '.join(DIRECTORY_METHODS)}"
                )


def _check_pythonpath(table: Checked) -> None:
    for directory in table.tables.get("directory", ()):
        if directory.values.get("pythonpath") and not _names_handler(directory):
            directory.place.child("pythonpath").report(
                "is where the modules of `handler` are, and the directory has none",
                'add handler = "module:name", or leave it out',
            )


def _names_handler(directory: Checked) -> bool:
    """Whether it has the key, be its value good or not."""
    return "handler" in directory.values or "handler" in directory.broken


def _check_loops(table: Checked, mounts: Iterable[_AnyMount]) -> None:
    by_path = {same_path(mount.path): mount for mount in mounts}
    places = {redirect.place.key: redirect.place for redirect in table.tables.get("redirect", ())}
    for mount in by_path.values():
        if isinstance(mount, schema.Redirect) and _leads_back(mount, by_path):
            places[mount.key].child("to").report(
                f"{shown(mount.to)} leads back to {shown(mount.path)}, for ever",
                "redirect to a path that another mount answers",
            )


def _leads_back(start: schema.Redirect, by_path: dict[str, _AnyMount]) -> bool:
    """Whether a client that follows `start` for its own path comes to `start` again."""
    target = start.to
    passed = set()
    while target.startswith("/"):
        found = _match(_decoded(target), by_path)
        if found is start:
            return True
        if not isinstance(found, schema.Redirect) or found.key in passed:
            return False
        passed.add(found.key)
        rest = target[len(found.path.rstrip("/")) :].lstrip("/")
        target = f"{found.to.rstrip('/')}/{rest}"
    return False


def _match(path: str, by_path: dict[str, _AnyMount]) -> schema.Mount | None:
    candidate = same_path(path)
    while candidate not in by_path and candidate != "/":
        candidate = candidate.rpartition("/")[0] or "/"
    return by_path.get(candidate)


def _decoded(path: str) -> str:
    if "%" not in path:
        return path
    from urllib.parse import unquote  # rare, and not cheap to import

    return unquote(path)


class Named(msgspec.Struct, frozen=True):
    """A vhost with the table it is from, for the rules between vhosts."""

    vhost: schema.Vhost
    table: Checked


def check_names(all_vhosts: Sequence[Named], listen: Sequence[schema.Address]) -> None:
    """Two vhosts of one name on one listener, and two without names."""
    taken: dict[tuple[str, str], Place] = {}
    nameless: Place | None = None
    for item in all_vhosts:
        if "names" in item.table.broken:
            continue
        place = item.table.place
        if not item.vhost.names:
            if nameless is not None:
                place.report(f"has no names, as {nameless}", "one vhost at most can answer for all other names")
            nameless = nameless or place
        listeners = item.vhost.listen or [address.text for address in listen]
        for index, name in enumerate(item.vhost.names):
            at = place.child("names").child(index)
            firsts = [taken.setdefault((name, listener), at) for listener in listeners]
            for listener, first in zip(listeners, firsts, strict=True):
                if first is not at:
                    at.report(
                        f"{shown(name)} is taken by {first} on {shown(listener)}",
                        "give one of the two another name or `listen`",
                    )
                    break
