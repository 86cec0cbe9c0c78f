from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from httpd.config.errors import ConfigErrors
from httpd.config.load import load
from httpd.config.run_dir import default_run_dir, name_hash, run_dir_of

HERE = name_hash("/etc/httpd.toml")


@pytest.mark.parametrize(
    ("euid", "environ", "folder"),
    [
        (0, {}, "/run/httpd"),
        (0, {"XDG_RUNTIME_DIR": "/run/user/0"}, "/run/httpd"),
        (1000, {"XDG_RUNTIME_DIR": "/run/user/1000"}, f"/run/user/1000/httpd-{HERE}"),
        (1000, {"XDG_RUNTIME_DIR": "/run/user/1000/"}, f"/run/user/1000/httpd-{HERE}"),
        (1000, {}, f"/tmp/httpd-1000-{HERE}"),
        (1000, {"XDG_RUNTIME_DIR": ""}, f"/tmp/httpd-1000-{HERE}"),
        (1000, {"XDG_RUNTIME_DIR": "relative"}, f"/tmp/httpd-1000-{HERE}"),
    ],
)
def test_default(euid, environ, folder):
    assert default_run_dir("/etc/httpd.toml", euid, environ) == folder


def test_every_name_of_a_file_leads_to_one_folder(tmp_path, monkeypatch):
    (tmp_path / "a.toml").write_text("")
    (tmp_path / "link.toml").symlink_to("a.toml")
    monkeypatch.chdir(tmp_path)
    names = ("a.toml", "./a.toml", "link.toml", str(tmp_path / "a.toml"))
    assert len({default_run_dir(name, 1000, {}) for name in names}) == 1
    assert default_run_dir("b.toml", 1000, {}) != default_run_dir("a.toml", 1000, {})


def run_dir(path):
    return run_dir_of(path, euid=1000, environ={})


@pytest.mark.parametrize(
    "text",
    [
        '[server]\nrun_dir = "run"\n',
        "server.run_dir = 'run'\n",
        'server = { workers = 2, run_dir = "run" }\n',
        '"server"."run_dir" = "r\\u0075n"\n',
        "[server]\nrun_dir = '''run'''\n",
    ],
)
def test_of_a_file_with_it(write, tmp_path, text):
    assert run_dir(write(text)) == f"{tmp_path}/run"


@pytest.mark.parametrize(
    "text",
    [
        '[server]\nworkers = 4;\nrun_dir = "run"\n',
        '[server]\nrun_dir = "run" # here\nworkers = \n',
        '[ server ] # it\n  run_dir="run"\n[[vhost]\n',
        '["server"]\n"run_dir" = "r\\u0075n"\n}',
        "[log]\nrun_dir = 'other'\n[server]\nrun_dir = 'run'\n[[vhost\n",
        "[server.x]\nrun_dir = 'other'\n[server]\nrun_dir = 'run'\nx\n",
        "[[server]]\nrun_dir = 'other'\n[server]\nrun_dir = 'run'\nx\n",
        'server.run_dir = "run"\nx\n',
        'server = { run_dir = "run" }\nx\n',
        'server = { workers = 2, run_dir = "run" \nx\n',
        "# run_dir = 'other'\n[server]\nrun_dir = 'run'\nrun_dir = 'second'\n",
        b"[server]\n# caf\xe9\nrun_dir = 'run'\n",
        "\ufeff[server]\r\nrun_dir = 'run'\r\n",
    ],
)
def test_of_a_broken_file(write, tmp_path, text):
    with pytest.raises(ConfigErrors):
        load(write(text))
    assert run_dir(write(text)) == f"{tmp_path}/run"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[server]\n",
        "server = 3\n",
        "[server]\nrun_dir = 5\n",
        "[server]\nrun_dir = ''\n",
        "run_dir = 'a'\nx\n",
        "[server]\nrun_dir =\n",
        "[server]\n# run_dir = 'a'\nx\n",
        '[server]\nrun_dir = "\\q"\n',
        "[log]\nrun_dir = 'a'\nx\n",
    ],
)
def test_without_one_it_is_the_default(write, text):
    path = write(text)
    assert run_dir(path) == default_run_dir(path, 1000, {})


def test_is_that_of_load(write):
    for text in ("", '[server]\nrun_dir = "x/../run"\n'):
        path = write(text + '[[vhost]]\nroot = "/srv"\n')
        assert load(path, euid=1000, environ={}).config.server.run_dir == run_dir(path)


def test_of_the_process_itself(write):
    path = write("")
    assert run_dir_of(path) == default_run_dir(path, os.geteuid(), os.environ)


def test_missing_file(tmp_path):
    with pytest.raises(ConfigErrors, match="No such file"):
        run_dir(str(tmp_path / "no.toml"))


@given(st.binary(max_size=200) | st.text("[]server.un_di= \"'\\\n{},", max_size=80).map(str.encode))
def test_any_file_has_one(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "any.toml"
    path.write_bytes(content)
    assert run_dir(str(path)).startswith("/")
