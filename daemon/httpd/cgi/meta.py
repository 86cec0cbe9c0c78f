"""What a script is told of its request: meta-variables and command line (RFC 3875 4.1, 4.4).  Pure functions.

Rules:

- A client names a variable only by the field names below: letters, digits and "-".  "X_Y" would become the same
  HTTP_X_Y as "X-Y", and so pass by a proxy that removes or sets the other; it is left out.
- Proxy is left out: HTTP_PROXY is what many libraries take for the address of a proxy (httpoxy, CVE-2016-5385).
- Credentials are the server's to check: Authorization is passed on only where the configuration says so, and
  REMOTE_USER and AUTH_TYPE are set only from what was verified here.
- Fields that speak of one connection end here (RFC 9110 7.6.1).
- Nothing of the server's own environment is looked at in here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from httpd.protocol.messages import Request

# Fields of the connection, by lower-case name; Content-Length and Content-Type have variables of their own.
HOP_BY_HOP = frozenset((
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te",
    b"trailer", b"transfer-encoding", b"upgrade",
))  # fmt: skip
_OWN_VARIABLE = frozenset((b"content-length", b"content-type"))
_NEVER = frozenset((b"proxy",))
_LEFT_OUT = HOP_BY_HOP | _OWN_VARIABLE | _NEVER
# What Connection can't take away: these are for everybody on the way, and who they speak of may want them gone.
_FOR_ALL = frozenset((
    b"cookie", b"forwarded", b"host", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-real-ip",
))  # fmt: skip
_NAME = re.compile(rb"[a-z0-9-]+")
# What a variable that a worker sends may be called: see `allowed`.
_ALLOWED = re.compile(rb"HTTP_(?!PROXY\Z)[A-Z0-9_]+")
_NAMES = frozenset((
    b"AUTH_TYPE", b"CONTENT_LENGTH", b"CONTENT_TYPE", b"CONTEXT_DOCUMENT_ROOT", b"CONTEXT_PREFIX", b"DOCUMENT_ROOT",
    b"GATEWAY_INTERFACE", b"HTTPS", b"PATH_INFO", b"PATH_TRANSLATED", b"QUERY_STRING", b"REDIRECT_STATUS",
    b"REMOTE_ADDR", b"REMOTE_HOST", b"REMOTE_PORT", b"REMOTE_USER", b"REQUEST_METHOD", b"REQUEST_SCHEME",
    b"REQUEST_URI", b"SCRIPT_FILENAME", b"SCRIPT_NAME", b"SERVER_ADDR", b"SERVER_NAME", b"SERVER_PORT",
    b"SERVER_PROTOCOL", b"SERVER_SOFTWARE",
))  # fmt: skip

_VARIABLES: dict[bytes, bytes] = {}  # by the field's name, those that were asked for
_MOST_VARIABLES = 500
_LONGEST_WORD = 8 * 1024  # bytes; the request line is no longer by default


@dataclass(slots=True)
class Facts:
    """What is to be said of a request beside what stands in its head.  Addresses are text, ports numbers."""

    script_name: bytes  # the URL's path up to and with the script, decoded
    path_info: bytes  # what follows, decoded; b"" for nothing
    script_filename: bytes
    document_root: bytes
    context_prefix: bytes = b""
    context_root: bytes = b""
    remote_addr: bytes = b""
    remote_port: int = 0
    server_addr: bytes = b""
    server_name: bytes = b""  # where the request names no host
    server_port: int = 80
    scheme: bytes = b"http"
    software: bytes = b"httpd"
    user: bytes = b""  # who was verified, and how
    auth_type: bytes = b""
    length: int | None = None  # of the body, as it will be read; None: there is none
    authorization: bool = False  # whether Authorization is passed on


def variables(request: Request, facts: Facts) -> dict[bytes, bytes]:
    """The meta-variables of a request (RFC 3875 4.1), those that other servers set too, and the fields as HTTP_*."""
    fields = request.fields
    target = request.path if request.query is None else b"%b?%b" % (request.path, request.query)
    found = {
        b"GATEWAY_INTERFACE": b"CGI/1.1",
        b"SERVER_SOFTWARE": facts.software,
        b"SERVER_NAME": request.host or facts.server_name,
        b"SERVER_ADDR": facts.server_addr,
        b"SERVER_PORT": b"%d" % facts.server_port,
        b"SERVER_PROTOCOL": b"HTTP/1.%d" % min(request.minor, 1),
        b"REQUEST_METHOD": request.method,
        b"REQUEST_URI": target,
        b"REQUEST_SCHEME": facts.scheme,
        b"QUERY_STRING": request.query or b"",
        b"SCRIPT_NAME": facts.script_name,
        b"SCRIPT_FILENAME": facts.script_filename,
        b"DOCUMENT_ROOT": facts.document_root,
        b"CONTEXT_PREFIX": facts.context_prefix,
        b"CONTEXT_DOCUMENT_ROOT": facts.context_root,
        b"REMOTE_ADDR": facts.remote_addr,
        b"REMOTE_HOST": facts.remote_addr,  # RFC 3875 4.1.9: in the place of a name that nobody has looked up
        b"REMOTE_PORT": b"%d" % facts.remote_port,
        b"REDIRECT_STATUS": b"200",  # php-cgi runs nothing without it
    }
    if facts.path_info:
        found[b"PATH_INFO"] = facts.path_info
        found[b"PATH_TRANSLATED"] = facts.document_root.rstrip(b"/") + facts.path_info
    if facts.length is not None:
        found[b"CONTENT_LENGTH"] = b"%d" % facts.length
    if b"content-type" in fields:
        found[b"CONTENT_TYPE"] = fields[b"content-type"]
    if facts.scheme == b"https":
        found[b"HTTPS"] = b"on"
    if facts.user:
        found[b"REMOTE_USER"], found[b"AUTH_TYPE"] = facts.user, facts.auth_type
    found.update(_protocol_variables(fields, authorization=facts.authorization))
    return found


def _protocol_variables(fields: Mapping[bytes, bytes], *, authorization: bool) -> dict[bytes, bytes]:
    """The request's fields as HTTP_* (RFC 3875 4.1.18)."""
    left_out = _LEFT_OUT
    if b"connection" in fields:  # RFC 9110 7.6.1: it names more of its kind
        left_out |= {option.strip(b" \t").lower() for option in fields[b"connection"].split(b",")} - _FOR_ALL
    if not authorization and b"authorization" in fields:
        left_out |= {b"authorization"}
    found = {}
    for name, value in fields.items():
        if name not in left_out:
            variable = _VARIABLES.get(name)
            if variable is None:
                variable = _variable(name)
            if variable:
                found[variable] = value
    return found


def _variable(name: bytes) -> bytes:
    """The variable for a field; b"" for none."""
    made = b"HTTP_" + name.upper().replace(b"-", b"_") if _NAME.fullmatch(name) else b""
    if len(_VARIABLES) < _MOST_VARIABLES:
        _VARIABLES[name] = made
    return made


def allowed(name: bytes) -> bool:
    """Whether a worker may have a variable of this name set: one of the above, and no LD_PRELOAD."""
    return name in _NAMES or _ALLOWED.fullmatch(name) is not None


def words(method: bytes, query: bytes | None) -> list[bytes]:
    """The command line of a search (RFC 3875 4.4): the words of a query without "=", decoded."""
    if not query or b"=" in query or method not in (b"GET", b"HEAD"):
        return []
    found = [unquote_to_bytes(word) for word in query.split(b"+")]
    if any(b"\0" in word or len(word) > _LONGEST_WORD for word in found):
        return []  # RFC 3875 4.4: if one can't be made, there are none
    return found
