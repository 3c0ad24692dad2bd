"""Exact neighbors through a search of k nearest ones, as faiss does it on a GPU, in blocks of bounded memory.

Queries go in order of the window's column, so a block of them shares most of its candidates: that interior is
searched, the edges are a masked matrix product. Both work in float32; every candidate that lies within the proven
error of the k-th best is re-ranked by its canonical similarity. Where the search cannot prove that it dropped none,
the query is completed by an exhaustive pass. Ranking is by (−similarity, row).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import LookalikeError
from lookalike.indexer.ordered import Found, Sorted, Vectors
from lookalike.indexer.similarity import Similarities, float32_error
from lookalike.indexer.windows import Places, Ranges

MARGIN = 32  # neighbors the fast search returns beyond k, at least
MOST_QUERIES = 1024  # per block: more only widens the edges

Search = Callable[[Vectors, Vectors, int], tuple[Similarities, Places]]


class _Best:
    """The running best of a block of queries: float32 scores (q, width) and their places, in no order."""

    def __init__(self, queries: int, width: int) -> None:
        self.width = width
        self.score = np.full((queries, 0), -np.inf, np.float32)
        self.place = np.zeros((queries, 0), np.int64)

    def add(self, score: Similarities, place: Places) -> None:
        """Merge candidates (q, n); those with score −inf are none."""
        score = np.concatenate([self.score, score], axis=1)
        place = np.concatenate([self.place, np.broadcast_to(place, (len(score), place.shape[-1]))], axis=1)
        if score.shape[1] > self.width:
            keep = np.argpartition(-score, self.width - 1, axis=1)[:, : self.width]
            score, place = np.take_along_axis(score, keep, 1), np.take_along_axis(place, keep, 1)
        self.score, self.place = score, place

    def sorted(self) -> tuple[NDArray[np.float64], Places]:
        """Scores from the highest down, in float64 for the comparisons with error bounds, and their places."""
        best = np.argsort(-self.score, axis=1, kind="stable")
        return np.take_along_axis(self.score, best, 1).astype(np.float64), np.take_along_axis(self.place, best, 1)


class BlockBuilder:
    """What all blocks share. A place is a position in the sorted order; length : an upper bound of the vectors'.

    done : the lists of places before it were given out. Nothing else is held from block to block.
    """

    standing = None
    open_bytes = 0

    def __init__(self, near: Sorted, ranges: Ranges, k: int, search: Search, memory_bytes: int, length: float) -> None:
        self.near, self.ranges, self.k, self.search = near, ranges, k, search
        self.error, self.done = float32_error(near.dimensions, length, length), 0  # proven, of float32 scores
        self.width = k + max(MARGIN, k // 8)
        d = near.dimensions
        per_query = 8 * d + 64 * self.width
        self.queries = int(np.clip(memory_bytes // 8 // per_query, 1, MOST_QUERIES))
        # faiss keeps few scores at once, the masked product one for each pair.
        self.inner_tile = int(max(memory_bytes // 4 // (8 * d), 1))
        self.edge_tile = int(max(memory_bytes // 4 // (8 * d + 16 * self.queries), 1))
        self.kept = memory_bytes // 8 // 8  # places an exhaustive pass may keep, if every candidate ties

    @property
    def step(self) -> int:
        return self.queries

    @property
    def stripe(self) -> int:
        return len(self.ranges.order)

    def blocks(self, begin: int = 0, standing: object = None) -> Iterator[Found]:
        """The lists of all places from `begin` on, block by block."""
        self.done = begin
        for start, stop in _tiles(begin, len(self.ranges.order), self.queries):
            found = self.block(start, stop)
            self.done = stop
            yield found

    def at(self, places: Places) -> Iterator[Found]:
        """The lists of some places, ascending."""
        for run in np.split(places, np.flatnonzero(np.diff(places) != 1) + 1) if len(places) else []:
            for start, stop in _tiles(int(run[0]), int(run[-1]) + 1, self.queries):
                yield self.block(start, stop)

    def block(self, start: int, stop: int) -> Found:
        """The lists of the queries at places start..stop."""
        low, high = self.ranges.low[start:stop], self.ranges.high[start:stop]
        queries = self.near.run(start, stop)  # (q, D)
        best = self._fast(queries, np.arange(start, stop), low, high)
        score, place = best.sorted()
        rows = np.full((stop - start, self.k), -1, np.int64)
        values = np.full((stop - start, self.k), np.nan, np.float32)
        unproven: list[int] = []
        bounds: list[float] = []
        for q in range(stop - start):
            total = int(high[q] - low[q]) - 1  # candidates of this query
            candidates, similarity, proven = self._rerank(start + q, score[q], place[q], total)
            self._rank(candidates, similarity, rows[q], values[q])
            if not proven:
                unproven.append(q)
                bounds.append(float(values[q, -1]))
        group = max(1, self.kept // int((high - low).max()))
        for first in range(0, len(unproven), group):
            which = np.array(unproven[first : first + group])
            limit = np.array(bounds[first : first + group]) - self.error
            for q, candidates in zip(which, self._exhaustive(queries, start, which, low, high, limit), strict=True):
                self._rank(candidates, self.near.canonical(candidates, start + q), rows[q], values[q])
        return Found(self.near.order[start:stop], rows, values, len(unproven))

    def _fast(self, queries: Vectors, own: Places, low: Places, high: Places) -> _Best:
        """The best `width` candidates of each query by float32 score, from the interior and both edges."""
        best = _Best(len(queries), self.width)
        inner = int(low[-1])
        outer = max(inner, int(high[0]))  # [inner, outer) lies in every query's window
        for a, b in _tiles(int(low[0]), inner, self.edge_tile):
            best.add(self._masked(queries, a, b, own, low, high), np.arange(a, b))
        for a, b in _tiles(inner, outer, self.inner_tile):
            score, place = self.search(queries, self.near.run(a, b), min(self.width + 1, b - a))
            place = place + a
            best.add(np.where(place == own[:, None], np.float32(-np.inf), score), place)
        for a, b in _tiles(outer, int(high[-1]), self.edge_tile):
            best.add(self._masked(queries, a, b, own, low, high), np.arange(a, b))
        return best

    def _masked(self, queries: Vectors, a: int, b: int, own: Places, low: Places, high: Places) -> Similarities:
        """Scores (q, b − a), −inf where a candidate is outside the query's window or the query itself."""
        score: Similarities = queries @ self.near.run(a, b).T  # (q, b − a)
        place = np.arange(a, b)
        score[(place < low[:, None]) | (place >= high[:, None]) | (place == own[:, None])] = -np.inf
        return score

    def _rerank(
        self, own: int, score: NDArray[np.float64], place: Places, total: int
    ) -> tuple[Places, Similarities, bool]:
        """Canonical similarities of every returned candidate that may be among the k best, and whether the
        fast search provably dropped none that may."""
        returned = int(np.searchsorted(-score, np.inf))
        if returned == 0:
            return place[:0], np.empty(0, np.float32), True
        # The k-th best similarity is at least score_k − error, and a candidate's at most its score + error.
        needed = int(np.searchsorted(-score[:returned], 2 * self.error - score[min(self.k, returned) - 1], "right"))
        candidates = place[:needed]
        similarity = self.near.canonical(candidates, own)
        if np.abs(similarity - score[:needed]).max() > self.error:
            msg = f"The fast search is off by more than its proven error {self.error:.2e}; nothing was ranked by it."
            raise LookalikeError(msg)
        proven = needed < returned or returned == total
        if not proven:  # what was dropped scored no more than the last one returned
            proven = score[returned - 1] + self.error < np.partition(similarity, -self.k)[-self.k]
        return candidates, similarity, bool(proven)

    def _rank(self, places: Places, similarity: Similarities, rows: Places, values: Similarities) -> None:
        """Write the k best by (−similarity, row) into one list."""
        candidates = self.near.order[places]
        best = np.lexsort((candidates, -similarity))[: self.k]
        rows[: len(best)], values[: len(best)] = candidates[best], similarity[best]

    def _exhaustive(
        self, queries: Vectors, start: int, which: Places, low: Places, high: Places, limit: NDArray[np.float64]
    ) -> list[Places]:
        """For each query in `which` (u,), all places that score at least its limit (u,)."""
        own = start + which
        kept: list[list[Places]] = [[] for _ in which]
        for a, b in _tiles(int(low[which].min()), int(high[which].max()), self.edge_tile):
            score = self._masked(queries[which], a, b, own, low[which], high[which])
            for u, candidates in enumerate(score >= limit[:, None]):
                kept[u].append(np.flatnonzero(candidates) + a)
        return [np.concatenate(places) for places in kept]


def _tiles(start: int, stop: int, size: int) -> Iterator[tuple[int, int]]:
    for a in range(start, stop, size):
        yield a, min(a + size, stop)
