"""`reopen`: every process of every generation writes to new log files, and says so.

Rules: the master opens the files (only it may), all of them or none; workers get descriptors and confirm when their
last line has gone into the old file.
"""

from __future__ import annotations

from httpd.control.wire import DONE, REFUSED, Outcome
from httpd.logs.errors import ErrorLog
from httpd.logs.targets import Kind, Target
from httpd.master.children import Child, State
from httpd.master.crew import Crew
from httpd.master.generations import Generation, close_targets, open_targets
from httpd.system import pairs

_FDS = 60  # descriptors in one message
_WRITING = (State.STARTING, State.SERVING, State.STANDBY, State.DRAINING)


def reopen(crew: Crew, errors: ErrorLog) -> Outcome | None:
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


def confirmed(crew: Crew) -> Outcome | None:
    """The outcome when every worker has confirmed."""
    waiting = [
        child.pid for generation in crew.generations for child in generation.children
        if child.reopening and child.state in _WRITING
    ]  # fmt: skip
    return None if waiting else Outcome(DONE, "log files reopened")
