"""TLS contexts for servers: which versions, which files, and what is wrong with them.

Rules:

- TLS 1.2 and later; ciphers, curves and options as Python and OpenSSL have them by default, which follow the times.
- An error names the file.  OpenSSL's own say "[SSL] PEM lib" for a key that is missing, wrong or encrypted.
- Nothing is asked of a terminal: a key that is encrypted needs its password.
- `ssl` is imported when it is needed; Python can be built without it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl

Password = str | bytes | bytearray | Callable[[], str | bytes | bytearray] | None


class TLSError(OSError):
    """A certificate or key can't be used; `filename` is the file."""


def module() -> Any:
    """The module ssl.  Raises RuntimeError where Python has none."""
    try:
        import ssl
    except ImportError:
        raise RuntimeError("SSL module is missing") from None
    return ssl


def server_context(
    certfile: str | os.PathLike[str], keyfile: str | os.PathLike[str] | None, password: Password,
    alpn_protocols: Sequence[str],
) -> ssl.SSLContext:  # fmt: skip
    """A context for servers.  Without `keyfile` the key is in `certfile`, in front of the certificates or behind them.

    Raises TLSError, and RuntimeError without the ssl module.
    """
    names = module()
    context: ssl.SSLContext = names.SSLContext(names.PROTOCOL_TLS_SERVER)
    context.minimum_version = names.TLSVersion.TLSv1_2
    for path in (certfile, keyfile):
        if path is not None:
            _readable(path)
    encrypted = False

    def ask() -> Any:
        nonlocal encrypted
        encrypted = True
        if password is None:
            return ""
        return password() if callable(password) else password

    try:
        context.load_cert_chain(certfile, keyfile, ask)
    except (names.SSLError, ValueError, TypeError) as error:
        raise _explain(error, os.fspath(certfile), keyfile, encrypted, password is not None) from None
    context.set_alpn_protocols(list(alpn_protocols))
    return context


def _readable(path: str | os.PathLike[str]) -> None:
    try:
        with open(path, "rb"):
            pass
    except OSError as error:
        raise TLSError(error.errno, error.strerror, os.fspath(path)) from None


def _explain(error: Exception, certfile: str, keyfile: Any, encrypted: bool, given: bool) -> TLSError:
    reason = getattr(error, "reason", None) or ""
    key = certfile if keyfile is None else os.fspath(keyfile)
    if encrypted and not given:
        return TLSError(0, "the key is encrypted and needs its password", key)
    if encrypted:
        return TLSError(0, "the password does not open the key", key)
    if reason == "KEY_VALUES_MISMATCH":
        return TLSError(0, "the key belongs to another certificate", key)
    if _holds(certfile, b"-----BEGIN CERTIFICATE-----"):
        return TLSError(0, "no private key in PEM format", key)
    return TLSError(0, "no certificate in PEM format", certfile)


def _holds(path: str, mark: bytes) -> bool:
    with open(path, "rb") as file:
        return mark in file.read()
