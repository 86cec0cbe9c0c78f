"""Users, groups and Linux capabilities: who the processes are, and how they stop being root for good.

The rules:

- A worker never keeps a way back: groups, gid and uid are set in this order (later it would be forbidden),
  the capability sets are emptied, and the result is read back from the kernel before anything is served.
- Neither uid 0 nor gid 0 is ever a target: what root's group may read is not meant for a server's workers.
- The master stays uid 0 for life (a later reload may need a low port, a key or a CGI user), with the
  capabilities of `KEPT` and no others, in its bounding set too: a program it executes can't have more.
- Linux clears the parent-death signal with the uid: who wants one sets it after `drop`.

Sources: credentials(7), capabilities(7), prctl(2).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import grp
import os
import pwd
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

DEFAULT_USERS = ("httpd", "www-data", "http")

# Capability numbers of linux/capability.h that the root master keeps, and what for.
KEPT = {
    "CAP_CHOWN": 0,  # the control socket and the log files go to other users and groups
    "CAP_DAC_OVERRIDE": 1,  # log folders and keys of others; implies the reading of DAC_READ_SEARCH
    "CAP_FOWNER": 3,  # modes of log files that others own; stale sockets in sticky folders
    "CAP_KILL": 5,  # signals to workers and scripts, which are other users
    "CAP_SETGID": 6,  # workers and scripts get their groups
    "CAP_SETUID": 7,  # ... and their user
    "CAP_SETPCAP": 8,  # children cut their bounding set further
    "CAP_NET_BIND_SERVICE": 10,  # a reload may ask for port 80
    "CAP_SYS_RESOURCE": 24,  # hard limits: RLIMIT_NOFILE of workers, the rlimits of scripts
}
# Left out on purpose: DAC_READ_SEARCH opens any file by handle, past every mount namespace; SYS_PTRACE takes
# over any process.

_PR_CAPBSET_READ, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 23, 24, 38
_CAPABILITY_VERSION_3 = 0x20080522
_MAX_ID = 2**32 - 2  # 2**32 - 1 is (uid_t)-1: "leave as it is" to setresuid


class PrivilegeError(Exception):
    """A user that can't be used, or privileges that could not be given up."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a process is to become.  `groups` are all its groups, `gid` included."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def identity(user: str, group: str = "") -> Identity:
    """The identity of `user` with `group` (names or decimal ids) as its main group; "" means the user's own.

    A uid without an account has no group of its own and no other groups, so `group` must be named for it.
    Raises PrivilegeError for unknown names and for root.
    """
    account = _account(user)
    gid = _group_id(group) if group else None
    if account is not None:
        gid = account.pw_gid if gid is None else gid
        groups = {gid, *os.getgrouplist(account.pw_name, gid)}
        found = Identity(account.pw_name, account.pw_uid, gid, tuple(sorted(groups)))
    else:
        uid = _number(user)
        if uid is None:
            raise PrivilegeError(f"there is no user {user!r}")
        if gid is None:
            raise PrivilegeError(f"user {user!r} has no account, so its group must be named")
        found = Identity(user, uid, gid, (gid,))
    _refuse_root(found)
    return found


def script_identity(user: str, group: str = "") -> Identity:
    """Whom scripts run as: `user` with all its groups, or, where none is named, nobody with nobody's group alone.

    Raises PrivilegeError.
    """
    if user:
        return identity(user, group)
    found = _nobody()
    if group:
        gid = _group_id(group)
        found = Identity(found.user, found.uid, gid, (gid,))
    _refuse_root(found)
    return found


def default_user() -> str:
    """The account of workers when none is configured: the first of `DEFAULT_USERS` that exists.

    Raises PrivilegeError if there is none.
    """
    for name in DEFAULT_USERS:
        if _account(name) is not None:
            return name
    raise PrivilegeError(f"none of the users {', '.join(DEFAULT_USERS)} exists: name one with server.user")


def owner_identity(path: str | Path) -> Identity:
    """Who serves the folder `path` when root starts `httpd FOLDER`: its owner, or nobody if that is root.

    An owner without an account gets the folder's group, or nobody's group if that is root's.  Raises
    PrivilegeError, OSError.
    """
    status = Path(path).stat()
    if status.st_uid == 0:
        return _nobody()
    account = _account(str(status.st_uid))
    if account is not None:
        return identity(account.pw_name)
    gid = status.st_gid or _nobody().gid
    return Identity(str(status.st_uid), status.st_uid, gid, (gid,))


def drop(identity: Identity, *, no_new_privs: bool = True) -> None:
    """Become `identity` for good, from root.

    Raises PrivilegeError; the process may then be half of each and must exit.

    `no_new_privs` also forbids to gain rights by executing setuid programs (PR_SET_NO_NEW_PRIVS); scripts may
    need them. The umask keeps what it forbids and forbids writing by group and others.
    """
    _refuse_root(identity)
    steps: list[tuple[str, Callable[[], object]]] = [
        ("setgroups", lambda: os.setgroups(identity.groups[: os.sysconf("SC_NGROUPS_MAX")])),
        ("setresgid", lambda: _set_gid(identity.gid)),
        ("setresuid", lambda: _set_uid(identity.uid)),
        ("umask", lambda: os.umask(os.umask(0o077) | 0o022)),
    ]
    if sys.platform == "linux":
        # The kernel empties them with the uid, unless a securebit that the starter left behind says
        # otherwise.
        steps.append(("capset", lambda: _set_capabilities(0)))
        if no_new_privs:
            steps.append(("prctl(PR_SET_NO_NEW_PRIVS)", lambda: prctl(_PR_SET_NO_NEW_PRIVS, 1)))
    left: list[str] = []
    steps.append(("verify", lambda: left.extend(_left_over(identity))))
    for name, step in steps:
        try:
            step()
        except OSError as error:
            raise PrivilegeError(f"can't become user {identity.user!r}: {name}: {error.strerror}") from error
    if left:
        raise PrivilegeError(f"can't become user {identity.user!r}: {', '.join(left)}")


def cut_bounding_set() -> bool:
    """Reduce a root process and all it will execute to the capabilities of `KEPT`.

    For the master, before the first fork.

    False where nothing is cut: not Linux, not root; or where only this process' own sets could be (no
    CAP_SETPCAP, as in some containers).  Raises PrivilegeError.
    """
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    keep = sum(1 << number for number in KEPT.values())
    try:
        effective, permitted, _ = _capabilities()
        may_cut = bool(effective >> KEPT["CAP_SETPCAP"] & 1)
        if may_cut:
            for number in _bounding_set():
                if not keep >> number & 1:
                    prctl(_PR_CAPBSET_DROP, number)
        _set_capabilities(permitted & keep)
    except OSError as error:
        raise PrivilegeError(f"can't reduce the capabilities: {error.filename}: {error.strerror}") from error
    return may_cut


def _number(text: str) -> int | None:
    """A decimal id, or None; ten digits are enough for any."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 10 else None


def _account(user: str) -> pwd.struct_passwd | None:
    """The account of a name, or of a decimal uid that is no name."""
    with contextlib.suppress(KeyError, ValueError):  # ValueError: a NUL or a lone surrogate in the name
        return pwd.getpwnam(user)
    uid = _number(user)
    with contextlib.suppress(KeyError):
        return None if uid is None else pwd.getpwuid(uid)
    return None


def _group_id(group: str) -> int:
    with contextlib.suppress(KeyError, ValueError):
        return grp.getgrnam(group).gr_gid
    gid = _number(group)
    if gid is None:
        raise PrivilegeError(f"there is no group {group!r}")
    return gid


def _nobody() -> Identity:
    account = _account("nobody")
    if account is None:
        raise PrivilegeError("there is no user 'nobody'")
    return Identity(account.pw_name, account.pw_uid, account.pw_gid, (account.pw_gid,))


def _refuse_root(identity: Identity) -> None:
    if identity.uid == 0:
        raise PrivilegeError(f"user {identity.user!r} is root (uid 0)")
    if 0 in (identity.gid, *identity.groups):
        raise PrivilegeError(f"user {identity.user!r} would be in root's group (gid 0)")
    if max(identity.uid, identity.gid, *identity.groups) > _MAX_ID:
        raise PrivilegeError(f"user {identity.user!r}: an id above {_MAX_ID}")


def _set_gid(gid: int) -> None:
    if hasattr(os, "setresgid"):
        os.setresgid(gid, gid, gid)
    else:  # macOS; as root this sets all three
        os.setgid(gid)


def _set_uid(uid: int) -> None:
    if hasattr(os, "setresuid"):
        os.setresuid(uid, uid, uid)
    else:
        os.setuid(uid)


def _left_over(identity: Identity) -> list[str]:
    """What differs from `identity`, as texts; nothing when the drop is complete."""
    left = []
    uids, gids = {os.getuid(), os.geteuid()}, {os.getgid(), os.getegid()}
    if hasattr(os, "getresuid") and hasattr(os, "getresgid"):
        uids.update(os.getresuid())
        gids.update(os.getresgid())
    if uids != {identity.uid}:
        left.append(f"the uids are {sorted(uids)}")
    if gids != {identity.gid}:
        left.append(f"the gids are {sorted(gids)}")
    strange = set(os.getgroups()) - {identity.gid, *identity.groups}
    if strange:
        left.append(f"still in the groups {sorted(strange)}")
    if sys.platform == "linux" and any(_capabilities()):
        left.append("capabilities are left")
    try:
        os.setuid(0)
    except OSError:
        return left
    return [*left, "setuid(0) still works"]


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> int:
    """A libc function that answers -1 and errno.  Raises OSError with `name` as its filename."""
    result = int(getattr(_libc(), name)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), name)
    return result


def prctl(option: int, argument: int) -> int:
    """prctl(2) with one argument.  Raises OSError."""
    zero = ctypes.c_ulong(0)
    return _call("prctl", option, ctypes.c_ulong(argument), zero, zero, zero)


def _bounding_set() -> list[int]:
    """Numbers of the capabilities in the bounding set."""
    found = []
    for number in range(64):
        try:
            if prctl(_PR_CAPBSET_READ, number):
                found.append(number)
        except OSError:  # EINVAL: the kernel knows no capability of this number
            break
    return found


def _capabilities() -> tuple[int, int, int]:
    """The effective, permitted and inheritable sets of this process, as bit masks (capget(2))."""
    header, words = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)()
    _call("capget", header, words)
    low, high = list(words[:3]), list(words[3:])
    effective, permitted, inheritable = (a | b << 32 for a, b in zip(low, high, strict=True))
    return effective, permitted, inheritable


def _set_capabilities(mask: int) -> None:
    """Set the effective and permitted sets to `mask`, the inheritable and ambient to none (capset(2))."""
    low, high = mask & 0xFFFFFFFF, mask >> 32
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0))
