"""Exact live search: one query against every candidate, ranked canonically; needs neither faiss nor torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lookalike.embeddings import normalize
from lookalike.errors import InputError
from lookalike.indexer.similarity import Similarities, float32_error, similarities

BLOCK_BYTES = 2**26  # of vectors read at once
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
    rows = np.arange(len(vectors)) if candidates is None else candidates
    if wanted < len(rows):
        score = _scores(vectors, candidates, query)  # (n,) float32
        wide = query.astype(np.float64)
        error = float32_error(len(query), max_length, math.sqrt(wide @ wide) * (1 + 1e-9))
        last = float(np.partition(score, len(rows) - wanted)[len(rows) - wanted])
        # What scores 2 errors less than the last one wanted cannot be among the wanted.
        rows = rows[score >= np.float64(last - 2 * error)]
    similarity = similarities(vectors, rows, query)
    best = np.lexsort((rows, -similarity))[:wanted]
    return rows[best], similarity[best]


def _scores(vectors: NDArray[Any], candidates: Rows | None, query: NDArray[Any]) -> Similarities:
    """Float32 dot products of the query with the candidates, block by block."""
    n = len(vectors) if candidates is None else len(candidates)
    step = max(1, BLOCK_BYTES // (4 * vectors.shape[1]))
    narrow = query.astype(np.float32)
    score = np.empty(n, np.float32)
    for start in range(0, n, step):
        which = slice(start, start + step) if candidates is None else candidates[start : start + step]
        score[start : start + step] = vectors[which].astype(np.float32, copy=False) @ narrow
    return score
