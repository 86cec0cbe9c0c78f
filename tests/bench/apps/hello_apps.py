"""The hello of `make bench` as ASGI and WSGI applications."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import Any

BODY = b"Hello, world!\n"
_FIELDS = [("Content-Type", "text/plain"), ("Content-Length", str(len(BODY)))]
_RAW = [(name.encode().lower(), value.encode()) for name, value in _FIELDS]


async def asgi(
    scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]
) -> None:
    """For uvicorn."""
    if scope["type"] != "http":
        return
    cookie = next((value for name, value in scope["headers"] if name == b"cookie"), None)
    seen = (scope["path"], scope["query_string"], cookie, scope["client"])
    assert seen[3]
    await send({"type": "http.response.start", "status": 200, "headers": _RAW})
    await send({"type": "http.response.body", "body": BODY})


def wsgi(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """For gunicorn and granian."""
    seen = (environ["PATH_INFO"], environ["QUERY_STRING"], environ.get("HTTP_COOKIE"), environ["REMOTE_ADDR"])
    assert seen[3]
    start_response("200 OK", _FIELDS)
    return [BODY]
