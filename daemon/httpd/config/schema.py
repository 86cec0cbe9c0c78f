"""The checked configuration: the values that the rest of the program works with.

Everything here is plain data in frozen msgspec structs, so that the child which checks a file can hand the result to
the master as one MessagePack message.

Rules:

- No value here is "as written": sizes are bytes, durations are seconds, paths are absolute, defaults are filled in and
  every vhost and mount carries its complete `Settings`.
- Nothing here reads a file or looks at the machine; `load` builds these values and `environment` judges them.
"""

from __future__ import annotations

from typing import Any

import msgspec

# Whom workers run as when the master is root and the file names nobody: the first that exists.
DEFAULT_USERS = ("httpd", "www-data", "http")


class Address(msgspec.Struct, frozen=True):
    """One listening address.  `text` is its identity: what messages show and what `vhost.listen` names."""

    text: str
    kind: str = "tcp"  # "tcp" | "unix"
    host: str = ""  # "" means every address, IPv4 and IPv6; IPv6 literals without brackets
    port: int = 0
    path: str = ""  # the socket's path, for kind "unix"


class Server(msgspec.Struct, frozen=True, kw_only=True):
    listen: tuple[Address, ...] = ()
    workers: int = 0  # 0 means "auto"
    max_workers: int = 64
    threads: int = 16
    user: str = ""  # "" means: choose by the rule of `system.privileges`, or the caller when it is not root
    group: str = ""
    run_dir: str = ""
    control_group: str = ""
    max_requests: int = 0
    max_memory: int = 0  # bytes


class Timeouts(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds, but for `min_rate`, which is bytes per second."""

    head: float = 10.0
    body: float = 30.0
    write: float = 30.0
    min_rate: int = 500
    keepalive: float = 15.0
    handler: float = 0.0
    stop_delay: float = 0.0
    drain: float = 30.0
    start: float = 30.0
    heartbeat: float = 30.0
    probation: float = 3.0


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    request_line: int = 8 * 1024
    head: int = 32 * 1024
    fields: int = 100
    body: int = 1024**3
    body_memory: int = 64 * 1024
    connections: int = 10_000
    detached: int = 256
    queue: int = 1000
    generations: int = 4
    file_cache: int = 64 * 1024**2


class Log(msgspec.Struct, frozen=True, kw_only=True):
    access: str = "-"  # absolute path, "-" stdout, "" off, "syslog", "journal"
    format: str = "combined"
    error: str = "-"  # absolute path, "-" stderr
    level: str = "info"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What may be set in [defaults], on a vhost and on every mount, already merged."""

    index: tuple[str, ...] = ("index.html", "index.htm")
    listing: bool = False
    dotfiles: bool = False
    symlinks: str = "inside"  # "inside" | "owner" | "all" | "none"
    charset: str = "utf-8"  # "" means: send none
    types: dict[str, str] = {}  # ".ext" in lower case -> media type
    headers: dict[str, str] = {}
    error_pages: dict[str, str] = {}  # "404", "4xx" or "5xx" -> absolute path of a file
    methods: tuple[str, ...] = ()  # () means: every method the mount knows
    access_log: str | None = None  # as log.access; None means the server's own


def extension(name: str) -> str:
    """What the name of a file ends with from its last dot on, in lower case: of ".php" too, which os.path.splitext()
    takes for a name without one.  "" where there is no dot."""
    _, dot, end = name.rpartition(".")
    return f".{end}".lower() if dot else ""


class Mount(msgspec.Struct, frozen=True, tag_field="kind"):
    path: str  # starts with "/"; percent-decoded; matches on segment boundaries
    key: str  # "vhost[0].directory[1]": where it stands, for messages
    settings: Settings


class Directory(Mount, frozen=True, tag="directory"):
    root: str = ""
    handler: str = ""  # "module:name" of a SimpleHTTPRequestHandler; "" is none
    pythonpath: tuple[str, ...] = ()


class Handler(Mount, frozen=True, tag="handler"):
    target: str = ""  # "module:name", called with (request, client_address, server)
    options: dict[str, Any] = {}  # keyword arguments for it
    server: str = "http.server:ThreadingHTTPServer"
    threads: int = 0  # 0 means: all that the worker has
    strip_prefix: bool = False
    stream: bool = False
    http11: bool = False
    pythonpath: tuple[str, ...] = ()


class ScriptLimits(msgspec.Struct, frozen=True, kw_only=True):
    """0 means: not limited here."""

    cpu: float = 0.0  # seconds
    memory: int = 0  # bytes
    files: int = 0
    output: int = 0  # bytes


class Cgi(Mount, frozen=True, tag="cgi"):
    root: str = ""  # a folder of scripts, or ...
    script: str = ""  # ... the one script
    extensions: tuple[str, ...] = ()  # () means: every file is a script
    may_be_missing: bool = False  # `root`, which no file can say
    interpreters: dict[str, str] = {}  # ".ext" in lower case -> program
    user: str = ""  # "" means: nobody, or the caller when the master is not root
    group: str = ""
    env: dict[str, str] = {}
    pass_env: tuple[str, ...] = ()
    pass_authorization: bool = False
    timeout: float = 60.0
    max_time: float = 0.0
    concurrency: int = 32
    queue: int = 128
    limits: ScriptLimits = ScriptLimits()
    warm_python: bool = False
    warm_modules: tuple[str, ...] = ()
    document_root: str = ""  # the vhost's root, else the scripts' folder

    @property
    def folder(self) -> str:
        """Where its scripts are."""
        return self.root or self.script.rpartition("/")[0] or "/"

    def interpreter(self, name: str) -> str:
        """The program that runs files of this name; "" is the file itself."""
        return self.interpreters.get(extension(name), "")


class Redirect(Mount, frozen=True, tag="redirect"):
    to: str = ""
    status: int = 308


class Vhost(msgspec.Struct, frozen=True, kw_only=True):
    key: str  # "vhost[0]"
    names: tuple[str, ...] = ()  # lower case, no trailing dot; "*.example.org" is a wildcard
    listen: tuple[str, ...] = ()  # texts of server.listen; () means all
    settings: Settings
    mounts: tuple[Directory | Cgi | Handler | Redirect, ...] = ()  # the vhost's own root is the directory "/"


class Script(msgspec.Struct, frozen=True):
    """What `httpd run` runs; paths are absolute."""

    path: str
    arguments: tuple[str, ...] = ()
    folder: str = "/"  # the current one of the script
    certificate: str = ""  # PEM files; "" means: no TLS, but for what the script does itself
    key: str = ""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    path: str  # the file, absolute; "" when made from the command line
    server: Server
    timeouts: Timeouts
    limits: Limits
    log: Log
    vhosts: tuple[Vhost, ...]
    script: Script | None = None  # in the place of vhosts
