"""The `httpd` command: what it says, what it returns, and when."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from live.client import Client
from live.daemon import HTTPD, Daemon, Place, StartFailed, environment, eventually, run_httpd

_SITE = '[[vhost]]\nroot = "www"\n'


def test_version(place: Place) -> None:
    done = run_httpd("--version", cwd=place.path)
    assert done.returncode == 0
    assert re.fullmatch(r"httpd \d+\.\d+\S*\n", done.stdout)


@pytest.mark.parametrize(
    "arguments", [["--nonsense"], ["a", "b"], ["-c"], ["--check"], ["-c", "x", "folder"], ["-c", "x", "--listen", ":1"]]
)
def test_usage_is_64(place: Place, arguments: list[str]) -> None:
    done = run_httpd(*arguments, cwd=place.path)
    assert (done.returncode, done.stdout) == (64, "")
    assert "usage:" in done.stderr


def test_check(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE)
    done = run_httpd("--check", "-c", "httpd.toml", cwd=place.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "httpd.toml: good\n", "")
    assert not daemon.run_dir.exists()
    daemon.configure(_SITE + 'listng = true\n[timeouts]\nhead = "10"\n')
    done = run_httpd("--check", "-c", "httpd.toml", cwd=place.path)
    assert (done.returncode, done.stdout) == (78, "")
    first, second = done.stderr.splitlines()
    assert re.fullmatch(r"httpd\.toml:\d+: vhost\[0\]\.listng: unknown key; did you mean 'listing'\?", first)
    assert re.match(r"httpd\.toml:\d+: timeouts\.head: ", second)


@pytest.mark.parametrize("text", ["[broken", '[[vhost]]\nroot = "nowhere"\n', ""])
def test_a_bad_configuration_is_78_and_nothing_is_left(place: Place, daemon: Daemon, text: str) -> None:
    daemon.configure(text)
    done = run_httpd("-c", str(daemon.file), cwd=place.path)
    assert done.returncode == 78
    assert str(daemon.file) in done.stderr
    assert "Traceback" not in done.stderr
    assert not daemon.run_dir.exists()


def test_a_missing_file_is_78(place: Place) -> None:
    done = run_httpd("-c", "nowhere.toml", cwd=place.path)
    assert done.returncode == 78
    assert "nowhere.toml" in done.stderr


def test_a_missing_folder_is_78(place: Place) -> None:
    done = run_httpd("nowhere", "--listen", "127.0.0.1:0", cwd=place.path)
    assert done.returncode == 78
    assert "nowhere" in done.stderr


def test_a_port_in_use_is_69(place: Place, daemon: Daemon) -> None:
    daemon.expect("cannot start")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        daemon.configure(_SITE, listen=f'["{address}"]')
        with pytest.raises(StartFailed, match=f"cannot listen on {address}: Address already in use") as failed:
            daemon.start()
    assert failed.value.code == 69
    assert not (daemon.run_dir / "httpd.pid").exists()
    assert not (daemon.run_dir / "control.sock").exists()


def test_a_second_instance_is_69_and_names_the_first(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE)
    daemon.start()
    done = run_httpd("-c", str(daemon.file), cwd=place.path)
    assert done.returncode == 69
    assert f"another instance runs with pid {daemon.pid}" in done.stderr
    assert (daemon.run_dir / "httpd.pid").read_text() == f"{daemon.pid}\n"
    assert daemon.status()["state"] == "running"


def test_a_folder_ends_with_its_terminal(place: Place) -> None:
    """HUP is a reload; but `httpd FOLDER` has nothing to reload, and who started it has gone."""
    process = subprocess.Popen(
        [*HTTPD, str(place.www), "--listen", "127.0.0.1:0"], env=environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        while b"Serving" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGHUP)
        assert process.wait(20) == 0
    finally:
        _kill_group(process.pid)
        process.communicate(timeout=20)


def test_a_folder_at_once(place: Place) -> None:
    """`httpd` alone: the current folder, on 127.0.0.1:8000, listed, announced in one line."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", 8000))
        except OSError:
            pytest.skip("port 8000 is taken")
    place.write("www/a", b"the a")
    daemon = Daemon(place)
    daemon.expect("^Serving ")
    process = subprocess.Popen(
        HTTPD, cwd=place.www, env=environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        said = []
        while not said or "Serving" not in said[-1]:
            said.append(process.stderr.readline().decode())
            assert said[-1], said
        assert said[-1] == f"Serving {place.www} on http://127.0.0.1:8000/ (Ctrl-C stops)\n"
        with Client(("127.0.0.1", 8000)) as client:
            assert client.get("/a").body == b"the a"
            assert b'href="a"' in client.get("/").body
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0
    finally:
        _kill_group(process.pid)
        out, err = process.communicate(timeout=20)
    assert b"GET /a HTTP/1.1" in out
    lines = [line for line in "".join(said).splitlines() + err.decode().splitlines() if "[" not in line]
    assert lines == [said[-1].rstrip("\n")]


def test_a_named_folder_and_two_addresses(place: Place) -> None:
    place.write("www/a", b"the a")
    daemon = Daemon(place)
    daemon.expect("^Serving ")
    try:
        daemon.spawn("www", "-l", "127.0.0.1:0", "-l", "unix:site.sock")
        assert daemon.stderr is not None
        line = daemon.stderr.wait("^Serving ")
        assert f"unix:{place.path}/site.sock" in line
        with Client(str(place.path / "site.sock")) as client:
            assert client.get("/a").body == b"the a"
    finally:
        daemon.close()


def test_an_index_in_a_folder_at_once(place: Place) -> None:
    place.write("www/index.html", b"start")
    place.write("www/.hidden", b"x")
    daemon = Daemon(place)
    daemon.expect("^Serving ")
    try:
        daemon.spawn("www", "-l", "127.0.0.1:0")
        assert daemon.stderr is not None
        port = int(re.findall(r"127\.0\.0\.1:(\d+)", daemon.stderr.wait("^Serving "))[0])
        with Client(("127.0.0.1", port)) as client:
            assert client.get("/").body == b"start"
            assert client.get("/.hidden").status == 404
    finally:
        daemon.close()


def test_the_daemon_option_returns_when_it_is_ready(place: Place, daemon: Daemon) -> None:
    place.write("www/a", b"the a")
    daemon.configure(_SITE, log='error = "error.log"')
    done = run_httpd("-d", "-c", "httpd.toml", cwd=place.path)
    pid = int((daemon.run_dir / "httpd.pid").read_text())
    daemon.adopt(pid)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert daemon.status()["pid"] == pid
    port = int(daemon.listeners()[0].rpartition(":")[2])
    with Client(("127.0.0.1", port)) as client:
        assert client.get("/a").body == b"the a"
    assert os.getsid(pid) != os.getsid(0)
    assert [str(Path(f"/proc/{pid}/fd/{fd}").readlink()) for fd in range(3)] == ["/dev/null"] * 3
    for worker in daemon.workers():
        assert [str(Path(f"/proc/{worker}/fd/{fd}").readlink()) for fd in range(3)] == ["/dev/null"] * 3
    assert daemon.ctl("reload").returncode == 0
    assert daemon.ctl("stop").returncode == 0
    eventually(lambda: not Path(f"/proc/{pid}").exists() or _zombie(pid), "it is gone")


def test_the_daemon_option_returns_the_error(place: Place, daemon: Daemon) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        address = f"127.0.0.1:{other.getsockname()[1]}"
        daemon.configure(_SITE, listen=f'["{address}"]')
        done = run_httpd("-d", "-c", "httpd.toml", cwd=place.path)
    assert done.returncode == 69
    assert f"cannot listen on {address}" in done.stderr
    daemon.configure("broken")
    assert run_httpd("-d", "-c", "httpd.toml", cwd=place.path).returncode == 78


def test_the_daemon_option_with_a_second_instance(place: Place, daemon: Daemon) -> None:
    daemon.configure(_SITE)
    daemon.start()
    done = run_httpd("-d", "-c", "httpd.toml", cwd=place.path)
    assert done.returncode == 69
    assert str(daemon.pid) in done.stderr


def test_closed_standard_descriptors(place: Place, daemon: Daemon) -> None:
    place.write("www/a", b"the a")
    daemon.configure(_SITE, log='error = "error.log"')
    shell = f'exec {sys.executable} -m httpd -c httpd.toml 0<&- 1>&- 2>&-'
    process = subprocess.Popen(
        ["sh", "-c", shell], cwd=place.path, env=environment(), start_new_session=True
    )
    try:
        until = time.monotonic() + 20
        while not (place.path / "error.log").exists() or "serving" not in (place.path / "error.log").read_text():
            assert process.poll() is None
            assert time.monotonic() < until
            os.sched_yield()
        port = int(daemon.listeners()[0].rpartition(":")[2])
        with Client(("127.0.0.1", port)) as client:
            assert client.get("/a").body == b"the a"
        process.terminate()
        assert process.wait(20) == 0
    finally:
        _kill_group(process.pid)


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
