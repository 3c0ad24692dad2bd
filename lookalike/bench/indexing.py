"""How fast the all-objects build is, beside faiss, scikit-learn and the matrix product it cannot do without.

All contenders of a case take turns within one run, with as many threads, on the same vectors and windows.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray

from lookalike.bench.index_vectors import Vectors, describe, field_vectors, given_vectors, random_vectors
from lookalike.bench.turns import rest
from lookalike.errors import InputError
from lookalike.indexer.neighbors import pair_builder
from lookalike.indexer.similarity import similarities
from lookalike.indexer.windows import Ranges, everyone, ranges
from lookalike.parallel import processors
from lookalike.progress import progress

CASES = ((128, 100), (512, 999), (2048, 999))  # (D, k)
FRACTIONS = (0.1, 0.5, 1.0)  # of all objects, in a window
USUAL, FULL = 24_000, 50_000  # objects
BLOCKS = (512, 2048)  # queries that faiss is given at once: what is faster
SKLEARN_SECONDS = 20.0  # after which the rest of its time is told by the share of the pairs it did
LOOKED_AT = 40  # lists compared with their definition
TILE = 2048

Seconds = float


def bench_indexing(
    *,
    n: int = USUAL,
    vectors: Path | None = None,
    cases: Sequence[tuple[int, int]] = (),
    fractions: Sequence[float] = FRACTIONS,
    rounds: int = 2,
    quiet: bool = False,
) -> dict[str, Any]:
    """Measure all cases, by default CASES, of random and of real vectors: `vectors`, else places in a Hubble picture.

    Of each contender the best of its turns counts. Real vectors have the D they have, and each k of the cases.
    """
    cases = cases or CASES
    for d, k in cases:
        if not 1 <= k < n * min(fractions):
            raise InputError(
                f"The smallest window, {n * min(fractions):,.0f} of all, is too small for k = {k} (D = {d})."
            )
    real = given_vectors(vectors) if vectors is not None else field_vectors(n, quiet=quiet)
    plan: list[tuple[str, Callable[[], Vectors], int]] = [
        ("random", lambda d=d: random_vectors(n, d), k)  # type: ignore[misc]
        for d, k in cases
    ]
    plan += [("real", lambda: real, k) for k in sorted({k for _, k in cases}) if k < len(real) * min(fractions)]
    done: list[dict[str, Any]] = []
    told: dict[str, Any] = {}
    for _ in pair_builder(random_vectors(300, 8), everyone(300), 5).blocks():
        pass  # loops are compiled once a machine, which is no part of a build
    with progress("index", len(plan) * len(fractions) * rounds * 4, "turns", quiet=quiet) as advance:
        for kind, make, k in plan:
            made = make()
            told[kind if kind == "real" else f"random {made.shape[1]}"] = describe(made).__dict__
            for fraction in fractions:
                done.append({"vectors": kind} | measure(made, k, fraction, rounds, advance))
    return {
        "threads": processors(),
        "cases": done,
        "vectors": told,
        "real_vectors": "places of the Hubble eXtreme Deep Field" if vectors is None else vectors.name,
        **{f"geomean_speedup_{kind}": _geomean(done, kind) for kind in ("random", "real")},
    }


def measure(
    vectors: Vectors, k: int, fraction: float, rounds: int, advance: Callable[[int], None] = lambda _: None
) -> dict[str, Any]:
    """Seconds of each contender, the best of its turns, and whether our lists are what they should be.

    ours : everything from the vectors in memory to sorted lists with canonical similarities.
    faiss, sklearn : each block of queries, in order of the window's column, against the contiguous candidates that are
        in the window of any, whatever that is of the others; that is how it is usually done, and less than we do.
    half_gemm : products of float32 for half of the pairs in a window.
    """
    n, d = vectors.shape
    within = everyone(n) if fraction >= 1 else ranges(np.arange(n, dtype=np.float64), fraction * n / 2)
    block = min(BLOCKS, key=lambda size: _faiss(vectors, within, k, size, most=2 * size)[0] / size)
    best = dict.fromkeys(("ours", "faiss", "sklearn", "half_gemm"), math.inf)
    share = 1.0
    for _ in range(rounds):
        rest()
        began = time.perf_counter()
        builder = pair_builder(vectors, within, k)
        lists = [(found.rows, found.neighbor_row, found.similarity) for found in builder.blocks()]
        best["ours"] = min(best["ours"], time.perf_counter() - began)
        advance(1)
        rest()
        best["faiss"] = min(best["faiss"], _faiss(vectors, within, k, block)[0])
        advance(1)
        rest()
        seconds, share = _sklearn(vectors, within, k)
        best["sklearn"] = min(best["sklearn"], seconds)
        advance(1)
        rest()
        best["half_gemm"] = min(best["half_gemm"], _half_product(vectors, within))
        advance(1)
    pairs = int((within.high - within.low - 1).sum()) // 2
    return {
        "n": n,
        "d": d,
        "k": k,
        "window_fraction": fraction,
        "seconds": best["ours"],
        "faiss_seconds": best["faiss"],
        "faiss_queries": block,
        "sklearn_seconds": best["sklearn"],
        "sklearn_measured_share": share,
        "half_gemm_seconds": best["half_gemm"],
        "speedup_vs_faiss": best["faiss"] / best["ours"],
        "speedup_vs_sklearn": best["sklearn"] / best["ours"],
        "times_half_gemm": best["ours"] / best["half_gemm"],
        "scores": builder.scores.name,
        "pruned_share": 1 - builder.tally.settled / max(1, pairs),
        "equal": _as_defined(vectors, within, k, lists),
    }


def _blocks(within: Ranges, size: int) -> Iterator[tuple[int, int, int, int]]:
    """Queries from a to b, and the candidates from c to d that are in the window of any of them."""
    n = len(within.order)
    for a in range(0, n, size):
        b = min(a + size, n)
        yield a, b, int(within.low[a]), int(within.high[b - 1])


def _faiss(vectors: Vectors, within: Ranges, k: int, size: int, most: int | None = None) -> tuple[Seconds, int]:
    """Of the first `most` queries; each finds itself too."""
    began, done = time.perf_counter(), 0
    for a, b, c, d in _blocks(within, size):
        faiss.knn(vectors[a:b], vectors[c:d], min(k + 1, d - c), faiss.METRIC_INNER_PRODUCT)
        done = b
        if most is not None and b >= most:
            break
    return time.perf_counter() - began, done


def _sklearn(vectors: Vectors, within: Ranges, k: int) -> tuple[Seconds, float]:
    """By Euclidean distance, its fastest way, which ranks normalized vectors alike; and what share was done."""
    from sklearn.neighbors import NearestNeighbors

    total = sum((b - a) * (d - c) for a, b, c, d in _blocks(within, TILE))
    began, done = time.perf_counter(), 0
    for a, b, c, d in _blocks(within, TILE):
        tree = NearestNeighbors(n_neighbors=min(k + 1, d - c), algorithm="brute").fit(vectors[c:d])
        tree.kneighbors(vectors[a:b])
        done += (b - a) * (d - c)
        if time.perf_counter() - began > SKLEARN_SECONDS:
            break
    return (time.perf_counter() - began) * total / done, done / total


def _half_product(vectors: Vectors, within: Ranges) -> Seconds:
    n = len(vectors)
    size = min(TILE, n // 2)
    x, y = vectors[:size].copy(), vectors[-size:].copy()
    out = np.empty((size, size), np.float32)
    rest = int((within.high - within.low - 1).sum()) // 2
    began = time.perf_counter()
    while rest > 0:
        m = min(size, -(-rest // size))
        np.matmul(x[:m], y.T, out=out[:m])
        rest -= m * size
    return time.perf_counter() - began


def _as_defined(vectors: Vectors, within: Ranges, k: int, lists: Sequence[tuple[NDArray[Any], ...]]) -> bool:
    """Whether some lists are, to the last bit, what all canonical similarities of their windows say."""
    n = len(within.order)
    rows, found, similarity = (np.concatenate(arrays) for arrays in zip(*lists, strict=True))
    place_of = np.argsort(rows)
    chosen = np.unique(np.append(np.random.default_rng(n).integers(0, n, LOOKED_AT), [0, n - 1]))
    for place in chosen:
        own = within.order[place]
        window = within.order[within.low[place] : within.high[place]]
        candidates = window[window != own]
        value = similarities(vectors, candidates, vectors[own])
        best = np.lexsort((candidates, -value))[:k]
        at = place_of[own]
        if (found[at, : len(best)] != candidates[best]).any() or (similarity[at, : len(best)] != value[best]).any():
            return False
    return True


def _geomean(cases: list[dict[str, Any]], kind: str) -> float | None:
    speedups = [math.log(case["speedup_vs_faiss"]) for case in cases if case["vectors"] == kind]
    return math.exp(sum(speedups) / len(speedups)) if speedups else None
