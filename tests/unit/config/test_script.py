"""`httpd run`: the configuration that is made of its options."""

from __future__ import annotations

import os
import pwd
import resource
from pathlib import Path

import pytest

from httpd.config.environment import RESERVED_DESCRIPTORS
from httpd.config.errors import ConfigErrors
from httpd.config.schema import Limits, Script
from httpd.config.script import script_config


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "serve.py"
    path.touch()
    return path


def test_a_script(script: Path) -> None:
    config = script_config("serve.py", ["a", "-b"], folder=str(script.parent), euid=1000, environ={})
    assert config.script == Script(str(script), ("a", "-b"), str(script.parent))
    assert (config.path, config.vhosts, config.server.listen) == ("", (), ())
    assert (config.server.workers, config.server.user) == (1, "")
    assert (config.log.access, config.log.error) == ("-", "-")


def test_paths_are_from_the_current_folder(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(script.parent)
    for name in ("serve.py", "./serve.py", str(script)):
        config = script_config(name, euid=1000, environ={})
        assert config.script is not None
        assert os.path.samefile(config.script.path, script)
        assert config.script.folder == str(script.parent)
    config = script_config("serve.py", listen=["unix:a.sock", ":81", ":81"], euid=1000, environ={})
    assert [address.text for address in config.server.listen] == [f"unix:{script.parent}/a.sock", ":81"]


def test_options(script: Path) -> None:
    pem = str(script)
    config = script_config(pem, workers=3, tls=(pem, pem), folder="/", euid=1000, environ={})
    assert config.server.workers == 3
    assert config.script is not None
    assert (config.script.certificate, config.script.key, config.script.folder) == (pem, pem, "/")


def test_every_problem_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors) as caught:
        script_config("no.py", listen=["80", "x y:1"], tls=("c", "k"), folder=str(tmp_path), euid=1000)
    assert [str(problem).partition(":")[0] for problem in caught.value.problems] == [
        "SCRIPT", "--tls-cert", "--tls-key", "--listen", "--listen"
    ]  # fmt: skip
    assert f"SCRIPT: there is no file '{tmp_path}/no.py'" in str(caught.value)


def test_a_folder_is_no_script(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="SCRIPT: there is no file"):
        script_config(str(tmp_path), euid=1000)


def test_current_folder_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigErrors, match="current folder"):
        script_config("/etc/passwd", euid=1000)


def test_each_script_with_its_arguments_has_its_run_dir(script: Path) -> None:
    other = script.with_name("other.py")
    other.touch()
    folders = {
        script_config(str(path), arguments, listen=listen, euid=euid, environ={}).server.run_dir
        for path in (script, other)
        for arguments in ([], ["a"])
        for listen in ([], [":81"])
        for euid in (0, 1000)
    }
    assert len(folders) == 16
    assert "/run/httpd" not in folders
    again = script_config(str(script), ["a"], workers=7, euid=0, environ={}).server.run_dir
    assert again in folders
    assert again.startswith("/run/httpd-")


def test_the_run_dir_of_an_ordinary_user(script: Path) -> None:
    found = script_config(str(script), euid=1000, environ={"XDG_RUNTIME_DIR": "/run/user/1000"}).server.run_dir
    assert found.startswith("/run/user/1000/httpd-")


def test_root_gives_the_workers_to_the_owner(open_folder: Path) -> None:
    script = open_folder / "serve.py"
    script.touch()
    if os.geteuid() == 0:
        assert script_config(str(script), euid=0).server.user == "nobody"
        os.chown(script, 1, -1)
        assert script_config(str(script), euid=0).server.user == pwd.getpwuid(1).pw_name
    else:
        assert script_config(str(script), euid=0).server.user == pwd.getpwuid(os.geteuid()).pw_name


@pytest.mark.parametrize("hard", [100, 4096, 10**6])
def test_connections_fit_the_limit_on_open_files(script: Path, monkeypatch: pytest.MonkeyPatch, hard: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda what: (hard, hard))
    room = hard - RESERVED_DESCRIPTORS - Limits().detached
    assert script_config(str(script), euid=1000).limits.connections == max(1, min(Limits().connections, room))
