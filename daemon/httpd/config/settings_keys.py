"""The settings that [defaults], vhosts and all mounts share."""

from __future__ import annotations

from httpd.config import grammar
from httpd.config.keys import Key
from httpd.config.kinds import (
    ACCESS_LOG,
    ListOf,
    MapOf,
    boolean,
    choice,
    path,
    text,
)

DIRECTORY_METHODS = ("GET", "HEAD", "OPTIONS")


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

MOUNT_PATH = text("a path", '"/downloads/"', grammar.mount_path, pattern="^/")
