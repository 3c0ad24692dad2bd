"""Exact live search: one query against every candidate, ranked canonically; needs neither faiss nor torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import normalize
from lookalike.errors import InputError
from lookalike.indexer.reach import Rows, in_reach
from lookalike.indexer.rounded import Rounded
from lookalike.indexer.similarity import Similarities, float32_error, similarities

BLOCK_BYTES = 2**22  # of vectors scored between two looks at which of them may be among the best
AS_STORED = {"float32": 1e-6, "float16": 1e-2}  # how far a stored vector's length may be from 1
WORTH = 8  # candidates for each one wanted, from which on rounded vectors are read first


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
    vectors: NDArray[Any],
    candidates: Rows | None,
    query: NDArray[Any],
    wanted: int,
    max_length: float,
    rounded: Rounded | None = None,
) -> tuple[Rows, Similarities]:
    """The `wanted` best candidates by (−similarity, row), and their canonical similarities.

    vectors : (N, D) stored vectors, mapped. candidates : rows (n,) to choose from, None for all. query : (D,).
    max_length : upper bound of the stored vectors' lengths. rounded : the same vectors, rounded, which are then read
    first, and of the stored ones only those that can be among the best; the answer is the same.
    """
    n = len(vectors) if candidates is None else len(candidates)
    if wanted < 1 or not n:
        return np.empty(0, np.int64), np.empty(0, np.float32)
    if rounded is not None and WORTH * wanted < n:
        from lookalike.indexer.rounded_search import rounded_in_reach

        candidates = rounded_in_reach(rounded, candidates, query, wanted, max_length)
        n = len(candidates)
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
    wide = query.astype(np.float64)
    width = 2 * float32_error(len(query), max_length, math.sqrt(wide @ wide) * (1 + 1e-9))
    narrow = query.astype(np.float32)

    def bounds(rows: slice | Rows) -> tuple[Similarities, float]:
        return _scores(vectors, rows, narrow), width

    n = len(vectors) if candidates is None else len(candidates)
    step = max(1, BLOCK_BYTES // (vectors.shape[1] * vectors.itemsize))
    return in_reach(bounds, n, candidates, wanted, step)


def _scores(vectors: Any, rows: slice | Rows, query: NDArray[np.float32]) -> Similarities:
    """Float32 scores (n,) of the query (D,) with some of the vectors (N, D)."""
    from lookalike.indexer.live_native import half_scores, scores

    if isinstance(rows, slice) or not isinstance(vectors, np.ndarray):  # of several files, each mapped by itself
        vectors, which = vectors[rows], None
    else:
        which = rows
    plain = np.asarray(vectors)
    out = np.empty(len(plain) if which is None else len(which), np.float32)
    if plain.dtype == np.float16:
        half_scores(plain.view(np.uint16), which, query, out)
    else:
        scores(plain, which, query, out)
    return out
