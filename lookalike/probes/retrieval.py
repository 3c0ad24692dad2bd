"""Does a similarity find an object again after its nuisances changed? Self-retrieval of augmented copies, exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.probes.directions import Directions, directions, ranges
from lookalike.proportions import Share, wilson

TIE = 1e-12  # dot products of unit vectors that are equal in truth differ by less in float64


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
    A tie with another object counts as a miss, and so does an object that no other competes with.
    """
    ranked = compared(stored, copies, left_out)
    found: NDArray[np.bool_] = (ranked.ahead_of_original == 0) & (ranked.rivals > 0)
    return found


@dataclass(frozen=True)
class Compared:
    """Copies against the originals they were made from; (N,) each but `copy_lists`.

    cosine            : of each copy and its own original.
    cosine_other      : of each copy and another object's original.
    ahead_of_original : asked with the copy, how many originals are as similar to it as its own, or more so.
    ahead_of_copy     : asked with the original, how many copies are as similar to it as its own, or more so.
    rivals            : how many objects may compete with it; where none may, being ahead says nothing.
    copy_lists        : (N, k) rows of the originals most similar to the copy, its own left out, padded with −1.
    """

    cosine: NDArray[np.float64]
    cosine_other: NDArray[np.float64]
    ahead_of_original: NDArray[np.int64]
    ahead_of_copy: NDArray[np.int64]
    rivals: NDArray[np.int64]
    copy_lists: NDArray[np.int64]

    def at(self, places: NDArray[np.int64]) -> Compared:
        """The same of some of the copies."""
        return Compared(**{field.name: getattr(self, field.name)[places] for field in fields(self)})


def compared(
    stored: NDArray[Any] | Directions,
    copies: NDArray[Any] | Directions,
    left_out: Sequence[NDArray[np.integer[Any]]] | None = None,
    *,
    k: int = 0,
) -> Compared:
    """Rank every copy among the originals, and every original among the copies, by exact cosine in float64.

    stored, copies, left_out as for `found_again`. k : length of the lists kept. Two similarities that differ by less
    than rounding can make of equal ones (TIE) are tied, and a tie counts against the object. Besides the vectors as
    given, memory holds a few blocks of them and of similarities.
    """
    n = len(stored)
    base, queries = directions(stored), directions(copies)
    own = np.concatenate(
        [np.einsum("nd,nd->n", queries.unit(start, end), base.unit(start, end)) for start, end in base.blocks()]
    )  # (N,)
    barred = Pairs.of(left_out, n)
    turned = barred.turned()
    ahead_of_original, ahead_of_copy = np.zeros(n, np.int64), np.zeros(n, np.int64)
    other = np.empty(n)
    lists = np.full((n, k), -1, np.int64)
    for start, end in ranges(n, max(n, queries.vectors.shape[1] // 4)):
        similarity = base.times(queries.unit(start, end))  # (B, N)
        rows = np.arange(start, end)
        other[rows] = similarity[rows - start, (rows + n // 2) % n]
        similarity[rows - start, rows] = -np.inf
        # A column's rivals are other copies: those that its object bars, not those that the copies' own objects bar.
        level = similarity >= own - TIE  # (B, N)
        level[turned.within(start, end)] = False
        ahead_of_copy += level.sum(axis=0)
        similarity[barred.within(start, end)] = -np.inf
        ahead_of_original[rows] = (similarity >= own[rows, None] - TIE).sum(axis=1)
        if k:
            lists[rows] = best(similarity, k)
    return Compared(own, other, ahead_of_original, ahead_of_copy, n - 1 - barred.counts(), lists)


def nearest(
    stored: NDArray[Any] | Directions, left_out: Sequence[NDArray[np.integer[Any]]] | None = None, *, k: int
) -> NDArray[np.int64]:
    """Rows (N, k) of the objects most similar to each, itself and `left_out` aside, padded with −1."""
    base = directions(stored)
    n = len(base)
    barred = Pairs.of(left_out, n)
    lists = np.full((n, k), -1, np.int64)
    for start, end in ranges(n, max(n, base.vectors.shape[1] // 4)):
        similarity = base.times(base.unit(start, end))  # (B, N)
        similarity[np.arange(end - start), np.arange(start, end)] = -np.inf
        similarity[barred.within(start, end)] = -np.inf
        lists[start:end] = best(similarity, k)
    return lists


def overlap(first: NDArray[np.int64], second: NDArray[np.int64]) -> NDArray[np.float64]:
    """The share (N,) of each list of `first` (N, k) that is also in that of `second`; NaN for an empty list."""
    common = ((first[:, :, None] == second[:, None, :]) & (first >= 0)[:, :, None]).sum(axis=(1, 2))  # (N,)
    length = (first >= 0).sum(axis=1)
    shares: NDArray[np.float64] = np.where(length > 0, common / np.maximum(length, 1), np.nan)
    return shares


def best(similarity: NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Columns (B, k) of the largest values of (B, N), best first, ties by column; −1 in place of −∞."""
    rows, n = similarity.shape
    lists = np.full((rows, k), -1, np.int64)
    k = min(k, n)
    floor = np.partition(similarity, n - k, axis=1)[:, n - k]  # (B,) the k-th largest
    for row in range(rows):
        columns = np.flatnonzero((similarity[row] >= floor[row]) & (similarity[row] > -np.inf))  # increasing
        kept = columns[np.argsort(-similarity[row, columns], kind="stable")[:k]]
        lists[row, : len(kept)] = kept
    return lists


@dataclass(frozen=True)
class Pairs:
    """Which other rows each row bars, one after the other: those of row i are others[starts[i]:starts[i + 1]]."""

    starts: NDArray[np.int64]
    others: NDArray[np.int64]

    @classmethod
    def of(cls, left_out: Sequence[NDArray[np.integer[Any]]] | None, n: int) -> Pairs:
        """From one array of rows per object; None bars none."""
        if left_out is None:
            return cls(np.zeros(n + 1, np.int64), np.empty(0, np.int64))
        lengths = [len(rows) for rows in left_out]
        others = np.concatenate([np.asarray(rows, np.int64) for rows in left_out]) if n else np.empty(0, np.int64)
        return cls(np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), others)

    def counts(self) -> NDArray[np.int64]:
        """How many each row bars, (N,)."""
        return np.diff(self.starts)

    def turned(self) -> Pairs:
        """By which rows each row is barred."""
        n = len(self.starts) - 1
        rows = np.repeat(np.arange(n), self.counts())
        order = np.argsort(self.others, kind="stable")
        starts = np.concatenate([[0], np.cumsum(np.bincount(self.others, minlength=n))]).astype(np.int64)
        return Pairs(starts, rows[order])

    def within(self, start: int, end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs of rows start to end as indices into that block of a matrix."""
        rows = np.repeat(np.arange(end - start), self.counts()[start:end])
        return rows, self.others[self.starts[start] : self.starts[end]]
