"""Exact live search: one query against every candidate, ranked canonically; needs neither faiss nor torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import normalize
from lookalike.errors import InputError
from lookalike.indexer.similarity import Similarities, float32_error, similarities
from lookalike.parallel import in_parts, processors

BLOCK_BYTES = 2**22  # of vectors scored between two looks at which of them may be among the best
AS_STORED = {"float32": 1e-6, "float16": 1e-2}  # how far a stored vector's length may be from 1

Rows = NDArray[np.int64]


def prepared(vector: NDArray[Any], dimensions: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """A query vector (D,) as an embedding would be stored: normalized in float64, rounded to the stored type.

    One that is already so is kept to the last bit, so that a stored vector finds what its object finds.
    """
    given = np.asarray(vector)
    if given.shape != (dimensions,):
        raise InputError(f"A vector here has {dimensions} numbers, shape ({dimensions},), but {given.shape} was given.")
    if given.dtype.kind not in "fiu":
        raise InputError(f"A vector holds numbers, but {given.dtype} was given.")
    wide = given.astype(np.float64)
    if not np.isfinite(wide).all():
        raise InputError("A vector has finite numbers only, but NaN or infinity was given.", code="not_finite")
    largest = np.abs(wide).max()
    if largest == 0:
        raise InputError("A vector of zeros has no direction to search in.", code="zero_vector")
    with np.errstate(over="ignore"):
        stored: NDArray[Any] = wide.astype(dtype)
    if (stored == wide).all() and abs(math.sqrt(wide @ wide) - 1) <= AS_STORED[dtype.name]:
        return stored
    # Scaled by its largest number first: squares of 1e200 and 1e-200 leave float64.
    return normalize((wide / largest)[None])[0].astype(dtype)  # type: ignore[no-any-return]


def ranking(
    vectors: NDArray[Any], candidates: Rows | None, query: NDArray[Any], wanted: int, max_length: float
) -> tuple[Rows, Similarities]:
    """The `wanted` best candidates by (−similarity, row), and their canonical similarities.

    vectors : (N, D) stored vectors, mapped. candidates : rows (n,) to choose from, None for all. query : (D,).
    max_length : upper bound of the stored vectors' lengths.
    """
    n = len(vectors) if candidates is None else len(candidates)
    if wanted < 1 or not n:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    rows = np.arange(n) if candidates is None else candidates
    if wanted < n:
        rows = _in_reach(vectors, candidates, query, wanted, max_length)
    similarity = similarities(vectors, rows, query)
    best = np.lexsort((rows, -similarity))[:wanted]
    return rows[best], similarity[best]


def _in_reach(
    vectors: NDArray[Any], candidates: Rows | None, query: NDArray[Any], wanted: int, max_length: float
) -> Rows:
    """Rows among which the `wanted` best of more candidates are, by float32 scores and their proven error."""
    n = len(vectors) if candidates is None else len(candidates)
    wide = query.astype(np.float64)
    error = float32_error(len(query), max_length, math.sqrt(wide @ wide) * (1 + 1e-9))
    step = max(1, BLOCK_BYTES // (vectors.shape[1] * vectors.itemsize))
    narrow = query.astype(np.float32)
    ended: list[_Reach] = []

    def scan(part: slice) -> None:
        reach = _Reach(wanted, error)
        room = np.empty(min(step, part.stop - part.start), np.float32)
        for start in range(part.start, part.stop, step):
            stop = min(start + step, part.stop)
            score = room[: stop - start]
            if candidates is None:
                _score(vectors[start:stop], None, narrow, score)
                reach.add(score, start, None)
            else:
                _score(vectors, candidates[start:stop], narrow, score)
                reach.add(score, 0, candidates[start:stop])
        reach.cut()
        ended.append(reach)

    in_parts(scan, n, processors())
    whole = _Reach(wanted, error)
    for reach in ended:
        whole.add(reach.score, 0, reach.rows)
    whole.cut()
    return whole.rows


class _Reach:
    """The rows seen so far that may be among the `wanted` best, with their scores, off by at most `error`."""

    def __init__(self, wanted: int, error: float) -> None:
        self.wanted, self.error = wanted, error
        self.rows, self.score = np.empty(0, np.int64), np.empty(0, np.float32)
        self._floor = -math.inf
        self._new: list[tuple[Rows, Similarities]] = []
        self._held, self._full = 0, 2 * wanted

    def add(self, score: Similarities, first: int, rows: Rows | None) -> None:
        """See more scores (n,): of `rows` (n,), or of the rows from `first` on."""
        near = np.flatnonzero(score >= self._floor)
        if len(near):
            self._new.append((near + first if rows is None else rows[near], score[near]))
            self._held += len(near)
        if self._held > self._full:
            self.cut()
            self._full = 2 * self._held + self.wanted  # each is then moved a few times at most

    def cut(self) -> None:
        """Drop what scores 2 errors less than the last one wanted: it cannot be among the wanted."""
        self.rows = np.concatenate([self.rows, *(rows for rows, _ in self._new)])
        self.score = np.concatenate([self.score, *(score for _, score in self._new)])
        self._new = []
        last = len(self.score) - self.wanted
        if last > 0:
            # Rounded down to float32, as the scores are: a floor between two of them is the lower one.
            floor = np.float64(np.partition(self.score, last)[last]) - 2 * self.error
            self._floor = float(np.nextafter(np.float32(floor), np.float32(-np.inf)))
            near = self.score >= self._floor
            self.rows, self.score = self.rows[near], self.score[near]
        self._held = len(self.rows)


def _score(vectors: Any, rows: Rows | None, query: NDArray[np.float32], out: Similarities) -> None:
    """Float32 scores (n,) of the query (D,) with the vectors (n, D), or with those at `rows` (n,)."""
    from lookalike.indexer.live_native import half_scores, scores

    if rows is not None and not isinstance(vectors, np.ndarray):  # of several files, each mapped by itself
        vectors, rows = vectors[rows], None
    plain = np.asarray(vectors)
    if plain.dtype == np.float16:
        half_scores(plain.view(np.uint16), rows, query, out)
    else:
        scores(plain, rows, query, out)
