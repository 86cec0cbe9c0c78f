"""Opening files below a root folder, and nowhere else: containment.

Rules:

- The kernel decides where it can (openat2, RESOLVE_BENEATH).  What it can't decide (links that leave the
  root on their way, owners) and kernels without the call are left to `walk`.  Both give the same answers.
- Only regular files are opened for reading, and folders for listing.  Opening a FIFO, a socket or a device
  would hang, or do something; so a path is first resolved without opening (O_PATH), looked at, and then
  opened by its descriptor, which can't become another file in between (TOCTOU).
- The root is a path, not a folder: when a deploy puts another folder there (a link from `current` to
  `release-42`), the next request sees it.  A root that is gone is "not found" until its path is back.
- Every reason why there is nothing to serve is FileNotFoundError, every lack of permission
  PermissionError.  Any other OSError (EMFILE, EIO, ...) is trouble of the server and comes through as it
  is.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from httpd.content import openat2
from httpd.content.walk import HOLD_FOLDER, READ_FILE, READ_FOLDER, Rules, path_step, plain_step, walk

_PATH_MAX = 4096  # the kernel's limit, its NUL included; the walk has the same, so that both agree
_ABSENT = frozenset(
    {
        errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP, errno.EXDEV,
        errno.EINVAL, errno.EILSEQ,  # names that this file system can't hold
    }
)  # fmt: skip
_DENIED = frozenset({errno.EACCES, errno.EPERM})


@dataclass(frozen=True, slots=True)
class _Policy:
    """One value of the setting `symlinks`: RESOLVE_* flags, answers that are not final, rules of the walk.

    EAGAIN: the kernel saw a rename while a ".." of a link was resolved, and can't vouch for the result.
    """

    resolve: int
    undecided: frozenset[int]
    rules: Rules


_POLICIES = {
    "inside": _Policy(
        openat2.BENEATH | openat2.NO_MAGICLINKS, frozenset({errno.EXDEV, errno.EAGAIN}), Rules(contained=True)
    ),
    "owner": _Policy(openat2.BENEATH | openat2.NO_SYMLINKS, frozenset({errno.ELOOP}), Rules(same_owner=True)),
    "all": _Policy(0, frozenset(), Rules()),
    "none": _Policy(openat2.BENEATH | openat2.NO_SYMLINKS, frozenset(), Rules(links=0, contained=True)),
}


@dataclass(slots=True)
class Opened:
    """A file or folder of a root; the receiver closes `fd`.

    A "file" is a regular file, open for reading.  A "directory" is open for `os.scandir` and as `dir_fd`;
    one that may be searched but not read (mode 0711) is only good as `dir_fd`: scandir says EBADF.
    """

    fd: int
    stat: os.stat_result
    kind: Literal["file", "directory"]


class _Folder:
    """A root folder as it was found.  Whoever opens below it holds a reference: no thread sees it closed."""

    __slots__ = ("device", "fd", "inode")

    def __init__(self, path: bytes) -> None:
        self.fd = os.open(path, HOLD_FOLDER)
        found = os.fstat(self.fd)
        self.device, self.inode = found.st_dev, found.st_ino

    def __del__(self) -> None:
        if hasattr(self, "fd"):
            os.close(self.fd)


class Root:
    """A folder to serve from, and the setting `symlinks`: "inside", "owner", "all" or "none".

    Safe to use from several threads.  Raises OSError if `path` is not a folder that can be entered.
    """

    def __init__(self, path: bytes, symlinks: str) -> None:
        self.path = path if path.startswith(b"/") else os.path.join(os.getcwdb(), path)
        self._policy = _POLICIES[symlinks]
        self._lookup = openat2.OpenHow(getattr(os, "O_PATH", 0) | os.O_CLOEXEC, self._policy.resolve)
        self._by_descriptor = has_descriptor_paths()
        self._by_kernel = self._by_descriptor and openat2.supported()
        self._folder: _Folder | None = _Folder(self.path)

    def open(self, relative: bytes) -> Opened:
        """Open what `relative` names: b"" for the root itself, else a path without a slash in front.

        A file that is asked for with a slash at the end is not found.  Raises FileNotFoundError and
        PermissionError, and any other OSError for what is no fault of the path.
        """
        try:
            if not _relative(relative):
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), relative)
            folder = self._current()
            fd, found = self._resolve(folder, relative)
            if stat.S_ISDIR(found.st_mode):
                return Opened(_listable(fd), found, "directory")
            if self._by_descriptor:
                try:
                    fd = _readable(fd)
                except FileNotFoundError:
                    if has_descriptor_paths():
                        raise
                    self._by_descriptor = self._by_kernel = False  # for good: /proc was there, a sandbox took it
                    return self.open(relative)
            return Opened(fd, found, "file")
        except OSError as error:
            raise _failure(error, relative) from None

    def look(self, relative: bytes) -> os.stat_result:
        """What `relative` names, a regular file or a folder; raises as `open` does.  Nothing is opened for reading."""
        try:
            if not _relative(relative):
                raise OSError(errno.ENOENT, os.strerror(errno.ENOENT), relative)
            fd, found = self._resolve(self._current(), relative)
        except OSError as error:
            raise _failure(error, relative) from None
        os.close(fd)
        return found

    def leads_to(self, relative: bytes, same: Callable[[os.stat_result], bool]) -> bool:
        """Whether `relative` leads, inside the root, to a file or folder that `same` knows.  Nothing is opened."""
        if not _relative(relative):
            return False
        try:
            fd, found = self._resolve(self._current(), relative)
        except OSError:
            return False
        os.close(fd)
        return same(found)

    def close(self) -> None:
        """Let go of the folder.  Files that were opened stay open; opening more is an error."""
        self._folder = None

    def _current(self) -> _Folder:
        """The folder that the root's path names now."""
        folder = self._folder
        if folder is None:
            raise ValueError("the root is closed")
        now = os.stat(self.path)
        if now.st_ino != folder.inode or now.st_dev != folder.device:
            folder = self._folder = _Folder(self.path)
        return folder

    def _resolve(self, folder: _Folder, relative: bytes) -> tuple[int, os.stat_result]:
        """A descriptor for a regular file or a folder, as `walk` gives it, and its stat."""
        if self._by_kernel:
            fd = openat2.call(folder.fd, relative or b".", self._lookup)
            if fd >= 0:
                return fd, _regular_or_folder(fd)
            if -fd in openat2.UNSUPPORTED and not openat2.supported():
                self._by_kernel = False  # for good: a sandbox is never lifted
            elif -fd not in self._policy.undecided:
                raise OSError(-fd, os.strerror(-fd))
        step = path_step if self._by_descriptor else plain_step
        return walk(folder.fd, relative, self._policy.rules, step)


def has_descriptor_paths() -> bool:
    """Whether a file can be held by O_PATH and opened by its descriptor (Linux with /proc)."""
    return hasattr(os, "O_PATH") and os.path.isdir(b"/proc/self/fd")


def _relative(path: bytes) -> bool:
    """Whether a root may be asked for `path`.  NUL would cut it short on its way into the kernel."""
    return not (
        b"\0" in path
        or path[:1] == b"/"
        or (b".." in path and b".." in path.split(b"/"))
        or len(path) >= _PATH_MAX
    )  # fmt: skip


def _regular_or_folder(fd: int) -> os.stat_result:
    try:
        found = os.fstat(fd)
        if stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode):
            return found
        raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
    except BaseException:
        os.close(fd)
        raise


def _readable(fd: int) -> int:
    """Turn the O_PATH descriptor of a regular file into one for reading."""
    try:
        return os.open(b"/proc/self/fd/%d" % fd, READ_FILE)
    finally:
        os.close(fd)


def _listable(fd: int) -> int:
    """A descriptor of the same folder that can be listed; `fd` itself if that is not permitted."""
    try:
        listable = os.open(b".", READ_FOLDER, dir_fd=fd)
    except PermissionError:
        return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return listable


def _failure(error: OSError, relative: bytes) -> OSError:
    """The error that callers see: its class follows from the errno, its name is what was asked for."""
    code = error.errno or errno.EIO
    if code in _ABSENT:
        code = errno.ENOENT
    elif code in _DENIED:
        code = errno.EACCES
    return OSError(code, os.strerror(code), relative)
