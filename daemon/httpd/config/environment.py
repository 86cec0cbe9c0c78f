"""A checked configuration against this machine: users, groups, addresses, logs, limits, folders, files.

Two views of the same machine:
- `check_machine` asks what the master needs, with the identity of the master;
- `check_environment` asks what the workers need.  It runs in a child that already has their identity, so
  that it tries what they will try.

Nothing is created, opened for writing or changed here, and no name is looked up on the network.
"""

from __future__ import annotations

import grp
import os
import pwd
import resource
import socket
import stat
import sys
from collections.abc import Collection, Iterator

from httpd.config import schema
from httpd.config.build import DEFAULT_ACCESS_LOG
from httpd.config.errors import ConfigError
from httpd.config.load import Loaded
from httpd.config.reach import file_obstacle, folder_obstacle, not_trusted, program_obstacle

# What a worker has open besides connections: listeners, pipes, logs, the epoll descriptor, files being sent.
RESERVED_DESCRIPTORS = 64
_LOG_WORDS = ("", "-", "syslog", "journal")


def check_environment(loaded: Loaded, *, who: str) -> list[ConfigError]:
    """Whether this process reaches every folder and file that is served.  who: its user's name."""
    found = _Findings(loaded)
    if loaded.config.script is not None:
        found.add("SCRIPT", *file_obstacle(loaded.config.script.path, who))
    for vhost in loaded.config.vhosts:
        for mount in vhost.mounts:
            if isinstance(mount, schema.Directory):
                obstacle = folder_obstacle(mount.root, who, listing=mount.settings.listing)
                found.add(_root_key(loaded, mount), *obstacle)
            if isinstance(mount, schema.Cgi) and _has_folder(mount):
                found.add(f"{mount.key}.root", *folder_obstacle(mount.root, who))
            if isinstance(mount, schema.Directory | schema.Handler):
                for index, entry in enumerate(mount.pythonpath):
                    check = file_obstacle if os.path.isfile(entry) else folder_obstacle  # a zip archive, or a folder
                    found.add(f"{mount.key}.pythonpath[{index}]", *check(entry, who))
        for owner, settings in _owners(vhost):
            for status, path in settings.error_pages.items():
                key, file = _origin(loaded, vhost, owner, f"error_pages.{status}")
                found.add(key, *file_obstacle(path, who), file=file)
    return found.problems


def check_scripts(loaded: Loaded, keys: Collection[str], *, who: str, switched: bool = False) -> list[ConfigError]:
    """Whether this process, which is `who`, whom scripts run as, reaches the scripts of the mounts `keys`.

    `switched`: it became that user.
    """
    found = _Findings(loaded)
    for vhost in loaded.config.vhosts:
        for mount in vhost.mounts:
            if isinstance(mount, schema.Cgi) and mount.key in keys:
                _check_script_paths(mount, found, who, switched=switched)
    return found.problems


def _has_folder(mount: schema.Cgi) -> bool:
    return bool(mount.root) and (os.path.exists(mount.root) or not mount.may_be_missing)


def _check_script_paths(mount: schema.Cgi, found: _Findings, who: str, *, switched: bool) -> None:
    if _has_folder(mount):
        found.add(f"{mount.key}.root", *folder_obstacle(mount.root, who))
        found.add(f"{mount.key}.root", *not_trusted(mount.root, switched=switched))
    programs = {f'{mount.key}.interpreters."{name}"': program for name, program in mount.interpreters.items()}
    for key, program in programs.items():
        found.add(key, *not_trusted(program, switched=False))
    if mount.script:
        key = f"{mount.key}.script"
        for path in (mount.folder, mount.script) if os.path.isfile(mount.script) else ():
            found.add(key, *not_trusted(path, switched=switched))
        if mount.interpreter(mount.script):
            found.add(key, *file_obstacle(mount.script, who))
        else:
            programs[key] = mount.script
    for key, program in programs.items():
        found.add(key, *program_obstacle(program, who))


def check_machine(loaded: Loaded, euid: int) -> list[ConfigError]:
    """Whether the machine has what the master needs.  euid: the master's, which is this process's."""
    found = _Findings(loaded)
    if euid == 0:
        _check_worker_identity(loaded.config.server, found)
    else:
        _check_own_identity(loaded.config.server, euid, found)
    _check_control_group(loaded.config.server, euid, found)
    _check_threads(loaded.config, found)
    _check_script_users(loaded.config, euid, found)
    for index, address in enumerate(loaded.config.server.listen):
        found.add(f"server.listen[{index}]", *_address_obstacle(address))
    _check_logs(loaded, found)
    _check_descriptors(loaded.config.limits, found)
    return found.problems


class _Findings:
    """Problems with the place of their key, each once."""

    __slots__ = ("loaded", "problems", "seen")

    def __init__(self, loaded: Loaded) -> None:
        self.loaded = loaded
        self.problems: list[ConfigError] = []
        self.seen: set[tuple[str | None, str]] = set()

    def add(self, key: str, message: str, hint: str = "", *, file: str | None = None) -> None:
        """file: the one with the key, where the key alone doesn't say it.  An empty message is no problem."""
        if not message or (file, key) in self.seen:
            return
        self.seen.add((file, key))
        path, line = self.loaded.locate(key, file)
        self.problems.append(ConfigError(path, line, key if path else "", message, hint))


def _root_key(loaded: Loaded, mount: schema.Mount) -> str:
    """The key that says where a directory's files are: its root, or its path below the vhost's root."""
    lines = loaded.positions.get(loaded.locate(mount.key)[0], {})
    return (
        f"{mount.key}.path"
        if f"{mount.key}.path" in lines and f"{mount.key}.root" not in lines
        else f"{mount.key}.root"
    )


def _owners(vhost: schema.Vhost) -> Iterator[tuple[str, schema.Settings]]:
    yield vhost.key, vhost.settings
    for mount in vhost.mounts:
        yield mount.key, mount.settings


def _origin(loaded: Loaded, vhost: schema.Vhost, owner: str, name: str) -> tuple[str, str]:
    """Where a merged setting was written: (key, file)."""
    file = loaded.locate(vhost.key)[0]
    for place, key in ((file, f"{owner}.{name}"), (file, f"{vhost.key}.{name}"), (file, f"defaults.{name}")):
        if key in loaded.positions.get(place, {}):
            return key, place
    return f"defaults.{name}", loaded.file


def _check_worker_identity(server: schema.Server, found: _Findings) -> None:
    names = (server.user,) if server.user else schema.DEFAULT_USERS
    account = next(filter(None, map(_account, names)), None)
    if account is None:
        if server.user:
            hint = "write the user's name, not its number" if server.user.isdigit() else ""
            found.add("server.user", f"there is no user {server.user!r}", hint)
        else:
            message = f"workers need a user, and there is none of {', '.join(schema.DEFAULT_USERS)}"
            found.add("server.user", message, "create one, or name another in server.user")
    elif account.pw_uid == 0:
        found.add("server.user", f"{server.user!r} is root, and workers never run as root", "name another user")
    if server.group:
        gid = _gid(server.group)
        if gid is None:
            found.add("server.group", f"there is no group {server.group!r}")
        elif gid == 0:
            found.add(
                "server.group", f"{server.group!r} is root's group, which workers never have", "name another group"
            )
    elif account is not None and account.pw_uid and account.pw_gid == 0:
        message = f"the group of user {account.pw_name!r} is root's, which workers never have"
        found.add("server.user", message, "name another in server.group")


def _check_own_identity(server: schema.Server, euid: int, found: _Findings) -> None:
    me = _user_name(euid)
    if server.user:
        account = _account(server.user)
        if account is None:
            found.add("server.user", f"there is no user {server.user!r}")
        elif account.pw_uid != euid:
            message = f"only root can run workers as {server.user!r}, and this is {me!r}"
            found.add("server.user", message, "leave it out, or start the server as root")
    if server.group:
        gid = _gid(server.group)
        if gid is None:
            found.add("server.group", f"there is no group {server.group!r}")
        elif gid != os.getegid():
            message = f"only root can run workers with the group {server.group!r}"
            found.add("server.group", message, "leave it out, or start the server as root")


def _check_threads(config: schema.Config, found: _Findings) -> None:
    for vhost in config.vhosts:
        for mount in vhost.mounts:
            if isinstance(mount, schema.Handler) and mount.threads > config.server.threads:
                message = f"{mount.threads} is more than server.threads, which is {config.server.threads}"
                found.add(f"{mount.key}.threads", message, "raise server.threads, or leave it out")


def _check_script_users(config: schema.Config, euid: int, found: _Findings) -> None:
    """Whom scripts are to run as: known, not root, and within what this master can do."""
    for vhost in config.vhosts:
        for mount in vhost.mounts:
            if not isinstance(mount, schema.Cgi):
                continue
            account, gid = _account(mount.user) if mount.user else None, _gid(mount.group) if mount.group else None
            if mount.user and account is None:
                found.add(f"{mount.key}.user", f"there is no user {mount.user!r}")
            elif account is not None and account.pw_uid == 0:
                found.add(f"{mount.key}.user", f"{mount.user!r} is root, and scripts never run as root")
            elif account is not None and euid != 0 and account.pw_uid != euid:
                message = f"only root can run scripts as {mount.user!r}, and this is {_user_name(euid)!r}"
                found.add(f"{mount.key}.user", message, "leave it out, or start the server as root")
            elif account is not None and account.pw_gid == 0 and not mount.group:
                message = f"the group of user {mount.user!r} is root's, which scripts never have"
                found.add(f"{mount.key}.user", message, "name another in `group`")
            if mount.group and gid is None:
                found.add(f"{mount.key}.group", f"there is no group {mount.group!r}")
            elif mount.group and gid == 0:
                found.add(f"{mount.key}.group", f"{mount.group!r} is root's group, which scripts never have")
            elif mount.group and euid != 0 and gid != os.getegid():
                message = f"only root can run scripts with the group {mount.group!r}"
                found.add(f"{mount.key}.group", message, "leave it out, or start the server as root")


def _check_control_group(server: schema.Server, euid: int, found: _Findings) -> None:
    if not server.control_group:
        return
    gid = _gid(server.control_group)
    if gid is None:
        found.add("server.control_group", f"there is no group {server.control_group!r}")
    elif euid != 0 and gid not in (os.getegid(), *os.getgroups()):
        message = f"user {_user_name(euid)!r} is not a member of the group {server.control_group!r}"
        found.add("server.control_group", message, "only root can open the control socket to a group it is not in")


def _account(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def _gid(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _address_obstacle(address: schema.Address) -> tuple[str, str]:
    """What can be said of an address without binding it or asking a name server."""
    if address.kind == "unix":
        return _socket_obstacle(address.path)
    _, _, zone = address.host.partition("%")
    if zone:
        try:
            socket.if_nametoindex(zone)
        except OSError:
            return f"there is no network interface {zone!r}", ""
    return "", ""


def _socket_obstacle(path: str) -> tuple[str, str]:
    obstacle = _writable_folder_obstacle(os.path.dirname(path))
    if obstacle[0]:
        return obstacle
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return f"{path!r} exists and is no socket", "choose another path, or remove what is there"
    except OSError:
        pass  # free to be made
    return "", ""


def _writable_folder_obstacle(folder: str) -> tuple[str, str]:
    me = _user_name(os.geteuid())
    obstacle = folder_obstacle(folder, me)
    if obstacle[0]:
        return obstacle
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"user {me!r} may not write in the folder {folder!r}", ""
    return "", ""


def _check_logs(loaded: Loaded, found: _Findings) -> None:
    log = loaded.config.log
    found.add("log.access", *_log_obstacle(log.access))
    found.add("log.error", *_log_obstacle(log.error))
    for vhost in loaded.config.vhosts:
        for owner, settings in _owners(vhost):
            if settings.access_log is not None:
                key, file = _origin(loaded, vhost, owner, "access_log")
                found.add(key, *_log_obstacle(settings.access_log), file=file)


def _log_obstacle(target: str) -> tuple[str, str]:
    """What keeps a log from being appended to.  The master makes the folder of the default log if need be."""
    if target in _LOG_WORDS:
        return "", ""
    if os.path.isdir(target):
        return f"{target!r} is a folder", "name the file in it"
    if os.path.exists(target):
        me = _user_name(os.geteuid())
        return ("", "") if os.access(target, os.W_OK) else (f"user {me!r} may not write to {target!r}", "")
    folder = os.path.dirname(target)
    if folder == os.path.dirname(DEFAULT_ACCESS_LOG) and not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    message, hint = _writable_folder_obstacle(folder)
    return (f"the log {target!r} can't be made: {message}", hint) if message else ("", "")


def room_for_connections(detached: int) -> int:
    """How many connections a worker's open files can hold at most, beside so many detached sockets."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else hard - detached - RESERVED_DESCRIPTORS


def _check_descriptors(limits: schema.Limits, found: _Findings) -> None:
    """Connections a worker could never hold: without this they would fail one by one, under load."""
    room = room_for_connections(limits.detached)
    if limits.connections <= room:
        return
    needed = limits.connections + limits.detached + RESERVED_DESCRIPTORS
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    raise_it = f"raise the limit to {needed} (LimitNOFILE= in systemd, ulimit -Hn in a shell)"
    found.add(
        "limits.connections",
        f"{limits.connections} connections per worker need {needed} open files, and the hard limit is {hard}",
        f"set limits.connections to {room} or less, or {raise_it}" if room > 0 else raise_it,
    )
