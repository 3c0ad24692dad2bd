"""How far a score could have come out otherwise with other queries: the paired bootstrap.

Queries are drawn with replacement, as often as there are, and the score computed anew (Efron and Tibshirani 1993).
Every score here is a function of sums over the queries, so a resample is one product of how often each query was
drawn with what it adds to the sums. All representations see the same draws: the interval of a difference is that of
the paired differences, far narrower than two intervals side by side would suggest.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RESAMPLES = 2000
LEVEL = 0.95
CELLS = 1 << 22  # drawn queries held at once


@dataclass(frozen=True)
class Estimate:
    """A score and its interval, the central LEVEL of its resamples."""

    value: float
    low: float
    high: float

    @property
    def interval(self) -> list[float]:
        return [self.low, self.high]

    def __str__(self) -> str:
        if math.isnan(self.value):
            return "undefined"
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def resampled_sums(terms: Floats, resamples: int = RESAMPLES, seed: int = 0) -> Floats:
    """Sums over the queries (1 + resamples, m): of the queries as they are in row 0, then of each resample.

    terms : (Q, m), what each query adds to each sum. The draws depend on Q, `resamples` and `seed` alone.
    """
    queries = len(terms)
    random = np.random.default_rng(seed)
    sums = np.empty((1 + resamples, terms.shape[1]))
    sums[0] = terms.sum(axis=0)
    step = max(1, CELLS // max(queries, 1))
    for start in range(0, resamples, step):
        drawn = random.integers(0, queries, (min(step, resamples - start), queries))  # (b, Q)
        drawn += queries * np.arange(len(drawn))[:, None]
        times = np.bincount(drawn.ravel(), minlength=drawn.size).reshape(drawn.shape)  # (b, Q)
        sums[1 + start : 1 + start + len(drawn)] = times.astype(np.float64) @ terms
    return sums


def mean_terms(values: Floats, weights: Floats) -> Floats:
    """What each query adds to a weighted mean, (Q, 2)."""
    return np.stack([weights * values, weights], axis=1)


def means(sums: Floats) -> Floats:
    """The weighted means (1 + resamples,) of the sums of `mean_terms`."""
    return _ratio(sums[:, 0], sums[:, 1])


def r2_terms(truth: Floats, predicted: Floats, weights: Floats) -> Floats:
    """What each query adds to a coefficient of determination, (Q, 4)."""
    centered = truth - means(mean_terms(truth, weights).sum(axis=0, keepdims=True))  # so that squares lose no digits
    return np.stack(
        [weights * np.square(truth - predicted), weights * np.square(centered), weights * centered, weights], axis=1
    )


def r2s(sums: Floats) -> Floats:
    """The coefficients of determination (1 + resamples,) of the sums of `r2_terms`; NaN where all values are alike."""
    spread = sums[:, 1] - _ratio(np.square(sums[:, 2]), sums[:, 3])
    return 1 - _ratio(sums[:, 0], np.where(spread > 1e-12 * sums[:, 1], spread, np.nan))


def estimate(resampled: Floats, level: float = LEVEL) -> Estimate:
    """Value and percentile interval of a score (1 + resamples,), the value itself in row 0.

    A resample in which the score is not defined says nothing, and is left out; a value that is not has no interval.
    """
    defined = resampled[1:][np.isfinite(resampled[1:])]
    value = float(resampled[0])
    if math.isnan(value) or not len(defined):
        return Estimate(value, value, value)
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return Estimate(value, float(low), float(high))


def _ratio(above: Floats, below: NDArray[Any]) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Floats = above / below
    return np.where(np.isfinite(ratio), ratio, np.nan)
