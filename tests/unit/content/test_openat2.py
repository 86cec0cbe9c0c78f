"""httpd.content.openat2: descriptors and errno numbers, never an exception."""

import ctypes
import errno
import os
from pathlib import Path

import pytest

from httpd.content import openat2

pytestmark = pytest.mark.skipif(not openat2.supported(), reason="this kernel or its sandbox has no openat2")


@pytest.mark.parametrize(
    ("path", "resolve", "answer"),
    [
        (b"page", openat2.BENEATH, 0),
        (b"link", openat2.BENEATH, 0),
        (b"nothing", openat2.BENEATH, -errno.ENOENT),
        (b"page/x", openat2.BENEATH, -errno.ENOTDIR),
        (b"..", openat2.BENEATH, -errno.EXDEV),
        (b"/", openat2.BENEATH, -errno.EXDEV),
        (b"link", openat2.BENEATH | openat2.NO_SYMLINKS, -errno.ELOOP),
        (b"..", 0, 0),
    ],
)
def test_call(tmp_path: Path, path: bytes, resolve: int, answer: int) -> None:
    (tmp_path / "page").write_text("text")
    (tmp_path / "link").symlink_to("page")
    folder = os.open(tmp_path, os.O_RDONLY)
    fd = openat2.call(folder, path, openat2.OpenHow(os.O_RDONLY | os.O_CLOEXEC, resolve))
    os.close(folder)
    assert min(fd, 0) == answer
    if fd >= 0:
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_magic_links_are_not_followed() -> None:
    folder = os.open("/proc/self", os.O_RDONLY)
    how = openat2.OpenHow(os.O_RDONLY | os.O_CLOEXEC, openat2.NO_MAGICLINKS)
    assert openat2.call(folder, b"cwd", how) == -errno.ELOOP
    os.close(folder)


def test_an_interrupted_call_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(-1, errno.EINTR), (-1, errno.EINTR), (-1, errno.ENOENT)]

    def interrupted(*_: object) -> int:
        result, code = answers.pop(0)
        ctypes.set_errno(code)
        return result

    monkeypatch.setattr(openat2, "_syscall", interrupted)
    assert openat2.call(0, b"x", openat2.OpenHow(0, 0)) == -errno.ENOENT
    assert not answers
