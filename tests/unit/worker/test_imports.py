"""What a configuration names is loaded, or it is said in one line why not."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from httpd.worker import imports
from httpd.worker.imports import LoadError, describe, extend_path, load


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder in which modules are looked for; forgotten afterwards."""
    before, modules = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(tmp_path))
    importlib.invalidate_caches()
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def _write(folder: Path, name: str, text: str) -> Path:
    path = folder / f"{name}.py"
    path.write_text(text)
    importlib.invalidate_caches()
    return path


def test_whatever_can_be_called(folder: Path) -> None:
    _write(folder, "loadable", "import functools\nclass A:\n    class B: pass\n"
           "made = functools.partial(A)\nby_lambda = lambda: 1\n")  # fmt: skip
    for name in ("A", "A.B", "made", "by_lambda"):
        assert callable(load("key", f"loadable:{name}"))
    assert load("key", "collections.abc:Mapping.get")


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("x = 1\n", "mod_a:Y", "there is no 'Y' in 'mod_a' (FILE)"),
        ("class Y: pass\n", "mod_a:Y.Z", "there is no 'Y.Z' in 'mod_a' (FILE)"),
        ("Y = 'text'\n", "mod_a:Y", "'mod_a:Y' is no class or function, but str"),
        ("def f(:\n", "mod_a:Y", "can't import 'mod_a': SyntaxError: invalid syntax (FILE, line 1)"),
        ("if 1:\nx\n", "mod_a:Y",
         r"can't import 'mod_a': IndentationError: expected an indented block after 'if' \S.* (FILE, line 2)"),
        ("\n\nimport nothing_of_that_name\n", "mod_a:Y",
         "can't import 'mod_a': ModuleNotFoundError: No module named 'nothing_of_that_name' (FILE, line 3)"),
        ("from os import nothing\n", "mod_a:Y",
         r"can't import 'mod_a': ImportError: cannot import name 'nothing' from 'os' (\S+) (FILE, line 1)"),
        ("import sys\nsys.exit('text')\n", "mod_a:Y", "can't import 'mod_a': SystemExit: text (FILE, line 2)"),
        ("raise KeyboardInterrupt\n", "mod_a:Y", "can't import 'mod_a': KeyboardInterrupt (FILE, line 1)"),
        ("raise ValueError('two\\nlines')\n", "mod_a:Y", "can't import 'mod_a': ValueError: two lines (FILE, line 1)"),
        ("import json\njson.loads('{')\n", "mod_a:Y",
         r"can't import 'mod_a': json.decoder.JSONDecodeError: Expecting property name \S.* (FILE, line 2)"),
    ],
)  # fmt: skip
def test_why_not(folder: Path, text: str, name: str, message: str) -> None:
    file = _write(folder, "mod_a", text)
    with pytest.raises(LoadError) as caught:
        load("key", name)
    pattern = message
    if r"\S" not in message:
        pattern = re.escape(message)
    else:
        pattern = re.sub(r"\((?=\\S|FILE)", r"\\(", message).replace(")", r"\)")
    pattern = "key: " + pattern.replace("FILE", re.escape(str(file)))
    assert re.fullmatch(pattern, str(caught.value)), f"{caught.value}\n{pattern}"


def test_the_fault_of_a_module_that_is_imported(folder: Path) -> None:
    _write(folder, "mod_a", "import mod_b\n")
    other = _write(folder, "mod_b", "\ndef f():\n    1 / 0\n\nf()\n")
    with pytest.raises(LoadError, match=re.escape(f"ZeroDivisionError: division by zero ({other}, line 3)")):
        load("key", "mod_a:X")


def test_a_module_that_is_not_there(folder: Path) -> None:
    with pytest.raises(LoadError, match=r"key: can't import 'not\.there': ModuleNotFoundError: No module named 'not'$"):
        load("key", "not.there:X")


def test_a_module_of_ours_that_can_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports.os, "access", lambda path, mode: False)
    error = ModuleNotFoundError("No module named 'json'", name="json")
    assert "this user may not read Python's library in" in describe(error)
    assert "may not read" not in describe(ModuleNotFoundError("No module named 'x'", name="x"))


def test_folders_come_first_in_their_order(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", ["/there"])
    extend_path(["/one", "/two"])
    extend_path(["/one"])
    assert sys.path == ["/one", "/two", "/there"]
