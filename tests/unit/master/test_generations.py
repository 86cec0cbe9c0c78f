"""A generation: who belongs to it, which log files it opens, its places on the scoreboard."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from httpd.config import schema
from httpd.config.schema import Directory, Log, Redirect, Server, Settings, Vhost
from httpd.logs.targets import Kind, log_names
from httpd.master import generations as module
from httpd.master.children import Child, State
from httpd.master.generations import Generation, Stage, make_generation, open_targets, worker_count
from httpd.worker.scoreboard import Figures
from machine import descriptors

MakeConfig = Callable[..., schema.Config]
MakeGeneration = Callable[..., Generation]
MakeChild = Callable[..., Child]


@pytest.mark.parametrize(
    ("workers", "most", "cpus", "expected"), [(3, 64, 1, 3), (0, 64, 6, 6), (0, 4, 6, 4), (64, 64, 1, 64)]
)
def test_worker_count(make_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, workers: int, most: int, cpus: int,
                      expected: int) -> None:  # fmt: skip
    monkeypatch.setattr(module, "usable_cpus", lambda: cpus)
    assert worker_count(make_config(server=Server(workers=workers, max_workers=most))) == expected


def test_children(make_generation: MakeGeneration, make_child: MakeChild) -> None:
    generation = make_generation(slots=3)
    assert list(generation.children) == []
    generation.slots[0].child = first = make_child(slot=0)
    generation.slots[2].child = third = make_child(slot=2, state=State.STARTING)
    leaving = make_child(slot=2)
    generation.extra.append(leaving)
    assert list(generation.children) == [first, third, leaving]
    assert generation.serving() == 1  # what holds no slot does not count


def test_a_new_generation(make_config: MakeConfig) -> None:
    generation = make_generation(7, make_config(server=Server(workers=2, max_workers=5)), None, [])
    assert generation.number == 7
    assert generation.stage is Stage.CANARY
    assert [slot.number for slot in generation.slots] == [0, 1]
    assert generation.boards == list(range(10))  # max_workers may come, each with its successor
    assert generation.listener_names == []
    generation.close()


def test_boards(make_generation: MakeGeneration) -> None:
    generation = make_generation(slots=1)
    generation.scoreboard.write(0, Figures(5, 5, 5, 5, 5))
    assert generation.take_board() == 0
    assert generation.scoreboard.read(0) == Figures(0, 0, 0, 0, 0)
    assert generation.take_board() == 1
    assert generation.take_board() == -1
    generation.scoreboard.write(-1, Figures(5, 5, 5, 5, 5))
    assert generation.scoreboard.read(1) == Figures(0, 0, 0, 0, 0)


# Log files


def with_logs(make_config: MakeConfig, access: str, error: str, *others: str) -> schema.Config:
    mounts = tuple(
        Directory(f"/{at}/", "k", Settings(access_log=name)) if at % 2 else
        Redirect(f"/{at}/", "k", Settings(access_log=name))
        for at, name in enumerate(others)
    )  # fmt: skip
    vhost = Vhost(key="k", settings=Settings(), mounts=mounts)
    return make_config(log=Log(access=access, error=error), vhosts=(vhost,))


def test_log_names(make_config: MakeConfig) -> None:
    config = with_logs(make_config, "/main", "/error", "/a", "/b", "/a", "/main", "")
    assert log_names(config) == ["/main", "/a", "/b", ""]
    vhost = Vhost(key="k", settings=Settings(access_log="/vhost"))
    assert log_names(make_config(log=Log(access="/main"), vhosts=(vhost,))) == ["/main", "/vhost"]


def test_open_and_close(make_config: MakeConfig, tmp_path: Path) -> None:
    before = descriptors()
    names = [str(tmp_path / name) for name in "abc"]
    targets, errors = open_targets(with_logs(make_config, names[0], names[1], names[2], "", "syslog"))
    assert {name: target.kind for name, target in targets.items()} == {
        names[0]: Kind.DESCRIPTOR, names[2]: Kind.DESCRIPTOR, "": Kind.NONE, "syslog": Kind.SYSLOG,
    }  # fmt: skip
    os.write(errors.fd, b"x")
    assert (tmp_path / "b").read_bytes() == b"x"
    assert len({target.fd for target in (*targets.values(), errors) if target.fd >= 0}) == 3
    module.close_targets((*targets.values(), errors))
    assert descriptors() == before


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_all_log_files_or_none(make_config: MakeConfig, tmp_path: Path, broken: int) -> None:
    names = [str(tmp_path / name) for name in "abc"]
    names[broken] = str(tmp_path / "missing" / "log")
    before = descriptors()
    with pytest.raises(FileNotFoundError) as caught:
        open_targets(with_logs(make_config, names[0], names[1], names[2]))
    assert caught.value.filename == names[broken]
    assert descriptors() == before


def test_close_closes_the_log_files(make_config: MakeConfig, tmp_path: Path) -> None:
    before = descriptors()
    config = with_logs(make_config, str(tmp_path / "a"), str(tmp_path / "e"), str(tmp_path / "b"))
    generation = make_generation(1, config, None, [])
    fds = [target.fd for target in (*generation.targets.values(), generation.errors)]
    generation.end()
    for fd in fds:
        with pytest.raises(OSError, match="Bad file"):
            os.fstat(fd)
    assert descriptors() == before
