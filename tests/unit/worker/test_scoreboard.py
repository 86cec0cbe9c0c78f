"""Figures of workers in shared memory: the writer is not trusted."""

from __future__ import annotations

import os

import pytest

from httpd.worker.scoreboard import Figures, Scoreboard

ZERO = Figures(0, 0, 0, 0, 0)


def test_slots_are_apart() -> None:
    board = Scoreboard(3)
    assert [board.read(slot) for slot in range(3)] == [ZERO] * 3
    board.write(1, Figures(1, 2, 3, 4, 5, 6))
    board.write(2, Figures(7, 8, 9, 10, 11, 12))
    assert [board.read(slot) for slot in range(3)] == [ZERO, Figures(1, 2, 3, 4, 5, 6), Figures(7, 8, 9, 10, 11, 12)]
    board.clear(1)
    assert [board.read(slot) for slot in range(3)] == [ZERO, ZERO, Figures(7, 8, 9, 10, 11, 12)]


@pytest.mark.parametrize("slot", [-1, 3, 10**9])
def test_without_a_slot(slot: int) -> None:
    """A worker for whom none was left."""
    board = Scoreboard(3)
    board.write(slot, Figures(1, 1, 1, 1, 1))
    board.clear(slot)
    assert [board.read(at) for at in (*range(3), slot)] == [ZERO] * 4


def test_a_number_that_makes_no_sense_is_shown_as_0() -> None:
    board = Scoreboard(1)
    board.write(0, Figures(2**53 - 1, 2**53, 2**64 - 1, 7, 2**64 - 1, 2**53))
    assert board.read(0) == Figures(2**53 - 1, 0, 0, 7, 2**64 - 1, 0)


def test_whatever_a_worker_writes_can_be_read() -> None:
    board = Scoreboard(2)
    board._memory[:] = b"\xff" * len(board._memory)
    values = board.read(1)
    assert (values[:4], values.scripts) == ((0, 0, 0, 0), 0)


def test_no_slots() -> None:
    board = Scoreboard(0)
    board.write(0, Figures(1, 1, 1, 1, 1))
    assert board.read(0) == ZERO


def test_it_is_shared_with_a_child() -> None:
    board = Scoreboard(2)
    pid = os.fork()
    if pid == 0:
        board.write(1, Figures(1, 2, 3, 4, 5, 6))
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.read(1) == Figures(1, 2, 3, 4, 5, 6)
