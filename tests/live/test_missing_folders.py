"""What somebody takes away under a running server stops nothing but what needs it."""

from __future__ import annotations

import os
import shutil
import signal

from live.client import request
from live.conftest import Connect
from live.daemon import Daemon, Place, eventually

_TWO = '[[vhost]]\nnames = ["a"]\nroot = "www/a"\n[[vhost]]\nnames = ["b"]\nroot = "www/b"\n'


def test_a_missing_root_does_not_stop_the_other_sites(place: Place, daemon: Daemon, connect: Connect) -> None:
    place.write("www/a/f", b"of a")
    place.write("www/b/f", b"of b")
    daemon.configure(_TWO)
    daemon.start()
    daemon.expect("worker ended", "folder is gone.*vhost\\[1\\]")
    before = set(daemon.workers())
    shutil.rmtree(place.www / "b")
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    eventually(lambda: len(daemon.workers()) == 2 and not before & set(daemon.workers()), "two new workers")
    assert connect().send(request("/f", host="a")).read().body == b"of a"
    assert connect().send(request("/f", host="b")).read().status == 404
    place.write("www/b/f", b"is back")
    assert connect().send(request("/f", host="b")).read().body == b"is back"


def test_a_missing_run_folder(place: Place, daemon: Daemon, connect: Connect) -> None:
    place.write("www/a", b"the a")
    daemon.configure('[[vhost]]\nroot = "www"\n')
    daemon.start()
    daemon.expect("the run folder was gone", "worker ended")
    assert daemon.stderr is not None
    workers = daemon.workers()
    shutil.rmtree(daemon.run_dir)
    os.kill(workers[0], signal.SIGKILL)
    daemon.stderr.wait("worker ended")
    daemon.signal("HUP")
    daemon.stderr.wait("reloaded")
    assert daemon.status()["state"] == "running"
    assert connect().get("/a").body == b"the a"
