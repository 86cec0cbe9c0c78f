from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from httpd.system.title import set_title


@pytest.mark.usefixtures("linux")
def test_the_title_is_shown(in_child: Callable[[Callable[[], Any]], Any]) -> None:
    def shown() -> str:
        set_title("httpd: worker 3, generation 2")
        return Path("/proc/self/cmdline").read_text().rstrip("\0 ")

    assert in_child(shown) == "httpd: worker 3, generation 2"
