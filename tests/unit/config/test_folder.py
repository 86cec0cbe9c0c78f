from __future__ import annotations

import os
import pwd
import resource

import pytest

from httpd.config.environment import RESERVED_DESCRIPTORS
from httpd.config.errors import ConfigErrors
from httpd.config.folder import folder_config
from httpd.config.schema import Directory


def test_a_folder(tmp_path):
    config = folder_config(str(tmp_path), euid=1000, environ={})
    assert config.path == ""
    assert [address.text for address in config.server.listen] == ["127.0.0.1:8000"]
    assert config.server.user == ""
    assert config.log.access == "-"
    (vhost,) = config.vhosts
    assert (vhost.names, vhost.listen) == ((), ())
    assert vhost.settings.listing is True
    assert vhost.mounts == (Directory("/", "vhost[0]", vhost.settings, str(tmp_path)),)


def test_paths_are_from_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = folder_config("www", [":80", "unix:a.sock", ":80"], euid=1000, environ={})
    assert [address.text for address in config.server.listen] == [":80", f"unix:{tmp_path}/a.sock"]
    assert config.vhosts[0].mounts[0].root == f"{tmp_path}/www"
    assert folder_config(".", euid=1000, environ={}).vhosts[0].mounts[0].root == str(tmp_path)


def test_every_problem_at_once():
    with pytest.raises(ConfigErrors) as caught:
        folder_config("a\0b", ["80", "x y:1"], euid=1000)
    assert [str(problem).partition(":")[0] for problem in caught.value.problems] == ["FOLDER", "--listen", "--listen"]
    assert 'write ":80"' in str(caught.value)


def test_name_that_is_not_utf8():
    with pytest.raises(ConfigErrors, match="FOLDER: the path is not UTF-8"):
        folder_config("/\udcff", euid=1000)


def test_current_folder_is_gone(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    with pytest.raises(ConfigErrors, match="current folder"):
        folder_config(".", euid=1000)


def test_each_folder_and_address_has_its_run_dir():
    folders = {
        folder_config(folder, listen, euid=euid, environ={}).server.run_dir
        for folder in ("/a", "/b")
        for listen in ([":80"], [":81"])
        for euid in (0, 1000)
    }
    assert len(folders) == 8
    assert "/run/httpd" not in folders
    again = folder_config("/a/.", [":80"], euid=0, environ={}).server.run_dir
    assert again in folders
    assert again.startswith("/run/httpd-")


def test_root_gives_the_workers_to_the_owner(open_folder):
    if os.geteuid() == 0:
        os.chown(open_folder, pwd.getpwnam("nobody").pw_uid, -1)
        owner = "nobody"
    else:
        owner = pwd.getpwuid(os.geteuid()).pw_name
    assert folder_config(str(open_folder), euid=0).server.user == owner


@pytest.mark.parametrize("folder", ["/", "/does/not/exist"])
def test_root_gives_the_workers_to_nobody(folder):
    assert folder_config(folder, euid=0).server.user == "nobody"


@pytest.mark.parametrize(
    ("hard", "connections"), [(100, 1), (4096, 4096 - 256 - RESERVED_DESCRIPTORS), (10**6, 10_000)]
)
def test_connections_fit_the_limit_on_open_files(monkeypatch, hard, connections):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (hard, hard))
    assert folder_config("/", euid=1000).limits.connections == connections
