"""For all unit tests."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """Cycles are collected between tests only: what an earlier one left behind is not closed while a later one counts
    its descriptors, and no test depends on when the collector comes."""
    gc.disable()
    yield
    gc.enable()
