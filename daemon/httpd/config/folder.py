"""`httpd [FOLDER] --listen ADDR`: the configuration of a server without a configuration file."""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping, Sequence

from httpd.config import schema
from httpd.config.environment import room_for_connections
from httpd.config.errors import BadValueError, ConfigError, ConfigErrors
from httpd.config.run_dir import default_run_dir, name_hash
from httpd.config.values import absolute_path, parse_address

DEFAULT_LISTEN = "127.0.0.1:8000"
SCRIPT_FOLDERS = ("cgi-bin", "htbin")  # as http.server's --cgi has them


def folder_config(
    folder: str, listen: Sequence[str] = (), *, cgi: bool = False, euid: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> schema.Config:  # fmt: skip
    """One vhost without names that serves `folder` with listings, its requests logged to stdout.

    listen: addresses as in `server.listen`, a relative socket path from the current folder; none is
    127.0.0.1:8000.  Started as root, workers take the folder's owner, or nobody where that is root or has no
    name.  cgi: its folders `cgi-bin` and `htbin` hold scripts.

    The default of `limits.connections` is cut to what the hard limit on open files has room for.
    ConfigErrors: bad addresses or names, with "--listen" or "FOLDER" for the key.  Whether the folder can be
    served is for `check_environment` to say.
    """
    euid = os.geteuid() if euid is None else euid
    environ = os.environ if environ is None else environ
    problems: list[ConfigError] = []
    here = current_folder()
    root = _root(folder, here, problems)
    addresses = addresses_of(listen or (DEFAULT_LISTEN,), here, problems)
    if problems:
        raise ConfigErrors(problems)
    settings = schema.Settings(listing=True)
    user = owner_of(root) if euid == 0 else ""
    mounts: list[schema.Directory | schema.Cgi] = [schema.Directory("/", "vhost[0]", settings, root)]
    if cgi:
        mounts += _scripts(root, user)
    limits = schema.Limits()
    room = max(1, room_for_connections(limits.detached))
    return schema.Config(
        path="",
        server=schema.Server(
            listen=addresses, user=user,
            run_dir=run_dir_of("\n".join((root, *(address.text for address in addresses))), euid, environ),
        ),
        timeouts=schema.Timeouts(),
        limits=schema.Limits(connections=min(limits.connections, room)),
        log=schema.Log(),
        vhosts=(schema.Vhost(key="vhost[0]", settings=settings, mounts=tuple(mounts)),),
    )


def _scripts(root: str, user: str) -> list[schema.Cgi]:
    """The mounts of its scripts, which run as `user`; one folder may be made later.

    Raises ConfigErrors where there are none.
    """
    if os.path.isdir(root) and not any(os.path.isdir(os.path.join(root, name)) for name in SCRIPT_FOLDERS):
        hint = f"make one, and put executable files in it: mkdir {os.path.join(root, SCRIPT_FOLDERS[0])}"
        message = f"{root!r} has no folder {' or '.join(map(repr, SCRIPT_FOLDERS))}"
        raise ConfigErrors([ConfigError("", 0, "--cgi", message, hint)])
    return [
        schema.Cgi(f"/{name}", f"vhost[0].cgi[{index}]", schema.Settings(), root=os.path.join(root, name), user=user,
                   document_root=root, may_be_missing=True)
        for index, name in enumerate(SCRIPT_FOLDERS)
        if os.path.isdir(os.path.join(root, name)) or not os.path.lexists(os.path.join(root, name))
    ]  # fmt: skip


def current_folder() -> str:
    """The current folder.  Raises ConfigErrors when it can't be read."""
    try:
        return os.getcwd()
    except OSError as error:
        problem = ConfigError("", 0, "", f"the current folder can't be read: {error.strerror}")
        raise ConfigErrors([problem]) from None


def _root(folder: str, here: str, problems: list[ConfigError]) -> str:
    try:
        root = absolute_path(folder, here)
        root.encode()
        return root
    except UnicodeEncodeError:
        problems.append(ConfigError("", 0, "FOLDER", "the path is not UTF-8"))
    except BadValueError as error:
        problems.append(ConfigError("", 0, "FOLDER", error.message, error.hint))
    return ""


def addresses_of(listen: Sequence[str], here: str, problems: list[ConfigError]) -> tuple[schema.Address, ...]:
    """The values of --listen; what is wrong with them is added to `problems`."""
    addresses: dict[str, schema.Address] = {}
    for text in listen:
        try:
            address = parse_address(text, here)
            addresses[address.text] = address
        except BadValueError as error:
            problems.append(ConfigError("", 0, "--listen", error.message, error.hint))
    return tuple(addresses.values())


def owner_of(path: str) -> str:
    """Whom workers run as that serve `path`: its owner, or nobody where that is root or has no name."""
    try:
        uid = os.stat(path).st_uid
        return pwd.getpwuid(uid).pw_name if uid else "nobody"
    except (OSError, KeyError):
        return "nobody"


def run_dir_of(what: str, euid: int, environ: Mapping[str, str]) -> str:
    """One for each folder and address, or script, also for root: serving it must not meet the system's httpd."""
    if euid == 0:
        return f"{default_run_dir('', 0, environ)}-{name_hash(what)}"
    return default_run_dir(what, euid, environ)
