"""The files in docs/ are those that the surface makes, and they are true."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tomli

from httpd.config import reference
from httpd.config.load import load

ROOT = Path(__file__).parents[3]
CORPUS = ROOT / "tests" / "corpus" / "config"
SCHEMA = json.loads(reference.json_schema())
BAD_VALUES = [path for path in sorted((CORPUS / "bad").glob("*.toml")) if not path.stem.startswith("toml-")]
HOW = "run: python -m httpd.config.reference"
# What a schema can't say: rules between keys, and parts of a grammar.
ONLY_HTTPD_KNOWS = {
    "no-vhost", "only-comments", "empty", "vhost-empty-array", "vhost-without-content", "workers-above-max",
    "listen-overlap", "listen-twice", "listen-long-socket", "listen-not-in-server",
    "names-twice", "names-taken", "nameless-twice", "mount-paths-twice", "directory-without-root", "redirect-loop",
    "methods-vhost", "log-template", "root-control", "handler-paths", "cgi-interpreters",
}  # fmt: skip


def test_manual_is_current():
    assert (ROOT / "docs" / "config.md").read_text(encoding="utf-8") == reference.manual(), HOW


def test_schema_is_current():
    assert (ROOT / "docs" / "config.schema.json").read_text(encoding="utf-8") == reference.json_schema(), HOW


def test_main_writes_both(tmp_path, capsys):
    assert reference.main([str(tmp_path)]) == 0
    assert (tmp_path / "config.md").read_text(encoding="utf-8") == reference.manual()
    assert (tmp_path / "config.schema.json").read_text(encoding="utf-8") == reference.json_schema()
    assert reference.main(["a", "b"]) == 64
    assert "usage" in capsys.readouterr().err


def test_examples_of_the_manual_load(write):
    blocks = re.findall(r"```toml\n(.*?)```", reference.manual(), re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        assert load(write(block)).config.vhosts


def test_the_manual_shows_how_tables_and_arrays_are_written():
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \| ", reference.manual(), re.MULTILINE))
    assert rows["options"] == 'a table: `{ directory = "/srv/hooks" }`'
    assert rows["pythonpath"] == 'an array of paths: `["/srv/myapp"]`'
    assert rows["class"] == "a handler"


def test_messages_of_the_manual_are_real(bad):
    text = '[server]\nlisen = [":80"]\n' + "\n" * 5 + '[timeouts]\nhead = "10"\n[[vhost]]\nroot = "/srv"\n'
    assert bad(text) == reference.ERRORS.splitlines()


def valid(value: Any, schema: dict[str, Any]) -> bool:
    """As much of JSON Schema as the schema uses."""
    if not schema:
        return True  # anything
    if "$ref" in schema:
        return valid(value, SCHEMA["definitions"][schema["$ref"].removeprefix("#/definitions/")])
    if "anyOf" in schema:
        return any(valid(value, option) for option in schema["anyOf"])
    kinds = {"string": str, "boolean": bool, "array": list, "object": dict, "integer": int, "number": (int, float)}
    kind = schema.get("type")
    if kind is not None and (not isinstance(value, kinds[kind]) or (isinstance(value, bool) and kind != "boolean")):
        return False
    if "enum" in schema and value not in schema["enum"]:
        return False
    if isinstance(value, str):
        return re.search(schema.get("pattern", ""), value) is not None and len(value) >= schema.get("minLength", 0)
    if isinstance(value, list):
        items = schema.get("items", {})
        return len(value) >= schema.get("minItems", 0) and all(valid(item, items) for item in value)
    if isinstance(value, dict):
        return valid_object(value, schema)
    return not isinstance(value, int | float) or schema.get("minimum", value) <= value <= schema.get("maximum", value)


def valid_object(value: dict[str, Any], schema: dict[str, Any]) -> bool:
    for name, item in value.items():
        options = [schema["properties"][name]] if name in schema.get("properties", {}) else []
        options += [inner for pattern, inner in schema.get("patternProperties", {}).items() if re.search(pattern, name)]
        if not options or not all(valid(item, option) for option in options):
            return False
    return set(schema.get("required", ())) <= set(value)


@pytest.mark.parametrize("path", sorted((CORPUS / "good").glob("*.toml")), ids=lambda path: path.stem)
def test_good_files_fit_the_schema(path):
    assert valid(tomli.loads(path.read_text(encoding="utf-8")), SCHEMA)


@pytest.mark.parametrize("path", BAD_VALUES, ids=lambda path: path.stem)
def test_bad_files_do_not_fit_where_a_schema_can_tell(path):
    assert valid(tomli.loads(path.read_text(encoding="utf-8")), SCHEMA) == (path.stem in ONLY_HTTPD_KNOWS)


def test_schema_stays_within_what_editors_know():
    known = {
        "type", "properties", "additionalProperties", "patternProperties", "items", "anyOf", "enum", "pattern",
        "minimum", "maximum", "minLength", "minItems", "uniqueItems", "required", "description", "default",
        "examples", "$ref",
    }  # fmt: skip

    def visit(schema: dict[str, Any]) -> None:
        assert set(schema) <= known
        assert "$ref" not in schema or len(schema) == 1
        for group in ("properties", "patternProperties"):
            for inner in schema.get(group, {}).values():
                visit(inner)
        for inner in [*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else ())]:
            visit(inner)

    visit({name: value for name, value in SCHEMA.items() if name not in ("$schema", "title", "definitions")})
    for definition in SCHEMA["definitions"].values():
        visit(definition)
