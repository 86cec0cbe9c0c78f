"""The request that nearly all requests are: GET for a path in HTTP/1.1, without a body, asking for the whole of a file,
for one range of it, or whether it has changed.

One regular expression checks every byte of such a head as `grammar.TIGHT_HEAD` does, and takes out the few values that
an answer from memory needs.  No request object is made and no field is cut that nobody will look at.

Rules:

- A subset, never an opinion of its own: a head that matches is one that `head.parse` accepts, with the same path,
  host and persistence.  A test holds the two side by side.
- Whoever does not match is not wrong, only not plain, and goes the general way: a body announced, Expect, other
  conditions, Connection with other options than close or keep-alive, a field twice that is taken out here, white space
  where none is usual.
- The Host value is as sent; who asks looks it up in a table of hosts that were parsed before.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from httpd.protocol.messages import HeadLimits

_TCHARS = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]*+"
_VALUE = rb"[\t -~\x80-\xff]*+"
_TIGHT = rb"[ \t]*+(" + _VALUE + rb")(?<![ \t])\r\n"

_REQUEST_LINE = rb"(GET (/[!$-;=@-\[\]-~]*+)(?:\?[!$-;=?-~]*+)? HTTP/1\.1)\r\n"

# Names by their first letter: those of which none means anything here, those that are taken out (once: `(?(n)(?!))`
# fails when group n has matched before), and the others with a letter of a name that is not plain.
_HARMLESS = rb"[!#$%&'*+\-.^_`|~0-9ABDFGJ-QSVWXYZabdfgj-qsvwxyz]" + _TCHARS + rb":" + _VALUE + rb"\r\n"
_AGENT = rb"[Uu]ser-[Aa]gent:(?(3)(?!))" + _TIGHT
_REFERER = rb"[Rr]eferer:(?(4)(?!))" + _TIGHT
_HOST = rb"[Hh]ost:(?(5)(?!))[ \t]*+([!-~\x80-\xff]++)\r\n"
_CONNECTION = rb"[Cc]onnection:(?(6)(?!))[ \t]*+(?i:(close)|keep-alive)\r\n"
_IF = rb"[Ii]f-(?:[Nn]one-[Mm]atch:(?(7)(?!))" + _TIGHT + rb"|[Mm]odified-[Ss]ince:(?(8)(?!))" + _TIGHT + rb")"
_RANGE = rb"[Rr]ange:(?(9)(?!))[ \t]*+bytes=([0-9]{1,18}-[0-9]{0,18})\r\n"
_NOT_PLAIN = rb"(?i:onnection|ontent-length|xpect|f-|ost:|ransfer-encoding|ange|eferer:|ser-agent:)"
_OTHER = rb"[CEHIRTUcehirtu](?!" + _NOT_PLAIN + rb")" + _TCHARS + rb":" + _VALUE + rb"\r\n"

Match = Callable[[bytes], re.Match[bytes] | None]


def plain_head(limits: HeadLimits) -> Match:
    """A function that matches a whole plain head, neither less nor more than it, of at most `limits.fields` fields.

    The caller sees to the limits on sizes: it asks only for what has at most `limits.quick` bytes.

    Groups: request line, path as sent, User-Agent, Referer, Host, `close` when the client wants the connection to end,
    If-None-Match, If-Modified-Since, and of Range "first-last" or "first-".  Each is None when it is not there.
    """
    line = b"|".join((_HARMLESS, _AGENT, _REFERER, _HOST, _CONNECTION, _OTHER, _IF, _RANGE))
    return re.compile(_REQUEST_LINE + rb"(?:" + line + rb"){0,%d}\r\n" % limits.fields).fullmatch
