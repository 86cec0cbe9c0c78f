"""Whole files: the corpus of good and bad ones, defaults, positions, and what crosses the pipe."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
import tomli
from hypothesis import given, settings
from hypothesis import strategies as st

from httpd.config import schema
from httpd.config.errors import ConfigErrors
from httpd.config.load import Loaded, load
from httpd.config.surface import MAIN
from httpd.worker import checker

CORPUS = Path(__file__).parents[2] / "corpus" / "config"
GOOD = sorted((CORPUS / "good").glob("*.toml"))
BAD = sorted((CORPUS / "bad").glob("*.toml"))


def check_format(text: str) -> None:
    if "%Y" in text:
        raise ValueError("unknown letter %Y at 3")


def names(path: Path) -> str:
    return path.stem


def test_corpus_is_there():
    assert len(GOOD) >= 15
    assert len(BAD) >= 60


@pytest.mark.parametrize("path", GOOD, ids=names)
def test_good_file(path):
    loaded = load(str(path), check_format, euid=1000, environ={})
    assert loaded.config.path == str(path)
    assert loaded.config.vhosts


@pytest.mark.parametrize("path", BAD, ids=names)
def test_bad_file(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    expected = [line.removeprefix("#! ") for line in lines if line.startswith("#! ")]
    with pytest.raises(ConfigErrors) as caught:
        load(str(path), check_format, euid=1000, environ={})
    assert [str(problem).replace(str(path), "FILE") for problem in caught.value.problems] == expected


@pytest.mark.parametrize("path", GOOD, ids=names)
def test_loaded_crosses_a_pipe(path):
    loaded = load(str(path), euid=1000, environ={})
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(loaded), type=Loaded) == loaded


OPTIONS = """
[[vhost]]
[[vhost.handler]]
path = "/a"
class = "app:A"
pythonpath = ["app"]
[vhost.handler.options]
text = "\u00e9"
yes = true
low = -9223372036854775808
far = inf
empty = {}
deep = { list = [1, [2.5]] }
[[vhost.directory]]
path = "/b"
root = "/srv"
handler = "app:B"
"""


def test_options_reach_the_master_as_they_were_written(good, tmp_path):
    verdict = checker.Verdict(config=good(OPTIONS).config)
    came = checker.finish(msgspec.msgpack.encode(verdict))
    assert came == verdict
    directory, handler = came.config.vhosts[0].mounts
    assert isinstance(directory, schema.Directory)
    assert directory.handler == "app:B"
    assert isinstance(handler, schema.Handler)
    assert handler.pythonpath == (f"{tmp_path}/app",)
    assert handler.options == {
        "text": "\u00e9", "yes": True, "low": -(2**63), "far": float("inf"), "empty": {}, "deep": {"list": [1, [2.5]]},
    }  # fmt: skip
    assert [type(value) for value in handler.options["deep"]["list"]] == [int, list]
    assert handler.options["yes"] is True


def test_smallest_file_has_every_default(good):
    config = good('[[vhost]]\nroot = "/srv"\n').config
    assert config.server == schema.Server(listen=(schema.Address(":80", port=80),), run_dir=config.server.run_dir)
    assert config.timeouts == schema.Timeouts()
    assert config.limits == schema.Limits()
    assert config.log == schema.Log()
    root = schema.Directory("/", "vhost[0]", schema.Settings(), "/srv")
    assert config.vhosts == (schema.Vhost(key="vhost[0]", settings=schema.Settings(), mounts=(root,)),)


@pytest.mark.parametrize(("euid", "access"), [(0, "/var/log/httpd/access.log"), (1000, "-")])
def test_default_access_log_depends_on_the_user(write, euid, access):
    assert load(write('[[vhost]]\nroot = "/srv"\n'), euid=euid, environ={}).config.log.access == access


def test_values_of_the_corpus():
    config = load(str(CORPUS / "good" / "values-as-text.toml"), euid=1000, environ={}).config
    assert config.timeouts == schema.Timeouts(
        head=0.25, body=300, write=3600, keepalive=86400, handler=1.5, drain=0, min_rate=1500
    )
    assert config.limits == schema.Limits(
        body=2 * 1024**4, body_memory=10**7, file_cache=0, request_line=1536, head=65536
    )
    config = load(str(CORPUS / "good" / "values-as-numbers.toml"), euid=1000, environ={}).config
    assert config.limits == schema.Limits(body=0, head=0x4000, queue=0)
    config = load(str(CORPUS / "good" / "everything-server.toml"), euid=1000, environ={}).config
    assert config.server == schema.Server(
        listen=(schema.Address(":80", port=80),),
        workers=8,
        max_workers=16,
        threads=4,
        user="www-data",
        group="www-data",
        run_dir=str(CORPUS / "good" / "run"),
        control_group="adm",
        max_requests=1,
        max_memory=10**8,
    )


def test_addresses_of_the_corpus():
    config = load(str(CORPUS / "good" / "addresses.toml"), euid=1000, environ={}).config
    texts = [address.text for address in config.server.listen]
    socket = f"unix:{CORPUS}/good/run/httpd.sock"
    assert texts == [
        ":80", "127.0.0.1:8000", "localhost:8001", "[2001:db8::1]:8080", socket, "[fe80::1%eth0]:81", ":0"
    ]  # fmt: skip
    assert config.vhosts[0].listen == ("localhost:8001", "[2001:db8::1]:8080", socket)


def test_locate(good, tmp_path):
    loaded = good('[server]\nlisten = [\n ":80",\n ":81"]\n\n[[vhost]]\nroot = "/a"\ntypes = { ".md" = "a/b" }\n')
    file = str(tmp_path / "httpd.toml")
    for key, line in [
        ("server", 1),
        ("server.listen", 2),
        ("server.listen[1]", 4),
        ("server.user", 1),
        ("vhost[0]", 6),
        ("vhost[0].root", 7),
        ('vhost[0].types.".md"', 8),
        ('vhost[0].types.".x.y"', 8),
        ("vhost[0].directory[3].root", 6),
        ("vhost[7].root", 6),
        ("limits.connections", 0),
        ("", 0),
    ]:
        assert loaded.locate(key) == (file, line), key
    assert loaded.locate("server", "other.toml") == ("other.toml", 0)


def test_locate_without_a_file():
    assert Loaded(schema.Config(path="", server=schema.Server(), timeouts=schema.Timeouts(), limits=schema.Limits(),
                                log=schema.Log(), vhosts=())).locate("vhost[0].root") == ("", 0)  # fmt: skip


def test_check_format_gives_its_hint(bad):
    class RefusedError(ValueError):
        hint = "write %%"

    def refuse(text: str) -> None:
        raise RefusedError(f"no good: {text}")

    text = '[[vhost]]\nroot = "/srv"\n'
    assert bad("[log]\nformat = '%h'\n" + text, check_format=refuse) == [
        "httpd.toml:2: log.format: no good: %h; write %%"
    ]


VALUES = st.recursive(
    st.one_of(
        st.text(max_size=8),
        st.integers(),
        st.floats(),
        st.booleans(),
        st.dates(),
        st.sampled_from(["/a", ":80", "-", "5s"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=6,
)


@st.composite
def odd_tables(draw: st.DrawFn) -> str:
    """A document whose tables and keys are right and whose values are anything."""

    def write(value: object) -> str:
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str):
            return '"' + "".join(f"\\U{ord(c):08x}" for c in value) + '"'
        if isinstance(value, list):
            return "[" + ", ".join(map(write, value)) + "]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{write(k)} = {write(v)}" for k, v in value.items()) + "}"
        return str(value)

    lines = []
    for table in draw(st.lists(st.sampled_from([*MAIN.tables, *MAIN.tables[-1].tables]), unique_by=lambda t: t.name)):
        name = table.name if table in MAIN.tables else f"vhost.{table.name}"
        if name.startswith("vhost."):
            lines.append("[[vhost]]" if "[[vhost]]" not in lines else "")
        lines.append(f"[[{name}]]" if table.many else f"[{name}]")
        keys = draw(st.lists(st.sampled_from([key.name for key in table.keys]), unique=True, max_size=6))
        lines.extend(f"{key} = {write(draw(VALUES))}" for key in keys)
    return "\n".join(lines)


@settings(max_examples=150, deadline=None)
@given(odd_tables())
def test_any_values_load_or_are_refused_with_a_line(tmp_path_factory, text):
    path = tmp_path_factory.getbasetemp() / "odd.toml"
    path.write_text(text)
    try:
        tomli.loads(text)
    except tomli.TOMLDecodeError:
        return
    try:
        load(str(path), euid=1000, environ={})
    except ConfigErrors as errors:
        for problem in errors.problems:
            assert problem.path.startswith(str(path.parent))
            assert str(problem).isprintable()
