"""What worker, launcher and spawners say to each other: MessagePack over pairs of unix sockets, one message a packet.

    worker -> launcher    Ask, Suspect                 master -> launcher   Mount, Admit, Drop, Ping
    launcher -> worker    Door (with a socket), Shut   launcher -> master   Note, Pong
    launcher -> spawner   Admit, Ping                  spawner -> launcher  Note, Pong
    worker -> spawner     Run (with three fds), Stop   spawner -> worker    Queued, Started, Declined, Ended, Several,
                                                                            Leaving

Rules:

- A worker may have been taken over: it names a mount of its own generation and a script in it, never a user, a program
  or a path outside, and what it sends is checked where it arrives.
- Types are checked as a message is decoded; what does not fit is no message.
"""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from httpd.config import schema
from httpd.system.pairs import EOF, BadMessage, End
from httpd.system.privileges import Identity

MAX_MESSAGE = 160 * 1024  # bytes; an environment, a command line.  The kernel takes 200 KiB by default
MAX_FDS = 3
_SHOWN = 200  # characters of what is wrong with a message
# As plain numbers: operations on socket's enumerations cost more than the calls.
_FLAGS: Final = int(socket.MSG_DONTWAIT | getattr(socket, "MSG_CMSG_CLOEXEC", 0))
_CUT_OFF: Final = int(socket.MSG_TRUNC | socket.MSG_CTRUNC)
_DONTWAIT: Final = int(socket.MSG_DONTWAIT)
_SOCKET, _RIGHTS = int(socket.SOL_SOCKET), int(socket.SCM_RIGHTS)


class Message(msgspec.Struct, frozen=True, tag_field="is", array_like=False):
    """One of the below."""


class Run(Message, frozen=True, tag="run"):
    """Run a script: with stdin, stdout and stderr.  `number` is the worker's own for it."""

    number: int
    relative: bytes
    words: list[bytes]
    environment: dict[bytes, bytes]  # by name


class Stop(Message, frozen=True, tag="stop"):
    """End a run, or forget one that waits."""

    number: int


class Queued(Message, frozen=True, tag="queued"):
    """It has to wait: for its turn, or until what is to run it is `ready`."""

    number: int
    ready: bool = True


class Started(Message, frozen=True, tag="started"):
    """It runs, and has for a moment; of one that ends within that only the end is told."""

    number: int
    pid: int


class Declined(Message, frozen=True, tag="declined"):
    """It will not run: the status to answer with, and why, for the log."""

    number: int
    status: int
    reason: str
    alarm: bool = False  # the worker itself misbehaves


class Ended(Message, frozen=True, tag="ended"):
    """Its process has ended: `how` is for people; `failed` unless by exit status 0."""

    number: int
    pid: int
    how: str


class Several(Message, frozen=True, tag="several"):
    """Ends of short runs, told together: nobody waits for them."""

    ends: list[Ended]


class Leaving(Message, frozen=True, tag="leaving"):
    """Ask the launcher for another spawner; what runs is seen to its end."""


class Ask(Message, frozen=True, tag="ask"):
    """Where can scripts of this mount be run?"""

    mount: str


class Suspect(Message, frozen=True, tag="suspect"):
    """The spawner of this mount does not answer: see whether it lives."""

    mount: str


class Door(Message, frozen=True, tag="door"):
    """The answer, with a socket to the spawner."""

    mount: str


class Shut(Message, frozen=True, tag="shut"):
    """There is no spawner to be had."""

    mount: str
    reason: str


class Mount(Message, frozen=True, tag="mount"):
    """A mount of a generation, and who its scripts run as; None: who the launcher is."""

    generation: int
    mount: schema.Cgi
    identity: Identity | None


class Admit(Message, frozen=True, tag="admit"):
    """A worker of a generation, with its socket."""

    generation: int
    worker: int


class Drop(Message, frozen=True, tag="drop"):
    """A generation is gone."""

    generation: int


class Ping(Message, frozen=True, tag="ping"):
    """Say that you are there."""


class Pong(Message, frozen=True, tag="pong"):
    """I am."""


class Note(Message, frozen=True, tag="note"):
    """Something for the error log."""

    level: Literal["info", "notice", "warning", "error"]
    text: str


ToLauncher = Ask | Suspect | Mount | Admit | Drop | Ping
ToMaster = Note | Pong  # and what spawners say to the launcher
ToWorker = Queued | Started | Declined | Ended | Several | Leaving | Door | Shut
ToSpawner = Run | Stop | Ping | Admit

_encoder = msgspec.msgpack.Encoder()


class TooLong(ValueError):
    """A message that would not be taken."""


def send(sock: socket.socket, message: Message, fds: Sequence[int] = ()) -> bool:
    """Send a message with duplicates of `fds`.  Never waits.  False if there is no room now, or nobody any more.

    Raises TooLong.
    """
    return send_encoded(sock, encode(message), fds)


def encode(message: Message) -> bytes:
    """What `send_encoded` sends.  Raises TooLong."""
    data = _encoder.encode(message)
    if len(data) > MAX_MESSAGE:
        raise TooLong(f"{len(data)} bytes, and {MAX_MESSAGE} are possible")
    return data


def send_encoded(sock: socket.socket, data: bytes, fds: Sequence[int] = ()) -> bool:
    """See `send`."""
    extra = [(_SOCKET, _RIGHTS, array.array("i", fds))] if fds else []
    try:
        sock.sendmsg([data], extra, _DONTWAIT)
    except (BlockingIOError, ConnectionError):
        return False
    except OSError as error:
        if error.errno in (105, 109):  # ENOBUFS, ETOOMANYREFS
            return False
        raise
    return True


class Receiver:
    """Reads messages of certain types from one socket."""

    __slots__ = ("_buffer", "_decoder", "_fds", "sock")

    def __init__(self, sock: socket.socket, kinds: object, fds: int = MAX_FDS) -> None:
        self.sock = sock
        self._decoder = msgspec.msgpack.Decoder(kinds)
        self._fds = socket.CMSG_SPACE(fds * array.array("i").itemsize)
        self._buffer = bytearray(MAX_MESSAGE)

    def next(self) -> tuple[Message, list[int]] | Literal[End.EOF] | None:
        """The next message and its descriptors, which are the caller's; None: none now; EOF: the peer is gone.

        Raises BadMessage; its descriptors are closed, and the socket can be read on.
        """
        try:
            try:
                size, extra, flags, _ = self.sock.recvmsg_into([self._buffer], self._fds, _FLAGS)
            except ConnectionResetError:  # as in `pairs.receive`
                size, extra, flags, _ = self.sock.recvmsg_into([self._buffer], self._fds, _FLAGS)
        except BlockingIOError:
            return None
        except ConnectionError:
            return EOF
        fds = array.array("i")
        for level, kind, raw in extra:
            if level == _SOCKET and kind == _RIGHTS:
                fds.frombytes(raw[: len(raw) - len(raw) % fds.itemsize])
        cut_off = flags & _CUT_OFF
        if not size and not fds and not cut_off:
            return EOF
        try:
            return self._decode(size, cut_off=bool(cut_off)), list(fds)
        except BadMessage:
            for fd in fds:
                os.close(fd)
            raise

    def _decode(self, size: int, *, cut_off: bool) -> Message:
        if cut_off:
            raise BadMessage("cut off: too long, or too many descriptors")
        try:
            message: Message = self._decoder.decode(memoryview(self._buffer)[:size])
        except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: a tag that is no UTF-8
            raise BadMessage(str(error)[:_SHOWN]) from None  # which quotes what was sent
        return message
