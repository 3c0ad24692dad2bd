"""Recomputing an index's lists by the definition, for the audit: which rows, what their lists are, how they compare.

It imports nothing of the build, nor of the index folder: vectors, window values and lists come in as arrays. Every
product of a chosen row with every object is taken in float64, every window is the predicate itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.progress import progress

SHORT = 25  # rows with fewer neighbors than k, and as many without a window value
EDGE = 100  # rows with a candidate on the window's edge, or one step beside it
BLOCK_BYTES = 2**26
VALUES = 2**20  # looked at together
SLACK = 1e-6  # far more than float64 rounding and the canonical rounding together, for vectors of length 1
STEPS = range(-3, 4)  # distinct values looked at about where x ± w falls, which is rounded

Values = NDArray[np.float64]
Rows = NDArray[np.int64]
List = tuple[list[int], list[np.float32]]


@dataclass(frozen=True)
class Compared:
    """How stored lists compare with recomputed ones.

    recall : share of the expected neighbors that are stored. equal : share of similarities with equal bits.
    largest_difference : between a stored similarity and the recomputed one of its place. ties : rows whose k-th
    similarity is also that of a candidate left out for its row. wrong : the first row that differs, None for none.
    """

    recall: float
    equal: float
    largest_difference: float
    ties: int
    wrong: int | None


def window_values(column: NDArray[Any], *, log: bool) -> Values:
    """A catalog column (N,) on the window's scale; NaN where it, or its logarithm, is undefined."""
    x = column.astype(np.float64)
    if log:
        with np.errstate(divide="ignore", invalid="ignore"):
            x = np.log(x)
    return np.where(np.isfinite(x), x, np.nan)


def choose(
    n: int, sample: int, seed: int, x: Values | None, half_width: float, short: Rows, *, quiet: bool = True
) -> tuple[Rows, dict[str, int]]:
    """The rows to recompute, increasing, and how many were taken for which reason (one row may be for several).

    x : (N,) window values, None without a window. short : rows whose lists are shorter than k. Besides `sample`
    random rows, the first and the last, these are rows a mistake would show in first: with a candidate on the
    window's edge, first and last in the window's order, with short lists, without a value.
    """
    rng = np.random.default_rng(seed)
    reasons = {"random": rng.choice(n, size=min(n, sample), replace=False), "ends": np.array([0, n - 1])}
    none = np.empty(0, np.int64)
    lost = none if x is None else np.flatnonzero(np.isnan(x))
    reasons["short"] = rng.permutation(np.setdiff1d(short, lost))[:SHORT]
    reasons["without_value"] = rng.permutation(lost)[:SHORT]
    reasons["edge"] = none if x is None else rng.permutation(on_edge(x, half_width, quiet=quiet))[:EDGE]
    if x is not None and len(lost) < n:
        reasons["ends"] = np.append(reasons["ends"], [np.nanargmin(x), np.nanargmax(x)])
    counts = {name: len(np.unique(rows)) for name, rows in reasons.items()}
    return np.unique(np.concatenate(list(reasons.values()))).astype(np.int64), counts


def on_edge(x: Values, half_width: float, *, quiet: bool = True) -> Rows:
    """Rows with an object whose |x_j − x_i| is the half-width, or so close that one step of x_j could make it so."""
    distinct = np.unique(x[np.isfinite(x)])
    found = np.zeros(len(distinct), bool)
    if not len(distinct):
        return np.empty(0, np.int64)
    with np.errstate(over="ignore"), progress("edges", len(distinct), "values", quiet=quiet) as advance:
        for start in range(0, len(distinct), VALUES):
            part = distinct[start : start + VALUES]  # (v,)
            for sign in (-1, 1):
                place = np.searchsorted(distinct, part + sign * half_width)
                for step in STEPS:
                    other = distinct[np.clip(place + step, 0, len(distinct) - 1)]
                    tolerance = np.spacing(np.maximum(np.abs(part), np.abs(other)))
                    found[start : start + VALUES] |= np.abs(np.abs(other - part) - half_width) <= tolerance
            advance(len(part))
    place = np.minimum(np.searchsorted(distinct, x), len(distinct) - 1)
    return np.flatnonzero(found[place] & np.isfinite(x))


def recompute(
    vectors: NDArray[Any], chosen: Rows, k: int, x: Values | None, half_width: float, quiet: bool
) -> tuple[list[List], int]:
    """Each chosen row's list, and how many have a tie at the k-th place that only the row decides.

    float64 products with all objects find what may belong to a list; canonical similarities rank it.
    """
    queries = vectors[chosen].astype(np.float64)  # (q, D)
    kept = [(np.empty(0), np.empty(0, np.int64)) for _ in chosen]
    with progress("recompute", len(vectors), "objects", quiet=quiet) as advance:
        step = max(1, BLOCK_BYTES // (8 * (vectors.shape[1] + len(chosen))))
        for start in range(0, len(vectors), step):
            block = vectors[start : start + step].astype(np.float64)  # (n, D)
            products = queries @ block.T  # (q, n)
            rows = np.arange(start, start + len(block))
            for q, own in enumerate(chosen):
                inside = rows != own
                if x is not None:
                    inside &= np.abs(x[rows] - x[own]) <= half_width
                score = np.append(kept[q][0], products[q, inside])
                place = np.append(kept[q][1], rows[inside])
                if len(score) > k:
                    near = score >= np.partition(score, -k)[-k] - SLACK
                    score, place = score[near], place[near]
                kept[q] = score, place
            advance(len(block))
    lists, ties = [], 0
    with progress("rank", len(chosen), "lists", quiet=quiet) as advance:
        for own, (score, place) in zip(chosen, kept, strict=True):
            ranked = _ranked(vectors, int(own), place, score)
            ties += len(ranked) > k and ranked[k][0] == ranked[k - 1][0]
            lists.append(([row for _, row in ranked[:k]], [value for value, _ in ranked[:k]]))
            advance(1)
    return lists, ties


def _ranked(vectors: NDArray[Any], own: int, candidates: Rows, scores: Values) -> list[tuple[np.float32, int]]:
    """Candidates (m,) by (−similarity, row); scores : (m,) their float64 products.

    A product whose error cannot reach another float32 is rounded as it is, any other is an exact sum.
    """
    query = vectors[own].astype(np.float64)
    error = (len(query) + 2) * 2.0**-52  # of a sum in any order, twice over, for vectors of length 1
    values, sure = scores.astype(np.float32), (scores - error).astype(np.float32) == (scores + error).astype(np.float32)
    values += np.float32(0)  # −0 → 0
    for place in np.flatnonzero(~sure):
        values[place] = rounded((vectors[candidates[place]].astype(np.float64) * query).tolist())
    order = np.lexsort((candidates, -values))
    return [(values[place], int(candidates[place])) for place in order]


def rounded(terms: list[float]) -> np.float32:
    """The sum of the terms as the nearest float32, ties to even."""
    total = math.fsum(terms)
    value = np.float32(total)
    sides = [value, np.nextafter(value, np.float32(-np.inf)), np.nextafter(value, np.float32(np.inf))]
    distance = [abs(Fraction(float(side)) - Fraction(total)) for side in sides]
    if distance[0] in distance[1:]:  # half-way as far as float64 tells: compare with the exact sum
        true = sum(map(Fraction, terms), Fraction(0))
        even = [int(side.view(np.int32)) % 2 for side in sides]
        value = min(zip(sides, even, strict=True), key=lambda s: (abs(Fraction(float(s[0])) - true), s[1]))[0]
    return np.float32(value + np.float32(0))


def compare(lists: Mapping[int, List], ties: int, rows: Any, similarity: Any) -> Compared:
    """Compare recomputed lists, by row, with the stored arrays rows and similarity (N, k)."""
    wanted = hits = equal = 0
    largest, wrong = 0.0, None
    for own, (places, values) in lists.items():
        stored, numbers = rows[own].tolist(), np.asarray(similarity[own], np.float32)
        truth = np.full(len(numbers), np.nan, np.float32)
        truth[: len(values)] = values
        wanted += len(places)
        hits += len(set(places) & set(stored))
        equal += int((truth.view(np.int32) == numbers.view(np.int32))[: len(values)].sum())
        there = ~np.isnan(truth) & ~np.isnan(numbers)
        apart = np.abs(truth[there].astype(np.float64) - numbers[there])
        largest = max(largest, float(apart.max(initial=0)))
        right = stored == places + [-1] * (len(stored) - len(places)) and bool(
            (truth[: len(values)].tobytes() == numbers[: len(values)].tobytes())
            and np.isnan(numbers[len(values) :]).all()
        )
        if not right and wrong is None:
            wrong = own
    return Compared(hits / wanted if wanted else 1.0, equal / wanted if wanted else 1.0, largest, ties, wrong)
