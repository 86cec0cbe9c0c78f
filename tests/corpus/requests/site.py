"""The site that the cases ask: files of known content and time, mounts of every kind, two hosts."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

MODIFIED = 784111777  # Sun, 06 Nov 1994 08:49:37 GMT, the date that the RFC has in its examples
FUTURE = 4102444800  # Fri, 01 Jan 2100 00:00:00 GMT

# Paths as the host without a name sees them: content.
FILES: dict[str, bytes] = {
    "/index.html": b"<!DOCTYPE html><title>root</title>\n",
    "/small.txt": b"0123456789",
    "/next.txt": b"the next\n",
    "/empty.txt": b"",
    "/large.bin": bytes(range(256)) * 800,
    "/future.txt": b"from the future\n",
    "/unknown.qqq": b"\0\1\2",
    "/no-extension": b"plain\n",
    "/folder/index.html": b"<!DOCTYPE html><title>folder</title>\n",
    "/bare/file.txt": b"in bare\n",
    "/list/a.txt": b"a\n",
    "/headed/a.txt": b"0123456789",
    "/with space.txt": b"with space\n",
    "/per%41cent.txt": b"a percent sign\n",
    "/back\\slash.txt": b"a backslash\n",
    "/semi;colon.txt": b"a semicolon\n",
    "/question?mark.txt": b"a question mark\n",
    "/plus+plus.txt": b"plus\n",
    "/\udcff\udcfe.txt": b"no UTF-8\n",
    "/%2e%2e/odd.txt": b"a folder called %2e%2e\n",
    "/.secret": b"hidden\n",
    "/.git/config": b"hidden\n",
    "/.well-known/security.txt": b"known\n",
    "/a-very-long-name" + "-" * 200: b"long\n",
}
OTHER = {"/small.txt": b"other host"}
OUTSIDE = {"/outside.txt": b"nobody may see this\n"}

# Time-outs are for other tests; here a loaded machine may take its time with 33,000 single bytes.
LIMITS = """
[limits]
body = 100000
[timeouts]
head = "60s"
body = "60s"
keepalive = "60s"
"""

SITES = """
[[vhost]]
root = "www"
[[vhost.directory]]
path = "/list/"
root = "www/list"
listing = true
[[vhost.directory]]
path = "/headed/"
root = "www/headed"
headers = { "Cache-Control" = "max-age=60", "Expires" = "Fri, 01 Jan 2100 00:00:00 GMT", "Vary" = "Accept-Language", \
"Content-Location" = "/headed/a.en.txt", "Content-Language" = "en", "X-Own" = "1" }
[[vhost.directory]]
path = "/getonly/"
root = "www/list"
methods = ["GET"]
[[vhost.redirect]]
from = "/old/"
to = "/new/"
[[vhost.redirect]]
from = "/moved"
to = "/small.txt"
status = 301
[[vhost.redirect]]
from = "/elsewhere/"
to = "https://elsewhere.example/base/"
status = 302
methods = ["GET", "HEAD"]

[[vhost]]
names = ["other.example", "*.wild.example"]
root = "other"
"""


def build(folder: Path, write: Callable[[str, bytes], Path] | None = None) -> None:
    """Make the tree in `folder`.  `write` makes a file that the server's user can read, if the umask does not."""
    for top, files in (("www", FILES), ("other", OTHER), ("", OUTSIDE)):
        for path, content in files.items():
            made = (write or _writer(folder))(f"{top}{path}".lstrip("/"), content)
            stamp = FUTURE if path == "/future.txt" else MODIFIED
            os.utime(made, (stamp, stamp))
    os.mkfifo(folder / "www" / "fifo")
    (folder / "www" / "link-out.txt").symlink_to("../outside.txt")
    (folder / "www" / "link-in.txt").symlink_to("small.txt")
    (folder / "www" / "link-loop").symlink_to("link-loop")


def _writer(folder: Path) -> Callable[[str, bytes], Path]:
    def write(name: str, content: bytes) -> Path:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    return write


def etag(path: str) -> str:
    """The entity tag of a file: its time in nanoseconds and its size, both in hexadecimal digits."""
    stamp = FUTURE if path == "/future.txt" else MODIFIED
    return f'"{stamp * 10**9:x}-{len(FILES[path]):x}"'
