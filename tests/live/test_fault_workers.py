"""Workers that die, hang, or can't be started, under load: the others serve, and the right number comes back.

More of it is in test_workers.py and test_shared_connections.py; what takes minutes is in tests/faults/test_workers.py.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import re
import resource
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from live.client import CleanClose, Client, request
from live.conftest import needs_root
from live.daemon import HTTPD, Daemon, Place, StartFailed, environment, eventually, worker_user
from live.faults import DUMP, Faults
from live.load import Load, halt

FILES = {"/a": b"the a", "/b": b"b" * 3000, "/c": bytes(range(256)) * 200, "/large": bytes(range(256)) * 4000}
_SITE = '[[vhost]]\nroot = "www"\n'
_ENDLESS = 20_000_000  # bytes of a download that does not fit into the buffers of a connection
_QUICK = '[timeouts]\nheartbeat = "1s"\n'


@pytest.fixture
def files(place: Place) -> Place:
    for path, body in FILES.items():
        place.write(f"www{path}", body)
    return place


@pytest.fixture
def served(files: Place, daemon: Daemon) -> Daemon:
    daemon.configure(_SITE)
    return daemon.start()


def _whole(daemon: Daemon, count: int = 2) -> None:
    """Wait until so many workers serve, and the master has no other children."""
    def look() -> bool:
        return len(daemon.workers()) == count and _children(daemon.pid) == set(daemon.workers())

    eventually(look, f"{count} workers and no other child")


def _children(pid: int) -> set[int]:
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


# C1, C2, C4: workers that die


def test_killed_again_and_again(files: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE, server="workers = 3")
    daemon.start()
    daemon.expect("worker ended .*SIGKILL")
    chance = random.Random(1)
    with Load(daemon.port, FILES) as load:
        for turn in range(8):
            load.kill(chance.choice(eventually(daemon.workers, "somebody serves")))
            eventually(lambda: daemon.status()["restarts"] == turn + 1, "it is known")  # noqa: B023
            load.more(10)
        _whole(daemon, 3)
    assert not load.report.lost, load.report
    assert daemon.status()["state"] == "running"


def test_every_way_to_die_is_named(served: Daemon) -> None:
    served.expect("worker ended", *DUMP)
    assert served.stderr is not None
    for name in ("SEGV", "ABRT", "BUS", "FPE", "ILL", "KILL"):
        pid = eventually(served.workers, "somebody serves")[-1]
        os.kill(pid, getattr(signal, f"SIG{name}"))
        served.stderr.wait(rf'worker ended worker={pid} .*reason="killed by SIG{name}')
    _whole(served)


def test_a_first_start_without_a_worker_that_gets_ready_ends(files: Place, daemon: Daemon) -> None:
    faults = Faults(files)
    daemon.expect("cannot start", "worker ended", *DUMP)
    daemon.configure(_SITE)
    with faults.on("crash at boot"), pytest.raises(StartFailed, match="SIGABRT") as failed:
        daemon.start(environ=faults.environ)
    assert failed.value.code == 69
    assert not (daemon.run_dir / "control.sock").exists()


def test_a_server_that_has_served_keeps_trying(files: Place, daemon: Daemon) -> None:
    faults = Faults(files)
    daemon.expect("worker ended", *DUMP)
    daemon.configure(_SITE)
    daemon.start(environ=faults.environ)
    with faults.on("crash at boot"):
        for pid in daemon.workers():
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: daemon.status()["restarts"] >= 5, "new ones were tried, and died too")
        assert daemon.status()["state"] == "degraded"
        waiting = Client(("127.0.0.1", daemon.port)).send(request("/a"))
    with waiting:
        assert waiting.read().body == b"the a"
    _whole(daemon)


# C5, C12: out of memory, out of processes


@needs_root
def test_out_of_memory(served: Daemon) -> None:
    """A worker in a memory cgroup that is full is killed by the kernel and replaced; the master is in another."""
    root = Path("/sys/fs/cgroup/memory")
    group = root / f"httpd-test-{served.pid}"
    if not (root / "memory.limit_in_bytes").exists():
        pytest.skip("no memory cgroup of version 1")
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"no cgroup can be made: {error.strerror}")
    served.expect("worker ended .*SIGKILL")
    assert served.stderr is not None
    clients = []
    try:
        (group / "memory.limit_in_bytes").write_text("2M")
        pid = served.workers()[0]
        (group / "cgroup.procs").write_text(str(pid))
        # Heads that are not finished are kept in memory, each up to its limit.
        while not served.stderr.find(f"worker ended worker={pid}") and len(clients) < 2000:
            with contextlib.suppress(OSError):
                clients.append(Client(("127.0.0.1", served.port)))
                clients[-1].send(b"GET /a HTTP/1.1\r\nA: " + b"a" * 30_000)
        served.stderr.wait(rf"worker ended worker={pid} .*SIGKILL \(oom_kill \+\d")
        _whole(served)
    finally:
        eventually(lambda: not (group / "cgroup.procs").read_text(), "nobody is left in the group")
        group.rmdir()
        for client in clients:
            client.close()


def test_no_process_can_be_made(files: Place, daemon: Daemon) -> None:
    """fork fails: the old workers serve on, a reload is refused, and what is missing comes when it can."""
    user = worker_user()
    daemon.expect("worker ended .*SIGKILL", "cannot start a worker", "reload refused")
    daemon.configure(_SITE, server=f'user = "{user}"' if os.geteuid() == 0 else "")
    before = _become(daemon, user) if os.geteuid() == 0 else None
    daemon.start(before=before)
    assert daemon.stderr is not None
    limit = resource.prlimit(daemon.pid, resource.RLIMIT_NPROC)
    with Load(daemon.port, FILES) as load:
        _limit_processes(daemon.pid, 1, limit[1])
        load.kill(daemon.workers()[0])
        daemon.stderr.wait("cannot start a worker .*Resource temporarily unavailable")
        outcome = daemon.call("reload")
        assert (outcome["code"], bool(outcome["text"])) == (1, True), outcome
        assert len(daemon.workers()) == 1
        load.more(20)
        _limit_processes(daemon.pid, limit[0], limit[1])
        _whole(daemon)
        daemon.reload()
        load.more(20)
    assert not load.report.lost, load.report


def _become(daemon: Daemon, user: str) -> Callable[[], None]:
    """A function for the child: be that user.  Skips if it could not run the daemon."""
    account = pwd.getpwnam(user)
    os.chown(daemon.place.path, account.pw_uid, account.pw_gid)
    try:
        subprocess.run([*HTTPD, "--version"], user=account.pw_uid, group=account.pw_gid, extra_groups=[], check=True,
                       env=environment(), cwd="/", capture_output=True)  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        pytest.skip(f"{user} can't run this Python or read this tree")

    def become() -> None:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)

    return become


def _limit_processes(pid: int, soft: int, hard: int) -> None:
    status = Path(f"/proc/{pid}/status").read_text()
    uid = int(re.findall(r"^Uid:\t(\d+)", status, re.MULTILINE)[0])
    if uid == os.geteuid():
        resource.prlimit(pid, resource.RLIMIT_NPROC, (soft, hard))
    elif shutil.which("prlimit") is None:
        pytest.skip("no prlimit here")
    else:
        text = ":".join("unlimited" if value == resource.RLIM_INFINITY else str(value) for value in (soft, hard))
        subprocess.run(["prlimit", f"--pid={pid}", f"--nproc={text}"], user=uid, extra_groups=[], check=True)


# C9: workers that hang


def test_a_worker_that_computes_for_ever_is_found_dumped_and_replaced(files: Place, daemon: Daemon) -> None:
    faults = Faults(files)
    daemon.expect("aborting worker", "worker ended", *DUMP)
    daemon.configure(_QUICK + _SITE)
    daemon.start(environ=faults.environ)
    assert daemon.stderr is not None
    with Client(("127.0.0.1", daemon.port)) as client:
        with faults.on("spin"):
            client.send(request("/large"))
            eventually(faults.begun, "a worker spins")
            with Load(daemon.port, {"/a": b"the a"}) as load:
                daemon.stderr.wait(r'aborting worker .*reason="hangs: no sign of life')
                daemon.stderr.wait("^\t.*sender.py")
                _whole(daemon)
                load.more(20)
        with pytest.raises((AssertionError, ConnectionResetError, CleanClose)):
            client.read()
    assert not load.report.lost, load.report


def test_the_only_worker_stands_still(files: Place, daemon: Daemon) -> None:
    """Nobody else is awake who could miss it."""
    daemon.expect("aborting worker", "killing worker", "worker ended")
    daemon.configure(_QUICK + _SITE, server="workers = 1")
    daemon.start()
    assert daemon.stderr is not None
    (stuck,) = daemon.workers()
    halt(stuck)
    with Client(("127.0.0.1", daemon.port)) as client:
        assert client.get("/a").body == b"the a"
    daemon.stderr.wait(f'worker ended worker={stuck} .*reason="hangs: no sign of life')


# C7, C16, C17


def test_a_worker_that_scribbles_over_the_scoreboard_steers_nobody(served: Daemon) -> None:
    chance = random.Random(16)
    before = served.workers()
    with Load(served.port, FILES) as load:
        for _ in range(20):
            _scribble(before[0], chance)
            status = served.status()
            figures = [worker[name] for worker in status["workers"] for name in ("requests", "connections", "accepted")]
            assert all(0 <= figure < 1 << 53 for figure in figures), status
        load.more(50)
    assert not load.report.lost, load.report
    assert served.workers() == before


def _scribble(pid: int, chance: random.Random) -> None:
    """Random bytes into all memory that the worker shares with others for writing."""
    maps = re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw-s .*/dev/zero", Path(f"/proc/{pid}/maps").read_text(), re.MULTILINE)
    assert maps
    try:
        with open(f"/proc/{pid}/mem", "r+b", buffering=0) as memory:
            for start, end in maps:
                memory.seek(int(start, 16))
                memory.write(chance.randbytes(int(end, 16) - int(start, 16)))
    except PermissionError:
        pytest.skip("the memory of a worker can't be written here")


def test_the_number_of_workers_goes_up_and_down(files: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE, server="workers = 2\nmax_workers = 6")
    daemon.start()
    with Load(daemon.port, FILES) as load:
        for count in (5, 1, 4, 2, 6, 3, 1, 2):
            assert daemon.call("workers", count=count)["code"] == 0
            assert len(daemon.status()["workers"]) == count
            load.more(10)
    assert not load.report.lost, load.report
    _whole(daemon)


def test_superfluous_workers_finish_what_they_have(files: Place, daemon: Daemon) -> None:
    with files.write("www/endless").open("r+b") as file:
        file.truncate(_ENDLESS)
    daemon.configure(_SITE, server="workers = 3")
    daemon.start()
    with contextlib.ExitStack() as stack:
        clients = []
        for _ in range(6):
            client = stack.enter_context(Client(("127.0.0.1", daemon.port)))
            clients.append(client.send(request("/endless")))
            assert client.sock.recv(1, 2)  # MSG_PEEK
        codes: list[int] = []
        fewer = threading.Thread(target=lambda: codes.append(daemon.call("workers", count=1)["code"]))
        fewer.start()
        eventually(lambda: len(daemon.workers("draining")) == 2, "two are told to go")
        for client in clients:
            assert len(client.read().body) == _ENDLESS
            client.close()
        fewer.join()
    assert codes == [0]
    _whole(daemon, 1)


def test_workers_that_grow_old_together_go_one_by_one(files: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE, server="workers = 3\nmax_requests = 60")
    daemon.start()
    with Load(daemon.port, FILES) as load:
        def replaced() -> bool:
            status = daemon.status()
            states = [worker["state"] for worker in status["workers"]]
            # One may be on its way in while another one is told to go; those that drain have been replaced.
            assert states.count("serving") >= 3, states
            assert states.count("starting") <= 1, states
            return bool(status["replaced"] >= 6)

        eventually(replaced, "six were replaced")
    assert not load.report.lost, load.report
