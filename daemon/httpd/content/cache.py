"""The small-file cache of a worker: what it takes to answer for a file again without opening it.

Rules:

- Never stale: an entry is used only when `os.stat` of the same path shows the same file: device, inode, size, ctime
  (neither content nor mtime can change without it).  The look is taken when the whole request has been read: for this
  one, or for another one of the same round of the loop, in which all plain requests are read before the first is
  answered.  A file that changed less than `SETTLED` ago is not kept, because a second write within one clock tick of
  the kernel would not show.
- Never a way out of the root: the path was resolved inside the root when the entry was made; `os.stat` proves that it
  is still the same inode; and after `TRUSTED` seconds the resolution is done again.
- Bounded: bodies, heads and keys count against `limits.file_cache`; past it entries go by the clock algorithm, so that
  one sweep over a large tree does not throw out what is asked for all the time.
- Keyed by the path as sent, never by the request's bytes: every request is still parsed, checked and logged.
"""

from __future__ import annotations

import os
from collections import deque

from httpd.config import schema
from httpd.content.files import Root
from httpd.logs.access_log import AccessLog
from httpd.protocol.messages import Validators
from httpd.protocol.narrow import unchanged_fields
from httpd.protocol.writer import field_lines, rest_of_head

SETTLED = 2.0  # seconds since the last change of a file
TRUSTED = 10.0  # seconds
SMALL = 128 * 1024  # bytes; larger files are opened for each request and sent by sendfile
_OVERHEAD = 900  # bytes an entry costs beside what it holds, measured with tracemalloc
_DEFAULTS = schema.Settings()


class Entry:
    """One file as an answer.

    `tail` is the rest of the 200's head (behind the preamble) and, for small files, the body; `head` is the length of
    its head part.  `body` is the size of the file.  `owner` is the site's table that holds the entry under `key`.
    `methods` are those it may answer; `settings` and `log` are the mount's.  `plain` says that it may answer a plain
    request (`protocol.plain`) by itself; `figures` is what its log is told of the 200.  `path` was
    found as `relative` inside `root`.
    """

    __slots__ = (
        "_ctime", "_device", "_inode", "_partial", "_unchanged", "body", "checked", "fields", "figures", "head", "key",
        "log", "methods", "owner", "path", "plain", "relative", "root", "round", "settings", "small", "tail", "used",
        "validators",
    )  # fmt: skip

    def __init__(self, path: bytes, stat: os.stat_result, checked: float) -> None:
        self.path = path
        self.checked = checked
        self._device, self._inode = stat.st_dev, stat.st_ino
        self._ctime = stat.st_ctime_ns
        self.body = stat.st_size
        self.used = False
        self.round = -1  # of the loop, in which the file was last looked at
        self.key = b""
        self.owner: dict[bytes, Entry] = {}
        self.methods: tuple[bytes, ...] = ()
        self.settings = _DEFAULTS
        self.log: AccessLog | None = None
        self.tail = b""
        self.head = 0
        self.small = self.plain = False
        self.figures = b""
        self.fields: list[tuple[bytes, bytes]] = []
        self.validators = Validators()
        self.root: Root | None = None
        self.relative = b""
        self._unchanged: tuple[bytes, bytes] | None = None
        self._partial: tuple[bytes, bytes] | None = None  # templates for a 206, once one was wanted

    def fresh(self, now: float, turn: int = -1) -> bool:
        """Whether the file is still the one this entry was made from.

        `now` is monotonic seconds; `turn` is the loop's round, to be remembered with the answer, for a look
        that comes when all requests of the round have been read.
        """
        try:
            stat = os.stat(self.path)
        except OSError:
            return False
        if not self.same(stat):
            return False
        if now - self.checked >= TRUSTED:
            if self.root is None or not self.root.leads_to(self.relative, self.same):
                return False
            self.checked = now
        self.round = turn
        return True

    def same(self, stat: os.stat_result) -> bool:
        """Whether `stat` shows the file that this entry was made from."""
        return (
            stat.st_ctime_ns == self._ctime
            and stat.st_ino == self._inode
            and stat.st_size == self.body
            and stat.st_dev == self._device
        )

    def open(self) -> int:
        """Open the file again for reading; -1 when it is not the same any more.  Call only after `fresh`."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
        except OSError:
            return -1
        if self.same(os.fstat(fd)):
            return fd
        os.close(fd)
        return -1

    def figures_for(self, status: int, size: int | None) -> bytes:
        """What the log wants to know of a plain request."""
        return b"" if self.log is None else self.log.figures(status, size)

    @property
    def unchanged(self) -> tuple[bytes, bytes]:
        """The rest of a 304's head, and what the log is told; made when it is first wanted."""
        if self._unchanged is None:
            self._unchanged = rest_of_head(304, unchanged_fields(self.fields), 0), self.figures_for(304, 0)
        return self._unchanged

    def narrowed(
        self, tag: bytes | None, since: bytes | None, span: bytes | None
    ) -> tuple[int, bytes, int, int, bytes] | None:
        """The answer to If-None-Match, If-Modified-Since and a range "first-last", where there is no doubt about it.

        A 304 or a 206, the rest of its head, the first byte and the size of its body, and what the log is told.  None:
        think about it (RFC 9110 13, 14).  What is beyond doubt is the very tag or date that the 200 came with, or one
        range.
        """
        if span is None:
            # With a tag the date does not count (RFC 9110 13.1.3).
            known = (b"Last-Modified", since) in self.fields if tag is None else tag == self.validators.etag
            if not known:
                return None
            rest, figures = self.unchanged
            return 304, rest, 0, 0, figures
        first, _, last = span.partition(b"-")
        begin, end = int(first), min(int(last) + 1, self.body) if last else self.body
        if begin >= end or tag is not None or since is not None:
            return None
        if self._partial is None:
            lines = field_lines([*self.fields, (b"Content-Range", b"")]).removesuffix(b"\r\n").replace(b"%", b"%%")
            lines += b"bytes %%d-%%d/%d\r\nContent-Length: %%d\r\n\r\n" % self.body
            self._partial = lines, self.figures_for(206, None)
        lines, figures = self._partial
        size = end - begin
        return 206, lines % (begin, end - 1, size), begin, size, figures and figures % size

    @property
    def cost(self) -> int:
        """Bytes it takes; the same as long as it is in the cache."""
        return len(self.tail) + 2 * len(self.key) + len(self.path) + _OVERHEAD


class FileCache:
    """The budget that the entries of all sites of one worker share."""

    __slots__ = ("_clock", "_left", "_size")

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._clock: deque[Entry] = deque()

    def add(self, owner: dict[bytes, Entry], key: bytes, entry: Entry) -> None:
        """Keep `entry` in `owner` under `key`, in place of an older one."""
        entry.owner, entry.key = owner, key
        cost = entry.cost
        if cost * 8 > self._size:
            return
        owner[key] = entry
        self._clock.append(entry)
        self._left -= cost
        while self._left < 0:
            self._turn()

    def _turn(self) -> None:
        entry = self._clock.popleft()
        if entry.owner.get(entry.key) is not entry:  # replaced or dropped meanwhile
            self._left += entry.cost
        elif entry.used:
            entry.used = False
            self._clock.append(entry)
        else:
            del entry.owner[entry.key]
            self._left += entry.cost


def settled(stat: os.stat_result, wall: float) -> bool:
    """Whether the file's last change lies far enough back for its times to tell the next one."""
    return wall - max(stat.st_mtime, stat.st_ctime) > SETTLED
