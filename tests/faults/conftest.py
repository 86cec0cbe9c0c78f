"""Fixtures of the long fault tests: those of the live tests.  They are collected only where they are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from live import scenarios
from live.conftest import daemon, place
from live.daemon import Place

__all__ = ["daemon", "place"]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Not in a run of all tests: these take minutes (`make faults`)."""
    return None if any("tests/faults" in argument for argument in config.args) else True


@pytest.fixture
def files(place: Place) -> Place:
    scenarios.furnish(place)
    return place
