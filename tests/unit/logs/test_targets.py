"""httpd.logs.targets: what is opened, how, and which links are not followed."""

import errno
import fcntl
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.logs.targets import Kind, Target, open_target
from machine import descriptors

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give folders away")


@pytest.fixture
def opened() -> Iterator[list[int]]:
    """Descriptors to close."""
    fds: list[int] = []
    yield fds
    for fd in fds:
        os.close(fd)


@pytest.fixture
def own(tmp_path: Path) -> Path:
    tmp_path.chmod(0o755)
    return tmp_path


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    tmp_path.chmod(0o775)
    return tmp_path


def refused(path: Path) -> OSError:
    with pytest.raises(OSError, match=re.escape(str(path))) as caught:
        open_target(str(path))
    assert caught.value.filename == str(path)
    return caught.value


def test_file_is_opened_for_appending(own: Path, opened: list[int]) -> None:
    path = own / "access.log"
    path.write_bytes(b"old\n")
    target = open_target(str(path))
    opened.append(target.fd)
    assert (target.spec, target.kind) == (str(path), Kind.DESCRIPTOR)
    flags = fcntl.fcntl(target.fd, fcntl.F_GETFL)
    assert flags & os.O_APPEND and flags & os.O_ACCMODE == os.O_WRONLY and not flags & os.O_NONBLOCK
    assert not os.get_inheritable(target.fd)
    os.write(target.fd, b"new\n")
    assert path.read_bytes() == b"old\nnew\n"


def test_copytruncate_leaves_no_hole(own: Path, opened: list[int]) -> None:
    path = own / "access.log"
    fd = open_target(str(path)).fd
    opened.append(fd)
    os.write(fd, b"x" * 100)
    os.truncate(path, 0)
    os.write(fd, b"new\n")
    assert path.read_bytes() == b"new\n"


def test_new_file_is_not_for_everybody(own: Path, opened: list[int]) -> None:
    before = os.umask(0)
    try:
        opened.append(open_target(str(own / "new.log")).fd)
    finally:
        os.umask(before)
    assert stat.S_IMODE((own / "new.log").stat().st_mode) == 0o640


@pytest.mark.parametrize(("spec", "kind"), [("", Kind.NONE), ("syslog", Kind.SYSLOG), ("journal", Kind.JOURNAL)])
def test_without_a_file(spec: str, kind: Kind) -> None:
    assert open_target(spec) == Target(spec, kind, -1)


@pytest.mark.parametrize(("error", "stream"), [(False, 1), (True, 2)])
def test_dash_is_a_copy_of_the_stream(error: bool, stream: int, opened: list[int]) -> None:
    target = open_target("-", error=error)
    opened.append(target.fd)
    assert target.fd != stream
    assert os.path.sameopenfile(target.fd, stream)
    assert not os.get_inheritable(target.fd)


@pytest.mark.parametrize(("error", "stream", "name"), [(False, 1, "stdout"), (True, 2, "stderr")])
def test_closed_stream(error: bool, stream: int, name: str) -> None:
    kept = os.dup(stream)
    os.close(stream)
    try:
        with pytest.raises(OSError, match=name) as caught:
            open_target("-", error=error)
    finally:
        os.dup2(kept, stream)
        os.close(kept)
    assert (caught.value.errno, caught.value.filename) == (errno.EBADF, name)


def test_missing_folder(own: Path) -> None:
    assert refused(own / "none" / "access.log").errno == errno.ENOENT


def test_folder_instead_of_a_file(own: Path) -> None:
    assert refused(own).errno == errno.EISDIR


def test_file_instead_of_a_folder(own: Path) -> None:
    (own / "file").touch()
    assert refused(own / "file" / "access.log").errno == errno.ENOTDIR


def test_link_in_a_folder_that_others_can_write_to(shared: Path) -> None:
    (shared / "secret").write_bytes(b"")
    (shared / "access.log").symlink_to("secret")
    error = refused(shared / "access.log")
    assert error.errno == errno.ELOOP
    assert "others can write" in str(error)
    (shared / "dangling.log").symlink_to("new")
    assert refused(shared / "dangling.log").errno == errno.ELOOP
    assert not (shared / "new").exists()


def test_hard_link_in_a_folder_that_others_can_write_to(shared: Path, opened: list[int]) -> None:
    (shared / "secret").write_bytes(b"")
    os.link(shared / "secret", shared / "access.log")
    assert refused(shared / "access.log").errno == errno.EMLINK
    (shared / "secret").unlink()
    opened.append(open_target(str(shared / "access.log")).fd)


def test_links_in_a_safe_folder_are_followed(own: Path, opened: list[int]) -> None:
    (own / "access.log").symlink_to("real.log")
    fd = open_target(str(own / "access.log")).fd
    opened.append(fd)
    os.link(own / "real.log", own / "hard.log")
    opened.append(open_target(str(own / "hard.log")).fd)
    assert os.path.samestat(os.fstat(fd), (own / "real.log").stat())


@as_root
def test_link_in_a_folder_of_another_user(own: Path) -> None:
    (own / "secret").write_bytes(b"")
    (own / "access.log").symlink_to("secret")
    os.chown(own, 12345, -1)
    assert refused(own / "access.log").errno == errno.ELOOP


def test_fifo_without_a_reader_does_not_stop_the_master(own: Path) -> None:
    os.mkfifo(own / "pipe")
    error = refused(own / "pipe")
    assert error.errno == errno.ENXIO
    assert "nobody reads" in str(error)


def test_fifo_with_a_reader(own: Path, opened: list[int]) -> None:
    os.mkfifo(own / "pipe")
    reader = os.open(own / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    opened.append(reader)
    fd = open_target(str(own / "pipe")).fd
    opened.append(fd)
    assert not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_NONBLOCK
    os.write(fd, b"line\n")
    assert os.read(reader, 100) == b"line\n"


def test_a_refused_file_leaves_no_descriptor(shared: Path) -> None:
    before = descriptors()
    (shared / "a").touch()
    os.link(shared / "a", shared / "b")
    refused(shared / "b")
    refused(shared / "none" / "b")
    assert descriptors() == before
