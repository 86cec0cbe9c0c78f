"""The life of a worker process, from the fork to its exit.

    close what is not ours -> privileges -> sites and loop -> READY -> serve -> drain -> exit

Rules:

- Called in the child right after the fork and never returns.
- It serves nothing before it has given up root and made sure of it.
- The master speaks over the channel, which is watched by the same poller as the clients.  Its end means that the master
  is gone: stop accepting, finish the requests, exit.
- TERM from outside means "drain and exit"; the other signals belong to the master and are ignored.
"""

from __future__ import annotations

import faulthandler
import gc
import os
import random
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from httpd.config import schema
from httpd.content.sites import build
from httpd.content.static import DirectoryMount, RedirectMount
from httpd.logs.access import compile_format
from httpd.logs.access_log import AccessLog
from httpd.logs.errors import ErrorLog
from httpd.logs.sink import Sink
from httpd.logs.targets import Kind, Target
from httpd.system import detach, limits, pairs, privileges, signals
from httpd.system.descriptors import close_all_but
from httpd.system.poller import EDGE, IN, make_poller
from httpd.system.title import set_title
from httpd.worker.acceptor import Acceptor
from httpd.worker.context import Context
from httpd.worker.exchange import Mount
from httpd.worker.loop import Loop
from httpd.worker.scoreboard import Scoreboard
from httpd.worker.shares import Share, Shares

IGNORED_SIGNALS = ("HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH", "INT", "QUIT")
EXIT_OK, EXIT_BOOT = 0, 70
_SPARE_FDS = 64  # beside the connections: listeners, logs, files on their way
_FDS_PER_CONNECTION = 2  # the socket, and a file that is being sent
_ANSWER = 5.0  # seconds that the master has to answer
_LOG_FLUSH = 2.0  # seconds that the last log lines may take
_MEMORY_CHECK = 10.0  # seconds between two looks at our own memory


@dataclass(slots=True)
class Order:
    """What the master hands to a worker.  Everything in here was made before the fork."""

    config: schema.Config
    identity: privileges.Identity | None
    slot: int
    generation: int
    channel: socket.socket
    listeners: list[tuple[schema.Address, list[socket.socket]]]
    targets: Mapping[str, Target]  # access logs by what the configuration calls them
    errors: Target
    scoreboard: Scoreboard
    board: int  # our place on it
    shares: Shares
    folder: int  # descriptor of an empty folder to stay in
    detached: bool  # stdin, stdout and stderr are nobody's
    dump: int  # a pipe on which the master hears of a crash


def work(order: Order) -> None:
    """Run a worker to its end.  The process exits here."""
    code = EXIT_BOOT
    # A collection would write to every object that came from the master, and so make a private copy of its memory.
    gc.freeze()
    try:
        signals.reset_dispositions()
        signals.ignore(IGNORED_SIGNALS)
        signals.ignore_others()
        set_title(f"httpd: worker {order.slot} gen {order.generation}")
        os.fchdir(order.folder)
        _keep_only(order)
        faulthandler.enable(order.dump)  # also for SIGABRT, which the master sends to a worker that hangs
        if order.detached:
            detach.null_stdio()
        code = _Worker(order).run()
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        pairs.send(order.channel, {"event": "failed", "reason": reason[:2000]})
    finally:
        # Nothing of the master's (buffers, atexit, threads of the log) may run or be flushed in here.
        os._exit(code)


def _keep_only(order: Order) -> None:
    """Close every descriptor that belongs to the master or to other workers."""
    keep = {order.channel.fileno(), order.errors.fd, order.dump}
    if order.shares.bell >= 0:
        keep.add(order.shares.bell)
    keep.update(sock.fileno() for _, socks in order.listeners for sock in socks)
    keep.update(target.fd for target in order.targets.values())
    close_all_but(keep)


class _Worker:
    def __init__(self, order: Order) -> None:
        config = order.config
        self._order = order
        limits.raise_nofile(config.limits.connections * _FDS_PER_CONNECTION + _SPARE_FDS)
        self._wakeup = signals.Wakeup()
        self._wakeup.install(("TERM", "ALRM"))
        self._leaving = False  # told by TERM to end
        tag = f"worker {order.slot} gen {order.generation} pid {os.getpid()}"
        self._error_sink = Sink(order.errors, on_recover=self._on_recover)
        self._errors = ErrorLog(self._error_sink.write, config.log.level, tag)
        if order.identity is not None:
            privileges.drop(order.identity)
        self._sinks = {
            spec: Sink(target, on_recover=self._on_recover, collect=0) for spec, target in order.targets.items()
            if target.kind is not Kind.NONE
        }  # fmt: skip
        self._context = context = Context(config, make_poller(), self._errors, self._listener_lost)
        self._form = compile_format(config.log.format)
        self._logs = {spec: AccessLog(self._form, sink.write, context.dirty) for spec, sink in self._sinks.items()}
        context.log = self._logs.get(config.log.access)
        self._acceptors = self._make_acceptors()
        presence = order.scoreboard.presence(order.board)
        self._loop = Loop(context, self._acceptors, self._report, presence, self._rouse)
        self._watch(order.channel.fileno(), self._on_channel)
        self._watch(self._wakeup.fd, self._on_signal)
        jitter = random.randrange(config.server.max_requests // 4 + 1) if config.server.max_requests else 0
        self._max_requests = config.server.max_requests + jitter
        self._next_memory_check = 0.0
        self._ages = bool(self._max_requests or config.server.max_memory)
        self._recycling = False
        self._reopening = 0
        self._reopening_lock = threading.Lock()

    def _make_acceptors(self) -> list[Acceptor]:
        kinds: dict[type[schema.Mount], Callable[[Any, AccessLog | None], Mount]] = {
            schema.Directory: self._directory,
            schema.Redirect: RedirectMount,
        }
        tables = build(self._order.config, kinds, self._log_of)
        order = self._order
        share = Share(order.shares, order.slot)
        return [
            Acceptor(self._context, sock, address, tables[address.text], share)
            for address, socks in self._order.listeners
            for sock in socks
        ]

    def _directory(self, mount: schema.Directory, log: AccessLog | None) -> DirectoryMount:
        made = DirectoryMount(mount, log)
        if made.obstacle:  # it was there when the configuration was checked; one site must not stop the others
            self._errors.error("folder is gone: its requests fail", mount=mount.key, root=mount.root,
                               reason=made.obstacle)  # fmt: skip
        return made

    def _log_of(self, settings: schema.Settings) -> AccessLog | None:
        spec = self._order.config.log.access if settings.access_log is None else settings.access_log
        return self._logs.get(spec)

    def _watch(self, fd: int, handler: Callable[[int], None]) -> None:
        self._context.watch(fd, IN, 0, handler)

    def run(self) -> int:
        """Serve until told to end; return the exit status."""
        self._begin_to_accept()
        if self._order.shares.bell >= 0:
            self._context.watch(self._order.shares.bell, IN | EDGE, 0, self._on_bell)
        self._tell({"event": "ready", "pid": os.getpid()})
        self._loop.run()
        cut = self._loop.close_all()
        if cut:
            self._errors.notice("time is over: requests were cut off", connections=cut)
        until = time.monotonic() + _LOG_FLUSH
        for spec, sink in self._sinks.items():
            if not sink.flush(until):
                self._errors.error("log lines are lost: their target took none of them to the end", target=spec,
                                   lines=sink.unwritten())  # fmt: skip
        self._error_sink.flush(time.monotonic() + _LOG_FLUSH)
        return EXIT_OK

    def _begin_to_accept(self) -> None:
        for acceptor in self._acceptors:
            acceptor.start()
        self._order.shares.note(self._order.slot, len(self._context.connections))

    def _tell(self, message: dict[str, object]) -> None:
        pairs.send(self._order.channel, message)

    # What the master says

    def _on_channel(self, mask: int) -> None:
        while True:
            try:
                received = pairs.receive(self._order.channel)
            except pairs.BadMessage as error:
                self._errors.error("bad message from the master", reason=str(error))
                continue
            if received is None:
                return
            if received is pairs.EOF:
                self._context.forget(self._order.channel.fileno())
                self._errors.warning("the master is gone: finishing requests")
                everything = [address.text for address, _ in self._order.listeners]
                self._drain(self._order.config.timeouts.drain, everything)  # nobody is left who would accept
                return
            message, fds = received
            self._obey(message, fds)

    def _obey(self, message: Mapping[str, object], fds: list[int]) -> None:
        match message:
            case {"do": "drain", "seconds": int() | float() as seconds, "empty": list() as empty, "leave": leave}:
                if leave:
                    self._order.shares.leave(self._order.slot)
                self._drain(seconds, [str(text) for text in empty])
            case {"do": "listen", "address": str() as text} if len(fds) == 1:
                self._listen_anew(text, fds[0])
            case {"do": "standby", "keep": list() as keep}:
                self._order.shares.leave(self._order.slot)
                self._loop.stand_by(frozenset(str(text) for text in keep))
                self._tell({"event": "standing"})
            case {"do": "resume"}:
                self._loop.resume()
                self._begin_to_accept()
            case {"do": "beat"}:
                pass  # to have been awake is the answer: it stands on the scoreboard in a moment
            case {"do": "stop"}:
                self._loop.stop()
            case {"do": "reopen", "targets": list() as specs} if len(specs) == len(fds):
                self._reopen(specs, fds)
            case _:
                for fd in fds:
                    os.close(fd)
                self._errors.error("unknown message from the master", message=str(message))

    def _listen_anew(self, text: str, fd: int) -> None:
        """The master has made a listener anew; what waits for the old one is not lost."""
        sock = socket.socket(fileno=fd)
        for index, old in enumerate(self._acceptors):
            if old.address.text == text:
                self._acceptors[index] = new = old.successor(sock)
                if not self._context.draining:  # else it is started if the worker resumes
                    new.start()
                old.close(empty_queue=True)
                return
        sock.close()  # it drains already

    def _drain(self, seconds: float, empty: Iterable[str]) -> None:
        texts = frozenset(empty)
        if self._order.shares.bell in self._context.handlers:
            self._context.forget(self._order.shares.bell)
        self._loop.drain(seconds, lambda acceptor: acceptor.address.text in texts)
        self._tell({"event": "standing"})

    def _reopen(self, specs: list[str], fds: list[int]) -> None:
        """Swap log files; the master hears of it when all sinks have written what they held before."""
        self._loop.hand_on_logs()
        self._reopening = len(fds)
        for spec, fd in zip(specs, fds, strict=True):
            sink = self._error_sink if spec == "error" else self._sinks[spec.removeprefix("access:")]
            sink.reopen(fd, self._reopened)
        if not fds:
            self._tell({"event": "reopened"})

    def _reopened(self) -> None:
        # In the thread of some sink: the last one reports.
        with self._reopening_lock:
            self._reopening -= 1
            last = self._reopening == 0
        if last:
            self._tell({"event": "reopened"})

    def _on_bell(self, mask: int) -> None:
        for acceptor in self._acceptors:
            acceptor.look_again()

    def _on_signal(self, mask: int) -> None:
        names = self._wakeup.take()
        if "TERM" in names and not self._leaving:
            # What waits in the queues is the master's to decide about: it may be ending too, and then nobody else will
            # take it.  If it does not answer, others hold the listeners, as they did before.
            self._leaving = True
            self._errors.warning("told to end by TERM from outside: draining")
            self._tell({"event": "leaving"})
            self._loop.stand_by(frozenset())
            signal.setitimer(signal.ITIMER_REAL, _ANSWER)
        elif "ALRM" in names and self._leaving:
            self._drain(self._order.config.timeouts.drain, ())

    # What the worker says

    def _report(self) -> None:
        context = self._context
        dropped = 0
        for sink in self._sinks.values():
            dropped += sink.dropped
        figures = (context.requests, len(context.connections), context.accepted, dropped, int(context.now * 1e9))
        self._order.scoreboard.write(self._order.board, figures)
        if not context.draining:
            self._order.shares.note(self._order.slot, len(context.connections))
        if self._ages and not self._recycling:
            self._check_age()

    def _check_age(self) -> None:
        server, context = self._order.config.server, self._context
        reason = ""
        if self._max_requests and context.requests >= self._max_requests:
            reason = f"max_requests ({context.requests} requests)"
        elif server.max_memory and context.now >= self._next_memory_check:
            self._next_memory_check = context.now + _MEMORY_CHECK
            memory = limits.private_memory(os.getpid())
            if memory > server.max_memory:
                reason = f"max_memory ({memory} bytes)"
        if reason:
            self._recycling = True
            self._tell({"event": "recycle", "reason": reason})

    def _rouse(self) -> None:
        self._tell({"event": "awake"})

    def _listener_lost(self) -> None:
        self._tell({"event": "listener"})

    def _on_recover(self, lines: int) -> None:
        self._errors.warning("log lines were lost", lines=lines)
