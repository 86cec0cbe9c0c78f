"""CPython's own suites for http.server and what is built on it, from the copy of the interpreter that runs the tests.

One process for each: they change the folder they are in, and the modules that they test must not have been imported.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]
DRIVER = Path(__file__).with_name("cpython_suite.py")

# The suite, how many of its tests have to pass at least, and what is left out.
SUITES = [
    pytest.param("test_httpservers", 60, [], id="httpservers"),
    pytest.param("test_wsgiref", 30, [], id="wsgiref"),
    pytest.param("test_xmlrpc", 60, [], id="xmlrpc"),
    pytest.param("test_docxmlrpc", 9, [], id="docxmlrpc"),
    pytest.param("test_urllib2_localnet", 15, [], id="urllib2_localnet"),
    pytest.param("test_robotparser", 40, [], id="robotparser"),
    pytest.param("test_logging.HTTPHandlerTest", 1, [], id="logging"),
]


def in_interpreter(suite: str) -> bool:
    try:
        return importlib.util.find_spec("test." + suite.partition(".")[0]) is not None
    except ModuleNotFoundError:
        return False


@pytest.mark.parametrize(("suite", "least", "without"), SUITES)
def test_suite(suite: str, least: int, without: list[str], tmp_path: Path) -> None:
    if not in_interpreter(suite):
        pytest.skip("this Python was installed without its tests")
    command = [sys.executable, str(DRIVER), suite, "-without", *without]
    environment = {**os.environ, "PYTHONPATH": str(HERE / "daemon"), "TMPDIR": str(tmp_path)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, errors="replace", timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    ran = re.search(r"^Ran (\d+) tests? in", done.stderr, re.MULTILINE)
    skipped = re.search(r"^OK \(skipped=(\d+)\)", done.stderr, re.MULTILINE)
    assert ran is not None, done.stderr
    assert int(ran[1]) - (int(skipped[1]) if skipped else 0) >= least, done.stderr
