"""Host -> site, path -> mount."""

from __future__ import annotations

from typing import Any

import pytest

from httpd.config import schema
from httpd.config.schema import Address, Directory, Redirect, Settings, Vhost
from httpd.content.sites import Site, SiteTable, build, prefix_of
from httpd.logs.access_log import AccessLog

SETTINGS = Settings()


class Mount:
    def __init__(self, path: str) -> None:
        self.prefix = prefix_of(path)

    def __repr__(self) -> str:
        return self.prefix.decode()


def site(*names: str, paths: tuple[str, ...] = ()) -> Site[Mount]:
    return Site(Vhost(key="k", names=names, settings=SETTINGS), [Mount(path) for path in paths], None)


def table(*all_names: tuple[str, ...]) -> SiteTable[Mount]:
    return SiteTable([site(*names) for names in all_names])


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"example.org", b"example.org"),
        (b"www.example.org", b"*.example.org"),
        (b"a.b.example.org", b"*.example.org"),
        (b"x.www.example.org", b"*.www.example.org"),  # the longest wildcard, wherever it stands
        (b"deep.x.www.example.org", b"*.www.example.org"),
        (b"exact.www.example.org", b"exact.www.example.org"),  # an exact name before any wildcard
        (b"alias", b"example.org"),
        (b"badexample.org", b"first"),
        (b"org", b"first"),
        (b"example.org.evil", b"first"),
        (b"", b"first"),
        (b"[::1]", b"first"),
        (b"*.example.org", b"*.example.org"),
    ],
)
def test_hosts(host: bytes, expected: bytes) -> None:
    sites = table(("first",), ("*.example.org",), ("example.org", "alias"), ("*.www.example.org",),
                  ("exact.www.example.org",))  # fmt: skip
    assert sites.find(host).name == expected
    assert sites.find(host).name == expected  # remembered


@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_site_without_names_is_the_default(at: int) -> None:
    names: list[tuple[str, ...]] = [("a",), ("b",)]
    names.insert(at, ())
    sites = table(*names)
    assert sites.find(b"unknown").name == b"-"
    assert sites.find(b"b").name == b"b"


def test_the_first_of_two_with_one_name() -> None:
    """They may be on different listeners; here they are not, which the configuration refuses."""
    first, second = site("a"), site("a")
    assert SiteTable([first, second]).find(b"a") is first


def test_what_clients_invent_is_remembered_up_to_a_bound() -> None:
    sites = table(("first",), ("*.example.org",))
    for number in range(5000):
        assert sites.find(b"host%d.example.org" % number).name == b"*.example.org"
    assert len(sites.known) <= 1025
    assert sites.known[b"host1.example.org"].name == b"*.example.org"
    assert sites.find(b"first").name == b"first"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"/", b""),
        (b"/x", b""),
        (b"/docs", b"/docs"),
        (b"/docs/", b"/docs"),
        (b"/docs/a", b"/docs"),
        (b"/docsa", b""),
        (b"/docs.html", b""),
        (b"/docs/api", b"/docs/api"),
        (b"/docs/api/v1/x", b"/docs/api/v1"),
        (b"/docs/apis", b"/docs"),
        (b"/Docs/", b""),
        (b"/a b/\xff", b"/a b"),
    ],
)
def test_routes(path: bytes, expected: bytes) -> None:
    found = site(paths=("/docs/", "/", "/docs/api/v1/", "/docs/api/", "/a b/")).route(path)
    assert found is not None
    assert found.prefix == expected


def test_no_route() -> None:
    assert site(paths=("/docs/",)).route(b"/") is None
    assert site(paths=("/docs/",)).route(b"/doc") is None
    assert site().route(b"/") is None


@pytest.mark.parametrize(
    ("path", "prefix"),
    [("/", b""), ("/a", b"/a"), ("/a/", b"/a"), ("/\u20ac/", b"/\xe2\x82\xac"), ("/\udcff", b"/\xff")],
)
def test_prefixes(path: str, prefix: bytes) -> None:
    assert prefix_of(path) == prefix


def config(*vhosts: Vhost, listen: tuple[str, ...] = (":80", ":81")) -> schema.Config:
    return schema.Config(
        path="", server=schema.Server(listen=tuple(Address(text) for text in listen)), timeouts=schema.Timeouts(),
        limits=schema.Limits(), log=schema.Log(), vhosts=vhosts,
    )  # fmt: skip


def kind(name: str) -> Any:
    def make(mount: schema.Mount, log: AccessLog | None) -> Mount:
        made = Mount(mount.path)
        made.made_by = name, mount, log  # type: ignore[attr-defined]
        return made

    return make


KINDS: Any = {Directory: kind("directory"), Redirect: kind("redirect")}


def test_build() -> None:
    settings = Settings(access_log="/log")
    mounts = (Directory("/", "k", SETTINGS, root="/srv"), Redirect("/old/", "k", settings, to="/new/"))
    log = AccessLog.__new__(AccessLog)
    tables = build(
        config(Vhost(key="a", names=("a",), settings=SETTINGS, mounts=mounts)), KINDS,
        lambda settings: log if settings.access_log else None,
    )  # fmt: skip
    assert list(tables) == [":80", ":81"]
    found = tables[":80"].find(b"a")
    assert [mount.made_by for mount in found.mounts] == [  # type: ignore[attr-defined]
        ("redirect", mounts[1], log), ("directory", mounts[0], None),
    ]  # fmt: skip
    assert found.log is None
    assert tables[":81"].find(b"x") is found  # one site on both: one cache of files


def test_build_for_some_listeners() -> None:
    tables = build(
        config(
            Vhost(key="a", names=("a",), settings=SETTINGS, listen=(":80",)),
            Vhost(key="b", names=("b",), settings=SETTINGS),
            Vhost(key="c", settings=SETTINGS, listen=(":81",)),
        ),
        KINDS, lambda settings: None,
    )  # fmt: skip
    assert [tables[":80"].find(host).name for host in (b"a", b"b", b"?")] == [b"a", b"b", b"a"]
    assert [tables[":81"].find(host).name for host in (b"a", b"b", b"?")] == [b"-", b"b", b"-"]


def test_a_listener_without_a_vhost_has_nothing() -> None:
    tables = build(config(Vhost(key="a", settings=SETTINGS, listen=(":80",))), KINDS, lambda settings: None)
    assert tables[":81"].find(b"a").route(b"/") is None
