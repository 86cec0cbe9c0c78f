"""Which vhost and which mount a request belongs to.

    Host -> Site: exact name, then the longest wildcard, then the listener's default
    path -> Mount: the longest prefix on a segment boundary, of whichever kind, wherever it stands in the file

Rules: pure look-ups in tables that are built once per worker.  The kinds of mounts are given from outside (`kinds`),
because some of them live in layers above this one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar

from httpd.config import schema
from httpd.content.cache import Entry
from httpd.logs.access_log import AccessLog
from httpd.protocol.messages import Request

_KNOWN = 1024  # hosts remembered per listener beside the configured ones


class AnyMount(Protocol):
    """What a site needs to know of a mount."""

    prefix: bytes  # the mount's path without a slash at its end: b"" for "/"


M = TypeVar("M", bound=AnyMount)


class Site(Generic[M]):
    """One vhost: its mounts, longest first, and the cached files of its directory mounts by path as sent."""

    __slots__ = ("files", "handlers", "has_handlers", "log", "mounts", "name", "settings", "vhost")

    def __init__(self, vhost: schema.Vhost, mounts: Iterable[M], log: AccessLog | None) -> None:
        self.vhost = vhost
        self.log = log
        self.name = vhost.names[0].encode() if vhost.names else b"-"
        self.settings = vhost.settings
        self.mounts = sorted(mounts, key=lambda mount: len(mount.prefix), reverse=True)
        self.files: dict[bytes, Entry] = {}
        self.has_handlers = any(getattr(mount, "runs_code", False) for mount in self.mounts)
        self.handlers: dict[bytes, M | None] = {}  # by path as sent: the mount if it runs code, else None

    def route(self, path: bytes) -> M | None:
        """The mount for a normalized path."""
        for mount in self.mounts:
            prefix = mount.prefix
            if path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == 0x2F):
                return mount
        return None


class SiteTable(Generic[M]):
    """The sites that answer on one listener."""

    __slots__ = ("_default", "_exact", "_wild", "by_field", "known", "number")

    def __init__(self, sites: Sequence[Site[M]], number: int = 0) -> None:
        self.number = number  # of the listener
        self._exact: dict[bytes, Site[M]] = {}
        self._wild: list[tuple[bytes, Site[M]]] = []
        self._default = next((site for site in sites if not site.vhost.names), sites[0])
        for site in sites:
            for name in site.vhost.names:
                if name.startswith("*."):
                    self._wild.append((name[1:].encode(), site))
                else:
                    self._exact.setdefault(name.encode(), site)
        self._wild.sort(key=lambda pair: len(pair[0]), reverse=True)
        self.known: dict[bytes, Site[M]] = dict(self._exact)
        self.by_field: dict[bytes, Site[M]] = {}  # by values of Host as sent, each parsed before; for plain requests

    def find(self, host: bytes) -> Site[M]:
        """The site for a host (lower-case, without port)."""
        site = self.known.get(host)
        if site is None:
            site = next((site for tail, site in self._wild if host.endswith(tail)), self._default)
            if len(self.known) < _KNOWN + len(self._exact):
                self.known[host] = site
        return site

    def remember(self, request: Request, site: Site[M]) -> None:
        """Note that `site` is the one for the Host value of `request`, as it was sent."""
        field = request.fields.get(b"host")
        if field is not None and field not in self.by_field and request.target.startswith(b"/"):
            if len(self.by_field) >= _KNOWN:
                self.by_field.clear()  # else whoever fills it with inventions would keep out those that are real
            self.by_field[field] = site


def prefix_of(path: str) -> bytes:
    """A mount's path as `Site.route` wants it."""
    return path.encode("utf-8", "surrogateescape").rstrip(b"/")


def build(
    config: schema.Config,
    kinds: Mapping[type[schema.Mount], Callable[[Any, AccessLog | None], M]],
    log_of: Callable[[schema.Settings], AccessLog | None],
) -> dict[str, SiteTable[M]]:
    """The tables for every listener, by the address's text.  `kinds` makes a mount, `log_of` finds its access log."""
    sites = []
    for vhost in config.vhosts:
        mounts = [kinds[type(mount)](mount, log_of(mount.settings)) for mount in vhost.mounts]
        sites.append(Site(vhost, mounts, log_of(vhost.settings)))
    nothing: Site[M] = Site(schema.Vhost(key="", settings=schema.Settings()), (), None)
    return {
        address.text: SiteTable(
            [site for site in sites if not site.vhost.listen or address.text in site.vhost.listen] or [nothing], number
        )
        for number, address in enumerate(config.server.listen)
    }
