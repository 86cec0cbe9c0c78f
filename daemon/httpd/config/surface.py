"""Every table and key that a configuration file may hold: the one source of validation, manual and JSON
Schema.

Rules:
- A key is described once, in `server_keys` or `vhost_keys`; this module puts the tables together.
- `default` is TOML text and must say what `schema` does; a test compares the two.
- A `later` key has a fixed name and is refused by that name until it is built; it is never ignored.
"""

from __future__ import annotations

from httpd.config.keys import Table
from httpd.config.server_keys import LIMITS, LOG, SERVER, TIMEOUTS
from httpd.config.vhost_keys import DEFAULTS, VHOST

MAIN = Table("", "The main file.", (), (SERVER, TIMEOUTS, LIMITS, LOG, DEFAULTS, VHOST))
DROP_IN = Table("", "An included file.", (), (DEFAULTS, VHOST))


def homes_of(name: str, *, keys: bool = True) -> list[str]:
    """Where a key called `name` belongs, as the headers of tables; for a table's name, its own header.

    keys: whether it may be a key, too, and not only a table.
    """
    homes = []

    def visit(table: Table, prefix: str) -> None:
        for inner in table.tables:
            full = prefix + inner.name
            header = f"[[{full}]]" if inner.many else f"[{full}]"
            if name == inner.name or (keys and any(name == key.name for key in inner.keys)):
                homes.append(header)
            visit(inner, full + ".")

    visit(MAIN, "")
    return homes
