"""WhiteNoise over the folder BENCH_SITE, as a WSGI application."""

import os
from collections.abc import Callable, Iterable
from typing import Any

from whitenoise import WhiteNoise


def not_found(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """What is no file."""
    start_response("404 Not Found", [("Content-Length", "0")])
    return []


application = WhiteNoise(not_found, root=os.environ["BENCH_SITE"])
