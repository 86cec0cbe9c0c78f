"""The git client, and repositories for it."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from live.daemon import Place


class Git:
    """The client, without a configuration but its own.  `trace` is what it said and heard in its last command."""

    def __init__(self, place: Place) -> None:
        self.folder = place.path / "client"
        self.folder.mkdir(exist_ok=True)
        # It looks into repositories of the scripts' user as well.
        own = "[init]\ndefaultBranch = main\n[core]\ncompression = 0\n[safe]\ndirectory = *\n"
        (self.folder / ".gitconfig").write_text(own)
        self.trace = ""
        self._environ = {
            "PATH": os.environ["PATH"], "HOME": str(self.folder), "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C",
            "GIT_TERMINAL_PROMPT": "0", "GIT_AUTHOR_NAME": "A", "GIT_AUTHOR_EMAIL": "a@example.org",
            "GIT_COMMITTER_NAME": "C", "GIT_COMMITTER_EMAIL": "c@example.org",
        }  # fmt: skip

    def __call__(self, folder: Path, *arguments: str, fails: bool = False, **environ: str) -> str:
        """Run a command in a folder: what it said."""
        file = self.folder / f"trace-{os.urandom(4).hex()}"
        traces = {name: str(file) for name in ("GIT_TRACE_CURL", "GIT_TRACE_PACKET")}
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
            stdin=subprocess.DEVNULL, env={**self._environ, **traces, "GIT_TRACE_CURL_NO_DATA": "1", **environ},
        )  # fmt: skip
        self.trace = file.read_text("utf-8", "replace") if file.exists() else ""
        assert (done.returncode != 0) == fails, done.stdout + done.stderr
        return done.stdout + done.stderr

    def source(self, name: str, commits: int = 1) -> Path:
        """A working tree with a file for each commit."""
        folder = self.folder / name
        self(self.folder, "init", "--quiet", name)
        for number in range(commits):
            self.commit(folder, f"file{number}.txt", b"content %d\n" % number)
        return folder

    def commit(self, folder: Path, name: str, data: bytes) -> None:
        (folder / name).write_bytes(data)
        self(folder, "add", name)
        self(folder, "commit", "--quiet", "-m", f"commit of {name}")

    def head(self, folder: Path) -> str:
        return self(folder, "rev-parse", "HEAD").strip()


def publish(git: Git, place: Place, name: str, source: Path | None = None, push: bool = False,
            root: str = "git", owner: str = "nobody") -> Path:  # fmt: skip
    """A bare repository that belongs to the scripts' user, with all of `source`."""
    folder = place.path / root / name
    git(place.path, "init", "--quiet", "--bare", str(folder))
    if push:
        git(folder, "config", "http.receivepack", "true")
    if source is not None:
        git(source, "push", "--quiet", "--mirror", str(folder))
        git(folder, "update-server-info")
    if os.geteuid() == 0:
        account = pwd.getpwnam(owner)
        for path in (folder, *folder.rglob("*")):
            os.chown(path, account.pw_uid, account.pw_gid)
    return folder
