"""Which scripts are for a warm interpreter, and for which: those of a CPython that can be one, 3.9 or later.

It is the interpreter that `interpreters` names, or the first line of the script; with options, unless one of them says
what is run in the script's place.  A version that its name does not tell is tried.
"""

from __future__ import annotations

import re

from httpd.cgi.process import Launch, shebang

_PYTHON = re.compile(rb"(?:.*/)?python(?:3(?:\.(?:9|[1-9][0-9]))?)?")
_ENV = re.compile(rb"(?:.*/)?env")
# Those that change how a script runs, not what is run instead of it.
_OPTIONS = re.compile(rb"-[bBdEIOPqRsSuv]+|-[bBdEIOPqRsSuv]*[WX].+")


def command_of(launch: Launch) -> tuple[tuple[bytes, ...], bytes]:
    """The interpreter with its options, and the script; nothing where it is no Python."""
    if launch.script:
        return ((launch.file,), launch.script) if _PYTHON.fullmatch(launch.file) else ((), b"")
    words = shebang(launch.file)
    if words and _ENV.fullmatch(words[0]) and len(words) > 1:
        return (tuple(words), launch.file) if _PYTHON.fullmatch(words[1]) else ((), b"")
    plain = words and _PYTHON.fullmatch(words[0]) and all(_OPTIONS.fullmatch(word) for word in words[1:])
    return (tuple(words), launch.file) if plain else ((), b"")
