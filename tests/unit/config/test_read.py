"""Files that can't be read, and files that include others."""

from __future__ import annotations

import os
import threading

import pytest

from httpd.config import read as read_module
from httpd.config.errors import ConfigErrors
from httpd.config.load import load
from httpd.config.read import MAX_FILE

SITE = '[[vhost]]\nnames = ["{0}.org"]\nroot = "/srv/{0}"\n'


def only(path):
    with pytest.raises(ConfigErrors) as caught:
        load(str(path))
    (problem,) = caught.value.problems
    return str(problem)


def test_missing(tmp_path):
    assert only(tmp_path / "no.toml") == f"{tmp_path}/no.toml: can't be read: No such file or directory"


def test_folder(tmp_path):
    assert only(tmp_path) == f"{tmp_path}: is a folder; name a TOML file"


def test_device():
    assert only("/dev/zero") == "/dev/zero: is no regular file; name a TOML file"


def test_name_with_nul():
    assert "NUL" in only("a\0b")


def test_name_that_is_not_utf8(tmp_path):
    path = os.fsdecode(os.fsencode(str(tmp_path)) + b"/\xff.toml")
    assert only(path) == f"{tmp_path}/\\udcff.toml: the file's path is not UTF-8; rename it"


def test_closed_file(open_folder, as_user):
    path = open_folder / "closed.toml"
    path.write_text("")
    path.chmod(0)
    assert as_user(lambda: only(path)) == f"{path}: can't be read: Permission denied"


def test_current_folder_is_gone(tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert only("httpd.toml") == "httpd.toml: the current folder can't be read: No such file or directory"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", 'httpd.toml: there is no [[vhost]], so there is nothing to serve; add [[vhost]] with root = "/srv/www"'),
        (b"\xef\xbb\xbf[server]", "httpd.toml:1: starts with a byte order mark; save it as UTF-8 without one"),
        (b"[server]\n\n# caf\xe9\n", "httpd.toml:3: is not UTF-8: byte 0xe9; save it as UTF-8"),
        (b"\xff\xfe[\0", "httpd.toml:1: is not UTF-8: byte 0xff; save it as UTF-8"),
        (b"a = 1\n\0", "httpd.toml:2: invalid statement (column 1)"),
        (b"#" * (MAX_FILE + 1), "httpd.toml: is larger than 4 MiB; this is hardly a configuration file"),
        (b"a." * 2000 + b"b = 1", "httpd.toml: arrays, tables or dotted keys are nested too deeply"),
        (b"a = " + b"[" * 100_000, "httpd.toml: arrays, tables or dotted keys are nested too deeply"),
    ],
    ids=["empty", "bom", "latin-1", "utf-16", "nul", "large", "dotted", "deep"],
)
def test_content(bad, content, message):
    assert bad(content) == [message]


def test_name_is_shown_as_it_was_given(tmp_path, monkeypatch):
    (tmp_path / "a.toml").write_text('[server]\ninclude = ["./d/*.toml"]\nx = 1\n')
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "b.toml").write_text("[[vhost]]\ny = 1\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigErrors) as caught:
        load("./a.toml")
    assert [problem.path for problem in caught.value.problems] == ["./a.toml", "./d/b.toml", "./d/b.toml"]


def test_pipe(tmp_path):
    """As a shell's <(command) gives one."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_text, args=('[[vhost]]\nroot = "www"\n',))
    writer.start()  # waits until `load` opens the other end
    assert load(str(path)).config.vhosts[0].mounts[0].root == f"{tmp_path}/www"
    writer.join()


def test_a_pipe_that_nobody_writes_to_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(read_module, "_PIPE_SECONDS", 0.01)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(ConfigErrors, match="nobody wrote to it"):
        load(str(path))


def test_drop_ins_are_read_in_order_and_numbered_on(good, write, tmp_path):
    for name in ("b", "a", "c"):
        write(SITE.format(name), f"conf.d/{name}.toml")
    write(SITE.format("hidden"), "conf.d/.hidden.toml")
    write(SITE.format("other"), "conf.d/other.conf")
    write(SITE.format("z"), "z.toml")
    loaded = good(
        '[server]\ninclude = ["z.toml", "conf.d/*.toml", "conf.d/a.toml", "none/*.toml"]\n' + SITE.format("main")
    )
    vhosts = loaded.config.vhosts
    assert [vhost.names[0] for vhost in vhosts] == ["main.org", "z.org", "a.org", "b.org", "c.org"]
    assert [vhost.key for vhost in vhosts] == [f"vhost[{number}]" for number in range(5)]
    assert loaded.locate("vhost[0].root") == (f"{tmp_path}/httpd.toml", 5)
    assert loaded.locate("vhost[3].root") == (f"{tmp_path}/conf.d/b.toml", 3)
    assert loaded.locate("vhost[3].listing") == (f"{tmp_path}/conf.d/b.toml", 1)


def test_main_file_may_match_its_own_pattern(good):
    assert len(good('[server]\ninclude = ["*.toml"]\n' + SITE.format("main")).config.vhosts) == 1


def test_paths_of_a_drop_in_are_relative_to_it(good, write, tmp_path):
    write('[[vhost]]\nroot = "www"\naccess_log = "a.log"\n', "sites/deep/a.toml")
    vhost = good('[server]\ninclude = ["**/a.toml"]\n').config.vhosts[0]
    assert vhost.mounts[0].root == f"{tmp_path}/sites/deep/www"
    assert vhost.settings.access_log == f"{tmp_path}/sites/deep/a.log"


def test_folder_with_the_letters_of_a_pattern(tmp_path):
    odd = tmp_path / "a[1]*"
    odd.mkdir()
    (odd / "httpd.toml").write_text('[server]\ninclude = ["*.inc"]\n')
    (odd / "a.inc").write_text(SITE.format("a"))
    assert load(str(odd / "httpd.toml")).config.vhosts[0].names == ("a.org",)


def test_defaults_of_a_drop_in_are_its_own(good, write):
    write('[defaults]\nlisting = true\nheaders = { X-B = "b" }\n' + SITE.format("a"), "conf.d/a.toml")
    write(SITE.format("b"), "conf.d/b.toml")
    loaded = good(
        '[server]\ninclude = ["conf.d/*.toml"]\n[defaults]\ndotfiles = true\nheaders = { X-A = "a" }\n'
        + SITE.format("main")
    )
    listing = {vhost.names[0]: vhost.settings.listing for vhost in loaded.config.vhosts}
    assert listing == {"main.org": False, "a.org": True, "b.org": False}
    assert all(vhost.settings.dotfiles for vhost in loaded.config.vhosts)
    assert loaded.config.vhosts[1].settings.headers == {"X-A": "a", "X-B": "b"}
    assert loaded.config.vhosts[2].settings.headers == {"X-A": "a"}


def test_problems_of_all_files_at_once(bad, write):
    write("[server]\nworkers = 2\n[log]\n[servr]\n[[vhost]]\n", "conf.d/a.toml")
    write("[[vhost]\n", "conf.d/b.toml")
    write('[defaults]\nlisting = 3\n[[vhost]]\nnames = ["main.org"]\nroot = 5\n', "conf.d/c.toml")
    text = '[server]\ninclude = ["conf.d/*.toml", "nothing.toml", "conf.d"]\n' + SITE.format("main") + "roto = 1\n"
    assert [message.partition(";")[0] for message in bad(text)] == [
        "conf.d/a.toml:1: server: belongs in the main file",
        "conf.d/a.toml:3: log: belongs in the main file",
        "conf.d/a.toml:4: servr: unknown key",
        "conf.d/a.toml:5: vhost[1]: has neither `root` nor mounts",
        "conf.d/b.toml:1: expected ']]' at the end of an array declaration (column 8)",
        "conf.d/c.toml:2: defaults.listing: expected true or false, not 3",
        "conf.d/c.toml:4: vhost[2].names[0]: 'main.org' is taken by vhost[0].names[0] (httpd.toml:4) on ':80'",
        "conf.d/c.toml:5: vhost[2].root: expected a path, not 5",
        "httpd.toml:2: server.include[1]: 'nothing.toml': can't be read: No such file or directory",
        "httpd.toml:2: server.include[2]: 'conf.d': is a folder",
        "httpd.toml:6: vhost[0].roto: unknown key",
    ]


def test_no_vhost_anywhere_and_a_pattern_without_match(bad):
    (message,) = bad('[server]\ninclude = ["conf.d/*.toml"]\n')
    assert "there is no [[vhost]]" in message


def test_folder_of_drop_ins_that_is_closed(open_folder, as_user):
    """Taken for an empty one, its sites would be gone without a word."""
    (open_folder / "conf.d").mkdir(mode=0o700)
    path = open_folder / "httpd.toml"
    path.write_text('[server]\ninclude = ["conf.d/*.toml"]\n' + SITE.format("main"))
    (open_folder / "conf.d").chmod(0)
    assert as_user(lambda: only(path)) == (
        f"{path}:2: server.include[0]: the folder '{open_folder}/conf.d' can't be read: Permission denied"
    )


def test_pipe_among_drop_ins_is_refused_and_not_waited_for(bad, tmp_path):
    (tmp_path / "conf.d").mkdir()
    os.mkfifo(tmp_path / "conf.d" / "a.toml")
    (message,) = bad('[server]\ninclude = ["conf.d/*.toml"]\n' + SITE.format("main"))
    assert message == "httpd.toml:2: server.include[0]: 'conf.d/a.toml': is no regular file; name a TOML file"
