"""Faults I of the table in README.md: rights that are missing, and rights that must not be there."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from live import scenarios
from live.client import Client
from live.conftest import Connect, needs_root
from live.daemon import Daemon, Place, StartFailed, environment, open_files
from live.isolation import NEW_NETWORK, apart, become_root_of_nothing, command, drop_from_bounding_set, needs
from live.scenarios import SITE, ask

_CAP_NET_BIND_SERVICE = 10
_NOBODY = 65534


@pytest.fixture
def files(place: Place) -> Place:
    scenarios.furnish(place)
    return place


@needs_root
@needs("ip")
def test_port_80_is_served_by_workers_without_rights(files: Place, daemon: Daemon) -> None:
    """I1, besides test_privileges.py: a low port, and no descriptor of a worker that only root could have opened."""
    files.write("www/private", b"root's", mode=0o600)

    def body() -> None:
        command("ip", "link", "set", "lo", "up")
        daemon.configure(SITE, listen='["127.0.0.1:80"]', log='error = "error.log"')
        daemon.start()
        with Client(("127.0.0.1", 80)) as client:
            ask(client)
            assert client.get("/private").status == 403
            for pid in daemon.workers():
                for name in open_files(pid):
                    if name.startswith("/") and name not in ("/dev/null", *_logs(files), str(daemon.run_dir / "empty")):
                        assert Path(name).stat().st_mode & stat.S_IROTH, name

    apart(NEW_NETWORK, body)


def _logs(place: Place) -> list[str]:
    """Opened by the master, for writing: reading them back takes more than the descriptor."""
    return [str(place.path / name) for name in ("access.log", "error.log")]


@needs("unshare")
def test_without_the_right_to_change_users_nothing_is_served(files: Place, daemon: Daemon) -> None:
    """I2: root of a user namespace that has no other users, as in a container that was given too little."""
    if subprocess.run(["unshare", "--user", "true"], capture_output=True, check=False).returncode:
        pytest.skip("no user namespaces here")
    daemon.configure(SITE, server='user = "nobody"')
    daemon.expect("nobody")
    with pytest.raises(StartFailed, match="can't become user 'nobody'") as failed:
        daemon.start(before=become_root_of_nothing)
    assert failed.value.code in (69, 77, 78)
    assert "Traceback" not in failed.value.text


def test_another_user_without_root_is_refused_by_name(files: Place, daemon: Daemon) -> None:
    """I3."""
    daemon.configure(SITE, server='user = "root"\nworkers = 1')
    line = daemon.file.read_text().splitlines().index('user = "root"') + 1
    # As root what is imported later comes from folders that the other user may not enter: all of it first.
    program = (
        "import os, sys, encodings.idna, gettext, locale, shutil, httpd.cli; from httpd.__main__ import main\n"
        f"if os.geteuid() == 0: os.setgroups([]); os.setgid({_NOBODY}); os.setuid({_NOBODY})\n"
        f"sys.argv[1:] = ['-c', {str(daemon.file)!r}]; sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(), cwd="/", capture_output=True, text=True, check=False,
        timeout=20,
    )  # fmt: skip
    assert done.returncode == 78, done.stderr
    assert f"{daemon.file}:{line}: server.user: " in done.stderr
    assert "only root can run workers as 'root'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_low_port_without_the_right_is_a_refused_reload(files: Place, daemon: Daemon, connect: Connect) -> None:
    """I4: also for root, who may have lost the capability."""
    if int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()) <= 80:
        pytest.skip("everybody may bind port 80 here")
    daemon.configure(SITE)
    daemon.start(before=(lambda: drop_from_bounding_set(_CAP_NET_BIND_SERVICE)) if os.geteuid() == 0 else None)
    daemon.expect("reload refused")
    daemon.configure(SITE, listen='["127.0.0.1:0", "127.0.0.1:80"]')
    done = daemon.ctl("reload")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot listen on 127.0.0.1:80: Permission denied" in done.stderr
    assert len(daemon.listeners()) == 1
    assert daemon.status()["generation"] == 1
    assert connect().get("/a").body == b"the a"


@pytest.mark.parametrize("what", ["all may write", "link", "other's"])
def test_a_run_folder_that_is_not_safe_is_refused(files: Place, daemon: Daemon, what: str) -> None:
    """I6; how each is recognised: tests/unit/system/test_detach.py."""
    daemon.configure(SITE)
    if what == "link":
        (files.path / "elsewhere").mkdir()
        daemon.run_dir.symlink_to("elsewhere")
    elif what == "all may write":
        daemon.run_dir.mkdir()
        daemon.run_dir.chmod(0o1777)
    elif os.geteuid() == 0:
        daemon.run_dir.mkdir(mode=0o755)
        os.chown(daemon.run_dir, _NOBODY, -1)
    else:
        pytest.skip("needs root")
    daemon.expect(re.escape(str(daemon.run_dir)))
    with pytest.raises(StartFailed, match=re.escape(str(daemon.run_dir))) as failed:
        daemon.start()
    assert failed.value.code in (77, 78)


def test_a_log_that_somebody_else_put_there_is_refused(files: Place, daemon: Daemon) -> None:
    """I6: a link in a folder that others can write to would have root append to any file."""
    folder = files.path / "shared"
    folder.mkdir()
    folder.chmod(0o1777)
    target = files.write("precious", b"precious")
    (folder / "access.log").symlink_to(target)
    daemon.configure(SITE, log='access = "shared/access.log"')
    daemon.expect("shared/access.log")
    with pytest.raises(StartFailed, match=r"shared/access\.log.*symbolic link"):
        daemon.start()
    assert target.read_bytes() == b"precious"


def test_a_run_folder_that_is_replaced_while_it_runs(files: Place, daemon: Daemon) -> None:
    """I6: httpd-ctl goes by the folder's path, so a folder of somebody else there must not be taken for ours."""
    daemon.configure(SITE)
    daemon.start()
    daemon.expect("run folder")
    assert daemon.stderr is not None
    moved = files.path / "moved"
    daemon.run_dir.rename(moved)
    daemon.run_dir.mkdir()
    daemon.run_dir.chmod(0o777)
    daemon.signal("HUP")
    daemon.stderr.wait("the run folder is gone and can't be made again.*others may write to it")
    daemon.stderr.wait("reloaded")
    shutil.rmtree(daemon.run_dir)
    moved.rename(daemon.run_dir)
    assert daemon.status()["state"] == "running"
