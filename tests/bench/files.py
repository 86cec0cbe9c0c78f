"""The files that every server serves: one folder for all, made anew for each run.

Their times are old: nobody has a reason to doubt them, and a client may use their dates as strong validators.
"""

from __future__ import annotations

import os
from pathlib import Path

SMALL = tuple(f"f{number}.html" for number in range(16))  # 1 KiB each, for heads that differ
MANY = tuple(f"many/{number % 100:02}/{number:05}.html" for number in range(10_000))  # 4 KiB each
_SIZES = {"1k.html": 1 << 10, "100k.bin": 100 << 10, "10m.bin": 10 << 20}
_TIME = 1_700_000_000


def make_site(folder: Path) -> Path:
    """Write the files below `folder`; returns the document root."""
    site = folder / "site"
    for file in (*_SIZES, *SMALL, *MANY):
        size = _SIZES.get(file) or (1 << 10 if file in SMALL else 4 << 10)
        path = site / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(_content(file, size))
        os.utime(path, (_TIME, _TIME))
    return site


def _content(name: str, size: int) -> bytes:
    """Bytes that differ from file to file, so that a mix-up shows."""
    line = f"{name:<63}\n".encode()
    return line * (size // len(line))
