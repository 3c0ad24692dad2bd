"""The scores of one augmentation under one description, with their 95 % intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.probes.retrieval import Compared, share
from lookalike.proportions import Share

K = 10  # length of a neighbor list
BINS = 40
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
Z = 1.959964  # standard errors of a 95 % interval


@dataclass(frozen=True)
class Cosines:
    """The cosine of copy and original: mean, quantiles at QUANTILES, and a histogram of BINS steps from `low` to 1."""

    mean: float
    quantiles: tuple[float, ...]
    low: float
    counts: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        quantiles = {f"{at:g}": value for at, value in zip(QUANTILES, self.quantiles, strict=True)}
        return {"mean": self.mean, "quantiles": quantiles, "histogram": {"low": self.low, "counts": list(self.counts)}}


@dataclass(frozen=True)
class Scores:
    """One augmentation under one description.

    copy_at, original_at : self-retrieval at 1 and K, asked with the copy among the originals and with the original
    among the copies. overlap : mean share of the copy's K neighbors that are the original's, with its interval.
    separation : how often the own original is more similar than another object, 0.5 where nothing is left to tell.
    cosine, cosine_other : of copy and own original, of copy and another.
    """

    copy_at: tuple[Share, Share]
    original_at: tuple[Share, Share]
    overlap: float
    overlap_interval: tuple[float, float]
    separation: float
    cosine: Cosines
    cosine_other: Cosines

    def as_json(self) -> dict[str, Any]:
        """The names of the report; the plain numbers are those asked with the copy."""
        return {
            "self_retrieval_at_1": self.copy_at[0].value,
            "self_retrieval_at_10": self.copy_at[1].value,
            "overlap_at_10": self.overlap,
            "separation": self.separation,
            "from_original": {
                "self_retrieval_at_1": self.original_at[0].value,
                "self_retrieval_at_10": self.original_at[1].value,
                "intervals": _intervals(self.original_at),
            },
            "intervals": _intervals(self.copy_at) | {"overlap_at_10": list(self.overlap_interval)},
            "cosine": self.cosine.as_json(),
            "cosine_other": self.cosine_other.as_json(),
        }


def scored(found: Compared, overlaps: NDArray[np.float64]) -> Scores:
    """The scores of copies (N,); an object without rivals (all others barred) counts in its cosine alone.

    At least one must have a rival.
    """
    rivaled = found.rivals > 0
    ahead, ahead_of_copy = found.ahead_of_original[rivaled], found.ahead_of_copy[rivaled]
    kept = overlaps[rivaled]
    mean = float(kept.mean())
    error = Z * float(kept.std()) / len(kept) ** 0.5
    return Scores(
        (share(ahead < 1), share(ahead < K)),
        (share(ahead_of_copy < 1), share(ahead_of_copy < K)),
        mean,
        (max(0.0, mean - error), min(1.0, mean + error)),
        float(1 - (ahead / found.rivals[rivaled]).mean()),
        *cosines(found.cosine, found.cosine_other),
    )


def cosines(own: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[Cosines, Cosines]:
    """Both distributions, in the same bins."""
    low = float(np.floor(10 * min(own.min(), other.min(), 0.9)) / 10)
    made = []
    for values in (own, other):
        counts, _ = np.histogram(np.clip(values, low, 1.0), BINS, (low, 1.0))
        quantiles = tuple(float(q) for q in np.quantile(values, QUANTILES))
        made.append(Cosines(float(values.mean()), quantiles, low, tuple(int(n) for n in counts)))
    return made[0], made[1]


def _intervals(both: tuple[Share, Share]) -> dict[str, list[float]]:
    return {f"self_retrieval_at_{k}": [part.low, part.high] for k, part in zip((1, K), both, strict=True)}
