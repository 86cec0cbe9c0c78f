"""Readiness of file descriptors, level triggered: epoll on Linux, the best of `selectors` elsewhere.

On Linux the poller *is* `select.epoll`: the worker's loop calls it for every round, so nothing stands between
the two. The rules below hold for both kinds:

- Unregister a descriptor before it is closed.  epoll forgets a closed one by itself, the portable poller does
  not.
- HUP and ERR need not be asked for.  The portable poller has no word for them: a hang-up shows as IN or OUT,
  whichever was asked for, and the next recv or send tells the reason.  With mask 0 it reports nothing.
- EDGE (report every change, not the state) is for epoll only.
- EXCLUSIVE (one waiting process is woken for a new connection, not all) can be registered but not modified:
  epoll answers EINVAL.  Unregister and register again.
"""

from __future__ import annotations

import errno
import os
import select
import selectors
import sys
from typing import Protocol

if sys.platform == "linux":
    IN: int = select.EPOLLIN
    OUT: int = select.EPOLLOUT
    HUP: int = select.EPOLLHUP
    ERR: int = select.EPOLLERR
    EXCLUSIVE: int = getattr(select, "EPOLLEXCLUSIVE", 0)
    EDGE: int = select.EPOLLET
else:
    IN, OUT, ERR, HUP, EXCLUSIVE, EDGE = 1, 4, 8, 16, 0, 0
END = HUP if sys.platform == "linux" else IN  # that nobody writes any more; elsewhere that is not told without what was


class Poller(Protocol):
    """What the loops need.

    FileExistsError for a second register, FileNotFoundError for a descriptor that is not registered.
    """


    def register(self, fd: int, mask: int, /) -> None: ...
    def modify(self, fd: int, mask: int, /) -> None: ...
    def unregister(self, fd: int, /) -> None: ...
    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        """(fd, mask) of what is ready, waiting at most `timeout` seconds; -1 waits for ever."""
    def close(self) -> None: ...


class PortablePoller:
    """`Poller` over `selectors.DefaultSelector` (kqueue on macOS)."""

    __slots__ = ("_masks", "_selector")

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._masks: dict[int, int] = {}

    def register(self, fd: int, mask: int, /) -> None:
        if fd in self._masks:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        events = _events(mask)
        # A selector has no "registered, but nothing asked for"; such a descriptor is only remembered.
        if events:
            self._selector.register(fd, events)
        self._masks[fd] = mask

    def modify(self, fd: int, mask: int, /) -> None:
        before, events = _events(self._mask(fd)), _events(mask)
        if before and events:
            self._selector.modify(fd, events)
        elif events:
            self._selector.register(fd, events)
        elif before:
            self._selector.unregister(fd)
        self._masks[fd] = mask

    def unregister(self, fd: int, /) -> None:
        if _events(self._mask(fd)):
            self._selector.unregister(fd)
        del self._masks[fd]

    def poll(self, timeout: float, /) -> list[tuple[int, int]]:
        ready = self._selector.select(None if timeout < 0 else timeout)
        return [(key.fd, _mask(events)) for key, events in ready]

    def close(self) -> None:
        self._selector.close()
        self._masks.clear()

    def _mask(self, fd: int) -> int:
        if fd not in self._masks:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return self._masks[fd]


def make_poller(portable: bool = False) -> Poller:
    """A new poller, closed on exec.  `portable` asks for the kind of other systems on Linux too."""
    if sys.platform == "linux" and not portable:
        return select.epoll(flags=select.EPOLL_CLOEXEC)
    return PortablePoller()


def _events(mask: int) -> int:
    return (selectors.EVENT_READ if mask & IN else 0) | (selectors.EVENT_WRITE if mask & OUT else 0)


def _mask(events: int) -> int:
    return (IN if events & selectors.EVENT_READ else 0) | (OUT if events & selectors.EVENT_WRITE else 0)
