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
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from httpd.config import schema
from httpd.content.sites import build
from httpd.system import detach, limits, pairs, privileges, signals
from httpd.system.poller import EDGE, IN, make_poller
from httpd.system.title import set_title
from httpd.worker.acceptor import Acceptor
from httpd.worker.age import Age
from httpd.worker.context import Context
from httpd.worker.doors import Scripts
from httpd.worker.hosting import Hosting
from httpd.worker.imports import LoadError
from httpd.worker.logs import Logs
from httpd.worker.loop import Loop
from httpd.worker.order import Order, keep_only
from httpd.worker.probe import Probe
from httpd.worker.shares import Share

if TYPE_CHECKING:
    from httpd.worker.script import ScriptHost

IGNORED_SIGNALS = ("HUP", "USR1", "USR2", "TTIN", "TTOU", "WINCH", "INT", "QUIT")
EXIT_OK, EXIT_BOOT = 0, 70
_SPARE_FDS = 64  # beside the connections: listeners, logs, files on their way
_FDS_PER_CONNECTION = 2  # the socket, and a file that is being sent
_FDS_PER_RUN = 4  # of a script: its output, its stderr, its body
_ANSWER = 5.0  # seconds that the master has to answer
_SCRIPTS = 1.0  # ... that handlers' scripts have to obey at the end, before they are killed


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
        keep_only(order)
        faulthandler.enable(order.dump)  # also for SIGABRT, which the master sends to a worker that hangs
        if order.detached:
            detach.null_stdio()
        code = _Worker(order).run()
    except Exception as error:
        reason = str(error) if isinstance(error, LoadError) else f"{type(error).__name__}: {error}"
        pairs.send(order.channel, {"event": "failed", "reason": reason[:2000]})
    finally:
        # Nothing of the master's (buffers, atexit, threads of the log) may run or be flushed in here.
        os._exit(code)


class _Worker:
    def __init__(self, order: Order) -> None:
        config = order.config
        self._order = order
        mounts = [mount for vhost in config.vhosts for mount in vhost.mounts if isinstance(mount, schema.Cgi)]
        runs = sum(2 * mount.concurrency + mount.queue for mount in mounts)  # see cgi.waiting
        wanted = config.limits.connections * _FDS_PER_CONNECTION + runs * _FDS_PER_RUN + _SPARE_FDS
        limits.raise_nofile(wanted)
        self._wakeup = signals.Wakeup()
        self._wakeup.install(("TERM", "ALRM"))
        self._leaving = False  # told by TERM to end
        name = f"worker {order.slot} gen {order.generation}"
        self._logs = Logs(config.log, order.errors, name, lambda: self._tell({"event": "reopened"}))
        self._errors = self._logs.errors
        if order.identity is not None:
            privileges.drop(order.identity)
        self._logs.open(order.targets)
        self._context = context = Context(config, make_poller(), self._errors, self._listener_lost)
        self._logs.make_access_logs(context.dirty)
        context.log = self._logs.main
        self._acceptors = self._make_acceptors()
        presence = order.scoreboard.presence(order.board)
        self._loop = Loop(context, self._acceptors, self._report, presence, self._rouse)
        self._watch(order.channel.fileno(), self._on_channel)
        self._watch(self._wakeup.fd, self._on_signal)
        self._age = Age(config.server)
        self._script = None if config.script is None else self._make_script(config.script)
        if context.dispatch is not None:
            os.register_at_fork(after_in_child=self._leave_to_parent)
            bell = context.dispatch.bell
            context.watch(bell.fd, bell.mask, 0, lambda mask: bell.hear())

    def _leave_to_parent(self) -> None:
        """A handler has forked: what this process is told by, and listens on, is not the child's."""
        for acceptor in self._acceptors:
            acceptor.sock.close()
        self._order.channel.close()
        if isinstance(self._context.scripts, Scripts):
            self._context.scripts.close_in_child()

    def _make_acceptors(self) -> list[Acceptor]:
        order = self._order
        if order.config.script is not None:
            return []  # it brings its own
        hosting = Hosting(self._context, order.config, order.listeners, self._run_scripts)
        tables = build(order.config, hosting.kinds, self._logs.of)
        hosting.check()
        share = Share(order.shares, order.slot)
        return [
            Acceptor(self._context, sock, address, tables[address.text], share)
            for address, socks in self._order.listeners
            for sock in socks
        ]

    def _run_scripts(self) -> None:
        if self._context.scripts is None:
            self._context.scripts = Scripts(self._context, self._order.launcher, self._launcher_news)

    def _launcher_news(self, what: str) -> None:
        self._tell({"event": "launcher", "what": what})

    def _make_script(self, script: schema.Script) -> ScriptHost:
        from httpd.worker.script import host_script

        order = self._order
        return host_script(script, self._context, order.config, order.listeners, Share(order.shares, order.slot),
                           self._acceptors, self._logs.main, self._tell, self._logs.flush_errors)  # fmt: skip

    def _watch(self, fd: int, handler: Callable[[int], None]) -> None:
        self._context.watch(fd, IN, 0, handler)

    def run(self) -> int:
        """Serve until told to end; return the exit status."""
        if self._order.shares.bell >= 0:
            self._context.watch(self._order.shares.bell, IN | EDGE, 0, self._on_bell)
        dispatch = self._context.dispatch
        if self._script is not None and dispatch is not None:
            threading.Thread(target=dispatch.lead, args=(self._lead,), name="loop", daemon=True).start()
            self._script.run()
            threading.Event().wait()  # the loop's thread ends the process
        self._begin_to_accept()
        self._tell({"event": "ready", "pid": os.getpid()})
        if dispatch is None:
            self._loop.run()
            self._end()
        else:
            dispatch.lead(self._lead)
        return EXIT_OK

    def _lead(self) -> bool:
        """Run the loop until this thread is relieved of it, or to the worker's end, whichever thread it is in then."""
        code = EXIT_BOOT
        try:
            if not self._loop.run():
                return False
            self._end()
            code = EXIT_OK
        except Exception as error:
            self._errors.error("defect in the loop", exception=error)
            self._logs.flush_errors()
        os._exit(code)

    def _end(self) -> None:
        """Let go of what is open, and have the logs written."""
        if self._script is not None:
            self._script.finish_threads(time.monotonic() + self._order.config.timeouts.drain)
            if self._context.dispatch is not None:
                self._context.dispatch.close()
            self._script.end()
        cut = self._loop.close_all()
        if cut:
            self._errors.notice("time is over: requests were cut off", connections=cut)
        scripts: Any = sys.modules.get("httpd.server.run_process")
        if scripts is not None:  # a handler has run some, as CGIHTTPRequestHandler does
            scripts.end_all(_SCRIPTS)
        self._logs.finish()

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
                self._tell({"event": "probed", "refusal": f"the worker can't be asked: {error}"})  # if that was it
                continue
            if received is None:
                return
            if received is pairs.EOF:
                self._context.forget(self._order.channel.fileno())
                self._errors.warning("the master is gone: finishing requests")
                everything = [acceptor.address.text for acceptor in self._acceptors]
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
            case {"do": "bound"} if self._script is not None:
                self._script.bound(message, fds)
            case {"do": "launcher" | "cgi-test"} if len(fds) == 1 and isinstance(self._context.scripts, Scripts):
                self._obey_for_scripts(self._context.scripts, message, fds[0])
            case {"do": "standby", "keep": list() as keep}:
                self._stand_by(frozenset(str(text) for text in keep))
            case {"do": "resume"}:
                self._resume()
            case {"do": "beat"}:
                pass  # to have been awake is the answer: it stands on the scoreboard in a moment
            case {"do": "stop"}:
                self._loop.stop()
            case {"do": "reopen", "targets": list() as specs} if len(specs) == len(fds):
                self._loop.hand_on_logs()
                self._logs.reopen([str(spec) for spec in specs], fds)
            case _:
                for fd in fds:
                    os.close(fd)
                self._errors.error("unknown message from the master", message=str(message))

    def _obey_for_scripts(self, scripts: Scripts, message: Mapping[str, object], fd: int) -> None:
        match message:
            case {"do": "launcher"}:
                scripts.adopt(socket.socket(fileno=fd))
            case {"do": "cgi-test", "ask": int() as ask, "url": str() as url, "method": str() as method}:
                self._probe(scripts, ask, url, method, fd)

    def _probe(self, scripts: Scripts, ask: int, url: str, method: str, body: int) -> None:
        probe = Probe(scripts, lambda report: self._tell({"event": "probed", "ask": ask, "report": report}))
        tables = [(acceptor.address, acceptor.port, acceptor.tables) for acceptor in self._acceptors]
        refusal = probe.begin(tables, url, method, body)
        if refusal:
            self._tell({"event": "probed", "ask": ask, "refusal": refusal[:1000]})

    def _stand_by(self, keep: frozenset[str]) -> None:
        self._order.shares.leave(self._order.slot)
        self._loop.stand_by(keep)
        if self._script is not None:
            self._script.stand_by()
        self._tell({"event": "standing"})

    def _resume(self) -> None:
        self._loop.resume()
        if self._script is not None:
            self._script.resume()
        self._begin_to_accept()

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
        scripts = 0 if context.scripts is None else len(context.scripts.active)
        figures = (context.requests, len(context.connections), context.accepted, self._logs.dropped,
                   int(context.now * 1e9), scripts)  # fmt: skip
        self._order.scoreboard.write(self._order.board, figures)
        if not context.draining:
            self._order.shares.note(self._order.slot, len(context.connections))
        reason = self._age.reason(context.requests, context.now)
        if reason:
            self._tell({"event": "recycle", "reason": reason})

    def _rouse(self) -> None:
        self._tell({"event": "awake"})

    def _listener_lost(self) -> None:
        self._tell({"event": "listener"})
