"""Which script a path means, and what of it is PATH_INFO: found by walking the real folders (RFC 3875 3.2, 4.1.5).

    /cgi-bin/tools/env.py/a/b    tools is a folder, env.py a file: the script; PATH_INFO is /a/b

Rules:

- The walk goes by `content.files`: nothing outside of the root is found, links as the setting `symlinks` says.
- Names that begin with a dot are looked at as the setting `dotfiles` says, in the script's path; behind it they are
  PATH_INFO, and none of our business ("/repo/.git/info/refs").
- A folder is answered by the first of `index` that is there, if that is a script.
"""

from __future__ import annotations

import enum
import os
import stat
from dataclasses import dataclass

from httpd.config import schema
from httpd.content import paths
from httpd.content.files import Root
from httpd.content.sites import prefix_of


class Elsewhere(enum.Enum):
    """A path that is there and is no script."""

    FILE = "a file, or a folder, that is served as a directory's are"
    SLASH = "a folder: the same with a slash at its end"


@dataclass(slots=True, frozen=True)
class Found:
    """A script.  `relative` is its path below the root, b"" where the mount is one script."""

    relative: bytes
    file: bytes  # SCRIPT_FILENAME
    name: bytes  # SCRIPT_NAME
    info: bytes  # PATH_INFO


class Lookup:
    """Finds the scripts of one mount."""

    def __init__(self, mount: schema.Cgi) -> None:
        self._mount = mount
        self.prefix = prefix_of(mount.path)
        self.mixed = bool(mount.extensions)  # files are served beside the scripts
        self._kinds = frozenset(mount.extensions)
        self._index = [os.fsencode(name) for name in mount.settings.index]
        self._folder = os.fsencode(mount.folder).rstrip(b"/")
        self._root: Root | None = None

    def root(self) -> Root:
        """The folder; one that is missing is looked for at every request."""
        if self._root is None:
            self._root = Root(os.fsencode(self._mount.folder), self._mount.settings.symlinks)
        return self._root

    def is_script(self, name: bytes) -> bool:
        """Whether a file of this name would be run."""
        return not self.mixed or schema.extension(os.fsdecode(name)) in self._kinds

    def find(self, path: bytes) -> Found | Elsewhere:
        """What a normalized `path` means.

        Raises FileNotFoundError where there is nothing, PermissionError for a folder that has no script to answer for
        it, or that this process may not enter; any other OSError is trouble of the server.
        """
        rest = path[len(self.prefix) :]
        if self._mount.script:
            return Found(b"", os.fsencode(self._mount.script), self.prefix, rest)
        segments = rest.split(b"/")[1:]
        taken: list[bytes] = []
        while segments and segments[0]:
            taken.append(segments.pop(0))
            relative = b"/".join(taken)
            if not self._mount.settings.dotfiles and paths.has_dotfile(b"/" + taken[-1]):
                raise FileNotFoundError(relative)
            if stat.S_ISREG(self.root().look(relative).st_mode):
                return self._file(relative, b"".join([b"/" + segment for segment in segments]))
        return self._folder_index(path, b"/".join(taken))

    def _file(self, relative: bytes, info: bytes) -> Found | Elsewhere:
        if self.is_script(relative.rpartition(b"/")[2]):
            return self._found(relative, info)
        if info:
            raise FileNotFoundError(relative)
        return Elsewhere.FILE

    def _found(self, relative: bytes, info: bytes) -> Found:
        return Found(relative, b"%b/%b" % (self._folder, relative), b"%b/%b" % (self.prefix, relative), info)

    def _folder_index(self, path: bytes, relative: bytes) -> Found | Elsewhere:
        self.root().look(relative)
        for name in self._index:
            inner = relative + b"/" + name if relative else name
            try:
                is_file = stat.S_ISREG(self.root().look(inner).st_mode)
            except FileNotFoundError:
                continue
            if not is_file or not self.is_script(name):
                break
            return self._found(inner, b"") if path.endswith(b"/") else Elsewhere.SLASH
        if self.mixed:  # one whose name is that of a script is no file's: those are never sent
            slash = not path.endswith(b"/") and self.is_script(relative.rpartition(b"/")[2])
            return Elsewhere.SLASH if slash else Elsewhere.FILE
        raise PermissionError(f"{os.fsdecode(path)!a} is a folder, and has no index that is a script")
