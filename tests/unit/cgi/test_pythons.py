"""Which scripts are for a warm interpreter, and for which."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from httpd.cgi.process import Launch
from httpd.cgi.pythons import command_of

NONE: tuple[tuple[bytes, ...], bytes] = ((), b"")


def launch(file: bytes, *words: bytes, script: bytes = b"") -> Launch:
    return Launch(file, (file, *words), {}, b"/", 0, 1, 2, script)


@pytest.mark.parametrize(
    ("line", "command"),
    [
        ("#!/usr/bin/python3", (b"/usr/bin/python3",)),
        ("#! /usr/bin/python3.11 -I", (b"/usr/bin/python3.11", b"-I")),
        ("#!/usr/bin/env python3", (b"/usr/bin/env", b"python3")),
        ("#!/usr/bin/python3 -m", None),
        ("#!/usr/bin/python2", None),
        ("#!/usr/bin/python3.8", None),
        ("#!/usr/bin/python3.14", (b"/usr/bin/python3.14",)),
        ("#!/usr/bin/env perl", None),
        ("#!/bin/sh", None),
        ("no program", None),
    ],
)
def test_by_the_first_line(tmp_path: Path, line: str, command: tuple[bytes, ...] | None) -> None:
    (tmp_path / "script").write_text(line + "\n")
    file = os.fsencode(tmp_path / "script")
    assert command_of(launch(file, b"word")) == (NONE if command is None else (command, file))


def test_by_interpreters() -> None:
    assert command_of(launch(b"/usr/bin/python3", b"/x.py", script=b"/x.py")) == ((b"/usr/bin/python3",), b"/x.py")
    assert command_of(launch(b"/usr/bin/perl", b"/x.pl", script=b"/x.pl")) == NONE


def test_a_python_that_is_the_script_is_run_as_it_is(tmp_path: Path) -> None:
    file = os.fsencode(tmp_path / "python3")
    assert command_of(launch(file, b"/what/the/client/says")) == NONE
