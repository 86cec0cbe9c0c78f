"""What a folder holds, as a client may see it.

Rules:

- Shown is only what can be asked for: regular files, folders, and symbolic links that the root would open.
  FIFOs, sockets, devices and links that lead nowhere or out stay hidden, and so does what vanishes while we
  look.
- Names are bytes: what is not UTF-8 is still a file.
- Names with a dot in front are hidden unless dotfiles are served; ".well-known" too, it is for programs
  that know it.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass

from httpd.content.files import Root


@dataclass(frozen=True, slots=True)
class ListEntry:
    """One line of a listing.  `size` is in bytes, 0 for folders; `mtime` in seconds since the epoch."""

    name: bytes
    is_dir: bool
    size: int
    mtime: float


def entries(fd: int, *, dotfiles: bool, root: Root, relative: bytes) -> list[ListEntry]:
    """The entries of the folder `fd`, folders first, then by name without regard to case.

    `relative` is the folder's path below `root`, for its symbolic links.  Raises PermissionError for a
    folder that may not be read; any other OSError is the server's trouble.
    """
    prefix = relative.rstrip(b"/") + b"/" if relative else b""
    found: list[ListEntry] = []
    try:
        with os.scandir(fd) as scan:
            for item in scan:
                name = os.fsencode(item.name)
                if name[:1] == b"." and not dotfiles:
                    continue
                seen = _look(item, root, prefix + name)
                if seen is None:
                    continue
                if stat.S_ISDIR(seen.st_mode):
                    found.append(ListEntry(name, True, 0, seen.st_mtime))
                elif stat.S_ISREG(seen.st_mode):
                    found.append(ListEntry(name, False, seen.st_size, seen.st_mtime))
    except OSError as error:
        if error.errno == errno.EBADF:  # `Opened`: a folder that may be searched but not read
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), relative) from None
        raise
    found.sort(key=lambda entry: (not entry.is_dir, entry.name.decode("utf-8", "replace").casefold(), entry.name))
    return found


def _look(item: os.DirEntry[str], root: Root, relative: bytes) -> os.stat_result | None:
    """The stat of an entry, of its target for a link; None for what can't be asked for."""
    try:
        if not item.is_symlink():
            return item.stat(follow_symlinks=False)
        opened = root.open(relative)
    except (FileNotFoundError, PermissionError):
        return None
    os.close(opened.fd)
    return opened.stat
