"""The part of a `wfile`'s face that is the same for all: what `io.BufferedIOBase` offers beside writing.

The classes register as one instead of being one: its finalizer would cost time with each request or connection.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Self


class WriteOnly:
    """A file that can only be written.  Subclasses give `write()`, `close()`, `flush()` and `fileno()`."""

    __slots__ = ()

    def write(self, data: Any, /) -> int:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def writelines(self, lines: Iterable[Any], /) -> None:
        self.write(b"".join(lines))

    def writable(self) -> bool:
        return True

    def readable(self) -> bool:
        return False

    def seekable(self) -> bool:
        return False

    def isatty(self) -> bool:
        return False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
