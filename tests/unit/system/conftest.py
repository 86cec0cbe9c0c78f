"""Shared by the tests of system/: code that changes its process runs in one of its own."""

from __future__ import annotations

import json
import os
import traceback
from collections.abc import Callable
from typing import Any

import pytest

InChild = Callable[[Callable[[], Any]], Any]


@pytest.fixture
def in_child() -> InChild:
    """Run a function in a forked child and return its result, as JSON; its exceptions fail the test."""

    def run(function: Callable[[], Any]) -> Any:
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                data = json.dumps({"result": function()})
                code = 0
            except BaseException:
                data = json.dumps({"error": traceback.format_exc()})
            finally:
                os.write(writer, data.encode())
                os._exit(code)
        os.close(writer)
        with open(reader, "rb") as pipe:
            answer = pipe.read()
        _, status = os.waitpid(pid, 0)
        assert answer, f"the child ended with status {status} and no word"
        decoded = json.loads(answer)
        if "error" in decoded:
            pytest.fail(f"in the child:\n{decoded['error']}")
        return decoded["result"]

    return run


@pytest.fixture
def root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root: changes the user of a child")


@pytest.fixture
def linux() -> None:
    if not os.path.exists("/proc/self/status"):
        pytest.skip("needs Linux with /proc")
