"""Started as root: workers are somebody else for good, and what they can't reach is refused at the start."""

from __future__ import annotations

import os
import pwd
import re
from pathlib import Path

import pytest

from live.conftest import Connect, needs_root
from live.daemon import Daemon, Place, StartFailed, run_httpd, worker_user

pytestmark = needs_root

_SITE = '[[vhost]]\nroot = "www"\n'


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def test_workers_are_not_root_and_can_not_become_it(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE)
    daemon.start()
    account = pwd.getpwnam(worker_user())
    groups = sorted(set(os.getgrouplist(account.pw_name, account.pw_gid)))
    for pid in daemon.workers():
        status = _status(pid)
        assert status["Uid"].split() == [str(account.pw_uid)] * 4
        assert status["Gid"].split() == [str(account.pw_gid)] * 4
        assert sorted(map(int, status["Groups"].split())) == groups
        assert status["NoNewPrivs"] == "1"
        for name in ("CapEff", "CapPrm", "CapInh", "CapAmb"):
            assert int(status[name], 16) == 0, name


def test_the_master_keeps_few_capabilities(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE)
    daemon.start()
    status = _status(daemon.pid)
    assert status["Uid"].split() == ["0"] * 4
    assert int(status["CapBnd"], 16).bit_count() <= 9
    assert int(status["CapEff"], 16).bit_count() <= 9


def test_workers_stay_in_an_empty_folder_that_they_can_not_write(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE)
    daemon.start()
    for pid in daemon.workers():
        folder = Path(f"/proc/{pid}/cwd").readlink()
        assert list(folder.iterdir()) == []
        assert folder.stat().st_uid == 0


def test_a_named_user(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE, server='user = "nobody"')
    daemon.start()
    for pid in daemon.workers():
        assert _status(pid)["Uid"].split()[0] == str(pwd.getpwnam("nobody").pw_uid)


@pytest.mark.parametrize("user", ["root", "no-such-user-here"])
def test_a_user_that_can_not_be_used(place: Place, daemon: Daemon, user: str) -> None:
    daemon.expect(user)
    daemon.configure(_SITE, server=f'user = "{user}"')
    with pytest.raises(StartFailed, match=user) as failed:
        daemon.start()
    assert failed.value.code == 78


def test_a_folder_behind_a_closed_one_is_refused_by_the_name_of_that(place: Place, daemon: Daemon) -> None:
    closed = place.path / "closed"
    place.write("closed/inner/site/a", b"x")
    closed.chmod(0o700)
    daemon.configure('[[vhost]]\nroot = "closed/inner/site"\n')
    done = run_httpd("-c", str(daemon.file), cwd=place.path)
    assert done.returncode == 78
    assert re.search(rf"httpd\.toml:\d+: vhost\[0\]\.root: .*{re.escape(str(closed))}\b(?!/)", done.stderr), done.stderr
    assert worker_user() in done.stderr
    closed.chmod(0o711)
    daemon.start()


def test_a_file_that_only_root_may_read_is_403(place: Place, daemon: Daemon, connect: Connect) -> None:
    place.write("www/private", b"root's own", mode=0o600)
    place.write("www/folder/x", b"x").parent.chmod(0o700)
    daemon.configure(_SITE)
    daemon.start()
    client = connect()
    assert client.get("/private").status == 403
    assert client.get("/folder/x").status == 403
    assert client.get("/folder/").status == 403


def test_a_folder_served_from_the_command_line_runs_as_its_owner(place: Place) -> None:
    place.write("www/a", b"the a")
    nobody = pwd.getpwnam("nobody").pw_uid
    other = pwd.getpwnam("daemon").pw_uid
    for owner, expected in ((0, nobody), (other, other)):
        os.chown(place.www, owner, -1)
        second = Daemon(place)
        second.expect("Serving")
        process = second.spawn(str(place.www), "--listen", "127.0.0.1:0")
        try:
            second.wait_notified("READY=1")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            assert {_status(int(pid))["Uid"].split()[0] for pid in children} == {str(expected)}
        finally:
            second.close()
            (place.path / "notify").unlink()
