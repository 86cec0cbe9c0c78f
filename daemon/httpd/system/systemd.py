"""The notify protocol of systemd (sd_notify(3)): what the master tells the service manager.

The rules:

- The variables leave the environment when they are read: a worker or a script that inherits NOTIFY_SOCKET
  could speak for the service.  Call `close` in children that outlive the fork.
- Nothing here blocks or raises: a manager that is gone or slow must not stop the server.
- A reload ends with `ready`, also when it was refused; without it the unit stays in the state "reloading" for
  ever.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """Sends state changes to the manager; without a manager it does nothing.

    Every method answers True if the message was handed over, False if not (no manager, its socket gone or
    full). `watchdog_us` is the time in microseconds within which the manager wants `watchdog`, or 0 for
    never.
    """

    __slots__ = ("_address", "_socket", "watchdog_us")

    def __init__(self, address: str = "", watchdog_us: int = 0) -> None:
        """`address`: the path of a datagram socket, or "@" and an abstract name, or "" for no manager."""
        self._socket: socket.socket | None = None
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self.watchdog_us = watchdog_us
        # Other kinds (vsock:CID:PORT) are for virtual machines, not for a service in one.
        if address.startswith(("/", "@")):
            with contextlib.suppress(OSError):
                self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                self._socket.setblocking(False)

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> Notifier:
        """Take the manager's variables out of `environ`.  A watchdog meant for another process is dropped."""
        address, usec, pid = (environ.pop(name, "") for name in VARIABLES)
        ours = not pid or pid == str(os.getpid())
        watchdog_us = int(usec) if ours and usec.isascii() and usec.isdecimal() and len(usec) <= 20 else 0
        return cls(address, watchdog_us)

    @property
    def connected(self) -> bool:
        """Whether there is a manager to talk to."""
        return self._socket is not None

    def ready(self, status: str) -> bool:
        """The start, or a reload, is over and workers answer."""
        return self._send("READY=1", _status(status))

    def reloading(self, status: str, monotonic_us: int) -> bool:
        """A reload begins.  `monotonic_us`: CLOCK_MONOTONIC now, which Type=notify-reload insists on."""
        return self._send("RELOADING=1", f"MONOTONIC_USEC={monotonic_us}", _status(status))

    def stopping(self, status: str) -> bool:
        return self._send("STOPPING=1", _status(status))

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send(_status(text))

    def extend_timeout(self, microseconds: int) -> bool:
        """Ask for so much time from now on for the start, reload or stop that is going on."""
        return self._send(f"EXTEND_TIMEOUT_USEC={microseconds}")

    def mainpid(self, pid: int) -> bool:
        return self._send(f"MAINPID={pid}")

    def watchdog(self) -> bool:
        """The main loop is alive."""
        return self._send("WATCHDOG=1")

    def close(self) -> None:
        """Give up the socket; from now on nothing is sent."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, *assignments: str) -> bool:
        """All assignments in one datagram: the manager looks at each datagram alone."""
        if self._socket is None:
            return False
        data = "\n".join(assignments).encode("utf-8", "replace")
        try:
            # The address is looked up each time, so a manager that binds a new socket is found again.
            self._socket.sendto(data, self._address)
        except (OSError, ValueError):  # ValueError: an address that is no file name
            return False
        return True


def _status(text: str) -> str:
    """A line break in the text would start an assignment of its own."""
    return "STATUS=" + " ".join(text.splitlines())
