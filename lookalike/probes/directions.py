"""Vectors as unit vectors in float64, made a block at a time, so that large sets need no second copy in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import normalize

Values = NDArray[np.float64]
CELLS = 1 << 22  # numbers of a block, float64


@dataclass(frozen=True)
class Directions:
    """Vectors (N, D) of any type, of which (vector − mean) / spread has the direction that counts.

    mean, spread : (D,) or None for 0 and 1.
    """

    vectors: NDArray[Any]
    mean: Values | None = None
    spread: Values | None = None

    def __len__(self) -> int:
        return len(self.vectors)

    def unit(self, start: int, end: int) -> Values:
        """Rows start to end as unit vectors (n, D); InputError names one that has no direction."""
        block = self.vectors[start:end].astype(np.float64)  # (n, D)
        if self.mean is not None and self.spread is not None:
            block = (block - self.mean) / self.spread
        return normalize(block, start)

    def blocks(self) -> Iterator[tuple[int, int]]:
        """Ranges of rows of at most CELLS numbers."""
        yield from ranges(len(self), self.vectors.shape[1])

    def times(self, rows: Values) -> Values:
        """The similarities (B, N) of unit vectors (B, D) to all of these."""
        return np.concatenate([rows @ self.unit(start, end).T for start, end in self.blocks()], axis=1)


def ranges(n: int, width: int) -> Iterator[tuple[int, int]]:
    """Ranges of n rows that hold at most CELLS numbers, or one row, each `width` wide."""
    step = max(1, CELLS // max(1, width))
    yield from ((start, min(start + step, n)) for start in range(0, n, step))


def directions(vectors: NDArray[Any] | Directions) -> Directions:
    return vectors if isinstance(vectors, Directions) else Directions(np.asarray(vectors))


def standardization(vectors: NDArray[Any]) -> tuple[Values, Values]:
    """The mean and the spread (D,) of each component, in float64; the spread of a constant one is 1."""
    n = len(vectors)
    parts = list(ranges(n, vectors.shape[1]))
    mean = sum((vectors[start:end].sum(axis=0, dtype=np.float64) for start, end in parts), np.zeros(1)) / n
    squares = (np.square(vectors[start:end].astype(np.float64) - mean).sum(axis=0) for start, end in parts)
    spread = np.sqrt(sum(squares, np.zeros(1)) / n)
    return mean, np.where(spread > 0, spread, 1.0)
