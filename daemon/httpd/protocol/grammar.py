"""The grammar of HTTP/1.1 messages as compiled regular expressions, each beside its ABNF.

Rules:

- One expression checks a whole request head in C.  It accepts a head only if every byte of it is allowed; whoever
  fails it is looked at line by line (`head.HeadScanner`) to find out what is wrong.
- Quantifiers of character sets are possessive: there is nothing to backtrack into, so a head matches or fails in one
  pass.  Groups are repeated plainly: before 3.11.5 a possessive group matches what it should not (gh-106052).
- Where a recipient MAY be lenient (bare LF, obs-fold, white space before the colon, several spaces in the request
  line), this grammar is not: every such leniency has been used to smuggle a request (RFC 9112 11.2).
"""

from __future__ import annotations

import re

# token = 1*tchar                                                      RFC 9110 5.6.2
TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]++"

# field-content and the OWS around it: SP, HTAB, VCHAR, obs-text       RFC 9110 5.5
FIELD_BYTES = rb"[\t -~\x80-\xff]*+"

# request-target: visible ASCII without "#" (a fragment is never sent) and without the delimiters '"', "<", ">" that
# RFC 3986 keeps out of every URI.  The path is held to more below; the forms are told apart in `head`.
TARGET = rb"[!$-;=?-~]++"

# start-line field-lines empty-line.  RFC 9112 2.2: a server SHOULD ignore at least one empty line before the request
# line; eight are ignored.
_EMPTY_LINES = rb"(?:\r\n){0,8}"
_FIELD_LINE = TOKEN + rb":" + FIELD_BYTES + rb"\r\n"
_TIGHT_FIELD_LINE = TOKEN + rb":" + FIELD_BYTES + rb"(?<![ \t])\r\n"

# What nearly all heads look like: a target in origin-form, no white space at the end of a value (so that `FIELD` below
# needs no second pass).  Groups: request line, method, target, path, query, minor version, field lines.
_TIGHT_PATH = rb"/[!$-;=@-\[\]-~]*+"
_TIGHT_TARGET = rb"((" + _TIGHT_PATH + rb")(?:\?([!$-;=?-~]*+))?)"
TIGHT_HEAD = re.compile(
    _EMPTY_LINES + rb"((" + TOKEN + rb") " + _TIGHT_TARGET + rb" HTTP/1\.([0-9]))\r\n((?:" + _TIGHT_FIELD_LINE
    + rb")*)\r\n"
)  # fmt: skip

# Any head.  Groups: request line, method, target, minor version, field lines.
HEAD = re.compile(
    _EMPTY_LINES + rb"((" + TOKEN + rb") (" + TARGET + rb") HTTP/1\.([0-9]))\r\n((?:" + _FIELD_LINE + rb")*)\r\n"
)

# Cuts checked field lines into names and values.
FIELD = re.compile(rb"([^:]++):[ \t]*+([^\r]*+)\r\n")

# The same line by line, without CRLF, for the scanner that explains a bad head and for trailers.
REQUEST_LINE = re.compile(rb"(" + TOKEN + rb") (" + TARGET + rb") HTTP/([0-9])\.([0-9])")
FIELD_LINE = re.compile(rb"(" + TOKEN + rb"):[ \t]*+(" + FIELD_BYTES + rb")")
TCHAR = re.compile(TOKEN)

# uri-host [ ":" port ]                                                 RFC 9110 7.2, RFC 3986 3.2
_REG_NAME = rb"(?:[A-Za-z0-9\-._~!$&'()*+,;=]|%[0-9A-Fa-f]{2})*"
_IP_LITERAL = rb"\[(?:[0-9A-Fa-f:.]++|v[0-9A-Fa-f]++\.[A-Za-z0-9\-._~!$&'()*+,;=:]++)\]"
HOST = re.compile(rb"(" + _IP_LITERAL + rb"|" + _REG_NAME + rb")(?::([0-9]{0,5}))?")

# absolute-path [ "?" query ].  Beyond RFC 3986, what browsers leave bare is accepted: | [ ] ^ ` { } in both parts and
# "\" in the query.  In a path "\" is refused: some clients take it for "/" (open redirects by "/\host").
ORIGIN_FORM = re.compile(rb"(/[^?\\]*+)(?:\?(.*+))?", re.DOTALL)

# absolute-URI with an authority, userinfo refused                     RFC 9112 3.2.2, RFC 9110 4.2.4
ABSOLUTE_FORM = re.compile(rb"([A-Za-z][A-Za-z0-9+.\-]*+)://([^/?@\\]*+)(/[^?\\]*+)?(?:\?(.*+))?", re.DOTALL)

# Content-Length = 1*DIGIT, ASCII digits only.  Nineteen digits pass any disk; more is refused as too large.
CONTENT_LENGTH = re.compile(rb"[0-9]++")

# chunk-size [ chunk-ext ], without CRLF                               RFC 9112 7.1, 7.1.1
_BWS = rb"[ \t]*+"
_QUOTED = rb'"(?:[\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*"'
CHUNK_LINE = re.compile(
    rb"([0-9A-Fa-f]{1,16})((?:" + _BWS + rb";" + _BWS + TOKEN + rb"(?:" + _BWS + rb"=" + _BWS
    + rb"(?:" + TOKEN + rb"|" + _QUOTED + rb"))?)*)"
)  # fmt: skip
