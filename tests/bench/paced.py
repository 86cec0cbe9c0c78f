"""A client that asks for one file at a fixed rate, on a few connections in turn, in a process of its own.

    paced.py PORT PATH BYTES RATE SECONDS CONNECTIONS

It prints how long each request took, in milliseconds, one a line.  A request that is due while its connection still
waits for the answer before counts from when it was due: a server that stalls is not asked less for that.  What this
process itself is late counts for nobody.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator

_LIMIT = 20.0  # seconds without an answer until it is given up
_LEAD = 0.2  # seconds until the first request, to connect in


def main() -> int:
    """Ask and print; 1 when an answer is none."""
    port, path, size, rate, seconds, count = sys.argv[1:]
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    took: list[list[float]] = []
    began = time.monotonic() + _LEAD

    def connection(number: int) -> None:
        first, step = began + number / float(rate), int(count) / float(rate)
        took.append(list(_asked(int(port), request, int(size), first, step, began + float(seconds))))

    threads = [threading.Thread(target=connection, args=(number,)) for number in range(int(count))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print("\n".join(f"{one * 1e3:.3f}" for each in took for one in each))
    return 0 if len(took) == len(threads) else 1


def _asked(port: int, request: bytes, size: int, due: float, step: float, until: float) -> Iterator[float]:
    """Seconds that each request of one connection took."""
    with socket.create_connection(("127.0.0.1", port), _LIMIT) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while due < until:
            late = time.monotonic() > due
            if not late:
                time.sleep(max(0.0, due - time.monotonic()))
            began = due if late else time.monotonic()
            sock.sendall(request)
            _answer(sock, size)
            yield time.monotonic() - began
            due += step


def _answer(sock: socket.socket, size: int) -> None:
    """Read one answer; ValueError, which ends its connection, when it is not a 200 of that size."""
    received = b""
    while len(received.partition(b"\r\n\r\n")[2]) < size:
        more = sock.recv(65536)
        received += more
        if not more or not b"HTTP/1.1 200 ".startswith(received[:13]):
            raise ValueError(f"no answer of 200: {received[:80]!r}")


if __name__ == "__main__":
    sys.exit(main())
