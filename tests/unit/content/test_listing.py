"""httpd.content.listing: what is shown, what is hidden, and in which order."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from httpd.content import files
from httpd.content.listing import ListEntry, entries
from machine import descriptors

MakeRoot = Callable[[bytes, str], files.Root]


def listed(root: files.Root, relative: bytes = b"", dotfiles: bool = False) -> list[ListEntry]:
    opened = root.open(relative)
    try:
        return entries(opened.fd, dotfiles=dotfiles, root=root, relative=relative)
    finally:
        os.close(opened.fd)


def names(found: list[ListEntry]) -> list[bytes]:
    return [entry.name for entry in found]


def test_folders_first_then_by_name_without_case(tmp_path: Path, make_root: MakeRoot) -> None:
    for name in ("b", "A", "c.txt", "Z", "ä"):
        (tmp_path / name).write_text(name)
    for name in ("y", "X"):
        (tmp_path / name).mkdir()
    for name in (b"\xff", b"new\nline", b"back\\slash"):
        Path(os.fsdecode(os.path.join(bytes(tmp_path), name))).touch()
    found = listed(make_root(bytes(tmp_path), "inside"))
    expected = [b"X", b"y", b"A", b"b", b"back\\slash", b"c.txt", b"new\nline", b"Z", "ä".encode(), b"\xff"]
    assert names(found) == expected
    assert [entry.is_dir for entry in found] == [True] * 2 + [False] * 8


def test_sizes_and_times(tmp_path: Path, make_root: MakeRoot) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to("file")
    for name, when in (("folder", 1.5), ("file", 2.5)):
        os.utime(tmp_path / name, (when, when))
    assert listed(make_root(bytes(tmp_path), "inside")) == [
        ListEntry(b"folder", True, 0, 1.5),
        ListEntry(b"file", False, 5, 2.5),
        ListEntry(b"link", False, 5, 2.5),
    ]


def test_dotfiles_are_shown_only_where_they_are_served(tmp_path: Path, make_root: MakeRoot) -> None:
    for name in (".git", ".well-known"):
        (tmp_path / name).mkdir()
    for name in (".htaccess", "..x", "x."):
        (tmp_path / name).touch()
    root = make_root(bytes(tmp_path), "inside")
    assert names(listed(root)) == [b"x."]
    assert names(listed(root, dotfiles=True)) == [b".git", b".well-known", b"..x", b".htaccess", b"x."]


@pytest.mark.parametrize("policy", ["inside", "none", "all"])
def test_shown_is_what_the_root_opens(tree: bytes, make_root: MakeRoot, policy: str) -> None:
    root = make_root(os.path.join(tree, b"root"), policy)
    before = descriptors()
    for relative in (b"", b"d", b"d/"):
        prefix = b"d/" if relative else b""
        expected = set()
        for name in os.listdir(os.path.join(tree, b"root", relative)):
            try:
                os.close(root.open(prefix + name).fd)
            except FileNotFoundError:
                continue
            expected.add(name)
        found = listed(root, relative, dotfiles=True)
        assert {entry.name for entry in found} == expected
        assert len(found) == len(expected)
        shown = {entry.name: entry.is_dir for entry in found}
        assert b"fifo" not in shown
        if not relative:
            assert (b"out" in shown, b"same" in shown) == (policy == "all", policy != "none")
            assert shown.get(b"folder", True)
    assert descriptors() == before


def test_what_vanishes_meanwhile_is_left_out(
    tmp_path: Path, make_root: MakeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("a")
    root = make_root(bytes(tmp_path), "inside")
    opened = root.open(b"")
    really_scan = os.scandir

    class Vanishing:
        """A scan behind whose back two names go away."""

        def __init__(self, fd: int) -> None:
            self.scan = really_scan(fd)

        def __enter__(self) -> "Vanishing":
            return self

        def __exit__(self, *_: object) -> None:
            self.scan.close()

        def __iter__(self) -> "object":
            items = list(self.scan)
            (tmp_path / "a").unlink()
            return iter(items)

    monkeypatch.setattr(os, "scandir", Vanishing)
    assert names(entries(opened.fd, dotfiles=False, root=root, relative=b"")) == [b"b"]
    os.close(opened.fd)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.skipif(not hasattr(os, "O_PATH"), reason="elsewhere such a folder can't be opened at all")
def test_a_folder_that_may_only_be_searched(tmp_path: Path, make_root: MakeRoot) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").touch()
    (tmp_path / "folder").chmod(0o311)
    with pytest.raises(PermissionError):
        listed(make_root(bytes(tmp_path), "inside"), b"folder")
    (tmp_path / "folder").chmod(0o700)


def test_a_listing_can_be_made_twice_from_one_descriptor(tmp_path: Path, make_root: MakeRoot) -> None:
    (tmp_path / "a").touch()
    root = make_root(bytes(tmp_path), "inside")
    opened = root.open(b"")
    for _ in range(2):
        assert names(entries(opened.fd, dotfiles=False, root=root, relative=b"")) == [b"a"]
    os.close(opened.fd)
