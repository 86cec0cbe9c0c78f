from __future__ import annotations

import ctypes
import grp
import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from httpd.system import privileges
from httpd.system.privileges import Identity, PrivilegeError

InChild = Callable[[Callable[[], Any]], Any]

STRANGER = 54321  # a uid and gid without an account
NOBODY = pwd.getpwnam("nobody")
TARGET = Identity("stranger", STRANGER, STRANGER, (STRANGER, STRANGER + 1))


def status(*names: str) -> dict[str, int]:
    """Hexadecimal fields of /proc/self/status."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return {name: int(fields[name], 16) for name in names}


def keep_capabilities_over_setuid() -> None:
    """What a careless starter may leave behind: SECBIT_NO_SETUID_FIXUP."""
    assert ctypes.CDLL(None).prctl(28, 1 << 2, 0, 0, 0) == 0


def drop_error(target: Identity = TARGET) -> str:
    try:
        privileges.drop(target)
    except PrivilegeError as error:
        return str(error)
    return ""


def test_identity_of_an_account_takes_its_groups() -> None:
    found = privileges.identity("nobody", "")
    assert (found.user, found.uid, found.gid) == ("nobody", NOBODY.pw_uid, NOBODY.pw_gid)
    assert set(found.groups) == {NOBODY.pw_gid, *os.getgrouplist("nobody", NOBODY.pw_gid)}


def test_identity_with_a_group_leaves_the_own_one_out() -> None:
    group = next(entry for entry in grp.getgrall() if entry.gr_gid not in (0, NOBODY.pw_gid))
    found = privileges.identity("nobody", group.gr_name)
    assert found.gid == group.gr_gid
    assert found.groups == tuple(sorted({group.gr_gid, *os.getgrouplist("nobody", group.gr_gid)}))
    assert privileges.identity("nobody", str(group.gr_gid)) == found


def test_identity_by_number() -> None:
    assert privileges.identity(str(NOBODY.pw_uid), "") == privileges.identity("nobody", "")
    assert privileges.identity(str(STRANGER), "777") == Identity(str(STRANGER), STRANGER, 777, (777,))


@pytest.mark.parametrize(
    ("user", "group", "said"),
    [
        ("no-such-user", "", "there is no user 'no-such-user'"),
        ("", "", "there is no user ''"),
        ("nul\0byte", "", "there is no user"),
        ("surrogate\udc80", "\udc80", "there is no "),
        ("\u0663\u0663", "", "there is no user"),
        ("-1", "", "there is no user"),
        ("9" * 5000, "", "there is no user"),
        ("nobody", "no-such-group", "there is no group 'no-such-group'"),
        ("nobody", "nul\0byte", "there is no group"),
        (str(STRANGER), "", "its group must be named"),
        ("root", "", "is root"),
        ("0", "777", "is root"),
        ("nobody", "0", "root's group"),
        (str(2**32 - 1), "777", "an id above"),
        ("9999999999", "777", "an id above"),
        ("nobody", str(2**32 - 1), "an id above"),
    ],
)
def test_identity_refuses(user: str, group: str, said: str) -> None:
    with pytest.raises(PrivilegeError, match=said):
        privileges.identity(user, group)


def test_identity_refuses_a_user_with_root_among_the_other_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda user, gid: [gid, 0])
    with pytest.raises(PrivilegeError, match="root's group"):
        privileges.identity("nobody", "")


def test_default_user_is_the_first_that_exists(monkeypatch: pytest.MonkeyPatch) -> None:
    assert privileges.DEFAULT_USERS == ("httpd", "www-data", "http")
    monkeypatch.setattr(privileges, "DEFAULT_USERS", ("no-such-user", "nobody", "root"))
    assert privileges.default_user() == "nobody"
    monkeypatch.setattr(privileges, "DEFAULT_USERS", ("no-such-user", "nor-this"))
    with pytest.raises(PrivilegeError, match="no-such-user, nor-this"):
        privileges.default_user()


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    ("uid", "gid", "expected"),
    [
        (0, 0, Identity("nobody", NOBODY.pw_uid, NOBODY.pw_gid, (NOBODY.pw_gid,))),
        (STRANGER, 777, Identity(str(STRANGER), STRANGER, 777, (777,))),
        (STRANGER, 0, Identity(str(STRANGER), STRANGER, NOBODY.pw_gid, (NOBODY.pw_gid,))),
    ],
)
def test_owner_identity(tmp_path: Path, uid: int, gid: int, expected: Identity) -> None:
    os.chown(tmp_path, uid, gid)
    assert privileges.owner_identity(tmp_path) == expected


@pytest.mark.usefixtures("root")
def test_owner_identity_of_an_account(tmp_path: Path) -> None:
    account = next(entry for entry in pwd.getpwall() if entry.pw_uid and entry.pw_gid)
    os.chown(tmp_path, account.pw_uid, STRANGER)
    assert privileges.owner_identity(str(tmp_path)) == privileges.identity(account.pw_name)


def test_owner_identity_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        privileges.owner_identity(tmp_path / "missing")


@pytest.mark.usefixtures("root", "linux")
@pytest.mark.parametrize("careless", [False, True], ids=["clean", "securebits"])
def test_drop_leaves_nothing(in_child: InChild, careless: bool) -> None:
    def dropped() -> list[Any]:
        os.setgroups([0, 4, 6])
        os.umask(0o070)
        if careless:
            keep_capabilities_over_setuid()
        privileges.drop(TARGET)
        ids = [os.getresuid(), os.getresgid(), sorted(os.getgroups()), os.umask(0)]
        with pytest.raises(PermissionError):
            os.setuid(0)
        return [*ids, status("CapInh", "CapPrm", "CapEff", "CapAmb", "NoNewPrivs")]

    *ids, kernel = in_child(dropped)
    assert ids == [[STRANGER] * 3, [STRANGER] * 3, [STRANGER, STRANGER + 1], 0o072]
    assert kernel == {"CapInh": 0, "CapPrm": 0, "CapEff": 0, "CapAmb": 0, "NoNewPrivs": 1}


@pytest.mark.usefixtures("root", "linux")
def test_drop_for_scripts_keeps_setuid_programs_possible(in_child: InChild) -> None:
    def dropped() -> dict[str, int]:
        privileges.drop(TARGET, no_new_privs=False)
        return status("CapEff", "NoNewPrivs")

    assert in_child(dropped) == {"CapEff": 0, "NoNewPrivs": status("NoNewPrivs")["NoNewPrivs"]}


@pytest.mark.usefixtures("root")
def test_drop_without_setresuid(in_child: InChild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "setresuid")
    monkeypatch.delattr(os, "setresgid")

    def dropped() -> list[Any]:
        privileges.drop(TARGET)
        return [os.getresuid(), os.getresgid()]

    assert in_child(dropped) == [[STRANGER] * 3] * 2


@pytest.mark.usefixtures("root", "linux")
@pytest.mark.parametrize(
    ("module", "broken", "said"),
    [
        (os, "setgroups", "still in the groups [4242]"),
        (privileges, "_set_gid", "the gids are [0]"),
        (privileges, "_set_uid", "the uids are [0]"),
        (privileges, "_set_capabilities", "capabilities are left, setuid(0) still works"),
    ],
)
def test_drop_notices_a_step_without_effect(
    in_child: InChild, monkeypatch: pytest.MonkeyPatch, module: Any, broken: str, said: str
) -> None:
    def message() -> str:
        os.setgroups([4242])
        keep_capabilities_over_setuid()
        monkeypatch.setattr(module, broken, lambda *arguments: None)
        return drop_error()

    assert said in in_child(message)


@pytest.mark.usefixtures("root")
@pytest.mark.parametrize(
    "target",
    [Identity("root", 0, 777, (777,)), Identity("a", 777, 0, (0,)), Identity("a", 777, 777, (0, 777))],
)
def test_drop_refuses_root(in_child: InChild, target: Identity) -> None:
    def outcome() -> list[Any]:
        return [drop_error(target), os.getresuid()]

    message, uids = in_child(outcome)
    assert "root" in message
    assert uids == [0, 0, 0]


@pytest.mark.usefixtures("linux")
def test_drop_names_the_step_that_is_forbidden(in_child: InChild) -> None:
    def message() -> str:
        if os.geteuid() == 0:
            privileges.drop(TARGET)
        return drop_error(Identity("other", 777, 777, (777,)))

    assert in_child(message) == "can't become user 'other': setgroups: Operation not permitted"


@pytest.mark.usefixtures("linux")
def test_drop_where_setgroups_is_denied() -> None:
    """A user namespace has a root that may not set groups."""
    code = (
        "from httpd.system.privileges import *\n"
        "try: drop(Identity('a', 777, 777, (777,)))\n"
        "except PrivilegeError as error: print(error)\n"
    )
    command = ["unshare", "--user", "--map-root-user", sys.executable, "-c", code]
    try:
        probe = subprocess.run([*command[:3], "true"], capture_output=True, check=False)
    except FileNotFoundError:
        pytest.skip("needs unshare")
    if probe.returncode:
        pytest.skip("needs user namespaces")
    path = str(Path(privileges.__file__).parents[2])
    environ = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environ, check=True)
    assert done.stdout == "can't become user 'a': setgroups: Operation not permitted\n"


@pytest.mark.usefixtures("root", "linux")
def test_cut_bounding_set(in_child: InChild) -> None:
    """The kept set holds for the process, and for root programs that it executes."""
    kept = sum(1 << number for number in privileges.KEPT.values())
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
    before = status("CapPrm", "CapBnd")

    def cut() -> list[Any]:
        done = privileges.cut_bounding_set()
        executed = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True)
        fields = dict(line.split(":", 1) for line in executed.stdout.splitlines())
        return [done, status(*names), int(fields["CapEff"], 16), privileges.cut_bounding_set()]

    done, own, executed, again = in_child(cut)
    if not before["CapPrm"] >> privileges.KEPT["CAP_SETPCAP"] & 1:
        pytest.skip("needs CAP_SETPCAP")
    assert done and again
    left = before["CapPrm"] & kept
    bounding = before["CapBnd"] & kept
    assert own == {"CapInh": 0, "CapPrm": left, "CapEff": left, "CapBnd": bounding, "CapAmb": 0}
    assert executed == bounding


@pytest.mark.usefixtures("root", "linux")
def test_a_cut_master_can_still_drop(in_child: InChild) -> None:
    def dropped() -> int:
        privileges.cut_bounding_set()
        privileges.drop(TARGET)
        return os.getuid()

    assert in_child(dropped) == STRANGER


@pytest.mark.usefixtures("root", "linux")
def test_cut_without_setpcap_reduces_only_the_process(in_child: InChild) -> None:
    names = ("CapEff", "CapPrm", "CapBnd")
    before = status(*names)

    def cut() -> list[Any]:
        privileges._set_capabilities(before["CapPrm"] & ~(1 << privileges.KEPT["CAP_SETPCAP"]))
        return [privileges.cut_bounding_set(), status(*names)]

    done, after = in_child(cut)
    others = sum(1 << number for name, number in privileges.KEPT.items() if name != "CAP_SETPCAP")
    left = before["CapPrm"] & others
    assert done is False
    assert after == {"CapEff": left, "CapPrm": left, "CapBnd": before["CapBnd"]}


def test_cut_does_nothing_elsewhere(in_child: InChild, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "_set_capabilities", lambda mask: pytest.fail("must not be called"))

    def as_user() -> bool:
        if os.geteuid() == 0:
            os.setresuid(STRANGER, STRANGER, STRANGER)
        return privileges.cut_bounding_set()

    assert in_child(as_user) is False
    monkeypatch.setattr(sys, "platform", "darwin")
    assert privileges.cut_bounding_set() is False
