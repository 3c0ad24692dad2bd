"""What a list is likely to end at, told beforehand by a sample, and its search by itself where that was too much."""

from __future__ import annotations

import math

import numpy as np

from lookalike.indexer.lists import Lists
from lookalike.indexer.ordered import Sorted
from lookalike.indexer.pairs_native import enter_tile
from lookalike.indexer.scores import Room, Scores
from lookalike.indexer.similarity import Similarities
from lookalike.indexer.windows import Places, Ranges

MOST = 1 / 6  # of a window, that a sample may take
EXPECTED = 6  # neighbors that it should hold
WORTH = 5.0  # by how much a larger sample saves more than it costs: see `share`
SURE = 3.0  # standard deviations by which more than k are to reach what a list is said to need
LEAST = 256  # objects in a sample
NONE, NOTHING = np.empty((0, 2), np.int32), np.empty(0, np.float32)
PIECE = 512  # candidates gone through together


def share(k: int, n: int) -> float:
    """Of n objects, how many are to be looked at beforehand.

    That costs in proportion to the share s and to n. What is let into a list too much is some SURE·√(k / s), and costs
    in proportion to that. The sum of both is least where s is as (√k / n)^(2/3).
    """
    return min(MOST, max(EXPECTED / k, WORTH * float((math.sqrt(k) / n) ** (2 / 3))))


def needed(near: Sorted, ranges: Ranges, scores: Scores, k: int, start: int, stop: int, most: int) -> Similarities:
    """The similarities (n,) that the lists of places start..stop are likely to end at, or somewhat less; −inf for any.

    They are what more than k of the window reach, as far as a sample of at most `most` of it tells.
    """
    low, high = ranges.low[start:stop], ranges.high[start:stop]
    a, b = int(low[0]), int(high[-1])
    size = min(b - a, most, max(LEAST, int(share(k, b - a) * (b - a))))
    sample = np.random.default_rng(start).choice(b - a, size, replace=False, shuffle=False)
    place = np.sort(sample) + a
    score = scores.of(near, start, stop, place)  # (n, s)
    _, own, column = np.intersect1d(np.arange(start, stop), place, assume_unique=True, return_indices=True)
    score[own, column] = -np.inf
    # Windows only move up: all of them hold the places between the last one's low end and the first one's high end.
    below, above = np.searchsorted(place, low), np.searchsorted(place, high)
    left, right = int(below[-1]), int(above[0])
    columns = np.arange(size)
    score[:, :left][columns[:left] < below[:, None]] = -np.inf
    score[:, right:][columns[right:] >= above[:, None]] = -np.inf
    candidates = high - low - 1
    seen = above - below
    seen[own] -= 1
    among = k * seen / np.maximum(candidates, 1)
    wanted = np.ceil(among + SURE * np.sqrt(among) + 1).astype(np.int64)
    known = (wanted < seen) & (candidates > k)
    if not known.any():
        return np.full(stop - start, -np.inf, np.float32)
    score.partition(np.unique(size - wanted[known]), axis=1)
    value = score[np.arange(stop - start), np.where(known, size - wanted, 0)]
    return np.where(known, value, np.float32(-np.inf))


def by_themselves(
    near: Sorted, ranges: Ranges, k: int, places: Places, scores: Scores, error: float
) -> tuple[Places, Similarities]:
    """Rows and similarities (s, k) of the lists of some places, −1 and NaN where one ends, by all of their windows.

    error : bound of the error of a sum in float64.
    """
    low, high = ranges.low[places], ranges.high[places]
    queries, rows = near.at(places), near.order[places]  # (s, D), (s,)
    n = len(places)
    lists, room, slots = Lists(n, k), Room(), np.arange(n)
    lists.open(0, n, np.full(n, -np.inf, np.float32))
    for c in range(int(low.min()), int(high.max()), PIECE):
        d = min(c + PIECE, int(high.max()))
        candidates = near.run(c, d)
        score = scores.some(near, places, c, d, room)
        # The object itself splits its window in two.
        for first, last in ((low, places), (places + 1, high)):
            floor, never = scores.floor(lists.floor(0, n)), np.full(d - c, scores.never, score.dtype)
            enter_tile(
                score, queries, candidates, np.clip(first, c, d) - c, np.clip(last, c, d) - c, floor, never, error,
                slots, slots, rows, near.order[c:d], 1, lists.keys, lists.count, lists.worst, k, NONE, NOTHING,
            )  # fmt: skip
    found, similarity, _ = lists.close(0, n, 1)
    return found, similarity
