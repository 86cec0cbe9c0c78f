"""Path resolution by hand, one component at a time: what decides where openat2 can't, or is missing.

The walk keeps a chain of descriptors from its start to where it is.  Every component is one name looked up
below a descriptor that is held, so renaming folders meanwhile can't lead it astray; ".." goes back along
the chain, never to what the file system calls the parent by now.

Rules:

- Containment is about where a file *is*: the chain behind a resolved path is its real path, and the root
  folder (device and inode) must be in it.  A link may leave the root on its way, as absolute links into the
  root do.
- What went wrong outside of the root is "not found": an answer must not tell what exists there.
- "owner": the end of every link must belong to the link's owner (as Apache's SymLinksIfOwnerMatch).
- Nothing is opened for reading before it is known to be a regular file that the rules let through.
- At most 40 links, like the kernel.

There are two ways to take a step.  With O_PATH a link is read, and its owner looked at, through one
descriptor. The portable way looks twice and refuses what changed in between.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass

LINKS = 40  # MAXSYMLINKS of Linux

_PATH = getattr(os, "O_PATH", 0)
READ_FILE = os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC
READ_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
HOLD_FOLDER = _PATH | READ_FOLDER  # needs no permission to list it where O_PATH exists


@dataclass(frozen=True, slots=True)
class Rules:
    """What a walk may do: how many links to follow, whether it must end inside, whether owners must match."""

    links: int = LINKS
    contained: bool = False
    same_owner: bool = False


@dataclass(slots=True)
class Node:
    """A link of the chain, or the object at its end.  `fd` is -1 for what must not be opened yet."""

    fd: int
    stat: os.stat_result
    name: bytes = b""
    target: bytes | None = None  # the text of a symbolic link


Step = Callable[[int, bytes], Node]


def walk(root: int, relative: bytes, rules: Rules, step: Step) -> tuple[int, os.stat_result]:
    """Resolve `relative` from the folder `root`; return a descriptor and the stat of what is there.

    A folder is held as `HOLD_FOLDER` says.  A regular file is open for reading if `step` is `plain_step`,
    and an O_PATH descriptor if it is `path_step`.  Raises OSError, ENOENT also for special files and what
    `rules` forbid.
    """
    chain = _Chain(root)
    try:
        chain.follow(relative, rules, step)
        if rules.contained and not chain.inside():
            raise _missing(relative)
        return chain.end()
    except OSError as error:
        if rules.contained and error.errno == errno.EACCES and not chain.inside():
            raise _missing(relative) from None
        raise
    finally:
        chain.drop()


class _Chain:
    __slots__ = ("nodes", "root")

    def __init__(self, root: int) -> None:
        fd = os.dup(root)
        self.root = os.fstat(fd)
        self.nodes = [Node(fd, self.root)]

    def inside(self) -> bool:
        return any(os.path.samestat(node.stat, self.root) for node in self.nodes)

    def follow(self, relative: bytes, rules: Rules, step: Step) -> None:
        """Go along `relative` and every link met; `pending` holds names, and owners due where a link ends."""
        pending: list[bytes | int] = list(reversed(relative.split(b"/")))
        links = 0
        while pending:
            name = pending.pop()
            here = self.nodes[-1]
            if isinstance(name, int):
                if here.stat.st_uid != name:
                    raise _missing(relative)
            elif not stat.S_ISDIR(here.stat.st_mode):
                raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), relative)
            elif name == b"..":
                self._up()
            elif name not in (b"", b"."):
                node = step(here.fd, name)
                if node.target is None:
                    self.nodes.append(node)
                    continue
                links += 1
                if links > rules.links:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), relative)
                if rules.same_owner:
                    pending.append(node.stat.st_uid)
                pending.extend(reversed(node.target.split(b"/")))
                if node.target.startswith(b"/"):
                    self._restart(os.open(b"/", HOLD_FOLDER))

    def _up(self) -> None:
        if len(self.nodes) > 1:
            _close(self.nodes.pop())
        else:
            self._restart(os.open(b"..", HOLD_FOLDER, dir_fd=self.nodes[0].fd))

    def _restart(self, fd: int) -> None:
        self.drop()
        self.nodes.append(_held(fd))

    def end(self) -> tuple[int, os.stat_result]:
        """Give away the descriptor of the last node, opened now if it was not before."""
        node = self.nodes[-1]
        if not (stat.S_ISDIR(node.stat.st_mode) or stat.S_ISREG(node.stat.st_mode)):
            raise _missing(node.name)
        if node.fd < 0:
            fd = os.open(node.name, READ_FILE | os.O_NOFOLLOW, dir_fd=self.nodes[-2].fd)
            return _same(fd, node.stat), node.stat
        self.nodes.pop()
        return node.fd, node.stat

    def drop(self) -> None:
        while self.nodes:
            _close(self.nodes.pop())


def path_step(folder: int, name: bytes) -> Node:
    """Look at `name` in `folder` through an O_PATH descriptor (Linux)."""
    node = _held(os.open(name, _PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder), name)
    if stat.S_ISLNK(node.stat.st_mode):
        try:
            node.target = os.readlink(b"", dir_fd=node.fd)
        finally:
            os.close(node.fd)
    return node


def plain_step(folder: int, name: bytes) -> Node:
    """Look at `name` in `folder` by POSIX means; only folders are opened."""
    node = Node(-1, os.stat(name, dir_fd=folder, follow_symlinks=False), name)
    if stat.S_ISDIR(node.stat.st_mode):
        node.fd = _same(os.open(name, HOLD_FOLDER | os.O_NOFOLLOW, dir_fd=folder), node.stat)
    elif stat.S_ISLNK(node.stat.st_mode):
        node.target = os.readlink(name, dir_fd=folder)
        if not os.path.samestat(node.stat, os.stat(name, dir_fd=folder, follow_symlinks=False)):
            raise _missing(name)
    return node


def _held(fd: int, name: bytes = b"") -> Node:
    try:
        return Node(fd, os.fstat(fd), name)
    except BaseException:
        os.close(fd)
        raise


def _same(fd: int, before: os.stat_result) -> int:
    """`fd`, if it is what `before` showed under that name."""
    node = _held(fd)
    if not os.path.samestat(node.stat, before):
        os.close(fd)
        raise _missing(node.name)
    return fd


def _close(node: Node) -> None:
    if node.fd >= 0:
        os.close(node.fd)


def _missing(name: bytes) -> OSError:
    return OSError(errno.ENOENT, os.strerror(errno.ENOENT), name)
