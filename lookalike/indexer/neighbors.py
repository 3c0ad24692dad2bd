"""Exact k nearest neighbors of every object within its own window, in blocks of bounded memory.

Queries go in order of the window's column, so a block of them shares most of its candidates: that interior is
searched by faiss, the edges by a masked matrix product. Both work in float32; every candidate that lies within
the proven error of the k-th best is re-ranked by its canonical similarity. Where the fast search cannot prove
that it dropped none, the query is completed by an exhaustive pass. Ranking is by (−similarity, row).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError, LookalikeError
from lookalike.indexer.similarity import Similarities, float32_error, similarities
from lookalike.indexer.windows import Places, Ranges

GPU_LIMIT = 2048  # neighbors faiss can select on a GPU
MARGIN = 32  # neighbors the fast search returns beyond k, at least
MOST_QUERIES = 1024  # per block: more only widens the edges
LENGTH_TOLERANCE = 0.01  # stored vectors are normalized, up to the rounding of float16

Vectors = NDArray[Any]  # (N, D) float32 or float16
Search = Callable[[Vectors, Vectors, int], tuple[Similarities, Places]]


@dataclass(frozen=True)
class Found:
    """The lists of one block: rows (q,), neighbor_row (q, k) padded with −1, similarity (q, k) padded with NaN."""

    rows: Places
    neighbor_row: Places
    similarity: Similarities
    exhaustive: int  # queries the fast search could not prove complete


def exact_neighbors(
    vectors: Vectors,
    ranges: Ranges,
    k: int,
    *,
    memory_bytes: int = 2**30,
    search: Search | None = None,
    max_length: float | None = None,
) -> Iterator[Found]:
    """Yield the lists of all objects in `ranges`, block by block; objects without a window value are not among them.

    vectors : (N, D) float32 or float16, normalized, in memory or mapped. k : neighbors per object, ≥ 1.
    memory_bytes : about how much is held at once, whatever N is; results never depend on it.
    search : the fast search, by default `fast_search()[0]`. max_length : what `longest` says of the vectors, if known.
    """
    if k < 1:
        raise InputError(f"k must be at least 1, but {k} was given.")
    length = longest(vectors) if max_length is None else max_length
    near = _Sorted(vectors, ranges.order, memory_bytes // 4)
    builder = _Builder(
        near, ranges, k, float32_error(vectors.shape[1], length, length), search or fast_search()[0], memory_bytes
    )
    for start in range(0, len(ranges.order), builder.queries):
        yield builder.block(start, min(start + builder.queries, len(ranges.order)))


def longest(vectors: Vectors) -> float:
    """An upper bound of all lengths; InputError names rows that are not normalized, zero or not finite."""
    most, step = 0.0, max(1, 2**21 // vectors.shape[1])
    for start in range(0, len(vectors), step):
        block = vectors[start : start + step].astype(np.float64)
        length = np.sqrt(np.einsum("nd,nd->n", block, block))
        bad = np.flatnonzero(~(np.abs(length - 1) <= LENGTH_TOLERANCE))
        if len(bad):
            rows = ", ".join(str(start + row) for row in bad[:5]) + (", …" if len(bad) > 5 else "")
            raise InputError(f"Embeddings have length 1, but rows {rows} do not; write them with write_embeddings.")
        most = max(most, float(length.max(initial=0.0)))
    return most * (1 + 1e-9)


def fast_search() -> tuple[Search, str]:
    """The float32 search of this machine, and a sentence that says which (tests of the GPU's are marked gpu)."""
    if not hasattr(faiss, "StandardGpuResources"):
        return _on_cpu, "faiss on the CPU: this faiss is built without GPU support"
    if faiss.get_num_gpus() == 0:
        return _on_cpu, "faiss on the CPU: no GPU was found"
    resources = faiss.StandardGpuResources()

    def on_gpu(queries: Vectors, candidates: Vectors, k: int) -> tuple[Similarities, Places]:
        if k > GPU_LIMIT:
            return _on_cpu(queries, candidates, k)
        found: tuple[Similarities, Places] = faiss.knn_gpu(
            resources, queries, candidates, k, metric=faiss.METRIC_INNER_PRODUCT
        )
        return found

    return on_gpu, f"faiss on the GPU for up to {GPU_LIMIT} neighbors, on the CPU beyond"


def _on_cpu(queries: Vectors, candidates: Vectors, k: int) -> tuple[Similarities, Places]:
    found: tuple[Similarities, Places] = faiss.knn(queries, candidates, k, faiss.METRIC_INNER_PRODUCT)
    return found


class _Sorted:
    """The vectors in window order: a copy in memory where it fits, else gathered from the file as needed."""

    def __init__(self, vectors: Vectors, order: Places, memory_bytes: int) -> None:
        self.order = order
        self.dimensions = vectors.shape[1]
        in_order = len(order) == len(vectors) and bool((order == np.arange(len(order))).all())
        fits = len(order) * vectors.shape[1] * vectors.itemsize <= memory_bytes
        self._gather = not (in_order or fits)
        self._vectors = vectors if in_order or self._gather else vectors[order]

    def run(self, start: int, stop: int) -> Vectors:
        """Vectors (stop − start, D) as contiguous float32."""
        rows = self._vectors[self.order[start:stop]] if self._gather else self._vectors[start:stop]
        return np.ascontiguousarray(rows, dtype=np.float32)

    def canonical(self, places: Places, query: int) -> Similarities:
        """Canonical similarities of the vector at place `query` with those at `places`."""
        if self._gather:
            return similarities(self._vectors, self.order[places], self._vectors[self.order[query]])
        return similarities(self._vectors, places, self._vectors[query])


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


class _Builder:
    """What all blocks share. A place is a position in the sorted order, `error` the proven float32 error."""

    def __init__(self, near: _Sorted, ranges: Ranges, k: int, error: float, search: Search, memory_bytes: int) -> None:
        self.near, self.ranges, self.k, self.error, self.search = near, ranges, k, error, search
        self.width = k + max(MARGIN, k // 8)
        d = near.dimensions
        per_query = 8 * d + 64 * self.width
        self.queries = int(np.clip(memory_bytes // 8 // per_query, 1, MOST_QUERIES))
        # faiss keeps few scores at once, the masked product one for each pair.
        self.inner_tile = int(max(memory_bytes // 4 // (8 * d), 1))
        self.edge_tile = int(max(memory_bytes // 4 // (8 * d + 16 * self.queries), 1))
        self.kept = memory_bytes // 8 // 8  # places an exhaustive pass may keep, if every candidate ties

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
        score = queries @ self.near.run(a, b).T  # (q, b − a)
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
