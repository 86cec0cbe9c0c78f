"""httpd.logs.stamp: both forms of a time, in zones on both sides of UTC."""

from collections.abc import Callable

import pytest

from httpd.logs.stamp import Stamp

NOW = 1795326289.1239  # 2026-11-22T05:44:49Z
SUMMER = 1783000000.0  # 2026-07-02T13:46:40Z

CASES = [
    ("UTC0", NOW, b"[22/Nov/2026:05:44:49 +0000]", b"2026-11-22T05:44:49.123+00:00"),
    ("XXX-5:30", NOW, b"[22/Nov/2026:11:14:49 +0530]", b"2026-11-22T11:14:49.123+05:30"),
    ("XXX3:30", NOW, b"[22/Nov/2026:02:14:49 -0330]", b"2026-11-22T02:14:49.123-03:30"),
    ("XXX6", NOW, b"[21/Nov/2026:23:44:49 -0600]", b"2026-11-21T23:44:49.123-06:00"),
    ("CET-1CEST,M3.5.0,M10.5.0/3", NOW, b"[22/Nov/2026:06:44:49 +0100]", b"2026-11-22T06:44:49.123+01:00"),
    ("CET-1CEST,M3.5.0,M10.5.0/3", SUMMER, b"[02/Jul/2026:15:46:40 +0200]", b"2026-07-02T15:46:40.000+02:00"),
]


@pytest.mark.parametrize(("tz", "now", "clf", "iso"), CASES)
def test_forms(zone: Callable[[str], None], tz: str, now: float, clf: bytes, iso: bytes) -> None:
    zone(tz)
    assert Stamp().clf(now) == clf
    assert Stamp().iso(now) == iso


def test_cache_follows_the_clock_both_ways(zone: Callable[[str], None]) -> None:
    zone("UTC0")
    stamp = Stamp()
    for second in (49, 49, 50, 49, 51):
        now = NOW - 49 + second
        assert stamp.clf(now) == b"[22/Nov/2026:05:44:%02d +0000]" % second
        assert stamp.iso(now + 0.5) == b"2026-11-22T05:44:%02d.623+00:00" % second


def test_milliseconds_are_cut_off_and_a_second_is_built_once() -> None:
    stamp = Stamp()
    assert b".999" in stamp.iso(1000.9999)
    assert b".000" in stamp.iso(1001.0)
    assert stamp.clf(1000.0) is stamp.clf(1000.9999)
    assert stamp.clf(1000.0) != stamp.clf(1001.0)
