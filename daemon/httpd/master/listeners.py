"""Listening sockets: bound by the master, shared by all workers, kept over reloads.

Rules:

- Nothing is closed before everything new is bound.  A set that could not be bound whole leaves no trace.
- An address keeps its socket as long as it is configured: its queue survives every reload.
- IPv6 sockets are V6ONLY always, so what a socket takes does not depend on a sysctl.
- A path of a unix socket is taken over only if nobody answers on it, and removed only if it is still ours.
- A worker can stop a shared socket for everybody, by shutdown; the master can make it listen again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from httpd.config.schema import Address
from httpd.worker.checker import Endpoint

_ALL = ("0.0.0.0", "::")
_LISTEN = 10  # TCP_LISTEN, the state in tcp_info
BACKLOG = 4096  # the kernel cuts it to net.core.somaxconn


class BindError(Exception):
    """An address that can't be bound: for want of privileges (`permission`), or because it is taken (`in_use`)."""

    def __init__(self, address: str, error: OSError, own: str = "") -> None:
        """`own`: the address of this very server that may be in the way."""
        hint = f"; {own} of this server is in the way: use restart" if own and error.errno == errno.EADDRINUSE else ""
        # Without an errno (a path longer than a socket address) there is no strerror, only a text.
        super().__init__(f"cannot listen on {address}: {error.strerror or error}{hint}")
        self.errno = error.errno or 0
        self.in_use = error.errno == errno.EADDRINUSE
        self.permission = error.errno in (errno.EACCES, errno.EPERM)


@dataclass(slots=True, eq=False)
class Listener:
    """The sockets of one configured address: two for ":80" where there is IPv6, else one."""

    address: Address
    endpoints: tuple[Endpoint, ...]
    sockets: list[socket.socket] = field(default_factory=list)
    inode: tuple[int, int] | None = None  # of a unix socket's path

    def close(self) -> None:
        """Close the master's copies; remove a unix socket that is still ours."""
        for sock in self.sockets:
            sock.close()
        if self.inode is not None and not self.astray:
            with contextlib.suppress(OSError):
                Path(self.endpoints[0].path).unlink()

    def revive(self) -> list[str]:
        """Make those sockets listen again that were shut down; returns their names.  Raises OSError."""
        revived = []
        for sock in self.sockets:
            if sys.platform != "linux" or sock.family == socket.AF_UNIX:
                continue
            if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != _LISTEN:
                sock.listen(BACKLOG)
                revived.append(_name(sock))
        return revived

    def bind_anew(self) -> socket.socket:
        """A new socket at the path that was lost.  Raises OSError: a file of somebody else's may be there."""
        sock = _open(self.endpoints[0], 0)
        self.sockets[0].close()
        self.sockets[0] = sock  # in place: generations share the list
        self.note_inode()
        return sock

    def note_inode(self) -> None:
        """Remember which file the path is now."""
        status = os.lstat(self.endpoints[0].path)
        self.inode = (status.st_dev, status.st_ino)

    @property
    def astray(self) -> bool:
        """Whether nobody can connect any more because the path of a unix socket is gone, or is another's."""
        if self.inode is None:
            return False
        try:
            status = os.lstat(self.endpoints[0].path)
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != self.inode

    @property
    def queues(self) -> list[tuple[str, int, int]]:
        """Of each TCP socket: its name, how many connections wait to be accepted, and how many may."""
        found = []
        for sock in self.sockets:
            if sys.platform == "linux" and sock.family != socket.AF_UNIX:
                info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
                found.append((_name(sock), *struct.unpack_from("=II", info, 24)))
        return found

    @property
    def names(self) -> list[str]:
        """What the sockets are bound to, for people; with the real port where 0 was asked for."""
        return [_name(sock) for sock in self.sockets]


def _name(sock: socket.socket) -> str:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return f"unix:{name}"
    return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"


def bind_all(
    addresses: Sequence[Address],
    endpoints: Mapping[str, Sequence[Endpoint]],
    kept: Sequence[Listener],
    note: Callable[[str], None],
) -> list[Listener]:
    """Listeners for `addresses` in their order, taking from `kept` those that are there.

    `note` is told what is left out (no IPv6 in the kernel).  Raises BindError; nothing that was opened stays open then.
    """
    by_endpoints = {listener.endpoints: listener for listener in kept if not listener.astray}
    result: list[Listener] = []
    fresh: list[Listener] = []
    try:
        for address in addresses:
            wanted = tuple(endpoints[address.text])
            known = by_endpoints.get(wanted)
            if known is not None and all(endpoint.port or endpoint.path for endpoint in wanted):
                result.append(Listener(address, wanted, known.sockets, known.inode))
                continue
            if known is not None and known.address.text == address.text:  # port 0: the same line, the same port
                result.append(known)
                continue
            listener = Listener(address, wanted)
            fresh.append(listener)
            _bind(listener, note, kept)
            result.append(listener)
    except BindError:
        for listener in fresh:
            listener.close()
        raise
    return result


def _bind(listener: Listener, note: Callable[[str], None], kept: Sequence[Listener]) -> None:
    text, port = listener.address.text, 0
    for endpoint in listener.endpoints:
        try:
            sock = _open(endpoint, port)
        except OSError as error:
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL) and len(listener.endpoints) > 1:
                note(f"{text}: not on {endpoint.host or 'this address'}: {error.strerror}")
                continue
            raise BindError(text, error, _overlap(endpoint, kept)) from None
        listener.sockets.append(sock)
        if endpoint.path:
            listener.note_inode()
        elif not listener.address.port:
            port = sock.getsockname()[1]  # ":0": the same port for both families
    if not listener.sockets:
        raise BindError(text, OSError(errno.EADDRNOTAVAIL, os.strerror(errno.EADDRNOTAVAIL)))


def _overlap(endpoint: Endpoint, kept: Sequence[Listener]) -> str:
    """The name of a socket of ours that has the port of `endpoint` on its address, on all, or on one of its all."""
    for sock in (sock for listener in kept for sock in listener.sockets):
        if sock.family == endpoint.family and not endpoint.path:
            host, port, *_ = sock.getsockname()
            if port == endpoint.port and (endpoint.host in _ALL or host in (*_ALL, endpoint.host)):
                return _name(sock)
    return ""


def _open(endpoint: Endpoint, port: int) -> socket.socket:
    sock = socket.socket(endpoint.family, socket.SOCK_STREAM)
    bound = ""
    try:
        if endpoint.path:
            _clear_path(endpoint.path)
            sock.bind(endpoint.path)
            bound = endpoint.path
            os.chmod(endpoint.path, 0o666)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if endpoint.family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # inherited by what is accepted
            sock.bind((endpoint.host, endpoint.port or port))
        sock.listen(BACKLOG)
        sock.setblocking(False)
    except BaseException:
        sock.close()
        if bound:
            Path(bound).unlink()
        raise
    return sock


def _clear_path(path: str) -> None:
    """Remove the socket that a dead server left behind."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            raise OSError(errno.EEXIST, f"{path} exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except (ConnectionRefusedError, FileNotFoundError):
            with contextlib.suppress(FileNotFoundError):
                Path(path).unlink()
            return
        except BlockingIOError:
            pass
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def dropped(old: Sequence[Listener], new: Sequence[Listener]) -> list[Listener]:
    """Those of `old` whose sockets are not in `new`."""
    kept = {id(sock) for listener in new for sock in listener.sockets}
    return [listener for listener in old if not any(id(sock) in kept for sock in listener.sockets)]
