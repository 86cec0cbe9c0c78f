"""Files to load, and a way to be an ordinary user also when the tests run as root."""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from httpd.config.errors import ConfigErrors
from httpd.config.load import Loaded, load
from machine import as_user as run_as_user


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write `text` to a file below the test's folder and return its path."""

    def write_file(text: str | bytes, name: str = "httpd.toml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)

    return write_file


@pytest.fixture
def good(write: Callable[..., str]) -> Callable[[str], Loaded]:
    """Load a text that must be valid, as uid 1000."""
    return lambda text: load(write(text), euid=1000, environ={})


@pytest.fixture
def bad(write: Callable[..., str], tmp_path: Path) -> Callable[..., list[str]]:
    """The messages that a text gets, with file names relative to the test's folder."""

    def messages(text: str | bytes, **options: Any) -> list[str]:
        path = write(text)
        with pytest.raises(ConfigErrors) as caught:
            load(path, **{"euid": 1000, "environ": {}, **options})
        return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]

    return messages


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may enter, unlike those of pytest."""
    folder = Path(tempfile.mkdtemp(prefix="httpd-config-"))
    folder.chmod(0o755)
    yield folder
    for path in (folder, *folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    shutil.rmtree(folder)


@pytest.fixture
def as_user() -> Callable[[Callable[[], Any]], Any]:
    """`machine.as_user`."""
    return run_as_user


@pytest.fixture
def user_name() -> str:
    """The user that `as_user` runs as."""
    return "nobody" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
