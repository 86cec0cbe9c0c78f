"""A configuration file -> `Loaded`: the checked configuration and where each key of it stands.

`load` reads the file and what it includes, checks everything that can be known without looking at the
machine, and raises every problem at once.  What the machine has to say (users, folders, limits) is
`environment`'s.

`Loaded` is plain data, so that the child which checks a file sends it to the master as one MessagePack
message.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import msgspec

from httpd.config import schema
from httpd.config.build import build_log, build_server, default_listen, merge
from httpd.config.check import Checked, check_table
from httpd.config.errors import ConfigError, ConfigErrors
from httpd.config.place import Place, Source, parent_key
from httpd.config.read import find_included, read_source
from httpd.config.run_dir import default_run_dir
from httpd.config.surface import DROP_IN, MAIN
from httpd.config.vhosts import Named, build_vhost, check_names


class Loaded(msgspec.Struct, frozen=True):
    """file: the main file as the user named it; positions: file -> dotted key -> line, main file first."""

    config: schema.Config
    file: str = ""
    positions: dict[str, dict[str, int]] = {}

    def locate(self, key: str, file: str | None = None) -> tuple[str, int]:
        """File and line of a dotted key such as `vhost[1].directory[0].root`, or of the nearest table above
        it.

        Line 0 when nothing of it is in a file.  file: look only there; for `defaults`, which each file has
        for itself.
        """
        files = self.positions if file is None else {file: self.positions.get(file, {})}
        while key:
            for name, lines in files.items():
                if key in lines:
                    return name, lines[key]
            key = parent_key(key)
        return (self.file if file is None else file), 0


def load(
    path: str,
    check_format: Callable[[str], object] | None = None,
    *,
    euid: int | None = None,
    environ: Mapping[str, str] | None = None,
) -> Loaded:
    """Read and check a configuration file.

    check_format: takes `log.format`, raises ValueError (with a `hint`, if it likes) for one it doesn't
    understand. euid, environ: whose defaults apply; the process's own when left out.  ConfigErrors: every
    problem there is.
    """
    euid = os.geteuid() if euid is None else euid
    environ = os.environ if environ is None else environ
    problems: list[ConfigError] = []
    source = read_source(path, problems)
    if problems:
        raise ConfigErrors(problems)
    main = check_table(MAIN, source.values, Place(source))
    drop_ins = _read_drop_ins(main, problems)
    config = schema.Config(
        path=os.path.abspath(path),
        server=build_server(main, lambda: default_run_dir(path, euid, environ)),
        timeouts=schema.Timeouts(**main.one("timeouts").values),
        limits=schema.Limits(**main.one("limits").values),
        log=build_log(main, euid, check_format),
        vhosts=_build_vhosts(main, drop_ins),
    )
    if not config.vhosts and not problems:
        hint = 'add [[vhost]] with root = "/srv/www"'
        problems.append(ConfigError(path, 0, "", "there is no [[vhost]], so there is nothing to serve", hint))
    if problems:
        raise ConfigErrors(problems)
    sources = (table.place.source for table in (main, *drop_ins))
    return Loaded(config, path, {source.shown: source.positions() for source in sources})


def _read_drop_ins(main: Checked, problems: list[ConfigError]) -> list[Checked]:
    server = main.one("server")
    drop_ins: list[Checked] = []
    count = _count_vhosts(main.place.source)
    for shown, named in find_included(server.values.get("include", ()), server.place.child("include")):
        source = read_source(shown, problems, named=named)
        source.first_vhost = count
        count += _count_vhosts(source)
        drop_ins.append(check_table(DROP_IN, source.values, Place(source)))
    return drop_ins


def _count_vhosts(source: Source) -> int:
    vhosts = source.values.get("vhost")
    return len(vhosts) if isinstance(vhosts, list) else 0


def _build_vhosts(main: Checked, drop_ins: list[Checked]) -> tuple[schema.Vhost, ...]:
    server = main.one("server")
    listen: tuple[schema.Address, ...] | None = server.values.get("listen", default_listen())
    if "listen" in server.broken or "server" in main.broken:
        listen = None
    common = merge(schema.Settings(), main.one("defaults").values)
    named: list[Named] = []
    for file in (main, *drop_ins):
        defaults = common if file is main else merge(common, file.one("defaults").values)
        named += [Named(build_vhost(table, defaults, listen), table) for table in file.tables.get("vhost", ())]
    check_names(named, listen or ())
    return tuple(item.vhost for item in named)
