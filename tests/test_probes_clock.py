"""Times on a dial: the short way round, the error of reading them, and neighbors' distance from their query."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lookalike.probes.clock import CHANCE, common_sense_error, minutes_between, minutes_of, neighbor_minutes

TIMES = st.tuples(st.integers(1, 12), st.integers(0, 59))


def test_minutes_of_hand_made_times() -> None:
    assert minutes_of(np.array([12, 1, 11, 0]), np.array([0, 5, 59, 30])).tolist() == [0, 65, 719, 30]


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 59), (1, 59), 60),
        ((11, 59), (12, 1), 2),
        ((12, 0), (6, 0), 360),
        ((3, 0), (9, 30), 330),
        ((5, 7), (5, 7), 0),
    ],
)
def test_the_short_way_round(first: tuple[int, int], second: tuple[int, int], expected: int) -> None:
    a, b = minutes_of(*map(np.array, first)), minutes_of(*map(np.array, second))
    assert minutes_between(a, b) == expected == minutes_between(b, a)


@given(TIMES, TIMES)
def test_distance_as_counted_minute_by_minute(first: tuple[int, int], second: tuple[int, int]) -> None:
    a, b = (int(minutes_of(np.array(h), np.array(m))) for h, m in (first, second))
    steps = min(next(n for n in range(721) if (a + way * n) % 720 == b) for way in (1, -1))
    assert minutes_between(np.array(a), np.array(b)) == steps


def test_common_sense_error_and_chance() -> None:
    true = np.arange(720)
    assert common_sense_error(true, true) == 0
    assert common_sense_error((true + 60) % 720, true) == 60
    every = minutes_between(true[:, None], true).mean()
    assert every == CHANCE


def test_neighbors_are_averaged_without_the_padding() -> None:
    times = np.array([0.0, 10.0, 700.0, 360.0])
    neighbors = np.array([[1, 2, 3], [0, -1, -1], [-1, -1, -1], [0, 1, 2]])
    found = neighbor_minutes(times, neighbors, k=2)
    assert found[[0, 1, 3]].tolist() == [15.0, 10.0, 355.0]
    assert np.isnan(found[2])
