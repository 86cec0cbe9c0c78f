"""Files -> TOML values with positions.  The only module here that opens configuration files.

Whatever stops a file from being read (missing, closed, a folder, not UTF-8, not TOML) is a `ConfigError`
with the file's name and, for a mistake in the text, its line.

Rules:
- Read at most MAX_FILE bytes: a device or a log named by mistake must not fill the memory.
- A name in messages is what the user wrote; a drop-in's is the main file's folder, as written, plus the
  match.
"""

from __future__ import annotations

import glob
import io
import os
import re
import select
import stat

import tomli

from httpd.config.errors import ConfigError
from httpd.config.place import Place, Source
from httpd.config.positions import scan

_PIPE_SECONDS = 5.0
MAX_FILE = 4 * 1024**2


def read_source(shown: str, problems: list[ConfigError], *, named: Place | None = None) -> Source:
    """Read one file.  named: the `include` entry that named it, None for the main file.

    A file that can't be read is reported to `problems` and comes back without values.
    """
    source = Source(shown, "/", {}, {}, problems)
    try:
        source.folder = os.path.dirname(_absolute(shown))
        text = _text(shown, allow_pipe=named is None)
        source.values = tomli.loads(text)
        source.lines = scan(text)
    except ConfigError as error:
        if named is not None and not error.line:
            named.report(f"{error.path!r}: {error.message}", error.hint)
        else:
            problems.append(error)
    except tomli.TOMLDecodeError as error:
        problems.append(_syntax_error(shown, text, error))
    except RecursionError:
        problems.append(ConfigError(shown, 0, "", "arrays, tables or dotted keys are nested too deeply"))
    except ValueError:  # the one that tomli lets through: from int(), for thousands of digits
        problems.append(ConfigError(shown, 0, "", "a number has too many digits"))
    return source


def read_bytes(shown: str, *, allow_pipe: bool = True) -> bytes:
    """A file's content.  ConfigError: missing, closed, no regular file, or larger than MAX_FILE."""
    try:
        mode = os.stat(shown).st_mode
        if not stat.S_ISREG(mode) and not (allow_pipe and stat.S_ISFIFO(mode)):
            kind = "a folder" if stat.S_ISDIR(mode) else "no regular file"
            raise ConfigError(shown, 0, "", f"is {kind}", "name a TOML file")
        with open(os.open(shown, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0) as file:
            content = _pipe_content(shown, file) if stat.S_ISFIFO(mode) else _file_content(file)
    except OSError as error:
        raise ConfigError(shown, 0, "", f"can't be read: {error.strerror}") from None
    except ValueError:
        raise ConfigError(shown, 0, "", "can't be read: there is a NUL in the name") from None
    if len(content) > MAX_FILE:
        raise ConfigError(
            shown, 0, "", f"is larger than {MAX_FILE // 1024**2} MiB", "this is hardly a configuration file"
        )
    return content


def _file_content(file: io.FileIO) -> bytes:
    pieces = []
    size = 0
    while size <= MAX_FILE and (piece := file.read(MAX_FILE + 1 - size)):
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)


def _pipe_content(shown: str, pipe: io.FileIO) -> bytes:
    """What a command writes (`-c <(command)`); a pipe that nobody writes to would be waited for without end."""
    content = b""
    while len(content) <= MAX_FILE:
        ready, _, _ = select.select([pipe], (), (), _PIPE_SECONDS)
        if not ready:
            raise ConfigError(shown, 0, "", f"is a pipe, and nobody wrote to it for {_PIPE_SECONDS:.0f} s")
        piece = pipe.read(65536)
        if not piece:
            break
        content += piece
    return content


def _absolute(shown: str) -> str:
    try:
        path = os.path.abspath(shown)
        path.encode()
    except UnicodeEncodeError:
        raise ConfigError(shown, 0, "", "the file's path is not UTF-8", "rename it") from None
    except OSError as error:
        raise ConfigError(shown, 0, "", f"the current folder can't be read: {error.strerror}") from None
    return path


def _text(shown: str, *, allow_pipe: bool) -> str:
    content = read_bytes(shown, allow_pipe=allow_pipe)
    if content.startswith(b"\xef\xbb\xbf"):
        raise ConfigError(shown, 1, "", "starts with a byte order mark", "save it as UTF-8 without one")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(
            shown, line, "", f"is not UTF-8: byte 0x{content[error.start]:02x}", "save it as UTF-8"
        ) from None


_DECLARED = re.compile(r"\((.*?),?\)")


def _syntax_error(shown: str, text: str, error: tomli.TOMLDecodeError) -> ConfigError:
    message = error.msg[:1].lower() + error.msg[1:]
    # tomli names a key as a Python tuple.
    message = _DECLARED.sub(lambda found: ".".join(re.findall(r"'([^']*)'", found[1])), message)
    lines = text.replace("\r\n", "\n").split("\n")
    line = lines[error.lineno - 1].strip() if error.lineno <= len(lines) else ""
    return ConfigError(shown, error.lineno, "", f"{message} (column {error.colno})", _syntax_hint(error.msg, line))


def _syntax_hint(message: str, line: str) -> str:
    """What most often lies behind a message of tomli."""
    if message == "Invalid value" and line.startswith("["):
        return "the array before it is not closed"
    if message == "Invalid value":
        return "text needs quotes; true and false are in lower case"
    if message == "Unclosed array":
        return "a comma or the closing bracket is missing"
    if message.startswith("Cannot declare"):
        return "a table can be there once; [[vhost]] and its tables take double brackets"
    if message == "Cannot overwrite a value":
        return "a key can be there once"
    if message.startswith("Illegal character '\\n'"):
        return "the quote that closes the text is missing"
    if message.startswith("Expected '='"):
        return "this is TOML: write key = value"
    if message.startswith("Expected newline") and line.endswith(";"):
        return "no semicolon is needed"
    return ""


def find_included(patterns: tuple[str, ...], place: Place) -> list[tuple[str, Place]]:
    """The included files, each once, the main file never: (name to show, the entry that named it)."""
    base = os.path.dirname(place.source.shown)
    seen = {os.path.realpath(place.source.shown)}
    found: list[tuple[str, Place]] = []
    for index, pattern in enumerate(patterns):
        at = place.child(index)
        for name in _matches(pattern, base, at):
            shown = os.path.join(base, name.removeprefix("./"))
            real = os.path.realpath(shown)
            if real not in seen:
                seen.add(real)
                found.append((shown, at))
    return found


def _matches(pattern: str, base: str, place: Place) -> list[str]:
    if not glob.has_magic(pattern):
        return [pattern]
    folder = os.path.join(base or ".", os.path.dirname(pattern))
    if not glob.has_magic(os.path.dirname(pattern)):
        # glob takes a folder that it may not list for an empty one, and its sites would silently be gone.
        try:
            os.scandir(folder).close()
        except FileNotFoundError:
            return []
        except OSError as error:
            place.report(f"the folder {folder!r} can't be read: {error.strerror}")
            return []
    return sorted(glob.glob(pattern, root_dir=base or None, recursive=True))
