"""What keeps this process from a folder or a file, said so that an administrator can put it right.

The question is answered by trying, never by reading mode bits: access lists, read-only mounts and security
modules count too.  Only when the attempt fails is the path walked, to name the first component that is
missing or closed; symbolic links are followed on the way, so that it is the real folder that is named.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat

_MAX_LINKS = 40  # as the kernel


def folder_obstacle(path: str, who: str, *, listing: bool = False) -> tuple[str, str]:
    """Why `path` can't be served as a folder: (message, hint), ("", "") when it can.

    who: the name of the user that this process is; listing: whether it has to be readable, not only
    searchable.
    """
    try:
        if not stat.S_ISDIR(os.stat(path).st_mode):
            return f"{path!r} is not a folder", ""
        os.stat(os.path.join(path, "."))
        if listing:
            os.scandir(path).close()
    except OSError as error:
        return explain(path, who, error)
    return "", ""


def file_obstacle(path: str, who: str) -> tuple[str, str]:
    """Why `path` can't be read as a regular file: (message, hint), ("", "") when it can."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        return explain(path, who, error)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return f"{path!r} is not a regular file", ""
    finally:
        os.close(descriptor)
    return "", ""


def program_obstacle(path: str, who: str) -> tuple[str, str]:
    """Why `path` can't be executed: (message, hint), ("", "") when it can."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return f"{path!r} is not a regular file", ""
    except OSError as error:
        return explain(path, who, error)
    if not os.access(path, os.X_OK):
        return f"user {who!r} may not execute {path!r} ({_rights(path)})", f"chmod +x {path}"
    return "", ""


def not_trusted(path: str, *, switched: bool) -> tuple[str, str]:
    """Why nothing in the folder `path`, or the script of that name, would be run by this process: (message, hint).

    `switched`: it became another user for scripts, see `cgi.checks`.
    """
    try:
        found = os.stat(path)
    except OSError:
        return "", ""
    mode = found.st_mode
    if mode & stat.S_IWOTH:
        return f"everybody may write to {path!r}, so no script would be run", f"chmod o-w {path}"
    if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID):
        return f"{path!r} is setuid or setgid, so it would not be run", f"chmod ug-s {path}, and say `user`"
    if switched and mode & stat.S_IWGRP:
        return f"the group of {path!r} may write to it, so no script would be run", f"chmod g-w {path}"
    if switched and found.st_uid not in (0, os.geteuid()):
        whose = f"{path!r} belongs to uid {found.st_uid}, neither to root nor to uid {os.geteuid()}"
        return f"{whose}, so no script would be run", f"chown root {path}, or say `user`"
    return "", ""


def explain(path: str, who: str, error: OSError) -> tuple[str, str]:
    """Message and hint for an `error` about an absolute path, naming the first component in the way."""
    try:
        real = _walk(path)
    except FileNotFoundError as missing:
        detail = "" if missing.filename == path else f": there is no {missing.filename!r}"
        return f"{path!r} does not exist{detail}", ""
    except NotADirectoryError as inner:
        return f"{path!r} does not exist: {inner.filename!r} is not a folder", ""
    except PermissionError as closed:
        where = str(closed.filename)
        return (
            f"user {who!r} may not enter {where!r} ({_rights(where)}), on the way to {path!r}",
            f"chmod o+x {where}, or let the user in by its group",
        )
    except OSError:
        return f"{path!r} can't be opened: {error.strerror}", ""
    if not isinstance(error, PermissionError):
        return f"{path!r} can't be opened: {error.strerror}", ""
    if os.path.isdir(real):
        verb, right = ("enter", "x") if not _can_enter(real) else ("list", "r")
        return f"user {who!r} may not {verb} {real!r} ({_rights(real)})", f"chmod o+{right} {real}"
    return f"user {who!r} may not read {real!r} ({_rights(real)})", f"chmod o+r {real}"


def _walk(path: str) -> str:
    """The real path of `path`.  OSError with the component at fault as its filename."""
    current = "/"
    pending = path.split("/")[::-1]
    links = 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            current = os.path.dirname(current)
            continue
        step = os.path.join(current, part)
        try:
            mode = os.lstat(step).st_mode
        except PermissionError:
            raise PermissionError(0, "closed", current) from None
        except NotADirectoryError:
            raise NotADirectoryError(0, "no folder", current) from None
        if not stat.S_ISLNK(mode):
            current = step
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError(0, "too many symbolic links", step)
        target = os.readlink(step)
        current = "/" if target.startswith("/") else current
        pending += target.split("/")[::-1]
    return current


def _can_enter(folder: str) -> bool:
    try:
        os.stat(os.path.join(folder, "."))
    except PermissionError:
        return False
    return True


def _rights(path: str) -> str:
    """Mode and owner as `ls -l` writes them."""
    try:
        info = os.stat(path)
    except OSError:
        return "its owner is unknown"
    try:
        user = pwd.getpwuid(info.st_uid).pw_name
    except KeyError:
        user = str(info.st_uid)
    try:
        group = grp.getgrgid(info.st_gid).gr_name
    except KeyError:
        group = str(info.st_gid)
    return f"{stat.filemode(info.st_mode)} {user} {group}"
