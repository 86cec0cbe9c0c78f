"""What is wrong with a configuration, in the form that an administrator reads.

A problem is one `ConfigError`: where (file, line, key), what, and how to put it right.  Problems are
collected, never raised one by one, so that one run of the check shows all of them; `ConfigErrors` carries
the collection.

Rules:
- Every problem prints as exactly one line: `FILE:LINE: KEY: MESSAGE; HINT`.
- `args` holds the five fields in order, so a problem crosses a pipe as a plain tuple and
  `ConfigError(*args)` restores it.
- `BadValueError` is the error of the parsers, which know neither file nor key; the reader of the table adds both.
"""

from __future__ import annotations

from collections.abc import Iterable

NOT_AVAILABLE = "is not available in this version of httpd"


class BadValueError(ValueError):
    """A value that a parser refuses: `message` says why, `hint` how to write it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class ConfigError(Exception):
    """One problem.

    path: the file as the user named it, "" for the command line; line: from 1, or 0 when unknown; key: the
    dotted key, such as `vhost[1].directory[0].root`, or "" for the file as a whole; hint: may be empty.
    """

    def __init__(self, path: str, line: int, key: str, message: str, hint: str = "") -> None:
        super().__init__(path, line, key, message, hint)
        self.path = path
        self.line = line
        self.key = key
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.path and self.line else self.path
        text = ": ".join(part for part in (place, self.key, self.message) if part)
        return one_line(f"{text}; {self.hint}" if self.hint else text)


class ConfigErrors(Exception):
    """All problems of one configuration, sorted by file and line; never empty."""

    def __init__(self, problems: Iterable[ConfigError]) -> None:
        self.problems: tuple[ConfigError, ...] = tuple(sorted(problems, key=lambda p: (p.path, p.line)))
        super().__init__(*self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def one_line(text: str) -> str:
    """`text` with every character that could break or repaint a terminal line written as an escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """A hint naming the entry of `words` closest to `word`, or "" when none is close."""
    import difflib  # only a file with a mistake pays for it

    folded = {known.lower(): known for known in words}
    close = difflib.get_close_matches(word.lower(), folded, n=1, cutoff=0.6)
    return f"did you mean {folded[close[0]]!r}?" if close else ""


def shown(value: object) -> str:
    """A TOML value as a message names it: its text when it is short, else its type."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return one_line(repr(value if len(value) <= 80 else value[:77] + "..."))
    if isinstance(value, float) or (isinstance(value, int) and abs(value) < 10**20):
        return repr(value)
    if isinstance(value, int):
        return "a huge number"
    if isinstance(value, list):
        return "an array"
    if isinstance(value, dict):
        return "a table"
    return "a date or time"


def wrong_type(noun: str, value: object, example: str) -> BadValueError:
    """The error for a value of another type than `noun` ("a size"); `example` is one in TOML."""
    return BadValueError(f"expected {noun}, not {shown(value)}", f"write it as {example}")
