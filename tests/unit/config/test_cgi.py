"""[[vhost.cgi]]: what the keys come to, and what the machine and the scripts' users say.

What a text alone shows to be wrong is in tests/corpus/config/bad/cgi-*.toml.
"""

from __future__ import annotations

import grp
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from httpd.config import schema
from httpd.config.environment import check_environment, check_machine, check_scripts
from httpd.config.load import Loaded, load
from httpd.system import privileges
from httpd.worker import checker

CORPUS = Path(__file__).parents[2] / "corpus" / "config" / "good" / "cgi.toml"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may have scripts run as others")
Load = Callable[[str], Loaded]


def mount(keys: str, vhost: str = "") -> str:
    return f'[[vhost]]\n{vhost}\n[[vhost.cgi]]\npath = "/cgi-bin/"\n{keys}\n'


def scripts(loaded: Loaded) -> list[schema.Cgi]:
    return [found for vhost in loaded.config.vhosts for found in vhost.mounts if isinstance(found, schema.Cgi)]


def only(loaded: Loaded) -> schema.Cgi:
    (found,) = scripts(loaded)
    return found


# Values


def test_defaults(good: Load) -> None:
    found = only(good(mount('root = "/srv/cgi"')))
    assert found == schema.Cgi("/cgi-bin/", "vhost[0].cgi[0]", schema.Settings(), "/srv/cgi", document_root="/srv/cgi")
    assert (found.folder, found.timeout, found.max_time, found.concurrency, found.queue) == ("/srv/cgi", 60, 0, 32, 128)
    assert found.limits == schema.ScriptLimits(cpu=0.0, memory=0, files=0, output=0)
    assert not found.pass_authorization
    assert not found.warm_python


def test_every_key() -> None:
    _, found, git = scripts(load(str(CORPUS), euid=1000, environ={}))
    folder = str(CORPUS.parent)
    assert found.root == f"{folder}/php"
    assert found.extensions == (".php", ".cgi", ".py")
    assert found.interpreters == {".php": "/usr/bin/php-cgi", ".py": f"{folder}/bin/python"}
    assert (found.user, found.group) == ("www-data", "users")
    assert found.env == {"TZ": "UTC", "EMPTY": "", "_x": "ä"}
    assert found.pass_env == ("LANG",)
    assert found.pass_authorization
    assert (found.timeout, found.max_time, found.concurrency, found.queue) == (5.0, 60.0, 4, 0)
    assert found.warm_python
    assert found.warm_modules == ("json", "urllib.parse")
    assert found.limits == schema.ScriptLimits(cpu=2.5, memory=256 << 20, files=32, output=10_000_000)
    assert found.settings.index == ("index.php",)
    assert found.settings.methods == ("GET", "POST")
    assert found.document_root == "/srv/www"
    assert (git.root, git.script, git.folder) == ("", "/usr/lib/git-core/git-http-backend", "/usr/lib/git-core")


@pytest.mark.parametrize(
    ("vhost", "keys", "document_root"),
    [
        ('root = "/srv/www"', 'root = "/srv/cgi"', "/srv/www"),
        ("", 'root = "/srv/cgi"', "/srv/cgi"),
        ("", 'script = "/srv/bin/one"', "/srv/bin"),
        ("", 'script = "/one"', "/"),
    ],
)
def test_the_root_of_documents(good: Load, vhost: str, keys: str, document_root: str) -> None:
    assert only(good(mount(keys, vhost))).document_root == document_root


def test_settings_are_merged(good: Load) -> None:
    text = '[defaults]\nindex = ["a.cgi"]\n' + mount('root = "/srv"\nheaders = { A = "b" }', 'headers = { C = "d" }')
    settings = only(good(text)).settings
    assert settings.index == ("a.cgi",)
    assert settings.headers == {"A": "b", "C": "d"}


def test_a_path_longer_than_that_of_a_directory_is_no_conflict(good: Load) -> None:
    assert only(good(mount('root = "/srv/www/cgi-bin"', 'root = "/srv/www"'))).path == "/cgi-bin/"


@pytest.mark.parametrize("extension", ["cgi", "", ".", ".a/b", ".a.b"])
def test_extensions_that_no_file_has(bad: Callable[..., list[str]], extension: str) -> None:
    (message,) = bad(mount(f'root = "/srv"\nextensions = ["{extension}"]'))
    assert message.startswith("httpd.toml:6: vhost[0].cgi[0].extensions[0]: ")


@pytest.mark.parametrize("name", ["", "a b", "a-b", "1a", "a=b", "é", "a\\u0000"])
def test_names_that_no_variable_has(bad: Callable[..., list[str]], name: str) -> None:
    messages = bad(mount(f'root = "/srv"\npass_env = ["{name}"]'))
    assert [message.partition(": ")[0] for message in messages] == ["httpd.toml:6"]
    messages = bad(mount(f'root = "/srv"\nenv = {{ "{name}" = "x" }}'))
    assert [message.partition(": ")[0] for message in messages] == ["httpd.toml:6"]


# Users: what the master says


def machine(write: Callable[..., str], keys: str, euid: int) -> list[str]:
    """What the master has against the mount of scripts."""
    path = write(mount(f'root = "/"\n{keys}') + '[log]\naccess = ""\nerror = "/dev/null"\n')
    found = check_machine(load(path, euid=euid, environ={}), euid)
    return [str(problem).removeprefix(f"{os.path.dirname(path)}/") for problem in found if ".cgi" in problem.key]


@pytest.mark.parametrize("euid", [0, 1000])
@pytest.mark.parametrize(
    ("keys", "messages"),
    [
        ('user = "no-such-user"', ["6: vhost[0].cgi[0].user: there is no user 'no-such-user'"]),
        ('user = "65534"', ["6: vhost[0].cgi[0].user: there is no user '65534'"]),
        ('user = "root"', ["6: vhost[0].cgi[0].user: 'root' is root, and scripts never run as root"]),
        ('group = "no-such-group"', ["6: vhost[0].cgi[0].group: there is no group 'no-such-group'"]),
        ('group = "root"', ["6: vhost[0].cgi[0].group: 'root' is root's group, which scripts never have"]),
        ('user = "root"\ngroup = "root"', [
            "6: vhost[0].cgi[0].user: 'root' is root, and scripts never run as root",
            "7: vhost[0].cgi[0].group: 'root' is root's group, which scripts never have",
        ]),
    ],
)  # fmt: skip
def test_users_that_nobody_can_have(write: Callable[..., str], keys: str, messages: list[str], euid: int) -> None:
    assert machine(write, keys, euid) == [f"httpd.toml:{line}" for line in messages]


def test_root_may_have_them_run_as_anybody(write: Callable[..., str]) -> None:
    group = grp.getgrgid(pwd.getpwnam("nobody").pw_gid).gr_name
    assert machine(write, f'user = "nobody"\ngroup = "{group}"', 0) == []
    assert machine(write, "", 0) == []


def test_a_user_whose_group_is_roots(write: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Its scripts would have that group."""
    real = pwd.getpwnam("nobody")
    account = pwd.struct_passwd((real.pw_name, "x", real.pw_uid, 0, "", "/", "/bin/false"))
    monkeypatch.setattr(pwd, "getpwnam", lambda name: account)
    message = "httpd.toml:6: vhost[0].cgi[0].user: the group of user 'nobody' is root's, which scripts never have"
    assert machine(write, 'user = "nobody"', 0) == [f"{message}; name another in `group`"]


def test_others_may_have_them_run_as_themselves_only(write: Callable[..., str]) -> None:
    euid = 1000 if os.geteuid() == 0 else os.geteuid()
    name = next((entry.pw_name for entry in pwd.getpwall() if entry.pw_uid == euid), str(euid))
    hint = "leave it out, or start the server as root"
    message = f"httpd.toml:6: vhost[0].cgi[0].user: only root can run scripts as 'nobody', and this is {name!r}; {hint}"
    assert machine(write, 'user = "nobody"', euid) == [message]
    assert machine(write, "", euid) == []
    group = next(entry.gr_name for entry in grp.getgrall() if entry.gr_gid not in (0, os.getegid()))
    message = f"httpd.toml:6: vhost[0].cgi[0].group: only root can run scripts with the group {group!r}; {hint}"
    assert machine(write, f'group = "{group}"', euid) == [message]


def test_every_mount_is_looked_at(write: Callable[..., str]) -> None:
    text = '[[vhost]]\n' + "".join(
        f'[[vhost.cgi]]\npath = "/{name}/"\nroot = "/"\nuser = "no-{name}"\n' for name in "ab"
    )  # fmt: skip
    found = check_machine(load(write(text), euid=0, environ={}), 0)
    assert [(problem.line, problem.key) for problem in found if ".cgi" in problem.key] == [
        (5, "vhost[0].cgi[0].user"), (9, "vhost[0].cgi[1].user"),
    ]  # fmt: skip


# Whom they run as


def test_nobody_with_nobodys_group_alone() -> None:
    found = privileges.script_identity("")
    account = pwd.getpwnam("nobody")
    assert (found.user, found.uid, found.gid) == ("nobody", account.pw_uid, account.pw_gid)
    assert found.groups == (account.pw_gid,)


def test_nobody_with_another_group() -> None:
    other = next(entry for entry in grp.getgrall() if entry.gr_gid not in (0, pwd.getpwnam("nobody").pw_gid))
    found = privileges.script_identity("", other.gr_name)
    assert (found.uid, found.gid, found.groups) == (pwd.getpwnam("nobody").pw_uid, other.gr_gid, (other.gr_gid,))


@pytest.mark.parametrize(("user", "group"), [("root", ""), ("", "root"), ("nobody", "root"), ("no-such-user", ""),
                                             ("", "no-such-group")])  # fmt: skip
def test_nobody_runs_as_root(user: str, group: str) -> None:
    with pytest.raises(privileges.PrivilegeError):
        privileges.script_identity(user, group)


# What scripts' users reach


@pytest.fixture
def ask(write: Callable[..., str], open_folder: Path, as_user: Callable[[Callable[[], Any]], Any],
        user_name: str) -> Callable[[str], list[str]]:  # fmt: skip
    """What the scripts' user says of a mount; TOP stands for a folder that it may enter."""

    def messages(keys: str, *, switched: bool = False) -> list[str]:
        path = write(mount(keys.replace("TOP", str(open_folder))))
        loaded = load(path, euid=0, environ={})

        def look() -> list[str]:
            return [str(problem) for problem in check_scripts(
                loaded, {"vhost[0].cgi[0]"}, who=user_name, switched=switched
            )]  # fmt: skip

        here = f"{os.path.dirname(path)}/"
        return [line.replace(here, "").replace(str(open_folder), "TOP") for line in as_user(look)]

    return messages


def test_all_is_there(ask: Callable[[str], list[str]], open_folder: Path) -> None:
    (open_folder / "cgi").mkdir(mode=0o755)
    assert ask('root = "TOP/cgi"\ninterpreters = { ".sh" = "/bin/sh" }') == []
    assert ask('script = "/bin/sh"') == []


def test_a_folder_that_is_not_there(ask: Callable[[str], list[str]], open_folder: Path) -> None:
    assert ask('root = "TOP/cgi"') == ["httpd.toml:5: vhost[0].cgi[0].root: 'TOP/cgi' does not exist"]
    (open_folder / "cgi").write_text("")
    assert ask('root = "TOP/cgi"') == ["httpd.toml:5: vhost[0].cgi[0].root: 'TOP/cgi' is not a folder"]


def test_a_folder_that_is_closed(ask: Callable[[str], list[str]], open_folder: Path, user_name: str) -> None:
    (open_folder / "cgi").mkdir()
    (open_folder / "cgi").chmod(0)
    (message,) = ask('root = "TOP/cgi"')
    place = "httpd.toml:5: vhost[0].cgi[0].root"
    assert message.startswith(f"{place}: user {user_name!r} may not enter 'TOP/cgi' (d---------")


def test_a_script_that_is_none(ask: Callable[[str], list[str]], open_folder: Path, user_name: str) -> None:
    assert ask('script = "TOP/one"') == ["httpd.toml:5: vhost[0].cgi[0].script: 'TOP/one' does not exist"]
    (open_folder / "one").write_text("")
    (open_folder / "one").chmod(0o644)
    (message,) = ask('script = "TOP/one"')
    place = "httpd.toml:5: vhost[0].cgi[0].script"
    assert message.startswith(f"{place}: user {user_name!r} may not execute 'TOP/one' (-rw-r--r--")
    assert message.endswith("; chmod +x TOP/one")
    assert ask('script = "TOP"') == ["httpd.toml:5: vhost[0].cgi[0].script: 'TOP' is not a regular file"]


def test_a_script_of_an_interpreter_need_not_be_executable(
    ask: Callable[[str], list[str]], open_folder: Path
) -> None:
    (open_folder / "one.SH").write_text("")
    (open_folder / "one.SH").chmod(0o644)
    assert ask('script = "TOP/one.SH"\ninterpreters = { ".sh" = "/bin/sh" }') == []
    (open_folder / "one.SH").chmod(0)
    (message,) = ask('script = "TOP/one.SH"\ninterpreters = { ".sh" = "/bin/sh" }')
    assert "may not read" in message


def test_what_would_never_be_run(ask: Callable[[str], list[str]], open_folder: Path) -> None:
    place = "httpd.toml:5: vhost[0].cgi[0]"
    (open_folder / "cgi").mkdir()
    (open_folder / "cgi").chmod(0o777)
    assert ask('root = "TOP/cgi"') == [
        f"{place}.root: everybody may write to 'TOP/cgi', so no script would be run; chmod o-w TOP/cgi"
    ]
    (open_folder / "one").write_text("")
    (open_folder / "one").chmod(0o4755)
    (message,) = ask('script = "TOP/one"')
    assert message.startswith(f"{place}.script: 'TOP/one' is setuid or setgid, so it would not be run; chmod ug-s")


def test_what_another_user_could_have_changed(ask: Callable[..., list[str]], open_folder: Path) -> None:
    place = "httpd.toml:5: vhost[0].cgi[0]"
    (open_folder / "cgi").mkdir()
    for name, key in (("cgi", "root"), ("cgi/one", "script")):
        (open_folder / "cgi/one").write_text("")
        (open_folder / name).chmod(0o775)
        assert ask(f'{key} = "TOP/{name}"') == []
        assert ask(f'{key} = "TOP/{name}"', switched=True) == [
            f"{place}.{key}: the group of 'TOP/{name}' may write to it, so no script would be run; chmod g-w TOP/{name}"
        ]
        (open_folder / name).chmod(0o755)
        assert ask(f'{key} = "TOP/{name}"', switched=True) == []
    (open_folder / "cgi").chmod(0o775)
    (message,) = ask('script = "TOP/cgi/one"', switched=True)
    assert message.startswith(f"{place}.script: the group of 'TOP/cgi' may write to it")


@needs_root
def test_what_belongs_to_another_user(ask: Callable[..., list[str]], open_folder: Path) -> None:
    (open_folder / "cgi").mkdir(mode=0o755)
    os.chown(open_folder / "cgi", 12345, -1)
    assert ask('root = "TOP/cgi"') == []
    (message,) = ask('root = "TOP/cgi"', switched=True)
    assert "'TOP/cgi' belongs to uid 12345, neither to root nor to uid " in message
    assert message.endswith(", so no script would be run; chown root TOP/cgi, or say `user`")


def test_more_variables_than_a_program_can_be_given(bad: Callable[..., list[str]]) -> None:
    many = ", ".join(f'V{number} = "{"x" * 1000}"' for number in range(70))
    (message,) = bad(mount(f'root = "/"\nenv = {{ {many} }}'))
    assert message.endswith("env: has 70340 bytes, and 65536 are possible; put it into a file"), message


def test_interpreters_that_are_none(ask: Callable[[str], list[str]], open_folder: Path) -> None:
    keys = 'root = "TOP"\ninterpreters = { ".php" = "TOP/php", ".pl" = "TOP" }'
    assert sorted(ask(keys)) == [
        "httpd.toml:6: vhost[0].cgi[0].interpreters.\".php\": 'TOP/php' does not exist",
        "httpd.toml:6: vhost[0].cgi[0].interpreters.\".pl\": 'TOP' is not a regular file",
    ]


def test_mounts_of_other_users_are_not_asked_about(good: Load) -> None:
    loaded = good(mount('root = "/no/such/folder"'))
    assert check_scripts(loaded, {"vhost[0].cgi[1]"}, who="x") == []
    assert len(check_scripts(loaded, {"vhost[0].cgi[0]"}, who="x")) == 1


def test_workers_look_for_scripts_in_the_folder_too(good: Load) -> None:
    (problem,) = check_environment(good(mount('root = "/no/such/folder"')), who="x")
    assert (problem.line, problem.key) == (5, "vhost[0].cgi[0].root")
    assert check_environment(good(mount('script = "/no/such/script"')), who="x") == []


@needs_root
def test_each_user_is_asked_by_itself(write: Callable[..., str], open_folder: Path) -> None:
    """One folder is open to one user, one to the other."""
    for name, user in (("a", "nobody"), ("b", "daemon")):
        (open_folder / name).mkdir()
        os.chown(open_folder / name, pwd.getpwnam(user).pw_uid, 0)
        (open_folder / name).chmod(0o711 if user == "daemon" else 0o700)
    text = '[log]\naccess = ""\nerror = "/dev/null"\n[[vhost]]\n' + "".join(
        f'[[vhost.cgi]]\npath = "/{user}{name}/"\nroot = "{open_folder}/{name}"\nuser = "{user}"\n'
        for user in ("nobody", "daemon") for name in "ab"
    )  # fmt: skip
    path = write(text)
    verdict = checker.run(lambda: load(path, euid=0, environ={}))
    assert verdict is not None
    told = [line for line in verdict.problems if "'daemon'" in line]
    assert len(told) == 1
    assert f"{path}:15: vhost[0].cgi[2].root: user 'daemon' may not enter '{open_folder}/a'" in told[0]


@needs_root
def test_a_verdict_says_whom_scripts_run_as(write: Callable[..., str], open_folder: Path) -> None:
    text = mount(f'root = "{open_folder}"\nuser = "daemon"') + f"""
[[vhost.cgi]]
path = "/other/"
root = "{open_folder}"
[log]
access = ""
error = "/dev/null"
"""
    path = write(text)
    verdict = checker.run(lambda: load(path, euid=0, environ={}))
    assert verdict is not None
    assert verdict.problems == []
    assert {key: user.user for key, user in verdict.script_users.items()} == {
        "vhost[0].cgi[0]": "daemon", "vhost[0].cgi[1]": "nobody",
    }  # fmt: skip
