"""Times of day as a labeled circle: how far apart two are, and how far a query's neighbors are from it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CIRCLE = 720  # minutes of a dial's 12 hours
CHANCE = CIRCLE / 4  # mean minutes between two times at random


def minutes_of(hour: NDArray[Any], minute: NDArray[Any]) -> NDArray[np.float64]:
    """Minutes since 12:00 (N,), from 0 to 720, of hours 0 to 12 (12 and 0 are one) and minutes, fractions too."""
    since: NDArray[np.float64] = ((np.asarray(hour) % 12) * 60.0 + np.asarray(minute)) % CIRCLE
    return since


def minutes_between(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """Minutes between times (in minutes, any shape that fits), the short way round the dial: min(d, 720 − d)."""
    apart = np.abs(np.asarray(first, np.float64) - second) % CIRCLE
    shorter: NDArray[np.float64] = np.minimum(apart, CIRCLE - apart)
    return shorter


def common_sense_error(found: NDArray[Any], true: NDArray[Any]) -> float:
    """Mean minutes on the 12-hour circle between times read and true (Dai, Liebens & Otten 2020); times in minutes."""
    return float(minutes_between(found, true).mean())


def neighbor_minutes(times: NDArray[Any], neighbors: NDArray[np.integer[Any]], k: int = 10) -> NDArray[np.float64]:
    """Mean minutes (N,) between each object and its k nearest; NaN for one that has none.

    times : (N,) in minutes. neighbors : (N, at least k) rows, nearest first, padded with −1.
    """
    rows = np.asarray(neighbors)[:, :k]  # (N, k)
    apart = minutes_between(np.asarray(times, np.float64)[rows], np.asarray(times, np.float64)[:, None])
    there = rows >= 0
    count = there.sum(axis=1)
    total = np.where(there, apart, 0.0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))
