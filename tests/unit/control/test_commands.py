"""The table of commands and signals: what each one calls on the master."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from httpd.control.commands import COMMANDS, SIGNALS, Master, Reply, perform
from httpd.control.wire import DONE, USAGE, Call, Outcome


class Recorder:
    """A master that notes its calls and answers each at once."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def _note(self, reply: Reply, *call: object) -> None:
        self.calls.append(call)
        reply(Outcome(DONE, str(call[0])))

    def cgi_test(self, url: str, method: str, data: bytes, reply: Reply) -> None:
        self._note(reply, "cgi_test", url, method, data)

    def status(self, reply: Reply) -> None:
        self._note(reply, "status")

    def reload(self, reply: Reply) -> None:
        self._note(reply, "reload")

    def reload_for_good(self, reply: Reply) -> None:
        self._note(reply, "reload_for_good")

    def hang_up(self, reply: Reply) -> None:
        self._note(reply, "hang_up")

    def stop(self, *, now: bool, reply: Reply) -> None:
        self._note(reply, "stop", now)

    def interrupt(self, reply: Reply) -> None:
        self._note(reply, "interrupt")

    def restart(self, reply: Reply) -> None:
        self._note(reply, "restart")

    def check(self, reply: Reply) -> None:
        self._note(reply, "check")

    def reopen(self, reply: Reply) -> None:
        self._note(reply, "reopen")

    def set_workers(self, count: int, reply: Reply) -> None:
        self._note(reply, "set_workers", count)

    def change_workers(self, by: int, reply: Reply) -> None:
        self._note(reply, "change_workers", by)

    def upgrade(self, reply: Reply) -> None:
        self._note(reply, "upgrade")


def test_the_recorder_is_a_master() -> None:
    for name, method in inspect.getmembers(Master, inspect.isfunction):
        if not name.startswith("_"):
            assert inspect.signature(getattr(Recorder, name)) == inspect.signature(method)


def run(call: Call) -> tuple[list[tuple[Any, ...]], list[Outcome]]:
    master, outcomes = Recorder(), list[Outcome]()
    perform(master, call, outcomes.append)
    return master.calls, outcomes


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (Call("status"), ("status",)),
        (Call("reload"), ("reload",)),
        (Call("reload", {"settled": False}), ("reload",)),
        (Call("reload", {"settled": True}), ("reload_for_good",)),
        (Call("stop"), ("stop", False)),
        (Call("stop", {"now": False}), ("stop", False)),
        (Call("stop", {"now": True}), ("stop", True)),
        (Call("restart"), ("restart",)),
        (Call("check"), ("check",)),
        (Call("reopen"), ("reopen",)),
        (Call("workers", {"count": 3}), ("set_workers", 3)),
        (Call("workers", {"count": -1}), ("set_workers", -1)),  # the master knows the bounds
        (Call("status", {"unknown": 1}), ("status",)),
    ],
)
def test_commands(call: Call, expected: tuple[Any, ...]) -> None:
    assert run(call) == ([expected], [Outcome(DONE, expected[0])])


@pytest.mark.parametrize("now", ["false", "no", 1, [0], {"a": 1}])
def test_stop_now_needs_a_true(now: object) -> None:
    """What is not understood must not cut clients off."""
    assert run(Call("stop", {"now": now}))[0] == [("stop", False)]


@pytest.mark.parametrize("settled", ["true", 1, [True], {"a": 1}])
def test_to_wait_for_the_probation_needs_a_true(settled: object) -> None:
    assert run(Call("reload", {"settled": settled}))[0] == [("reload",)]


@pytest.mark.parametrize("count", [None, "3", 3.0, True, [3], {}])
def test_workers_needs_a_number(count: object) -> None:
    assert run(Call("workers", {"count": count})) == ([], [Outcome(USAGE, "workers needs a number")])
    assert run(Call("workers")) == ([], [Outcome(USAGE, "workers needs a number")])


@pytest.mark.parametrize("name", ["", "Status", "stop ", "upgrade", "__init__", "a\nb"])
def test_unknown_commands(name: str) -> None:
    assert run(Call(name)) == ([], [Outcome(USAGE, f"unknown command {name!r}")])


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ("TERM", ("stop", False)),
        ("QUIT", ("stop", True)),
        ("INT", ("interrupt",)),
        ("HUP", ("hang_up",)),
        ("USR1", ("reopen",)),
        ("USR2", ("upgrade",)),
        ("TTIN", ("change_workers", 1)),
        ("TTOU", ("change_workers", -1)),
    ],
)
def test_signals(signal: str, expected: tuple[Any, ...]) -> None:
    master = Recorder()
    SIGNALS[signal](master, {}, lambda outcome: None)
    assert master.calls == [expected]


def test_every_signal_of_the_contract_in_order_of_priority() -> None:
    assert list(SIGNALS) == ["QUIT", "INT", "TERM", "HUP", "USR1", "USR2", "TTIN", "TTOU"]


def test_every_command_of_the_contract() -> None:
    assert set(COMMANDS) == {"status", "reload", "stop", "restart", "check", "reopen", "workers", "cgi-test"}
    for name, command in COMMANDS.items():
        assert command.name == name
        assert command.help
        assert command.seconds > 0
        assert not command.argument or not command.flag


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"url": "/x"}, ("cgi_test", "/x", "GET", b"")),
        ({"url": "/x", "method": None, "data": "YQ=="}, ("cgi_test", "/x", "POST", b"a")),
        ({"url": "http://h/x?y", "method": "PROPFIND", "data": ""}, ("cgi_test", "http://h/x?y", "PROPFIND", b"")),
        ({"url": 1}, None),
        ({}, None),
        ({"url": "/x", "method": "A B"}, None),
        ({"url": "/x", "method": "\u00c4"}, None),
        ({"url": "/x", "data": "not base64"}, None),
    ],
)
def test_what_a_test_of_a_script_is_given(arguments: dict[str, object], expected: tuple[object, ...] | None) -> None:
    master, answers = Recorder(), []
    perform(master, Call("cgi-test", arguments), answers.append)
    assert master.calls == ([] if expected is None else [expected])
    assert answers[0].code == (USAGE if expected is None else DONE)
