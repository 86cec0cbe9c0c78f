"""The files of conf/: each is good, and what their comments say is true."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import pytest
import tomli

from httpd.config import schema
from httpd.config.load import load
from httpd.config.surface import MAIN
from httpd.logs.access import compile_format

CONF = Path(__file__).parents[2] / "conf"
EXAMPLES = sorted((CONF / "examples").glob("*.toml"))
DEFAULT = re.compile(r"^#(?=[a-z_]+ = )", re.MULTILINE)


def configuration(path: Path, text: str = "") -> schema.Config:
    if text:
        path.write_text(text)
    return load(str(path), compile_format, euid=0).config


def test_the_demo_serves_what_the_repository_has() -> None:
    config = configuration(CONF / "demo.toml")
    roots = [mount.root for vhost in config.vhosts for mount in vhost.mounts if isinstance(mount, schema.Directory)]
    pages = [page for vhost in config.vhosts for page in vhost.settings.error_pages.values()]
    assert all(Path(root).is_dir() for root in roots)
    programs = [mount for vhost in config.vhosts for mount in vhost.mounts if isinstance(mount, schema.Cgi)]
    assert programs
    assert all(os.access(script, os.X_OK) for mount in programs for script in Path(mount.root).iterdir())
    assert pages
    assert all(Path(page).is_file() for page in pages)
    # As `make run` promises to everybody: no user, nothing outside of this machine.
    assert config.server.user == ""
    assert [address.host for address in config.server.listen] == ["127.0.0.1"]


def test_what_the_demo_offers_to_take_the_hash_from_is_good(tmp_path: Path) -> None:
    shutil.copytree(CONF, tmp_path / "conf")
    before = (CONF / "demo.toml").read_text()
    lines = before.splitlines(keepends=True)
    start = next(number for number, line in enumerate(lines) if line.strip() == "# [[vhost.directory]]")
    end = next(number for number in range(start, len(lines)) if not lines[number].strip())
    lines[start:end] = [line.replace("# ", "", 1) for line in lines[start:end]]
    config = configuration(tmp_path / "conf" / "demo.toml", "".join(lines))
    assert "/mine/" in [mount.path for mount in config.vhosts[0].mounts]


def test_the_installed_file_has_every_section() -> None:
    text = (CONF / "httpd.toml").read_text()
    for table in MAIN.tables:
        assert re.search(rf"^\[+{table.name}\]+$", text, re.MULTILINE), table.name


def test_what_the_installed_file_shows_as_defaults_are_the_defaults(tmp_path: Path) -> None:
    text = (CONF / "httpd.toml").read_text()
    shown = DEFAULT.sub("", text)
    assert shown.count("\n#") < text.count("\n#")
    plain, full = tmp_path / "plain.toml", tmp_path / "full.toml"
    one, other = configuration(plain, text), configuration(full, shown)
    for part in ("server", "timeouts", "limits", "log", "vhosts"):
        assert getattr(other, part) == getattr(one, part), part


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_goes_with_the_installed_file(path: Path, tmp_path: Path) -> None:
    folder = tmp_path / "conf.d"
    folder.mkdir()
    shutil.copy(path, folder)
    text = (CONF / "httpd.toml").read_text()
    # What the example asks to have in the main file, as "# ... server.listen = [...]".
    for table, key, value in re.findall(r"^#.*?\b([a-z]+)\.([a-z]+) = (.+)$", path.read_text(), re.MULTILINE):
        text = re.sub(rf"^{key} = .*\n", "", text, flags=re.MULTILINE)
        text = text.replace(f"[{table}]\n", f"[{table}]\n{key} = {value}\n")
    config = configuration(tmp_path / "httpd.toml", text)
    names = {name for vhost in tomli.loads(path.read_text())["vhost"] for name in vhost["names"]}
    assert names
    assert names <= {name for vhost in config.vhosts for name in vhost.names}


def test_the_code_that_the_handlers_are_shown_with_has_their_classes() -> None:
    path = CONF / "examples" / "handlers.toml"
    shown = re.search(r"^# \S+/hooks\.py:.*\n(?:#(?: {4}.*)?\n)+", path.read_text(), re.MULTILINE)
    assert shown
    code = re.sub(r"^#(?: \S+:)? *(?=from )", "", shown[0])
    code = re.sub(r"^#(?: {25})?", "", code, flags=re.MULTILINE)
    module: dict[str, object] = {"__name__": "hooks"}
    exec(compile(code, "hooks.py", "exec"), module)
    (vhost,) = tomli.loads(path.read_text())["vhost"]
    named = {mount.get("class") or mount["handler"] for mount in vhost["handler"] + vhost["directory"]}
    ours = {name.partition(":")[2] for name in named if name.startswith("hooks:")}
    assert ours == {name for name, found in module.items() if getattr(found, "__module__", "") == "hooks"}


def test_the_examples_of_scripts_run_what_they_are_for_and_never_as_root(tmp_path: Path) -> None:
    programs = {
        "cgi": "/usr/lib/cgi-bin",
        "cgi-git": "/usr/lib/git-core/git-http-backend",
        "cgi-cgit": "/usr/lib/cgit/cgit.cgi",
        "cgi-php": "/usr/bin/php-cgi",
    }
    assert programs.keys() == {path.stem for path in EXAMPLES if path.stem.startswith("cgi")}
    for name, program in programs.items():
        config = configuration(tmp_path / "httpd.toml", "[server]\n" + (CONF / "examples" / f"{name}.toml").read_text())
        (mount,) = (mount for mount in config.vhosts[0].mounts if isinstance(mount, schema.Cgi))
        assert program in {mount.root, mount.script, *mount.interpreters.values()}
        assert mount.user not in ("", "root")


def test_what_the_examples_of_scripts_show_in_comments_is_good(tmp_path: Path) -> None:
    php = (CONF / "examples" / "cgi-php.toml").read_text()
    config = configuration(tmp_path / "php.toml", php.replace("  #pass_auth", "  pass_auth"))
    assert [mount.pass_authorization for mount in config.vhosts[0].mounts if isinstance(mount, schema.Cgi)] == [True]


def test_the_examples_go_together(tmp_path: Path) -> None:
    shutil.copytree(CONF / "examples", tmp_path / "conf.d")
    text = (CONF / "httpd.toml").read_text()
    listen = 'listen = [":80", "unix:/run/httpd/site.sock"]'
    config = configuration(tmp_path / "httpd.toml", re.sub(r"^listen = .*$", listen, text, flags=re.MULTILINE))
    assert len(config.vhosts) > len(EXAMPLES)
