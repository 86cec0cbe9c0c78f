"""Whether a script may be run: each refusal has its reason.

The questions are asked as an ordinary user: as root, in a child that has become one.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from httpd.cgi.checks import Examiner, Program, Refused
from httpd.config import schema
from machine import as_user

OTHER, USER = 65533, 65534  # who has the files of somebody else, and who asks
ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not ROOT, reason="only root can give files away, and become who runs scripts")
Judge = Callable[..., Any]


@pytest.fixture
def top() -> Iterator[Path]:
    """A folder that everybody may enter, unlike those of pytest: its parents are root's, or this user's."""
    folder = Path(tempfile.mkdtemp(prefix="httpd-checks-"))
    folder.chmod(0o755)
    (folder / "cgi").mkdir(mode=0o755)
    yield folder
    shutil.rmtree(folder)


def plant(folder: Path, name: str, mode: int = 0o755, uid: int | None = None, gid: int | None = None) -> Path:
    path = folder / name
    for parent in reversed(path.relative_to(folder).parents[:-1]):
        (folder / parent).mkdir(mode=0o755, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    if ROOT:
        os.chown(path, USER if uid is None else uid, USER if gid is None else gid)
    path.chmod(mode)  # behind chown, which takes setuid away
    return path


@pytest.fixture
def judge(top: Path) -> Judge:
    """The program for a script below `cgi`, or (status, reason)."""

    def ask(relative: str = "run", *, switched: bool = True, symlinks: str = "inside", dotfiles: bool = False,
            **fields: Any) -> Any:  # fmt: skip
        where = {"root": str(top / "cgi")} if "script" not in fields else {}
        settings = schema.Settings(symlinks=symlinks, dotfiles=dotfiles)
        mount = schema.Cgi("/cgi-bin/", "vhost[0].cgi[0]", settings, **{**where, **fields})

        def examine() -> Any:
            try:
                return Examiner(mount, os.geteuid(), switched=switched).examine(os.fsencode(relative), 0.0)
            except Refused as error:
                assert str(error) == error.reason
                return error.status, error.reason.replace(str(top), "TOP")

        return as_user(examine)

    return ask


def me() -> int:
    return USER if ROOT else os.geteuid()


# What is run


def test_a_good_script(top: Path, judge: Judge) -> None:
    file = os.fsencode(plant(top, "cgi/run"))
    assert judge() == Program(file, (file,), os.path.dirname(file))


def test_a_script_in_a_folder_runs_there(top: Path, judge: Judge) -> None:
    file = os.fsencode(plant(top, "cgi/a/b/run"))
    assert judge("a/b/run") == Program(file, (file,), os.fsencode(top / "cgi/a/b"))


def test_a_script_with_an_interpreter_need_not_be_executable(top: Path, judge: Judge) -> None:
    file = os.fsencode(plant(top, "cgi/a.PHP", 0o644))
    program = judge("a.PHP", interpreters={".php": "/bin/php"})
    assert program == Program(b"/bin/php", (b"/bin/php", file), os.fsencode(top / "cgi"))
    assert program.script == file


def test_one_script(top: Path, judge: Judge) -> None:
    file = plant(top, "bin/one")
    expected = Program(os.fsencode(file), (os.fsencode(file),), os.fsencode(top / "bin"))
    assert judge("", script=str(file)) == expected


def test_a_link_is_run_by_its_own_name(top: Path, judge: Judge) -> None:
    """SCRIPT_NAME, and what the program is called, are what was asked for."""
    plant(top, "cgi/d/run")
    (top / "cgi/link").symlink_to("d/run")
    file = os.fsencode(top / "cgi/link")
    assert judge("link") == Program(file, (file,), os.fsencode(top / "cgi"))


def test_the_one_script_may_be_a_link_to_wherever(top: Path, judge: Judge) -> None:
    plant(top, "elsewhere/one")
    (top / "bin").mkdir(mode=0o755)
    (top / "bin/one").symlink_to("../elsewhere/one")
    assert isinstance(judge("", script=str(top / "bin/one"), symlinks="none"), Program)


@needs_root
def test_a_script_of_root_is_as_good_as_ones_own(top: Path, judge: Judge) -> None:
    plant(top, "cgi/run", uid=0, gid=0)
    assert isinstance(judge(), Program)


# What is refused: the file


def refused(judge: Judge, status: int, reason: str, relative: str = "run", **fields: Any) -> None:
    assert judge(relative, **fields) == (status, reason)


MISSING = "it does not exist, or is a link that may not be followed"


@pytest.mark.parametrize("name", ["run", "a/run", "..", "../cgi/run", "/etc/passwd", "a\0b", "x" * 5000])
def test_what_is_not_there(judge: Judge, name: str) -> None:
    refused(judge, 404, MISSING, name)


def test_a_link_that_leads_out(top: Path, judge: Judge) -> None:
    plant(top, "outside/run")
    (top / "cgi/run").symlink_to("../outside/run")
    refused(judge, 404, MISSING)
    refused(judge, 404, MISSING, symlinks="none")
    assert isinstance(judge(symlinks="all"), Program)


def test_a_folder(top: Path, judge: Judge) -> None:
    plant(top, "cgi/d/run")
    refused(judge, 403, "it is not a regular file", "d")


def test_a_fifo(top: Path, judge: Judge) -> None:
    os.mkfifo(top / "cgi/run")
    refused(judge, 404, MISSING)


def test_a_path_where_the_mount_is_one_script(top: Path, judge: Judge) -> None:
    file = plant(top, "bin/one")
    plant(top, "bin/other")
    refused(judge, 404, "it is no script of this mount", "other", script=str(file))


def test_no_path_where_the_mount_is_a_folder(judge: Judge) -> None:
    refused(judge, 404, "it is no script of this mount", "")


def test_an_extension_that_is_none_of_a_script(top: Path, judge: Judge) -> None:
    plant(top, "cgi/a.txt")
    plant(top, "cgi/a.CGI")
    refused(judge, 403, "its extension is none of a script", "a.txt", extensions=(".cgi",))
    refused(judge, 403, "its extension is none of a script", "missing", extensions=(".cgi",))
    assert isinstance(judge("a.CGI", extensions=(".cgi",)), Program)


@pytest.mark.parametrize("mode", [0o4755, 0o2755, 0o6755, 0o4777])
@pytest.mark.parametrize("switched", [True, False])
def test_setuid(top: Path, judge: Judge, mode: int, switched: bool) -> None:
    plant(top, "cgi/run", mode, gid=None if ROOT else os.getegid())
    refused(judge, 403, "it is setuid or setgid (chmod ug-s, and say `user`)", switched=switched)


@pytest.mark.parametrize("switched", [True, False])
def test_a_file_that_everybody_may_write_to(top: Path, judge: Judge, switched: bool) -> None:
    plant(top, "cgi/run", 0o757)
    refused(judge, 403, "everybody may write to it (chmod o-w)", switched=switched)


def test_a_file_that_its_group_may_write_to(top: Path, judge: Judge) -> None:
    """Of no interest where the script has the rights that its caller has anyway."""
    plant(top, "cgi/run", 0o775)
    refused(judge, 403, "its group may write to it (chmod g-w)")
    assert isinstance(judge(switched=False), Program)


@needs_root
def test_a_file_of_somebody_else(top: Path, judge: Judge) -> None:
    plant(top, "cgi/run", uid=OTHER)
    refused(judge, 403, f"it belongs to uid {OTHER}, neither to root nor to uid {USER}")
    assert isinstance(judge(switched=False), Program)


def test_a_link_is_judged_by_the_file_that_it_leads_to(top: Path, judge: Judge) -> None:
    plant(top, "cgi/d/run", 0o757)
    (top / "cgi/run").symlink_to("d/run")
    refused(judge, 403, "everybody may write to it (chmod o-w)")


def test_not_executable(top: Path, judge: Judge) -> None:
    plant(top, "cgi/run", 0o644)
    refused(judge, 403, "it is not executable (chmod +x; files beside scripts are served by `extensions`)")


@needs_root
def test_not_executable_for_this_user(top: Path, judge: Judge) -> None:
    plant(top, "cgi/run", 0o700, uid=0)
    refused(judge, 403, f"uid {USER} may not execute it")


@needs_root
def test_not_readable_for_its_interpreter(top: Path, judge: Judge) -> None:
    plant(top, "cgi/a.php", 0o700, uid=0)
    refused(judge, 403, f"uid {USER} may not read it", "a.php", interpreters={".php": "/bin/php"})


@needs_root
def test_a_folder_that_this_user_may_not_enter(top: Path, judge: Judge) -> None:
    plant(top, "cgi/d/run")
    (top / "cgi/d").chmod(0o700)
    refused(judge, 403, f"uid {USER} may not reach it", "d/run")


def test_nothing_runs_as_root(top: Path) -> None:
    plant(top, "cgi/run")
    mount = schema.Cgi("/cgi-bin/", "vhost[0].cgi[0]", schema.Settings(), str(top / "cgi"))
    with pytest.raises(Refused, match="it would run as root") as caught:
        Examiner(mount, 0, switched=True).examine(b"run", 0.0)
    assert caught.value.status == 403


# What is refused: its folders


@pytest.mark.parametrize("folder", ["cgi", "cgi/a", "cgi/a/b"])
@pytest.mark.parametrize("switched", [True, False])
def test_a_folder_that_everybody_may_write_to(top: Path, judge: Judge, folder: str, switched: bool) -> None:
    plant(top, "cgi/a/b/run")
    (top / folder).chmod(0o777)
    refused(judge, 403, f"everybody may write to its folder 'TOP/{folder}' (chmod o-w)", "a/b/run", switched=switched)


@pytest.mark.parametrize("folder", ["cgi", "cgi/a"])
def test_a_folder_that_its_group_may_write_to(top: Path, judge: Judge, folder: str) -> None:
    plant(top, "cgi/a/run")
    (top / folder).chmod(0o775)
    refused(judge, 403, f"the group may write to its folder 'TOP/{folder}' (chmod g-w)", "a/run")
    assert isinstance(judge("a/run", switched=False), Program)


@needs_root
@pytest.mark.parametrize("folder", ["cgi", "cgi/a"])
def test_a_folder_of_somebody_else(top: Path, judge: Judge, folder: str) -> None:
    plant(top, "cgi/a/run")
    os.chown(top / folder, OTHER, OTHER)
    reason = f"its folder 'TOP/{folder}' belongs to uid {OTHER}, neither to root nor to uid {USER}"
    refused(judge, 403, reason, "a/run")
    assert isinstance(judge("a/run", switched=False), Program)


def test_the_folder_that_a_link_leads_to(top: Path, judge: Judge) -> None:
    """Whoever may put another file in its place has his file run."""
    plant(top, "cgi/d/run")
    (top / "cgi/run").symlink_to("d/run")
    (top / "cgi/d").chmod(0o777)
    refused(judge, 403, "everybody may write to its folder 'TOP/cgi/d' (chmod o-w)")


@pytest.mark.parametrize("folder", ["cgi/open", "tools/open", "tools/open/inner"])
def test_the_folders_above_that_one(top: Path, judge: Judge, folder: str) -> None:
    """Whoever may write to one of them can put another folder in the place of the next."""
    plant(top, f"{folder.partition('/open')[0]}/open/inner/run")
    (top / "cgi").mkdir(exist_ok=True)
    (top / "cgi/link").symlink_to(top / f"{folder.partition('/open')[0]}/open/inner")
    assert isinstance(judge("link/run", symlinks="all"), Program)
    (top / folder).chmod(0o777)
    refused(judge, 403, f"everybody may write to its folder 'TOP/{folder}' (chmod o-w)", "link/run", symlinks="all")


def test_where_the_link_s_way_and_that_of_the_root_part_is_not_looked_at(top: Path, judge: Judge) -> None:
    plant(top, "tools/run")
    (top / "cgi/run").symlink_to("../tools/run")
    top.chmod(0o777)
    assert isinstance(judge(symlinks="all"), Program)


@pytest.mark.parametrize("name", [".hidden", ".git/hook"])
def test_names_with_a_dot(top: Path, judge: Judge, name: str) -> None:
    plant(top, f"cgi/{name}")
    refused(judge, 404, "its name, or that of a folder, begins with a dot (see `dotfiles`)", name)
    assert isinstance(judge(name, dotfiles=True), Program)


def test_what_is_above_the_root_is_not_looked_at(top: Path, judge: Judge) -> None:
    plant(top, "cgi/run")
    top.chmod(0o777)
    assert isinstance(judge(), Program)


def test_the_folder_of_the_one_script(top: Path, judge: Judge) -> None:
    file = plant(top, "bin/one")
    (top / "bin").chmod(0o777)
    refused(judge, 403, "everybody may write to its folder 'TOP/bin' (chmod o-w)", "", script=str(file))


# What is remembered


@pytest.mark.parametrize(
    ("mode", "reason"),
    [
        (0o4755, "is setuid or setgid"), (0o2755, "is setuid or setgid"),
        (0o757, "everybody may write to its interpreter"),
    ],
)
def test_what_an_interpreter_may_be(top: Path, judge: Judge, mode: int, reason: str) -> None:
    plant(top / "cgi", "run.sh", 0o644)
    interpreter = plant(top, "shell", 0o755)
    fields = {"interpreters": {".sh": str(interpreter)}}
    assert isinstance(judge("run.sh", **fields), Program)
    interpreter.chmod(mode)
    status, said = judge("run.sh", **fields)
    assert (status, reason in said) == (403, True), said


@pytest.fixture
def examiner(top: Path) -> Examiner:
    """Of an ordinary user that is the owner of all files: not as root, who would be refused."""
    mount = schema.Cgi("/cgi-bin/", "vhost[0].cgi[0]", schema.Settings(), str(top / "cgi"))
    return Examiner(mount, me(), switched=False)


def test_what_was_good_is_good_for_a_moment(top: Path, examiner: Examiner, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(top, "cgi/run")
    looks: list[bytes] = []
    real = Examiner._judge
    monkeypatch.setattr(Examiner, "_judge", lambda self, name: looks.append(name) or real(self, name))  # type: ignore[func-returns-value]
    first = examiner.examine(b"run", 10.0)
    assert examiner.examine(b"run", 10.9) is first
    assert looks == [b"run"]
    assert examiner.examine(b"run", 11.1) == first
    assert looks == [b"run", b"run"]


@pytest.mark.parametrize("change", ["mode", "content", "other", "gone"])
def test_what_has_changed_is_looked_at_again(top: Path, examiner: Examiner, change: str) -> None:
    file = plant(top, "cgi/run")
    examiner.examine(b"run", 10.0)
    if change == "mode":
        file.chmod(0o757)
    elif change == "content":
        file.write_text("#!/bin/false\n")
        file.chmod(0o644)
    elif change == "other":
        plant(top, "cgi/new", 0o4755).rename(file)
    else:
        file.unlink()
    with pytest.raises(Refused):
        examiner.examine(b"run", 10.0)


def test_a_refusal_is_not_remembered(top: Path, examiner: Examiner) -> None:
    file = plant(top, "cgi/run", 0o644)
    with pytest.raises(Refused):
        examiner.examine(b"run", 10.0)
    file.chmod(0o755)
    assert examiner.examine(b"run", 10.0).script == os.fsencode(file)


def test_a_file_that_is_replaced_while_it_is_looked_at(top: Path, examiner: Examiner,
                                                      monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """Between the look at it and the end somebody puts another one in its place, as good as it may be."""
    file = plant(top, "cgi/run")
    real = Examiner._judge_file

    def replace(self: Examiner, found: os.stat_result) -> None:
        real(self, found)
        plant(top, "cgi/new").rename(file)

    monkeypatch.setattr(Examiner, "_judge_file", replace)
    with pytest.raises(Refused, match="it was replaced while it was looked at"):
        examiner.examine(b"run", 10.0)
