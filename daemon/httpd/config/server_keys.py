"""[server], [timeouts], [limits] and [log]: what the main file says about the process as a whole."""

from __future__ import annotations

import re

from httpd.config.errors import BadValueError, did_you_mean, shown, wrong_type
from httpd.config.keys import Key, Table
from httpd.config.kinds import (
    ACCESS_LOG,
    AddressKind,
    ListOf,
    Scalar,
    choice,
    duration,
    integer,
    log_target,
    path,
    rate,
    size,
    text,
    visible,
)
from httpd.config.values import CONTROL

LOG_LEVELS = ("debug", "info", "notice", "warning", "error")
LOG_FORMATS = ("common", "combined", "json")
_FORMAT_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


def _workers() -> Scalar:
    number = integer(1, 1024)

    def parse(value: object, folder: str) -> object:
        if value == "auto":
            return 0
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type('"auto" or a number of workers', value, '"auto" or 4')
        return number.parse(value, folder)

    return Scalar(
        '"auto" or a whole number from 1 to 1024', '"auto"', parse, {"anyOf": [{"enum": ["auto"]}, number.json]}
    )


def _group_or_none(value: str) -> str:
    if CONTROL.search(value):
        raise BadValueError(f"{shown(value)} has a control character in it")
    return value


def _format(value: str) -> str:
    """A word of LOG_FORMATS or a template; the letters of a template are checked by the caller of `load`."""
    if _FORMAT_CONTROL.search(value):
        raise BadValueError("the template has a line break or another control character in it", "an entry is one line")
    if value not in LOG_FORMATS and "%" not in value:
        hint = (
            did_you_mean(value, LOG_FORMATS) or 'write "common", "combined", "json" or a template such as "%h %r %>s"'
        )
        raise BadValueError(f"{shown(value)} is no format of access logs", hint)
    return value


SERVER = Table(
    "server",
    "The process: where it listens, how many workers it has, as whom they run.",
    (
        Key(
            "listen",
            ListOf(AddressKind(), "an array of addresses", '[":80"]', 1, lambda address: address.text),
            '[":80"]',
            'Where to listen: `":PORT"` is every address, IPv4 and IPv6; `"host:port"`; `"[v6]:port"`; '
            '`"unix:/path"`. '
            'Port 0 lets the system choose. `{ address = ":80" }` is another way to write `":80"`.',
        ),
        Key(
            "workers",
            _workers(),
            '"auto"',
            'Worker processes. `"auto"`: one per usable CPU (affinity and cgroup quota count).',
        ),
        Key(
            "max_workers",
            integer(1, 1024),
            "64",
            "The most workers there can be; TTIN and `httpd-ctl workers N` stop at it.",
        ),
        Key("threads", integer(1, 1024), "16", "Threads for handlers in each worker."),
        Key(
            "user",
            visible("a user's name", '"www-data"'),
            "(the first of `httpd`, `www-data`, `http` that exists)",
            "Whom the workers run as when the server is started as root. Never root; "
            "`nobody` only when named. "
            "Started by another user: leave it out, or name that user.",
        ),
        Key("group", visible("a group's name", '"www-data"'), "(the user's own)", "The workers' group. Never root's."),
        Key(
            "run_dir",
            path('"/run/httpd"'),
            "(`/run/httpd` for root; else `$XDG_RUNTIME_DIR/httpd-HASH` or `/tmp/httpd-UID-HASH`)",
            "Folder of the lock, the control socket and the pid file. "
            "HASH stands for the path of the configuration file.",
        ),
        Key(
            "control_group",
            text("a group's name", '"adm"', _group_or_none),
            '""',
            "Members may use httpd-ctl, besides root and the user of the server.",
        ),
        Key(
            "include",
            ListOf(
                visible("a path or pattern", '"conf.d/*.toml"'), "an array of paths or patterns", '["conf.d/*.toml"]'
            ),
            "[]",
            "More files, which hold `[[vhost]]` and `[defaults]` only. "
            "Patterns (`*`, `?`, `[...]`, `**`) are relative to this file, "
            "matches are read in sorted order, and no match is fine. A path without a pattern must exist.",
        ),
        Key(
            "max_requests",
            integer(0, 1_000_000_000),
            "0",
            "Replace a worker after so many requests, with some jitter; 0 is never.",
        ),
        Key("max_memory", size(), "0", "Replace a worker whose private memory passes this; 0 is never."),
    ),
    later=("preload",),
)

TIMEOUTS = Table(
    "timeouts",
    "How long the server waits for whom.",
    (
        Key("head", duration(), '"10s"', "For a whole request head; a new client must begin one within it."),
        Key("body", duration(), '"30s"', "The longest gap in a request body; `min_rate` counts after the first 30 s."),
        Key("write", duration(), '"30s"', "The longest time without a client taking more; `min_rate` likewise."),
        Key("min_rate", rate(), '"500B/s"', "Slower clients are cut off; 0 is no such limit."),
        Key("keepalive", duration(), '"15s"', "For the next request on an idle connection."),
        Key(
            "handler",
            duration(zero=True),
            '"0s"',
            "A handler's thread that takes longer is reported in the error log; 0 is never.",
        ),
        Key(
            "stop_delay",
            duration(zero=True),
            '"0s"',
            "On stop, go on accepting for so long: time for a load balancer to be told. "
            "`status` says `stopping` already.",
        ),
        Key("drain", duration(zero=True), '"30s"', "Then so long to finish requests."),
        Key(
            "start",
            duration(),
            '"30s"',
            "For a new worker to get ready. One that takes longer is ended, and what it hung in is in the error log.",
        ),
        Key(
            "heartbeat",
            duration(zero=True),
            '"30s"',
            "A worker that gives no sign of life for so long is ended and replaced, and what it hung in is in the "
            "error log; 0 is never.",
        ),
        Key(
            "probation",
            duration(zero=True),
            '"3s"',
            "So long after a reload the old workers stand by: if a new one crashes they take over again. "
            "Listeners that the reload removed stay open until then; 0 is no such time.",
        ),
    ),
)

LIMITS = Table(
    "limits",
    "How much a client may send and the server may hold.",
    (
        Key("request_line", size(64), '"8KiB"', "A longer request line is answered with 414."),
        Key("head", size(256), '"32KiB"', "A larger request head is answered with 431."),
        Key("fields", integer(1, 10_000), "100", "More header fields are answered with 431."),
        Key("body", size(), '"1GiB"', "A larger request body is answered with 413."),
        Key("body_memory", size(), '"64KiB"', "Larger bodies are kept in a temporary file until they are read."),
        Key(
            "connections",
            integer(1, 1_000_000),
            "10000",
            "Connections per worker. The soft limit on open files is raised to fit; "
            "what the hard limit has no room for is refused.",
        ),
        Key("detached", integer(0, 1_000_000), "256", "Sockets per worker that handlers took over or stream on."),
        Key(
            "queue",
            integer(0, 1_000_000),
            "1000",
            "Requests per worker and handler that wait for a free thread; behind them 503 with Retry-After.",
        ),
        Key(
            "generations",
            integer(1, 100),
            "4",
            "Old generations of workers that may still be finishing requests behind reloads. If there are more, the "
            "oldest has to end.",
        ),
        Key("file_cache", size(), '"64MiB"', "Memory per worker for small files; 0 keeps none."),
    ),
    later=("connections_per_client",),
)

LOG = Table(
    "log",
    "The server's logs.",
    (
        Key(
            "access",
            ACCESS_LOG,
            '(`"/var/log/httpd/access.log"` for root, else `"-"`)',
            'Where requests are logged: a path, `"-"` for stdout, `""` for nowhere, `"syslog"` or `"journal"`.',
        ),
        Key(
            "format",
            text("a format of access logs", '"combined"', _format),
            '"combined"',
            '`"common"`, `"combined"`, `"json"`, or a template with Apache\'s letters, '
            'such as `"%h %t \\"%r\\" %>s %b"`.',
        ),
        Key(
            "error",
            log_target({"-": "stderr"}),
            '"-"',
            'Where the server reports what it does: a path, or `"-"` for stderr.',
        ),
        Key("level", choice(*LOG_LEVELS), '"info"', "The least important entries that the error log keeps."),
    ),
)
