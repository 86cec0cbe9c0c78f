"""The small-file cache: never stale, never over its budget, what is used stays."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from httpd.content.cache import SETTLED, TRUSTED, Entry, FileCache, settled
from httpd.content.files import Root
from machine import descriptors

NOW = 1000.0


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"hello")
    return path


def entry_of(file: Path, tail: bytes = b"") -> Entry:
    entry = Entry(os.fsencode(file), os.stat(file), NOW)
    entry.tail = tail
    return entry


def touch(file: Path) -> None:
    os.utime(file, ns=(1, 1))


def replace(file: Path) -> None:
    """Another file of the same size and times."""
    other = file.with_name("other")
    other.write_bytes(b"HELLO")
    os.utime(other, ns=(os.stat(file).st_atime_ns, os.stat(file).st_mtime_ns))
    other.replace(file)


def rewrite(file: Path) -> None:
    """The same size, and the time put back."""
    stat = os.stat(file)
    file.write_bytes(b"HELLO")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def link_away(file: Path) -> None:
    other = file.with_name("other")
    other.write_bytes(b"hello")
    file.unlink()
    file.symlink_to(other)


def to_folder(file: Path) -> None:
    file.unlink()
    file.mkdir()


CHANGES: list[Callable[[Path], object]] = [
    touch, replace, rewrite, link_away, to_folder, Path.unlink,
    lambda file: os.truncate(file, 4), lambda file: os.truncate(file, 6), lambda file: file.chmod(0o600),
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_not_fresh(file: Path, change: Callable[[Path], object]) -> None:
    before = os.stat(file).st_ctime_ns
    entry = entry_of(file)
    assert entry.fresh(NOW)
    while True:  # until the kernel's clock has gone on, as `settled` sees to
        probe = file.with_name("probe")
        probe.write_bytes(b"")
        if os.stat(probe).st_ctime_ns > before:
            break
    change(file)
    assert not entry.fresh(NOW)
    assert entry.open() < 0


def test_the_way_to_a_file_is_trusted_for_a_moment_only(file: Path) -> None:
    entry = entry_of(file)
    assert entry.fresh(NOW + TRUSTED - 0.001)
    assert not entry.fresh(NOW + TRUSTED), "without a root there is nobody to ask"
    entry.root, entry.relative = Root(bytes(file.parent), "inside"), os.fsencode(file.name)
    assert entry.fresh(NOW + TRUSTED)
    assert entry.checked == NOW + TRUSTED
    # The same file, but by a way out of the root: stat sees no difference.
    outside = file.parent.parent / "outside"
    outside.mkdir()
    file.rename(outside / file.name)
    entry = entry_of(outside / file.name)
    entry.path = bytes(file)
    entry.root, entry.relative = Root(bytes(file.parent), "inside"), os.fsencode(file.name)
    file.symlink_to(outside / file.name)
    assert entry.fresh(NOW + TRUSTED - 0.001)
    assert not entry.fresh(NOW + TRUSTED)


def test_open(file: Path) -> None:
    fd = entry_of(file).open()
    assert os.read(fd, 10) == b"hello"
    assert not os.get_inheritable(fd)
    os.close(fd)


def test_open_a_fifo_in_its_place_does_not_hang(file: Path) -> None:
    entry = entry_of(file)
    file.unlink()
    os.mkfifo(file)
    before = descriptors()
    assert entry.open() == -1
    assert descriptors() == before


@pytest.mark.parametrize(("age", "expected"), [(0.0, False), (SETTLED, False), (SETTLED + 0.1, True)])
def test_settled(file: Path, age: float, expected: bool) -> None:
    stat = os.stat(file)
    assert settled(stat, max(stat.st_mtime, stat.st_ctime) + age) is expected


def test_a_time_put_back_does_not_settle(file: Path) -> None:
    """mtime is what people set; ctime is the kernel's."""
    os.utime(file, (0, 0))
    stat = os.stat(file)
    assert not settled(stat, stat.st_ctime + 1)


# The budget


class Shelf:
    """A cache and a site's table, with entries that cost a thousand bytes more than nothing."""

    def __init__(self, file: Path, room: int) -> None:
        self.file = file
        self.each = self.entry().cost + 2 * len(b"/00")
        self.cache = FileCache(self.each * room + self.each // 2)
        self.table: dict[bytes, Entry] = {}

    def entry(self) -> Entry:
        return entry_of(self.file, b"x" * 1000)

    def add(self, *numbers: int) -> None:
        for number in numbers:
            self.cache.add(self.table, b"/%02d" % number, self.entry())

    @property
    def held(self) -> list[int]:
        return sorted(int(key[1:]) for key in self.table)


@pytest.fixture
def shelf(file: Path) -> Shelf:
    return Shelf(file, 10)


def test_the_budget_holds(shelf: Shelf) -> None:
    shelf.add(*range(10))
    assert shelf.held == list(range(10))
    shelf.add(10)
    assert shelf.held == list(range(1, 11))
    shelf.add(*range(11, 99))
    assert shelf.held == list(range(89, 99))


def test_what_is_used_survives_a_sweep(shelf: Shelf) -> None:
    shelf.add(*range(10))
    for number in range(10, 90):
        shelf.table[b"/03"].used = True
        shelf.add(number)
    assert 3 in shelf.held
    assert len(shelf.held) == 10
    shelf.add(*range(10, 31))  # used no more: forgiven once, gone the next time
    assert 3 not in shelf.held


def test_all_used_at_once(shelf: Shelf) -> None:
    shelf.add(*range(10))
    for entry in shelf.table.values():
        entry.used = True
    shelf.add(10)
    assert len(shelf.held) == 10


def test_a_replaced_entry_costs_only_once_in_the_end(shelf: Shelf) -> None:
    shelf.add(*[1] * 200)
    assert shelf.held == [1]
    shelf.add(*range(10))
    assert shelf.held == list(range(10))


def test_what_others_dropped_is_let_go(shelf: Shelf) -> None:
    shelf.add(*range(10))
    shelf.table.clear()
    shelf.add(*range(20, 30))
    assert shelf.held == list(range(20, 30))


def test_an_entry_that_takes_too_much_is_not_kept(file: Path) -> None:
    entry = entry_of(file, b"x" * 1000)
    table: dict[bytes, Entry] = {}
    for size, kept in ((entry.cost * 8 + 15, False), (entry.cost * 8 + 16, True)):
        FileCache(size).add(table, b"k", entry)
        assert (b"k" in table) is kept


def test_no_cache(file: Path) -> None:
    cache = FileCache(0)
    table: dict[bytes, Entry] = {}
    cache.add(table, b"k", entry_of(file))
    assert table == {}


def test_sites_share_one_budget(shelf: Shelf) -> None:
    other: dict[bytes, Entry] = {}
    shelf.add(*range(10))
    for number in range(5):
        shelf.cache.add(other, b"/%02d" % number, shelf.entry())
    assert (len(shelf.table), len(other)) == (5, 5)
    assert all(entry.owner is other and other[entry.key] is entry for entry in other.values())


def test_long_keys_count(file: Path) -> None:
    entry = entry_of(file)
    without = entry.cost
    FileCache(0).add({}, b"k" * 1000, entry)
    assert entry.cost == without + 2000
