"""Texts with a grammar of their own: header fields, media types, server names, paths of mounts, redirect
targets.

Pure functions from a TOML string to its checked, canonical form; they raise `BadValueError`.  Each pattern stands
beside the rule it is from.  What reaches a response from here is ASCII without line breaks, so that no
configured text can split a response head.
"""

from __future__ import annotations

import re

from httpd.config.errors import BadValueError, shown
from httpd.config.values import CONTROL, ipv6_text

# RFC 9110 section 5.6.2: token = 1*tchar
_TOKEN_TEXT = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
TOKEN = re.compile(_TOKEN_TEXT)
# RFC 9110 section 5.5: field-content, here without obs-text; whitespace at either end is no part of a value.
FIELD_VALUE = re.compile(r"(?:[!-~](?:[\t !-~]*[!-~])?)?")
# RFC 9110 section 8.3.1: type "/" subtype *( OWS ";" OWS token "=" ( token / quoted-string ) )
MEDIA_TYPE = re.compile(
    rf"{_TOKEN_TEXT}/{_TOKEN_TEXT}"
    rf'(?:[ \t]*;[ \t]*{_TOKEN_TEXT}=(?:{_TOKEN_TEXT}|"(?:[\t !#-\[\]-~]|\\[\t -~])*"))*'
)
# Fields that frame a message or that the server computes for each response; a second one would contradict it.
SERVER_FIELDS = (
    "Accept-Ranges", "Allow", "Connection", "Content-Length", "Content-Range", "Content-Type", "Date", "ETag",
    "Keep-Alive", "Last-Modified", "Location", "Retry-After", "Server", "TE", "Trailer", "Transfer-Encoding", "Upgrade",
)  # fmt: skip

# RFC 3986 section 3.3: segments of a path, with every other character percent-encoded.
_URI_PATH = re.compile(r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/]|%[0-9A-Fa-f]{2})*")
_URI_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._]+)(?::[0-9]{1,5})?")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ERROR_STATUS = re.compile(r"[45](?:[0-9]{2}|xx)")


def field_name(text: str) -> str:
    """A header field's name (RFC 9110 section 5.1), as written."""
    if not TOKEN.fullmatch(text):
        raise BadValueError(f"{shown(text)} is no header name", "letters, digits and !#$%&'*+-.^_`|~ only")
    for owned in SERVER_FIELDS:
        if text.lower() == owned.lower():
            hint = "the type of a file is set by `types` and `charset`" if owned == "Content-Type" else ""
            raise BadValueError(f"{owned} is set by the server itself and can't be configured", hint)
    return text


def field_value(text: str) -> str:
    """A header field's value (RFC 9110 section 5.5)."""
    if FIELD_VALUE.fullmatch(text):
        return text
    if not text.isascii():
        raise BadValueError(f"the header value {shown(text)} has characters outside ASCII")
    if text != text.strip(" \t"):
        raise BadValueError(
            f"the header value {shown(text)} starts or ends with a space", "remove it: it would not be sent"
        )
    raise BadValueError(
        f"the header value {shown(text)} has a control character in it", "a header is one line of printable text"
    )


def media_type(text: str) -> str:
    if not MEDIA_TYPE.fullmatch(text):
        raise BadValueError(f"{shown(text)} is no media type", 'write it as "text/html" or "text/html; charset=utf-8"')
    return text


def charset(text: str) -> str:
    """A charset's name; "" sends none."""
    if text and not TOKEN.fullmatch(text):
        raise BadValueError(f"{shown(text)} is no name of a charset", 'write it as "utf-8", or "" to send none')
    return text


def extension(text: str) -> str:
    """A file name's extension with its dot, in lower case."""
    if not text.startswith("."):
        meant = "." + text.strip().lstrip("*").lstrip(".")
        hint = f'write "{meant}"' if re.fullmatch(r"\.[^./\s*]+", meant) else 'write it as ".html"'
        raise BadValueError(f"the extension {shown(text)} does not start with a dot", hint)
    if len(text) == 1 or "/" in text or CONTROL.search(text) or " " in text:
        raise BadValueError(f"{shown(text)} is no file name extension", 'write it as ".html"')
    if "." in text[1:]:
        last = "." + text.rpartition(".")[2]
        raise BadValueError(f"{shown(text)} has two dots, but only a name's last extension decides", f'write "{last}"')
    return text.lower()


def error_status(text: str) -> str:
    if not _ERROR_STATUS.fullmatch(text):
        raise BadValueError(f"{shown(text)} is no error status", 'write "404", or "4xx" and "5xx" for all of a class')
    return text


def method(text: str) -> str:
    """A request method (RFC 9110 section 9.1): a token, in capitals because methods are case-sensitive."""
    if not TOKEN.fullmatch(text):
        raise BadValueError(f"{shown(text)} is no request method", 'write it as "GET"')
    if text != text.upper():
        raise BadValueError(f"the method {shown(text)} is not in capitals", f'write "{text.upper()}"')
    return text


def object_name(text: str) -> str:
    """A thing in a module: "package.module:name"."""
    module, colon, name = text.partition(":")
    if all(part.isidentifier() for part in module.split(".") + name.split(".")) and colon:
        return text
    if text.partition(":")[0].endswith(".py") or "/" in text:
        hint = 'name its module, as "app:Handler", and its folder in `pythonpath`'
        raise BadValueError(f"{shown(text)} is a file", hint)
    if not colon and "." in text and all(part.isidentifier() for part in text.split(".")):
        package, _, last = text.rpartition(".")
        raise BadValueError(f"{shown(text)} has no colon in front of its last name", f'write "{package}:{last}"')
    raise BadValueError(f"{shown(text)} is no name in a module", 'write it as "package.module:name"')


def index_name(text: str) -> str:
    if not text or "/" in text or text in (".", "..") or CONTROL.search(text):
        raise BadValueError(f"{shown(text)} is no file name", "an index is one name inside the folder, without '/'")
    return text


def server_name(text: str) -> str:
    """A vhost's name in lower case without a trailing dot: a host, "*.example.org", an IP literal."""
    name = text.lower().removesuffix(".")
    if not name.isascii():
        raise BadValueError(f"the name {shown(text)} has characters outside ASCII", _idna_hint(name))
    if "/" in name:
        raise BadValueError(f"the name {shown(text)} has a '/' in it", 'write only the host, as "example.org"')
    if name == "*":
        raise BadValueError("'*' alone is no name", "leave `names` out: a vhost without names answers for all others")
    if name.startswith("["):
        literal = ipv6_text(name[1:-1]) if name.endswith("]") else ""
        if not literal:
            raise BadValueError(f"{shown(text)} is no valid IPv6 address in brackets", "names carry no port")
        return f"[{literal}]"
    host, colon, port = name.rpartition(":")
    if colon and port.isdigit():
        raise BadValueError(f"the name {shown(text)} has a port", f'write "{host}"; ports belong in `listen`')
    labels = name.removeprefix("*.")
    if "*" in labels:
        raise BadValueError(
            f"the name {shown(text)} has a '*' inside", 'a wildcard is the whole first label: "*.example.org"'
        )
    if len(name) > 253 or not all(map(_LABEL.fullmatch, labels.split("."))):
        raise BadValueError(f"{shown(text)} is no host name", 'write it as "example.org" or "*.example.org"')
    return name


def _idna_hint(name: str) -> str:
    try:
        return f'write "{name.encode("idna").decode("ascii")}"'
    except UnicodeError:
        return "write it in its ASCII form, which starts with xn--"


def mount_path(text: str) -> str:
    """The path of a mount: text as it is after percent-decoding, from "/" on, without dot segments."""
    if not text.startswith("/"):
        raise BadValueError(f"the path {shown(text)} does not start with '/'", f'write "/{text}"')
    if CONTROL.search(text):
        raise BadValueError(f"the path {shown(text)} has a control character in it")
    if "//" in text:
        raise BadValueError(f"the path {shown(text)} has an empty segment ('//') in it")
    for segment in text.split("/"):
        if segment in (".", ".."):
            raise BadValueError(f"the path {shown(text)} has a {segment!r} segment, so no request would match it")
    return text


def redirect_target(text: str) -> str:
    """Where a redirect leads: a path or an absolute URL; the rest of the path and the query follow it."""
    if not text.isascii() or not text.isprintable():
        raise BadValueError(
            f"the target {shown(text)} has a character that a URL can't hold", "percent-encode it (UTF-8)"
        )
    for mark, part in (("?", "query"), ("#", "fragment")):
        if mark in text:
            raise BadValueError(
                f"the target {shown(text)} has a {part} ('{mark}')", "the rest of the path and the query are added"
            )
    if text.startswith("//"):
        raise BadValueError(
            f"the target {shown(text)} starts with '//'", 'write a path as "/new/", or a whole "https://" URL'
        )
    scheme, colon, rest = text.partition("://")
    if colon and scheme.lower() in ("http", "https"):
        host, slash, path = rest.partition("/")
        if not _URI_HOST.fullmatch(host):
            raise BadValueError(f"the target {shown(text)} has no valid host")
        path = slash + path
    elif text.startswith("/"):
        path = text
    else:
        raise BadValueError(
            f"the target {shown(text)} is neither a path nor a URL", 'write "/new/" or "https://example.org/new/"'
        )
    if not _URI_PATH.fullmatch(path):
        raise BadValueError(f"the target {shown(text)} has a character that a URL can't hold", "percent-encode it")
    return text


def variable(text: str) -> str:
    """The name of an environment variable that a shell can use."""
    if not _VARIABLE.fullmatch(text):
        raise BadValueError(f"{shown(text)} is no name of a variable", "letters, digits and _ only, no digit first")
    return text


def variable_value(text: str) -> str:
    """What an environment can hold."""
    if "\0" in text:
        raise BadValueError(f"{shown(text)} has a NUL in it")
    return text


def module_name(text: str) -> str:
    """The dotted name of a Python module."""
    if not all(part.isidentifier() for part in text.split(".")):
        raise BadValueError(f"{shown(text)} is no name of a module", 'write it as "json" or "urllib.parse"')
    return text
