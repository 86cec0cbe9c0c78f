"""Sizes, durations, rates and addresses: text or numbers from TOML -> checked values.

Pure functions, values in and values out; what they refuse they refuse with `BadValueError`, which names the unit
or form that was expected.  Rules:

- A boolean is never a number, although Python counts it as one.
- Units are exact: KiB is 1024, kB is 1000.  A unit in the wrong case is refused with the right one in the
  hint, because a reader who meant a million should not get a mebibyte.
- An address has one canonical text (lower-case host, shortest IPv6 form, absolute socket path): two
  spellings of one address are found equal by comparing texts.
"""

from __future__ import annotations

import math
import os.path
import re
import socket

from httpd.config.errors import NOT_AVAILABLE, BadValueError, shown, wrong_type
from httpd.config.schema import Address

SIZE_UNITS = {
    "B": 1,
    "kB": 1000,
    "MB": 1000**2,
    "GB": 1000**3,
    "TB": 1000**4,
    "KiB": 1024,
    "MiB": 1024**2,
    "GiB": 1024**3,
    "TiB": 1024**4,
}
# Seconds as a fraction: dividing gives the float nearest to the text, multiplying by 0.001 does not.
DURATION_UNITS = {"ms": (1, 1000), "s": (1, 1), "m": (60, 1), "h": (3600, 1), "d": (86400, 1)}
MAX_SIZE = 2**63 - 1  # what a file offset and a MessagePack integer can hold
MAX_DURATION = 10 * 365 * 86400.0  # far inside what the system's timers accept

_AMOUNT = re.compile(r"([0-9]{1,19}(?:\.[0-9]{1,19})?) ?([A-Za-z]*)")
_SIZE_EXAMPLE = '"64KiB", or 65536 for bytes'
_RATE_EXAMPLE = '"500B/s", or 500 for bytes per second'
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_UNITS_TEXT = "B, kB, MB, GB, TB (powers of 1000) or KiB, MiB, GiB, TiB (powers of 1024)"

# sun_path has 108 bytes on Linux and 104 on the BSDs and macOS, the final NUL included.
MAX_SOCKET_PATH = 103
_HOST_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_ADDRESS_FORMS = 'write ":80", "192.0.2.1:80", "[2001:db8::1]:80" or "unix:/run/httpd.sock"'


def parse_size(value: object) -> int:
    """A size in bytes: a whole number, or text such as "64KiB" or "10MB"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _within_size(value)
    if not isinstance(value, str):
        raise wrong_type("a size", value, _SIZE_EXAMPLE)
    return _size_text(value, "")


def parse_rate(value: object) -> int:
    """A rate in bytes per second: a whole number, or a size followed by "/s"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return _within_size(value)
    if not isinstance(value, str) or not value.endswith("/s"):
        raise wrong_type("a rate", value, _RATE_EXAMPLE)
    return _size_text(value, "/s")


def _size_text(value: str, suffix: str) -> int:
    found = _AMOUNT.fullmatch(value.removesuffix(suffix))
    if found is None:
        if value.startswith("-"):
            raise BadValueError(f"{shown(value)} is negative")
        noun, example = ("a rate", _RATE_EXAMPLE) if suffix else ("a size", _SIZE_EXAMPLE)
        raise wrong_type(noun, value, example)
    number, unit = found.groups()
    if not unit:
        raise BadValueError(f"{shown(value)} has no unit", f'write "{number}KiB{suffix}" or "{number}B{suffix}"')
    if unit not in SIZE_UNITS:
        raise BadValueError(f"{shown(value)} has an unknown unit", _unit_hint(number, unit, suffix))
    if "." not in number:
        return _within_size(int(number) * SIZE_UNITS[unit])
    exact = float(number) * SIZE_UNITS[unit]
    if exact != int(exact):
        raise BadValueError(f"{shown(value)} is not a whole number of bytes")
    return _within_size(int(exact))


def _within_size(size: int) -> int:
    if size < 0:
        raise BadValueError(f"{shown(size)} is negative")
    if size > MAX_SIZE:
        raise BadValueError(f"{shown(size)} is larger than any file can be (8 EiB)")
    return size


def _unit_hint(number: str, unit: str, suffix: str) -> str:
    folded = {known.lower(): known for known in SIZE_UNITS} | {"k": "KiB", "m": "MiB", "g": "GiB", "t": "TiB"}
    if unit.lower() in folded:
        return f'write "{number}{folded[unit.lower()]}{suffix}"'
    return f"the units are {_UNITS_TEXT}"


def parse_duration(value: object) -> float:
    """Seconds, never negative, always finite: from a number, or from text as "250ms", "30s", "5m", "1d"."""
    if isinstance(value, str):
        return _within_duration(_duration_text(value), value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type("a duration", value, '"30s", or 30 for seconds')
    return _within_duration(value, value)


def _duration_text(value: str) -> float:
    found = _AMOUNT.fullmatch(value)
    if found is None:
        if value.startswith("-"):
            raise BadValueError(f"{shown(value)} is negative")
        if re.fullmatch(r"(?:[0-9]+[a-z]+)+", value) and set(re.findall("[a-z]+", value)) <= set(DURATION_UNITS):
            raise BadValueError(f"{shown(value)} has more than one unit", 'write "90s" for one and a half minutes')
        raise wrong_type("a duration", value, '"30s", or 30 for seconds')
    number, unit = found.groups()
    if not unit:
        raise BadValueError(f"the duration {shown(value)} has no unit", f'write "{number}s" for seconds')
    if unit not in DURATION_UNITS:
        raise BadValueError(
            f"{shown(value)} has an unknown unit", f'the units are ms, s, m, h and d: write "{number}s"'
        )
    factor, divisor = DURATION_UNITS[unit]
    return float(number) * factor / divisor


def _within_duration(seconds: float, value: object) -> float:
    if isinstance(seconds, float) and math.isnan(seconds):
        raise BadValueError("nan is not a duration", 'write it as "30s", or 30 for seconds')
    if seconds < 0:
        raise BadValueError(f"{shown(value)} is negative")
    if seconds > MAX_DURATION:
        raise BadValueError(f"{shown(value)} is longer than ten years")
    return float(seconds)


def parse_address(value: object, folder: str) -> Address:
    """A listening address from its text; a relative socket path is relative to `folder`.

    Forms: ":80", "host:port", "[v6]:port", "unix:/path".  Port 0 lets the kernel choose.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        raise wrong_type("an address", value, f'":{value}"')
    if not isinstance(value, str):
        raise wrong_type("an address", value, '":80" or "127.0.0.1:8000"')
    if value.startswith("systemd:"):
        raise BadValueError(f"{shown(value)}: a socket from systemd {NOT_AVAILABLE}")
    if value.startswith("unix:"):
        return _unix_address(value, folder)
    if value.isascii() and value.isdigit():
        raise BadValueError(f"{shown(value)} is no address", f'for that port of all addresses, write ":{value}"')
    if value.startswith(("http://", "https://")):
        raise BadValueError(f"{shown(value)} is a URL, not an address", _ADDRESS_FORMS)
    host, colon, port = value.rpartition(":")
    if value.endswith("]") and value.startswith("["):
        raise BadValueError(f"{shown(value)} has no port", f'write "{value}:80"')
    if not colon or (":" in host and not host.startswith("[")):
        raise BadValueError(f"{shown(value)} is no address", _address_hint(value))
    number = _port(port, value)
    host = _host(host, number, value) if host else ""
    return Address(text=f"[{host}]:{number}" if ":" in host else f"{host}:{number}", host=host, port=number)


def _address_hint(value: str) -> str:
    host, _, port = value.rpartition(":")
    if _is_literal(socket.AF_INET6, host) and port.isdigit():
        return f'IPv6 goes in brackets: write "[{host}]:{port}"'
    if _is_literal(socket.AF_INET6, value):
        return f'a port is missing, and IPv6 goes in brackets: write "[{value}]:80"'
    if value.startswith("/"):
        return f'for a unix socket, write "unix:{value}"'
    if ":" not in value and value and all(map(_HOST_LABEL.fullmatch, value.split("."))):
        return f'a port is missing: write "{value}:80"'
    return _ADDRESS_FORMS


def _port(text: str, value: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 5 or int(text) > 65535:
        raise BadValueError(
            f"{shown(value)} has no valid port", "a port is a number from 1 to 65535, or 0 to let the system choose"
        )
    if text != str(int(text)):
        raise BadValueError(f"the port of {shown(value)} starts with a zero", f"write {int(text)}")
    return int(text)


def _host(host: str, port: int, value: str) -> str:
    """The canonical form of a host: an IPv6 literal loses its brackets."""
    if host.startswith("["):
        literal, percent, zone = host[1:].removesuffix("]").partition("%")
        canonical = ipv6_text(literal) if host.endswith("]") else ""
        if not canonical or (percent and not _ZONE.fullmatch(zone)):
            raise BadValueError(f"{shown(value)} has no valid IPv6 address in its brackets", _ADDRESS_FORMS)
        return f"{canonical}%{zone}" if zone else canonical
    if host == "*":
        raise BadValueError(f"{shown(value)}: '*' is no host", f'for all addresses, write ":{port}"')
    if re.fullmatch(r"[0-9.]+", host):
        if not _is_literal(socket.AF_INET, host):
            raise BadValueError(f"{shown(value)} has no valid IPv4 address")
        return host
    if len(host) > 253 or not all(map(_HOST_LABEL.fullmatch, host.split("."))):
        raise BadValueError(f"{shown(value)} has no valid host name", _ADDRESS_FORMS)
    return host.lower()


def ipv6_text(literal: str) -> str:
    """The shortest form of an IPv6 literal without brackets, or "" when it is none."""
    if not _is_literal(socket.AF_INET6, literal):
        return ""
    return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, literal))


def _is_literal(family: socket.AddressFamily, host: str) -> bool:
    try:
        socket.inet_pton(family, host)
    except (OSError, ValueError):  # ValueError: a NUL or a character outside ASCII
        return False
    return True


def _unix_address(value: str, folder: str) -> Address:
    path = absolute_path(value.removeprefix("unix:"), folder)
    size = len(os.fsencode(path))
    if size > MAX_SOCKET_PATH:
        raise BadValueError(
            f"the path of the unix socket has {size} bytes",
            f"the system allows {MAX_SOCKET_PATH}; choose a shorter one",
        )
    return Address(text=f"unix:{path}", kind="unix", path=path)


def absolute_path(value: object, folder: str) -> str:
    """A path, made absolute from `folder`, without empty and "." segments.

    ".." stays as it is: behind a symbolic link it means another folder than the text says.
    """
    if not isinstance(value, str):
        raise wrong_type("a path", value, '"/srv/www"')
    if not value:
        raise BadValueError("the path is empty")
    if CONTROL.search(value):
        raise BadValueError(f"the path {shown(value)} has a control character in it")
    if value.startswith("~"):
        raise BadValueError(f"{shown(value)}: '~' is not expanded", "write the whole path")
    joined = os.path.join(folder, value)
    return "/" + "/".join(part for part in joined.split("/") if part not in ("", "."))
