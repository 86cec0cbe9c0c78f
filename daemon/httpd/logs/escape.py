"""How bytes of a client are written into a log.

Rules: only 0x20-0x7e reaches a log as it is, and never a bare `"` or backslash.  So no request can start a
new line, close a quoted field, or send an escape sequence to the terminal of whoever reads the log (log
injection, CWE-117).
"""

from __future__ import annotations

import json
import re

# For `bytes.translate(None, SAFE)`: what is left of a line is what somebody has to look at.
SAFE = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')

_UNSAFE = re.compile(rb"[^\x20\x21\x23-\x5b\x5d-\x7e]")
_UNSAFE_TOKEN = re.compile(rb"[^\x21\x23-\x5b\x5d-\x7e]")
_UNPRINTABLE = re.compile(rb"[^\x20-\x7e]")


def _table(unsafe: re.Pattern[bytes]) -> list[bytes]:
    """How each byte is written."""
    return [b"\\x%02x" % byte if unsafe.match(bytes((byte,))) else bytes((byte,)) for byte in range(256)]


_TABLE, _TABLE_TOKEN, _TABLE_TEXT = _table(_UNSAFE), _table(_UNSAFE_TOKEN), _table(_UNPRINTABLE)


def _written(data: bytes, unsafe: re.Pattern[bytes], table: list[bytes]) -> bytes:
    # A head full of quotes may be long, so not a call for each of them.
    return b"".join([table[byte] for byte in data]) if unsafe.search(data) else data


def escape(data: bytes) -> bytes:
    r"""`data` with every byte outside 0x20-0x7e, and `"` and backslash, written as `\xHH`."""
    return _written(data, _UNSAFE, _TABLE)


def escape_token(data: bytes) -> bytes:
    """As `escape`, and the space too: for fields that stand in a line without quotes, such as the user."""
    return _written(data, _UNSAFE_TOKEN, _TABLE_TOKEN)


def escape_text(data: bytes) -> bytes:
    """Escape unprintable bytes only: for text that is not inside quotes and was written by this program."""
    return _written(data, _UNPRINTABLE, _TABLE_TEXT)


def escape_json(data: bytes) -> bytes:
    r"""The inside of a JSON string (RFC 8259 section 7) in ASCII.

    The bytes are read as UTF-8.  A byte that is not part of valid UTF-8 becomes the four characters `\xHH`,
    so the result is always valid JSON without lone surrogates.  A client that sends these four characters
    looks the same.
    """
    if not _UNSAFE.search(data):
        return data
    return json.dumps(data.decode("utf-8", "backslashreplace"))[1:-1].encode("ascii")
