"""A configuration against the machine; what needs another user is tried in a child."""

from __future__ import annotations

import grp
import os
import pwd
import resource
import socket

import pytest

from httpd.config import environment
from httpd.config.environment import check_environment, check_machine
from httpd.config.folder import folder_config
from httpd.config.load import Loaded, load

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="asks what root would be told")
USER_ONLY = pytest.mark.skipif(os.geteuid() == 0, reason="asks what an ordinary user would be told")


def short(problems, folder):
    return [str(problem).replace(f"{folder}/", "") for problem in problems]


@pytest.fixture
def reach(open_folder, as_user, user_name):
    """`check_environment` of a text, as an ordinary user."""

    def ask(text, **files):
        for name, content in {"httpd": text, **files}.items():
            (open_folder / f"{name}.toml").write_text(content)
        loaded = load(str(open_folder / "httpd.toml"))
        return short(as_user(lambda: check_environment(loaded, who=user_name)), open_folder)

    return ask


@pytest.fixture
def machine(tmp_path):
    """`check_machine` of a text, as this user; messages about logs and limits only when they are asked for."""

    def ask(text, euid=None):
        path = tmp_path / "httpd.toml"
        path.write_text(text + '\n[[vhost]]\nroot = "/"\n')
        loaded = load(str(path), euid=1000, environ={})
        return short(check_machine(loaded, os.geteuid() if euid is None else euid), tmp_path)

    return ask


def test_everything_is_there(open_folder, reach):
    (open_folder / "www" / "a").mkdir(parents=True)
    (open_folder / "404.html").write_text("no")
    text = '[defaults]\nerror_pages = { 404 = "404.html" }\n[[vhost]]\nroot = "www"\n'
    assert reach(text + '[[vhost.directory]]\npath = "/a"\n') == []


def test_problems_name_the_line_that_says_it(open_folder, reach):
    (open_folder / "www").mkdir()
    (open_folder / "dir.html").mkdir()
    text = """
[server]
include = ["more.toml"]
[defaults]
error_pages = { 404 = "none.html" }
[[vhost]]
root = "wwww"
error_pages = { 5xx = "dir.html" }
  [[vhost.directory]]
  path = "/a/"
  [[vhost.directory]]
  path = "/b/"
  root = "b"
  error_pages = { 403 = "403.html" }
  [[vhost.redirect]]
  from = "/r"
  to = "/s"
"""
    more = '[defaults]\nerror_pages = { 410 = "410.html" }\n[[vhost]]\nnames = ["m.org"]\nroot = "www"\n'
    assert sorted(reach(text, more=more)) == [
        "httpd.toml:10: vhost[0].directory[0].path: 'wwww/a' does not exist: there is no 'wwww'",
        "httpd.toml:13: vhost[0].directory[1].root: 'b' does not exist",
        "httpd.toml:14: vhost[0].directory[1].error_pages.403: '403.html' does not exist",
        "httpd.toml:5: defaults.error_pages.404: 'none.html' does not exist",
        "httpd.toml:7: vhost[0].root: 'wwww' does not exist",
        "httpd.toml:8: vhost[0].error_pages.5xx: 'dir.html' is not a regular file",
        "more.toml:2: defaults.error_pages.410: '410.html' does not exist",
    ]


def test_closed_root(open_folder, reach, user_name):
    (open_folder / "srv" / "www").mkdir(parents=True)
    (open_folder / "srv").chmod(0)
    (message,) = reach('[[vhost]]\nroot = "srv/www"\n')
    assert message.startswith(f"httpd.toml:2: vhost[0].root: user {user_name!r} may not enter 'srv' (d---------")


def test_a_listing_needs_a_folder_that_can_be_listed(open_folder, reach):
    (open_folder / "www").mkdir()
    (open_folder / "www").chmod(0o311)
    assert reach('[[vhost]]\nroot = "www"\n') == []
    (message,) = reach('[[vhost]]\nroot = "www"\nlisting = true\n')
    assert "may not list 'www'" in message


PYTHONPATH = """
[[vhost]]
root = "www"
  [[vhost.handler]]
  path = "/a"
  class = "app:A"
  pythonpath = ["app", "lib.zip"]
  [[vhost.directory]]
  path = "/b"
  root = "www"
  handler = "app:B"
  pythonpath = ["app"]
"""


def test_folders_and_archives_of_modules_are_there(open_folder, reach):
    (open_folder / "www").mkdir()
    (open_folder / "app").mkdir()
    (open_folder / "lib.zip").write_bytes(b"PK")
    assert reach(PYTHONPATH) == []


def test_missing_folders_and_archives_of_modules(open_folder, reach):
    (open_folder / "www").mkdir()
    assert sorted(reach(PYTHONPATH)) == [
        "httpd.toml:12: vhost[0].directory[0].pythonpath[0]: 'app' does not exist",
        "httpd.toml:7: vhost[0].handler[0].pythonpath[0]: 'app' does not exist",
        "httpd.toml:7: vhost[0].handler[0].pythonpath[1]: 'lib.zip' does not exist",
    ]


def test_closed_folders_and_archives_of_modules(open_folder, reach, user_name):
    (open_folder / "www").mkdir()
    (open_folder / "app").mkdir(mode=0)
    (open_folder / "lib.zip").write_bytes(b"PK")
    (open_folder / "lib.zip").chmod(0)
    _of_directory, folder, archive = sorted(reach(PYTHONPATH))
    where = "httpd.toml:7: vhost[0].handler[0].pythonpath"
    assert folder.startswith(f"{where}[0]: user {user_name!r} may not enter 'app' (d---------")
    assert archive.startswith(f"{where}[1]: user {user_name!r} may not read 'lib.zip' (----------")


def test_folder_from_the_command_line(tmp_path):
    loaded = Loaded(folder_config(str(tmp_path / "no"), euid=1000))
    assert short(check_environment(loaded, who="me"), tmp_path) == ["'no' does not exist"]


def test_good_machine(machine):
    assert machine("") == []


def test_unknown_names(machine):
    text = '[server]\nuser = "no-such-user"\ngroup = "no-such-group"\ncontrol_group = "no-such-group"\n'
    assert machine(text) == [
        "httpd.toml:2: server.user: there is no user 'no-such-user'",
        "httpd.toml:3: server.group: there is no group 'no-such-group'",
        "httpd.toml:4: server.control_group: there is no group 'no-such-group'",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('user = "root"', "server.user: 'root' is root, and workers never run as root; name another user"),
        ('user = "1000"', "server.user: there is no user '1000'; write the user's name, not its number"),
        ('user = "nobody"', None),
        (
            'user = "nobody"\ngroup = "root"',
            "server.group: 'root' is root's group, which workers never have; name another group",
        ),
    ],
)
def test_workers_of_root(machine, monkeypatch, text, message):
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.getgrgid(0))
    found = machine(f"[server]\n{text}\n", euid=0)
    assert [item.partition(": ")[2] for item in found] == ([message] if message else [])


def account(name, uid, gid):
    return pwd.struct_passwd((name, "x", uid, gid, "", "/", "/bin/false"))


@pytest.mark.parametrize(
    ("accounts", "message"),
    [
        ({"http": (33, 33)}, ""),
        ({"httpd": (80, 80), "http": (33, 0)}, ""),
        (
            {"nobody": (65534, 65534)},
            "workers need a user, and there is none of httpd, www-data, http",
        ),
        (
            {"www-data": (33, 0)},
            "the group of user 'www-data' is root's, which workers never have",
        ),
    ],
)  # fmt: skip
def test_default_user_of_root(machine, monkeypatch, accounts, message):
    monkeypatch.setattr(pwd, "getpwnam", lambda name: account(name, *accounts[name]))
    found = machine("", euid=0)
    assert len(found) == bool(message)
    assert not found or found[0].startswith(f"httpd.toml: server.user: {message}; ")


def test_an_ordinary_user_may_name_only_itself(machine, monkeypatch):
    me, other = account("me", 1000, 1000), account("other", 1001, 1001)
    monkeypatch.setattr(pwd, "getpwnam", {"me": me, "other": other}.__getitem__)
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: me)
    groups = {"me": 1000, "other": 1001}
    monkeypatch.setattr(grp, "getgrnam", lambda name: grp.struct_group((name, "x", groups[name], [])))
    monkeypatch.setattr(os, "getegid", lambda: 1000)
    monkeypatch.setattr(os, "getgroups", list)
    assert machine('[server]\nuser = "me"\ngroup = "me"\ncontrol_group = "me"\n', euid=1000) == []
    found = machine('[server]\nuser = "other"\ngroup = "other"\ncontrol_group = "other"\n', euid=1000)
    assert [message.partition(";")[0] for message in found] == [
        "httpd.toml:2: server.user: only root can run workers as 'other', and this is 'me'",
        "httpd.toml:3: server.group: only root can run workers with the group 'other'",
        "httpd.toml:4: server.control_group: user 'me' is not a member of the group 'other'",
    ]


def test_addresses(machine, tmp_path):
    (tmp_path / "file").write_text("")
    bound = socket.socket(socket.AF_UNIX)
    bound.bind(str(tmp_path / "old.sock"))
    bound.close()
    text = '[server]\nlisten = ["localhost:0", "name.invalid:1", "[fe80::1%none9]:1", '
    text += '"unix:old.sock", "unix:new.sock", "unix:file", "unix:no/a.sock"]\n'
    assert machine(text) == [
        "httpd.toml:2: server.listen[2]: there is no network interface 'none9'",
        "httpd.toml:2: server.listen[5]: 'file' exists and is no socket; choose another path, or remove what is there",
        "httpd.toml:2: server.listen[6]: 'no' does not exist",
    ]


def test_logs(machine, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "old.log").write_text("")
    text = '[log]\naccess = "no/access.log"\nerror = "folder"\n[defaults]\naccess_log = "gone/a.log"\n'
    text += '[[vhost]]\nnames = ["a"]\nroot = "/"\naccess_log = "old.log"\n'
    assert machine(text) == [
        "httpd.toml:2: log.access: the log 'no/access.log' can't be made: 'no' does not exist",
        "httpd.toml:3: log.error: 'folder' is a folder; name the file in it",
        "httpd.toml:5: defaults.access_log: the log 'gone/a.log' can't be made: 'gone' does not exist",
    ]
    assert machine('[log]\naccess = "new.log"\nerror = "old.log"\n') == []
    assert machine('[log]\naccess = "syslog"\n[defaults]\naccess_log = "journal"\n') == []


def test_log_that_may_not_be_written(open_folder, as_user, user_name):
    (open_folder / "logs").mkdir()
    (open_folder / "logs").chmod(0o555)
    (open_folder / "old.log").write_text("")
    (open_folder / "old.log").chmod(0o444)
    (open_folder / "httpd.toml").write_text(
        '[log]\naccess = "logs/a.log"\nerror = "old.log"\n[[vhost]]\nroot = "/"\n[server]\nlisten = ["unix:logs/s"]\n'
    )
    loaded = load(str(open_folder / "httpd.toml"))
    found = short(as_user(lambda: check_machine(loaded, os.geteuid())), open_folder)
    folder = f"user {user_name!r} may not write in the folder 'logs'"
    assert found == [
        f"httpd.toml:7: server.listen[0]: {folder}",
        f"httpd.toml:2: log.access: the log 'logs/a.log' can't be made: {folder}",
        f"httpd.toml:3: log.error: user {user_name!r} may not write to 'old.log'",
    ]


def test_folder_of_the_default_log_is_made_by_the_master(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(environment, "DEFAULT_ACCESS_LOG", str(tmp_path / "log" / "httpd" / "access.log"))
    (tmp_path / "log").mkdir()
    assert machine('[log]\naccess = "log/httpd/access.log"\nerror = "log/httpd/error.log"\n') == []
    assert len(machine('[log]\naccess = "log/other/access.log"\n')) == 1


@pytest.mark.parametrize(
    ("hard", "fits"), [(4096, False), (10320, True), (10319, False), (resource.RLIM_INFINITY, True)]
)
def test_connections_must_fit_the_limit_on_open_files(machine, monkeypatch, hard, fits):
    monkeypatch.setattr(resource, "getrlimit", lambda what: (1024, hard))
    found = machine("[limits]\nconnections = 10000\ndetached = 256\n")
    assert bool(found) is not fits
    if hard == 4096:
        message, _, hint = found[0].partition("; ")
        assert message.startswith(
            "httpd.toml:2: limits.connections: 10000 connections per worker need 10320 open files"
        )
        assert hint.startswith("set limits.connections to 3776 or less, or raise the limit to 10320")


@pytest.mark.parametrize(("server", "handler", "fits"), [("", 16, True), ("", 17, False), (4, 4, True), (4, 5, False)])
def test_a_handler_has_no_more_threads_than_the_worker(machine, server, handler, fits):
    text = f"[server]\n{f'threads = {server}' if server else ''}\n[[vhost]]\nnames = ['a.org']\n"
    found = machine(text + f"[[vhost.handler]]\npath = '/a'\nclass = 'app:A'\nthreads = {handler}\n")
    message = f"{handler} is more than server.threads, which is {server or 16}; raise server.threads, or leave it out"
    assert found == ([] if fits else [f"httpd.toml:8: vhost[0].handler[0].threads: {message}"])


@ROOT_ONLY
def test_root_may_name_any_user_and_group(machine):
    assert machine('[server]\nuser = "nobody"\n') == []


@USER_ONLY
def test_user_may_name_itself(machine):
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert machine(f'[server]\nuser = "{me}"\n') == []
