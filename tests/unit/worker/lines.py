"""What an access log was given, for the tests of whatever writes to one."""

from __future__ import annotations

from httpd.worker.context import Context


def logged(context: Context, written: bytes | bytearray) -> list[str]:
    """The lines so far; `written` is what `context`'s logs write to."""
    for log in context.dirty:
        log.hand_on()
    context.dirty.clear()
    return written.decode("latin-1").splitlines()
