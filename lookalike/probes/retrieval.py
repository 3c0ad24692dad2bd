"""Does a similarity find an object again after its nuisances changed? Self-retrieval of augmented copies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import normalize

BLOCK = 512


@dataclass(frozen=True)
class Share:
    """`hits` of `n`, with the 95 % Wilson interval."""

    hits: int
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.hits / self.n

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def wilson(hits: int, n: int, z: float = 1.959964) -> Share:
    """The Wilson score interval of a proportion (Wilson 1927), z standard errors wide."""
    p = hits / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Share(hits, n, center - half, center + half)


def share(hits: NDArray[np.bool_]) -> Share:
    """The share of hits (N,) with its interval."""
    return wilson(int(hits.sum()), len(hits))


def found_again(
    stored: NDArray[Any],
    copies: NDArray[Any],
    left_out: Sequence[NDArray[np.integer[Any]]] | None = None,
) -> NDArray[np.bool_]:
    """Which augmented copies have their own original as the most similar stored object (self-retrieval@1), (N,).

    stored, copies : (N, D), row i of `copies` made from row i of `stored`; cosine similarity.
    left_out       : per object the rows that may not compete (neighbors whose footprint overlaps its own).
    A tie with another object counts as a miss.
    """
    base, queries = normalize(stored), normalize(copies)  # (N, D)
    hits = np.zeros(len(queries), bool)
    for start in range(0, len(queries), BLOCK):
        similarity = queries[start : start + BLOCK] @ base.T  # (B, N)
        rows = np.arange(start, start + len(similarity))
        own = similarity[rows - start, rows]  # (B,)
        similarity[rows - start, rows] = -np.inf
        if left_out is not None:
            for row in rows.tolist():
                similarity[row - start, left_out[row]] = -np.inf
        hits[rows] = own > similarity.max(axis=1)
    return hits
