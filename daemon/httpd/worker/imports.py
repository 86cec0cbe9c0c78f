"""Loading what a configuration names by "module:name", and saying why that failed so that its author can put it right.

Rules:

- Called in a process that serves or checks and ends afterwards, never in the master: the code is a user's.
- Nothing that it raises escapes: SystemExit of a script that was meant to be run, an error of syntax, anything becomes
  a `LoadError` with the last line of the traceback and the file and line in the user's code that it comes from.
- No bytecode is written: files of the same size that change within a second would be taken for unchanged.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Iterable
from typing import Any


class LoadError(Exception):
    """A name can't be loaded.  The text is one line: the key, and the reason with file and line."""

    def __init__(self, key: str, reason: str) -> None:
        super().__init__(f"{key}: {reason}" if key else reason)
        self.reason = reason


def extend_path(folders: Iterable[str]) -> None:
    """Put folders in front of those that modules are looked for in."""
    for folder in reversed(list(folders)):
        if folder not in sys.path:
            sys.path.insert(0, folder)


def load(key: str, name: str) -> Any:
    """What "module:name" names; `key` is where it is configured.  Raises LoadError."""
    module_name, _, path = name.partition(":")
    try:
        found: Any = importlib.import_module(module_name)
    except BaseException as error:
        raise LoadError(key, f"can't import {module_name!r}: {describe(error)}") from None
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            where = getattr(sys.modules[module_name], "__file__", None)
            place = f" ({where})" if where else ""
            raise LoadError(key, f"there is no {path!r} in {module_name!r}{place}") from None
    if not callable(found):
        raise LoadError(key, f"{name!r} is no class or function, but {type(found).__name__}")
    return found


def describe(error: BaseException) -> str:
    """The last line of the traceback, and the file and line that the error comes from: the last one in a user's
    code."""
    lines = traceback.format_exception_only(error)
    text = " ".join(lines[-1].split())
    if isinstance(error, SyntaxError) and error.filename:
        return f"{text} ({error.filename}, line {error.lineno})"
    library = (getattr(error, "name", None) or "").partition(".")[0] in sys.stdlib_module_names
    if library and not os.access(os.path.dirname(os.__file__), os.R_OK | os.X_OK):
        text += f"; this user may not read Python's library in {os.path.dirname(os.__file__)}"
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if not _is_machinery(frame.filename)]
    if not ours:
        return text
    return f"{text} ({ours[-1].filename}, line {ours[-1].lineno})"


_LIBRARY = os.path.dirname(os.__file__) + os.sep


def _is_machinery(filename: str) -> bool:
    """Whether a file is none that its author could put right: of the standard library, or this one."""
    library = filename.startswith(_LIBRARY) and f"-packages{os.sep}" not in filename
    return library or filename.startswith("<frozen") or filename == __file__
