"""The vectors in the order of the window's column, and the lists that a build yields."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError
from lookalike.indexer.similarity import Similarities, similarities
from lookalike.indexer.windows import Places

LENGTH_TOLERANCE = 0.01  # stored vectors are normalized, up to the rounding of float16

Vectors = NDArray[Any]  # (N, D) float32 or float16


@dataclass(frozen=True)
class Found:
    """The lists of one block: rows (q,), neighbor_row (q, k) padded with −1, similarity (q, k) padded with NaN."""

    rows: Places
    neighbor_row: Places
    similarity: Similarities
    exhaustive: int  # queries the fast search could not prove complete


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


class Sorted:
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

    def at(self, places: Places) -> Vectors:
        """Vectors (s, D) at some places as contiguous float32."""
        rows = self._vectors[self.order[places]] if self._gather else self._vectors[places]
        return np.ascontiguousarray(rows, dtype=np.float32)

    def canonical(self, places: Places, query: int) -> Similarities:
        """Canonical similarities of the vector at place `query` with those at `places`."""
        if self._gather:
            return similarities(self._vectors, self.order[places], self._vectors[self.order[query]])
        return similarities(self._vectors, places, self._vectors[query])
