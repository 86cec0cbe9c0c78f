"""Listeners that stopped being reachable while they were served: shut down by a worker, or without their path.

Rules: what a worker says is looked at, not believed; what can't be mended is said once, and again after a while.
"""

from __future__ import annotations

from collections.abc import Sequence

from httpd.logs.errors import ErrorLog
from httpd.master.children import IN_OFFICE
from httpd.master.generations import Generation
from httpd.master.listeners import Listener
from httpd.system import pairs

_AGAIN = 600.0  # seconds


def revive(listeners: Sequence[Listener], errors: ErrorLog) -> None:
    """Have those listen again that were shut down: shutdown on a shared socket stops it for everybody."""
    for listener in listeners:
        try:
            for name in listener.revive():
                errors.error("a worker had shut down a listener: it listens again", listener=name)
        except OSError as error:
            errors.limited(f"revive {listener.address.text}", _AGAIN).error(
                "a listener was shut down and can't be revived", listener=listener.address.text, reason=error.strerror
            )


def restore_paths(generations: Sequence[Generation], active: Generation, errors: ErrorLog) -> None:
    """Make unix sockets of the active generation anew whose paths are gone, and tell the workers."""
    for lost in active.listeners:
        if not lost.astray:
            continue
        text, shared = lost.address.text, lost.sockets
        try:
            sock = lost.bind_anew()
        except OSError as error:
            errors.limited(f"restore {text}", _AGAIN).error(
                "nobody can connect: the path of a unix socket is gone", listener=text, reason=error.strerror or error
            )
            continue
        errors.warning("the path of a unix socket was gone: made again", listener=text)
        for generation in generations:
            for listener in generation.listeners:
                if listener.sockets is shared:
                    listener.note_inode()
                    _tell_workers(generation, listener, sock.fileno())


def _tell_workers(generation: Generation, listener: Listener, fd: int) -> None:
    for child in generation.children:
        if child.state in IN_OFFICE:
            pairs.send(child.channel, {"do": "listen", "address": listener.address.text}, [fd])
