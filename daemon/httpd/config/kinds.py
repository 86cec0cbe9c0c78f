"""The kinds of value that a key can have: how one is parsed, how it is named in messages, its JSON Schema.

`surface` builds its tables from these.  A kind's `read` returns the checked value, or reports every problem
in it at its place and returns `INVALID`; callers leave invalid values out and go on, so that all problems
show at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from httpd.config.errors import NOT_AVAILABLE, BadValueError, did_you_mean, shown, wrong_type
from httpd.config.place import Place
from httpd.config.schema import Address
from httpd.config.values import CONTROL, absolute_path, parse_address, parse_duration, parse_rate, parse_size

INVALID: Final = object()
Json = dict[str, Any]


class Scalar(msgspec.Struct, frozen=True):
    """One value.

    parse: (TOML value, folder of the file) -> checked value, or `BadValueError`; noun: "a size"; example: TOML.
    """

    noun: str
    example: str
    parse: Callable[[object, str], object]
    json: Json

    def read(self, value: object, place: Place) -> object:
        try:
            return self.parse(value, place.source.folder)
        except BadValueError as error:
            place.report(error.message, error.hint)
            return INVALID


class AddressKind(msgspec.Struct, frozen=True):
    """An address as text, or as a table of which this version knows `address` alone."""

    noun: str = "an address"
    example: str = '":80"'

    def read(self, value: object, place: Place) -> object:
        if not isinstance(value, dict):
            return ADDRESS_TEXT.read(value, place)
        extra = [name for name in value if name != "address"]
        for name in extra:
            if name in ("tls", "proxy_protocol"):
                place.child(name).report(NOT_AVAILABLE)
            else:
                place.child(name).report("unknown key", did_you_mean(name, ["address"]))
        if "address" not in value:
            place.report("the table has no `address`", 'write { address = ":80" }')
            return INVALID
        address = ADDRESS_TEXT.read(value["address"], place.child("address"))
        return INVALID if extra else address

    @property
    def json(self) -> Json:
        table = {
            "type": "object",
            "properties": {"address": ADDRESS_TEXT.json},
            "required": ["address"],
            "additionalProperties": False,
        }
        return {"anyOf": [ADDRESS_TEXT.json, table]}


class ListOf(msgspec.Struct, frozen=True):
    """An array.  Elements that `identity` finds equal are reported, and the first of them is kept."""

    item: Scalar | AddressKind
    noun: str
    example: str
    at_least: int = 0
    identity: Callable[[Any], object] = lambda item: item

    def read(self, value: object, place: Place) -> object:
        if not isinstance(value, list):
            error = wrong_type(self.noun, value, self.example)
            place.report(error.message, error.hint)
            return INVALID
        if len(value) < self.at_least:
            place.report("the array is empty", f"write it as {self.example}")
            return INVALID
        first: dict[object, int] = {}
        items = []
        valid = True
        for index, element in enumerate(value):
            at = place.child(index)
            item = self.item.read(element, at)
            if item is INVALID:
                valid = False
                continue
            identity = self.identity(item)
            if identity in first:
                written = element["address"] if isinstance(element, dict) else element
                at.report(f"{shown(written)} is named twice", f"first in {place.child(first[identity]).key}")
            else:
                first[identity] = index
                items.append(item)
        return tuple(items) if valid else INVALID

    @property
    def json(self) -> Json:
        schema: Json = {"type": "array", "items": self.item.json, "uniqueItems": True}
        return {**schema, "minItems": self.at_least} if self.at_least else schema


class MapOf(msgspec.Struct, frozen=True):
    """A table whose names are free within the grammar of `name`; two that differ only in case are refused."""

    name: Callable[[str], str]
    item: Scalar
    noun: str
    example: str
    name_pattern: str

    def read(self, value: object, place: Place) -> object:
        if not isinstance(value, dict):
            error = wrong_type(self.noun, value, self.example)
            place.report(error.message, error.hint)
            return INVALID
        result: dict[str, object] = {}
        seen: dict[str, str] = {}
        for raw, element in value.items():
            item = self.item.read(element, place.child(raw))
            try:
                name = self.name(raw)
            except BadValueError as error:
                place.child(raw).report(error.message, error.hint)
                continue
            if raw.lower() in seen:
                place.child(raw).report(f"the same name as {shown(seen[raw.lower()])}", "case makes no difference here")
            seen.setdefault(raw.lower(), raw)
            result[name] = item
        complete = len(result) == len(value) and INVALID not in result.values()
        return result if complete and len(seen) == len(value) else INVALID

    @property
    def json(self) -> Json:
        return {
            "type": "object",
            "patternProperties": {self.name_pattern: self.item.json},
            "additionalProperties": False,
        }


_DEEP = 50


class AnyTable(msgspec.Struct, frozen=True):
    """A table of whatever TOML can hold, but for dates and times, which do not travel."""

    noun: str = "a table"
    example: str = '{ directory = "/srv/hooks" }'

    def read(self, value: object, place: Place) -> object:
        if not isinstance(value, dict):
            error = wrong_type(self.noun, value, self.example)
            place.report(error.message, error.hint)
            return INVALID
        bad = [name for name in value if not name.isidentifier()]
        for name in bad:
            hint = "letters, digits and _ only, no digit first"
            place.child(name).report(f"{shown(name)} is no name of an argument", hint)
        travels = _travels(value, place)  # asked in any case, to report all
        return value if travels and not bad else INVALID

    @property
    def json(self) -> Json:
        name = r"^[A-Za-z_\u0080-\uffff][A-Za-z_0-9\u0080-\uffff]*$"  # a little wider than isidentifier()
        return {"type": "object", "patternProperties": {name: {}}, "additionalProperties": False}


def _travels(value: object, place: Place) -> bool:
    if len(place.path) > _DEEP:
        place.report("is nested too deeply", f"at most {_DEEP} levels")
        return False
    if isinstance(value, dict):
        found = [_travels(element, place.child(name)) for name, element in value.items()]  # all, to report all
        return all(found)
    if isinstance(value, list):
        found = [_travels(element, place.child(index)) for index, element in enumerate(value)]
        return all(found)
    if isinstance(value, str | bool | float) or (isinstance(value, int) and -(2**63) <= value < 2**64):
        return True
    what = "a number that is too large" if isinstance(value, int) else "a date or time"
    place.report(f"{what} can't be given to a handler", "write it as text, in quotes")
    return False


Kind = Scalar | AddressKind | ListOf | MapOf | AnyTable


def boolean() -> Scalar:
    def parse(value: object, folder: str) -> object:
        if not isinstance(value, bool):
            raise wrong_type("true or false", value, "true or false, without quotes")
        return value

    return Scalar("true or false", "true", parse, {"type": "boolean"})


def integer(low: int, high: int) -> Scalar:
    noun = f"a whole number from {low} to {high}"

    def parse(value: object, folder: str) -> object:
        if isinstance(value, bool) or not isinstance(value, int):
            meant = value.strip() if isinstance(value, str) else f"{value:.0f}" if isinstance(value, float) else ""
            example = meant if meant.isdecimal() and low <= int(meant) <= high else str(max(low, 4))
            raise wrong_type(noun, value, f"{example}, without quotes")
        if not low <= value <= high:
            raise BadValueError(f"{shown(value)} is out of range", f"from {low} to {high}")
        return value

    return Scalar(noun, str(low), parse, {"type": "integer", "minimum": low, "maximum": high})


def choice(*words: str) -> Scalar:
    noun = "one of " + ", ".join(f'"{word}"' for word in words)

    def parse(value: object, folder: str) -> object:
        if value not in words:
            hint = did_you_mean(value, words) if isinstance(value, str) else ""
            raise BadValueError(f"expected {noun}, not {shown(value)}", hint)
        return value

    return Scalar(noun, f'"{words[0]}"', parse, {"type": "string", "enum": list(words)})


def text(noun: str, example: str, check: Callable[[str], object], *, pattern: str = "",
         numbers: bool = False) -> Scalar:  # fmt: skip
    """A string that `check` takes, or refuses with `BadValueError`; `numbers`: it may well be one, in quotes."""

    def parse(value: object, folder: str) -> object:
        if not isinstance(value, str):
            is_number = numbers and isinstance(value, int | float) and not isinstance(value, bool)
            raise wrong_type(noun, value, f'"{value}"' if is_number else example)
        return check(value)

    return Scalar(noun, example, parse, {"type": "string", "pattern": pattern} if pattern else {"type": "string"})


def size(low: int = 0, example: str = '"64KiB"') -> Scalar:
    def parse(value: object, folder: str) -> object:
        number = parse_size(value)
        if number < low:
            raise BadValueError(f"{shown(value)} is too small", f"at least {low} bytes")
        return number

    units = "^[0-9]+(\\.[0-9]+)? ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)$"
    numbers = {"type": "integer", "minimum": low}
    return Scalar("a size", example, parse, {"anyOf": [{"type": "string", "pattern": units}, numbers]})


def duration(*, zero: bool = False) -> Scalar:
    """zero: whether 0 has a meaning (never, at once)."""

    def parse(value: object, folder: str) -> object:
        seconds = parse_duration(value)
        if seconds < 0.001 and not (zero and seconds == 0):
            raise BadValueError(f"{shown(value)} is too short", "at least 1ms")
        return seconds

    units = "^[0-9]+(\\.[0-9]+)? ?(ms|s|m|h|d)$"
    numbers = {"type": "number", "minimum": 0}
    return Scalar("a duration", '"30s"', parse, {"anyOf": [{"type": "string", "pattern": units}, numbers]})


def rate() -> Scalar:
    units = "^[0-9]+(\\.[0-9]+)? ?(B|kB|MB|GB|TB|KiB|MiB|GiB|TiB)/s$"
    numbers = {"type": "integer", "minimum": 0}
    json = {"anyOf": [{"type": "string", "pattern": units}, numbers]}
    return Scalar("a rate", '"500B/s"', lambda value, folder: parse_rate(value), json)


def path(example: str = '"/srv/www"') -> Scalar:
    """A path, made absolute from the file's folder."""
    return Scalar("a path", example, absolute_path, {"type": "string", "minLength": 1})


_NO_LOGS = ("off", "none", "no", "false", "stdout", "stderr")  # other servers' words, no names of files


def log_target(words: dict[str, str]) -> Scalar:
    """A path of a log, or one of `words` with its meaning."""

    def parse(value: object, folder: str) -> object:
        if not isinstance(value, str):
            raise wrong_type("a path", value, '"/var/log/httpd/access.log"')
        if value in words:
            return value
        if value == "":
            raise BadValueError("the path is empty", 'write "-", or "/dev/null" to keep nothing')
        if value in ("syslog", "journal"):
            raise BadValueError(
                f"{shown(value)} is for access logs only", f'for a file of that name, write "./{value}"'
            )
        if value.endswith("/"):
            raise BadValueError(f"{shown(value)} is a folder", "name the file in it")
        if value in _NO_LOGS:
            nothing = '""' if "" in words else '"/dev/null"'
            meant = nothing if not value.startswith("std") else '"-"' if value == words["-"] else f'"/dev/{value}"'
            raise BadValueError(f"{shown(value)} is no log", f'write {meant}; for a file of that name, "./{value}"')
        return absolute_path(value, folder)

    return Scalar(
        "a path, or " + ", ".join(f'"{word}" ({meaning})' for word, meaning in words.items()),
        '"-"',
        parse,
        {"type": "string", "pattern": f"^(?!({'|'.join(_NO_LOGS)})$)"},
    )


ACCESS_LOG = log_target({"-": "stdout", "": "off", "syslog": "syslog", "journal": "the systemd journal"})


def visible(noun: str, example: str) -> Scalar:
    """A non-empty string without control characters."""

    def check(value: str) -> str:
        if not value:
            raise BadValueError(f"expected {noun}, not an empty string", "leave the key out for the default")
        if CONTROL.search(value):
            raise BadValueError(f"{shown(value)} has a control character in it")
        return value

    return text(noun, example, check)


def _address(value: object, folder: str) -> Address:
    return parse_address(value, folder)


ADDRESS_TEXT = Scalar("an address", '":80"', _address, {"type": "string", "minLength": 1})
