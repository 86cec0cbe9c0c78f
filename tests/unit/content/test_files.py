"""httpd.content.files: tests/corpus/paths/tree.toml in three ways, and what else a Root promises."""

import errno
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from httpd.content import files, openat2
from machine import descriptors

MakeRoot = Callable[[bytes, str], files.Root]
Case = dict[str, str]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
as_user = pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")


def outcome(root: files.Root, relative: bytes) -> str:
    """What opening gives, in the words of the corpus; checks what holds for every descriptor."""
    try:
        opened = root.open(relative)
    except FileNotFoundError as error:
        assert error.filename == relative
        return "missing"
    except PermissionError:
        return "denied"
    try:
        assert os.path.samestat(os.fstat(opened.fd), opened.stat)
        assert not os.get_inheritable(opened.fd)
        if opened.kind == "directory":
            os.listdir(opened.fd)
            return "directory"
        assert stat.S_ISREG(opened.stat.st_mode)
        return "file:" + os.read(opened.fd, 100).decode("latin-1")
    finally:
        os.close(opened.fd)


@pytest.mark.parametrize("policy", ["inside", "none", "owner", "all"])
@pytest.mark.parametrize("name", [b"root", b"via"])
def test_corpus(tree: bytes, tree_cases: list[Case], make_root: MakeRoot, policy: str, name: bytes) -> None:
    root = make_root(os.path.join(tree, name), policy)
    wrong = []
    before = descriptors()
    for case in tree_cases:
        expected = case.get(policy, case["inside"])
        got = outcome(root, case["ask"].encode("latin-1"))
        if got != expected:
            wrong.append((case["ask"], got, expected))
    assert not wrong
    assert descriptors() == before
    root.close()
    assert descriptors() == before - 1


@pytest.mark.parametrize("policy", ["inside", "owner", "all"])
def test_as_many_links_as_the_kernel_follows(tmp_path: Path, make_root: MakeRoot, policy: str) -> None:
    (tmp_path / "link0").write_text("end")
    for number in range(1, 42):
        (tmp_path / f"link{number}").symlink_to(f"link{number - 1}")
    (tmp_path / "here").symlink_to(".")
    root = make_root(bytes(tmp_path), policy)
    assert outcome(root, b"link40") == "file:end"
    assert outcome(root, b"link41") == "missing"
    assert outcome(root, b"here/" * 40 + b"link0") == "file:end"
    assert outcome(root, b"here/" * 41 + b"link0") == "missing"


def test_long_names(tmp_path: Path, make_root: MakeRoot) -> None:
    (tmp_path / ("n" * 255)).write_text("long")
    root = make_root(bytes(tmp_path), "inside")
    assert outcome(root, b"n" * 255) == "file:long"
    assert outcome(root, b"n" * 256) == "missing"
    assert outcome(root, b"./" * 1920 + b"n" * 255) == "file:long"  # 4095 bytes
    assert outcome(root, b"./" * 1921 + b"n" * 255) == "missing"
    assert outcome(root, b"x" * 100_000) == "missing"


@as_user
@pytest.mark.parametrize("policy", ["inside", "none", "owner", "all"])
def test_no_permission(tmp_path: Path, make_root: MakeRoot, policy: str) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "file").chmod(0)
    for name, mode in (("shut", 0), ("searchable", 0o311), ("readable", 0o600)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x").write_text("x")
        (tmp_path / name).chmod(mode)
    root = make_root(bytes(tmp_path), policy)
    assert outcome(root, b"file") == "denied"
    assert outcome(root, b"shut/x") == "denied"
    assert outcome(root, b"readable/x") == "denied"
    assert outcome(root, b"searchable/x") == "file:x"
    if hasattr(os, "O_PATH"):
        opened = root.open(b"searchable")
        assert opened.kind == "directory"
        with pytest.raises(OSError) as caught:
            os.listdir(opened.fd)
        assert caught.value.errno == errno.EBADF
        os.close(opened.fd)
    for name in ("shut", "searchable", "readable"):
        (tmp_path / name).chmod(0o700)


@as_user
def test_no_permission_outside_is_not_found(tmp_path: Path, make_root: MakeRoot) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "shut").mkdir()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "shut" / "x")
    (tmp_path / "shut").chmod(0)
    assert outcome(make_root(bytes(tmp_path / "root"), "inside"), b"link") == "missing"
    assert outcome(make_root(bytes(tmp_path / "root"), "all"), b"link") == "denied"
    (tmp_path / "shut").chmod(0o700)


@as_root
def test_owner_is_looked_at_for_every_link(tmp_path: Path, make_root: MakeRoot) -> None:
    mine, other = 12001, 12002
    base, shared = tmp_path / "root", tmp_path / "shared"
    base.mkdir()
    shared.mkdir()

    def make(path: Path, owner: int, target: Path | str | None = None) -> None:
        if target is None:
            path.write_text(path.name)
        else:
            path.symlink_to(target)
        os.chown(path, owner, -1, follow_symlinks=False)

    make(shared / "mine", mine)
    make(shared / "other", other)
    make(base / "own", mine, shared / "mine")
    make(base / "foreign", mine, shared / "other")
    make(base / "stolen", other, shared / "mine")
    make(base / "chain", other, base / "own")  # the second link is right, the first is not
    make(base / "chain-middle", mine, base / "stolen")  # the first is right, the second is not
    make(base / "chain-own", mine, "own")
    make(base / "folder", mine, shared)  # a folder of root's
    make(base / "in-own", mine, "in-target")
    make(base / "in-foreign", other, "in-target")
    make(base / "in-target", mine)
    root = make_root(bytes(base), "owner")
    assert {name: outcome(root, name.encode()) for name in sorted(os.listdir(base))} == {
        "chain": "missing",
        "chain-middle": "missing",
        "chain-own": "file:mine",
        "folder": "missing",
        "foreign": "missing",
        "in-foreign": "missing",
        "in-own": "file:in-target",
        "in-target": "file:in-target",
        "own": "file:mine",
        "stolen": "missing",
    }
    assert outcome(root, b"folder/mine") == "missing"
    os.chown(base / "folder", 0, -1, follow_symlinks=False)
    assert outcome(root, b"folder/mine") == "file:mine"


@as_user
def test_owner_keeps_a_user_from_what_root_has(tmp_path: Path, make_root: MakeRoot) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "folder").symlink_to("/etc")
    root = make_root(bytes(tmp_path), "owner")
    assert outcome(root, b"link") == "missing"
    assert outcome(root, b"folder/passwd") == "missing"


def test_a_fifo_is_not_touched(tmp_path: Path, make_root: MakeRoot) -> None:
    """A reader, even for a moment, would let a writer's open succeed."""
    os.mkfifo(tmp_path / "fifo")
    for policy in ("inside", "none", "owner", "all"):
        assert outcome(make_root(bytes(tmp_path), policy), b"fifo") == "missing"
    tried = []

    def write() -> None:
        try:
            os.close(os.open(tmp_path / "fifo", os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            tried.append(error.errno)

    root = make_root(bytes(tmp_path), "inside")
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            assert outcome(root, b"fifo") == "missing"

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(2000):
        write()
    done.set()
    asking.join()
    assert tried == [errno.ENXIO] * 2000


def test_the_root_may_be_replaced(tmp_path: Path, make_root: MakeRoot) -> None:
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "page").write_text(release)
    current = tmp_path / "current"
    current.symlink_to("1")
    root = make_root(bytes(current), "inside")
    before = descriptors()
    known = os.stat(current / "page")
    assert outcome(root, b"page") == "file:1"

    (tmp_path / "next").symlink_to("2")
    (tmp_path / "next").rename(current)
    assert not root.leads_to(b"page", lambda found: found == known)
    assert outcome(root, b"page") == "file:2"

    current.unlink()
    assert outcome(root, b"page") == "missing"
    assert not root.leads_to(b"page", lambda found: found == known)
    current.write_text("not a folder")
    assert outcome(root, b"page") == "missing"
    current.unlink()
    current.mkdir()
    (current / "page").write_text("3")
    assert outcome(root, b"page") == "file:3"
    assert descriptors() == before


def test_a_replaced_root_is_held_by_those_who_use_it(tmp_path: Path, make_root: MakeRoot) -> None:
    """While some threads open, the root changes under them: each gets a file of one release."""
    for release in ("1", "2"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "page").write_text(release)
    (tmp_path / "current").symlink_to("1")
    root = make_root(bytes(tmp_path / "current"), "inside")
    before = descriptors()
    seen: set[str] = set()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            seen.add(outcome(root, b"page"))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(300):
        (tmp_path / "next").symlink_to("21"[turn % 2])
        (tmp_path / "next").rename(tmp_path / "current")
    done.set()
    for thread in threads:
        thread.join()
    assert seen <= {"file:1", "file:2"}
    assert descriptors() == before


@pytest.mark.parametrize("policy", ["inside", "none"])
def test_renaming_meanwhile_opens_no_way_out(tmp_path: Path, make_root: MakeRoot, policy: str) -> None:
    """A folder takes turns with a link that leads out; one that holds a link with ".." moves out and back."""
    base = tmp_path / "root"
    for folder in (base / "real", base / "x" / "y", tmp_path / "outside"):
        folder.mkdir(parents=True)
        (folder / "page").write_text("secret" if folder.name == "outside" else "page")
    (base / "x" / "page").write_text("page")
    (tmp_path / "page").write_text("secret")
    (base / "link").symlink_to(tmp_path / "outside")
    (base / "x" / "y" / "up").symlink_to("../page")
    (base / "turn").mkdir()
    (base / "turn" / "page").write_text("page")
    root = make_root(bytes(base), policy)
    seen: set[str] = set()
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            seen.update((outcome(root, b"turn/page"), outcome(root, b"x/y/up")))

    asking = threading.Thread(target=ask)
    asking.start()
    for _ in range(500):
        (base / "turn").rename(base / "away")
        (base / "link").rename(base / "turn")
        (base / "turn").rename(base / "link")
        (base / "away").rename(base / "turn")
        (base / "x" / "y").rename(tmp_path / "y")
        (tmp_path / "y").rename(base / "x" / "y")
    done.set()
    asking.join()
    assert seen <= {"file:page", "missing"}


def test_leads_to(tree: bytes, make_root: MakeRoot, tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text("text")
    (tmp_path / "link").symlink_to("page")
    (tmp_path / "fifo").symlink_to("/dev/null")
    root = make_root(bytes(tmp_path), "inside")
    known = page.stat()
    before = descriptors()

    def same(found: os.stat_result) -> bool:
        return found.st_ino == known.st_ino

    assert root.leads_to(b"page", same)
    assert root.leads_to(b"link", same)
    above = b"../" + os.path.basename(bytes(tmp_path)) + b"/page"
    for wrong in (b"nothing", b"fifo", b"", above, bytes(page), b"page\0"):
        assert not root.leads_to(wrong, same)
    page.rename(tmp_path / "moved")
    page.symlink_to("/etc/passwd")
    assert not root.leads_to(b"page", lambda found: True), "what lies outside is not even looked at"
    assert root.leads_to(b"moved", same)
    assert descriptors() == before


@pytest.mark.parametrize("policy", ["inside", "none", "owner"])
def test_leads_to_is_contained_as_well(tree: bytes, tree_cases: list[Case], make_root: MakeRoot, policy: str) -> None:
    secret = os.stat(os.path.join(tree, b"outside/secret"))
    root = make_root(os.path.join(tree, b"root"), policy)
    for case in tree_cases:
        if root.leads_to(case["ask"].encode("latin-1"), lambda found: found.st_ino == secret.st_ino):
            assert case.get(policy) == "file:secret"


def test_a_root_that_is_no_folder(tmp_path: Path, make_root: MakeRoot) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        make_root(bytes(tmp_path / "file"), "inside")
    with pytest.raises(FileNotFoundError):
        make_root(bytes(tmp_path / "nothing"), "inside")


def test_a_relative_root_does_not_follow_chdir(
    tmp_path: Path, make_root: MakeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page").write_text("text")
    monkeypatch.chdir(tmp_path)
    root = make_root(b".", "inside")
    monkeypatch.chdir("/")
    assert outcome(root, b"page") == "file:text"


def test_a_closed_root_opens_nothing(tmp_path: Path, make_root: MakeRoot) -> None:
    root = make_root(bytes(tmp_path), "inside")
    root.close()
    root.close()
    with pytest.raises(ValueError, match="closed"):
        root.open(b"")


def test_trouble_of_the_server_is_not_a_missing_file(
    tmp_path: Path, make_root: MakeRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "page").write_text("text")
    root = make_root(bytes(tmp_path), "inside")

    def no_more(*_: Any, **__: Any) -> int:
        raise OSError(errno.EMFILE, "too many")

    monkeypatch.setattr(os, "open", no_more)
    monkeypatch.setattr(os, "dup", no_more)
    monkeypatch.setattr(openat2, "call", lambda *_: -errno.EMFILE)
    with pytest.raises(OSError) as caught:
        root.open(b"page")
    assert caught.value.errno == errno.EMFILE


def test_without_proc_from_now_on(tree: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    if not files.has_descriptor_paths():
        pytest.skip("has no /proc anyway")
    root = files.Root(os.path.join(tree, b"root"), "inside")
    really_open = os.open

    def no_proc(path: bytes, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path.startswith(b"/proc/"):
            raise FileNotFoundError(errno.ENOENT, "no /proc", path)
        return really_open(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", no_proc)
    assert outcome(root, b"index.html") == "missing"  # /proc is there, so the file is what is missing
    monkeypatch.setattr(files, "has_descriptor_paths", lambda: False)
    before = descriptors()
    assert outcome(root, b"index.html") == "file:root/index.html"
    assert outcome(root, b"abs-in") == "file:root/d/a.txt"
    assert outcome(root, b"out") == "missing"
    assert descriptors() == before


# Forbids openat2 for itself by a seccomp filter, after the Root was made, and asks again.
SANDBOXED = """
import ctypes, errno, os, struct, sys
from httpd.content import files, openat2
path, code = os.fsencode(sys.argv[1]), int(sys.argv[2])
root = files.Root(path, "inside")
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
program = b"".join(struct.pack("HBBI", *line) for line in [
    (LOAD, 0, 0, 0), (EQUAL, 0, 1, 437), (RETURN, 0, 0, 0x00050000 | code), (RETURN, 0, 0, 0x7FFF0000)])
held = ctypes.create_string_buffer(program)
fprog = struct.pack("HxxxxxxP", 4, ctypes.addressof(held))
prctl = ctypes.CDLL(None, use_errno=True).prctl
if prctl(38, 1, 0, 0, 0) or prctl(22, 2, ctypes.c_char_p(fprog), 0, 0):
    sys.exit("seccomp: " + os.strerror(ctypes.get_errno()))
assert not openat2.supported()
for again in range(2):
    opened = root.open(b"d/a.txt")
    assert os.read(opened.fd, 99) == b"root/d/a.txt"
    assert root.leads_to(b"d/a.txt", lambda found: found.st_ino == opened.stat.st_ino)
    for name in (b"out", b"abs-out", b"fifo", b"nothing"):
        try:
            root.open(name)
        except FileNotFoundError:
            continue
        sys.exit(f"{name} was opened")
late = files.Root(path, "none")
assert late.open(b"index.html").kind == "file"
print("contained")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="seccomp is Linux")
@pytest.mark.parametrize("code", [errno.ENOSYS, errno.EPERM])
def test_under_a_seccomp_filter_that_knows_no_openat2(tree: bytes, code: int) -> None:
    if not openat2.supported():
        pytest.skip("has no openat2 anyway")
    done = subprocess.run(
        [sys.executable, "-c", SANDBOXED, os.path.join(tree, b"root"), str(code)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    if "seccomp: " in done.stderr:
        pytest.skip(done.stderr.strip())
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "contained", "")
