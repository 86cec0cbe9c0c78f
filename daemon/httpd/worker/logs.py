"""The logs of a worker: the error log, an access log for each target, and new files for them when they were rotated.

Rules:

- The error log is there before privileges are given up, so that whatever fails behind that is written down.
- The master hears that files were reopened when all sinks have written what they held before.
- What no target has taken by the end is counted in the error log.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from httpd.config import schema
from httpd.logs.access import compile_format
from httpd.logs.access_log import AccessLog
from httpd.logs.errors import ErrorLog
from httpd.logs.sink import Sink
from httpd.logs.targets import Kind, Target

_FLUSH = 2.0  # seconds that the last log lines may take


class Logs:
    """All of one worker."""

    def __init__(self, log: schema.Log, errors: Target, name: str, reopened: Callable[[], None]) -> None:
        """`name` is who writes here; `reopened` is called when new files are in use, in whatever thread."""
        self._log = log
        self._reopened = reopened
        self._error_sink = Sink(errors, on_recover=self._on_recover)
        self.errors = ErrorLog(self._error_sink.write, log.level, f"{name} pid {os.getpid()}")
        self._sinks: dict[str, Sink] = {}
        self._access: dict[str, AccessLog] = {}
        self._reopening = 0
        self._lock = threading.Lock()

    def open(self, targets: Mapping[str, Target]) -> None:
        """Have sinks for access logs; they are threads that have the privileges of this moment."""
        self._sinks = {
            spec: Sink(target, on_recover=self._on_recover, collect=0) for spec, target in targets.items()
            if target.kind is not Kind.NONE
        }  # fmt: skip

    def make_access_logs(self, dirty: list[AccessLog]) -> None:
        """`dirty` is where a log with something to hand on enters itself."""
        form = compile_format(self._log.format)
        self._access = {spec: AccessLog(form, sink.write, dirty) for spec, sink in self._sinks.items()}

    @property
    def main(self) -> AccessLog | None:
        """The access log of all that has none of its own."""
        return self._access.get(self._log.access)

    def of(self, settings: schema.Settings) -> AccessLog | None:
        """The access log of a site or mount with these settings."""
        return self.main if settings.access_log is None else self._access.get(settings.access_log)

    @property
    def dropped(self) -> int:
        """Lines of access logs that are lost."""
        return sum(sink.dropped for sink in self._sinks.values())

    def reopen(self, specs: Sequence[str], fds: Sequence[int]) -> None:
        """Swap files for `fds`, one for each of `specs`."""
        self._reopening = len(fds)
        for spec, fd in zip(specs, fds, strict=True):
            sink = self._error_sink if spec == "error" else self._sinks[spec.removeprefix("access:")]
            sink.reopen(fd, self._one_reopened)
        if not fds:
            self._reopened()

    def _one_reopened(self) -> None:
        # In the thread of some sink: the last one reports.
        with self._lock:
            self._reopening -= 1
            last = self._reopening == 0
        if last:
            self._reopened()

    def finish(self) -> None:
        """Have everything written, as far as it goes in a moment."""
        until = time.monotonic() + _FLUSH
        for spec, sink in self._sinks.items():
            if not sink.flush(until):
                self.errors.error("log lines are lost: their target took none of them to the end", target=spec,
                                  lines=sink.unwritten())  # fmt: skip
        self.flush_errors()

    def flush_errors(self) -> None:
        """Have the error log written."""
        self._error_sink.flush(time.monotonic() + _FLUSH)

    def _on_recover(self, lines: int) -> None:
        self.errors.warning("log lines were lost", lines=lines)
