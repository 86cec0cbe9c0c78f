"""Which script a path means (RFC 3875 3.2, 4.1.5): the tree and the mounts of tests/corpus/cgi/lookup.toml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import tomli

from httpd.cgi.lookup import Elsewhere, Found, Lookup
from httpd.config import schema

CORPUS = Path(__file__).parents[2] / "corpus" / "cgi" / "lookup.toml"
TREE: dict[str, Any] = tomli.loads(CORPUS.read_text("utf-8"))
SETTINGS = ("index", "symlinks", "dotfiles")

CASES = [
    pytest.param(mount, case, id=f"{mount['path']} {case['path'].encode('unicode_escape').decode()}")
    for mount in TREE["mount"]
    for case in mount["case"]
]


@pytest.fixture(scope="module")
def top(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = os.path.realpath(os.fsencode(tmp_path_factory.mktemp("scripts")))
    for name in TREE["folders"]:
        os.mkdir(os.path.join(folder, name.encode("latin-1")))
    for name in TREE["files"]:
        with open(os.path.join(folder, name.encode("latin-1")), "wb"):
            pass  # whether it can be run is not looked at here
    for name, target in TREE["links"].items():
        os.symlink(target.encode("latin-1"), os.path.join(folder, name.encode("latin-1")))
    return folder


def make(top: bytes, mount: dict[str, Any]) -> Lookup:
    where = {name: f"{os.fsdecode(top)}/{mount[name]}" for name in ("root", "script") if name in mount}
    values = {name: mount[name] for name in SETTINGS if name in mount}
    settings = schema.Settings(**{name: tuple(value) if name == "index" else value for name, value in values.items()})
    return Lookup(schema.Cgi(
        path=mount["path"], key="vhost[0].cgi[0]", settings=settings, extensions=tuple(mount.get("extensions", ())),
        interpreters=mount.get("interpreters", {}), **where,
    ))  # fmt: skip


def outcome(lookup: Lookup, path: bytes) -> Found | str:
    try:
        found = lookup.find(path)
    except FileNotFoundError:
        return "missing"
    except PermissionError:
        return "forbidden"
    return found.name.lower() if isinstance(found, Elsewhere) else found


def test_the_corpus_is_there() -> None:
    assert len(CASES) > 65
    assert {case.get("is", "script") for mount in TREE["mount"] for case in mount["case"]} == {
        "script", "file", "slash", "missing", "forbidden",
    }  # fmt: skip


@pytest.mark.parametrize(("mount", "case"), CASES)
def test_corpus(top: bytes, mount: dict[str, Any], case: dict[str, str]) -> None:
    found = outcome(make(top, mount), case["path"].encode("latin-1"))
    if isinstance(found, str):
        assert found == case.get("is")
        return
    assert found.file == top + b"/" + case["script"].encode("latin-1")
    assert (found.name, found.info) == tuple(case.get(name, "").encode("latin-1") for name in ("name", "info"))
    relative = b"" if "script" in mount else found.file.removeprefix(top + b"/cgi/")
    assert found.relative == relative


@pytest.mark.parametrize(("mount", "case"), CASES)
def test_name_and_info_are_the_path(top: bytes, mount: dict[str, Any], case: dict[str, str]) -> None:
    """RFC 3875 3.3: they are parts of the path that was asked for, but where an index answers for its folder."""
    path = case["path"].encode("latin-1")
    found = outcome(make(top, mount), path)
    if isinstance(found, Found) and not (path.endswith(b"/") and not found.info):
        assert found.name + found.info == path


def test_what_comes_later_is_found(top: bytes, tmp_path: Path) -> None:
    """A root that is not there yet, and one that a deploy replaces."""
    root = tmp_path / "root"
    lookup = Lookup(schema.Cgi("/c/", "vhost[0].cgi[0]", schema.Settings(), str(root)))
    assert outcome(lookup, b"/c/a") == "missing"
    root.mkdir()
    (root / "a").touch()
    assert isinstance(outcome(lookup, b"/c/a"), Found)
    root.rename(tmp_path / "old")
    assert outcome(lookup, b"/c/a") == "missing"
    root.mkdir()
    (root / "b").touch()
    assert outcome(lookup, b"/c/a") == "missing"
    assert isinstance(outcome(lookup, b"/c/b"), Found)


def test_what_is_no_file_is_not_found(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    lookup = Lookup(schema.Cgi("/c/", "vhost[0].cgi[0]", schema.Settings(), str(tmp_path)))
    assert outcome(lookup, b"/c/fifo") == "missing"
    assert outcome(lookup, b"/c/fifo/x") == "missing"


@pytest.mark.parametrize("path", [b"/c/" + b"a" * 300, b"/c/" + b"a/" * 3000, b"/c/x\0y"])
def test_names_that_no_file_has(tmp_path: Path, path: bytes) -> None:
    lookup = Lookup(schema.Cgi("/c/", "vhost[0].cgi[0]", schema.Settings(), str(tmp_path)))
    assert outcome(lookup, path) == "missing"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter everything")
def test_a_folder_that_this_process_may_not_enter(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed" / "a").touch()
    (tmp_path / "closed").chmod(0)
    lookup = Lookup(schema.Cgi("/c/", "vhost[0].cgi[0]", schema.Settings(), str(tmp_path)))
    try:
        assert outcome(lookup, b"/c/closed/a") == "forbidden"
    finally:
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.parametrize(
    ("name", "program"),
    [(b"a.php", "/bin/php"), (b"a.PHP", "/bin/php"), (b"d/a.php", "/bin/php"), (b"a.php.txt", ""),
     (b".php", "/bin/php"),
     (b"a.p\xff", ""), (b"php", "")],
)  # fmt: skip
def test_interpreters(name: bytes, program: str) -> None:
    mount = schema.Cgi("/", "", schema.Settings(), "/srv", interpreters={".php": "/bin/php"})
    assert mount.interpreter(os.fsdecode(name)) == program
