"""One file's values against the surface: unknown keys, later keys, wrong shapes, bad values.

`check_table` walks a table and reports every problem at its place.  What comes out are only the valid values
that the file gives; defaults and everything that involves two keys are `build`'s.
"""

from __future__ import annotations

from typing import Any

import msgspec

from httpd.config.errors import NOT_AVAILABLE, did_you_mean, shown
from httpd.config.keys import Table
from httpd.config.kinds import INVALID
from httpd.config.place import Place
from httpd.config.surface import DROP_IN, MAIN, homes_of


class Checked(msgspec.Struct, frozen=True):
    """A checked table.

    broken: names that are missing or in the file with an error; a rule about them would only repeat it.
    """

    place: Place
    values: dict[str, Any] = {}
    tables: dict[str, tuple[Checked, ...]] = {}
    broken: frozenset[str] = frozenset()

    def one(self, name: str) -> Checked:
        """A table that is there at most once; empty when the file leaves it out."""
        found = self.tables.get(name, ())
        return found[0] if found else Checked(self.place.child(name))


def check_table(table: Table, values: dict[str, object], place: Place) -> Checked:
    """Check `values` and everything below; report problems to the place's source."""
    keys = {key.name: key for key in table.keys}
    inner = {sub.name: sub for sub in table.tables}
    good: dict[str, Any] = {}
    tables: dict[str, tuple[Checked, ...]] = {}
    broken = set()
    for name, value in values.items():
        at = place.child(name)
        if name in keys:
            checked = keys[name].kind.read(value, at)
            if checked is INVALID:
                broken.add(name)
            else:
                good[name] = checked
        elif name in inner:
            found = _tables(inner[name], value, at)
            if found is None:
                broken.add(name)
            else:
                tables[name] = found
        else:
            broken.add(name)
            _refuse(table, name, at, value)
    for key in table.keys:
        if key.required and key.name not in values:
            broken.add(key.name)
            place.child(key.name).report("is missing", f"add {key.name} = {key.kind.example}")
    return Checked(place, good, tables, frozenset(broken))


def _tables(table: Table, value: object, place: Place) -> tuple[Checked, ...] | None:
    """A table or an array of tables, whichever `table` is; None when the shape is wrong."""
    header = ".".join(step for step in place.path if isinstance(step, str))
    if not table.many:
        if isinstance(value, dict):
            return (check_table(table, value, place),)
        if isinstance(value, list):
            place.report("is there once, so it is no array", f"write [{header}], with single brackets")
        else:
            place.report(f"expected a table, not {shown(value)}", f"write [{header}] on a line of its own")
        return None
    if isinstance(value, list) and all(isinstance(element, dict) for element in value):
        return tuple(check_table(table, element, place.child(index)) for index, element in enumerate(value))
    if isinstance(value, dict):
        place.report("can be there several times, so it is an array", f"write [[{header}]], with double brackets")
    else:
        place.report(f"expected tables, not {shown(value)}", f"write [[{header}]] on a line of its own")
    return None


def _refuse(table: Table, name: str, place: Place, value: object) -> None:
    if name in table.later:
        place.report(NOT_AVAILABLE)
        return
    if table is DROP_IN and name in MAIN.known():
        place.report("belongs in the main file", "an included file holds only [[vhost]] and [defaults]")
        return
    # The header of a table at the top, [timeout], is a slip for one of its neighbours, not for a key of that name.
    homes = homes_of(name, keys=table is not MAIN or not isinstance(value, dict))
    hint = f"it belongs in {' or '.join(homes)}" if homes else did_you_mean(name, table.known())
    if len(homes) == 1 and homes[0].strip("[]").split(".")[-1] == name:
        hint = f"it is a table of its own: {homes[0]}"
    place.report("unknown key", hint)
