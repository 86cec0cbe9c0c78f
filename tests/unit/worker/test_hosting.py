"""What a worker that hosts code of its users needs: their output in the log, and their problems in one list."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from httpd.config import schema
from httpd.logs.errors import ErrorLog
from httpd.worker.hosting import LogStream, address_of, hosts_code

SOURCE = Path(__file__).parents[3] / "daemon"


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def stream(lines: list[str]) -> LogStream:
    return LogStream(ErrorLog(lambda line: lines.append(line.decode()), "info", "worker"))


def _said(lines: list[str]) -> list[str]:
    return [re.sub(r"^\S+ ", "", line).rstrip("\n") for line in lines]


def test_each_line_is_an_entry(stream: LogStream, lines: list[str]) -> None:
    print("one", file=stream)
    print("two\n\n  three  ", file=stream)
    stream.write("half ")
    stream.write("a line\nnext")
    assert _said(lines) == [f"[info] worker: stderr: {text}" for text in ("one", "two", "  three", "half a line")]
    stream.flush()
    stream.flush()
    assert _said(lines)[-1] == "[info] worker: stderr: next"
    assert len(lines) == 5


def test_what_is_written_can_not_forge_an_entry(stream: LogStream, lines: list[str]) -> None:
    stream.write("a\rb\x1b[31m \udce9\n")
    assert len(lines) == 1
    assert "\r" not in lines[0]
    assert "\x1b" not in lines[0]


def test_it_is_a_text_stream(stream: LogStream) -> None:
    assert stream.writable()
    assert (stream.encoding, stream.errors) == ("utf-8", "backslashreplace")
    assert stream.write("text") == 4
    stream.writelines(["a\n", "b\n"])


def test_lines_of_several_threads_stay_whole(stream: LogStream, lines: list[str]) -> None:
    threads = [
        threading.Thread(target=lambda name=name: [stream.write(f"{name * 20}\n") for _ in range(50)])  # type: ignore[misc]
        for name in "abcd"
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(_said(lines)) == sorted(f"[info] worker: stderr: {name * 20}" for name in "abcd" for _ in range(50))


def _config(*mounts: schema.Directory | schema.Handler | schema.Redirect, script: bool = False) -> schema.Config:
    vhost = schema.Vhost(key="vhost[0]", settings=schema.Settings(), mounts=mounts)
    return schema.Config(
        path="", server=schema.Server(), timeouts=schema.Timeouts(), limits=schema.Limits(), log=schema.Log(),
        vhosts=(vhost,), script=schema.Script("/x.py") if script else None,
    )  # fmt: skip


def test_whether_there_is_code_at_all() -> None:
    settings = schema.Settings()
    plain = schema.Directory("/", "k", settings, root="/")
    redirect = schema.Redirect("/r", "k", settings, "/")
    assert not hosts_code(_config(plain, redirect))
    assert hosts_code(_config(plain, schema.Directory("/d", "k", settings, root="/", handler="a:B")))
    assert hosts_code(_config(schema.Handler("/h", "k", settings, "a:B")))
    assert hosts_code(_config(script=True))


def test_the_address_of_a_listener() -> None:
    address = schema.Address("localhost:80", host="localhost", port=80)
    assert address_of(address, []) == ("localhost", 80)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        assert address_of(address, [listener]) == listener.getsockname()


def test_a_worker_without_handlers_imports_nothing_for_them() -> None:
    code = (
        "import sys, httpd.worker.process\n"
        "names = {'http.server', 'httpd.worker.pool', 'httpd.worker.dispatch', 'httpd.worker.handlers'}\n"
        "found = names & set(sys.modules)\n"
        "sys.exit(f'imported: {found}' if found else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(SOURCE)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
