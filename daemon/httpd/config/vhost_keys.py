"""[defaults], [[vhost]] and its mounts, with the settings that all of them share."""

from __future__ import annotations

from httpd.config import grammar
from httpd.config.errors import BadValueError, shown
from httpd.config.keys import Key, Table
from httpd.config.kinds import (
    ACCESS_LOG,
    ADDRESS_TEXT,
    AnyTable,
    ListOf,
    MapOf,
    Scalar,
    boolean,
    choice,
    integer,
    path,
    text,
)

DIRECTORY_METHODS = ("GET", "HEAD", "OPTIONS")


def _status() -> Scalar:
    numbers = (301, 302, 303, 307, 308)

    def parse(value: object, folder: str) -> object:
        if isinstance(value, bool) or value not in numbers:
            hint = "308 and 307 keep the method; 301, 302 and 303 may turn a POST into a GET"
            raise BadValueError(f"expected one of {', '.join(map(str, numbers))}, not {shown(value)}", hint)
        return value

    return Scalar("one of 301, 302, 303, 307, 308", "308", parse, {"type": "integer", "enum": list(numbers)})


SETTINGS = (
    Key(
        "index",
        ListOf(text("a file name", '"index.html"', grammar.index_name), "an array of file names", '["index.html"]'),
        '["index.html", "index.htm"]',
        "Files that answer for their folder; the first that exists is taken.",
    ),
    Key("listing", boolean(), "false", "Whether a folder without an index is answered with the list of its files."),
    Key(
        "dotfiles",
        boolean(),
        "false",
        "Whether paths with a segment that starts with a dot are served; `.well-known` always is.",
    ),
    Key(
        "symlinks",
        choice("inside", "owner", "all", "none"),
        '"inside"',
        'Which symbolic links are followed: those that stay `"inside"` the root, '
        'those with the same `"owner"` as their target, '
        '`"all"`, or `"none"`.',
    ),
    Key(
        "charset", text("a charset", '"utf-8"', grammar.charset), '"utf-8"', 'Charset sent with text; `""` sends none.'
    ),
    Key(
        "types",
        MapOf(
            grammar.extension,
            text("a media type", '"text/html"', grammar.media_type),
            "a table of extensions and media types",
            '{ ".md" = "text/markdown" }',
            r"^\.[^./\s]+$",
        ),
        "{}",
        "Media types by file name extension, in addition to the built-in ones.",
    ),
    Key(
        "headers",
        MapOf(
            grammar.field_name,
            text("a header value in quotes", '"public, max-age=3600"', grammar.field_value),
            "a table of header fields",
            '{ "Cache-Control" = "no-store" }',
            r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$",
        ),
        "{}",
        "Header fields added to responses; to error pages too, but for Cache-Control and others that speak of the "
        "content. Not " + ", ".join(grammar.SERVER_FIELDS) + ": the server sets those itself.",
    ),
    Key(
        "error_pages",
        MapOf(
            grammar.error_status,
            path('"errors/404.html"'),
            "a table of statuses and files",
            '{ 404 = "errors/404.html" }',
            "^[45]([0-9][0-9]|xx)$",
        ),
        "{}",
        "Files sent as the body of error responses, by status, or by `4xx` and `5xx`.",
    ),
    Key(
        "methods",
        ListOf(
            text("a method", '"GET"', grammar.method, pattern="^[^a-z]+$"), "an array of methods", '["GET", "HEAD"]'
        ),
        "[]",
        "The methods that are answered, others get 405; `[]` is all that the mount knows. A directory knows "
        + ", ".join(DIRECTORY_METHODS)
        + ".",
    ),
    Key(
        "access_log",
        ACCESS_LOG,
        "(that of `log.access`)",
        "Another access log for these requests, written as `log.access` is.",
    ),
)
SETTINGS_LATER = (
    "cache",
    "precompressed",
    "compress",
    "etag",
    "fallback",
    "pretty_urls",
    "auth",
    "allow",
    "deny",
    "archive",
    "request_id",
)

DEFAULTS = Table(
    "defaults",
    "What every vhost and mount starts from. "
    "In an included file: what those of that file start from, on top of the main file's.",
    SETTINGS,
    later=SETTINGS_LATER,
)

_MOUNT_PATH = text("a path", '"/downloads/"', grammar.mount_path, pattern="^/")

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
            _MOUNT_PATH,
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
        Key("path", _MOUNT_PATH, "(required)", "The path it answers, as `path` of a directory.", True),
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
    (DIRECTORY, HANDLER, REDIRECT),
    later=("cgi", *SETTINGS_LATER),
    many=True,
)
