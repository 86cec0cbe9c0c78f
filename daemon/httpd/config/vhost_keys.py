"""[defaults], [[vhost]] and its mounts."""

from __future__ import annotations

from httpd.config import grammar
from httpd.config.cgi_keys import CGI
from httpd.config.errors import BadValueError, shown
from httpd.config.keys import Key, Table
from httpd.config.kinds import ADDRESS_TEXT, AnyTable, ListOf, Scalar, boolean, integer, path, text
from httpd.config.settings_keys import MOUNT_PATH, SETTINGS, SETTINGS_LATER


def _status() -> Scalar:
    numbers = (301, 302, 303, 307, 308)

    def parse(value: object, folder: str) -> object:
        if isinstance(value, bool) or value not in numbers:
            hint = "308 and 307 keep the method; 301, 302 and 303 may turn a POST into a GET"
            raise BadValueError(f"expected one of {', '.join(map(str, numbers))}, not {shown(value)}", hint)
        return value

    return Scalar("one of 301, 302, 303, 307, 308", "308", parse, {"type": "integer", "enum": list(numbers)})


DEFAULTS = Table(
    "defaults",
    "What every vhost and mount starts from. "
    "In an included file: what those of that file start from, on top of the main file's.",
    SETTINGS,
    later=SETTINGS_LATER,
)

_PYTHONPATH = Key(
    "pythonpath",
    ListOf(path('"/srv/myapp"'), "an array of paths", '["/srv/myapp"]'),
    "[]",
    "Folders in which its modules are looked for, before those of the interpreter.",
)


def _named(noun: str, example: str) -> Scalar:
    return text(noun, example, grammar.object_name, pattern="^[^:]+:[^:]+$")


DIRECTORY = Table(
    "directory",
    "A folder of files under a path.",
    (
        Key(
            "path",
            MOUNT_PATH,
            "(required)",
            "The path it answers, on segment boundaries. Plain text, not percent-encoded.",
            True,
        ),
        Key(
            "root",
            path('"/srv/downloads"'),
            "(the vhost's root + path)",
            "The folder. It replaces `path`, it is not added to it.",
        ),
        Key(
            "handler",
            _named("a handler class", '"httpd.server:SimpleHTTPRequestHandler"'),
            "(none)",
            "A class derived from `SimpleHTTPRequestHandler` that answers, as `module:name`. Without a `directory` of "
            "its own it serves `root`, by the settings here. See [handlers.md](handlers.md).",
        ),
        _PYTHONPATH,
        *SETTINGS,
    ),
    later=SETTINGS_LATER,
    many=True,
)

HANDLER = Table(
    "handler",
    "Requests under a path are answered by a class written for `http.server`; see [handlers.md](handlers.md). Of the "
    "settings, `methods` are looked at before it is asked, `headers` are added where it has not set them itself, "
    "`error_pages` are for what the server answers in its place (405, 500, 503), and `access_log` is its own.",
    (
        Key("path", MOUNT_PATH, "(required)", "The path it answers, as `path` of a directory.", True),
        Key(
            "class",
            _named("a handler", '"myapp.hooks:WebhookHandler"'),
            "(required)",
            "What to call with `(request, client_address, server)`, as `module:name`: a class, a `functools.partial`, "
            "a function that makes one. Imported by each worker after its start, so that a reload takes up new code.",
            True,
        ),
        Key("options", AnyTable(), "{}", "Keyword arguments for it."),
        Key(
            "server",
            _named("a server class", '"http.server:HTTPServer"'),
            '"http.server:ThreadingHTTPServer"',
            "The class of `self.server`. One that is not a `ThreadingMixIn`, as `http.server:HTTPServer`, gets one "
            "request at a time in each worker.",
        ),
        Key(
            "threads",
            integer(0, 1024),
            "0",
            "How many of the worker's threads it may have at most; 1 is one request at a time, 0 is all.",
        ),
        Key("strip_prefix", boolean(), "false", "Whether `self.path` is without the mount's path."),
        Key(
            "stream",
            boolean(),
            "false",
            "Whether the handler runs before the request's body is there and reads it from the client as it comes in.",
        ),
        Key(
            "http11",
            boolean(),
            "false",
            "Whether a class that says HTTP/1.0, the default of `http.server`, is answered as HTTP/1.1 and kept alive.",
        ),
        _PYTHONPATH,
        *SETTINGS,
    ),
    later=SETTINGS_LATER,
    many=True,
)

REDIRECT = Table(
    "redirect",
    "Requests under a path are sent elsewhere; the rest of the path and the query are kept.",
    (
        Key(
            "from",
            text("a path", '"/old/"', grammar.mount_path, pattern="^/"),
            "(required)",
            "The path it answers, as `path` of a directory.",
            True,
        ),
        Key(
            "to",
            text("a path or URL", '"/new/"', grammar.redirect_target, pattern="^(/|https?://)[^?#]*$"),
            "(required)",
            "A path or an absolute URL, percent-encoded, without query and fragment.",
            True,
        ),
        Key("status", _status(), "308", "308 and 307 keep the method; 301, 302 and 303 may turn a POST into a GET."),
        *SETTINGS,
    ),
    later=SETTINGS_LATER,
    many=True,
)

VHOST = Table(
    "vhost",
    "A site. The one without names answers for all other names; without such a one the first in file order does.",
    (
        Key(
            "names",
            ListOf(
                text("a host name", '"example.org"', grammar.server_name), "an array of host names", '["example.org"]'
            ),
            "[]",
            'The names it answers to, without ports; `"*.example.org"` is every name below example.org.',
        ),
        Key(
            "listen",
            ListOf(ADDRESS_TEXT, "an array of addresses", '[":80"]', identity=lambda address: address.text),
            "[]",
            "Those of `server.listen` that it answers on; `[]` is all.",
        ),
        Key("root", path(), "(none)", "A folder of files for the path `/`: short for a directory with that path."),
        *SETTINGS,
    ),
    (DIRECTORY, CGI, HANDLER, REDIRECT),
    later=SETTINGS_LATER,
    many=True,
)
