"""A connection whose requests scripts may answer (`[[vhost.cgi]]`): from the head to the run, and a local redirect.

Rules:

- A script is started when its whole request is there: a slow upload runs nothing, and CONTENT_LENGTH is always known.
- It reads its body from a file or from a full pipe, never from the client: so it can read it late, in part, or not at
  all, and nobody waits for it.
- The client's end, not that of its sending, ends the script: who has shut down one direction still wants the answer.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from httpd import __version__
from httpd.cgi import meta
from httpd.cgi.lookup import Found
from httpd.protocol.messages import Request
from httpd.protocol.receiver import Phase
from httpd.server.exchange import Exchange
from httpd.system.poller import IN
from httpd.worker.answering import discard
from httpd.worker.calls import CallMount
from httpd.worker.doors import Scripts
from httpd.worker.handling import HandlingConnection
from httpd.worker.runs import ScriptRun
from httpd.worker.script_mount import ScriptMount
from httpd.worker.script_stdin import body_in, reopened

_SOFTWARE = b"httpd/" + __version__.encode()
_REDIRECTS = 10  # local ones for one request
_NOT_PASSED_ON = (b"content-length", b"content-type", b"transfer-encoding", b"expect")


def facts_for(mount: ScriptMount, found: Found, client: tuple[bytes, int], address: tuple[str, int]) -> meta.Facts:
    """What all requests of a connection for one script share; `client` and `address`, ours, are addresses and ports."""
    script = mount.mount
    name = f"[{address[0]}]" if ":" in address[0] else address[0]
    return meta.Facts(
        found.name, found.info, found.file, os.fsencode(script.document_root),
        context_prefix=mount.prefix, context_root=os.fsencode(script.folder),
        remote_addr=client[0], remote_port=client[1],
        server_addr=address[0].encode(), server_name=name.encode(), server_port=address[1], software=_SOFTWARE,
        authorization=script.pass_authorization,
    )  # fmt: skip


class ScriptExchange(Exchange):
    """One request for a script.  Everything happens on the loop."""

    run: ScriptRun | None = None  # type: ignore[assignment]  # no thread calls it

    def __init__(self, scripts: Scripts, mount: ScriptMount, request: Request) -> None:
        super().__init__(scripts, mount, b"", 0, request.line, "")
        self.request = request
        self.command = request.method.decode("latin-1")
        self.minor = request.minor

    def wait_for_room(self, high: int) -> None:
        """Nothing waits on the loop: who reads the script's output stops in time."""

    def lose(self) -> None:
        super().lose()
        if self.run is not None:
            self.run.lost()


class ScriptingConnection(HandlingConnection):
    """The way to a script."""

    __slots__ = ("_facts", "_facts_of", "_found")

    _found: Found | None
    _facts: meta.Facts  # what is known of its script

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._facts_of: Found | None = None  # the script that was asked for last

    def _handler_for(self, request: Request) -> CallMount | None:
        mount = super()._handler_for(request)
        if not isinstance(mount, ScriptMount):
            return mount
        if not request.path.startswith(b"/"):  # CONNECT, OPTIONS *
            return None
        if mount.lookup.mixed:  # it is not to be found in the place of a file
            self._tables.find(request.host).handlers.pop(request.path, None)
        self._found = mount.script_for(request, self._context.now)
        return mount if mount.refuses(request.method) or self._found is not None else None

    def _serve_by(self, request: Request, mount: CallMount) -> bool:
        if not isinstance(mount, ScriptMount):
            return super()._serve_by(request, mount)
        self._begin(request)
        found, self._found = self._found, None
        if mount.refuses(request.method) or found is None:
            return self._refuse_for(request, mount, 405 if found is not None else 404)
        return self._run_script(request, mount, found)

    def _run_script(self, request: Request, mount: ScriptMount, found: Found) -> bool:
        scripts = self._context.scripts
        assert isinstance(scripts, Scripts)
        exchange = ScriptExchange(scripts, mount, request)
        stdin = scripts.null
        try:
            if self._facts_of is not found:
                client = (self._client, self._peer[1] if len(self._peer) > 1 else 0)
                self._facts = facts_for(mount, found, client, self._local_address())
                self._facts_of = found
            stdin, self._facts.length = self._stdin(request, scripts)
            environment, words = meta.variables(request, self._facts), meta.words(request.method, request.query)
            run = ScriptRun(scripts, mount, found, exchange, environment, words, stdin)
        except OSError as error:
            if stdin != scripts.null:
                os.close(stdin)
            self._context.errors.limited("script", 10).error("a script can't be run", script=found.file,
                                                             reason=error.strerror)  # fmt: skip
            return self._refuse_for(request, mount, 503)
        exchange.run = run
        exchange.keep_alive = not self._close
        self._expect(exchange)
        if self._mask != IN:
            self._wait(IN, self.on_input)
        scripts.begin(run)
        return False

    def _local_address(self) -> tuple[str, int]:
        """Ours.  Raises OSError."""
        asked = socket.socket(fileno=self._fd)
        try:
            name = asked.getsockname()
        finally:
            asked.detach()
        return (name[0], self._port) if isinstance(name, tuple) else ("", 80)

    def _stdin(self, request: Request, scripts: Scripts) -> tuple[int, int | None]:
        """What the script reads its body from, and the body's length; None: it has none."""
        store, self._store = self._store, None
        if store is None:
            none = b"content-length" not in request.fields and b"transfer-encoding" not in request.fields
            return scripts.null, None if none else 0
        _, body, file, _ = store.finish()
        if file is None:
            return body_in(body), store.size
        with file:
            file.flush()
            return reopened(file.fileno()), store.size

    def redirect(self, exchange: ScriptExchange, target: bytes) -> None:
        """A local redirect (RFC 3875 6.2.2): answer as if the client had asked for `target`."""
        self._exchange = None
        discard(exchange.wfile)
        request: Request = exchange.request
        record = self._general().record
        record.original = record.original or request.line
        count = request.count if isinstance(request, _Redirected) else 0
        if count >= _REDIRECTS:
            over = self._refuse_loop(request, exchange, target)
        else:
            self._phase = Phase.IDLE
            over = self._serve(_redirected(request, target, count + 1))
        if over:
            self._ready_for_next()

    def _refuse_loop(self, request: Request, exchange: ScriptExchange, target: bytes) -> bool:
        scripts = self._context.scripts
        assert isinstance(scripts, Scripts)
        name = scripts.new_id()
        self._context.errors.limited(f"loop {exchange.mount.key}", 10).error(
            f"script failed: more than {_REDIRECTS} local redirects in a row", mount=exchange.mount.key,
            request=self._general().record.original, status=502, id=name, target=target,
        )  # fmt: skip
        return self._refuse_for(request, exchange.mount, 502, name)


class _Redirected(Request):
    """A request that a script has made of the client's; `count`: how many did so before."""

    __slots__ = ("count",)

    count: int


def _redirected(request: Request, target: bytes, count: int) -> _Redirected:
    made = _Redirected()
    made.count = count
    for name in Request.__slots__:
        setattr(made, name, getattr(request, name))
    made.method = b"HEAD" if request.method == b"HEAD" else b"GET"
    made.target = target
    path, mark, query = target.partition(b"?")
    made.path, made.query = path, query if mark else None
    made.line = b"%b %b HTTP/1.%d" % (made.method, target, request.minor)
    made.fields = {name: value for name, value in request.fields.items() if name not in _NOT_PASSED_ON}
    made.lines = [pair for pair in request.lines if pair[0].lower() not in _NOT_PASSED_ON]
    made.length, made.expect = 0, False
    return made
