"""[[vhost.cgi]]: scripts."""

from __future__ import annotations

from httpd.config import grammar
from httpd.config.keys import Key, Table
from httpd.config.kinds import ListOf, MapOf, boolean, duration, integer, path, size, text, visible
from httpd.config.settings_keys import MOUNT_PATH, SETTINGS, SETTINGS_LATER

_EXTENSION = text("a file name extension", '".cgi"', grammar.extension, pattern=r"^\.[^./\s]+$")
_VARIABLE = text("the name of a variable", '"TZ"', grammar.variable, pattern="^[A-Za-z_][A-Za-z0-9_]*$")

LIMITS = Table(
    "limits",
    "What one run of a script may use. None of these is limited unless it is named. The first three hold for each of "
    "its processes (setrlimit(2)), `output` for what the script sends.",
    (
        Key("cpu", duration(), "(none)", "Processor time, in whole seconds; SIGXCPU, a second later SIGKILL."),
        Key(
            "memory",
            size(1024**2, '"256MiB"'),
            "(none)",
            "Address space; what does not fit fails as if there were no memory.",
        ),
        Key("files", integer(8, 1_000_000), "(that of the server's start)", "Open files."),
        Key("output", size(1), "(none)", "Bytes of an answer's body; a script that writes more is ended."),
    ),
)

CGI = Table(
    "cgi",
    "Requests under a path are answered by programs (CGI/1.1, RFC 3875); see [cgi.md](cgi.md).",
    (
        Key("path", MOUNT_PATH, "(required)", "The path it answers, as `path` of a directory.", True),
        Key("root", path('"/usr/lib/cgi-bin"'), "(this or `script`)", "A folder of scripts."),
        Key(
            "script",
            path('"/usr/lib/git-core/git-http-backend"'),
            "(this or `root`)",
            "One script that answers all of the path; what follows it is its PATH_INFO.",
        ),
        Key(
            "extensions",
            ListOf(_EXTENSION, "an array of extensions", '[".cgi", ".pl"]'),
            "[]",
            "Only files with one of these are scripts, the others are served as a directory's are; `[]` is all files. "
            "Case makes no difference.",
        ),
        Key(
            "interpreters",
            MapOf(
                grammar.extension,
                path('"/usr/bin/php-cgi"'),
                "a table of extensions and programs",
                '{ ".php" = "/usr/bin/php-cgi" }',
                r"^\.[^./\s]+$",
            ),
            "{}",
            "What runs files with such an extension; they need not be executable, nor begin with `#!`.",
        ),
        Key(
            "user",
            visible("a user", '"nobody"'),
            "(as root `nobody`, else the server's)",
            "Whom scripts run as; never root. Another than oneself needs a server that was started as root.",
        ),
        Key(
            "group",
            visible("a group", '"nogroup"'),
            "(the user's own)",
            "Their main group. With a `user` that is named they have its other groups too.",
        ),
        Key(
            "env",
            MapOf(
                grammar.variable,
                text("a value in quotes", '"/srv/git"', grammar.variable_value, numbers=True),
                "a table of variables",
                '{ GIT_PROJECT_ROOT = "/srv/git" }',
                "^[A-Za-z_][A-Za-z0-9_]*$",
            ),
            "{}",
            "Variables added to their environment, in the place of the server's own where they have the same name. "
            "At most 64 KiB together.",
        ),
        Key(
            "pass_env",
            ListOf(_VARIABLE, "an array of names", '["TZ"]'),
            "[]",
            "Variables of the environment that the server was started with; beside PATH nothing else of it is passed.",
        ),
        Key("pass_authorization", boolean(), "false", "Whether they get the field Authorization."),
        Key(
            "timeout",
            duration(),
            '"60s"',
            "A script that neither writes nor reads for so long is ended (TERM, then KILL, to its process group); 504.",
        ),
        Key("max_time", duration(zero=True), '"0s"', "One that runs for so long is ended; `0` is never."),
        Key("concurrency", integer(1, 10_000), "32", "How many may run at once, over all workers."),
        Key("queue", integer(0, 100_000), "128", "How many requests may wait for that; others get 503."),
        Key(
            "warm_python",
            boolean(),
            "false",
            "Whether Python scripts are forked from an interpreter that is up already.",
        ),
        Key(
            "warm_modules",
            ListOf(text("a module", '"json"', grammar.module_name), "an array of modules", '["json", "urllib.parse"]'),
            "[]",
            "What that interpreter has imported before, in the place of the usual modules.",
        ),
        *SETTINGS,
    ),
    (LIMITS,),
    later=SETTINGS_LATER,
    many=True,
)
