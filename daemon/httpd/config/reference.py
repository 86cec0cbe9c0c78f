"""The manual page and the JSON Schema of the configuration file, written from the surface.

`python -m httpd.config.reference [FOLDER]` writes config.md and config.schema.json to FOLDER, `docs` when
left out.  Both are kept in the repository; a test fails when they differ from what this module makes.

The schema uses only words that Draft 4 and Draft 7 share, without siblings of `$ref`: editors know that much.
"""

from __future__ import annotations

import json
import os
import sys

import tomli

from httpd.config.keys import Key, Table
from httpd.config.kinds import AnyTable, Json, Kind, ListOf, MapOf
from httpd.config.settings_keys import SETTINGS, SETTINGS_LATER
from httpd.config.surface import MAIN

INTRODUCTION = """\
# The configuration file

<!-- Written by `python -m httpd.config.reference`. Change daemon/httpd/config/, not this file. -->

`httpd -c FILE` reads one TOML file, and `httpd --check -c FILE` only checks it. The smallest one is

```toml
[[vhost]]
root = "/srv/www"
```

and a longer one:

```toml
{example}```

An editor that knows JSON Schema completes and checks the file when its first line is
`#:schema ./config.schema.json`.

## Values

| value | written as |
|---|---|
| duration | `"250ms"`, `"30s"`, `"5m"`, `"1h"`, `"1d"`, or a number of seconds |
| size | `"64KiB"`, `"10MB"`, or a number of bytes; kB, MB, GB and TB count in thousands, KiB to TiB in 1024 |
| rate | a size followed by `/s`, or a number of bytes per second |
| path | absolute, or relative to the folder of the file that names it; `~` is not expanded |
| address | `":80"`, `"192.0.2.1:80"`, `"[2001:db8::1]:80"`, `"localhost:80"`, `"unix:/run/site.sock"` |

## Several files

`server.include` names more files. They hold `[[vhost]]` and `[defaults]` only, and their paths are
relative to themselves. Their vhosts follow those of the main file in the order of the patterns, sorted
by name within one, and are numbered on in messages. Their `[defaults]` are for their own vhosts, on top
of the main file's.

## Which vhost and mount answer

The Host field, without port and in any case, chooses the vhost: by exact name, else by the longest
wildcard, else the first vhost in file order on that listener. The path, percent-decoded once and with
dot segments removed, chooses the mount with the longest prefix on a segment boundary, of whichever kind
and wherever it stands. A vhost's `root` is the mount `/`.

Settings are merged from the general to the special: built-in, `[defaults]`, vhost, mount. Tables
(`types`, `headers`, `error_pages`) are merged name by name; everything else is replaced.

## Errors

Problems are reported together, one line each, with file, line and key: first all that the text shows, then, when that
is good, what the machine says (users, logs, limits), then the folders as the workers' user sees them:

```
{errors}```

At start the exit code is 78, and nothing has been bound. At a reload the running configuration stays.
"""

EXAMPLE = """\
[server]
listen = [":80", "[::1]:8080"]
user = "www-data"
include = ["conf.d/*.toml"]

[log]
format = "json"

[defaults]
headers = { "X-Content-Type-Options" = "nosniff" }

[[vhost]]
names = ["example.org", "*.example.org"]
root = "/srv/www/example"
error_pages = { 404 = "/srv/www/errors/404.html" }

  [[vhost.directory]]
  path = "/downloads/"
  root = "/srv/downloads"
  listing = true

  [[vhost.redirect]]
  from = "/old/"
  to = "/new/"
"""

ERRORS = """\
httpd.toml:2: server.lisen: unknown key; did you mean 'listen'?
httpd.toml:9: timeouts.head: the duration '10' has no unit; write "10s" for seconds
"""


def manual() -> str:
    """docs/config.md."""
    parts = [INTRODUCTION.format(example=EXAMPLE, errors=ERRORS)]
    parts += [_section(table, "") for table in MAIN.tables]
    parts.append(_settings_section())
    parts.append(_later_section())
    return "\n".join(parts)


def json_schema() -> str:
    """docs/config.schema.json."""
    schema: Json = {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": "Configuration of httpd",
        **_table_schema(MAIN),
        "definitions": {key.name: _key_schema(key) for key in SETTINGS},
    }
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def _section(table: Table, prefix: str) -> str:
    name = prefix + table.name
    header = f"[[{name}]]" if table.many else f"[{name}]"
    own = [key for key in table.keys if key not in SETTINGS]
    text = f"## {header}\n\n{table.about}\n"
    if own:
        text += "\n" + _key_rows(own)
    if len(own) < len(table.keys):
        text += "\nThe [settings](#settings) can stand here too.\n" if own else "\nHolds the [settings](#settings).\n"
    return "\n".join([text, *(_section(inner, name + ".") for inner in table.tables)])


def _settings_section() -> str:
    return f"## Settings\n\nFor `[defaults]`, every vhost and every mount.\n\n{_key_rows(list(SETTINGS))}"


def _later_section() -> str:
    rows = ["## Not available yet", "", "These names are fixed, and this version refuses them by name.", ""]

    def visit(table: Table, prefix: str) -> None:
        for inner in table.tables:
            name = prefix + inner.name
            later = [word for word in inner.later if inner.name == "defaults" or word not in SETTINGS_LATER]
            if later:
                header = "settings" if inner.name == "defaults" else f"`[[{name}]]`" if inner.many else f"`[{name}]`"
                rows.append(f"- {header}: " + ", ".join(f"`{word}`" for word in later))
            visit(inner, name + ".")

    visit(MAIN, "")
    rows.append('- addresses: `"systemd:NAME"`, and `tls` and `proxy_protocol` in the table form')
    return "\n".join(rows) + "\n"


def _key_rows(keys: list[Key]) -> str:
    rows = ["| key | value | default | |", "|---|---|---|---|"]
    for key in keys:
        default = key.default[1:-1] if key.default.startswith("(") else f"`{key.default}`"
        cells = (f"`{key.name}`", _noun(key.kind), default, key.about)
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _noun(kind: Kind) -> str:
    """What the value is; an example where the noun alone doesn't show how it is written."""
    if isinstance(kind, ListOf | MapOf | AnyTable):
        return f"{kind.noun}: `{kind.example}`"
    return kind.noun


def _table_schema(table: Table) -> Json:
    properties: Json = {}
    for key in table.keys:
        properties[key.name] = {"$ref": f"#/definitions/{key.name}"} if key in SETTINGS else _key_schema(key)
    for inner in table.tables:
        schema = _table_schema(inner)
        properties[inner.name] = {"type": "array", "items": schema} if inner.many else schema
    result: Json = {
        "description": table.about,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }
    required = [key.name for key in table.keys if key.required]
    return {**result, "required": required} if required else result


def _key_schema(key: Key) -> Json:
    schema: Json = {"description": key.about, **key.kind.json}
    if not key.default.startswith("("):
        schema["default"] = tomli.loads(f"default = {key.default}")["default"]
    return {**schema, "examples": [tomli.loads(f"example = {key.kind.example}")["example"]]}


def main(arguments: list[str]) -> int:
    if len(arguments) > 1:
        print("usage: python -m httpd.config.reference [FOLDER]", file=sys.stderr)
        return 64
    folder = arguments[0] if arguments else "docs"
    for name, content in (("config.md", manual()), ("config.schema.json", json_schema())):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            file.write(content)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
