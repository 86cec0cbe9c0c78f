"""Containment as a property: whatever tree and path, nothing outside of the root is opened, all ways agree.

The judge is the kernel: it opens the same path without any rule, and /proc says where it got to.
"""

import errno
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from httpd.content import files, openat2, paths, walk
from machine import descriptors

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not files.has_descriptor_paths(), reason="the judge needs O_PATH and /proc"
)

SECRET = b"secret"
NAMES = [b"a", b"b", b"c"]

names = st.sampled_from(NAMES)
# What links are made of.  TOP/root is the served folder, TOP/via a link to it, TOP/out holds the secret.
steps = st.sampled_from([*NAMES, b"..", b"..", b".", b"root", b"out", b"via", b""])
relative_texts = st.lists(steps, min_size=1, max_size=5).map(b"/".join).filter(lambda text: text[:1] not in (b"", b"/"))
absolute_texts = st.tuples(
    st.sampled_from([b"TOP/", b"TOP/root/", b"TOP/via/", b"TOP/out/", b"TOP/root/../", b"/"]),
    st.lists(steps, max_size=4).map(b"/".join),
).map(b"".join)
nodes = st.one_of(
    st.just(("folder", b"")),
    st.just(("folder", b"")),
    st.just(("file", b"")),
    st.just(("fifo", b"")),
    relative_texts.map(lambda text: ("link", text)),
    absolute_texts.map(lambda text: ("link", text)),
)
# Parent first: a node below something that is no folder is left out.
trees = st.dictionaries(st.lists(names, min_size=1, max_size=3).map(b"/".join), nodes, min_size=2, max_size=14).map(
    lambda tree: sorted(tree.items())
)

escapes = st.sampled_from(
    [*NAMES, *NAMES, *NAMES, b"..", b"%2e%2e", b"%2E.", b".", b"%2e", b"..\\", b"\\..", b"%5c..", b"out", b"\xff"]
)
separators = st.sampled_from([b"/", b"/", b"/", b"//", b"%2f", b"\\", b"%5C", b"/./"])
requests = st.lists(st.tuples(separators, escapes), min_size=1, max_size=6).map(
    lambda parts: b"/" + b"".join(separator + part for separator, part in parts)
)
asked = st.lists(names, min_size=1, max_size=5).map(b"/".join)


@contextmanager
def planted(tree: list[tuple[bytes, tuple[str, bytes]]]) -> Iterator[bytes]:
    top = os.path.realpath(os.fsencode(tempfile.mkdtemp()))
    try:
        for name in (b"root", b"out", b"out/a", b"out/b"):
            os.mkdir(os.path.join(top, name))
        os.symlink(b"root", os.path.join(top, b"via"))
        for name in (b"c", b"out/c", b"out/a/a", b"out/b/c"):
            with open(os.path.join(top, name), "wb") as file:
                file.write(SECRET)
        for name, (kind, text) in tree:
            path = os.path.join(top, b"root", name)
            parent = os.path.dirname(path)
            if not os.path.isdir(parent) or os.path.realpath(parent) != parent:
                continue
            if kind == "folder":
                os.mkdir(path)
            elif kind == "file":
                with open(path, "wb") as file:
                    file.write(b"public")
            elif kind == "fifo":
                os.mkfifo(path)
            else:
                os.symlink(text.replace(b"TOP", top), path)
        yield top
    finally:
        shutil.rmtree(top)


def roots(path: bytes, policy: str) -> Iterator[files.Root]:
    """One Root for each way to resolve."""
    if openat2.supported():
        yield files.Root(path, policy)
    with mock.patch.object(openat2, "supported", lambda: False):
        yield files.Root(path, policy)
    with mock.patch.object(files, "has_descriptor_paths", lambda: False):
        yield files.Root(path, policy)


def where(fd: int) -> bytes:
    return os.readlink(b"/proc/self/fd/%d" % fd)


def got(root: files.Root, relative: bytes) -> bytes | None:
    """The real path of what was opened; None if nothing was."""
    try:
        opened = root.open(relative)
    except (FileNotFoundError, PermissionError):
        return None
    try:
        return where(opened.fd)
    finally:
        os.close(opened.fd)


def judged(path: bytes, relative: bytes) -> bytes | None:
    """Where the kernel gets to from the folder `path` without any rule, if that is something to serve."""
    try:
        fd = os.open(os.path.join(path, relative), os.O_PATH)
    except OSError:
        return None
    try:
        mode = os.fstat(fd).st_mode
        return where(fd) if stat.S_ISREG(mode) or stat.S_ISDIR(mode) else None
    finally:
        os.close(fd)


def is_inside(real: bytes | None, base: bytes) -> bool:
    return real is not None and (real + b"/").startswith(base + b"/")


def goes_through_a_link(base: bytes, relative: bytes) -> bool:
    parts = relative.split(b"/")
    return any(os.path.islink(os.path.join(base, *parts[:length])) for length in range(1, len(parts) + 1))


@pytest.mark.parametrize("before", ["file", "folder"])
@pytest.mark.parametrize("after", ["link out", "other"])
@pytest.mark.parametrize("linked", [False, True])
def test_the_plain_way_refuses_what_changes_behind_its_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str, linked: bool
) -> None:
    """A name is looked at, then opened: what is put there in between must not be taken for what was seen."""
    base, out = tmp_path / "root", tmp_path / "out"
    for folder in (base, out):
        folder.mkdir()
    for path in (base / "name", base / "other", out / "name"):
        if before == "folder":
            path.mkdir()
        else:
            path.write_bytes(SECRET if out in path.parents else b"public")
    (base / "swap").symlink_to(out / "name")
    (base / "link").symlink_to("name")
    really_stat, swapped = os.stat, []

    def stat_and_swap(path: bytes, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        seen = really_stat(path, dir_fd=dir_fd, follow_symlinks=follow_symlinks)
        if path == b"name" and not swapped:
            swapped.append(path)
            (base / "name").rename(base / "kept")
            (base / ("swap" if after == "link out" else "other")).rename(base / "name")
        return seen

    held = os.open(base, os.O_RDONLY)
    before = descriptors()
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", stat_and_swap)
        with pytest.raises(OSError) as caught:
            os.close(walk.walk(held, b"link" if linked else b"name", walk.Rules(), walk.plain_step)[0])
    assert swapped
    assert caught.value.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR)
    assert descriptors() == before
    os.close(held)


@pytest.mark.parametrize("target", ["file", "folder"])
def test_the_plain_way_never_follows_what_it_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    """The same file behind a link is not the name that was asked for: O_NOFOLLOW, or "none" could be led along one."""
    thing = tmp_path / "thing"
    if target == "folder":
        thing.mkdir()
    else:
        thing.write_bytes(b"public")
    (tmp_path / "name").symlink_to("thing")
    really_stat = os.stat

    def stat_behind_links(path: bytes, *, dir_fd: int | None = None, follow_symlinks: bool = True) -> os.stat_result:
        return really_stat(path, dir_fd=dir_fd)

    held = os.open(tmp_path, os.O_RDONLY)
    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", stat_behind_links)
        with pytest.raises(OSError) as caught:
            os.close(walk.walk(held, b"name", walk.Rules(links=0, contained=True), walk.plain_step)[0])
    assert caught.value.errno in (errno.ELOOP, errno.ENOTDIR)
    os.close(held)


relaxed = settings(deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@relaxed
@given(trees, st.lists(asked, min_size=1, max_size=8))
def test_all_ways_agree_with_the_kernel(tree: list[tuple[bytes, tuple[str, bytes]]], wanted: list[bytes]) -> None:
    with planted(tree) as top:
        base = os.path.join(top, b"root")
        for policy in ("inside", "none", "owner", "all"):
            for root in roots(base, policy):
                for relative in [*wanted, *(name for name, _ in tree)]:
                    expected = judged(base, relative)
                    if policy == "inside" and not is_inside(expected, base):
                        expected = None
                    if policy == "none" and goes_through_a_link(base, relative):
                        expected = None
                    if policy == "owner" and expected is not None and not is_inside(expected, top):
                        continue  # folders of the machine, whoever they belong to
                    assert got(root, relative) == expected, (policy, relative)
                root.close()


@relaxed
@given(trees, st.lists(requests, min_size=1, max_size=10))
def test_no_request_gets_out(tree: list[tuple[bytes, tuple[str, bytes]]], wanted: list[bytes]) -> None:
    with planted(tree) as top:
        base = os.path.join(top, b"root")
        for policy in ("inside", "none"):
            for root in roots(base, policy):
                for raw in wanted:
                    try:
                        relative = paths.normalize(paths.decode(raw))[1:]
                    except paths.PathError:
                        continue
                    real = got(root, relative)
                    assert real is None or is_inside(real, base)
                    # The same without the help of `paths`.
                    for unnormalized in (raw, raw[1:], raw.lstrip(b"/"), raw[1:].replace(b"%2e", b".")):
                        real = got(root, unnormalized)
                        assert real is None or is_inside(real, base)
                root.close()
