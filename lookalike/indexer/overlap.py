"""How alike two rankings are: overlap at a depth, and rank-biased overlap.

Webber, Moffat, Zobel (2010), A similarity measure for indefinite rankings, ACM TOIS 28(4), equations 23 and 32.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.errors import InputError

Items = NDArray[np.int64]
Shares = NDArray[np.float64]


@dataclass(frozen=True)
class Matched:
    """Lists a (q, k_a) and b (q, k_b) of items ≥ 0, −1 where one has ended, and where each names what the other does.

    in_b : (q, k_a) the rank, from 1, of a's item in b, 0 where b has it not. in_a : likewise (q, k_b).
    """

    a: Items
    b: Items
    in_b: Items
    in_a: Items

    @classmethod
    def of(cls, a: Items, b: Items) -> Matched:
        in_b, in_a = np.zeros(a.shape, np.int64), np.zeros(b.shape, np.int64)
        most = int(max(a.max(initial=0), b.max(initial=0))) + 1
        keys = []
        for lists in (a, b):
            place = np.flatnonzero(lists.ravel() >= 0)
            keys.append((place, place // max(lists.shape[1], 1) * most + lists.ravel()[place]))
        _, i, j = np.intersect1d(keys[0][1], keys[1][1], assume_unique=True, return_indices=True)
        at_a, at_b = keys[0][0][i], keys[1][0][j]
        in_b.ravel()[at_a] = at_b % max(b.shape[1], 1) + 1
        in_a.ravel()[at_b] = at_a % max(a.shape[1], 1) + 1
        return cls(a, b, in_b, in_a)

    def common(self) -> Items:
        """X_d (q, l): how many items the first d of both lists share, for d = 1 … l, the longer one's width."""
        depth = max(self.a.shape[1], self.b.shape[1])
        later = np.maximum(self.in_b, np.arange(1, self.a.shape[1] + 1))  # both have it from this depth on
        query, column = np.nonzero(self.in_b)
        count = np.zeros((len(self.a), depth), np.int64)
        np.add.at(count, (query, later[query, column] - 1), 1)
        return count.cumsum(axis=1)


def lengths(lists: Items) -> Items:
    """How long each list (q, k) is."""
    return np.asarray((lists >= 0).sum(axis=1))


def overlap_at(matched: Matched, k: int) -> Shares:
    """Shared items of the first k of both (q,), over k or the longer list's length; NaN where both are empty."""
    longer = np.minimum(np.maximum(lengths(matched.a), lengths(matched.b)), k)
    x = matched.common()[:, min(k, max(matched.a.shape[1], matched.b.shape[1])) - 1]
    with np.errstate(invalid="ignore"):
        return np.asarray(x / np.where(longer > 0, longer, np.nan))


def rank_biased_overlap(matched: Matched, p: float) -> Shares:
    """Extrapolated rank-biased overlap RBO_EXT (q,), 0 to 1; NaN where both lists are empty.

    p : persistence, above 0 and below 1; the first 1 / (1 − p) ranks bear most of the weight.
    """
    if not 0 < p < 1:
        raise InputError(f"The persistence p lies above 0 and below 1, but {p} was given.")
    len_a, len_b = lengths(matched.a), lengths(matched.b)
    s, longer = np.minimum(len_a, len_b), np.maximum(len_a, len_b)  # (q,)
    x = matched.common().astype(np.float64)  # (q, l)
    d = np.arange(1, x.shape[1] + 1)
    x_at: Any = np.concatenate([np.zeros((len(x), 1)), x], axis=1)
    x_s, x_l = x_at[np.arange(len(x)), s], x_at[np.arange(len(x)), longer]
    short = np.maximum(s, 1)[:, None]
    # Beyond the shorter list its agreement so far is taken to go on.
    beyond = np.where(d > s[:, None], x_s[:, None] * (d - s[:, None]) / (short * d), 0.0)
    total = np.where(d <= longer[:, None], (x / d + beyond) * p**d, 0.0).sum(axis=1)
    last = np.maximum(longer, 1)
    found = (1 - p) / p * total + ((x_l - x_s) / last + x_s / short[:, 0]) * p**last
    return np.where(longer > 0, found, np.nan)
