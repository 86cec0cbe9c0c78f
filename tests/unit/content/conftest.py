"""The tree of tests/corpus/paths/tree.toml, and the three ways in which a Root resolves a path."""

import os
import socket
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from httpd.content import files, openat2

CORPUS = Path(__file__).parents[2] / "corpus" / "paths" / "tree.toml"
TREE: dict[str, Any] = tomllib.loads(CORPUS.read_text("utf-8"))

MakeRoot = Callable[[bytes, str], files.Root]


def plant(top: bytes) -> None:
    """Make the tree of the corpus below `top`, a real path."""

    def at(name: str) -> bytes:
        return os.path.join(top, name.encode("latin-1"))

    for name in TREE["folders"]:
        os.mkdir(at(name))
    for name in TREE["files"]:
        with open(at(name), "wb") as file:
            file.write(b"secret" if name.startswith("outside") else name.encode("latin-1"))
    for name in TREE["fifos"]:
        os.mkfifo(at(name))
    for name in TREE["sockets"]:
        here = os.getcwd()
        os.chdir(os.path.dirname(at(name)))  # a socket's path may not be long
        try:
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(os.path.basename(at(name)))
        finally:
            os.chdir(here)
    for name, target in TREE["links"].items():
        os.symlink(target.encode("latin-1").replace(b"TOP", top), at(name))


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    top = os.path.realpath(os.fsencode(tmp_path_factory.mktemp("tree")))
    plant(top)
    return top


@pytest.fixture(scope="session")
def tree_cases() -> list[dict[str, str]]:
    cases: list[dict[str, str]] = TREE["case"]
    return cases


@pytest.fixture(params=["openat2", "walk", "plain walk"])
def make_root(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> MakeRoot:
    """Root, made to resolve by openat2, by the walk with O_PATH, or by the walk that needs no /proc."""
    if request.param == "plain walk":
        monkeypatch.setattr(files, "has_descriptor_paths", lambda: False)
        return files.Root
    if not files.has_descriptor_paths():
        pytest.skip("needs O_PATH and /proc")
    if request.param == "walk":
        monkeypatch.setattr(openat2, "supported", lambda: False)
    elif not openat2.supported():
        pytest.skip("this kernel or its sandbox has no openat2")
    return files.Root
