"""A worker with scripts, where the test plays the launcher, the spawner and the script."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from httpd.config import schema
from httpd.content.sites import Site, SiteTable
from httpd.logs.errors import ErrorLog
from httpd.system.poller import make_poller
from httpd.worker.context import Context
from httpd.worker.doors import Scripts
from httpd.worker.probe import Probe, Report
from httpd.worker.runs import ScriptRun
from httpd.worker.script_mount import ScriptMount
from machine import descriptors

HEAD = b"Content-Type: text/plain\n\n"
PID = 4711
ADDRESS = schema.Address("127.0.0.1:8000", host="127.0.0.1", port=8000)


class Scripted:
    """A worker with scripts, and the test in the place of the launcher, the spawner and the script."""

    def __init__(self, root: Path, **settings: Any) -> None:
        config = schema.Config(
            path="", server=schema.Server(), timeouts=schema.Timeouts(), limits=schema.Limits(), log=schema.Log(),
            vhosts=(),
        )  # fmt: skip
        self.errors: list[bytes] = []
        self.context = Context(config, make_poller(), ErrorLog(self.errors.append, "info", "test"), lambda: None)
        self.scripts = Scripts(self.context, None, lambda message: None)
        chosen = schema.Settings(index=("index.cgi",), **settings)
        mounts: list[Any] = [
            ScriptMount(schema.Cgi("/cgi-bin/", "cgi[0]", chosen, str(root)), None),
            ScriptMount(schema.Cgi("/mixed/", "cgi[1]", chosen, str(root), extensions=(".cgi",)), None),
            SimpleNamespace(prefix=b"/files", key="directory[0]"),
        ]
        site: Site[Any] = Site(schema.Vhost(key="vhost[0]", settings=schema.Settings()), mounts, None)
        self.table: SiteTable[Any] = SiteTable([site])
        self.reports: list[Report] = []

    def refusal(self, url: str, method: str = "GET", data: bytes = b"", address: schema.Address = ADDRESS) -> str:
        """Begin a test; why there is none, or ""."""
        with tempfile.TemporaryFile(buffering=0) as file:
            file.write(data)
            file.seek(0)
            body = os.dup(file.fileno())
        return Probe(self.scripts, self.reports.append).begin([(address, 8000, self.table)], url, method, body)

    def run(self, url: str = "/cgi-bin/run.cgi", method: str = "GET", data: bytes = b"", **more: Any) -> ScriptRun:
        """The run of a test that begins."""
        assert self.refusal(url, method, data, **more) == ""
        (run,) = self.scripts.active
        return run

    def write(self, run: ScriptRun, data: bytes) -> None:
        """The script writes `data`, and closes its ends."""
        run.started(PID)
        os.write(run.output.child_fd, data)
        run.close_child_fds()
        run.output.read()

    def report(self) -> Any:
        (report,) = self.reports
        return report

    def end(self, output: bytes, how: str = "exit status 0", url: str = "/cgi-bin/run.cgi") -> Any:
        """The report of a script that writes `output` and ends."""
        run = self.run(url)
        self.write(run, output)
        run.ended(PID, how)
        return self.report()


def make_scripts(tmp_path: Path) -> Path:
    """A folder of scripts that nobody runs."""
    folder = tmp_path / "cgi"
    for name in ("run.cgi", "nph-run.cgi", "indexed/index.cgi", "folder/a.txt", ".hidden/run.cgi"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    (tmp_path / "outside").write_bytes(b"")
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "nowhere").symlink_to("nothing")
    os.mkfifo(folder / "fifo")
    return folder


@contextlib.contextmanager
def scripted(root: Path, **settings: Any) -> Iterator[Scripted]:
    """A world that leaves no descriptor behind."""
    before = descriptors()
    made = Scripted(root, **settings)
    yield made
    for run in list(made.scripts.active):
        run.declined(500, "the test is over")
    made.context.poller.close()
    os.close(made.scripts.null)
    for mount in made.table.find(b"").mounts:
        if isinstance(mount, ScriptMount):
            mount.lookup._root = None
            del mount.files
    assert descriptors() == before
