"""`httpd run`: a script that makes its own servers, in a worker.

    script: HTTPServer(...)         -> bind: the master's listener, the same for all workers
            serve_forever()         -> the worker's loop, until stop, shutdown() or the end of the master
            the end of the script   -> the end of the daemon

Rules:

- The script runs in the main thread, as `__main__`, and the loop in another: so the script may go on while it serves,
  its signal handlers and KeyboardInterrupt work, and servers in threads are like others.
- Servers that want the connections themselves (TLS on the listening socket, an own `get_request`, a protocol that is
  not HTTP) get them: a thread for each, as in the library.
- The signals that control the daemon are the master's.  The script's handlers for them are kept, and called at the end
  of the worker, when its requests are finished.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import os
import runpy
import signal
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from httpd.config import schema
from httpd.logs.access_log import AccessLog
from httpd.logs.errors import ErrorLog
from httpd.server import adopted
from httpd.worker.acceptor import Acceptor
from httpd.worker.context import Context
from httpd.worker.dispatch import Dispatch
from httpd.worker.hosting import host_user_code
from httpd.worker.imports import describe
from httpd.worker.listening import Place, ScriptListener, wanted
from httpd.worker.servers import Serving
from httpd.worker.shares import Share

CONTROL = frozenset((signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2))
_ANSWER = 10.0  # seconds that the master may take to bind
_CLEAN_UP = 5.0  # seconds that the script has behind its last request
_AGAIN = 0.1  # seconds behind which it is interrupted again, where that has not come through
_POLLED = 1.0  # seconds behind the first look at a listener in which a script may still fail to serve
EXIT_SCRIPT, EXIT_FAILED = 1, 70


class ScriptHost:
    """Drives the servers of a script (`adopted.Host`).  `tell` sends the master a message."""

    def __init__(
        self, script: schema.Script, given: list[tuple[schema.Address, list[socket.socket]]], errors: ErrorLog,
        tell: Callable[[dict[str, object]], None], make: Callable[[Any, list[Any]], Serving],
        flush: Callable[[], None],
    ) -> None:  # fmt: skip
        """`given`: listeners that take the place of the script's first; `make(server, listeners)` gets a server
        served; `flush` has the error log written."""
        self._script = script
        self._given = given
        self._errors = errors
        self._tell = tell
        self._make = make
        self._flush = flush
        self._ordinal = 0
        self._asks: dict[int, tuple[threading.Event, list[Any]]] = {}
        self._binding = threading.Lock()
        self._places: dict[tuple[str, int], Place] = {}  # by what was asked for, with the port that 0 became
        self._open: dict[Any, Place] = {}
        self._bound: dict[Any, list[tuple[schema.Address, ScriptListener]]] = {}
        self._serving: dict[Any, Serving] = {}
        self._handlers: dict[int, Any] = {}
        self._ready = False
        self._timer: threading.Timer | None = None  # until it is taken to be ready
        self._ended = False  # by the master
        self._interrupted = False  # the script knows
        self.over = threading.Event()  # the script has come to its end

    # The script

    def run(self) -> None:
        """Run the script to its end; in the main thread.  Tells the master how it ended."""
        script = self._script
        self._keep_signals()
        atexit._clear()  # what the master has registered is its own
        with contextlib.suppress(OSError):
            os.chdir(script.folder)
        sys.argv = [script.path, *script.arguments]
        sys.path[0:1] = [os.path.dirname(script.path)]
        code, reason = 0, ""
        try:
            runpy.run_path(script.path, run_name="__main__")
        except SystemExit as error:
            code, reason = _exit_code(error)
        except KeyboardInterrupt:
            reason = "KeyboardInterrupt"
        except BaseException as error:
            code, reason = EXIT_SCRIPT, describe(error)
            self._errors.error("the script raised", script=script.path, exception=error)
        self._outlast_threads()
        self._finish(code, reason)

    def _outlast_threads(self) -> None:
        """The interpreter ends behind the last thread that is no daemon; atexit comes then."""
        me = threading.current_thread()
        try:
            for thread in threading.enumerate():
                if not thread.daemon and thread is not me:
                    thread.join()
        except KeyboardInterrupt:
            pass
        atexit._run_exitfuncs()

    def _finish(self, code: int, reason: str) -> None:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
        self.over.set()
        if self._ended:
            return
        if not self._ready:
            why = f": {reason}" if reason else ""
            reason = f"{self._script.path} ended without serving{why} (exit code {code})"
            self._tell({"event": "failed", "reason": reason})
            self._flush()
            os._exit(EXIT_FAILED)
        else:
            self._tell({"event": "finished", "code": code})
            for serving in list(self._serving.values()):
                serving.hang_up()

    def _keep_signals(self) -> None:
        """Let the script set handlers for the master's signals, and call them at the end."""
        theirs, kept = signal.signal, self._handlers
        before = dict.fromkeys(CONTROL, signal.SIG_DFL) | {signal.SIGINT: signal.default_int_handler}
        asked = signal.getsignal

        def set_handler(number: int, handler: Any) -> Any:
            if number not in CONTROL:
                return theirs(number, handler)
            old = kept.get(number, before[number])  # type: ignore[index]
            kept[number] = handler
            return old

        theirs(signal.SIGINT, self._on_end)
        signal.signal = set_handler  # type: ignore[assignment]
        signal.getsignal = lambda number: kept.get(number, before[number]) if number in CONTROL else asked(number)  # type: ignore[assignment,index]

    def _on_end(self, number: int, frame: Any) -> None:
        """SIGINT in the main thread: from `end`; from a terminal it is meant for the master."""
        if not self._ended or self._interrupted:
            return
        self._interrupted = True
        for name in (signal.SIGTERM, signal.SIGINT):
            handler = self._handlers.get(name)
            if callable(handler) and handler is not signal.default_int_handler:
                try:
                    handler(name, frame)
                finally:
                    self._stop_all()
                return
        raise KeyboardInterrupt

    def end(self) -> None:
        """The worker ends, its requests are finished: have the script clean up.  Called by the loop's thread."""
        self._ended = True
        main = threading.main_thread()
        for serving in list(self._serving.values()):
            if serving.thread is not main:
                serving.stop.set()
        until = time.monotonic() + _CLEAN_UP
        while not self.over.is_set() and time.monotonic() < until:
            # One that comes right before a call which waits is noted, and does not end that call.
            if not self._interrupted:
                signal.pthread_kill(main.ident or 0, signal.SIGINT)
            self.over.wait(min(_AGAIN, max(0.0, until - time.monotonic())))
        if not self.over.is_set():
            self._errors.warning("the script goes on behind its last request: cut off", seconds=_CLEAN_UP)

    def _stop_all(self) -> None:
        for serving in list(self._serving.values()):
            serving.stop.set()

    def stand_by(self) -> None:
        """The next generation takes the connections."""
        for serving in list(self._serving.values()):
            serving.stand_by()

    def resume(self) -> None:
        """It has failed: this one serves again."""
        for serving in list(self._serving.values()):
            serving.resume()

    def finish_threads(self, until: float) -> None:
        """Wait for the requests of servers that have threads of their own."""
        for serving in list(self._serving.values()):
            serving.finish(until)

    # What the script's servers ask for

    def bind(self, server: socketserver.TCPServer) -> None:
        with self._binding:
            host, port, both = wanted(server)
            known = self._places.get((host, port))
            if known is not None and any(place is known for place in self._open.values()):
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
            place = known or Place(self._ordinal, host, port, both)  # one that was closed is taken up again
            if place.ordinal == 0 and self._given:
                found = [(address, ScriptListener(fileno=os.dup(sock.fileno()))) for address, sockets in self._given
                         for sock in sockets]  # fmt: skip
            else:
                found = self._ask(place)
            sock = found[0][1]
            name = sock.getsockname()
            if known is None:
                self._ordinal += 1
                self._places[host, port or name[1]] = place
            self._open[server] = place
            self._bound[server] = found
        sock.polled = functools.partial(self._polled, server)
        server.socket.close()
        server.socket = sock
        server.server_address = name if isinstance(name, tuple) else (name, 0)

    def _ask(self, place: Place) -> list[tuple[schema.Address, ScriptListener]]:
        event, answer = threading.Event(), []  # type: ignore[var-annotated]
        self._asks[place.ordinal] = (event, answer)
        self._tell({"event": "bind", "ask": place.ordinal, "ordinal": place.ordinal, "host": place.host,
                    "port": place.port, "both": place.both})  # fmt: skip
        if not event.wait(_ANSWER):
            raise TimeoutError(errno.ETIMEDOUT, "the master does not bind")
        message, fds = answer
        if "errno" in message:
            raise OSError(int(message["errno"]), os.strerror(int(message["errno"])), str(message.get("reason")))
        address = schema.Address(str(message["address"]), host=place.host, port=place.port)
        return [(address, ScriptListener(fileno=fd)) for fd in fds]

    def bound(self, message: Mapping[str, object], fds: list[int]) -> None:
        """The master's answer; on the loop."""
        waiting = self._asks.pop(int(str(message["ask"])), None)
        if waiting is None:
            for fd in fds:
                os.close(fd)
            return
        waiting[1][:] = [message, fds]
        waiting[0].set()

    def _served(self, server: socketserver.TCPServer) -> Serving:
        serving = self._serving.get(server)
        if serving is None:
            if server not in self._bound:
                raise OSError(errno.EINVAL, "the server has no address: server_bind was not called")
            serving = self._serving[server] = self._make(server, self._bound[server])
        if self._script.certificate:
            serving.speak_tls(self._script.certificate, self._script.key)
        return serving

    def serve_forever(self, server: socketserver.TCPServer, poll_interval: float) -> None:
        """Serve until `shutdown`, or the end."""
        serving = self._served(server)
        serving.begin(forever=True)
        self._get_ready()
        serving.wait(poll_interval)

    def handle_request(self, server: socketserver.TCPServer) -> None:
        """Serve one request, or none within `server.timeout` seconds."""
        serving = self._served(server)
        serving.begin(forever=False)
        self._get_ready()
        serving.handle_one()

    def _polled(self, server: socketserver.TCPServer) -> int:
        """The script asks for a descriptor: it may be going to wait for somebody to come, before `handle_request`."""
        if not self._ready and self._timer is None:
            self._timer = threading.Timer(_POLLED, self._get_ready)
            self._timer.daemon = True
            self._timer.start()
        serving = self._serving.get(server)
        return -1 if serving is None else serving.polled

    def _get_ready(self) -> None:
        if not self._ready and not self.over.is_set():
            self._ready = True
            self._tell({"event": "ready", "pid": os.getpid()})

    def shutdown(self, server: socketserver.TCPServer) -> None:
        """Have `serve_forever` return; wait for it, unless it is one of its own handlers that asks."""
        serving = self._serving.get(server)
        if serving is not None:
            serving.shut_down()

    def close(self, server: socketserver.TCPServer) -> None:
        """The script does not listen there any more."""
        serving = self._serving.pop(server, None)
        if serving is not None:
            serving.shut_down()
            serving.close()
        self._open.pop(server, None)
        for _, sock in self._bound.pop(server, ()):
            if sock is not server.socket:
                sock.close()
        server.socket.close()


def host_script(
    script: schema.Script, context: Context, config: schema.Config,
    given: list[tuple[schema.Address, list[socket.socket]]], share: Share, acceptors: list[Acceptor],
    log: AccessLog | None, tell: Callable[[dict[str, object]], None], flush: Callable[[], None],
) -> ScriptHost:  # fmt: skip
    """What runs a script in this worker."""
    host_user_code(context.errors, own_stderr=True)
    dispatch = Dispatch(context, config.server.threads, config.timeouts.handler)
    context.dispatch = dispatch

    def make(server: Any, listeners: list[Any]) -> Serving:
        return Serving(server, listeners, context, dispatch, share, acceptors, log, config)

    # What other workers have asked for meanwhile is among them, and this one will ask for it, too.
    named = [(address, sockets) for address, sockets in given if address in config.server.listen]
    for sock in (sock for address, sockets in given if address not in config.server.listen for sock in sockets):
        sock.close()
    host = ScriptHost(script, named, context.errors, tell, make, flush)
    adopted.install(host)
    return host


def _exit_code(error: SystemExit) -> tuple[int, str]:
    """As the interpreter ends by it."""
    if error.code is None:
        return 0, ""
    if isinstance(error.code, int):
        return error.code & 0xFF, ""
    return 1, str(error.code)
