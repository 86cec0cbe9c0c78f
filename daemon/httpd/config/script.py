"""`httpd run SCRIPT.py`: the configuration of a server whose addresses and handlers are a script's own.

The script says where it listens, so nothing is known of that here, unless `--listen` says it in its place.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from httpd.config import schema
from httpd.config.environment import room_for_connections
from httpd.config.errors import ConfigError, ConfigErrors
from httpd.config.folder import addresses_of, current_folder, owner_of, run_dir_of


def script_config(
    path: str, arguments: Sequence[str] = (), *, listen: Sequence[str] = (), workers: int = 1,
    tls: tuple[str, str] = ("", ""),
    folder: str | None = None, euid: int | None = None, environ: Mapping[str, str] | None = None,
) -> schema.Config:  # fmt: skip
    """Run `path` with `arguments` in `folder` (the current one if None).

    listen: addresses that take the place of the first that the script binds; tls: files of certificate and key.
    Started as root, workers take the script's owner, or nobody.  ConfigErrors: what is wrong with these, with the
    option for key.
    """
    euid = os.geteuid() if euid is None else euid
    environ = os.environ if environ is None else environ
    problems: list[ConfigError] = []
    here = current_folder() if folder is None else folder
    script = os.path.join(here, path)
    if not os.path.isfile(script):
        problems.append(ConfigError("", 0, "SCRIPT", f"there is no file {script!r}"))
    for option, name in zip(("--tls-cert", "--tls-key"), tls, strict=True):
        if name and not os.path.isfile(name):
            problems.append(ConfigError("", 0, option, f"there is no file {name!r}"))
    addresses = addresses_of(listen, here, problems)
    if problems:
        raise ConfigErrors(problems)
    limits = schema.Limits()
    return schema.Config(
        path="",
        server=schema.Server(
            listen=addresses, workers=workers, user=owner_of(script) if euid == 0 else "",
            run_dir=run_dir_of("\n".join((script, *arguments, *listen)), euid, environ),
        ),
        timeouts=schema.Timeouts(),
        limits=schema.Limits(connections=min(limits.connections, max(1, room_for_connections(limits.detached)))),
        log=schema.Log(),
        vhosts=(),
        script=schema.Script(script, tuple(arguments), here, *tls),
    )  # fmt: skip
