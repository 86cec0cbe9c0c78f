"""Run one of CPython's own test suites against `httpd.server`: cpython_suite.py SUITE[.CLASS] [-without CLASS]...

`http.server` is replaced before the suite is imported, and whatever imported it earlier is dropped, so that every class
in the suite, and in the modules that it tests, comes from here.
"""

from __future__ import annotations

import http
import importlib
import sys
import unittest
from collections.abc import Iterator
from typing import Any

import httpd.server

# The name by which http.server's suite compares: what is public is what `__all__` says.
_UNLISTED = {"executable", "nobody_uid", "test", "HTTPDualStackServer", "HTTPSDualStackServer"}


def substitute() -> None:
    sys.modules["http.server"] = httpd.server
    http.server = httpd.server  # type: ignore[attr-defined]
    for name in ("xmlrpc.server", "wsgiref.simple_server", "pydoc"):
        sys.modules.pop(name, None)


def check_all(self: unittest.TestCase) -> None:
    """In place of `MiscTestCase.test_all`, which looks for classes of the module `http.server`."""
    found = [
        name
        for name, value in vars(httpd.server).items()
        if not name.startswith("_")
        and name not in _UNLISTED
        and (getattr(value, "__module__", None) or "").startswith("httpd.server")
    ]
    self.assertCountEqual(httpd.server.__all__, found)


def each(suite: Any) -> Iterator[unittest.TestCase]:
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from each(test)
        else:
            yield test


def main(name: str, without: list[str]) -> int:
    substitute()
    support = importlib.import_module("test.support")
    support.use_resources = []  # no network
    module_name, _, kind = name.partition(".")
    module = importlib.import_module(f"test.{module_name}")
    if module_name == "test_httpservers":
        module.MiscTestCase.test_all = check_all
        assert module.SimpleHTTPRequestHandler is httpd.server.SimpleHTTPRequestHandler
    loader = unittest.defaultTestLoader
    tests = loader.loadTestsFromTestCase(getattr(module, kind)) if kind else loader.loadTestsFromModule(module)
    chosen = unittest.TestSuite(test for test in each(tests) if type(test).__name__ not in without)
    done = unittest.TextTestRunner(verbosity=2).run(chosen)
    if support.environment_altered:  # threads that were left, for one
        print("the suite has left something behind", file=sys.stderr)
        return 1
    return 0 if done.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[3:] if sys.argv[2:3] == ["-without"] else []))
