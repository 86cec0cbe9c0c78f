"""What is aimed at, and whether a run reached it: values in, verdicts out.

- `Ratio`: httpd's throughput over another server's, at least.  The ratio by CPU time per request stands beside it.
  It decides when the client was at its limit: the throughput is the client's then.
- `Limit`: a figure, at most.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from load import Result

CLIENT_LIMIT = 0.95  # share of its core from which on the client is what is measured
_SERVER_LIMIT = 0.85  # and from which on it is the server


@dataclass(frozen=True, slots=True)
class Ratio:
    """At least `least` times the best of the servers `of`."""

    least: float
    of: tuple[str, ...]
    goal: bool = False

    def __str__(self) -> str:
        best = "the best of " if len(self.of) > 1 else ""
        return f"at least {self.least:g} x {best}{', '.join(self.of)}"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` of a figure."""

    figure: str
    most: float
    unit: str
    goal: bool = False

    def __str__(self) -> str:
        return f"{self.figure} at most {self.most:g} {self.unit}".rstrip()


Target = Ratio | Limit


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a target came out; `met` None when it could not be measured."""

    measure: str
    target: Target
    met: bool | None
    measured: str

    def __str__(self) -> str:
        word = {True: "met", False: "MISSED", None: "not measured"}[self.met]
        if self.met is False and self.target.goal:
            word = "not yet"
        kind = "goal" if self.target.goal else "target"
        return f"{kind:<7} {self.target!s:<58} {word:<12} {self.measured}"


Results = Mapping[str, Sequence[Result]]


def by_throughput(ours: Sequence[Result], theirs: Sequence[Result]) -> float:
    """The median of the ratios of the rounds that both took part in: the two ran soon after each other, so what drifts
    cancels out."""
    return statistics.median(one.rate / max(1e-9, two.rate) for one, two in zip(ours, theirs, strict=False))


def by_cpu(ours: Sequence[Result], theirs: Sequence[Result]) -> float:
    """The same for CPU time per request; more than 1 means that ours needs less."""
    return statistics.median(two.cpu / max(1e-9, one.cpu) for one, two in zip(ours, theirs, strict=False))


def client_bound(rounds: Sequence[Result]) -> bool:
    """Whether the client was the limit and not the server."""
    return statistics.median(result.client_share for result in rounds) >= CLIENT_LIMIT


def disturbed(rounds: Sequence[Result]) -> bool:
    """Whether neither was the limit: the server waits for something, or its core has other things to do."""
    return not client_bound(rounds) and statistics.median(result.server_share for result in rounds) < _SERVER_LIMIT


def judge_ratio(measure: str, target: Ratio, results: Results, who: str = "httpd") -> Verdict:
    """Compare httpd, or what of it is called `who`, with the fastest of those the target names."""
    ours = results.get(who, ())
    there = [name for name in target.of if results.get(name)]
    if not ours or not there:
        return Verdict(measure, target, None, "")
    best = max(there, key=lambda name: statistics.median(result.rate for result in results[name]))
    throughput, cpu = by_throughput(ours, results[best]), by_cpu(ours, results[best])
    bound, failed = client_bound(ours), sum(result.errors for result in ours)
    text = f"{throughput:.2f} by throughput, {cpu:.2f} by CPU" + (f" ({best})" if len(target.of) > 1 else "")
    if bound:
        text += "; client at its limit, judged by CPU"
    if failed:
        text += f"; {failed} requests failed"
    return Verdict(measure, target, not failed and (cpu if bound else throughput) >= target.least, text)


def judge_limit(measure: str, target: Limit, figures: Mapping[str, float]) -> Verdict:
    """Compare a figure with its limit."""
    value = figures.get(target.figure)
    if value is None:
        return Verdict(measure, target, None, "")
    return Verdict(measure, target, value <= target.most, f"{value:.3g} {target.unit}".rstrip())
