"""Whether a script may be run: what Apache's suexec looks at, done by the process that will run it, as its user.

Rules:

- Who could have changed the script could have it run as its user: so, where users are switched, it and its folders up
  to the mount's root must belong to root or that user, and nobody else may write to them.  Without a switch the script
  has the rights that its caller has anyway, and only what everybody may write is refused.
- setuid and setgid scripts are refused: who they would run as is the configuration's business.
- Every refusal has its own reason, for the log; the client learns only that it may not.
- The file that was looked at is the one that is run: it is compared at the end.
"""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass

from httpd.config import schema
from httpd.content import paths
from httpd.content.files import Root

_GOOD = 1.0  # seconds
_KNOWN = 1000  # scripts


class Refused(Exception):
    """A script that is not run.  `status` is the answer, `reason` for the log."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(slots=True, frozen=True)
class Program:
    """What is to be run: `arguments` begin with the program's name, `folder` is the current one."""

    file: bytes
    arguments: tuple[bytes, ...]
    folder: bytes

    @property
    def script(self) -> bytes:
        """The script itself, which is not the program where an interpreter runs it."""
        return self.arguments[-1]


class Examiner:
    """Judges the scripts of one mount.  `switched`: whether this process became another user for them."""

    def __init__(self, mount: schema.Cgi, uid: int, *, switched: bool) -> None:
        self._mount = mount
        self._uid = uid
        self._switched = switched
        self._root = os.fsencode(mount.folder).rstrip(b"/") or b"/"
        self._held: Root | None = None
        self._good: dict[bytes, tuple[Program, tuple[int, ...], float]] = {}

    def examine(self, relative: bytes, now: float) -> Program:
        """What to run for the script `relative` of the mount.  Raises Refused.

        What was found to be good at `now` (monotonic seconds) is so for `_GOOD` seconds, if the file stays the same.
        """
        known = self._good.get(relative)
        if known is not None and now - known[2] < _GOOD and _mark(known[0].script) == known[1]:
            return known[0]
        program = self._judge(relative)
        if len(self._good) >= _KNOWN:
            self._good.clear()
        self._good[relative] = (program, _mark(program.script), now)
        return program

    def _judge(self, relative: bytes) -> Program:
        mount = self._mount
        if self._uid == 0:
            raise Refused(403, "it would run as root")
        name = os.fsencode(mount.script.rpartition("/")[2]) if mount.script else relative
        if bool(relative) == bool(mount.script):
            raise Refused(404, "it is no script of this mount")
        if mount.extensions and schema.extension(os.fsdecode(name)) not in mount.extensions:
            raise Refused(403, "its extension is none of a script")
        found = self._look(name)
        if relative and not mount.settings.dotfiles and paths.has_dotfile(b"/" + relative):
            raise Refused(404, "its name, or that of a folder, begins with a dot (see `dotfiles`)")
        file = os.path.join(self._root, name)
        real = os.path.realpath(file)
        self._judge_file(found)
        for folder in _folders(self._root, file, real):
            self._judge_folder(folder)
        interpreter = mount.interpreter(os.fsdecode(name))
        if not os.access(real, os.R_OK if interpreter else os.X_OK):
            raise self._not_executable(real, found, interpreter)
        if interpreter:
            _judge_interpreter(interpreter)
        if not _same(real, found):
            raise Refused(403, "it was replaced while it was looked at")
        program = os.fsencode(interpreter) if interpreter else file
        arguments = (program, file) if interpreter else (file,)
        return Program(program, arguments, os.path.dirname(file))

    def _look(self, name: bytes) -> os.stat_result:
        try:
            if self._held is None:
                symlinks = "all" if self._mount.script else self._mount.settings.symlinks
                self._held = Root(self._root, symlinks)
            found = self._held.look(name)
        except FileNotFoundError:
            raise Refused(404, "it does not exist, or is a link that may not be followed") from None
        except PermissionError:
            raise Refused(403, f"{self._whom()} may not reach it") from None
        except OSError as error:
            raise Refused(500, f"it can't be looked at: {error.strerror}") from None
        if not stat.S_ISREG(found.st_mode):
            raise Refused(403, "it is not a regular file")
        return found

    def _judge_file(self, found: os.stat_result) -> None:
        mode = found.st_mode
        if mode & (stat.S_ISUID | stat.S_ISGID):
            raise Refused(403, "it is setuid or setgid (chmod ug-s, and say `user`)")
        if mode & stat.S_IWOTH:
            raise Refused(403, "everybody may write to it (chmod o-w)")
        if self._switched:
            if mode & stat.S_IWGRP:
                raise Refused(403, "its group may write to it (chmod g-w)")
            if found.st_uid not in (0, self._uid):
                raise Refused(403, f"it belongs to uid {found.st_uid}, neither to root nor to {self._whom()}")

    def _judge_folder(self, folder: bytes) -> None:
        try:
            found = os.stat(folder)
        except OSError as error:
            raise Refused(403, f"its folder {os.fsdecode(folder)!r} can't be looked at: {error.strerror}") from None
        where = f"its folder {os.fsdecode(folder)!r}"
        if found.st_mode & stat.S_IWOTH:
            raise Refused(403, f"everybody may write to {where} (chmod o-w)")
        if self._switched:
            if found.st_mode & stat.S_IWGRP:
                raise Refused(403, f"the group may write to {where} (chmod g-w)")
            if found.st_uid not in (0, self._uid):
                raise Refused(403, f"{where} belongs to uid {found.st_uid}, neither to root nor to {self._whom()}")

    def _not_executable(self, real: bytes, found: os.stat_result, interpreter: str) -> Refused:
        if interpreter:
            return Refused(403, f"{self._whom()} may not read it")
        if not found.st_mode & 0o111:
            hint = "" if self._mount.extensions else "; files beside scripts are served by `extensions`"
            return Refused(403, f"it is not executable (chmod +x{hint})")
        with contextlib.suppress(OSError):  # it is gone
            if os.statvfs(real).f_flag & os.ST_NOEXEC:
                return Refused(500, "it is on a file system that is mounted noexec")
        return Refused(403, f"{self._whom()} may not execute it")

    def _whom(self) -> str:
        return f"uid {self._uid}"


def _judge_interpreter(program: str) -> None:
    """It runs whatever is in its file.  One that is missing is for who starts it to tell."""
    with contextlib.suppress(OSError):
        mode = os.stat(program).st_mode
        if mode & (stat.S_ISUID | stat.S_ISGID):
            raise Refused(403, f"its interpreter {program!r} is setuid or setgid")
        if mode & stat.S_IWOTH:
            raise Refused(403, f"everybody may write to its interpreter {program!r} (chmod o-w)")


def _folders(root: bytes, file: bytes, real: bytes) -> list[bytes]:
    """The folders whose owners decide what `file` is: from it up to the root, and the same from where links lead to, up
    to where that and the root part."""
    found = [os.path.dirname(real)]
    real_root = os.path.realpath(root)
    parting = os.path.commonpath([real_root, real])
    while len(found[-1]) > len(parting):
        found.append(os.path.dirname(found[-1]))
    if len(found) > 1 and parting != real_root:
        found.pop()
    folder = os.path.dirname(file)
    while True:
        found.append(folder)
        if folder in (root, b"/", b"") or len(folder) <= len(root):
            return found
        folder = os.path.dirname(folder)


def _mark(path: bytes) -> tuple[int, ...]:
    """What changes with a file, its owner and its mode."""
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns


def _same(path: bytes, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.stat(path), found)
    except OSError:
        return False
