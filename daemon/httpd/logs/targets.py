"""Where log lines go, opened by the master.

Rules: a target is opened before privileges are dropped and handed to the workers as a descriptor, so an
unprivileged worker writes to a file that only root may create.  Files are opened for appending, so
`copytruncate` leaves no hole and workers can share one file.

Attack: whoever may write to the log's folder plants a symbolic or hard link, and a master that is root
appends to, say, /etc/passwd when it reopens the log (CVE-2016-1247 in packages of nginx).  In such a folder
no link is followed.
"""

from __future__ import annotations

import enum
import errno
import fcntl
import os
import stat
from dataclasses import dataclass
from pathlib import PurePath

from httpd.config import schema

# Reading the folder is not needed to open a file in it; macOS has no O_PATH and needs the permission.
_FOLDER_FLAGS = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
# O_NONBLOCK: a FIFO without a reader must not stop the master; cleared once the file is open.
_FILE_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
_FILE_MODE = 0o640


class Kind(enum.Enum):
    NONE = "none"
    DESCRIPTOR = "descriptor"
    SYSLOG = "syslog"
    JOURNAL = "journal"


@dataclass(slots=True, frozen=True)
class Target:
    """`fd` is owned by whoever holds the target; -1 for every kind but DESCRIPTOR."""

    spec: str
    kind: Kind
    fd: int = -1


_WITHOUT_FILE = {"": Kind.NONE, "syslog": Kind.SYSLOG, "journal": Kind.JOURNAL}


def open_target(spec: str, *, error: bool = False) -> Target:
    """Open what `log.access`, or with `error` what `log.error` names: a path, "-", "", "syslog" or "journal".

    Raises OSError with the path, or the name of the stream, in `filename`.
    """
    if spec in _WITHOUT_FILE:
        return Target(spec, _WITHOUT_FILE[spec])
    if spec == "-":
        return Target(spec, Kind.DESCRIPTOR, _copy_stream(2 if error else 1))
    return Target(spec, Kind.DESCRIPTOR, _open_file(spec))


def _copy_stream(fd: int) -> int:
    try:
        return os.dup(fd)
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, ("stdout", "stderr")[fd - 1]) from None


def _open_file(path: str) -> int:
    parts = PurePath(path)
    try:
        folder = os.open(parts.parent, _FOLDER_FLAGS)
        try:
            return _open_in(folder, parts.name, shared=_others_can_write(os.fstat(folder)))
        finally:
            os.close(folder)
    except OSError as problem:
        raise OSError(problem.errno, problem.strerror, path) from None


def _others_can_write(folder: os.stat_result) -> bool:
    owned = folder.st_uid in (0, os.geteuid())
    return not owned or bool(folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _open_in(folder: int, name: str, *, shared: bool) -> int:
    try:
        fd = os.open(name, _FILE_FLAGS | (os.O_NOFOLLOW if shared else 0), _FILE_MODE, dir_fd=folder)
    except OSError as problem:
        if problem.errno == errno.ELOOP and shared:
            raise OSError(errno.ELOOP, "a symbolic link in a folder that others can write to") from None
        if problem.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "a FIFO that nobody reads, or a socket") from None
        raise
    try:
        found = os.fstat(fd)
        if shared and stat.S_ISREG(found.st_mode) and found.st_nlink > 1:
            raise OSError(errno.EMLINK, "a file with several hard links in a folder that others can write to")
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_NONBLOCK)
    except OSError:
        os.close(fd)
        raise
    return fd


def log_names(config: schema.Config) -> list[str]:
    """Every access log that the configuration names, once."""
    names = [config.log.access]
    for vhost in config.vhosts:
        all_settings = (vhost.settings, *(mount.settings for mount in vhost.mounts))
        names += [settings.access_log for settings in all_settings if settings.access_log is not None]
    return list(dict.fromkeys(names))
