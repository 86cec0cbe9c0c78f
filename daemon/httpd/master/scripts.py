"""Listeners that a script asks for while it runs (`httpd run`): bound here once, for all workers and generations.

    worker: server_bind() number N, at an address -> known? the same socket -> else bind it -> worker: a descriptor

Rules:

- What the N-th server of the script binds is one listener, whoever asks first; so several workers, and those behind a
  reload, share it, and port 0 stays the port that it became.
- What a worker says is checked: numbers, addresses, how many.  It is told why something can't be bound, and the script
  gets the OSError that it would have got.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Mapping

from httpd.config.schema import Address
from httpd.logs.errors import ErrorLog
from httpd.master.children import Child
from httpd.master.generations import Generation
from httpd.master.listeners import BindError, bind_all
from httpd.system import pairs
from httpd.worker.checker import Endpoint

_MOST = 64  # servers of one script
_LONGEST = 100  # characters of an address


def bind(
    generations: list[Generation], generation: Generation, child: Child, message: Mapping[str, object], errors: ErrorLog
) -> None:
    """Give `child`, a worker of `generation`, the listener that it asks for, or the reason why not."""
    match message:
        case {"ask": int() as ask, "ordinal": int() as ordinal, "host": str() as host, "port": int() as port,
              "both": bool() as both} if generation.config.script is not None:
            pass
        case _:
            errors.error("bad message", worker=child.pid, reason="a bind that is none")
            return
    answer: dict[str, object] = {"do": "bound", "ask": ask}
    try:
        address, endpoints = _checked(ordinal, host, port, both=both)
        kept = [listener for known in generations for listener in known.listeners]
        # By its number first: of those on port 0 several have the same endpoints.
        known = next((known for known in kept if known.address.text == address.text), None)
        listener = known or bind_all([address], {address.text: endpoints}, kept, errors.info)[0]
    except BindError as error:
        pairs.send(child.channel, {**answer, "errno": error.errno, "reason": str(error)})
        return
    except ValueError as error:
        pairs.send(child.channel, {**answer, "errno": 22, "reason": str(error)[:_LONGEST]})
        return
    if len(generation.listeners) >= 2 * _MOST:
        errors.error("bad message", worker=child.pid, reason="too many listeners")
        if known is None:
            listener.close()
        return
    if not any(known.address.text == address.text for known in generation.listeners):
        generation.listeners.append(listener)
    pairs.send(child.channel, {**answer, "address": address.text}, [sock.fileno() for sock in listener.sockets])


def _is_interface(zone: str) -> bool:
    return zone in (name for pair in socket.if_nameindex() for name in (pair[1], str(pair[0])))


def _checked(ordinal: int, host: str, port: int, *, both: bool) -> tuple[Address, list[Endpoint]]:
    """Raises ValueError for what no server of a script asks for."""
    if not 0 <= ordinal < _MOST:
        raise ValueError(f"a script may have {_MOST} servers")
    if not 0 <= port <= 65535:
        raise ValueError(f"{port} is no port")
    address, mark, zone = host[:_LONGEST].partition("%")
    number = ipaddress.ip_address(address)
    if mark and (number.version == 4 or not _is_interface(zone)):  # else `bind` would ask a name server
        raise ValueError("an address with a zone that there is not")
    family = socket.AF_INET6 if number.version == 6 else socket.AF_INET
    endpoints = [Endpoint(int(family), host, port)]
    if both and host == "::":
        endpoints.append(Endpoint(int(socket.AF_INET), "0.0.0.0", port))
    shown = f"[{host}]" if number.version == 6 else host
    return Address(f"{shown}:{port} (server {ordinal + 1} of the script)", host=host, port=port), endpoints
