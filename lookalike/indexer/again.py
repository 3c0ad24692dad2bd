"""Some lists of an index by themselves: where a stored one was damaged, all others stay as they are."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lookalike.indexer.blocks import BlockBuilder
from lookalike.indexer.devices import CpuDevice
from lookalike.indexer.ordered import Found, Sorted
from lookalike.indexer.windows import Ranges

EMPTY = 4096  # lists of objects without a window value given out at once


def lists_again(
    near: Sorted, ranges: Ranges, k: int, rows: NDArray[np.int64], memory_bytes: int, length: float
) -> Iterator[Found]:
    """The exact lists of some rows, block by block; empty ones of those without a window value.

    length : an upper bound of the vectors'. For a few rows: each block of them is a search of its whole window.
    """
    places = np.flatnonzero(np.isin(ranges.order, rows))
    without = np.setdiff1d(rows, ranges.order)
    step = max(1, min(EMPTY, memory_bytes // 8 // (12 * k)))
    for start in range(0, len(without), step):
        some = without[start : start + step]
        yield Found(some, np.full((len(some), k), -1, np.int64), np.full((len(some), k), np.nan, np.float32), 0)
    if len(places):
        yield from BlockBuilder(near, ranges, k, [CpuDevice(memory_bytes // 4)], memory_bytes, length).at(places)
