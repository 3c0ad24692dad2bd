"""Shares of a number of trials, with their intervals."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt


@dataclass(frozen=True)
class Share:
    """`hits` of `n`, with the 95 % Wilson interval; a trial that partly succeeds is part of a hit."""

    hits: float
    n: int
    low: float
    high: float

    @property
    def value(self) -> float:
        return self.hits / self.n

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f}–{self.high:.3f})"


def wilson(hits: float, n: int, z: float = 1.959964) -> Share:
    """The Wilson score interval of a proportion (Wilson 1927), z standard errors wide."""
    p = hits / n
    center = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return Share(hits, n, center - half, center + half)
