"""Two workers on two cores: what a request costs then, and how evenly the two share the requests.

Nothing is pinned: the servers and the client are where the scheduler puts them, and with two cores for three busy
processes the throughput says little.  So the workers' CPU time per request is compared with that of one worker, and the
client's counts apart.  Each worker has as many connections as the one has alone: with fewer at a time a round of the
loop does less work, which is another matter than that of sharing.
"""

from __future__ import annotations

import statistics

from load import Client, Load, Result
from servers import Httpd
from session import Session

_LOAD = Load("/1k.html")


def two_workers(session: Session) -> tuple[list[str], dict[str, float]]:
    """CPU per request with two workers over that with one, and the busier one's share of the requests."""
    one, two = (session.own_httpd(pinned=False, workers=count) for count in (1, 2))
    count = session.options.connections
    clients = {one: Client(session.folder, None, count), two: Client(session.folder, None, 2 * count)}
    results: dict[Httpd, list[Result]] = {one: [], two: []}
    requests: list[float] = []
    connections: list[float] = []
    for server, client in clients.items():
        server.start()
        client.run(_LOAD, server, 1)
    for turn in range(session.options.rounds):
        for server in (one, two) if turn % 2 else (two, one):
            before = _counts(two)
            results[server].append(clients[server].run(_LOAD, server, session.options.seconds))
            if server is two:
                after = _counts(two)
                requests.append(_busier(before["requests"], after["requests"]))
                connections.append(_busier(before["accepted"], after["accepted"]))
    for server in clients:
        server.stop()
    lines = [f"{'':<14} {'requests/s':>11} {'CPU us/req':>11} {'workers busy':>13} {'client busy':>12}"]
    for title, server in (("one worker", one), ("two workers", two)):
        rate, cpu, busy, client = (
            statistics.median(getattr(result, name) for result in results[server])
            for name in ("rate", "cpu", "server_share", "client_share")
        )
        lines.append(f"{title:<14} {rate:>11,.0f} {cpu:>11.1f} {busy:>12.0%} {client:>12.0%}")
    for title, shares in (("requests", requests), ("connections", connections)):
        lines.append(f"the busier worker's share of the {title}: {', '.join(f'{share:.1f} %' for share in shares)}")
    ratio = statistics.median(two.cpu / one.cpu for one, two in zip(results[one], results[two], strict=True))
    return lines, {"CPU per request over one worker's": ratio, "the busier worker's share": statistics.median(requests)}


def _counts(server: Httpd) -> dict[str, list[int]]:
    """What each worker has answered and accepted so far."""
    workers = server.status()["workers"]
    return {figure: [worker[figure] for worker in workers] for figure in ("requests", "accepted")}


def _busier(before: list[int], after: list[int]) -> float:
    """The larger share of what has been added, in percent."""
    added = [late - early for early, late in zip(before, after, strict=True)]
    return 100 * max(added) / max(1, sum(added))
