"""ruff and mypy run with the tests, so that what a test run accepts is what can be committed.

Both are found beside the interpreter that runs the tests: `make test` installs them there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parents[2]


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(("ruff", "check", "--no-cache", "."), id="ruff"),
        pytest.param(("mypy", "--strict"), id="mypy"),
    ],
)
def test_clean(command: tuple[str, ...], tmp_path: Path) -> None:
    if command[0] == "mypy":  # several users and Pythons may test one tree
        command += ("--cache-dir", str(tmp_path))
    done = subprocess.run([sys.executable, "-m", *command], cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
