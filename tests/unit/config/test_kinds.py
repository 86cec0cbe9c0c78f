"""Kinds that hold others report each problem at its place, and give no half-valid value."""

from __future__ import annotations

import datetime

import pytest

from httpd.config import grammar
from httpd.config.errors import ConfigError
from httpd.config.kinds import (
    ACCESS_LOG,
    ADDRESS_TEXT,
    INVALID,
    AddressKind,
    AnyTable,
    ListOf,
    MapOf,
    boolean,
    choice,
    duration,
    integer,
    log_target,
    size,
    text,
)
from httpd.config.place import Place, Source

WORD = text("a word", '"x"', grammar.charset)
MAP = MapOf(grammar.field_name, WORD, "a table", "{}", "")


@pytest.fixture
def read():
    """Read a value as the key `k` of /etc/f; returns (result, keys of the problems)."""

    def run(kind, value):
        problems: list[ConfigError] = []
        result = kind.read(value, Place(Source("f", "/etc", {}, {}, problems), ("k",)))
        return result, [problem.key for problem in problems]

    return run


@pytest.mark.parametrize(
    ("kind", "value", "result"),
    [
        (boolean(), False, False),
        (integer(1, 3), 1, 1),
        (integer(1, 3), 3, 3),
        (choice("a", "b"), "b", "b"),
        (size(64), 64, 64),
        (duration(), "1ms", 0.001),
        (duration(zero=True), 0, 0.0),
        (ACCESS_LOG, "", ""),
        (ACCESS_LOG, "syslog", "syslog"),
        (ACCESS_LOG, "./syslog", "/etc/syslog"),
        (log_target({"-": "stderr"}), "-", "-"),
        (ListOf(WORD, "words", "[]"), ["a", "b"], ("a", "b")),
        (ListOf(WORD, "words", "[]"), [], ()),
        (MAP, {"A": "x", "B": "y"}, {"A": "x", "B": "y"}),
        (MAP, {}, {}),
    ],
)
def test_valid(read, kind, value, result):
    assert read(kind, value) == (result, [])


@pytest.mark.parametrize(
    ("kind", "value", "keys"),
    [
        (boolean(), 1, ["k"]),
        (integer(1, 3), 0, ["k"]),
        (integer(1, 3), 4, ["k"]),
        (integer(0, 1), True, ["k"]),
        (choice("a", "b"), "c", ["k"]),
        (choice("a", "b"), ["a"], ["k"]),
        (size(64), 63, ["k"]),
        (duration(), 0.0009, ["k"]),
        (duration(), 0, ["k"]),
        (duration(zero=True), 0.0001, ["k"]),
        (ACCESS_LOG, "logs/", ["k"]),
        (log_target({"-": "stderr"}), "", ["k"]),
        (log_target({"-": "stderr"}), "journal", ["k"]),
        (ListOf(WORD, "words", "[]"), ["a", 1, "b c"], ["k[1]", "k[2]"]),
        (ListOf(WORD, "words", "[]", 1), [], ["k"]),
        (ListOf(WORD, "words", "[]"), "a", ["k"]),
        (MAP, {"A": "x", "B": "y z"}, ["k.B"]),
        (MAP, {"A": "x", "B C": "y"}, ['k."B C"']),
        (MAP, {"A": "x", "B C": 1}, ['k."B C"', 'k."B C"']),
        (MAP, {"A": "x", "a": "y"}, ["k.a"]),
        (MAP, ["A"], ["k"]),
        (AddressKind(), {"address": ":80", "tls": False}, ["k.tls"]),
        (AddressKind(), {"address": "80"}, ["k.address"]),
        (AddressKind(), {}, ["k"]),
    ],
)
def test_invalid(read, kind, value, keys):
    assert read(kind, value) == (INVALID, keys)


def test_equal_elements_are_reported_and_the_first_is_kept(read):
    kind = ListOf(ADDRESS_TEXT, "addresses", "[]", identity=lambda address: address.text)
    result, keys = read(kind, ["[::1]:1", ":1", "[0::1]:1", ":1"])
    assert [address.text for address in result] == ["[::1]:1", ":1"]
    assert keys == ["k[2]", "k[3]"]


@pytest.mark.parametrize("table", [{"address": "unix:a"}, "unix:a", "unix:./a"])
def test_an_address_alone_in_a_table_is_that_address(read, table):
    assert read(AddressKind(), table)[0].text == "unix:/etc/a"


def test_a_table_of_anything_is_kept_as_it_is(read):
    value = {"directory": "/srv", "depth": 3, "deep": {"list": [1, "two", 3.5, True, {"x-y": {}}]}, "empty": {}}
    assert read(AnyTable(), value) == (value, [])


@pytest.mark.parametrize(
    ("value", "places"),
    [
        (["a"], [""]),
        ({"not-a-name": 1}, ["not-a-name"]),
        ({"a": datetime.date(2026, 11, 26), "b": {"c": [1, datetime.time(1, 2)]}}, ["a", "b.c[1]"]),
        ({"big": 2**64}, ["big"]),
        ({"low": -(2**63) - 1}, ["low"]),
        ({"1st": 1, "a": datetime.datetime(2026, 11, 26), "": 2**64}, ["1st", '""', "a", '""']),
        ({"a b": {"c d": datetime.date(2026, 11, 26)}}, ['"a b"', '"a b"."c d"']),
        ("directory", [""]),
    ],
)
def test_what_does_not_travel_is_refused_where_it_stands(read, value, places):
    result, problems = read(AnyTable(), value)
    assert result is INVALID
    assert problems == ["k" if not place else f"k.{place}" for place in places]


def test_whatever_names_an_argument_does(read):
    value = {"_": 1, "a1": 2, "gr\u00f6\u00dfe": 3, "class": 4}
    assert read(AnyTable(), value) == (value, [])


@pytest.mark.parametrize("number", [-(2**63), 2**64 - 1, 1e308, float("inf")])
def test_numbers_that_travel(read, number):
    assert read(AnyTable(), {"a": number}) == ({"a": number}, [])


@pytest.mark.parametrize("wrap", [lambda inner: {"a": inner}, lambda inner: [inner]], ids=["tables", "arrays"])
@pytest.mark.parametrize(("levels", "good"), [(48, True), (49, False)])
def test_a_table_of_anything_has_a_depth(read, wrap, levels, good):
    value = True
    for _ in range(levels):
        value = wrap(value)
    result, problems = read(AnyTable(), {"a": value})
    assert (result is not INVALID, len(problems)) == (good, 0 if good else 1)
