"""`reopen`: every process of every generation writes to new log files, and says so.

    asked -> a child touches the folders -> the files are opened -> sent to the workers -> confirmed by all

Rules:

- The master opens the files (only it may), all of them or none.  A child has made sure that their folders answer: on a
  dead network mount it hangs instead of the master.
- Workers get descriptors and confirm when their last line has gone into the old file.
- Who asks while this is under way is answered together with the others.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

from httpd.control.commands import Reply
from httpd.control.wire import DONE, REFUSED, Outcome
from httpd.logs.errors import ErrorLog
from httpd.logs.targets import Kind, Target
from httpd.master.children import Child, State
from httpd.master.crew import Crew
from httpd.master.generations import Generation, close_targets, open_targets
from httpd.master.transition import CheckProcess
from httpd.master.waits import Waits
from httpd.system import pairs
from httpd.system.poller import Poller
from httpd.worker import checker

_FDS = 60  # descriptors in one message
_TOUCH_SECONDS = 5.0
_CONFIRM_SECONDS = 10.0
_WRITING = (State.STARTING, State.SERVING, State.STANDBY, State.DRAINING)
_NEVER = float("inf")


class Reopening:
    """Of one master's log files.  `reopened` is called when new ones are open."""

    def __init__(
        self, crew: Crew, errors: ErrorLog, poller: Poller, handlers: dict[int, Callable[[int], None]], waits: Waits,
        reopened: Callable[[], None],
    ) -> None:  # fmt: skip
        self._crew = crew
        self._errors = errors
        self._poller = poller
        self._handlers = handlers
        self._waits = waits
        self._reopened = reopened
        self._touch: CheckProcess | None = None
        self._replies: list[Reply] = []

    @property
    def deadline(self) -> float:
        """When `expire` has something to do (monotonic seconds)."""
        return _NEVER if self._touch is None else self._touch.deadline

    def expire(self, now: float) -> None:
        """Give up folders that do not answer."""
        if self._touch is not None and now >= self._touch.deadline:
            self._touch.cancel()
            self._end(Outcome(REFUSED, "a folder of the log files does not answer; the old log files stay in use"))

    def ask(self, reply: Reply) -> None:
        """Reopen; `reply` gets the outcome."""
        self._replies.append(reply)
        if self._touch is not None:
            return
        touch = functools.partial(checker.touch_logs, [generation.config for generation in self._crew.generations])
        try:
            self._touch = CheckProcess(
                touch, self._poller, self._handlers, lambda _: self._on_touched(), self._crew.strays, _TOUCH_SECONDS
            )
        except OSError as error:
            self._end(Outcome(REFUSED, f"cannot look for the log files: {error.strerror}; the old ones stay in use"))

    def _on_touched(self) -> None:
        refusal = _open_all(self._crew, self._errors)
        if refusal is None:
            self._errors.info("logs reopened")
            self._reopened()
        self._end(refusal)

    def _end(self, refusal: Outcome | None) -> None:
        self._touch = None
        replies, self._replies = self._replies, []
        if refusal is not None:
            self._errors.error("logs not reopened", reason=refusal.text)
        for reply in replies:
            if refusal is not None:
                reply(refusal)
            else:
                self._waits.add(lambda: _confirmed(self._crew), reply, time.monotonic() + _CONFIRM_SECONDS)


def _open_all(crew: Crew, errors: ErrorLog) -> Outcome | None:
    """Open the files of all generations anew and send them to the workers; an Outcome when that is refused."""
    opened: list[tuple[Generation, dict[str, Target], Target]] = []
    for generation in crew.generations:
        try:
            opened.append((generation, *open_targets(generation.config)))
        except OSError as error:
            for _, targets, target in opened:
                close_targets((*targets.values(), target))
            return Outcome(REFUSED, f"{error.filename}: {error.strerror}; the old log files stay in use")
    for generation, targets, target in opened:
        generation.close()
        generation.targets, generation.errors = targets, target
        for child in generation.children:
            if child.state in _WRITING:
                _send(child, targets, target, errors)
    return None


def _send(child: Child, targets: dict[str, Target], errors_target: Target, errors: ErrorLog) -> None:
    files = [(f"access:{name}", target.fd) for name, target in targets.items() if target.kind is Kind.DESCRIPTOR]
    if errors_target.kind is Kind.DESCRIPTOR:
        files.append(("error", errors_target.fd))
    for start in range(0, len(files), _FDS):
        names, fds = zip(*files[start : start + _FDS], strict=True)
        if pairs.send(child.channel, {"do": "reopen", "targets": list(names)}, fds):
            child.reopening += 1
        elif child.state is State.SERVING:  # others may just have gone
            errors.error("worker can't be told of new log files", worker=child.pid)


def _confirmed(crew: Crew) -> Outcome | None:
    """The outcome when every worker has confirmed."""
    waiting = [
        child.pid for generation in crew.generations for child in generation.children
        if child.reopening and child.state in _WRITING
    ]  # fmt: skip
    return None if waiting else Outcome(DONE, "log files reopened")
