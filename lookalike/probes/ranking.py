"""What a ranking is worth: every score of the objects a query finds, from labels in the order they are found.

Symbols: Q queries, N candidates of the whole set, k neighbors, B queries of a block. A query ranks all objects but
itself by falling cosine similarity, rounded once to float32, ties by row: the order in which an index lists them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

CELLS = 1 << 22  # similarities held at once
BASE = 4096  # objects whose vectors are widened to float64 at once
HEARD = 0.5  # Σ w over Σ |w|, below which signed weights cancel: more than a quarter of their size is negative


def unit_vectors(vectors: NDArray[Any]) -> NDArray[np.float32]:
    """Vectors (N, D) scaled to length 1 in float64, as float32; a zero vector stays zero, alike to none."""
    made = np.empty(vectors.shape, np.float32)
    for start in range(0, len(vectors), BASE):
        wide = np.asarray(vectors[start : start + BASE], np.float64)  # (n, D)
        length = np.linalg.norm(wide, axis=1, keepdims=True)
        made[start : start + BASE] = wide / np.where(length > 0, length, 1.0)
    return made


@dataclass(frozen=True)
class Ranked:
    """A block of rankings. queries : (B,) rows. order : (B, N) rows, nearest first; only the first `count` (B,) of
    each are candidates, the rest are the query itself and what it may not find."""

    queries: Rows
    order: Rows
    count: Rows

    def candidate(self) -> NDArray[np.bool_]:
        """Which entries (B, N) of the order are candidates."""
        mask: NDArray[np.bool_] = np.arange(self.order.shape[1]) < self.count[:, None]
        return mask


def rankings(unit: NDArray[np.float32], queries: Rows, left_out: Sequence[Rows] | None = None) -> Iterator[Ranked]:
    """Rank all N objects for each query, a block of queries at a time.

    unit     : (N, D) float32 unit vectors.
    queries  : (Q,) rows that ask.
    left_out : per row (N of them) the rows it may not find, besides itself.

    Memory: CELLS similarities and as many rows, whatever N is; all of one query's at least.
    """
    n = len(unit)
    step = max(1, CELLS // max(n, 1))
    for start in range(0, len(queries), step):
        block = queries[start : start + step]
        similarity = _similarity(unit, block)  # (B, N)
        count = np.full(len(block), n - 1)
        similarity[np.arange(len(block)), block] = -np.inf
        if left_out is not None:
            for place, row in enumerate(block.tolist()):
                others = left_out[row][left_out[row] != row]
                similarity[place, others] = -np.inf
                count[place] -= len(others)
        yield Ranked(block, np.argsort(-similarity, axis=1, kind="stable"), count)


def _similarity(unit: NDArray[np.float32], rows: Rows) -> NDArray[np.float32]:
    """Cosines (B, N): products summed in float64, rounded once to float32, without a negative zero."""
    asked = unit[rows].astype(np.float64)  # (B, D)
    similarity = np.empty((len(rows), len(unit)), np.float32)
    for start in range(0, len(unit), BASE):
        similarity[:, start : start + BASE] = asked @ unit[start : start + BASE].astype(np.float64).T
    return similarity + np.float32(0)  # −0 sorts as 0


def shares(above: Floats, below: Floats, size: Floats, otherwise: Floats | float) -> Floats:
    """Quotients of sums of signed weights, Σ w·x / Σ w; `otherwise` where the weights cancel.

    above, below, size : Σ w·x, Σ w and Σ |w|, of shapes that fit. Weights cancel where Σ w is 0 or less, or less than
    HEARD·Σ |w|: the quotient of so small a remainder says nothing.
    """
    heard = (below > 0) & (below >= HEARD * size)
    return np.where(heard, above / np.where(heard, below, 1.0), otherwise)


def precision_at_k(
    relevant: NDArray[np.bool_],
    count: Rows,
    k: int,
    weights: Floats | None = None,
    otherwise: Floats | float = np.nan,
) -> Floats:
    """The share of relevant objects among the first k (B,), or among all candidates where there are fewer.

    relevant : (B, N) in rank order, False beyond the candidates. weights : (B, N) of these objects, default 1 each; the
    share is Σ w·rel / Σ w, and `otherwise` (B,) where weights cancel, see `shares`. NaN for a query without candidates.
    """
    if weights is None:
        length = np.minimum(k, count)
        found: Floats = np.where(length > 0, relevant[:, :k].sum(axis=1) / np.maximum(length, 1), np.nan)
        return found
    first = np.where(np.arange(relevant.shape[1])[:k] < count[:, None], weights[:, :k], 0.0)  # (B, k)
    share = shares((first * relevant[:, :k]).sum(1), first.sum(1), np.abs(first).sum(1), otherwise)
    return np.where(count > 0, share, np.nan)


def average_precision(
    relevant: NDArray[np.bool_],
    weights: Floats | None = None,
    otherwise: Floats | float = np.nan,
) -> Floats:
    """The mean, over the relevant objects, of the precision at the rank where each is found (B,).

    relevant : (B, N) in rank order. NaN for a query without a relevant object. Its mean over the queries is the mean
    average precision (Manning, Raghavan and Schütze 2008, section 8.4).
    weights : (B, N) of these objects, 0 beyond the candidates; default 1 each. The mean is then Σ w·rel·P / Σ w·rel,
    with P = Σ w·rel / Σ w over the ranks so far; `otherwise` (B,) stands for what cancels, see `shares`.
    """
    if weights is None:
        hits = relevant.cumsum(axis=1)  # (B, N)
        precision = np.where(relevant, hits / np.arange(1, relevant.shape[1] + 1), 0.0)
        total = relevant.sum(axis=1)
        average: Floats = np.where(total > 0, precision.sum(axis=1) / np.maximum(total, 1), np.nan)
        return average
    gained, size = weights * relevant, np.abs(weights)  # (B, N)
    other = np.reshape(otherwise, (-1, 1))
    so_far = shares(gained.cumsum(1), weights.cumsum(1), size.cumsum(1), other)
    mean = shares((gained * so_far).sum(1), gained.sum(1), (size * relevant).sum(1), otherwise)
    return np.where(relevant.any(axis=1), mean, np.nan)


def ndcg_at_k(relevant: NDArray[np.bool_], k: int, weights: Floats | None = None) -> Floats:
    """Normalized discounted cumulative gain of the first k (B,): Σ rel / log2(rank + 1) over the largest it can be.

    relevant : (B, N) in rank order, of gain 1, or `weights` (B, N). NaN for a query without a relevant object of gain
    above 0 (Järvelin, Kekäläinen 2002).
    """
    k = min(k, relevant.shape[1])
    discount = 1 / np.log2(np.arange(2, k + 2))  # (k,)
    if weights is None:
        best = np.concatenate([[0.0], discount.cumsum()])[np.minimum(relevant.sum(axis=1), k)]  # (B,)
        gained = relevant[:, :k] @ discount
    else:
        gains = weights * relevant  # (B, N)
        largest = -np.partition(-gains, k - 1, axis=1)[:, :k]
        best = np.sort(largest, axis=1)[:, ::-1].clip(min=0) @ discount
        gained = gains[:, :k] @ discount
    ndcg: Floats = np.where(best > 0, np.minimum(gained / np.where(best > 0, best, 1.0), 1.0), np.nan)  # of rounding
    return ndcg


def neighbor_votes(
    labels: NDArray[np.int64], count: Rows, ks: Sequence[int], classes: int, weights: Floats | None = None
) -> NDArray[np.int64]:
    """The class most of the first k neighbors have, for each of several k (B, len(ks)); a tie goes to the lower class.

    labels : (B, n) classes 0 to `classes` − 1 in rank order, n at least the largest k. Beyond a query's candidates
    none votes. weights : (B, n) of the votes, of either sign, default 1 each: the class of the largest sum.
    """
    votes = np.zeros((len(labels), classes))
    winners = np.empty((len(labels), len(ks)), np.int64)
    done = 0
    for place in np.argsort(ks).tolist():
        for rank in range(done, ks[place]):
            voting = np.flatnonzero(rank < count)
            votes[voting, labels[voting, rank]] += 1 if weights is None else weights[voting, rank]
        done = max(done, ks[place])
        winners[:, place] = votes.argmax(axis=1)
    return winners


def neighbor_means(
    values: Floats, count: Rows, ks: Sequence[int], weights: Floats | None = None, otherwise: float = np.nan
) -> Floats:
    """The mean of the first k neighbors' values, for each of several k (B, len(ks)).

    values : (B, n) in rank order, n at least the largest k. Of fewer candidates, the mean of those; NaN of none.
    weights : (B, n) of these, default 1 each: Σ w·v / Σ w, and `otherwise` where weights cancel, see `shares`.
    """
    most, ends = max(ks), np.asarray(ks) - 1
    inside = np.arange(most) < count[:, None]  # (B, n)
    weight = np.where(inside, 1.0 if weights is None else weights[:, :most], 0.0)
    sums = np.where(inside, weight * values[:, :most], 0.0).cumsum(axis=1)[:, ends]  # (B, len(ks))
    means = shares(sums, weight.cumsum(axis=1)[:, ends], np.abs(weight).cumsum(axis=1)[:, ends], otherwise)
    return np.where(count[:, None] > 0, means, np.nan)


def weighted_mean(values: Floats, weights: Floats) -> float:
    """Σ w·v / Σ w of (Q,)."""
    return float(weights @ values / weights.sum())


def r2(truth: Floats, predicted: Floats, weights: Floats) -> float:
    """The coefficient of determination, 1 − Σ w·(y − ŷ)² / Σ w·(y − ȳ)², with ȳ the weighted mean of (Q,).

    NaN where all values are the same.
    """
    spread = weights @ np.square(truth - weighted_mean(truth, weights))
    return float(1 - weights @ np.square(truth - predicted) / spread) if spread > 0 else float("nan")
