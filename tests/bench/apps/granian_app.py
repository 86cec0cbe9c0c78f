"""What granian asks for what is no file.  The files are served by granian itself."""

from collections.abc import Callable, Iterable
from typing import Any


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """What is no file."""
    start_response("404 Not Found", [("Content-Length", "0")])
    return []
