"""What this machine can do, for tests that need it."""

from __future__ import annotations

import os
import pickle
import socket
from collections.abc import Callable
from typing import Any

import pytest

ORDINARY = 65534  # the user, and the group, that `as_user` runs as when this is root


def descriptors() -> int:
    """How many are open in this process."""
    return len(os.listdir("/dev/fd"))


def has_ipv6() -> bool:
    """Whether there is a loopback address of IPv6: a kernel that knows it may have none, as in many containers."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def as_user(function: Callable[[], Any]) -> Any:
    """What `function` gives as an ordinary user: in a child when this is root, else here."""
    if os.geteuid() != 0:
        return function()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(ORDINARY)
            os.setuid(ORDINARY)
            os.write(writing, pickle.dumps(function()))
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    assert content, "the child failed"
    return pickle.loads(content)
