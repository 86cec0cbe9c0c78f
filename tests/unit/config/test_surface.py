"""The surface against the schema: no key is missing on either side, and every default is said right."""

from __future__ import annotations

import msgspec
import pytest
import tomli

from httpd.config import schema
from httpd.config.errors import NOT_AVAILABLE, ConfigError
from httpd.config.kinds import INVALID
from httpd.config.place import Place, Source
from httpd.config.settings_keys import SETTINGS, SETTINGS_LATER
from httpd.config.surface import DROP_IN, MAIN, homes_of

TABLES = {table.name: table for table in MAIN.tables}
PAIRS = [
    ("server", schema.Server, {"include"}),
    ("timeouts", schema.Timeouts, set()),
    ("limits", schema.Limits, set()),
    ("log", schema.Log, set()),
    ("defaults", schema.Settings, set()),
]
LATER = {
    "server": ("preload",),
    "limits": ("connections_per_client",),
    "defaults": SETTINGS_LATER,
    "vhost": SETTINGS_LATER,
}
MOUNTS = ("[[vhost.directory]]", "[[vhost.cgi]]", "[[vhost.handler]]", "[[vhost.redirect]]")
OTHERS = {"server": {"listen", "run_dir"}}  # their defaults are made by `load`


def read(kind, value):
    problems: list[ConfigError] = []
    result = kind.read(value, Place(Source("f", "/f", {}, {}, problems), ("key",)))
    return result, problems


@pytest.mark.parametrize(("name", "struct", "extra"), PAIRS)
def test_keys_are_the_fields_of_the_schema(name, struct, extra):
    assert {key.name for key in TABLES[name].keys} == {*struct.__struct_fields__, *extra}


@pytest.mark.parametrize(("name", "struct", "extra"), PAIRS)
def test_defaults_are_those_of_the_schema(name, struct, extra):
    defaults = struct()
    for key in TABLES[name].keys:
        if key.name in extra or key.name in OTHERS.get(name, ()) or key.default.startswith("("):
            continue
        result, problems = read(key.kind, tomli.loads(f"value = {key.default}")["value"])
        assert not problems
        assert result == getattr(defaults, key.name), key.name


def test_scripts_have_the_keys_and_defaults_of_the_schema():
    (table,) = (inner for inner in TABLES["vhost"].tables if inner.name == "cgi")
    own = {key.name: key for key in table.keys if key not in SETTINGS}
    # `document_root` is the vhost's root, which has a key there; `may_be_missing` is for `httpd FOLDER --cgi`.
    others = {"key", "settings", "document_root", "may_be_missing"}
    assert own.keys() | {"limits"} == {*schema.Cgi.__struct_fields__} - others
    assert [name for name, key in own.items() if key.required] == ["path"]
    (limits,) = table.tables
    assert [key.name for key in limits.keys] == [*schema.ScriptLimits.__struct_fields__]
    defaults = schema.Cgi("/", "", schema.Settings())
    for name, key in own.items():
        if not key.default.startswith("("):
            assert read(key.kind, tomli.loads(f"value = {key.default}")["value"]) == (getattr(defaults, name), []), name


def test_a_handler_has_the_keys_and_defaults_of_the_schema():
    (table,) = (inner for inner in TABLES["vhost"].tables if inner.name == "handler")
    own = {"target" if key.name == "class" else key.name: key for key in table.keys if key not in SETTINGS}
    assert own.keys() == {*schema.Handler.__struct_fields__} - {"key", "settings"}
    assert {name for name, key in own.items() if key.required} == {"path", "target"}
    defaults = schema.Handler("/", "", schema.Settings())
    for name, key in own.items():
        if not key.required:
            assert read(key.kind, tomli.loads(f"value = {key.default}")["value"]) == (getattr(defaults, name), []), name


def every_key():
    def visit(table):
        yield from table.keys
        for inner in table.tables:
            yield from visit(inner)

    return list({id(key): key for key in visit(MAIN)}.values())


@pytest.mark.parametrize("key", every_key(), ids=lambda key: key.name)
def test_every_example_is_valid(key):
    result, problems = read(key.kind, tomli.loads(f"value = {key.kind.example}")["value"])
    assert result is not INVALID
    assert not problems


@pytest.mark.parametrize("name", sorted(LATER))
def test_later_keys_are_refused_by_name(name, bad):
    assert TABLES[name].later == LATER[name]
    header = "[[vhost]]" if name == "vhost" else f"[{name}]"
    text = f"{header}\n" + "".join(f"{word} = 1\n" for word in LATER[name])
    if name == "vhost":
        text = text.replace("[[vhost]]", '[[vhost]]\nroot = "/srv"')
    messages = bad(text)
    assert [message.partition(": ")[2].partition(": ")[2] for message in messages] == [NOT_AVAILABLE] * len(LATER[name])


def test_mounts_refuse_later_settings():
    for mount in TABLES["vhost"].tables:
        assert mount.later == SETTINGS_LATER


def test_no_key_is_both_there_and_later():
    def visit(table):
        assert not set(table.known()) & set(table.later)
        for inner in table.tables:
            visit(inner)

    visit(MAIN)


def test_settings_stand_on_every_vhost_and_mount():
    vhost = TABLES["vhost"]
    for table in (TABLES["defaults"], vhost, *vhost.tables):
        assert all(key in table.keys for key in SETTINGS)


def test_drop_ins_hold_vhosts_and_defaults():
    assert DROP_IN.known() == ["defaults", "vhost"]


@pytest.mark.parametrize(
    ("name", "homes"),
    [
        ("workers", ["[server]"]),
        ("timeouts", ["[timeouts]"]),
        ("directory", ["[[vhost.directory]]"]),
        ("head", ["[timeouts]", "[limits]"]),
        ("listing", ["[defaults]", "[[vhost]]", *MOUNTS]),
        ("nothing", []),
    ],
)
def test_homes(name, homes):
    assert homes_of(name) == homes


def test_schema_is_frozen():
    with pytest.raises(AttributeError):
        schema.Server().threads = 3
    assert issubclass(schema.Config, msgspec.Struct)
