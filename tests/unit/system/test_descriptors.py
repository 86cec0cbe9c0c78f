"""What is lent to a program of another user."""

from __future__ import annotations

import contextlib
import os
import tempfile

import pytest

from httpd.system.descriptors import lend
from machine import as_user


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("lent", [False, True])
def test_another_user_opens_them_anew(lent: bool) -> None:
    ends = os.pipe()
    with tempfile.TemporaryFile() as file, open(ends[0], "rb") as reader, open(ends[1], "wb") as writer:
        file.write(b"from the file")
        file.flush()
        names = [f"/dev/fd/{lend(end.fileno()) if lent else end.fileno()}" for end in (writer, file)]

        def use() -> list[bytes]:
            found = []
            with contextlib.suppress(PermissionError), open(names[0], "wb") as pipe:
                pipe.write(b"to the pipe")
                found.append(b"written")
            with contextlib.suppress(PermissionError), open(names[1], "rb") as there:
                found.append(there.read())
            return found

        assert as_user(use) == ([b"written", b"from the file"] if lent else [])
        writer.close()
        assert reader.read() == (b"to the pipe" if lent else b"")
