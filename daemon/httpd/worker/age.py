"""When a worker asks to be replaced: after so many requests, or because it has grown (`max_requests`, `max_memory`)."""

from __future__ import annotations

import os
import random

from httpd.config import schema
from httpd.system import limits

_MEMORY_CHECK = 10.0  # seconds between two looks at our own memory


class Age:
    """Of one worker; the limit on requests has some jitter, so that not all workers go at once."""

    def __init__(self, server: schema.Server) -> None:
        jitter = random.randrange(server.max_requests // 4 + 1) if server.max_requests else 0
        self._max_requests = server.max_requests + jitter
        self._max_memory = server.max_memory
        self._next_look = 0.0
        self._told = not (self._max_requests or self._max_memory)

    def reason(self, requests: int, now: float) -> str:
        """Why it is to be replaced, said once; "" otherwise.  `now` is monotonic seconds."""
        if self._told:
            return ""
        found = ""
        if self._max_requests and requests >= self._max_requests:
            found = f"max_requests ({requests} requests)"
        elif self._max_memory and now >= self._next_look:
            self._next_look = now + _MEMORY_CHECK
            memory = limits.private_memory(os.getpid())
            if memory > self._max_memory:
                found = f"max_memory ({memory} bytes)"
        self._told = bool(found)
        return found
