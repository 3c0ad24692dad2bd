"""Exact lists of some objects among all: what changes where a few come to an index or leave it.

Queries go block by block against tiles of their windows by a float32 matrix product, which lies within a proven error
of the canonical similarity. Of each tile only what can still enter a list is settled canonically.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from lookalike.errors import LookalikeError
from lookalike.indexer.keys import END, Keys, entries_of, keys_of
from lookalike.indexer.ordered import Found, Sorted
from lookalike.indexer.similarity import Similarities, float32_error
from lookalike.indexer.windows import Places, Ranges

MOST_QUERIES, MOST_CANDIDATES = 256, 8192  # of one tile
WIDER = 1.5  # times the first query's window, that the windows of one block may span together


@dataclass(frozen=True)
class Tile:
    """Scores (q, c) of queries at places `own` with candidates at places start, start + 1, …; −inf outside windows."""

    own: Places
    start: int
    score: Similarities
    error: float  # a score is at most this far from the canonical similarity


class SomeAgainstAll:
    """Searches the lists of any places; a place is a position in the window's order. `scored` counts products."""

    def __init__(self, near: Sorted, ranges: Ranges, k: int, length: float, memory_bytes: int) -> None:
        self.near, self.ranges, self.k, self.scored = near, ranges, k, 0
        self.error = float32_error(near.dimensions, length, length)
        share, d = memory_bytes // 4, near.dimensions
        self.queries = int(np.clip(share // (8 * d + 8 * k), 1, MOST_QUERIES))
        self.candidates = int(np.clip(share // (8 * d + 16 * self.queries), 1, MOST_CANDIDATES))

    def lists(self, which: Places, meet: Callable[[Tile], None] = lambda tile: None) -> Iterator[Found]:
        """Yield the lists of the places `which` (increasing), block by block; `meet` is shown every tile on the way."""
        for own in self._blocks(which):
            best: list[Keys] = [np.empty(0, np.uint64) for _ in own]
            for tile in self._tiles(own):
                for q in range(len(own)):
                    best[q] = self._better(best[q], tile, q)
                meet(tile)
            keys = np.full((len(own), self.k), END)
            for q, found in enumerate(best):
                keys[q, : len(found)] = found
            yield Found(self.near.order[own], *entries_of(keys), 0)

    def _blocks(self, which: Places) -> Iterator[Places]:
        """Queries whose windows overlap so far that few scores of a block are of no use to any of them."""
        low, high = self.ranges.low, self.ranges.high
        start = 0
        while start < len(which):
            first = which[start]
            until = low[first] + WIDER * (high[first] - low[first])
            stop = start + int(np.searchsorted(high[which[start : start + self.queries]], until, "right"))
            stop = max(stop, start + 1)
            yield which[start:stop]
            start = stop

    def _tiles(self, own: Places) -> Iterator[Tile]:
        low, high = self.ranges.low[own], self.ranges.high[own]
        queries = self.near.at(own)  # (q, D)
        for a in range(int(low[0]), int(high[-1]), self.candidates):
            b = min(a + self.candidates, int(high[-1]))
            score: Similarities = queries @ self.near.run(a, b).T  # (q, c)
            place = np.arange(a, b)
            score[(place < low[:, None]) | (place >= high[:, None]) | (place == own[:, None])] = -np.inf
            self.scored += score.size
            yield Tile(own, a, score, self.error)

    def _better(self, best: Keys, tile: Tile, q: int) -> Keys:
        """The k best keys, in order, of those found so far and those of one query's row of a tile."""
        score = tile.score[q].astype(np.float64)  # (c,), exact, for the comparisons with error bounds
        limit = -np.inf
        if len(score) > self.k:  # what scores 2 errors less than the k-th of the tile has k better ones
            limit = np.partition(score, len(score) - self.k)[len(score) - self.k] - 2 * self.error
        if len(best) == self.k:
            limit = max(limit, float(entries_of(best[-1:])[1][0]) - self.error)
        chosen = np.flatnonzero((score >= limit) & (score > -np.inf))
        if not len(chosen):
            return best
        similarity = settled(self.near, tile, q, chosen)
        keys = keys_of(self.near.order[tile.start + chosen], similarity)
        return np.sort(np.concatenate([best, keys]))[: self.k]


def settled(near: Sorted, tile: Tile, q: int, chosen: Places) -> Similarities:
    """Canonical similarities (n,) of a tile's query with some of its candidates, after a check of the scores' bound."""
    similarity = near.canonical(tile.start + chosen, int(tile.own[q]))
    score = tile.score[q, chosen].astype(np.float64)
    if not np.abs(similarity - score).max(initial=0.0) <= tile.error:
        msg = f"A matrix product is off by more than its proven error {tile.error:.2e}; nothing was ranked by it."
        raise LookalikeError(msg)
    return similarity
