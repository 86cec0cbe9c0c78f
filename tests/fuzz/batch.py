"""A batch: a number of inputs that follow from a seed and the number of the batch alone, whatever runs beside it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from random import Random

from fuzz.compare import Ask, Finding, examine, examine_again
from fuzz.mutator import mutate

SIZE = 10_000  # inputs
_TRIES = 3000  # to make a failing input smaller


@dataclass(slots=True)
class Failure:
    """What one input of a batch has shown; `smaller` shows the same."""

    batch: int
    position: int
    kind: str
    detail: str
    wire: bytes
    smaller: bytes


def run(
    seed: str, number: int, size: int, seeds: Sequence[bytes], peers: Mapping[str, Ask]
) -> tuple[Counter[str], Failure | None]:
    """Examine the inputs of a batch up to the first that fails, and count what became of them."""
    inputs, choices = Random(f"{seed}/{number}"), Random(f"{seed}/{number}/choices")
    tally: Counter[str] = Counter()
    for position in range(size):
        wire = mutate(inputs, seeds)
        tally["inputs"] += 1
        try:
            examine(wire, choices, peers, tally)
        except Finding as found:
            smaller = shrink(wire, partial(_shows, found, peers))
            return tally, Failure(number, position, found.kind, found.detail, wire, smaller)
    return tally, None


def _shows(found: Finding, peers: Mapping[str, Ask], wire: bytes) -> bool:
    try:
        examine_again(wire, found.limits, peers)
    except Finding as again:
        return again.kind == found.kind
    return False


def shrink(wire: bytes, shows: Callable[[bytes], bool]) -> bytes:
    """`wire` with as much taken out, in ever shorter stretches, as still `shows` the failure."""
    tries, size = 0, max(1, len(wire) // 2)
    while tries < _TRIES:
        at, before = 0, len(wire)
        while at < len(wire) and tries < _TRIES:
            tries += 1
            shorter = wire[:at] + wire[at + size :]
            if shows(shorter):
                wire = shorter
            else:
                at += size
        if size == 1 and len(wire) == before:
            break
        size = max(1, size // 2)
    return wire
