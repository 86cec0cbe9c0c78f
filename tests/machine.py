"""What this machine can do, for tests that need it."""

from __future__ import annotations

import socket

import pytest


def has_ipv6() -> bool:
    """Whether there is a loopback address of IPv6: a kernel that knows it may have none, as in many containers."""
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
