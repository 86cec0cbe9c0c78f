"""What the master tells about itself: the objects and texts of `status` and `reload`."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from typing import Any

import pytest

from httpd import __version__
from httpd.config import schema
from httpd.config.schema import Address, Directory, Limits, Redirect, Server, Settings, Timeouts, Vhost
from httpd.control.wire import DONE, REFUSED, ROLLED_BACK, TIMED_OUT, Outcome
from httpd.master import report
from httpd.master.children import Child, State
from httpd.master.generations import Generation
from httpd.master.losses import Losses
from httpd.worker.scoreboard import Figures

MakeConfig = Callable[..., schema.Config]
MakeGeneration = Callable[..., Generation]
MakeChild = Callable[..., Child]
NOBODY = 2**22 + 1  # above the largest pid that Linux gives


class _Bound:
    """Of a listener, what a report shows."""

    names = ("127.0.0.1:8000", "[::1]:8000")
    queues = (("127.0.0.1:8000", 3, 4096), ("[::1]:8000", 0, 128))


def status(active: Generation | None, generations: list[Generation], last: dict[str, object] | None = None,
           losses: Losses | None = None, *, stopping: bool = False, uptime: float = 0.0,
           launcher: dict[str, object] | None = None) -> dict[str, Any]:  # fmt: skip
    started, losses = time.time() - uptime, losses or Losses()
    return report.status(
        active, generations, last or {}, losses, started, uptime, stopping=stopping, launcher=launcher
    )  # fmt: skip


def test_status(make_generation: MakeGeneration, make_child: MakeChild) -> None:
    old, new = make_generation(1, slots=1), make_generation(2, slots=2, listeners=[_Bound()])
    now = time.monotonic()
    old.extra.append(make_child(NOBODY, state=State.DRAINING, started=now - 90, board=1))
    old.scoreboard.write(1, Figures(7, 6, 5, 4, 3, 2))
    new.slots[1].child = make_child(NOBODY + 1, slot=1, started=now, generation=2)
    new.slots[0].child = make_child(os.getpid(), started=now, generation=2)
    new.slots[0].restarts, new.slots[0].last_exit = 3, "killed by SIGSEGV"
    data = status(new, [new, old], {"ok": True, "text": "x", "at": 1.0}, uptime=100)
    assert json.loads(json.dumps(data)) == data
    assert (data["version"], data["pid"], data["state"], data["generation"]) == (__version__, os.getpid(), "running", 2)
    assert data["config"] == "/etc/httpd.toml"
    assert data["listeners"] == ["127.0.0.1:8000", "[::1]:8000"]
    assert data["last_reload"] == {"ok": True, "text": "x", "at": 1.0}
    assert (data["wanted_workers"], data["restarts"]) == (2, 3)
    assert data["last_exits"] == [{"slot": 0, "reason": "killed by SIGSEGV"}]
    assert data["uptime"] == 100.0
    assert data["queues"] == [
        {"listener": "127.0.0.1:8000", "waiting": 3, "limit": 4096},
        {"listener": "[::1]:8000", "waiting": 0, "limit": 128},
    ]
    assert data["listen_overflows"] >= 0
    assert (data["replaced"], data["replacements"]) == (0, [])
    workers = data["workers"]
    assert [(worker["generation"], worker["slot"], worker["state"]) for worker in workers] == [
        (1, 0, "draining"), (2, 0, "serving"), (2, 1, "serving"),
    ]  # fmt: skip
    assert (workers[0]["requests"], workers[0]["connections"], workers[0]["accepted"]) == (7, 6, 5)
    assert workers[0]["dropped_log_lines"] == 4
    assert [worker["scripts"] for worker in workers] == [2, 0, 0]
    assert data["launcher"] is None
    assert workers[0]["uptime"] >= 90
    assert workers[1]["memory"] > 2**20
    assert (workers[2]["cpu"], workers[2]["memory"]) == (0.0, 0)  # a process that is just gone


def test_every_key_of_the_contract(make_generation: MakeGeneration, make_child: MakeChild) -> None:
    generation = make_generation(slots=1)
    generation.slots[0].child = make_child()
    data = status(generation, [generation])
    top = {"version", "pid", "state", "generation", "uptime", "config", "listeners", "last_reload", "workers"}
    worker = {"pid", "generation", "state", "uptime", "requests", "connections", "cpu", "memory"}
    assert top <= data.keys()
    assert worker <= data["workers"][0].keys()


@pytest.mark.parametrize(
    ("filled", "state", "stopping", "expected"),
    [
        (2, State.SERVING, False, "running"),
        (1, State.SERVING, False, "degraded"),
        (2, State.STARTING, False, "degraded"),
        (0, State.SERVING, False, "degraded"),
        (2, State.SERVING, True, "stopping"),
    ],
)
def test_state(make_generation: MakeGeneration, make_child: MakeChild, filled: int, state: State, stopping: bool,
               expected: str) -> None:  # fmt: skip
    generation = make_generation(slots=2, listeners=[_Bound()])
    for slot in generation.slots[:filled]:
        slot.child = make_child(state=state)
    data = status(generation, [generation], stopping=stopping)
    assert data["state"] == expected
    assert bool(data["listeners"]) is bool(data["queues"]) is not stopping


@pytest.mark.parametrize(("stopping", "expected"), [(False, "starting"), (True, "stopping")])
def test_without_a_generation(stopping: bool, expected: str) -> None:
    data = status(None, [], stopping=stopping)
    assert (data["state"], data["generation"], data["config"]) == (expected, 0, "")
    assert (data["listeners"], data["workers"], data["last_reload"]) == ([], [], None)
    assert expected in report.status_text(data)


def test_status_text(make_generation: MakeGeneration, make_child: MakeChild) -> None:
    generation = make_generation(3, slots=1, listeners=[_Bound()])
    generation.slots[0].child = make_child(NOBODY, generation=3, started=time.monotonic())
    losses = Losses()
    losses.note(make_child(generation=2, slot=5), "killed by SIGKILL")
    last = {"ok": False, "code": REFUSED, "text": "bad:1: unknown key\nbad:2: another", "at": time.time() - 120}
    data = status(generation, [generation], last, losses, uptime=7200)
    lines = report.status_text(data).splitlines()
    assert lines[0] == f"httpd {__version__}, pid {os.getpid()}: running, generation 3, up 2.0h"
    assert lines[1:3] == ["config    /etc/httpd.toml", "listening 127.0.0.1:8000, [::1]:8000"]
    assert lines[3] == "reload    refused 2.0m ago: bad:1: unknown key"
    assert lines[4] == "replaced  worker 5 of generation 2 0.0s ago: killed by SIGKILL"
    assert lines[5].split() == ["worker", "gen", "pid", "state", "up", "requests", "open", "cpu", "memory"]
    assert lines[6].split() == ["0", "3", str(NOBODY), "serving", "0.0s", "0", "0", "0.00s", "0.0", "MiB"]
    assert len(lines) == 7


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ({"pid": 7, "uptime": 90.0, "replaced": 0}, "scripts   5 run or wait; launcher pid 7, up 1.5m"),
        ({"pid": 7, "uptime": 1.0, "replaced": 1}, "scripts   5 run or wait; launcher pid 7, up 1.0s, replaced 1 time"),
        ({"pid": 0, "uptime": 0.0, "replaced": 2}, "scripts   5 run or wait; no launcher now, replaced 2 times"),
    ],
)
def test_scripts(
    make_generation: MakeGeneration, make_child: MakeChild, launcher: dict[str, object], expected: str
) -> None:
    generation = make_generation(slots=2)
    for slot, scripts in ((0, 2), (1, 3)):
        generation.slots[slot].child = make_child(slot=slot, board=slot)
        generation.scoreboard.write(slot, Figures(1, 1, 1, 0, 1, scripts))
    data = status(generation, [generation], launcher=launcher)
    assert data["launcher"] == launcher
    assert expected in report.status_text(data).splitlines()


def test_status_text_of_a_reload_without_words(make_generation: MakeGeneration) -> None:
    data = status(make_generation(), [], {"ok": True, "code": DONE, "text": "", "at": time.time()})
    assert "reload    done 0.0s ago" in report.status_text(data)


@pytest.mark.parametrize(
    ("code", "verdict"), [(DONE, "done"), (REFUSED, "refused"), (ROLLED_BACK, "rolled back"), (TIMED_OUT, "refused")]
)
def test_how_the_last_reload_ended(code: int, verdict: str) -> None:
    last: dict[str, object] = {"ok": code == DONE, "code": code, "text": "why", "at": time.time()}
    assert f"reload    {verdict} 0.0s ago: why" in report.status_text(status(None, [], last))


@pytest.mark.parametrize(("lost", "shown", "hidden"), [(0, 0, 0), (1, 1, 0), (5, 5, 0), (6, 5, 1), (23, 5, 18)])
def test_replaced_workers(make_child: MakeChild, lost: int, shown: int, hidden: int) -> None:
    """All are counted, the last twenty are in the object, the last five in the text."""
    losses = Losses()
    for number in range(lost):
        losses.note(make_child(NOBODY + number, slot=number), f"reason {number}")
    data = status(None, [], losses=losses)
    assert json.loads(json.dumps(data)) == data
    assert data["replaced"] == lost
    assert [loss["reason"] for loss in data["replacements"]] == [f"reason {at}" for at in range(lost)][-20:]
    text = report.status_text(data)
    assert [line.rpartition(": ")[2] for line in text.splitlines() if line.startswith("replaced")] == [
        f"reason {at}" for at in range(lost)
    ][lost - shown :]
    assert ("before" in text) is bool(hidden)
    assert not hidden or f"          and {hidden} before" in text.splitlines()


def test_a_clock_that_was_set_back(make_child: MakeChild) -> None:
    losses = Losses()
    losses.note(make_child(), "why")
    data = status(None, [], {"ok": True, "code": DONE, "text": "x", "at": time.time() + 86400}, losses)
    data["replacements"][0]["at"] += 86400
    text = report.status_text(data)
    assert "reload    done 0.0s ago: x" in text
    assert "worker 0 of generation 1 0.0s ago: why" in text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0.0s"), (59.9, "59.9s"), (60, "1.0m"), (3599, "60.0m"), (3600, "1.0h"), (86400, "1.0d"), (864000, "10.0d")],
)
def test_spans(seconds: float, text: str) -> None:
    assert report._span(seconds) == text


def test_status_line(make_generation: MakeGeneration, make_child: MakeChild) -> None:
    generation = make_generation(4, slots=2, listeners=[_Bound()])
    generation.slots[0].child = make_child()
    text = "generation 4, 1 workers on 127.0.0.1:8000, [::1]:8000"
    assert report.status_line(None, {}) == "not serving"
    assert report.status_line(generation, {}) == report.status_line(generation, {"ok": True}) == text
    refused, undone = ({"ok": False, "code": code} for code in (REFUSED, ROLLED_BACK))
    assert report.status_line(generation, refused) == text + "; last reload refused"
    assert report.status_line(generation, undone) == text + "; last reload rolled back"


# What a reload changed


def directory(path: str, **fields: Any) -> Directory:
    return Directory(path, fields.pop("key", "k"), fields.pop("settings", Settings()), root=fields.pop("root", "/srv"))


def vhost(*names: str, mounts: tuple[Directory | Redirect, ...] = (), **fields: Any) -> Vhost:
    settings = fields.pop("settings", Settings())
    return Vhost(key=fields.pop("key", "k"), names=names, settings=settings, mounts=mounts, **fields)


def server(*texts: str, **fields: Any) -> Server:
    return Server(listen=tuple(Address(text) for text in texts), **fields)


CHANGES: list[tuple[dict[str, Any], dict[str, Any], list[str]]] = [
    ({}, {}, []),
    ({"server": server("a", "b")}, {"server": server("b", "c")}, ["listener added: c", "listener removed: a"]),
    ({"vhosts": (vhost("a"), vhost())}, {"vhosts": (vhost("b"), vhost())}, ["vhost added: b", "vhost removed: a"]),
    ({"vhosts": (vhost("a"),)}, {"vhosts": (vhost(),)}, ["vhost added: (default)", "vhost removed: a"]),
    (
        {"vhosts": (vhost("a", mounts=(directory("/"), directory("/x/"), directory("/y/"))),)},
        {"vhosts": (vhost("a", mounts=(directory("/"), directory("/y/", root="/new"), directory("/z/"))),)},
        ["vhost a: mount added: /z/", "vhost a: mount removed: /x/", "vhost a: mount changed: /y/"],
    ),
    (
        {"vhosts": (vhost("a", mounts=(directory("/x/"),)),)},
        {"vhosts": (vhost("a", mounts=(Redirect("/x/", "k", Settings(), to="/y/"),)),)},
        ["vhost a: mount changed: /x/"],
    ),
    # Where something stands in the file is not a change.
    (
        {"vhosts": (vhost("a", mounts=(directory("/"),)),)},
        {"vhosts": (vhost("a", key="moved", mounts=(directory("/", key="moved"),)),)},
        [],
    ),
    ({"vhosts": (vhost("a"),)}, {"vhosts": (vhost("a", listen=(":80",)),)}, ["vhost a: settings changed"]),
    (
        {"vhosts": (vhost("a"),)}, {"vhosts": (vhost("a", settings=Settings(listing=True)),)},
        ["vhost a: settings changed"],
    ),
    (
        {"timeouts": Timeouts(), "limits": Limits(), "server": server(user="a")},
        {"timeouts": Timeouts(drain=5.0), "limits": Limits(head=1), "server": server(user="b", workers=9)},
        ["server.user: 'a' -> 'b'", "timeouts.drain: 30.0 -> 5.0", "limits.head: 32768 -> 1"],
    ),
]  # fmt: skip


@pytest.mark.parametrize(("before", "after", "expected"), CHANGES)
def test_changes(make_config: MakeConfig, make_generation: MakeGeneration, before: dict[str, Any],
                 after: dict[str, Any], expected: list[str]) -> None:  # fmt: skip
    old, new = (make_generation(config=make_config(**tables)) for tables in (before, after))
    assert report.changes(old, new) == expected


def test_changes_come_in_the_order_of_the_file(make_config: MakeConfig, make_generation: MakeGeneration) -> None:
    """Not in that of a set, which differs from one run to the next."""
    names = [f"host{at}" for at in range(20)]
    old = make_generation(config=make_config(vhosts=tuple(vhost(name) for name in names)))
    changed = tuple(vhost(name, settings=Settings(listing=True)) for name in names)
    new = make_generation(config=make_config(vhosts=changed))
    assert report.changes(old, new) == [f"vhost {name}: settings changed" for name in names]
    paths = [f"/{at}/" for at in range(20)]
    old = make_generation(config=make_config(vhosts=(vhost(mounts=tuple(map(directory, paths))),)))
    moved = tuple(directory(path, root="/new") for path in paths)
    new = make_generation(config=make_config(vhosts=(vhost(mounts=moved),)))
    assert report.changes(old, new) == [f"vhost (default): mount changed: {path}" for path in paths]


def test_changed_worker_count(make_generation: MakeGeneration) -> None:
    assert report.changes(make_generation(slots=2), make_generation(slots=3)) == ["workers: 2 -> 3"]
    assert report.changes(None, make_generation()) == report.changes(make_generation(), None) == []


def test_reload_text(make_generation: MakeGeneration) -> None:
    marks = [("check", 0.0415), ("bind", 0.001)]
    text = "reloaded: generation 5 serves after 123 ms (check 42 ms, bind 1 ms)\n  a\n  b"
    assert report.reload_text(make_generation(5), ["a", "b"], 0.1234, marks) == text
    assert report.reload_text(None, [], 0.0, []).endswith("\n  nothing changed in the configuration")


def test_settled(make_generation: MakeGeneration, make_child: MakeChild) -> None:
    generation = make_generation(slots=1)
    leaving = [make_child(state=State.DRAINING)]
    assert report.settled(generation, 1, []) is None
    generation.slots[0].child = make_child()
    assert report.settled(generation, 1, leaving) is None
    leaving[0].state = State.GONE
    assert report.settled(generation, 1, leaving) == Outcome(DONE, "1 workers", {"workers": 1})
    assert report.settled(generation, 2, leaving) is None
